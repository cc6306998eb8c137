//! Tells everything that has a place or a number: handles, positions of codes, rows and batches. It writes them down, and logs
//! what it sees.

use lockgate_guest::{Batch, Host, Level, Number, Patient, Result, module};

/// The module.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut told = Vec::new();
    let mut observations = host.open("observations")?;
    while let Some(batch) = observations.next()? {
        let (patients, codes) = (batch.patients(0)?, batch.codes(2)?);
        for (row, patient) in patients.iter().enumerate() {
            let place = told.len() as f64;
            let code = codes.at(row).map_or(0.0, f64::from);
            let numbers = [place, f64::from(*patient), code, batch.rows as f64];
            told.extend(numbers.map(|number| (Patient(*patient), Number(number))));
            if row < 100 {
                host.log(Level::Warn, &format!("row {row} is of {patient} and says {code}"));
            }
        }
    }
    let Some((patient, _)) = told.first().copied() else { return Ok(()) };
    let dictionary = observations.dictionary();
    for position in 0..dictionary.len() as u32 {
        let Some((system, text)) = dictionary.code(position) else { continue };
        let bytes = system.bytes().chain(text.bytes());
        let sum: u32 = bytes.zip(1..).map(|(byte, place)| u32::from(byte) * place).sum();
        told.push((patient, Number(f64::from(sum))));
    }
    host.write("told", &Batch::of(told))
}

module!(run);
