//! What stops a run before anything is read, and evidence however a supplier files it.

use std::path::Path;

use anyhow::{Context as _, ensure};
use lockgate_signing::bundle::BundleKind;
use lockgate_tests::opened::{OpenedBundle, files};
use lockgate_tests::{Site, SiteOptions, Stage};

use crate::TestResult;
use crate::record::{DISSENT, Entry, PLAIN, Record};

/// A practice of one patient who objects and one who does not.
fn two_patients(path: &Path) -> anyhow::Result<Record> {
    let record = Record::create(path)?;
    for (id, person) in [("1000001", 1), ("1000002", 2)] {
        record.patient(id, person, "E01990001")?;
        record.entry(&Entry { patient: id, ..PLAIN })?;
    }
    record.entry(&Entry { patient: "1000001", entered: PLAIN.entered, ..DISSENT })?;
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
fn evidence_is_read_whatever_kind_the_supplier_files_it_under() -> TestResult {
    // No kind, NULL, and one that the supplier added later: left out is only what cannot be about consent.
    for (number, kind) in [Some(""), None, Some("SHARING")].into_iter().enumerate() {
        let stage = Stage::new(&["gp-monthly"])?;
        let database = stage.folder().join("practice.sqlite");
        let record = two_patients(&database)?;
        let filed = "UPDATE Coding_ClinicalCode SET EntryKind = ?1 WHERE EntryKind = 'CONS'";
        record.connection.execute(filed, [kind])?;
        drop(record);
        let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
        site.run()?;
        let bundles = OpenedBundle::stored(&stage.linker, &site)?;
        let withheld = bundles[3].header.counts.withheld_type_1;
        ensure!(withheld == 1 && bundles[3].patients.len() == 1, "{number}: {kind:?}: {withheld} withheld");
    }
    Ok(())
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

    let consent = "CareRecord_Observation WHERE EntryKind = 'CONS'";
    stops(&stage, "A81002", &format!("DELETE FROM {consent}"), &["objection evidence holds no row"])?;
    stops(&stage, "A81003", "DROP TABLE Coding_ClinicalCode", &[evidence, "gp-extract", "refuses its SQL"])?;
    let renamed = "ALTER TABLE CareRecord_Observation RENAME COLUMN IsDeleted TO Deleted";
    stops(&stage, "A81004", renamed, &[evidence, "gp-extract", "refuses its SQL"])?;
    let change = |set: &str| format!("UPDATE CareRecord_Observation SET {set} WHERE EntryKind = 'CONS'");
    stops(&stage, "A81005", &change("EffectiveDate = X'32303139'"), &[evidence, "`effective`", "BLOB"])?;
    stops(&stage, "A81006", &change("IsDeleted = 2"), &[evidence, "`deleted`", "does not name"])?;
    let recode = |set: &str| format!("UPDATE Coding_ClinicalCode SET {set} WHERE EntryKind = 'CONS'");
    stops(&stage, "A81007", &recode("CodeSystem = 'NEW'"), &[evidence, "`code`", "does not name"])?;
    stops(&stage, "A81008", &recode("Code = X'00'"), &[evidence, "`code`", "BLOB"])?;
    stops(&stage, "A81009", &change("PatientId = ''"), &[evidence, "`patient`", "has no value"])?;
    // Dates in another form than the mapping declares, and ids that agree with nobody's.
    stops(
        &stage,
        "A81010",
        &change("EffectiveDate = '03/02/2019'"),
        &["1 of 1 entries", "date that cannot be read"],
    )?;
    stops(
        &stage,
        "A81011",
        &change("PatientId = '01000001'"),
        &["1 of 1 dissents", "identity table does not know"],
    )
}

/// Somebody who withdrew long ago, so that there is evidence whatever becomes of the other.
const WITHDRAWAL: &str = "
INSERT INTO Coding_ClinicalCode VALUES (999, 'SCT', '827261000000102', 'term', 'CONS');
INSERT INTO CareRecord_Observation (PatientId, EnteredDate, EffectiveDate, CodeSystem, Code, EntryKind, IsDeleted,
    IsConfidential, CodeId, ObservationId)
VALUES ('1000002', '2013-01-01', '2013-01-01', 'SCT', '827261000000102', 'CONS', 0, 0, 999, 999);";

#[test]
fn a_dissent_among_clinical_rows_that_the_evidence_does_not_hold_stops_the_run() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    // The supplier files the code under a kind that the mapping takes for clinical.
    let filed = format!(
        "{WITHDRAWAL} UPDATE Coding_ClinicalCode SET EntryKind = 'FIND' WHERE Code = '827241000000103'"
    );
    stops(
        &stage,
        "A81002",
        &filed,
        &["`observation`", "a dissent code of the objection policy", "nothing was extracted"],
    )
}

