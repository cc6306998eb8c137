//! Modules that are signed, approved, and misbehave quietly: they run to their end and try to say what they may not. What they
//! said is looked for in what leaves.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use lockgate_tests::opened::{Cell, OpenedBundle, Row};
use lockgate_tests::{SiteOptions, Stage};

use crate::TestResult;
use crate::record::{DISSENT, Entry, PLAIN, Record, WITHDRAWN};

/// How a practice is stored. None of it may be seen in what leaves.
struct Storage {
    /// The order in which patients and their entries were written.
    order: Vec<usize>,
    local_id: fn(usize) -> String,
    /// Somebody who objects, written among the others, with codes that nobody else has.
    objector: bool,
}

const PATIENTS: usize = 40;

/// Codes that entries have, the first of them more often.
const CODES: [&str; 4] = ["60621009", "44054006", "73211009", "46635009"];

fn practice(path: &Path, storage: &Storage) -> TestResult {
    let record = Record::create(path)?;
    let (entered, effective) = ("2013-01-01", Some("2013-01-01"));
    for (place, &number) in storage.order.iter().enumerate() {
        let id = (storage.local_id)(number);
        record.patient(&id, number as u64, "E01990001")?;
        for entry in 0..=number % 5 {
            let code = CODES[(number * entry) % CODES.len()];
            let entered = format!("2026-10-{:02}", 1 + (number * 7 + entry) % 28);
            let plain = Entry { patient: &id, code, entered: &entered, effective: Some(&entered), ..PLAIN };
            record.entry(&plain)?;
        }
        if number == 0 {
            // Evidence that there is evidence.
            record.entry(&Entry { patient: &id, entered, effective, ..WITHDRAWN })?;
        }
        if storage.objector && place == PATIENTS / 2 {
            let objector = (storage.local_id)(9_999);
            record.patient(&objector, 9_999, "E01990001")?;
            record.entry(&Entry { patient: &objector, entered, effective, ..DISSENT })?;
            for code in ["315051004", "43396009", CODES[0]] {
                record.entry(&Entry { patient: &objector, code, ..PLAIN })?;
            }
        }
    }
    Ok(())
}

fn number_of(row: &Row, column: &str) -> Option<f64> {
    match row.get(column) {
        Some(Cell::Number(number)) => Some(*number),
        _ => None,
    }
}

#[test]
fn a_module_sees_nothing_of_how_the_practice_is_stored_or_of_who_objects() -> TestResult {
    let stage = Stage::new(&["bad/tells-order"])?;
    let plain = |number| format!("{}", 5_000_000 + number);
    let scattered = |number: usize| format!("{}", 7_000_000 + number * 7_919 % 10_007);
    let forwards: Vec<usize> = (0..PATIENTS).collect();
    let backwards: Vec<usize> = forwards.iter().rev().copied().collect();
    let scrambled: Vec<usize> = (0..PATIENTS).map(|number| number * 17 % PATIENTS).collect();
    let storages = [
        ("A81001", Storage { order: forwards.clone(), local_id: plain, objector: false }),
        ("A81002", Storage { order: backwards, local_id: plain, objector: false }),
        ("A81003", Storage { order: scrambled, local_id: scattered, objector: false }),
        ("A81004", Storage { order: forwards, local_id: scattered, objector: true }),
    ];
    let mut first: Option<OpenedBundle> = None;
    for (id, storage) in storages {
        let database = stage.folder().join(id).with_extension("sqlite");
        practice(&database, &storage)?;
        let site = stage.site(id, SiteOptions::practice(id, &database))?;
        let logged = site.command(&["--log", "trace", "run"])?.ok()?;
        // What the module logs stays at the site, and holds no identity even there.
        ensure!(logged.stderr.contains("row 0 is of"), "the module logged nothing: {}", logged.stderr);
        for number in (0..PATIENTS).chain([9_999]) {
            let local_id = (storage.local_id)(number);
            ensure!(
                !(logged.stdout.clone() + &logged.stderr).contains(&local_id),
                "{id}: {local_id} is in the log"
            );
        }
        let october = OpenedBundle::stored(&stage.linker, &site)?.remove(3);
        let withheld = october.header.counts.withheld_type_1;
        ensure!(withheld == u64::from(storage.objector), "{id}: {withheld} withheld");
        ensure!(october.rows("told").len() > 4 * PATIENTS, "{id}: the module told nothing");
        let Some(first) = &first else {
            first = Some(october);
            continue;
        };
        ensure!(
            first.rows("told") == october.rows("told"),
            "{id}: the module saw how the practice is stored"
        );
        let tokens =
            |bundle: &OpenedBundle| bundle.patients.iter().map(|patient| patient.token).collect::<Vec<_>>();
        ensure!(tokens(first) == tokens(&october), "{id}: the token table has another order");
        ensure!(first.codes == october.codes, "{id}: the dictionary has another order");
        ensure!(first.header.fuel == october.header.fuel, "{id}: the module did another amount of work");
        ensure!(first.header.bytes() == october.header.bytes(), "{id}: the blocks have another size");
    }
    Ok(())
}

