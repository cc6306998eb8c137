//! Writes a code of a system that the manifest does not declare for the column (its manifest names only `icd11`).

use bad_modules::good_rows;
use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let rows = good_rows(host, 10)?;
    host.write("rows", &rows)
}

module!(run);
