//! What the last refresh and the last run came to, for `status`. Nothing is decided by it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lockgate_durable::{FileError, write_atomic};
use lockgate_signing::ids::Name;
use serde::{Deserialize, Serialize};

/// What was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observed {
    /// The last time that the registry was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Ended>,
    /// The last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Ended>,
    /// The last push that had something to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Ended>,
}

/// How something ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// What failed, and what was said; empty: nothing.
    #[serde(default)]
    pub failed: Vec<Failure>,
    /// What a person should know, and that stopped nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noticed: Vec<String>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Failure {
    /// The module, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Name>,
    /// What the operator was told.
    pub why: String,
    /// Whether it may pass by itself.
    pub passing: bool,
}

/// The largest such file, bytes.
const BYTES_MAX: usize = 1 << 20;

impl Observed {
    /// What was seen last; nothing where the file is missing or cannot be read, because the next run writes it again.
    pub fn load(state: &Path) -> Self {
        let bytes = std::fs::read(file(state)).unwrap_or_default();
        if bytes.len() > BYTES_MAX {
            Self::default()
        } else {
            serde_json::from_slice(&bytes).unwrap_or_default()
        }
    }

    /// Changes what was seen.
    pub fn note(state: &Path, change: impl FnOnce(&mut Self)) -> Result<(), FileError> {
        let mut observed = Self::load(state);
        change(&mut observed);
        let path = file(state);
        let bytes = serde_json::to_vec(&observed).map_err(std::io::Error::from);
        write_atomic(&path, &bytes.map_err(lockgate_durable::at("write", &path))?)
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("observed.json")
}
