//! `lockgate-agent`: see `--help`.

use std::process::ExitCode;

use clap::Parser as _;
use lockgate_agent::cli::Cli;

fn main() -> ExitCode {
    // Only here, so that a test can start it at a chosen place; without the feature there is no such thing.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    match Cli::parse().execute() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lockgate-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
