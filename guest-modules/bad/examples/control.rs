//! Behaves: every other module of this folder differs from it in one thing.

use bad_modules::good_rows;
use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let rows = good_rows(host, 10)?;
    host.write("rows", &rows)
}

module!(run);
