//! Hands the host a list that is larger than any batch: copied out unseen, it would take as much memory there.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::NUMBER].values = Values::Numbers(vec![1.5; 4 << 20]);
    host.write("rows", &rows)
}

module!(run);
