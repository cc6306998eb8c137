//! What the centre sees of objections that disappear: from headers alone, of sites whose agents saw nothing to stop for.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use lockgate_tests::{Finished, Site, SiteOptions, Stage};

use crate::TestResult;
use crate::record::{DISSENT, Entry, PLAIN, Record, WITHDRAWN};

/// A practice with this many patients who object, one who has withdrawn, and one who never did.
struct Practice {
    record: Record,
    site: Site,
}

impl Practice {
    fn new(stage: &Stage, name: &str, dissents: u64) -> anyhow::Result<Self> {
        let database: PathBuf = stage.folder().join(name).with_extension("sqlite");
        let record = Record::create(&database)?;
        record.patient("1000001", 1, "E01990001")?;
        record.entry(&Entry { patient: "1000001", ..PLAIN })?;
        record.patient("1000002", 2, "E01990001")?;
        record.entry(&Entry { patient: "1000002", ..WITHDRAWN })?;
        for number in 0..dissents {
            let id = format!("20000{number:02}");
            record.patient(&id, 10 + number, "E01990001")?;
            record.entry(&Entry { patient: &id, ..DISSENT })?;
        }
        let site = stage.site(name, SiteOptions::practice(name, &database))?;
        Ok(Self { record, site })
    }

    fn run(&mut self, day: &str) -> TestResult {
        day.clone_into(&mut self.site.options.as_of);
        self.site.run().map(drop)
    }

    /// Marks so many dissents as deleted, and no others.
    fn lose(&self, dissents: u32) -> TestResult {
        self.record.connection.execute_batch(&format!(
            "UPDATE CareRecord_Observation SET IsDeleted = rowid IN
                 (SELECT rowid FROM CareRecord_Observation WHERE PatientId >= '2000000' ORDER BY rowid LIMIT {dissents})"
        ))?;
        Ok(())
    }
}

fn objections(stage: &Stage, more: &[&str]) -> anyhow::Result<Finished> {
    stage.linker.command(&[&["objections"], more].concat())
}

#[test]
fn a_site_whose_objections_are_gone_is_an_alarm_until_they_are_back() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    // Too few for the site's own agent, to which five of five may be five patients who moved.
    let mut losing = Practice::new(&stage, "A81001", 5)?;
    let mut steady = Practice::new(&stage, "B82002", 30)?;
    ensure!(objections(&stage, &[])?.ok()?.stdout.contains("none"), "before anything was sent");
    for practice in [&mut losing, &mut steady] {
        practice.run("2026-11-01")?;
    }
    let first = objections(&stage, &[])?.ok()?.stdout;
    ensure!(first.contains("none, it is the first") && !first.contains("ALARM"), "{first}");

    losing.lose(5)?;
    for practice in [&mut losing, &mut steady] {
        practice.run("2026-12-01")?;
    }
    let alarmed = objections(&stage, &[])?.expect(5)?;
    for what in ["type-1-dissent", "patients-withheld"] {
        let line = format!("ALARM A81001: {what}: none is left, 5 before (2026-11-01 12:00:00 UTC), 0 now\n");
        ensure!(alarmed.stdout.contains(&line), "no `{line}` in: {}", alarmed.stdout);
    }
    ensure!(alarmed.stdout.matches("ALARM").count() == 2, "{}", alarmed.stdout);
    ensure!(
        alarmed.stderr.contains("alarms about objections: 2, sites that they are of: 1"),
        "{}",
        alarmed.stderr
    );
    objections(&stage, &["--site", "B82002"])?.ok()?;
    objections(&stage, &["--site", "C83003"])?.expect(1)?;
    objections(&stage, &["--zero-from", "6"])?.ok()?;
    let json = objections(&stage, &["--json"])?.expect(5)?.json()?;
    let listed = json["sites"].as_array().context("no list")?;
    ensure!(listed.len() == 2 && listed[1]["alarms"] == serde_json::json!([]), "{json}");
    let expected = serde_json::json!({
        "what": "type-1-dissent", "change": "zero", "before": 5, "now": 0, "before-at-s": 1_793_534_400,
        "policy-changed": false,
    });
    ensure!(listed[0]["alarms"].as_array().is_some_and(|alarms| alarms.contains(&expected)), "{json}");

    // A month later it is still so. It is said again, and by nothing but headers: the blocks may be anywhere.
    losing.run("2027-01-01")?;
    std::fs::rename(stage.linker.folder().join("objects/blocks"), stage.folder().join("elsewhere"))?;
    let still = objections(&stage, &[])?.expect(5)?.stdout;
    ensure!(still.contains("type-1-dissent: none is left, 5 before (2026-11-01 "), "{still}");
    std::fs::rename(stage.folder().join("elsewhere"), stage.linker.folder().join("objects/blocks"))?;

    // They are back, and their retraction counts nothing.
    losing.lose(0)?;
    losing.run("2027-02-01")?;
    let back = objections(&stage, &[])?.ok()?.stdout;
    ensure!(!back.contains("ALARM"), "{back}");
    Ok(())
}

#[test]
fn a_step_that_the_sites_policy_lets_through_is_an_alarm_for_a_quarter() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let mut practice = Practice::new(&stage, "A81001", 30)?;
    practice.run("2026-11-01")?;
    // More than half would have stopped the run.
    practice.lose(15)?;
    practice.run("2026-12-01")?;
    let fell = "ALARM A81001: type-1-dissent: fell, 30 before (2026-11-01 12:00:00 UTC), 15 now";
    let alarmed = objections(&stage, &[])?.expect(5)?.stdout;
    ensure!(alarmed.contains(fell), "{alarmed}");
    for lenient in [["--step-percent", "50"], ["--step-min", "16"]] {
        objections(&stage, &lenient)?.ok()?;
    }
    // It stands, though the snapshot before is no better; but for who has looked into it.
    practice.run("2027-01-01")?;
    let alarmed = objections(&stage, &[])?.expect(5)?.stdout;
    ensure!(alarmed.contains(fell), "{alarmed}");
    objections(&stage, &["--look-back-days", "0"])?.ok()?;
    objections(&stage, &["--look-back-days", "60"])?.ok()?;
    practice.run("2027-02-02")?;
    objections(&stage, &[])?.ok()?;
    // And back up, which is told once: nobody is let out by it.
    practice.lose(0)?;
    practice.run("2027-03-01")?;
    let risen = objections(&stage, &[])?.expect(5)?.stdout;
    ensure!(
        risen.contains("patients-withheld: rose, 15 before (2027-02-02 12:00:00 UTC), 30 now"),
        "{risen}"
    );
    practice.run("2027-04-01")?;
    objections(&stage, &[])?.ok()?;
    Ok(())
}

#[test]
fn a_drain_in_small_steps_is_an_alarm() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let mut practice = Practice::new(&stage, "A81001", 30)?;
    for (day, lost) in [("2026-11-01", 0), ("2026-11-20", 5), ("2026-12-10", 9)] {
        practice.lose(lost)?;
        practice.run(day)?;
        objections(&stage, &[])?.ok()?;
    }
    practice.lose(14)?;
    practice.run("2027-01-02")?;
    let alarmed = objections(&stage, &[])?.expect(5)?.stdout;
    ensure!(
        alarmed.contains("type-1-dissent: fell, 30 before (2026-11-01 12:00:00 UTC), 16 now"),
        "{alarmed}"
    );
    Ok(())
}
