//! The sample registry is what the contract says, and its mappings fit the databases that they are for.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use lockgate_signing::canonical;
use lockgate_signing::code::normalise_code;
use lockgate_signing::cohort::Cohort;
use lockgate_signing::direction::Direction;
use lockgate_signing::mapping::{ColumnMapping, Mapping, TableMapping};
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::Recipients;
use lockgate_signing::rollout::Rollout;
use lockgate_signing::text_format::TextFormat;
use lockgate_signing::token_keys::TokenKeys;
use practice::draft::{Finish, Journal};
use practice::gp::{self, GpRequest};
use practice::hospital::{self, HospitalRequest};
use rusqlite::{Connection, OpenFlags};

fn registry() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry")
}

fn decode<T: TextFormat>(file: &str) -> T {
    T::decode(&std::fs::read(registry().join(file)).unwrap())
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_file_of_the_registry_decodes() {
    let mut files = 0;
    for folder in std::fs::read_dir(registry()).unwrap() {
        let folder = folder.unwrap().path();
        let kind = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if !folder.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let name = file.display();
            let bytes = std::fs::read(&file).unwrap();
            let error = match kind.as_str() {
                "mappings" => Mapping::decode(&bytes).err(),
                "policies" => ObjectionPolicy::decode(&bytes).err(),
                "sensitive" => SensitiveCodes::decode(&bytes).err(),
                "cohorts" => Cohort::decode(&bytes).err(),
                "rollouts" => Rollout::decode(&bytes).err(),
                "directions" => Direction::decode(&bytes).err(),
                "recipients" => Recipients::decode(&bytes).err(),
                "token-keys" => TokenKeys::decode(&bytes).err(),
                other => panic!("what is in {other}?"),
            };
            assert!(error.is_none(), "{name}: {}", error.unwrap());
            files += 1;
        }
    }
    assert!(files >= 9);
}

#[test]
fn no_withdrawal_that_is_unconfirmed_is_honoured() {
    let policy: ObjectionPolicy = decode("policies/objections.toml");
    for rule in [&policy.type_1, &policy.type_2] {
        assert!(!rule.honour_unconfirmed_withdrawals);
        assert_eq!(rule.dissent_until, None);
        assert!(rule.dissent.iter().all(|code| code.confirmed));
        assert!(rule.withdrawal.iter().any(|code| !code.confirmed));
    }
}

const FINISH: Finish = Finish { journal: Journal::Rollback, shuffle: None };

fn as_of() -> jiff::civil::Date {
    jiff::civil::date(2026, 11, 1)
}

fn practice(out: &Path) {
    let request = GpRequest {
        seed: 11,
        patients: 1_000,
        number: 1,
        coded_per_patient_month: 4.75,
        issues_per_patient_month: 1.7,
        months: 2,
        as_of: as_of(),
        marker: None,
        objections_per_mille: 60,
    };
    gp::make(&request, out, false, FINISH, &ProgressBar::hidden()).unwrap();
}

fn hospital(out: &Path) {
    let request = HospitalRequest {
        seed: 11,
        patients: 2_000,
        practices: 2,
        spells_per_patient_month: 1.0,
        months: 4,
        as_of: as_of(),
        marker: None,
        objections_per_mille: 20,
    };
    hospital::make(&request, out, false, FINISH, &ProgressBar::hidden()).unwrap();
}

/// Reads every declared column of every table, and holds each value to its declaration.
fn check(mapping: &Mapping, database: &Path) -> BTreeMap<&'static str, Counts> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut counts = BTreeMap::new();
    for table in canonical::TABLES {
        let mapped = mapping.table.iter().find(|(name, _)| name.as_str() == table.name).unwrap().1;
        if mapped.absent.is_none() {
            counts.insert(table.name, check_table(mapping, table, mapped, &connection));
        }
    }
    counts
}

#[derive(Debug, Default)]
struct Counts {
    rows: usize,
    /// Codes that do not have the shape of their system.
    malformed: usize,
    /// Rows that have a value, by column.
    present: BTreeMap<&'static str, usize>,
}

