//! Where things are in the data folder.

use std::path::{Path, PathBuf};

use lockgate_signing::ids::Name;

/// The data folder.
#[derive(Debug, Clone)]
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// A folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The pairs of keys, a folder each.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// One pair of keys.
    pub fn key(&self, name: &Name) -> PathBuf {
        self.keys().join(name.as_str())
    }

    /// The key under which tokens are stored.
    pub fn token_key(&self) -> PathBuf {
        self.0.join("token.key")
    }

    /// The tables.
    pub fn database(&self) -> PathBuf {
        self.0.join("warehouse.db")
    }

    /// The lock of whoever collects.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}
