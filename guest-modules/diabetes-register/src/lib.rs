//! The diabetes register: who is on it, their latest HbA1c and body mass index, and how many they are.
//!
//! Which codes mean what is in the manifest's codelists, so that a new edition of them needs no new code.

use lockgate_guest::date::{month_first, years_between};
use lockgate_guest::{
    Category, Code, Day, Host, Number, Patient, PatientMap, Result, RowWriter, Window, module,
};

/// The HbA1c values that the manifest allows: mmol/mol and per cent alike.
const HBA1C: core::ops::RangeInclusive<f64> = 1.0..=250.0;
/// The body mass indices that the manifest allows, kg/m².
const BMI: core::ops::RangeInclusive<f64> = 5.0..=200.0;
/// The age bands: nine of ten years, and 90 years and over.
const BANDS: i32 = 10;

/// The register and its counts.
pub fn run<H: Host>(host: &H) -> Result<()> {
    let mut people = diagnoses(host)?;
    measurements(host, &mut people)?;
    write(host, &people)
}

module!(run);

/// What is known of one person.
#[derive(Debug, Clone, Copy, Default)]
struct Person {
    diagnosed: Option<i32>,
    resolved: Option<i32>,
    hba1c: Option<Measured>,
    bmi: Option<Measured>,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Measured {
    day: i32,
    value: f64,
    unit: Option<u32>,
}

impl Person {
    /// Diagnosed, and not declared free of it on a later day.
    fn is_diabetic(&self) -> bool {
        self.diagnosed.is_some_and(|diagnosed| self.resolved.is_none_or(|resolved| resolved <= diagnosed))
    }
}

/// The last diagnosis and the last resolution of everybody who has either.
fn diagnoses<H: Host>(host: &H) -> Result<PatientMap<Person>> {
    const PATIENT: usize = 0;
    const EFFECTIVE: usize = 1;
    const RECORDED: usize = 2;
    const CODE: usize = 3;

    let Window { last_day, .. } = host.window();
    let mut people = PatientMap::<Person>::default();
    let mut diagnoses = host.open("diagnoses")?;
    let (diabetes, resolved) = (diagnoses.codelist("diabetes")?, diagnoses.codelist("diabetes-resolved")?);
    let either = diabetes.union(&resolved);
    while let Some(batch) = diagnoses.next()? {
        let patients = batch.patients(PATIENT)?;
        let (effective, recorded) = (batch.days(EFFECTIVE)?, batch.days(RECORDED)?);
        let codes = batch.codes(CODE)?;
        for row in batch.rows_with_codes(CODE, &either)? {
            // A diagnosis with no day of its own, or one in the future, counts from the day when it was entered.
            let day = effective.at(row).filter(|&day| day <= last_day).or(recorded.at(row));
            let (Some(day), Some(code)) = (day, codes.at(row)) else { continue };
            let person = people.entry(patients[row]);
            if diabetes.contains(code) {
                person.diagnosed = person.diagnosed.max(Some(day));
            }
            if resolved.contains(code) {
                person.resolved = person.resolved.max(Some(day));
            }
        }
    }
    Ok(people)
}

/// The latest plausible HbA1c and body mass index of everybody with a diagnosis.
fn measurements<H: Host>(host: &H, people: &mut PatientMap<Person>) -> Result<()> {
    const PATIENT: usize = 0;
    const EFFECTIVE: usize = 1;
    const CODE: usize = 2;
    const VALUE: usize = 3;
    const UNIT: usize = 4;

    let mut measurements = host.open("measurements")?;
    let (hba1c, bmi) = (measurements.codelist("hba1c")?, measurements.codelist("bmi")?);
    let either = hba1c.union(&bmi);
    let not_ucum = measurements.codes_outside(&["ucum"]);
    while let Some(batch) = measurements.next()? {
        let patients = batch.patients(PATIENT)?;
        let (effective, codes) = (batch.days(EFFECTIVE)?, batch.codes(CODE)?);
        let (values, units) = (batch.numbers(VALUE)?, batch.codes(UNIT)?);
        for row in batch.rows_with_codes(CODE, &either)? {
            let Some(person) = people.get_mut(patients[row]) else { continue };
            let (Some(day), Some(code), Some(value)) = (effective.at(row), codes.at(row), values.at(row))
            else {
                continue;
            };
            let measured =
                Measured { day, value, unit: units.at(row).filter(|&unit| !not_ucum.contains(unit)) };
            if hba1c.contains(code) && HBA1C.contains(&value) {
                person.hba1c = Some(latest(person.hba1c, measured));
            }
            if bmi.contains(code) && BMI.contains(&value) {
                person.bmi = Some(latest(person.bmi, measured));
            }
        }
    }
    Ok(())
}

/// The later of two; on one day the second, because the host's order of rows is the same in every run.
fn latest(known: Option<Measured>, next: Measured) -> Measured {
    known.filter(|known| known.day > next.day).unwrap_or(next)
}

/// Who is diabetic, registered and alive at the end of the window, and their number by sex and age.
fn write<H: Host>(host: &H, people: &PatientMap<Person>) -> Result<()> {
    const PATIENT: usize = 0;
    const SEX: usize = 1;
    const BIRTH_MONTH: usize = 2;
    const DEATH_MONTH: usize = 3;
    const REGISTERED_FROM: usize = 4;
    const REGISTERED_UNTIL: usize = 5;

    let Window { last_day, .. } = host.window();
    let month = month_first(last_day);
    let mut rows = RowWriter::new(host, "register");
    // The host counts the patients of each cell.
    let mut cells = RowWriter::new(host, "counts");
    // A person who came back has two registrations, and counts once.
    let mut persons = host.open("patients")?.one_row_a_person(REGISTERED_FROM, REGISTERED_UNTIL);
    while let Some(batch) = persons.next()? {
        let ids = batch.patients(PATIENT)?;
        let (sexes, born, died) =
            (batch.categories(SEX)?, batch.days(BIRTH_MONTH)?, batch.days(DEATH_MONTH)?);
        let (from, until) = (batch.days(REGISTERED_FROM)?, batch.days(REGISTERED_UNTIL)?);
        for (row, patient) in ids.iter().enumerate() {
            let Some(person) = people.get(*patient).filter(|person| person.is_diabetic()) else { continue };
            let registered = from.at(row).is_none_or(|day| day <= last_day)
                && until.at(row).is_none_or(|day| day >= last_day);
            let alive = died.at(row).is_none_or(|day| day > month);
            let (Some(sex), Some(born)) = (sexes.at(row), born.at(row)) else { continue };
            if !(registered && alive) {
                continue;
            }
            rows.push((
                Patient(*patient),
                person.hba1c.map(|it| Number(it.value)),
                person.hba1c.and_then(|it| it.unit).map(Code),
                person.hba1c.map(|it| Day(it.day)),
                person.bmi.map(|it| Number(it.value)),
                person.bmi.map(|it| Day(it.day)),
            ))?;
            let band = (years_between(born, last_day) / 10).clamp(0, BANDS - 1);
            cells.push((Patient(*patient), Category(sex), Category(band as u8)))?;
        }
    }
    rows.finish()?;
    cells.finish()
}

#[cfg(test)]
mod tests {
    use lockgate_guest::canonical::sex;
    use lockgate_guest::testing::{TestHost, day};

