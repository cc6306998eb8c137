//! Writes a patient who is not in the run.

use bad_modules::{column, good_rows};
use lockgate_guest::{Host, Result, Values, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut rows = good_rows(host, 10)?;
    rows.columns[column::PATIENT].values = Values::Patients(vec![u32::MAX; 10]);
    host.write("rows", &rows)
}

module!(run);
