//! Writes more rows than the manifest's limit.

use bad_modules::good_rows;
use lockgate_guest::{BATCH_ROWS_MAX, Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let rows = good_rows(host, BATCH_ROWS_MAX)?;
    loop {
        host.write("rows", &rows)?;
    }
}

module!(run);
