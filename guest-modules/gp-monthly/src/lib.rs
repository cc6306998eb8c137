//! The monthly GP extract: coded events and prescriptions of the window, and the patients that they are about.
//!
//! Events and prescriptions go on as they come, batch by batch: this is the module that meets every row of a practice.
//! Of a row that the manifest would not allow (a date in the future, a number that cannot be one) the value is left
//! out; a code of a system that the manifest does not name leaves the row out. Both are counted in the site's log.

use lockgate_guest::date::days;
use lockgate_guest::{Batch, Bitmap, Host, Level, Result, Window, module};

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
            left_out.rows += without(&mut batch, CODE, &foreign)?;
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
            left_out.rows += without(&mut batch, CODE, &foreign)?;
        }
        left_out.values += batch.blank_days_outside(ISSUED, EARLIEST..=last_day)?;
        left_out.values += batch.blank_numbers_outside(QUANTITY, 0.0..=QUANTITY_MAX)?;
        left_out.values += batch.blank_numbers_outside(DAYS, 0.0..=DAYS_MAX)?;
        active.insert_runs(batch.patients(PATIENT)?);
        host.write("prescriptions", &batch)?;
    }
    Ok(())
}

/// The patients with activity in the window who were registered for any part of it.
fn patients<H: Host>(host: &H, active: &Bitmap, left_out: &mut LeftOut) -> Result<()> {
    const PATIENT: usize = 0;
    const BIRTH_MONTH: usize = 2;
    const ETHNICITY: usize = 3;
    const AREA: usize = 4;
    const REGISTERED_FROM: usize = 5;
    const REGISTERED_UNTIL: usize = 6;
    const WRITTEN: usize = 5;

    let Window { first_day, last_day } = host.window();
    let mut patients = host.open("patients")?;
    let foreign = patients.codes_outside(SYSTEMS);
    let any_foreign = !foreign.is_empty();
    while let Some(mut batch) = patients.next()? {
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
        batch.retain(|_, row| kept.contains(row as u32));
        if any_foreign {
            left_out.values += batch.blank_codes(ETHNICITY, &foreign)?;
            left_out.values += batch.blank_codes(AREA, &foreign)?;
        }
        batch.truncate_columns(WRITTEN);
        host.write("patients", &batch)?;
    }
    Ok(())
}

/// Drops the rows whose code is in this set. Returns how many.
fn without(batch: &mut Batch, column: usize, codes: &Bitmap) -> Result<usize> {
    let kept: Bitmap = {
        let found = batch.codes(column)?.values;
        (0_u32..).zip(found).filter(|(_, code)| !codes.contains(**code)).map(|(row, _)| row).collect()
    };
    Ok(batch.retain(|_, row| kept.contains(row as u32)))
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
