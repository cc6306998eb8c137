//! Logs without end.

use lockgate_guest::{Host, Level, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let line = "flood ".repeat(10_000);
    loop {
        host.log(Level::Warn, &line);
    }
}

module!(run);
