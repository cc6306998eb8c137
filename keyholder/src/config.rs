//! The data folder, and the optional `keyholder.toml` in it: where to listen, limits and quotas.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockgate_service::DoorLimits;
use lockgate_signing::evaluation::EvaluationAnswer;
use serde::{Deserialize, Serialize};

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

    /// The sealed keys.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys.sealed")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.0.join("keyholder.db")
    }

    /// The settings, if there are any.
    pub fn config(&self) -> PathBuf {
        self.0.join("keyholder.toml")
    }
}

/// `keyholder.toml`. Every value has a default; a name that is not known is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen. Put a TLS-terminating proxy in front of any address but loopback.
    pub listen: SocketAddr,
    /// What the service takes from outside.
    pub limits: Limits,
    /// What a site may ask for.
    pub quota: Quota,
}

/// What the service takes from outside, at most.
///
/// Memory: a connection holds a request and its answer, 1.2 MiB at most; a request in work as much again eight times, for
/// points. With the values below that is 77 + 20 MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections; further ones wait to be taken from the listening queue.
    pub connections_max: u32,
    /// Requests evaluated at once: the number of cores to use.
    pub evaluations_max: u32,
    /// How long a request may wait for its turn before it is told to come back.
    pub wait_s: u64,
    /// How long the head of a request may take, from the connection or from the answer before it.
    pub head_timeout_s: u64,
    /// How long a request may take in all, without its wait.
    pub request_timeout_s: u64,
    /// How long open requests have to end when the service stops.
    pub shutdown_s: u64,
    /// How far a request's time may be from the clock here, either way.
    pub clock_apart_s: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            evaluations_max: 2,
            wait_s: 20,
            head_timeout_s: 30,
            request_timeout_s: 120,
            shutdown_s: 15,
            clock_apart_s: 300,
        }
    }
}

impl Limits {
    /// The largest request, bytes: the elements, and what is around them.
    pub const REQUEST_BYTES_MAX: usize = EvaluationAnswer::BYTES_MAX + 512;

    /// What a connection may take.
    pub fn door(&self) -> DoorLimits {
        DoorLimits {
            connections_max: self.connections_max,
            head_timeout: Duration::from_secs(self.head_timeout_s),
            shutdown: Duration::from_secs(self.shutdown_s),
            read_buffer_bytes: 64 << 10,
        }
    }
}

/// What a site may ask for, by the size of its patient list.
///
/// A first run asks four times a patient and domain (one token and three link tokens), later runs a few a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Quota {
    /// Evaluations a day, times the patient list: what is beyond is refused.
    pub daily_per_patient: u32,
    /// Evaluations in 30 days, times the patient list: what is beyond raises an alarm.
    pub alarm_per_patient: u32,
    /// Requests a minute of one site.
    pub requests_per_minute: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self { daily_per_patient: 8, alarm_per_patient: 16, requests_per_minute: 120 }
    }
}

/// The settings cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct ConfigError {
    path: PathBuf,
    why: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8482)),
            limits: Limits::default(),
            quota: Quota::default(),
        }
    }
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
        let (limits, quota) = (&config.limits, &config.quota);
        let counts = [
            limits.connections_max,
            limits.evaluations_max,
            quota.daily_per_patient,
            quota.requests_per_minute,
        ];
        if counts.contains(&0) || limits.clock_apart_s < 1 {
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
        let path = dir.path().join("keyholder.toml");
        assert_eq!(Config::load(&path, false).unwrap(), Config::default());
        assert!(Config::load(&path, true).is_err());
        std::fs::write(&path, toml::to_string(&Config::default()).unwrap()).unwrap();
        assert_eq!(Config::load(&path, true).unwrap(), Config::default());
        std::fs::write(&path, "[quota]\ndaily = 4\n").unwrap();
        assert!(Config::load(&path, true).unwrap_err().to_string().contains("daily"));
        std::fs::write(&path, "[limits]\nevaluations-max = 0\n").unwrap();
        assert!(Config::load(&path, true).is_err());
    }
}
