//! Returns a megabyte of terminal control codes as its error.

use lockgate_guest::{Error, Host, Level, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    host.log(Level::Info, "an error follows");
    Err(Error::Module("\u{1b}[2J\u{7}\r\nall is well\r\n".repeat(1 << 16)))
}

module!(run);
