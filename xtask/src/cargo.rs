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

/// Builds every program of the workspace into `target/release`.
///
/// The tests are built along: cargo chooses the features of a shared dependency from everything that is built together, so
/// that programs built alone would be other programs, and their dependencies would be compiled a second time.
pub(crate) fn build_programs(root: &Path) -> Result<()> {
    call(cargo(root).args(["build", "--release", "--locked", "--workspace", "--bins", "--tests"]))
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