#[test]
fn what_other_modules_made_under_evidence_that_one_shows_to_be_broken_does_not_leave() -> TestResult {
    let mut stage = Stage::new(&["control", "gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = two_patients(&database)?;
    record.patient("1000003", 3, "E01990001")?;
    for month in ["07", "08", "09", "10", "11"] {
        // The first module takes no month without entries.
        let day = format!("2026-{month}-10");
        record.entry(&Entry { patient: "1000003", entered: &day, effective: Some(&day), ..PLAIN })?;
    }
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.command(&["run", "--module", "control"])?.ok()?;
    ensure!(OpenedBundle::stored(&stage.linker, &site)?.len() == 4, "the first module did not run");

    // A dissent of October is filed where the evidence does not look. In December the first module reads November only, and
    // sees nothing of it; the second reads October too.
    record.entry(&Entry {
        patient: "1000002",
        code: "827241000000103",
        kind: "FIND",
        code_kind: Some("FIND"),
        value: None,
        unit: None,
        ..PLAIN
    })?;
    stage.registry.go_on_to("2026-12-01");
    stage.registry.publish_command(&["publish", "--renew"])?.ok()?;
    site.options.as_of = "2026-12-01".to_owned();
    let finished = site.command(&["run"])?.expect(3)?;
    for word in ["a dissent code of the objection policy", "in doubt since module `gp-monthly`"] {
        ensure!(finished.stdout.contains(word), "no `{word}` in: {}", finished.stdout);
    }
    ensure!(OpenedBundle::queued(&site)?.is_empty(), "the outbox holds something");
    ensure!(
        std::fs::read_dir(site.state().join("outbox/sealing"))?.next().is_none(),
        "half a bundle is left"
    );
    ensure!(OpenedBundle::stored(&stage.linker, &site)?.len() == 4, "something was sent");

    // Filed where it belongs, it is an objection, and both modules go on in one chain.
    record.connection.execute_batch(
        "UPDATE CareRecord_Observation SET EntryKind = 'CONS' WHERE EntryKind = 'FIND';
         UPDATE Coding_ClinicalCode SET EntryKind = 'CONS' WHERE EntryKind = 'FIND'",
    )?;
    site.command(&["run"])?.ok()?;
    let stored = OpenedBundle::stored(&stage.linker, &site)?;
    let chain: Vec<(u64, &str)> =
        stored.iter().map(|it| (it.header.sequence, it.header.module.id.as_str())).collect();
    let expected: Vec<(u64, &str)> = (1..=6)
        .map(|sequence| (sequence, "control"))
        .chain((7..=10).map(|sequence| (sequence, "gp-monthly")))
        .collect();
    ensure!(chain == expected, "{chain:?}");
    ensure!(stored[4].header.kind == BundleKind::Retraction, "who objects now was sent by the first module");
    ensure!(stored[9].header.counts.withheld_type_1 == 2, "{:?}", stored[9].header.counts);
    Ok(())
}

#[test]
fn evidence_whose_code_is_missing_from_the_code_table_is_read() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let missing = format!("{WITHDRAWAL} DELETE FROM Coding_ClinicalCode WHERE Code = '827241000000103'");
    two_patients(&database)?.connection.execute_batch(&missing)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let october = OpenedBundle::stored(&stage.linker, &site)?.remove(3);
    ensure!(
        october.header.counts.withheld_type_1 == 1 && october.patients.len() == 1,
        "{:?}",
        october.header.counts
    );
    Ok(())
}

#[test]
fn dissents_that_are_gone_since_the_last_bundle_stop_the_run() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = two_patients(&database)?;
    for number in 0..29 {
        let id = format!("20000{number:02}");
        record.patient(&id, 10 + number, "E01990001")?;
        record.entry(&Entry { patient: &id, ..DISSENT })?;
    }
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let counts = OpenedBundle::stored(&stage.linker, &site)?[3].header.counts.clone();
    ensure!(counts.withheld_type_1 == 30 && counts.evidence.dissents() == 30, "{counts:?}");

    // Half of them are few enough to be true; one more is not.
    site.options.as_of = "2026-12-01".to_owned();
    let gone = |dissents: u32| {
        format!(
            "UPDATE CareRecord_Observation SET IsDeleted = 1 WHERE rowid IN
                 (SELECT rowid FROM CareRecord_Observation WHERE EntryKind = 'CONS' ORDER BY rowid LIMIT {dissents})"
        )
    };
    record.connection.execute_batch(&gone(16))?;
    let finished = site.command(&["run"])?.expect(3)?;
    for word in ["holds 14 dissents, and held 30", "larger drop", "nothing was extracted"] {
        ensure!(finished.stdout.contains(word), "no `{word}` in: {}", finished.stdout);
    }
    ensure!(OpenedBundle::stored(&stage.linker, &site)?.len() == 4, "something was sent");
    record.connection.execute_batch("UPDATE CareRecord_Observation SET IsDeleted = 0")?;
    record.connection.execute_batch(&gone(15))?;
    site.run()?;
    // October is replaced, too: of those who no longer object one has an entry in it.
    let later = OpenedBundle::stored(&stage.linker, &site)?.split_off(4);
    let periods: Vec<String> = later.iter().map(|bundle| bundle.header.period.to_string()).collect();
    ensure!(periods == ["2026-10", "2026-11"], "{periods:?}");
    for bundle in &later {
        let counts = &bundle.header.counts;
        ensure!(counts.withheld_type_1 == 15 && counts.evidence.dissents() == 15, "{counts:?}");
    }
    Ok(())
}

