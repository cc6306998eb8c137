//! `cargo xtask test`: what CI runs, a name a stage, each runnable alone.
//!
//! The order puts first what fails fast. Everything is built for release and with the same features, so that no dependency is
//! compiled twice (see `cargo.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::cargo::{build_programs, call, cargo, programs, run_tests};
use crate::{demo, fuzz, guests, tools};

/// What `cargo xtask test` is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run only this stage; may be given several times
    #[arg(long, value_enum, value_name = "STAGE")]
    only: Vec<Stage>,
}

/// The stages, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting, of the workspace and of the guests
    Fmt,
    /// Lints, without exceptions
    Clippy,
    /// The documentation builds without a warning
    Docs,
    /// Licences, sources and versions of the dependencies; known vulnerabilities where their list can be fetched
    Deny,
    /// The WebAssembly modules: build, lints, their tests on this machine
    Guests,
    /// Every program, and the variants that die where a test says
    Binaries,
    /// Unit tests and end-to-end tests
    Tests,
    /// The demonstration on invented patients
    Demo,
    /// The demonstration on data that nobody on the project wrote
    DemoData,
    /// Each fuzz target for a few seconds
    Fuzz,
}

/// What became of a stage.
enum Outcome {
    Passed,
    /// Not run, and why.
    Skipped(&'static str),
}

/// Runs the stages, whatever becomes of those before; `false` if one fails.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<bool> {
    let chosen = |stage: &&Stage| arguments.only.is_empty() || arguments.only.contains(stage);
    let mut lines = Vec::new();
    let started = Instant::now();
    let mut passed = true;
    for stage in Stage::value_variants().iter().filter(chosen) {
        let name = stage.name();
        eprintln!("\n== {name}");
        let started = Instant::now();
        let outcome = stage.run(root);
        let took = seconds(started.elapsed());
        match outcome {
            Ok(Outcome::Passed) => lines.push(format!("{name:<10} {took:>8}  passed")),
            Ok(Outcome::Skipped(why)) => lines.push(format!("{name:<10} {took:>8}  skipped: {why}")),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                lines.push(format!("{name:<10} {took:>8}  FAILED"));
                passed = false;
            }
        }
    }
    println!("\n{}\n{:<10} {:>8}", lines.join("\n"), "all", seconds(started.elapsed()));
    Ok(passed)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl Stage {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self, root: &Path) -> Result<Outcome> {
        match self {
            Self::Fmt => fmt(root)?,
            Self::Clippy => call(
                cargo(root)
                    .args([
                        "clippy",
                        "--release",
                        "--locked",
                        "--workspace",
                        "--all-targets",
                        "--all-features",
                        "--keep-going",
                    ])
                    .args(["--", "--deny", "warnings"]),
            )?,
            Self::Docs => call(cargo(root).env("RUSTDOCFLAGS", "--deny warnings").args([
                "doc",
                "--release",
                "--locked",
                "--workspace",
                "--no-deps",
            ]))?,
            Self::Deny => return deny(root),
            Self::Guests => {
                guests::build(root)?;
                guests::check(root)?;
            }
            Self::Binaries => binaries(root)?,
            Self::Tests => {
                // The end-to-end tests run them; nothing happens where they are built.
                binaries(root)?;
                run_tests(root)?;
            }
            Self::Demo => demonstrate(root, None)?,
            Self::DemoData => return demo_on_data(root),
            Self::Fuzz if !root.join("fuzz/Cargo.toml").exists() => {
                return Ok(Outcome::Skipped("no fuzz targets"));
            }
            Self::Fuzz => fuzz::smoke(root)?,
        }
        Ok(Outcome::Passed)
    }
}

fn fmt(root: &Path) -> Result<()> {
    for folder in [root.to_owned(), root.join("guest-modules")] {
        call(cargo(&folder).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn deny(root: &Path) -> Result<Outcome> {
    let deny = tools::cargo_deny(root)?;
    let command = |folder: &str| {
        let mut command = Command::new(&deny);
        command.current_dir(root.join(folder)).arg("--locked").arg("--config").arg(root.join("deny.toml"));
        command
    };
    let check = |folder: &str, what: &[&str]| {
        eprintln!("{}: {}", if folder.is_empty() { "workspace" } else { folder }, what.join(", "));
        // One file for both: what is allowed need not be in both.
        let quiet = ["--allow", "license-not-encountered", "--allow", "unused-wrapper"];
        call(command(folder).args(["check", "--hide-inclusion-graph"]).args(quiet).args(what))
    };
    let folders = ["", "guest-modules"];
    folders.iter().try_for_each(|folder| check(folder, &["bans", "licenses", "sources"]))?;
    // The list of known vulnerabilities is a git repository elsewhere.
    let fetched = command("").args(["fetch", "db"]).output();
    if !fetched.is_ok_and(|fetched| fetched.status.success()) {
        return Ok(Outcome::Skipped(
            "advisories, because their list cannot be fetched here; bans, licences and sources passed",
        ));
    }
    folders.iter().try_for_each(|folder| check(folder, &["advisories"]))?;
    Ok(Outcome::Passed)
}

/// The programs that have places where they can be made to die, for the tests that kill.
const FAILPOINTS: &str = "lockgate-agent/failpoints,lockgate-linker/failpoints,lockgate-warehouse/failpoints";

fn binaries(root: &Path) -> Result<()> {
    guests::build(root)?;
    let release = root.join("target/release");
    let failpoints = release.join("failpoints");
    std::fs::create_dir_all(&failpoints)?;
    let dying = ["lockgate-agent", "lockgate-linker", "lockgate-warehouse"];
    let named = dying.iter().flat_map(|program| ["--bin", program]);
    call(programs(root).args(named).args(["--features", FAILPOINTS]))?;
    for program in dying {
        // Renamed into place, so that whoever runs it at this moment is not disturbed.
        let partial = failpoints.join(format!("{program}.partial"));
        std::fs::copy(release.join(program), &partial).with_context(|| format!("{program} was not built"))?;
        std::fs::rename(&partial, failpoints.join(program))?;
    }
    // Last, so that the ordinary ones are what is left in target/release.
    build_programs(root)
}

fn demonstrate(root: &Path, data: Option<PathBuf>) -> Result<()> {
    guests::build(root)?;
    build_programs(root)?;
    if !demo::run_built(root, &demo::Arguments::on(data))? {
        bail!("the numbers differ, see above");
    }
    Ok(())
}

fn demo_on_data(root: &Path) -> Result<Outcome> {
    let data = std::env::var_os("LOCKGATE_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let is_there = ["synthea-300", "synthea-300.tar.xz"].iter().any(|name| data.join(name).exists());
    if !is_there {
        if std::env::var("CI").is_ok_and(|value| value == "true") {
            bail!("no shared data in {}; set LOCKGATE_DATA", data.display());
        }
        return Ok(Outcome::Skipped("no shared data"));
    }
    tools::need(&[("tar", "tar"), ("xz", "xz-utils")])?;
    demonstrate(root, Some(data))?;
    Ok(Outcome::Passed)
}
