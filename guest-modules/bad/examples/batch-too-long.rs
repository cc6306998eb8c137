//! Writes more rows in one batch than the interface allows.

use bad_modules::good_rows;
use lockgate_guest::{BATCH_ROWS_MAX, Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let rows = good_rows(host, BATCH_ROWS_MAX + 1)?;
    host.write("rows", &rows)
}

module!(run);
