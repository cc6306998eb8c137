//! The monthly GP extract: coded events and prescriptions of the window, and the patients that they are about.
//!
//! Events and prescriptions go on as they come, batch by batch: this is the module that meets every row of a practice.
//! Of a row that the manifest would not allow (a date in the future, a number that cannot be one) the value is left
//! out; a code of a system that the manifest does not name leaves the row out. Both are counted in the site's log.

use lockgate_guest::date::days;
use lockgate_guest::{Bitmap, Host, Level, Result, Window, module};

/// The first day that the manifest allows (`min`), that of the linkage rules of the hospital statistics.
const EARLIEST: i32 = days(1895, 1, 1);

/// The greatest magnitude of an observed value that the manifest allows.
const VALUE_MAX: f64 = 1e9;
/// The greatest quantity that the manifest allows.
const QUANTITY_MAX: f64 = 1e6;
/// The longest prescription that the manifest allows, days.
const DAYS_MAX: f64 = 3_660.0;

/// The code systems that the manifest names in any column.
const SYSTEMS: &[&str] = &[
    "snomed",
    "read2",
    "ctv3",
    "dmd",
    "icd10",
    "opcs4",
    "loinc",
    "rxnorm",
    "cvx",
    "ucum",
    "ethnic-category",
    "lsoa",
    "msoa",
];

/// The extract.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut active = Bitmap::default();
    let mut left_out = LeftOut::default();
    events(host, &mut active, &mut left_out)?;
    prescriptions(host, &mut active, &mut left_out)?;
    patients(host, &active, &mut left_out)?;
    left_out.log(host);
    Ok(())
}

module!(run);

/// Every coded observation of the window.
fn events<H: Host>(host: &H, active: &mut Bitmap, left_out: &mut LeftOut) -> Result<()> {
    const PATIENT: usize = 0;
    const EFFECTIVE: usize = 1;
    const CODE: usize = 3;
    const VALUE: usize = 4;
    const UNIT: usize = 5;

    let Window { last_day, .. } = host.window();
    let mut observations = host.open("observations")?;
    let foreign = observations.codes_outside(SYSTEMS);
    let any_foreign = !foreign.is_empty();
    while let Some(mut batch) = observations.next()? {
        if any_foreign {
            left_out.rows += batch.drop_codes(CODE, &foreign)?;
            left_out.values += batch.blank_codes(UNIT, &foreign)?;
        }
        left_out.values += batch.blank_days_outside(EFFECTIVE, EARLIEST..=last_day)?;
        left_out.values += batch.blank_numbers_outside(VALUE, -VALUE_MAX..=VALUE_MAX)?;
        active.insert_runs(batch.patients(PATIENT)?);
        host.write("events", &batch)?;
    }
    Ok(())
}

/// Every prescription of the window.
fn prescriptions<H: Host>(host: &H, active: &mut Bitmap, left_out: &mut LeftOut) -> Result<()> {
    const PATIENT: usize = 0;
    const ISSUED: usize = 1;
    const CODE: usize = 3;
    const QUANTITY: usize = 4;
    const DAYS: usize = 5;

    let Window { last_day, .. } = host.window();
    let mut medications = host.open("medications")?;
    let foreign = medications.codes_outside(SYSTEMS);
    let any_foreign = !foreign.is_empty();
    while let Some(mut batch) = medications.next()? {
        if any_foreign {
            left_out.rows += batch.drop_codes(CODE, &foreign)?;
        }
        left_out.values += batch.blank_days_outside(ISSUED, EARLIEST..=last_day)?;
        left_out.values += batch.blank_numbers_outside(QUANTITY, 0.0..=QUANTITY_MAX)?;
        left_out.values += batch.blank_numbers_outside(DAYS, 0.0..=DAYS_MAX)?;
        active.insert_runs(batch.patients(PATIENT)?);
        host.write("prescriptions", &batch)?;
    }
    Ok(())
}

