//! Objections, through the real agent: `objection-cases.toml` case by case, and what stops a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use lockgate_tests::opened::{Cell, OpenedBundle, Row};
use lockgate_tests::{Site, SiteOptions, Stage};
use serde::Deserialize;

use crate::TestResult;
use crate::record::{Entry, PLAIN, Record};

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

/// One patient: what the record says, and what has to come of it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Case {
    name: String,
    why: String,
    rows: Vec<Vec<String>>,
    type_1: bool,
    type_2: bool,
}

impl Case {
    fn local_id(number: usize) -> String {
        format!("46116860184{number:08}")
    }

    fn other_local_id(number: usize) -> String {
        format!("46116860185{number:08}")
    }

    /// An area that no other case has, so that its presence in a bundle is the patient's.
    fn area(number: usize) -> String {
        format!("E0199{number:04}")
    }

    /// A value that no other case has, for the same reason.
    fn value(number: usize) -> f64 {
        1_000.0 + number as f64
    }

    fn write(&self, number: usize, record: &Record) -> TestResult {
        let (id, other) = (Self::local_id(number), Self::other_local_id(number));
        record.patient(&id, number as u64, &Self::area(number))?;
        record.entry(&Entry { patient: &id, value: Some(Self::value(number)), ..PLAIN })?;
        record.issue(&id, "39113611000001102", Self::value(number))?;
        let in_other = |row: &Vec<String>| row.iter().any(|note| note == "other");
        if self.rows.iter().any(in_other) {
            record.patient(&other, number as u64, &Self::area(number))?;
            record.entry(&Entry { patient: &other, value: Some(Self::value(number)), ..PLAIN })?;
        }
        for row in &self.rows {
            let [system, code, effective, notes @ ..] = row.as_slice() else {
                anyhow::bail!("{}: a row has a system, a code and a date", self.name)
            };
            let mut entry = Entry {
                patient: &id,
                entered: "2013-01-01",
                effective: Some(effective).filter(|text| *text != "NULL").map(String::as_str),
                system,
                code,
                kind: "CONS",
                code_kind: Some("CONS"),
                value: None,
                unit: None,
                ..PLAIN
            };
            for note in notes {
                match (note.as_str(), note.strip_prefix("kind=")) {
                    ("deleted", _) => entry.deleted = true,
                    ("confidential", _) => entry.confidential = true,
                    ("other", _) => entry.patient = &other,
                    ("kind=NULL", _) => entry.code_kind = None,
                    (_, Some(kind)) => entry.code_kind = Some(kind),
                    _ => anyhow::bail!("{}: unknown note {note}", self.name),
                }
            }
            record.entry(&entry)?;
        }
        Ok(())
    }
}

fn cases(stage: &Stage) -> anyhow::Result<Vec<Case>> {
    let text = std::fs::read_to_string(stage.binaries.root().join("tests/objection-cases.toml"))?;
    Ok(toml::from_str::<Cases>(&text)?.case)
}

/// What a bundle shows of the cases: for each the Type 2 flag, by every place that names it.
fn seen(bundle: &OpenedBundle) -> anyhow::Result<BTreeMap<usize, Vec<bool>>> {
    let mut seen: BTreeMap<usize, Vec<bool>> = BTreeMap::new();
    let number_of = |row: &Row, column: &str| match row.get(column) {
        Some(Cell::Number(value)) => Some((value - Case::value(0)) as usize),
        Some(Cell::Code(_, area)) => area.strip_prefix("E0199").and_then(|number| number.parse().ok()),
        _ => None,
    };
    for (output, column) in [("events", "value"), ("prescriptions", "quantity"), ("patients", "area")] {
        for row in bundle.rows(output) {
            // An objection code is itself an event; it has no value.
            let Some(number) = number_of(row, column) else { continue };
            let Some(Cell::Patient(patient)) = row.get("patient") else {
                anyhow::bail!("a row of {output} without a patient")
            };
            let flag = bundle.patients.get(*patient).context("a patient outside of the token table")?.type_2;
            seen.entry(number).or_default().push(flag);
        }
    }
    Ok(seen)
}

