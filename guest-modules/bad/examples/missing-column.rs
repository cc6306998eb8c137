//! Writes one column less than the manifest declares.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.truncate_columns(column::SEX);
    host.write("rows", &rows)
}

module!(run);
