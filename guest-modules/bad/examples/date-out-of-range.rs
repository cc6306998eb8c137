//! Writes a day after the period.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    let after = host.window().last_day + 1;
    rows.columns[column::DAY].values = Values::Dates(vec![after; 10]);
    host.write("rows", &rows)
}

module!(run);