/// What a module made of October, at a synthetic practice of this many patients.
fn october(module: &str, patients: u32) -> anyhow::Result<Vec<OpenedBundle>> {
    let stage = Stage::new(&[module])?;
    let database: PathBuf = stage.practice_database("practice", patients)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    OpenedBundle::stored(&stage.linker, &site)
}

#[test]
fn a_module_remembers_nothing_from_one_month_to_the_next() -> TestResult {
    let bundles = october("bad/remembers", 200)?;
    ensure!(bundles.len() == 4, "{} bundles", bundles.len());
    for row in bundles.iter().flat_map(|bundle| bundle.rows("rows")) {
        ensure!(number_of(row, "number") == Some(1.0), "run {:?}", number_of(row, "number"));
    }
    Ok(())
}

#[test]
fn nothing_is_left_of_a_message_in_floating_point_numbers() -> TestResult {
    let bundles = october("bad/hides-in-floats", 200)?;
    let rows = bundles[3].rows("rows");
    ensure!(rows.len() == 10, "{} rows", rows.len());
    for (place, row) in rows.iter().enumerate() {
        let bits = number_of(row, "number").map(f64::to_bits);
        let expected = match place {
            9 => None,
            8 => Some(0.0_f64.to_bits()),
            _ => Some(1.5_f64.to_bits()),
        };
        ensure!(bits == expected, "row {place}: {bits:x?}");
    }
    Ok(())
}

#[test]
fn a_cell_for_each_patient_and_one_patient_as_many_are_not_released() -> TestResult {
    let each = october("bad/cell-a-patient", 200)?.remove(3);
    ensure!(each.rows("each").is_empty(), "{} cells of one patient", each.rows("each").len());
    // The module works: the cell of all of them is there, and rounded. It is the only cell that there could be: beside empty
    // ones it would be hidden, since whoever knows how many patients there are could tell that those are empty.
    let all = each.rows("all");
    let count = all.first().and_then(|row| number_of(row, "patients")).unwrap_or_default();
    ensure!(all.len() == 1 && count >= 50.0 && count % 5.0 == 0.0, "{count} in all");
    // Neither the number of what is hidden nor a patient's token leaves.
    let suppressed = each.header.counts.cells_suppressed;
    ensure!(suppressed >= count as u64 - 5 && suppressed.is_multiple_of(5), "{suppressed} hidden");
    ensure!(each.patients.is_empty() && each.header.patients.is_empty(), "an aggregate sends tokens");

    let one = october("bad/counts-one-as-many", 200)?.remove(3);
    ensure!(one.rows("each").is_empty() && one.rows("all").is_empty(), "one patient is released as many");
    Ok(())
}

#[test]
fn the_work_that_a_module_does_is_told_in_powers_of_two() -> TestResult {
    for bundle in october("bad/tells-order", 200)? {
        ensure!(bundle.header.fuel.is_power_of_two(), "{} units of fuel", bundle.header.fuel);
    }
    Ok(())
}
