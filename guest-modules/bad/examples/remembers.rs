//! Counts its runs, and writes down how many there were.

use std::sync::atomic::{AtomicU32, Ordering};

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

static RUNS: AtomicU32 = AtomicU32::new(0);

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let runs = RUNS.fetch_add(1, Ordering::Relaxed) + 1;
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::NUMBER].values = Values::Numbers(vec![f64::from(runs); 10]);
    host.write("rows", &rows)
}

module!(run);
