//! Writes to an output that the manifest does not declare.

use bad_modules::good_rows;
use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let rows = good_rows(host, 10)?;
    host.write("names", &rows)
}

module!(run);