#[test]
fn a_policy_without_dissent_codes_is_not_published() -> TestResult {
    let stage = stage_without_policy(lockgate_tests::AS_OF)?;
    let policy = stage.binaries.root().join("examples/registry/policies/objections.toml");
    let text = std::fs::read_to_string(policy)?;
    for (kind, emptied) in [("dissent", "type-1.dissent"), ("withdrawal", "type-2.withdrawal")] {
        let table = format!("[[{emptied}]]");
        let without: String = text
            .split_inclusive(&table)
            .map(|part| part.trim_end_matches(&table))
            .enumerate()
            .fold(String::new(), |all, (number, part)| {
                // What follows such a table's name, up to the next table, goes.
                let next = if number == 0 { 0 } else { part.find("\n[").map_or(part.len(), |at| at + 1) };
                all + &part[next..]
            });
        let section = emptied.split('.').next().unwrap_or_default();
        let without = without.replace(&format!("[{section}]"), &format!("[{section}]\n{kind} = []"));
        let file = stage.folder().join("policy.toml");
        std::fs::write(&file, without)?;
        let error = stage.registry.add_text("policy", &file).err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        ensure!(error.contains(&format!("`{emptied}`: holds no code")), "{emptied}: {error}");
    }
    Ok(())
}

/// A site on a stage whose registry publishes everything but the objection policy.
fn stage_without_policy(as_of: &str) -> anyhow::Result<Stage> {
    let stage = Stage::unpublished(as_of)?;
    let examples = stage.binaries.root().join("examples/registry");
    stage.registry.add_text("mapping", &examples.join("mappings/gp-extract.toml"))?;
    stage.registry.add_text("sensitive", &examples.join("sensitive/england.toml"))?;
    stage.registry.add_keys()?;
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
    // Never set; and set back behind what the registry has signed, twice: what the first leaves must not make the second
    // right.
    for day in ["1970-01-01", "2026-10-01", "2026-10-01"] {
        site.options.as_of = day.to_owned();
        let finished = site.command(&["run"])?.expect(1)?;
        for word in [&format!("clock says {day}"), "was signed at 2026-11-01", "nothing was changed"] {
            ensure!(finished.stderr.contains(word), "{day}: no `{word}` in: {}", finished.stderr);
        }
        nothing_left(&stage, &site)?;
    }
    site.options.as_of = lockgate_tests::AS_OF.to_owned();
    site.run()?;
    ensure!(OpenedBundle::stored(&stage.linker, &site)?.len() == 4, "the right clock does not run");
    Ok(())
}

#[test]
fn a_clock_that_was_never_set_stops_the_run_whatever_the_registry_says() -> TestResult {
    // A registry that was signed by such a clock, too, so that nothing else is wrong with the day.
    let stage = Stage::unpublished("2024-11-01")?;
    stage.registry.add_examples()?;
    stage.registry.add_guest("gp-monthly")?;
    stage.registry.publish()?;
    let database = stage.folder().join("practice.sqlite");
    two_patients(&database)?;
    let options =
        SiteOptions { as_of: "2024-11-02".to_owned(), ..SiteOptions::practice("A81001", &database) };
    let site = stage.site("practice", options)?;
    let finished = site.command(&["run"])?.expect(3)?;
    let word = "before this program was written";
    ensure!(finished.stdout.contains(word), "{}", finished.stdout);
    nothing_left(&stage, &site)
}

#[test]
fn a_policy_that_is_gone_or_emptied_where_it_is_published_is_told_apart() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    two_patients(&database)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let published = files(&stage.registry.location())?;
    let policy = published.iter().find(|file| file.to_string_lossy().contains("/targets/policies/"));
    let policy = policy.context("no policy is published")?;
    let bytes = std::fs::read(policy)?;
    for (words, empty) in [
        (&["policies/objections-england/", "not found", "cannot be read"][..], None),
        (&["policies/objections-england/", "length 0", "does not hold what was signed"][..], Some(b"")),
    ] {
        std::fs::remove_file(policy)?;
        if let Some(empty) = empty {
            std::fs::write(policy, empty)?;
        }
        // It is here, signed: nothing stops.
        site.run()?;
        // Nor here any more: the run stops, and says what is wrong there.
        for kept in files(&site.state().join("trust/targets"))? {
            std::fs::remove_file(kept)?;
        }
        let stopped = site.command(&["run"])?.expect(1)?.stderr;
        ensure!(words.iter().all(|word| stopped.contains(word)), "not all of {words:?} in: {stopped}");
        std::fs::write(policy, &bytes)?;
        site.run()?;
    }
    Ok(())
}
