//! `serve`: runs and refreshes, each on its own timer and each as a command of its own, in a process of its own.
//!
//! So what a turn needed (the engine, compiled code, what the allocator keeps) goes with it, a turn that dies takes nothing with
//! it, and after an upgrade the next turn is the new program's. Nothing is kept in memory between turns; what fails is tried
//! again at its next one.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Cli;
use crate::jitter::jittered;

/// Runs now and every so often, and refreshes in between; does not return but for an error.
pub(super) fn serve(cli: &Cli, run_every: Duration, refresh_every: Duration) -> anyhow::Result<()> {
    let turns =
        Turns { cli, program: std::env::current_exe().context("this program's own file is not known")? };
    loop {
        let started = Instant::now();
        turns.take("run", Stdio::inherit());
        // A run has refreshed; the next refresh is due before the next run, unless runs are more frequent.
        loop {
            let until_run = run_every.saturating_sub(started.elapsed());
            let pause = jittered(refresh_every);
            if pause >= until_run {
                thread::sleep(until_run);
                break;
            }
            thread::sleep(pause);
            // What it prints is for whoever asks; `status` and `modules` know it from now on.
            turns.take("refresh", Stdio::null());
        }
    }
}

/// Ends this process when its standard input does: a turn goes with its service, however that ended. A turn may be killed at any
/// moment; the next one finishes what it left.
pub(super) fn end_with_input() -> io::Result<()> {
    let watch = || {
        // An error is an end too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(1);
    };
    thread::Builder::new().name("end-with-input".to_owned()).spawn(watch).map(|_| ())
}

struct Turns<'a> {
    cli: &'a Cli,
    program: PathBuf,
}

impl Turns<'_> {
    fn take(&self, command: &str, output: Stdio) {
        match self.spawn_and_wait(command, output) {
            // It has said itself what it found.
            Ok(status) if status.code().is_some() => {}
            Ok(status) => tracing::error!("`{command}` was ended from outside ({status}); it is tried again"),
            Err(error) => tracing::error!(
                "`{command}` cannot be started from {}: {error}; it is tried again",
                self.program.display()
            ),
        }
    }

    fn spawn_and_wait(&self, command: &str, output: Stdio) -> io::Result<ExitStatus> {
        let mut turn = Command::new(&self.program);
        turn.arg("--end-with-input").arg("--config").arg(&self.cli.config).args(["--log", &self.cli.log]);
        if let Some(day) = self.cli.as_of {
            turn.args(["--as-of", &day.to_string()]);
        }
        if self.cli.json {
            turn.arg("--json");
        }
        let mut turn = turn.arg(command).stdin(Stdio::piped()).stdout(output).spawn()?;
        // `wait` closes what it finds; this end has to stay open until the turn is over.
        let _input = turn.stdin.take();
        turn.wait()
    }
}
