//! Programs, and what they use.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::report::median;

/// What a program used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From its start to its end.
    pub(crate) wall_s: f64,
    /// On all cores, in the program and for it in the kernel.
    pub(crate) cpu_s: f64,
    /// The most that it held at once (maximum resident set size).
    pub(crate) peak_mib: f64,
}

/// Runs a program to its end, its output to a file or nowhere.
///
/// Not as a child of this process but as the only child of a process of its own: the kernel counts what children used over all
/// of them together.
pub(crate) fn run(command: &Command, output: Option<&Path>) -> anyhow::Result<Usage> {
    let usage = tempfile::NamedTempFile::new()?;
    let mut outer = Command::new(std::env::current_exe()?);
    outer.arg("measured").arg(usage.path()).arg("--").arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer.stdout(match output {
        Some(path) => Stdio::from(File::create(path)?),
        None => Stdio::null(),
    });
    let finished = outer.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&finished.stderr);
    ensure!(finished.status.success(), "{command:?} failed: {said}");
    Ok(serde_json::from_slice(&std::fs::read(usage.path())?)?)
}

/// The process between: runs the program and writes what it used.
pub(crate) fn measured(usage: &Path, command: &[String]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("which program?")?;
    let started = Instant::now();
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status()?;
    let wall_s = started.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let found = Usage {
        wall_s,
        cpu_s: seconds(used.user_time()) + seconds(used.system_time()),
        // Linux counts in KiB.
        peak_mib: used.max_rss() as f64 / 1_024.0,
    };
    Ok(std::fs::write(usage, serde_json::to_vec(&found)?)?)
}

/// The medians of several runs.
pub(crate) fn medians(runs: &[Usage]) -> Usage {
    Usage {
        wall_s: median(runs.iter().map(|run| run.wall_s)),
        cpu_s: median(runs.iter().map(|run| run.cpu_s)),
        peak_mib: median(runs.iter().map(|run| run.peak_mib)),
    }
}
