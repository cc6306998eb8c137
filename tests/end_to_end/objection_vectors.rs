//! The published cases of `objection-vectors/`, each through the real agent: from a database to a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use lockgate_tests::opened::{Cell, OpenedBundle, Row};
use lockgate_tests::{Binaries, SiteOptions, Stage};
use serde::Deserialize;

use crate::TestResult;
use crate::record::{Entry, PLAIN, Record};

/// One file of the pack.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Vectors {
    policy: PathBuf,
    as_of: String,
    cases: Vec<Case>,
}

/// One person: what the record says, and what has to come of it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Case {
    name: String,
    reason: String,
    rows: Vec<EvidenceRow>,
    type_1: bool,
    type_2: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EvidenceRow {
    system: String,
    code: String,
    date: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    confidential: bool,
    #[serde(default = "first")]
    registration: u8,
    #[serde(default)]
    made_up: bool,
}

fn first() -> u8 {
    1
}

/// Every code that the pack may use without saying that it is made up.
const REAL: [&str; 19] = [
    "827241000000103",
    "827261000000102",
    "881561000000100",
    "881581000000109",
    "9Nu0.",
    "9Nu1.",
    "9Nu4.",
    "9Nu5.",
    "XaZ89",
    "XaZ8a",
    "XaZ8A",
    "XaaVL",
    "XaaVM",
    "960081000000104",
    "960101000000105",
    "777441000000102",
    "113121000000105",
    "979171000000104",
    "113141000000103",
];

impl Case {
    fn local_id(number: usize, registration: u8) -> String {
        format!("4611686018{registration}{number:08}")
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
        let mut registrations: Vec<u8> = self.rows.iter().map(|row| row.registration).collect();
        registrations.push(1);
        registrations.sort_unstable();
        registrations.dedup();
        for &registration in &registrations {
            let id = Self::local_id(number, registration);
            record.patient(&id, number as u64, &Self::area(number))?;
            record.entry(&Entry { patient: &id, value: Some(Self::value(number)), ..PLAIN })?;
        }
        record.issue(&Self::local_id(number, 1), "39113611000001102", Self::value(number))?;
        for row in &self.rows {
            let system = match row.system.as_str() {
                "snomed" => "SCT",
                "read2" => "RCT2",
                "ctv3" => "CTV3",
                other => anyhow::bail!("{}: unknown system {other}", self.name),
            };
            record.entry(&Entry {
                patient: &Self::local_id(number, row.registration),
                entered: "2013-01-01",
                effective: row.date.as_deref(),
                system,
                code: &row.code,
                kind: "CONS",
                code_kind: Some("CONS"),
                value: None,
                unit: None,
                deleted: row.deleted,
                confidential: row.confidential,
            })?;
        }
        Ok(())
    }
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(Binaries::locate()?.root().join("tests/objection-vectors"))
}

fn vectors(name: &str) -> anyhow::Result<Vectors> {
    let path = folder()?.join(name);
    serde_json::from_slice(&std::fs::read(&path)?).with_context(|| path.display().to_string())
}

/// A stage whose registry publishes this policy in place of the example.
fn stage_with(policy: &Path, as_of: &str) -> anyhow::Result<Stage> {
    let stage = Stage::unpublished(as_of)?;
    let examples = stage.binaries.root().join("examples/registry");
    stage.registry.add_text("mapping", &examples.join("mappings/gp-extract.toml"))?;
    stage.registry.add_text("sensitive", &examples.join("sensitive/england.toml"))?;
    stage.registry.add_text("policy", policy)?;
    stage.registry.add_keys()?;
    stage.registry.add_guest("gp-monthly")?;
    stage.registry.publish()?;
    Ok(stage)
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

/// Runs every case of a file; returns how many there are.
fn decided_as_published(name: &str) -> anyhow::Result<usize> {
    let Vectors { policy, as_of, cases } = vectors(name)?;
    let stage = stage_with(&folder()?.join(policy), &as_of)?;
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
            let Case { name, reason, type_1, type_2, .. } = case;
            format!("{name}: expected {type_1} {type_2} ({reason}), the bundle says {found:?}")
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
    Ok(cases.len())
}

#[test]
fn the_published_cases_are_decided_as_they_say() -> TestResult {
    let mut cases = decided_as_published("cautious.json")?;
    cases += decided_as_published("cut-off.json")?;
    cases += decided_as_published("honour-unconfirmed.json")?;
    ensure!(cases >= 120, "only {cases} cases");
    Ok(())
}

#[test]
fn the_cautious_policy_of_the_pack_is_the_published_one() -> TestResult {
    let examples = Binaries::locate()?.root().join("examples/registry/policies/objections.toml");
    let published = std::fs::read_to_string(examples)?;
    let packed = std::fs::read_to_string(folder()?.join("policies/cautious.toml"))?;
    ensure!(published == packed, "copy examples/registry/policies/objections.toml to the pack");
    Ok(())
}

#[test]
fn a_code_that_is_made_up_is_marked() -> TestResult {
    for name in ["cautious.json", "cut-off.json", "honour-unconfirmed.json"] {
        for row in vectors(name)?.cases.iter().flat_map(|case| &case.rows) {
            // Read codes as records write them: without the dot, and with a term code.
            let code = row.code.trim_matches(' ');
            let stem = code.get(..4).filter(|_| row.system == "read2").map(|stem| format!("{stem}."));
            let stem = stem.filter(|_| {
                let rest = code[4..].strip_prefix('.').unwrap_or(&code[4..]);
                rest.is_empty() || rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit())
            });
            let real = REAL.contains(&code) || stem.is_some_and(|stem| REAL.contains(&stem.as_str()));
            ensure!(real != row.made_up, "{name}: {code} is {}", if real { "real" } else { "not marked" });
        }
    }
    Ok(())
}
