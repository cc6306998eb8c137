//! Patients with asthma: since when, and how many reliever inhalers they were prescribed in the last twelve months.
//!
//! A module is one function over columns. It reads the inputs and writes the outputs that module.toml declares, and reaches
//! nothing else: no clock, no files, no network. Who objects, and what is sensitive, is gone before it sees a row.

use lockgate_guest::date::{days, month_first};
use lockgate_guest::{Day, Host, Number, Patient, PatientMap, Result, RowWriter, module};

/// The earliest day, and the greatest number, that module.toml allows: real records hold impossible values too.
const EARLIEST: i32 = days(1895, 1, 1);
const INHALERS_MAX: u32 = 500;

/// What runs at each site, once a month.
pub fn run<H: Host>(host: &H) -> Result<()> {
    // 1. How many inhalers each patient was prescribed. The host selects the rows by the codelist; they come in batches.
    let mut inhalers = PatientMap::<u32>::default();
    let mut issues = host.open("inhalers")?;
    while let Some(batch) = issues.next()? {
        // Columns are counted from 0, in the order of module.toml: the patient is the only one.
        for patient in batch.patients(0)? {
            *inhalers.entry(*patient) += 1;
        }
    }

    // 2. Who has asthma, and since when. Rows come ordered by patient, so all of one patient follow each other.
    let mut asthma: Vec<(u32, Option<i32>)> = Vec::new();
    let last_day = host.window().last_day;
    let mut diagnoses = host.open("diagnoses")?;
    while let Some(mut batch) = diagnoses.next()? {
        batch.blank_days_outside(1, EARLIEST..=last_day)?;
        let effective = batch.days(1)?;
        for (row, patient) in batch.patients(0)?.iter().enumerate() {
            let day = effective.at(row);
            match asthma.last_mut() {
                Some((last, first)) if last == patient => *first = [*first, day].into_iter().flatten().min(),
                _ => asthma.push((*patient, day)),
            }
        }
    }

    // 3. One row a patient. The month is enough to know since when, so the day stays at the site.
    let mut register = RowWriter::new(host, "register");
    for (patient, first) in asthma {
        let issued = inhalers.get(patient).map_or(0, |issued| *issued).min(INHALERS_MAX);
        let month = first.map(|day| Day(month_first(day)));
        register.push((Patient(patient), month, Number(issued.into())))?;
    }
    register.finish()
}

module!(run);

#[cfg(test)]
mod tests {
    use lockgate_guest::testing::{TestHost, day};

    use super::*;

    /// The same function runs natively over rows that a test makes up: `cargo test` needs no WebAssembly.
    #[test]
    fn the_first_diagnosis_counts_and_inhalers_are_added_up() {
        let mut host = TestHost::new("2026-10-01", "2026-10-31");
        let diagnosed = |patient, on: &str| (Patient(patient), Some(Day(day(on))));
        let in_the_future = diagnosed(2, "2062-01-01");
        host.input("diagnoses", [diagnosed(1, "2019-07-16"), diagnosed(1, "2011-03-02"), in_the_future]);
        host.input("inhalers", [(Patient(1),), (Patient(1),), (Patient(3),)]);
        run(&host).unwrap();
        let rows = host.rows::<(Patient, Option<Day>, Number)>("register");
        let march = Some(Day(day("2011-03-01")));
        assert_eq!(rows, [(Patient(1), march, Number(2.0)), (Patient(2), None, Number(0.0))]);
    }
}
