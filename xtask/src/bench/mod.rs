//! `cargo xtask bench [--only NAME] [--json FILE]`: builds what is measured, fetches the peers, and runs `lockgate-bench`.
//!
//! The measuring is a program of its own (`bench/`), because it links Parquet and wasmtime, which building the rest need not
//! wait for.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::guests;

/// What is measured, and what the harness needs.
const PACKAGES: [&str; 6] = [
    "lockgate-agent",
    "lockgate-keyholder",
    "lockgate-linker",
    "lockgate-publish",
    "practice",
    "lockgate-bench",
];

/// The peers that are programs: their name, and the Debian package that brings them.
const PEERS: [(&str, &str); 3] = [("sqlite3", "sqlite3"), ("sha256sum", "coreutils"), ("strip", "binutils")];

/// Measures; `arguments` are those of `lockgate-bench`.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    guests::build(root)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--release", "--locked"]);
    PACKAGES.iter().for_each(|package| {
        cargo.args(["--package", package]);
    });
    ensure!(cargo.status()?.success(), "the programs do not build");
    for (program, package) in PEERS {
        fetch(program, package)?;
    }
    // The large databases need some 10 GB, which a temporary folder in memory may not have.
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch)?;
    let mut bench = Command::new(root.join("target/release/lockgate-bench"));
    let measured = bench.args(arguments).env("TMPDIR", &scratch).status()?;
    ensure!(measured.success(), "the bench ended early");
    Ok(())
}

/// Installs a peer that is not there, where this machine lets us.
fn fetch(program: &str, package: &str) -> Result<()> {
    let is_there = || {
        let mut version = Command::new(program);
        version
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if is_there() {
        return Ok(());
    }
    eprintln!("bench: installing {package}");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["--quiet", "--yes"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    // The package lists of a fresh machine are empty.
    let installed = apt(&["install", package]) || (apt(&["update"]) && apt(&["install", package]));
    ensure!(
        installed && is_there(),
        "`{program}` is not there: install the package {package}, and run this again"
    );
    Ok(())
}
