//! Writes NaN.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::NUMBER].values = Values::Numbers(vec![f64::NAN; 10]);
    host.write("rows", &rows)
}

module!(run);
