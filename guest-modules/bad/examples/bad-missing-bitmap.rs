//! Writes missing bits for fewer rows than there are.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::NUMBER].missing = Some(vec![0]);
    host.write("rows", &rows)
}

module!(run);
