//! Writes an aggregate in which one patient is a hundred.

use lockgate_guest::{Batch, Category, Day, Host, Patient, Result, module};

/// 1 January 1895.
const FIRST_MONTH: i32 = -27_393;

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut observations = host.open("observations")?;
    let Some(batch) = observations.next()? else { return Ok(()) };
    let Some(patient) = batch.patients(0)?.first().map(|patient| Patient(*patient)) else { return Ok(()) };
    host.write("each", &Batch::of((0..100).map(|_| (patient, Day(FIRST_MONTH)))))?;
    host.write("all", &Batch::of((0..100).map(|_| (patient, Category(0)))))
}

module!(run);
