//! Writes an aggregate with a cell for each patient, named after the patient; and one cell with all of them.

use lockgate_guest::date::add_months;
use lockgate_guest::{Batch, Category, Day, Host, Patient, Result, module};

/// 1 January 1895.
const FIRST_MONTH: i32 = -27_393;

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut observations = host.open("observations")?;
    while let Some(batch) = observations.next()? {
        let patients = batch.patients(0)?;
        let month = |patient: u32| Day(add_months(FIRST_MONTH, patient as i32));
        host.write("each", &Batch::of(patients.iter().map(|patient| (Patient(*patient), month(*patient)))))?;
        host.write("all", &Batch::of(patients.iter().map(|patient| (Patient(*patient), Category(0)))))?;
    }
    Ok(())
}

module!(run);
