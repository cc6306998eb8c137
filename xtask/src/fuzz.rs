//! Fuzz smoke: every decoder is given made-up bytes for a few seconds.
//!
//! Coverage instrumentation is a stable option of the compiler, so that this needs no nightly one. What it lacks is the
//! address sanitiser, which finds little in code without `unsafe`. For more than a smoke test: `cargo fuzz run TARGET`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::{call, cargo};
use crate::tools;

/// How long each target runs.
const SECONDS: u32 = 4;

/// What cargo-fuzz passes to the compiler, without a sanitiser.
const INSTRUMENTATION: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// Builds and runs every target of `fuzz/`.
pub(crate) fn smoke(root: &Path) -> Result<()> {
    tools::need(&[("c++", "g++")])?;
    let host = host()?;
    let output = root.join("target/fuzz");
    call(
        cargo(&root.join("fuzz"))
            .env("CARGO_TARGET_DIR", &output)
            .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"))
            // A target of its own, so that build scripts and procedural macros are not instrumented.
            .args(["build", "--release", "--locked", "--bins", "--target", &host]),
    )?;
    let artifacts = output.join("artifacts");
    fs::create_dir_all(&artifacts)?;
    let mut targets = Vec::new();
    for file in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let file = file?.path();
        targets.extend(file.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    ensure!(!targets.is_empty(), "fuzz/fuzz_targets is empty");
    targets.sort();
    for target in targets {
        let mut fuzz = Command::new(output.join(&host).join("release").join(&target));
        // What makes a target fail is kept, to be run again by name.
        fuzz.arg(format!("-artifact_prefix={}/{target}-", artifacts.display()));
        fuzz.arg(format!("-max_total_time={SECONDS}")).args(["-timeout=10", "-rss_limit_mb=2048"]);
        let ran = fuzz.output().with_context(|| format!("{target} was not built"))?;
        let log = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "{target} failed ({})\n{log}", ran.status);
        println!("{target}: {}", log.lines().next_back().unwrap_or_default());
    }
    Ok(())
}

/// This machine's target triple.
fn host() -> Result<String> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc could not be started")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}