#[test]
fn every_case_is_decided_as_the_table_says() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let cases = cases(&stage)?;
    ensure!(cases.len() >= 40, "only {} cases", cases.len());
    let database = stage.folder().join("cases.sqlite");
    let record = Record::create(&database)?;
    cases.iter().enumerate().try_for_each(|(number, case)| case.write(number, &record))?;
    drop(record);
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;

    let bundles = OpenedBundle::stored(&stage.linker, &site)?;
    ensure!(bundles.len() == 4, "{} bundles", bundles.len());
    let october = &bundles[3];
    let seen = seen(october)?;
    let wrong = cases.iter().enumerate().filter_map(|(number, case)| {
        let found = seen.get(&number);
        // Visible in an event, a prescription and a patient's row at least; and everywhere with the same flag.
        let right = match found {
            None => case.type_1,
            Some(flags) => !case.type_1 && flags.len() >= 3 && flags.iter().all(|flag| *flag == case.type_2),
        };
        (!right).then(|| {
            let Case { name, why, type_1, type_2, .. } = case;
            format!("{name}: expected {type_1} {type_2} ({why}), the bundle says {found:?}")
        })
    });
    let wrong: Vec<String> = wrong.collect();
    ensure!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));

    // Not one trace more: the token table has a row for each visible person, the counts are those of the table.
    let count = |matches: fn(&Case) -> bool| cases.iter().filter(|case| matches(case)).count();
    let visible = count(|case| !case.type_1);
    ensure!(october.patients.len() == visible, "{} tokens for {visible} people", october.patients.len());
    let flagged = october.patients.iter().filter(|patient| patient.type_2).count();
    ensure!(flagged == count(|case| case.type_2 && !case.type_1), "{flagged} flags");
    let counts = &october.header.counts;
    ensure!(counts.patients as usize == cases.len(), "{counts:?}");
    ensure!(counts.withheld_type_1 as usize == count(|case| case.type_1), "{counts:?}");
    ensure!(counts.flagged_type_2 as usize == flagged, "{counts:?}");
    for area in cases.iter().enumerate().filter(|(_, case)| case.type_1).map(|(number, _)| Case::area(number))
    {
        ensure!(
            !october.codes.iter().any(|(_, text)| *text == area),
            "{area} of an objector is in the dictionary"
        );
    }
    Ok(())
}

/// A practice of one patient who objects and one who does not.
fn two_patients(path: &Path) -> anyhow::Result<Record> {
    let record = Record::create(path)?;
    for (id, person) in [("1000001", 1), ("1000002", 2)] {
        record.patient(id, person, "E01990001")?;
        record.entry(&Entry { patient: id, ..PLAIN })?;
    }
    let dissent = Entry {
        patient: "1000001",
        effective: Some("2019-02-03"),
        code: "827241000000103",
        kind: "CONS",
        code_kind: Some("CONS"),
        value: None,
        unit: None,
        ..PLAIN
    };
    record.entry(&dissent)?;
    Ok(record)
}

/// Nothing is queued, nothing was sent, nothing half-made is left.
fn nothing_left(stage: &Stage, site: &Site) -> TestResult {
    ensure!(OpenedBundle::queued(site)?.is_empty(), "the outbox holds something");
    ensure!(
        std::fs::read_dir(site.state().join("outbox/sealing"))?.next().is_none(),
        "half a bundle is left"
    );
    ensure!(OpenedBundle::stored(&stage.linker, site)?.is_empty(), "the linker has something");
    Ok(())
}

/// Breaks the evidence of a practice with SQL; the run has to fail with these words and exit code 3.
fn stops(stage: &Stage, name: &str, sql: &str, words: &[&str]) -> TestResult {
    let database = stage.folder().join(name).with_extension("sqlite");
    two_patients(&database)?.connection.execute_batch(sql)?;
    let site = stage.site(name, SiteOptions::practice(name, &database))?;
    let finished = site.command(&["run"])?.expect(3)?;
    for word in words {
        ensure!(finished.stdout.contains(word), "{name}: no `{word}` in: {}", finished.stdout);
    }
    nothing_left(stage, &site)
}

