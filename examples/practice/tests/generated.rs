//! What the generator promises of its files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;

use indicatif::ProgressBar;
use practice::draft::{Finish, Journal};
use practice::facts::{Facts, facts};
use practice::gp::{self, GpRequest, MadeGp};
use practice::hospital::{self, HospitalRequest};
use practice::objections::{self, CASES};
use rusqlite::{Connection, OpenFlags};

const MARKER: &str = "ZQXMARKER7";
const PLAIN: Finish = Finish { journal: Journal::Rollback, shuffle: None };

fn as_of() -> jiff::civil::Date {
    jiff::civil::date(2026, 11, 1)
}

fn request(marker: Option<&str>) -> GpRequest {
    GpRequest {
        seed: 5,
        patients: 2_000,
        number: 1,
        coded_per_patient_month: 4.75,
        issues_per_patient_month: 1.7,
        months: 3,
        as_of: as_of(),
        marker: marker.map(str::to_owned),
        objections_per_mille: 50,
    }
}

fn make(request: &GpRequest, out: &Path, finish: Finish) -> MadeGp {
    gp::make(request, out, false, finish, &ProgressBar::hidden()).unwrap()
}

fn open(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn tables(database: &Connection) -> Vec<String> {
    let mut statement = database
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        )
        .unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.collect::<Result<_, _>>().unwrap()
}

/// Every row of a table as text, in the order of the file.
fn rows(database: &Connection, table: &str) -> Vec<String> {
    let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let fields: Result<Vec<_>, _> =
            (0..columns).map(|column| row.get_ref(column).map(|value| format!("{value:?}"))).collect();
        Ok(fields?.join("|"))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn as_json(facts: &Facts) -> String {
    serde_json::to_string(facts).unwrap()
}

#[test]
fn the_same_request_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    make(&request(Some(MARKER)), &one, PLAIN);
    make(&request(Some(MARKER)), &two, PLAIN);
    assert!(std::fs::read(one).unwrap() == std::fs::read(two).unwrap());
}

#[test]
fn another_order_holds_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    make(&request(None), &one, PLAIN);
    make(&request(None), &two, Finish { shuffle: Some(9), ..PLAIN });
    let (one, two) = (open(&one), open(&two));
    for table in ["CareRecord_Observation", "Prescribing_IssueRecord", "Admin_Patient"] {
        let (mut one, mut two) = (rows(&one, table), rows(&two, table));
        let moved = one.iter().zip(&two).filter(|(one, two)| one != two).count();
        assert!(moved * 10 > one.len() * 9, "{table}: {moved} of {} rows moved", one.len());
        one.sort();
        two.sort();
        assert!(one == two, "{table}");
    }
}

#[test]
fn objections_come_of_every_kind_and_plain_sql_decides_them_as_the_cases_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("practice");
    let request = request(None);
    make(&request, &file, PLAIN);
    let database = open(&file);
    let evidence: i64 = database
        .query_row(
            "SELECT count(DISTINCT PatientId) FROM CareRecord_Observation WHERE EntryKind = 'CONS'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(evidence as usize > CASES.len(), "{evidence}");
    let decided = facts(&file, as_of(), 3).unwrap();
    // The generator numbers the people that object; the same number gives the same case.
    let (mut type_1, mut type_2) = (0, 0);
    let objectors = objectors_in_order(&database);
    for (number, entries) in objectors.iter().enumerate().take(CASES.len()) {
        let case = objections::case(number, 0);
        assert_eq!(*entries, case.entries.len(), "{}", case.name);
        type_1 += i64::from(case.type_1);
        type_2 += i64::from(case.type_2);
    }
    assert!(decided.type_1 >= type_1 && decided.type_2 >= type_2);
    let decided = facts_of_the_first(&file, &folder.path().join("first"), CASES.len());
    assert_eq!((decided.type_1, decided.type_2), (type_1, type_2));
}

/// How many entries each person that objects has, in the order in which they were written.
fn objectors_in_order(database: &Connection) -> Vec<usize> {
    let mut statement = database
        .prepare(
            "SELECT count(*) FROM CareRecord_Observation WHERE EntryKind = 'CONS' GROUP BY PatientId ORDER BY min(rowid)",
        )
        .unwrap();
    let counts = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    counts.map(|count| count.unwrap() as usize).collect()
}

