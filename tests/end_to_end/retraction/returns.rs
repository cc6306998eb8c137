//! Withdrawals, and what replaces what.

use anyhow::ensure;
use lockgate_tests::opened::OpenedBundle;
use serde_json::Value;

use super::{EVENTS, OTHER_VALUE, Scene, VALUE, history};
use crate::TestResult;

const LATER: f64 = 22.1406;

#[test]
fn a_withdrawal_brings_the_patient_back_from_then_on() -> TestResult {
    let mut scene = Scene::new()?;
    let token = |scene: &Scene, value: f64| -> anyhow::Result<Option<Value>> {
        let rows = scene.warehouse.rows(EVENTS)?;
        Ok(rows.into_iter().find(|row| row["value"] == value).and_then(|mut row| row.remove("patient")))
    };
    let before = token(&scene, VALUE)?;
    scene.practice.object("1000001", "2026-11-02")?;
    scene.cycle("2026-11-02")?;
    ensure!(scene.values()? == [OTHER_VALUE], "{:?}", scene.values()?);
    scene.practice.withdraw("1000001", "2026-11-20")?;
    scene.practice.measure("1000001", "2026-11-21", LATER)?;
    scene.cycle("2026-12-01")?;
    // The month that is looked back on, and the new one; she has the name that she had.
    ensure!(scene.values()? == [LATER, OTHER_VALUE, VALUE], "{:?}", scene.values()?);
    ensure!(before.is_some() && token(&scene, LATER)? == before, "another token");
    ensure!(history(&scene.site, "retracted")? == 1);
    // And out again.
    scene.practice.object("1000001", "2026-12-02")?;
    scene.cycle("2026-12-03")?;
    ensure!(scene.values()? == [OTHER_VALUE], "{:?}", scene.values()?);
    ensure!(history(&scene.site, "retracted")? == 2 && history(&scene.site, "deleted")? == 2);
    Ok(())
}

#[test]
fn a_withdrawal_brings_back_a_month_that_was_not_extracted_while_the_objection_stood() -> TestResult {
    let mut scene = Scene::new()?;
    // The module stands still; the retraction goes all the same.
    scene.site.command(&["modules", "refuse", "gp-monthly"])?.ok()?;
    scene.practice.object("1000001", "2026-11-02")?;
    scene.cycle("2026-11-02")?;
    ensure!(scene.values()? == [OTHER_VALUE], "{:?}", scene.values()?);
    scene.practice.withdraw("1000001", "2026-11-03")?;
    scene.site.command(&["modules", "approve", "gp-monthly"])?.ok()?;
    // Her October is what it was when it was sent, and not what the centre has of it.
    scene.cycle("2026-11-04")?;
    ensure!(scene.values()? == [OTHER_VALUE, VALUE], "{:?}", scene.values()?);
    let again = scene.cycle("2026-11-05")?;
    ensure!(again["bundles"] == 0, "{again}");
    Ok(())
}

#[test]
fn a_month_is_replaced_only_where_it_differs() -> TestResult {
    let mut scene = Scene::new()?;
    let sent = || OpenedBundle::stored(&scene.stage.linker, &scene.site);
    let first = sent()?.len();
    let collected = scene.cycle("2026-12-01")?;
    // October is made again and is the same; November is new.
    ensure!(collected["bundles"] == 1, "{collected}");
    ensure!(scene.values()? == [OTHER_VALUE, VALUE], "{:?}", scene.values()?);
    scene.practice.record.connection.execute(
        "UPDATE CareRecord_Observation SET NumericValue = ?1 WHERE NumericValue = ?2",
        [LATER, VALUE],
    )?;
    // An entry of October that was changed in November: the month before is December's, and October is looked back on no more.
    let collected = scene.cycle("2026-12-02")?;
    ensure!(collected["bundles"] == 0, "{collected}");
    scene.practice.measure("1000002", "2026-11-11", 24.0156)?;
    let collected = scene.cycle("2026-12-03")?;
    ensure!(collected["bundles"] == 1 && collected["rows"] == 2, "{collected}");
    ensure!(scene.values()? == [24.0156, OTHER_VALUE, VALUE], "{:?}", scene.values()?);
    scene.practice.record.connection.execute(
        "UPDATE CareRecord_Observation SET NumericValue = ?1 WHERE NumericValue = ?2",
        [LATER, 24.0156],
    )?;
    scene.cycle("2026-12-04")?;
    ensure!(scene.values()? == [LATER, OTHER_VALUE, VALUE], "{:?}", scene.values()?);
    let last = OpenedBundle::stored(&scene.stage.linker, &scene.site)?;
    ensure!(last.len() == first + 3, "{} bundles", last.len());
    Ok(())
}
