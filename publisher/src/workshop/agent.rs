//! The agent, found and run as a program: the publisher never links it.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::civil::Date;
use lockgate_signing::ids::{Name, Period};

use super::extract::Extract;

/// The program's name.
const PROGRAM: &str = "lockgate-agent";
/// More rows than a fixture has.
const ROWS_MAX: u32 = 10_000_000;

/// A program that runs modules.
#[derive(Debug, Clone)]
pub struct AgentProgram {
    path: PathBuf,
}

/// The agent could not be run, or the module failed in it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It is not there.
    #[error(
        "{} cannot be run ({error}): a module runs in the real agent, so install lockgate-agent beside lockgate-publish or on \
         the PATH, or name it in LOCKGATE_AGENT", path.display()
    )]
    NotFound {
        /// What was tried.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It says no.
    #[error("{0}")]
    Refused(String),
    /// It says something else.
    #[error("{} prints what this program does not understand ({why}); use an agent of the same release", path.display())]
    Strange {
        /// The program.
        path: PathBuf,
        /// What.
        why: serde_json::Error,
    },
}

impl AgentProgram {
    /// The agent that was named; else the one beside this program; else the one on the PATH.
    pub fn find(named: Option<PathBuf>) -> Self {
        let beside = std::env::current_exe().ok().map(|program| program.with_file_name(PROGRAM));
        let path =
            named.or_else(|| beside.filter(|program| program.is_file())).unwrap_or_else(|| PROGRAM.into());
        Self { path }
    }

    /// What a module would send for a month from a site. What the module logs goes to standard error.
    pub fn preview(
        &self,
        config: &Path,
        as_of: Date,
        module: &Name,
        month: Period,
    ) -> Result<Extract, AgentError> {
        let output = Command::new(&self.path)
            .arg("--config")
            .arg(config)
            .args(["--as-of", &as_of.to_string(), "--json", "--log", "off,lockgate::module=debug"])
            .args(["preview", module.as_str(), "--period", &month.to_string()])
            .args(["--rows", &ROWS_MAX.to_string()])
            .output()
            .map_err(|error| AgentError::NotFound { path: self.path.clone(), error })?;
        let said = String::from_utf8_lossy(&output.stderr);
        let (errors, log): (Vec<&str>, Vec<&str>) =
            said.lines().partition(|line| line.starts_with("lockgate-agent: "));
        for line in log {
            eprintln!("{line}");
        }
        if !output.status.success() {
            let why = errors.iter().map(|line| line.trim_start_matches("lockgate-agent: "));
            return Err(AgentError::Refused(why.collect::<Vec<_>>().join("\n")));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|why| AgentError::Strange { path: self.path.clone(), why })
    }
}
