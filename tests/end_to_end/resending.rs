//! Sending again, later, or against a receipt that was there already.

use std::process::Command;

use anyhow::ensure;
use lockgate_tests::{ExactlyOnce, Site, SiteOptions, Stage, copy_folder};
use serde_json::Value;

use crate::TestResult;

/// A first run makes four months.
const BUNDLES: u64 = 4;

#[test]
fn sending_everything_twice_changes_nothing() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage)?;
    site.command(&["run", "--no-push"])?.ok()?;
    keep(&site, "outbox", "outbox-before")?;
    let first = site.command(&["--json", "push"])?.ok()?.json()?;
    ensure!(first["acknowledged"].as_array().map(Vec::len) == Some(4), "{first}");
    let stored = stored(&stage)?;
    keep(&site, "receipts", "receipts-before")?;

    // As from a backup that knows nothing of the receipts: all of it is sent again.
    give_back(&site, "outbox-before", "outbox")?;
    std::fs::remove_dir_all(site.state().join("receipts"))?;
    let second = site.command(&["--json", "push"])?.ok()?.json()?;
    ensure!(second == first, "{second}");
    ensure!(self::stored(&stage)? == stored, "the linker changed");
    let mut diff = Command::new("diff");
    diff.arg("-r").arg(site.state().join("receipts")).arg(site.folder.join("receipts-before"));
    let same = lockgate_tests::command::finish(&mut diff)?;
    ensure!(same.code == Some(0), "other receipts: {}", same.stdout);
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn a_bundle_whose_receipt_is_stored_leaves_the_outbox_without_the_linker() -> TestResult {
    let mut stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage)?;
    site.command(&["run", "--no-push"])?.ok()?;
    keep(&site, "outbox", "outbox-before")?;
    site.command(&["push"])?.ok()?;
    give_back(&site, "outbox-before", "outbox")?;
    stage.linker.kill()?;
    site.command(&["push"])?.ok()?;
    stage.linker.start()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn a_file_in_the_place_of_a_receipt_frees_nothing() -> TestResult {
    let mut stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage)?;
    site.command(&["run", "--no-push"])?.ok()?;
    for bundle in std::fs::read_dir(site.state().join("outbox/queued"))? {
        let name = bundle?.file_name().to_string_lossy().into_owned();
        std::fs::write(site.state().join("receipts").join(name + ".cbor"), b"no receipt")?;
    }
    stage.linker.kill()?;
    site.command(&["push"])?.expect(4)?;
    ensure!(queued(&site)? == 4, "bundles went without a receipt");
    stage.linker.start()?;
    site.command(&["push"])?.ok()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn without_a_linker_bundles_stay_and_the_next_run_sends_them() -> TestResult {
    let mut stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage)?;
    stage.linker.kill()?;
    let away = site.command(&["run"])?.expect(4)?;
    let told = "the linker cannot be reached: Connection refused (os error 111); \
                bundles stay in the outbox and are sent when it is back";
    ensure!(away.stderr.contains(told), "{}", away.stderr);
    ensure!(queued(&site)? == 4, "bundles are missing");
    site.command(&["run"])?.expect(4)?;
    ensure!(queued(&site)? == 4, "a run without a linker made more, or lost some");
    stage.linker.start()?;
    let back = site.run()?;
    ensure!(back["acknowledged"].as_array().map(Vec::len) == Some(4), "{back}");
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn a_month_that_cannot_be_read_comes_when_it_can() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage)?;
    let damage = |from: &str, to: &str| -> TestResult {
        let sql = format!(
            "UPDATE Prescribing_IssueRecord SET Quantity = {to} WHERE IssueRecordId =
             (SELECT max(IssueRecordId) FROM Prescribing_IssueRecord WHERE EnteredDate LIKE '2026-10-%' AND {from})"
        );
        let changed = rusqlite::Connection::open(&site.options.database)?.execute(&sql, ())?;
        ensure!(changed == 1, "{changed} rows changed");
        Ok(())
    };
    damage("IsDeleted = 0", "'a few'")?;
    let run = site.command(&["run"])?.expect(3)?;
    let told = format!("{}\n{}", run.stdout, run.stderr);
    ensure!(told.contains("failed after these months, which stay good"), "{told}");
    ensure!(told.contains("gp-extract") && told.contains("quantity") && !told.contains("a few"), "{told}");
    ensure!(stored(&stage)?.as_array().map(Vec::len) == Some(3), "July to September are whole");
    damage("Quantity = 'a few'", "28")?;
    site.run()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

fn site(stage: &Stage) -> anyhow::Result<Site> {
    let database = stage.practice_database("practice", 100)?;
    let options = SiteOptions { give_up_s: 0, ..SiteOptions::practice("A81001", &database) };
    stage.site("practice", options)
}

fn queued(site: &Site) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(site.state().join("outbox/queued"))?.count())
}

fn stored(stage: &Stage) -> anyhow::Result<Value> {
    Ok(stage.linker.command(&["--json", "bundles"])?.ok()?.json()?["bundles"].take())
}

/// Copies a folder of the agent's state aside.
fn keep(site: &Site, folder: &str, aside: &str) -> TestResult {
    copy_folder(&site.state().join(folder), &site.folder.join(aside))
}

/// Puts it back, in the place of what is there.
fn give_back(site: &Site, aside: &str, folder: &str) -> TestResult {
    std::fs::remove_dir_all(site.state().join(folder))?;
    copy_folder(&site.folder.join(aside), &site.state().join(folder))
}
