//! The bars of `cargo xtask bench`: every row is a ratio to a peer, or a figure, measured in one run on this machine.
//!
//! Both sides of a ratio take turns and the median of each counts, so that what else the machine does meets both. What each
//! row compares is said where it is measured: [`module`], [`extract`], [`size`], [`intake`], [`objections`], [`program`], [`publishing`], [`sealing`],
//! [`tokens`].

mod data;
mod extract;
mod intake;
mod module;
mod objections;
mod process;
mod program;
mod publishing;
mod report;
mod sealing;
mod size;
mod tokens;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

use data::Data;
use publishing::NothingNew;
use report::{BARS, Row};

/// Measures Lockgate against its peers. `cargo xtask bench` builds everything and runs this.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure this row only (may be repeated).
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Also write the rows to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program starts itself for, so that a measured process is nobody's neighbour.
#[derive(Debug, Subcommand)]
enum Part {
    /// Runs a program; writes what it used to a file, as JSON.
    #[command(hide = true)]
    Measured {
        /// The file.
        usage: PathBuf,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Runs a module in its sandbox and natively, in turn; prints the seconds, as JSON.
    #[command(hide = true)]
    Module {
        /// `gp-monthly` or `diabetes-register`.
        name: String,
        /// The core module.
        wasm: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Measured { usage, command }) => process::measured(&usage, &command),
        Some(Part::Module { name, wasm }) => module::take_turns(&name, &wasm),
        None => bench(&arguments.only, arguments.json),
    }
}

fn bench(only: &[String], json: Option<PathBuf>) -> anyhow::Result<()> {
    for name in only {
        let known = || BARS.iter().map(|bar| bar.name).collect::<Vec<_>>().join(", ");
        ensure!(BARS.iter().any(|bar| bar.name == name), "no row `{name}`; there are: {}", known());
    }
    let data = Data::new()?;
    let mut rows: Vec<Row> = Vec::new();
    for bar in BARS.iter().filter(|bar| only.is_empty() || only.iter().any(|name| name == bar.name)) {
        eprintln!("bench: {}", bar.name);
        let found = match bar.name {
            "module-over-native" => module::over_native(),
            "extract-over-sqlite-csv" => extract::over_sqlite_csv(&data),
            "extract-peak-memory" => extract::peak_memory(&data),
            "bundle-over-parquet" => size::over_parquet(&data),
            "linker-over-sha256sum" => intake::over_sha256sum(),
            "objection-register" => objections::register(&data),
            "first-run" => program::first_run(&data),
            "agent-binary" => program::binary_size(&data),
            "oprf-tokens" => tokens::by_keyholder(&data),
            "oprf-over-curve" => tokens::over_curve(),
            "sealed-key-tokens" => tokens::sealed_key(),
            "encryption-and-signing-share" => sealing::share(&data),
            "publish-500-targets" => publishing::publish_one_change(),
            "first-refresh-500-targets" => publishing::first_refresh(),
            "refresh-nothing-new-requests" => publishing::nothing_new(NothingNew::Requests),
            "refresh-nothing-new-cpu" => publishing::nothing_new(NothingNew::Cpu),
            "refresh-nothing-new-bytes" => publishing::nothing_new(NothingNew::Bytes),
            _ => program::idle_memory(&data),
        };
        let (value, detail) = found.with_context(|| format!("row {}", bar.name))?;
        rows.push(Row { bar, value, detail });
        eprintln!("bench: {}", report::line(&rows[rows.len() - 1]));
    }
    report::print(&rows);
    if let Some(path) = json {
        report::write_json(&rows, &path)?;
    }
    Ok(())
}