    use super::*;

    type Diagnosis = (Patient, Option<Day>, Day, Code);
    type Measurement = (Patient, Option<Day>, Code, Option<Number>, Option<Code>);
    type Registration = (Patient, Category, Day, Option<Day>, Option<Day>, Option<Day>);
    type OnRegister = (Patient, Option<Number>, Option<Code>, Option<Day>, Option<Number>, Option<Day>);
    type Counted = (Patient, Category, Category);

    struct Practice {
        host: TestHost,
        diabetes: u32,
        resolved: u32,
        hba1c: u32,
        bmi: u32,
        mmol: u32,
    }

    impl Practice {
        fn new() -> Self {
            let mut host = TestHost::new("2026-01-01", "2026-01-31");
            let diabetes = host.code("snomed", "44054006");
            let resolved = host.code("snomed", "315051004");
            let hba1c = host.code("loinc", "4548-4");
            let bmi = host.code("read2", "22K..");
            let mmol = host.code("ucum", "mmol/mol");
            host.codelist("diabetes", &[diabetes]);
            host.codelist("diabetes-resolved", &[resolved]);
            host.codelist("hba1c", &[hba1c]);
            host.codelist("bmi", &[bmi]);
            Self { host, diabetes, resolved, hba1c, bmi, mmol }
        }

        fn run(
            mut self,
            diagnoses: Vec<Diagnosis>,
            measurements: Vec<Measurement>,
            patients: Vec<Registration>,
        ) -> TestHost {
            self.host.input("diagnoses", diagnoses);
            self.host.input("measurements", measurements);
            self.host.input("patients", patients);
            run(&self.host).unwrap();
            self.host
        }
    }

    fn on(text: &str) -> Option<Day> {
        Some(Day(day(text)))
    }

    fn diagnosis(patient: u32, code: u32, effective: Option<&str>) -> Diagnosis {
        (Patient(patient), effective.and_then(on), Day(day("2020-01-01")), Code(code))
    }

    fn registration(patient: u32, born: &str) -> Registration {
        (Patient(patient), Category(sex::MALE), Day(day(born)), None, None, None)
    }

    fn register(host: &TestHost) -> Vec<u32> {
        host.rows::<OnRegister>("register").iter().map(|(patient, ..)| patient.0).collect()
    }

