//! What the host takes out beside objectors: sensitive codes by lists that change without a release, deleted and confidential rows,
//! test and dummy patients, units that are none. All of it is counted.

use anyhow::ensure;
use lockgate_tests::opened::{Cell, OpenedBundle};
use lockgate_tests::{SiteOptions, Stage};

use crate::TestResult;
use crate::record::{Entry, PLAIN, Record};

/// The codes of what left, of one output.
fn codes(bundle: &OpenedBundle, output: &str) -> Vec<String> {
    let codes = bundle.rows(output).iter().filter_map(|row| match row.get("code") {
        Some(Cell::Code(_, text)) => Some(text.clone()),
        _ => None,
    });
    codes.collect()
}

/// Evidence that there is evidence: somebody who withdrew.
const WITHDRAWN: Entry<'static> = Entry {
    entered: "2013-01-01",
    effective: Some("2013-01-01"),
    code: "827261000000102",
    kind: "CONS",
    code_kind: Some("CONS"),
    value: None,
    unit: None,
    ..PLAIN
};

#[test]
fn what_is_marked_is_left_out_and_counted() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = Record::create(&database)?;
    for (id, person) in [("1000001", 1), ("1000002", 2), ("1000003", 3), ("1000004", 4)] {
        record.patient(id, person, "E01990001")?;
        record.entry(&Entry { patient: id, ..PLAIN })?;
    }
    record.entry(&Entry { patient: "1000001", ..WITHDRAWN })?;
    record.entry(&Entry { patient: "1000001", code: "44054006", deleted: true, ..PLAIN })?;
    record.entry(&Entry { patient: "1000001", code: "73211009", confidential: true, ..PLAIN })?;
    record.entry(&Entry {
        patient: "1000001",
        code: "46635009",
        deleted: true,
        confidential: true,
        ..PLAIN
    })?;
    record.entry(&Entry { patient: "1000001", code: "315051004", unit: Some("Ann Other"), ..PLAIN })?;
    record.connection.execute_batch(
        "UPDATE Admin_Patient SET PatientKind = 'dummy' WHERE PatientId = '1000002';
         UPDATE Admin_Patient SET PatientKind = 'test' WHERE PatientId = '1000003';
         UPDATE Admin_Patient SET IsSensitive = 'true' WHERE PatientId = '1000004'",
    )?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let october = OpenedBundle::stored(&stage.linker, &site)?.remove(3);
    ensure!(codes(&october, "events") == ["315051004", "60621009"], "{:?}", codes(&october, "events"));
    ensure!(
        october.codes.iter().all(|(_, text)| text != "44054006" && text != "73211009" && text != "46635009")
    );
    let counts = &october.header.counts;
    ensure!((counts.patients, counts.test_patients, counts.withheld_sensitive) == (2, 2, 1), "{counts:?}");
    ensure!((counts.rows_deleted, counts.rows_confidential) == (2, 1), "{counts:?}");
    ensure!(counts.values_malformed == 1 && counts.rows_malformed == 0, "{counts:?}");
    // People who look see the same numbers: at the site before anything leaves, and at the linker.
    let preview = site.command(&["--json", "preview", "gp-monthly", "--period", "2026-10"])?.ok()?.json()?;
    ensure!(
        preview["counts"]["rows-deleted"] == 2 && preview["counts"]["values-malformed"] == 1,
        "{preview}"
    );
    Ok(())
}

#[test]
fn a_new_sensitive_list_takes_its_rows_out_without_a_release() -> TestResult {
    let mut stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = Record::create(&database)?;
    record.patient("1000001", 1, "E01990001")?;
    record.entry(&Entry { patient: "1000001", ..WITHDRAWN })?;
    for entered in ["2026-10-10", "2026-11-10"] {
        record.entry(&Entry { patient: "1000001", entered, ..PLAIN })?;
        record.entry(&Entry { patient: "1000001", entered, code: "44054006", ..PLAIN })?;
    }
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let before = OpenedBundle::stored(&stage.linker, &site)?;
    ensure!(codes(&before[3], "events").contains(&"44054006".to_owned()), "the code did not leave before");

    // A list of one more group, signed and published: the program at the site is the same.
    let list = stage.binaries.root().join("examples/registry/sensitive/england.toml");
    let text = std::fs::read_to_string(list)?;
    let next = text.replace("version = \"1.0.0\"", "version = \"1.1.0\"")
        + "\n[group.local]\nsnomed = [\"44054006\"]\n";
    ensure!(next.contains("1.1.0"), "the example list has another version");
    let file = stage.folder().join("sensitive.toml");
    std::fs::write(&file, next)?;
    stage.registry.go_on_to("2026-12-01");
    stage.registry.add_text("sensitive", &file)?;
    stage.registry.publish()?;

    site.options.as_of = "2026-12-01".to_owned();
    site.run()?;
    let after = OpenedBundle::stored(&stage.linker, &site)?.split_off(before.len());
    // October is looked back on, and replaced.
    let periods: Vec<String> = after.iter().map(|bundle| bundle.header.period.to_string()).collect();
    ensure!(periods == ["2026-10", "2026-11"], "{periods:?}");
    for bundle in &after {
        ensure!(codes(bundle, "events") == ["60621009"], "{:?}", codes(bundle, "events"));
        ensure!(bundle.header.counts.rows_sensitive == 1, "{:?}", bundle.header.counts);
        ensure!(bundle.header.sensitive != before[3].header.sensitive, "the header names the old list");
    }
    ensure!(after[0].header.supersedes == Some(before[3].id), "October is not replaced");
    Ok(())
}
