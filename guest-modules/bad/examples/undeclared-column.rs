//! Writes one column more than the manifest declares.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    let copy = rows.columns[column::NUMBER].clone();
    rows.columns.push(copy);
    host.write("rows", &rows)
}

module!(run);
