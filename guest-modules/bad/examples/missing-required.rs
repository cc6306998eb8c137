//! Leaves out a value that the manifest requires.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::DAY].values = Values::Dates(vec![0; 10]);
    rows.columns[column::DAY].missing = Some(vec![0xff, 0b11]);
    host.write("rows", &rows)
}

module!(run);
