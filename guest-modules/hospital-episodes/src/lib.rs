//! Admissions that ended in the window, with their diagnoses and procedures.
//!
//! Both tables go on as they come. An admission whose day the manifest would not allow is left out with its codes, and
//! counted in the site's log; so is a code of a system that the manifest does not name.

use std::collections::BTreeSet;

use lockgate_guest::date::days;
use lockgate_guest::{Host, Level, Result, Window, module};

/// The first day that the manifest allows (`min`), that of the linkage rules of the hospital statistics.
const EARLIEST: i32 = days(1895, 1, 1);
/// The highest position of a code within its admission that the manifest allows.
const POSITION_MAX: f64 = 1_000.0;

/// The code systems that the manifest names for each column.
const CODE_SYSTEMS: &[&str] = &["icd10", "opcs4", "snomed"];
const SPECIALTY_SYSTEMS: &[&str] = &["treatment-function", "main-specialty", "snomed"];
const PROVIDER_SYSTEMS: &[&str] = &["ods", "ods-site"];

/// The extract.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let refused = episodes(host)?;
    let codes_left_out = codes(host, &refused)?;
    if refused.len() + codes_left_out > 0 {
        let admissions = refused.len();
        host.log(Level::Info, &format!("left out: {admissions} admissions (dates), {codes_left_out} codes"));
    }
    Ok(())
}

module!(run);

/// Writes the admissions. Returns the numbers, as bits, of those that are left out.
fn episodes<H: Host>(host: &H) -> Result<BTreeSet<u64>> {
    const EPISODE: usize = 1;
    const ADMITTED: usize = 2;
    const DISCHARGED: usize = 3;
    const SPECIALTY: usize = 5;
    const PROVIDER: usize = 6;

    let Window { last_day, .. } = host.window();
    let mut refused = BTreeSet::new();
    let mut episodes = host.open("episodes")?;
    let not_specialty = episodes.codes_outside(SPECIALTY_SYSTEMS);
    let not_provider = episodes.codes_outside(PROVIDER_SYSTEMS);
    while let Some(mut batch) = episodes.next()? {
        let numbers = batch.numbers(EPISODE)?;
        let (admitted, discharged) = (batch.days(ADMITTED)?, batch.days(DISCHARGED)?);
        let fits = |day: Option<i32>| day.is_some_and(|day| (EARLIEST..=last_day).contains(&day));
        let kept: Vec<bool> =
            (0..batch.row_count()).map(|row| fits(admitted.at(row)) && fits(discharged.at(row))).collect();
        refused
            .extend(numbers.values.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(it, _)| it.to_bits()));
        batch.retain(|row| kept[row]);
        batch.blank_codes(SPECIALTY, &not_specialty)?;
        batch.blank_codes(PROVIDER, &not_provider)?;
        host.write("episodes", &batch)?;
    }
    Ok(refused)
}

/// Writes the diagnoses and procedures of the admissions that were written. Returns how many codes are left out.
fn codes<H: Host>(host: &H, refused: &BTreeSet<u64>) -> Result<usize> {
    const EPISODE: usize = 1;
    const POSITION: usize = 2;
    const CODE: usize = 3;

    let mut left_out = 0;
    let mut codes = host.open("episode-codes")?;
    let foreign = codes.codes_outside(CODE_SYSTEMS);
    while let Some(mut batch) = codes.next()? {
        let (numbers, positions) = (batch.numbers(EPISODE)?.values, batch.numbers(POSITION)?.values);
        let kept: Vec<bool> = numbers
            .iter()
            .zip(positions)
            .map(|(number, position)| {
                !refused.contains(&number.to_bits()) && (0.0..=POSITION_MAX).contains(position)
            })
            .collect();
        left_out += batch.retain(|row| kept[row]);
        left_out += batch.drop_codes(CODE, &foreign)?;
        host.write("episode-codes", &batch)?;
    }
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use lockgate_guest::canonical::{method, role};
    use lockgate_guest::testing::{TestHost, day};
    use lockgate_guest::{Category, Code, Day, Number, Patient};

    use super::*;

    type Episode = (Patient, Number, Day, Option<Day>, Category, Option<Code>, Option<Code>);
    type EpisodeCode = (Patient, Number, Number, Code, Category);

    /// The greatest number that a list of numbers holds exactly.
    const EPISODE: f64 = 9_007_199_254_740_991.0;

    fn episode(number: f64, admitted: &str, specialty: u32) -> Episode {
        (
            Patient(1),
            Number(number),
            Day(day(admitted)),
            Some(Day(day("2026-01-20"))),
            Category(method::EMERGENCY),
            Some(Code(specialty)),
            None,
        )
    }

    fn code(number: f64, code: u32) -> EpisodeCode {
        (Patient(1), Number(number), Number(1.0), Code(code), Category(role::DIAGNOSIS))
    }

    #[test]
    fn admissions_and_codes_go_on_as_they_come() {
        let mut host = TestHost::new("2026-01-01", "2026-01-31");
        let (cardiology, infarction) = (host.code("treatment-function", "320"), host.code("icd10", "I219"));
        let episodes = [episode(EPISODE, "2026-01-02", cardiology), episode(1.0, "2025-11-02", cardiology)];
        let codes = [code(EPISODE, infarction), code(1.0, infarction)];
        host.input("episodes", episodes);
        host.input("episode-codes", codes);
        run(&host).unwrap();
        assert_eq!(host.rows::<Episode>("episodes"), episodes);
        assert_eq!(host.rows::<EpisodeCode>("episode-codes"), codes);
        assert!(host.log_lines().is_empty());
    }

    #[test]
    fn an_admission_that_is_left_out_takes_its_codes_along() {
        let mut host = TestHost::new("2026-01-01", "2026-01-31");
        let (local, infarction) = (host.code("ward", "12"), host.code("icd10", "I219"));
        host.input("episodes", [episode(2.0, "1800-01-01", local), episode(3.0, "2026-01-02", local)]);
        host.input("episode-codes", [code(2.0, infarction), code(3.0, infarction), code(3.0, local)]);
        run(&host).unwrap();
        let mut written = episode(3.0, "2026-01-02", local);
        written.5 = None;
        assert_eq!(host.rows::<Episode>("episodes"), [written]);
        assert_eq!(host.rows::<EpisodeCode>("episode-codes"), [code(3.0, infarction)]);
        assert_eq!(host.log_lines(), ["left out: 1 admissions (dates), 2 codes"]);
    }
}