    #[test]
    fn who_was_declared_free_of_it_later_is_not_on_the_register() {
        let practice = Practice::new();
        let (diabetes, resolved) = (practice.diabetes, practice.resolved);
        let diagnoses = vec![
            diagnosis(1, diabetes, Some("2010-03-01")),
            diagnosis(2, diabetes, Some("2010-03-01")),
            diagnosis(2, resolved, Some("2015-03-01")),
            diagnosis(3, diabetes, Some("2016-03-01")),
            diagnosis(3, resolved, Some("2015-03-01")),
            diagnosis(4, diabetes, Some("2015-03-01")),
            diagnosis(4, resolved, Some("2015-03-01")),
            diagnosis(5, resolved, Some("2015-03-01")),
            // Undated: counts from its entry in 2020, after the resolution.
            diagnosis(6, diabetes, None),
            diagnosis(6, resolved, Some("2015-03-01")),
            // Dated in the future: counts from its entry in 2020, before the next diagnosis.
            diagnosis(7, resolved, Some("2030-03-01")),
            diagnosis(7, diabetes, Some("2021-03-01")),
        ];
        let patients = (1..=8).map(|patient| registration(patient, "1960-01-01")).collect();
        assert_eq!(register(&practice.run(diagnoses, vec![], patients)), [1, 3, 4, 6, 7]);
    }

    #[test]
    fn who_left_or_died_is_not_on_the_register() {
        let practice = Practice::new();
        let diagnoses = (1..=6).map(|patient| diagnosis(patient, practice.diabetes, None)).collect();
        let mut patients: Vec<Registration> =
            (1..=6).map(|patient| registration(patient, "1960-01-01")).collect();
        patients[0].3 = on("2026-01-01");
        patients[1].3 = on("2026-02-01");
        patients[2].4 = on("2026-02-01");
        patients[3].5 = on("2026-01-30");
        patients[4].5 = on("2026-01-31");
        assert_eq!(register(&practice.run(diagnoses, vec![], patients)), [2, 5, 6]);
    }

    #[test]
    fn who_is_registered_twice_is_on_the_register_once_and_counts_once() {
        let practice = Practice::new();
        let diagnoses = (1..=3).map(|patient| diagnosis(patient, practice.diabetes, None)).collect();
        let registered = |patient, from, until: Option<&str>| {
            let mut registration = registration(patient, "1960-01-01");
            (registration.4, registration.5) = (on(from), until.and_then(on));
            registration
        };
        let patients = vec![
            registered(1, "2001-01-01", None),
            registered(1, "2020-01-01", None),
            registered(2, "2001-01-01", Some("2025-12-31")),
            registered(2, "2026-01-31", None),
            registered(3, "2001-01-01", Some("2025-12-31")),
            registered(3, "2026-02-01", None),
        ];
        let host = practice.run(diagnoses, vec![], patients);
        assert_eq!(register(&host), [1, 2]);
        let counted = |patient| (Patient(patient), Category(sex::MALE), Category(6));
        assert_eq!(host.rows::<Counted>("counts"), [counted(1), counted(2)]);
    }

    #[test]
    fn the_latest_plausible_measurement_counts() {
        let practice = Practice::new();
        let (hba1c, bmi, mmol, diabetes) = (practice.hba1c, practice.bmi, practice.mmol, practice.diabetes);
        let measured = |code, date, value, unit: Option<u32>| {
            (Patient(1), on(date), Code(code), Some(Number(value)), unit.map(Code))
        };
        let host = practice.run(
            vec![diagnosis(1, diabetes, None)],
            vec![
                measured(hba1c, "2025-06-01", 58.0, Some(mmol)),
                measured(bmi, "2025-07-01", 31.5, None),
                // A unit of no known system is left out.
                measured(hba1c, "2025-09-01", 53.0, Some(diabetes)),
                measured(hba1c, "2025-12-01", 5_300.0, Some(mmol)),
                (Patient(1), on("2025-12-24"), Code(hba1c), None, None),
            ],
            vec![registration(1, "1960-01-01")],
        );
        assert_eq!(
            host.rows::<OnRegister>("register"),
            [(Patient(1), Some(Number(53.0)), None, on("2025-09-01"), Some(Number(31.5)), on("2025-07-01"))]
        );
    }

    #[test]
    fn counts_are_by_sex_and_ten_years_of_age() {
        let practice = Practice::new();
        let diagnoses = (1..=5).map(|patient| diagnosis(patient, practice.diabetes, None)).collect();
        let births = ["1960-02-01", "1960-01-01", "1959-01-01", "1901-01-01", "2026-01-01"];
        let patients = (1..).zip(births).map(|(patient, born)| registration(patient, born)).collect();
        let host = practice.run(diagnoses, vec![], patients);
        let counted = |patient, band| (Patient(patient), Category(sex::MALE), Category(band));
        assert_eq!(
            host.rows::<Counted>("counts"),
            [counted(1, 6), counted(2, 6), counted(3, 6), counted(4, 9), counted(5, 0)],
            "born in February 1960 is still 65 on 31 January 2026"
        );
    }
}
