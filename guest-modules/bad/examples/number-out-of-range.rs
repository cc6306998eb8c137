//! Writes a number above the declared maximum.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::NUMBER].values = Values::Numbers(vec![9_434_765_919.0; 10]);
    host.write("rows", &rows)
}

module!(run);
