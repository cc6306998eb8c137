//! A service's commands: what they print, what they log, and the time.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Starts the log on standard error.
pub fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter: Targets = filter.parse().map_err(|error| anyhow::anyhow!("--log `{filter}`: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    tracing_subscriber::registry().with(to_stderr.with_filter(filter)).init();
    Ok(())
}

/// The help of a command and of all below it, as their readers see it: a test of each program keeps a snapshot. `path` is how
/// the command is called.
pub fn help_pages(command: &clap::Command, path: &str) -> String {
    let mut text = format!("$ {path} --help\n{}\n", command.clone().render_long_help());
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        text += &help_pages(below, &format!("{path} {}", below.get_name()));
    }
    text
}

/// What asynchronous work runs on.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")
}

/// The time on the wall, seconds since 1970-01-01 UTC.
pub fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Prints text as it is.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Output into `head` is no error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to the output"),
    }
}

/// Prints JSON, for scripts.
pub fn say_json(value: &serde_json::Value) -> anyhow::Result<()> {
    say(&format!("{value:#}\n"))
}