fn check_table(
    mapping: &Mapping,
    table: &'static canonical::CanonicalTable,
    mapped: &TableMapping,
    connection: &Connection,
) -> Counts {
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| {
            (column, mapped.column.iter().find(|(name, _)| name.as_str() == column.name).unwrap().1)
        })
        .filter(|(_, mapped)| mapped.absent.is_none())
        .collect();
    let expressions = columns.iter().flat_map(|(_, mapped)| mapped.sql.iter().chain(&mapped.system_sql));
    let sql = format!(
        "SELECT {} FROM {} WHERE {}",
        expressions.cloned().collect::<Vec<_>>().join(", "),
        mapped.from.as_ref().unwrap(),
        mapped.filter.as_deref().unwrap_or("1"),
    );
    let mut statement = connection.prepare(&sql).unwrap_or_else(|error| panic!("{}: {error}", table.name));
    let mut rows = statement.query([]).unwrap();
    let mut counts = Counts::default();
    while let Some(row) = rows.next().unwrap() {
        counts.rows += 1;
        let mut position = 0;
        for (column, declared) in &columns {
            let place = format!("{}.{}", table.name, column.name);
            let mut next = || {
                position += 1;
                match row.get_ref(position - 1).unwrap() {
                    rusqlite::types::ValueRef::Null => String::new(),
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    rusqlite::types::ValueRef::Real(number) => number.to_string(),
                    other => other.as_str().unwrap().to_owned(),
                }
            };
            let text = next();
            let system = declared.system_sql.as_ref().map(|_| next());
            if text.is_empty() || declared.missing.contains(&text) {
                assert!(!column.required, "{place} is required");
                continue;
            }
            *counts.present.entry(column.name).or_default() += 1;
            let fits = check_value(mapping, &place, declared, &text, system.as_deref());
            counts.malformed += usize::from(!fits);
        }
    }
    counts
}

fn check_value(
    mapping: &Mapping,
    place: &str,
    declared: &ColumnMapping,
    text: &str,
    system: Option<&str>,
) -> bool {
    if let Some(format) = declared.date {
        use lockgate_signing::mapping::DateFormat;
        let iso = match format {
            DateFormat::DayMonthYear => {
                text.splitn(3, '/').collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("-")
            }
            DateFormat::PartialIso => {
                text.to_owned() + &"-01-01"[..10_usize.saturating_sub(text.len()).min(6)]
            }
            DateFormat::Iso | DateFormat::Mixed => text.to_owned(),
        };
        let iso = if text.len() == 7 { format!("{text}-01") } else { iso };
        let day = iso[..10].parse::<jiff::civil::Date>();
        assert!(day.is_ok(), "{place}: `{text}` is not a date");
    }
    if !declared.values.is_empty() {
        assert!(declared.values.contains_key(text), "{place}: category `{text}`");
    }
    if !declared.yes.is_empty() {
        let known = declared.yes.iter().chain(&declared.no).any(|known| known == text);
        assert!(known, "{place}: flag `{text}`");
    }
    let system = match (&declared.system, system) {
        (Some(system), _) => system,
        (None, Some(name)) => {
            declared.systems.get(name).unwrap_or_else(|| panic!("{place}: code system `{name}`"))
        }
        (None, None) => return true,
    };
    let shape = mapping.code_shape(system).unwrap();
    shape.fits(&normalise_code(shape, text))
}

#[test]
fn the_practice_mapping_fits_a_generated_practice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("practice.sqlite");
    practice(&file);
    let counts = check(&decode("mappings/gp-extract.toml"), &file);
    assert!(counts["patient"].rows > 990 && counts["patient"].rows == counts["identity"].rows);
    assert!(counts["observation"].rows > 9_000 && counts["medication"].rows > 3_000);
    assert!(counts["objection-evidence"].rows > 50);
    assert!((1..60).contains(&counts["observation"].malformed), "{}", counts["observation"].malformed);
    for table in ["patient", "medication", "objection-evidence"] {
        assert_eq!(counts[table].malformed, 0, "{table}");
    }
    for (name, table) in &counts {
        for column in canonical::table(name).unwrap().columns {
            assert!(table.present.contains_key(column.name), "{name}.{} has no value anywhere", column.name);
        }
    }
}

#[test]
fn the_hospital_mapping_fits_a_generated_hospital() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hospital.sqlite");
    hospital(&file);
    let counts = check(&decode("mappings/hospital-extract.toml"), &file);
    assert!(counts["patient"].rows > 1_900 && counts["episode"].rows > 7_000);
    assert!(counts["episode-code"].rows > 2 * counts["episode"].rows);
    assert!(counts["objection-evidence"].rows > 5);
    assert!(counts["episode"].present["discharged"] < counts["episode"].rows, "somebody is still there");
    assert!((1..200).contains(&counts["episode-code"].malformed));
    for table in ["patient", "episode", "objection-evidence"] {
        assert_eq!(counts[table].malformed, 0, "{table}");
    }
}

#[test]
fn evidence_is_every_consent_row_whatever_the_mapping_leaves_out_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("practice.sqlite");
    practice(&file);
    let counts = check(&decode("mappings/gp-extract.toml"), &file);
    let connection = Connection::open(&file).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
    // Objections are administration to some systems: Read's chapter 9 is called that.
    let all = count("SELECT count(*) FROM CareRecord_Observation WHERE EntryKind IN ('CONS', 'ADM')");
    let deleted =
        count("SELECT count(*) FROM CareRecord_Observation WHERE EntryKind = 'CONS' AND IsDeleted = 1");
    assert_eq!(counts["objection-evidence"].rows, all);
    assert!(deleted > 0);
}
