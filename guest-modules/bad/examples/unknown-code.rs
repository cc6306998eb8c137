//! Writes a position beyond the dictionary.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    let beyond = host.code_count() + 7;
    rows.columns[column::CODE].values = Values::Codes(vec![beyond; 10]);
    host.write("rows", &rows)
}

module!(run);
