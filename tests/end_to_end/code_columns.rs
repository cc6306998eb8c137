//! Code columns are the one place where text leaves: what is not a code of its system does not.
//!
//! Read codes have no check digit, so five letters and digits that are no word (`M11AA`, a postcode without its space) pass
//! for one; only a list of all codes could tell.

use std::collections::BTreeSet;

use anyhow::ensure;
use lockgate_tests::opened::{Cell, OpenedBundle};
use lockgate_tests::{SiteOptions, Stage};
use practice::nhs_number::{NhsNumbers, spaced};

use crate::TestResult;
use crate::record::{Entry, PLAIN, Record};

/// What people type where a code belongs.
const TEXTS: &[&str] = &[
    "ZQXMARKER7",
    "Smith",
    "SMITH",
    "Lee",
    "John Smith",
    "smith@example.org",
    "see notes",
    "ask daughter",
    "kg (Smith)",
    "{Smith}",
    "[Smith]",
    "kg/Smith",
    "Smith.kg",
    "SW1A 2AA",
    "SW1A2AA",
    "07700900123",
    "1957-03-19",
    "19/03/1957",
    "19570319",
    "4611686018427000003",
    "ZQXMARKER7-4000000000000000001",
];

/// A new patient in every row, so that whose row is seen says which text was let through.
fn write(record: &Record, texts: &[String]) -> TestResult {
    let mut person = 0;
    let mut patient = |area: &str| {
        person += 1;
        let id = format!("46116860184{person:08}");
        record.patient(&id, person, area)?;
        anyhow::Ok(id)
    };
    let id = patient("E01990001")?;
    record.entry(&Entry { patient: &id, ..PLAIN })?;
    record.issue(&id, "39113611000001102", 7.0)?;
    // Evidence that there is evidence: somebody withdrew.
    let withdrawal = Entry {
        code: "827261000000102",
        kind: "CONS",
        code_kind: Some("CONS"),
        value: None,
        unit: None,
        ..PLAIN
    };
    record.entry(&Entry { patient: &id, entered: "2020-01-01", ..withdrawal })?;
    for text in texts {
        for system in ["SCT", "RCT2", "CTV3", "LN", "CVX"] {
            record.entry(&Entry { patient: &patient("E01990001")?, system, code: text, ..PLAIN })?;
        }
        record.issue(&patient("E01990001")?, text, 7.0)?;
        // A unit or an area that is none is left out; the row stays.
        record.entry(&Entry { patient: &patient(text)?, unit: Some(text), ..PLAIN })?;
    }
    record.connection.execute(
        "INSERT INTO Prescribing_IssueRecord SELECT PatientId, EnteredDate, EffectiveDate, 'RXN', Code, Quantity,
             CourseDurationInDays, IsDeleted, IsConfidential, IssueRecordId, DrugRecordId, UserId, QuantityUnit, Dosage
         FROM Prescribing_IssueRecord WHERE Code <> '39113611000001102'",
        [],
    )?;
    record
        .connection
        .execute("UPDATE Admin_Patient SET EthnicCategory = LsoaCode WHERE LsoaCode NOT LIKE 'E%'", [])?;
    Ok(())
}

#[test]
fn text_in_a_code_or_unit_column_does_not_leave() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = Record::create(&database)?;
    let mut texts: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    // Each of these once: a check digit alone would let one in ten through.
    let numbers = NhsNumbers::new(5);
    for place in 0..60 {
        let number = numbers.at(place)?;
        texts.extend([spaced(&number), number]);
    }
    write(&record, &texts)?;
    drop(record);
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;

    let bundles = OpenedBundle::stored(&stage.linker, &site)?;
    let october = bundles.last().ok_or_else(|| anyhow::anyhow!("nothing was sent"))?;
    let codes: BTreeSet<&str> = october.codes.iter().map(|(_, text)| text.as_str()).collect();
    let allowed = ["60621009", "kg/m2", "39113611000001102", "E01990001", "A"];
    ensure!(codes == BTreeSet::from(allowed), "these left: {codes:?}");
    // What does not need its code is there, without it; what is nothing but its code is not.
    let with_odd_unit =
        october.rows("events").iter().filter(|row| row.get("unit") == Some(&Cell::Missing)).count();
    ensure!(with_odd_unit == texts.len(), "{with_odd_unit} rows for {} odd units", texts.len());
    ensure!(october.rows("events").len() == texts.len() + 1 && october.rows("prescriptions").len() == 1);
    let counts = &october.header.counts;
    ensure!(counts.rows_malformed as usize == texts.len() * 7, "{counts:?}");
    Ok(())
}

#[test]
fn a_number_that_is_an_identifier_is_no_value() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = Record::create(&database)?;
    let number = record.patient("1000001", 1, "E01990001")?.parse::<f64>()?;
    record.entry(&Entry { patient: "1000001", value: Some(number), ..PLAIN })?;
    record.issue("1000001", "39113611000001102", number)?;
    let withdrawal = Entry { code: "827261000000102", kind: "CONS", code_kind: Some("CONS"), ..PLAIN };
    record.entry(&Entry { patient: "1000001", entered: "2020-01-01", ..withdrawal })?;
    drop(record);
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let bundles = OpenedBundle::stored(&stage.linker, &site)?;
    for (output, column) in [("events", "value"), ("prescriptions", "quantity")] {
        let rows = bundles.last().map_or(&[][..], |bundle| bundle.rows(output));
        ensure!(rows.len() == 1 && rows[0].get(column) == Some(&Cell::Missing), "{output}: {rows:?}");
    }
    Ok(())
}
