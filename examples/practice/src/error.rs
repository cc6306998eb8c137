//! What can go wrong, for the person at the terminal.

use std::path::{Path, PathBuf};

/// A database could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PracticeError {
    /// An argument that cannot be used.
    #[error("{argument}: {why}")]
    Argument {
        /// The argument, as it is written on the command line.
        argument: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A file or folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
    /// A CSV file is not what Synthea writes.
    #[error("{path}: {why}")]
    Csv {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file is neither a practice nor a hospital.
    #[error("{0}: neither a practice nor a hospital that this program made")]
    UnknownShape(PathBuf),
}

impl PracticeError {
    pub(crate) fn argument(argument: &'static str, why: impl Into<String>) -> Self {
        Self::Argument { argument, why: why.into() }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    pub(crate) fn csv(path: &Path, why: impl ToString) -> Self {
        Self::Csv { path: path.to_owned(), why: why.to_string() }
    }
}
