//! The data folder, and the optional `linker.toml` in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// Where things are in a data folder.
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

    /// The key that receipts are signed with.
    pub fn key(&self) -> PathBuf {
        self.0.join("linker-key.pem")
    }

    /// Its public half, for auditors.
    pub fn public_key(&self) -> PathBuf {
        self.0.join("linker-key.pub.pem")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.0.join("linker.db")
    }

    /// Blocks and headers.
    pub fn objects(&self) -> PathBuf {
        self.0.join("objects")
    }

    /// The lock of those who work in it.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The settings, if there are any.
    pub fn config(&self) -> PathBuf {
        self.0.join("linker.toml")
    }
}

/// `linker.toml`. Every value has a default; a name that is not known is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. Put a TLS-terminating proxy in front of any address but loopback.
    pub listen: SocketAddr,
    /// Limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8480)), limits: Limits::default() }
    }
}

/// The settings cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct ConfigError {
    path: PathBuf,
    why: String,
}

impl Config {
    /// Reads a file; where there is none, and none was asked for by name, the defaults.
    pub fn load(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError { path: path.to_owned(), why };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
                return Ok(Self::default());
            }
            Err(error) => return Err(wrong(error.to_string())),
        };
        let config: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let limits = &config.limits;
        if [limits.connections_max, limits.headers_max, limits.uploads_max, limits.collections_max]
            .contains(&0)
        {
            return Err(wrong("a limit of 0 lets nothing in".to_owned()));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_written_as_they_are_read_and_unknown_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("linker.toml");
        assert_eq!(Config::load(&path, false).unwrap(), Config::default());
        assert!(Config::load(&path, true).is_err());
        std::fs::write(&path, toml::to_string(&Config::default()).unwrap()).unwrap();
        assert_eq!(Config::load(&path, true).unwrap(), Config::default());
        std::fs::write(&path, "[limits]\nuploads = 4\n").unwrap();
        assert!(Config::load(&path, true).unwrap_err().to_string().contains("uploads"));
    }
}