/// The facts of a copy that keeps the objections of the first people only.
fn facts_of_the_first(file: &Path, copy: &Path, people: usize) -> Facts {
    std::fs::copy(file, copy).unwrap();
    let database = Connection::open(copy).unwrap();
    database
        .execute(
            "DELETE FROM CareRecord_Observation WHERE EntryKind = 'CONS' AND PatientId NOT IN
                 (SELECT PatientId FROM CareRecord_Observation WHERE EntryKind = 'CONS'
                  GROUP BY PatientId ORDER BY min(rowid) LIMIT ?1)",
            [people as i64],
        )
        .unwrap();
    facts(copy, as_of(), 3).unwrap()
}

#[test]
fn a_reader_that_ignores_the_log_misses_objections() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, wal] = ["plain", "wal"].map(|name| folder.path().join(name));
    make(&request(None), &plain, PLAIN);
    make(&request(None), &wal, Finish { journal: Journal::Wal, shuffle: None });
    let with_log = facts(&wal, as_of(), 3).unwrap();
    assert_eq!(as_json(&facts(&plain, as_of(), 3).unwrap()), as_json(&with_log));
    let copy = folder.path().join("without-log");
    std::fs::copy(&wal, &copy).unwrap();
    assert!(facts(&copy, as_of(), 3).unwrap().type_1 < with_log.type_1);
}

#[test]
fn the_marker_is_in_every_identifiable_field_of_one_patient_who_does_not_object() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("practice");
    let made = make(&request(Some(MARKER)), &file, PLAIN);
    let planted = made.planted.unwrap();
    let database = open(&file);
    let mut marked = BTreeSet::new();
    for table in tables(&database) {
        let statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        for column in statement.column_names() {
            let sql = format!("SELECT count(*) FROM {table} WHERE instr({column}, ?1) > 0");
            if database.query_row(&sql, [MARKER], |row| row.get::<_, i64>(0)).unwrap() > 0 {
                marked.insert(format!("{table}.{column}"));
            }
        }
    }
    for field in [
        "Admin_Patient.PatientId",
        "Admin_Patient.GivenName",
        "Admin_Patient.Surname",
        "Admin_Patient.HouseAndStreet",
        "Admin_Patient.Town",
        "Admin_Patient.HomePhone",
        "Admin_Patient.AdminNote",
        "Admin_UserInRole.Surname",
        "CareRecord_Observation.PatientId",
        "CareRecord_Observation.Code",
        "CareRecord_Observation.NumericUnit",
        "CareRecord_Observation.ValueText",
        "CareRecord_Observation.AssociatedText",
        "Prescribing_IssueRecord.PatientId",
        "Prescribing_IssueRecord.Dosage",
    ] {
        assert!(marked.contains(field), "{field}");
    }
    let id = &planted.local_ids[0];
    let one = |sql: &str| database.query_row(sql, [id], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(one("SELECT NhsNumber FROM Admin_Patient WHERE PatientId = ?1"), planted.nhs_number);
    assert_eq!(one("SELECT Postcode FROM Admin_Patient WHERE PatientId = ?1"), planted.postcode);
    for count in [
        "SELECT CAST(count(*) AS TEXT) FROM CareRecord_Observation WHERE PatientId = ?1 AND EntryKind = 'CONS'",
        "SELECT CAST(count(*) AS TEXT) FROM Admin_Patient WHERE PatientId = ?1 AND PatientKind <> 'regular'",
    ] {
        assert_eq!(one(count), "0");
    }
    for month in ["2026-08", "2026-09", "2026-10"] {
        let sql = format!(
            "SELECT CAST(count(*) AS TEXT) FROM CareRecord_Observation
             WHERE PatientId = ?1 AND IsDeleted = 0 AND EnteredDate LIKE '{month}-%'"
        );
        assert!(one(&sql).parse::<u32>().unwrap() >= 6, "{month}");
    }
}

