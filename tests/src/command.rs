//! Running a program to its end.

use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was run, for messages.
    pub what: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end.
pub fn finish(command: &mut Command) -> anyhow::Result<Finished> {
    let what = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot run {what}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Finished { what, code: status.code(), stdout: text(stdout), stderr: text(stderr) })
}

impl Finished {
    /// Itself, if the program exited with this code.
    pub fn expect(self, code: i32) -> anyhow::Result<Self> {
        ensure!(
            self.code == Some(code),
            "{} exited with {:?} and not {code}\n{}\n{}",
            self.what,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Itself, if the program exited with 0.
    pub fn ok(self) -> anyhow::Result<Self> {
        self.expect(0)
    }

    /// Its standard output as one JSON value.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{} printed no JSON: {}", self.what, self.stdout))
    }
}
