//! The stages of building, testing, showing and measuring Lockgate: `cargo xtask STAGE`.

mod bench;
mod cargo;
mod demo;
mod fuzz;
mod guests;
mod test;
mod tools;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Builds, shows and tests Lockgate. Each stage does its own set-up.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Debug, Subcommand)]
enum Stage {
    /// Show the whole flow on this machine and check its numbers against plain SQL
    ///
    /// Two practices and a hospital are made, their agents extract and send, a linker takes in and acknowledges. Exits
    /// with 1 if a number differs from what plain SQL finds in the source databases.
    Demo(demo::Arguments),
    /// Run what CI runs: formatting, lints, documentation, dependencies, guests, tests, demo
    Test(test::Arguments),
    /// Measure against the bars: ratios to peers, times, sizes
    ///
    /// Takes some 15 minutes and 10 GB of disk; `--only NAME` measures one row, `--json FILE` also writes them for programs.
    Bench {
        /// What `lockgate-bench` is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the WebAssembly modules into target/guests
    Guests,
}

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no root")?;
    let passed = match Arguments::parse().stage {
        Stage::Demo(arguments) => demo::run(root, &arguments)?,
        Stage::Test(arguments) => test::run(root, &arguments)?,
        Stage::Bench { arguments } => {
            bench::run(root, &arguments)?;
            true
        }
        Stage::Guests => {
            for guest in guests::build(root)?.all() {
                println!("{} ({})", guest.wasm.display(), guest.manifest.display());
            }
            true
        }
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