#[test]
fn practices_and_hospital_share_people_and_two_practices_none() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, hospital] = ["one", "two", "hospital"].map(|name| folder.path().join(name));
    make(&request(None), &one, PLAIN);
    make(&GpRequest { number: 2, ..request(None) }, &two, PLAIN);
    let hospital_request = HospitalRequest {
        seed: 5,
        patients: 2_000,
        practices: 2,
        spells_per_patient_month: 0.1,
        months: 3,
        as_of: as_of(),
        marker: None,
        objections_per_mille: 50,
    };
    hospital::make(&hospital_request, &hospital, false, PLAIN, &ProgressBar::hidden()).unwrap();
    let numbers = |path: &Path, table: &str| -> BTreeSet<String> {
        let sql = format!("SELECT replace(NhsNumber, ' ', '') FROM {table} WHERE NhsNumber <> ''");
        let database = open(path);
        let mut statement = database.prepare(&sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let (one, two) = (numbers(&one, "Admin_Patient"), numbers(&two, "Admin_Patient"));
    let hospital = numbers(&hospital, "Pas_Patient");
    assert!(one.is_disjoint(&two));
    for practice in [&one, &two] {
        assert!(practice.intersection(&hospital).count() > 600);
    }
    assert!(hospital.iter().any(|number| !one.contains(number) && !two.contains(number)));
}

#[test]
fn nothing_is_left_behind_where_nothing_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("practice");
    let too_many = GpRequest { patients: 2_000_000, number: 2, ..request(None) };
    let error = gp::make(&too_many, &file, false, PLAIN, &ProgressBar::hidden()).unwrap_err();
    assert!(error.to_string().contains("--patients"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    std::fs::write(&file, "mine").unwrap();
    let error = gp::make(&request(None), &file, false, PLAIN, &ProgressBar::hidden()).unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn memory_of_dates_and_events_is_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("practice");
    let made = make(&request(None), &file, PLAIN);
    assert_eq!(made.issues, 10_200, "2,000 patients, 3 months, 1.7 each");
    let database = open(&file);
    let one = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let window = "EnteredDate >= '2026-08-01' AND EnteredDate < '2026-11-01'";
    assert_eq!(
        one(&format!("SELECT count(*) FROM CareRecord_Observation WHERE {window} AND EntryKind <> 'CONS'")),
        28_500
    );
    assert_eq!(one(&format!("SELECT count(*) FROM Prescribing_IssueRecord WHERE NOT ({window})")), 0);
    assert_eq!(one("SELECT count(*) FROM CareRecord_Observation WHERE EnteredDate >= '2026-11-01'"), 0);
    // The last second of a month is a trap for windows that end on its last day.
    assert!(one("SELECT count(*) FROM Prescribing_IssueRecord WHERE EnteredDate LIKE '%-__ 23:59:59'") > 0);
    for (what, sql) in [
        ("test patients", "SELECT count(*) FROM Admin_Patient WHERE PatientKind = 'test'"),
        ("dummy patients", "SELECT count(*) FROM Admin_Patient WHERE PatientKind = 'dummy'"),
        ("sensitive patients", "SELECT count(*) FROM Admin_Patient WHERE IsSensitive = 'true'"),
        ("deleted patients", "SELECT count(*) FROM Admin_Patient WHERE IsDeleted = 1"),
        ("missing numbers", "SELECT count(*) FROM Admin_Patient WHERE NhsNumber IS NULL"),
        ("empty numbers", "SELECT count(*) FROM Admin_Patient WHERE NhsNumber = ''"),
        ("spaced numbers", "SELECT count(*) FROM Admin_Patient WHERE NhsNumber LIKE '999 ___ ____'"),
        ("pseudo-postcodes", "SELECT count(*) FROM Admin_Patient WHERE Postcode LIKE 'ZZ99%'"),
        ("sentinels", "SELECT count(*) FROM CareRecord_Observation WHERE EffectiveDate = '1800-01-01'"),
        ("empty dates", "SELECT count(*) FROM CareRecord_Observation WHERE EffectiveDate = ''"),
        ("partial dates", "SELECT count(*) FROM CareRecord_Observation WHERE length(EffectiveDate) = 4"),
        ("date-times", "SELECT count(*) FROM CareRecord_Observation WHERE length(EffectiveDate) = 19"),
        ("deleted rows", "SELECT count(*) FROM CareRecord_Observation WHERE IsDeleted = 1"),
        ("confidential rows", "SELECT count(*) FROM CareRecord_Observation WHERE IsConfidential = 1"),
        ("sensitive codes", "SELECT count(*) FROM CareRecord_Observation WHERE Code = '86406008'"),
        ("Read v2", "SELECT count(*) FROM CareRecord_Observation WHERE CodeSystem = 'RCT2'"),
        ("notes", "SELECT count(*) FROM CareRecord_Observation WHERE AssociatedText <> ''"),
    ] {
        assert!(one(sql) > 0, "no {what}");
    }
    let shared = facts(&file, as_of(), 3).unwrap().nhs_numbers_shared;
    assert!(shared > 0, "nobody is registered twice");
    let rows = facts(&file, as_of(), 3).unwrap().rows;
    assert_eq!(rows["medication"].len(), 3);
}

#[test]
fn output_into_a_program_that_reads_no_more_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut practice = std::process::Command::new(env!("CARGO_BIN_EXE_practice"));
        practice.args(["make", "practice", "--patients", "20", "--months", "1", "--replace", "--out"]);
        practice.arg(folder.path().join("practice.sqlite")).args(more).stdout(writer);
        assert_eq!(practice.status().unwrap().code(), Some(0), "{more:?}");
    }
}
