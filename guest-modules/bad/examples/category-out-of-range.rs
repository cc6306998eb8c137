//! Writes a category that the manifest does not declare.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::SEX].values = Values::Categories(vec![4; 10]);
    host.write("rows", &rows)
}

module!(run);