/// The patients with activity in the window who were registered for any part of it: one row each, of the registration
/// that is current at the window's end or was the last, also when they came back within it.
fn patients<H: Host>(host: &H, active: &Bitmap, left_out: &mut LeftOut) -> Result<()> {
    const PATIENT: usize = 0;
    const BIRTH_MONTH: usize = 2;
    const ETHNICITY: usize = 3;
    const AREA: usize = 4;
    const REGISTERED_FROM: usize = 5;
    const REGISTERED_UNTIL: usize = 6;
    const WRITTEN: usize = 5;

    let Window { first_day, last_day } = host.window();
    let patients = host.open("patients")?;
    let foreign = patients.codes_outside(SYSTEMS);
    let any_foreign = !foreign.is_empty();
    let mut persons = patients.one_row_a_person(REGISTERED_FROM, REGISTERED_UNTIL);
    while let Some(mut batch) = persons.next()? {
        let ids = batch.patients(PATIENT)?;
        let born = batch.days(BIRTH_MONTH)?;
        let from = batch.days(REGISTERED_FROM)?;
        let until = batch.days(REGISTERED_UNTIL)?;
        let mut kept = Bitmap::default();
        for (row, &patient) in (0_u32..).zip(ids) {
            let at = row as usize;
            let registered = from.at(at).is_none_or(|day| day <= last_day)
                && until.at(at).is_none_or(|day| day >= first_day);
            if !registered || !active.contains(patient) {
                continue;
            }
            if born.at(at).is_some_and(|day| (EARLIEST..=last_day).contains(&day)) {
                kept.insert(row);
            } else {
                left_out.rows += 1;
            }
        }
        batch.retain(|row| kept.contains(row as u32));
        if any_foreign {
            left_out.values += batch.blank_codes(ETHNICITY, &foreign)?;
            left_out.values += batch.blank_codes(AREA, &foreign)?;
        }
        batch.truncate_columns(WRITTEN);
        host.write("patients", &batch)?;
    }
    Ok(())
}

/// What the extract left out because the manifest would not allow it.
#[derive(Default)]
struct LeftOut {
    rows: usize,
    values: usize,
}