#[test]
fn evidence_that_is_empty_missing_or_unreadable_stops_the_run() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let evidence = "objection-evidence";
    // The practice as it is: one patient is seen. So it is the evidence that stops the others.
    let database = stage.folder().join("whole.sqlite");
    two_patients(&database)?;
    let site = stage.site("whole", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let patients: Vec<usize> =
        OpenedBundle::stored(&stage.linker, &site)?.iter().map(|bundle| bundle.patients.len()).collect();
    ensure!(patients == [0, 0, 0, 1], "{patients:?}");

    let consent = "Coding_ClinicalCode WHERE EntryKind = 'CONS'";
    stops(&stage, "A81002", &format!("DELETE FROM {consent}"), &["objection evidence holds no row"])?;
    stops(&stage, "A81003", "DROP TABLE Coding_ClinicalCode", &[evidence, "gp-extract", "refuses its SQL"])?;
    let renamed = "ALTER TABLE CareRecord_Observation RENAME COLUMN IsDeleted TO Deleted";
    stops(&stage, "A81004", renamed, &[evidence, "gp-extract", "refuses its SQL"])?;
    let change = |set: &str| format!("UPDATE CareRecord_Observation SET {set} WHERE EntryKind = 'CONS'");
    stops(&stage, "A81005", &change("EffectiveDate = X'32303139'"), &[evidence, "`effective`", "BLOB"])?;
    stops(&stage, "A81006", &change("IsDeleted = 2"), &[evidence, "`deleted`", "does not name"])?;
    stops(&stage, "A81007", &change("CodeSystem = 'NEW'"), &[evidence, "`code`", "does not name"])?;
    stops(&stage, "A81008", &change("Code = X'00'"), &[evidence, "`code`", "BLOB"])?;
    stops(&stage, "A81009", &change("PatientId = ''"), &[evidence, "`patient`", "has no value"])
}

/// A site on a stage whose registry publishes everything but the objection policy.
fn stage_without_policy(as_of: &str) -> anyhow::Result<Stage> {
    let stage = Stage::unpublished(as_of)?;
    let examples = stage.binaries.root().join("examples/registry");
    stage.registry.add_text("mapping", &examples.join("mappings/gp-extract.toml"))?;
    stage.registry.add_text("sensitive", &examples.join("sensitive/england.toml"))?;
    stage.registry.add_guest("gp-monthly")?;
    Ok(stage)
}

#[test]
fn a_policy_that_is_not_published_stops_the_run() -> TestResult {
    let stage = stage_without_policy(lockgate_tests::AS_OF)?;
    stage.registry.publish()?;
    let database = stage.folder().join("practice.sqlite");
    two_patients(&database)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    let finished = site.command(&["run"])?.expect(1)?;
    ensure!(
        finished.stderr.contains("publishes no objection policy `objections-england`"),
        "{}",
        finished.stderr
    );
    nothing_left(&stage, &site)
}

#[test]
fn a_policy_whose_time_is_over_stops_the_run() -> TestResult {
    let stage = stage_without_policy("2026-11-01")?;
    let policy = stage.binaries.root().join("examples/registry/policies/objections.toml");
    let text = std::fs::read_to_string(policy)?;
    let short = text.replace("not-after = \"2028-12-31\"", "not-after = \"2026-11-02\"");
    ensure!(short != text, "the example policy has another last day");
    let file = stage.folder().join("policy.toml");
    std::fs::write(&file, short)?;
    stage.registry.add_text("policy", &file)?;
    stage.registry.publish()?;
    let database = stage.folder().join("practice.sqlite");
    two_patients(&database)?;
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    // On its last day it still decides.
    site.options.as_of = "2026-11-02".to_owned();
    site.command(&["preview", "gp-monthly"])?.ok()?;
    site.options.as_of = "2026-11-03".to_owned();
    let finished = site.command(&["run"])?.expect(3)?;
    for word in ["objection policy `objections-england`", "valid until 2026-11-02"] {
        ensure!(finished.stdout.contains(word), "{}", finished.stdout);
    }
    nothing_left(&stage, &site)
}

#[test]
fn a_clock_that_is_wrong_stops_the_run() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    two_patients(&database)?;
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    // Never set; and set back behind the enrolment, twice: the entry of the failed run must not make the second right.
    for (day, word) in [
        ("1970-01-01", "before this program was written"),
        ("2026-10-01", "clock says 2026-10-01"),
        ("2026-10-01", "clock says 2026-10-01"),
    ] {
        site.options.as_of = day.to_owned();
        let finished = site.command(&["run"])?.expect(3)?;
        ensure!(finished.stdout.contains(word), "{day}: {}", finished.stdout);
        nothing_left(&stage, &site)?;
    }
    site.options.as_of = lockgate_tests::AS_OF.to_owned();
    site.run()?;
    ensure!(OpenedBundle::stored(&stage.linker, &site)?.len() == 4, "the right clock does not run");
    Ok(())
}
