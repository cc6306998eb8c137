//! What the misbehaving modules have in common: each is the well-behaved module `control` but for one thing.

use lockgate_guest::{Batch, Category, Code, Day, Error, Host, Number, Patient, Result};

/// The position of a column in the output `rows`, which every manifest in this folder declares.
pub mod column {
    /// A patient.
    pub const PATIENT: usize = 0;
    /// A day up to the period's last.
    pub const DAY: usize = 1;
    /// A code.
    pub const CODE: usize = 2;
    /// A number from 0 to 100.
    pub const NUMBER: usize = 3;
    /// One of four categories.
    pub const SEX: usize = 4;
}

/// Rows that the host takes: the first observation of the window, this many times.
pub fn good_rows<H: Host>(host: &H, rows: usize) -> Result<Batch> {
    let mut observations = host.open("observations")?;
    let Some(batch) = observations.next()? else {
        return Err(Error::Module(
            "the window has no observation, so this module cannot show its fault".into(),
        ));
    };
    let (patients, codes) = (batch.patients(0)?, batch.codes(2)?);
    let (Some(&patient), Some(code)) = (patients.first(), codes.at(0)) else {
        return Err(Error::Module("the first batch has no observation".into()));
    };
    let day = host.window().last_day;
    Ok(Batch::of((0..rows).map(|_| (Patient(patient), Day(day), Code(code), Number(1.5), Category(0)))))
}

#[cfg(test)]
mod tests {
    use lockgate_guest::testing::TestHost;

    use super::*;

    #[test]
    fn good_rows_are_good() {
        let mut host = TestHost::new("2026-01-01", "2026-01-31");
        let asthma = host.code("snomed", "195967001");
        host.input("observations", [(Patient(7), Day(20_460), Code(asthma))]);
        let rows = good_rows(&host, 3).unwrap();
        rows.check().unwrap();
        host.write("rows", &rows).unwrap();
        let last = (Patient(7), Day(20_484), Code(asthma), Number(1.5), Category(0));
        assert_eq!(host.rows::<(Patient, Day, Code, Number, Category)>("rows"), [last; 3]);
    }
}
