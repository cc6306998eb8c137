//! Why a module could not finish.

use crate::bindings::lockgate::extract::{sink::SinkError, source::SourceError};

/// What a module's function returns.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a module could not finish. Its text is shown to the site.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The manifest declares no input, output or codelist of this name.
    Undeclared(String),
    /// The host stopped the run.
    Interrupted(String),
    /// The host did not take the rows.
    Refused(String),
    /// A column of a batch is not what the module expects: its code and its manifest do not agree.
    Column {
        /// The column's position.
        column: usize,
        /// What the module asked for.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// What the module itself found wrong.
    Module(String),
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Undeclared(name) => write!(f, "the manifest declares no `{name}`"),
            Self::Interrupted(why) => write!(f, "the host stopped the run: {why}"),
            Self::Refused(why) => write!(f, "the host refused the rows: {why}"),
            Self::Column { column, wanted, found } => {
                write!(f, "column {column} of the batch: the module wants {wanted}, found {found}")
            }
            Self::Module(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Error {}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Undeclared(name) => Self::Undeclared(name),
            SourceError::Interrupted(why) => Self::Interrupted(why),
        }
    }
}

impl From<SinkError> for Error {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Undeclared(name) => Self::Undeclared(name),
            SinkError::Refused(why) => Self::Refused(why),
        }
    }
}
