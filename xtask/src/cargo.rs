//! Calls of cargo. All of them build for release and with the same features, so that everything is compiled once.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The cargo that runs this program, in the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// What is built and tested, for release: all but the bench, which has no tests, and whose peers (Parquet among them) are as
/// much to compile as everything else.
const ALL: [&str; 5] = ["--release", "--locked", "--workspace", "--exclude", "lockgate-bench"];

/// A build of programs, which are yet to be named.
///
/// Cargo chooses the features of a shared dependency from everything that is built together, and counts the dependencies of
/// tests only where tests or examples are among it. So the few examples are built along: without them, programs would be
/// other programs than those that are tested, and their dependencies would be compiled a second time.
pub(crate) fn programs(root: &Path) -> Command {
    let mut command = cargo(root);
    command.arg("build").args(ALL).arg("--examples");
    command
}

/// Builds every program of the workspace into `target/release`.
pub(crate) fn build_programs(root: &Path) -> Result<()> {
    call(programs(root).arg("--bins"))
}

/// Runs every test of the workspace.
pub(crate) fn run_tests(root: &Path) -> Result<()> {
    call(cargo(root).arg("test").args(ALL))
}

/// Runs a command to its end; anything but success is an error.
pub(crate) fn call(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("`{shown}` could not be started"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = [program].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