impl LeftOut {
    fn log<H: Host>(&self, host: &H) {
        if self.rows + self.values > 0 {
            let Self { rows, values } = self;
            host.log(
                Level::Info,
                &format!(
                    "left out: {rows} rows (code system or birth month), {values} values (out of range)"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use lockgate_guest::canonical::{kind, sex};
    use lockgate_guest::testing::{TestHost, day};
    use lockgate_guest::{Category, Code, Day, Number, Patient};

    use super::*;

    type Observation = (Patient, Option<Day>, Day, Code, Option<Number>, Option<Code>, Category);
    type Medication = (Patient, Option<Day>, Day, Code, Option<Number>, Option<Number>);
    type Registration = (Patient, Category, Day, Option<Code>, Option<Code>, Option<Day>, Option<Day>);
    type Demographics = (Patient, Category, Day, Option<Code>, Option<Code>);

    fn observation(patient: u32, code: u32) -> Observation {
        let recorded = day("2026-01-10");
        (
            Patient(patient),
            Some(Day(recorded)),
            Day(recorded),
            Code(code),
            None,
            None,
            Category(kind::FINDING),
        )
    }

    fn registration(patient: u32, until: Option<&str>) -> Registration {
        let from = Some(Day(day("2001-05-01")));
        let until = until.map(|text| Day(day(text)));
        (Patient(patient), Category(sex::FEMALE), Day(day("1980-02-01")), None, None, from, until)
    }

    /// A host for January 2026 with these rows, run.
    fn extract(
        mut host: TestHost,
        observations: Vec<Observation>,
        medications: Vec<Medication>,
        patients: Vec<Registration>,
    ) -> TestHost {
        host.input("observations", observations);
        host.input("medications", medications);
        host.input("patients", patients);
        run(&host).unwrap();
        host
    }

    fn january() -> TestHost {
        TestHost::new("2026-01-01", "2026-01-31")
    }

    #[test]
    fn events_and_prescriptions_go_on_as_they_come() {
        let mut host = january();
        let (asthma, kilogram, inhaler) = (
            host.code("snomed", "195967001"),
            host.code("ucum", "kg"),
            host.code("dmd", "39113611000001102"),
        );
        let mut weight = observation(1, asthma);
        (weight.4, weight.5) = (Some(Number(81.5)), Some(Code(kilogram)));
        let issued = Day(day("2026-01-12"));
        let medication =
            (Patient(2), Some(issued), issued, Code(inhaler), Some(Number(200.0)), Some(Number(28.0)));
        let observations = vec![observation(1, asthma), weight, observation(3, asthma)];
        let host = extract(host, observations.clone(), vec![medication], vec![]);
        assert_eq!(host.rows::<Observation>("events"), observations);
        assert_eq!(host.rows::<Medication>("prescriptions"), [medication]);
        assert!(host.log_lines().is_empty());
    }

    #[test]
    fn patients_are_those_with_activity_who_were_registered_in_the_window() {
        let mut host = january();
        let asthma = host.code("snomed", "195967001");
        let issued = Day(day("2026-01-12"));
        let host = extract(
            host,
            vec![observation(1, asthma), observation(3, asthma), observation(4, asthma)],
            vec![(Patient(9), Some(issued), issued, Code(asthma), None, None)],
            vec![
                registration(1, None),
                registration(2, None),
                registration(3, Some("2025-12-31")),
                registration(4, Some("2026-01-01")),
                registration(9, None),
            ],
        );
        let patients: Vec<u32> =
            host.rows::<Demographics>("patients").iter().map(|(patient, ..)| patient.0).collect();
        assert_eq!(patients, [1, 4, 9]);
    }

    #[test]
    fn who_is_registered_twice_is_one_patient() {
        let mut host = january();
        let asthma = host.code("snomed", "195967001");
        let (here, there) = (host.code("lsoa", "E01000001"), host.code("lsoa", "E01000002"));
        let living = |patient, area, from: &str, until| {
            let mut registration = registration(patient, until);
            (registration.4, registration.5) = (Some(Code(area)), Some(Day(day(from))));
            registration
        };
        let host = extract(
            host,
            vec![observation(1, asthma), observation(2, asthma), observation(3, asthma)],
            vec![],
            vec![
                // Came back within the window.
                living(1, there, "2020-01-01", Some("2026-01-10")),
                living(1, here, "2026-01-20", None),
                // Left in the window, and another time before it.
                living(2, here, "2024-01-01", Some("2026-01-10")),
                living(2, there, "2020-01-01", Some("2022-01-01")),
                // Left before the window, and came back after it.
                living(3, here, "2020-01-01", Some("2025-12-31")),
                living(3, here, "2026-02-01", None),
            ],
        );
        let patients: Vec<(u32, Option<Code>)> =
            host.rows::<Demographics>("patients").iter().map(|row| (row.0.0, row.4)).collect();
        assert_eq!(patients, [(1, Some(Code(here))), (2, Some(Code(here)))]);
    }

    #[test]
    fn what_the_manifest_would_not_allow_is_left_out_and_counted() {
        let mut host = january();
        let (asthma, local) = (host.code("snomed", "195967001"), host.code("emis-local", "EMISNQ1"));
        let mut future = observation(2, asthma);
        future.1 = Some(Day(day("2062-01-10")));
        future.4 = Some(Number(1e12));
        future.5 = Some(Code(local));
        let mut unborn = registration(2, None);
        unborn.2 = Day(day("2026-02-01"));
        let host =
            extract(host, vec![observation(1, local), future], vec![], vec![registration(1, None), unborn]);
        let mut blanked = observation(2, asthma);
        blanked.1 = None;
        assert_eq!(host.rows::<Observation>("events"), [blanked]);
        assert!(host.rows::<Demographics>("patients").is_empty());
        assert_eq!(
            host.log_lines(),
            ["left out: 2 rows (code system or birth month), 3 values (out of range)"]
        );
    }
}
