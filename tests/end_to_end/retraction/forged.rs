//! A linker that is taken over cannot say that the centre has deleted, and the warehouse believes nobody but pinned sites.

use anyhow::{Context as _, ensure};
use lockgate_signing::deletion::DeletionStatement;
use lockgate_signing::envelope::sign;
use lockgate_signing::keys::SigningKey;
use lockgate_tests::{Warehouse, WarehouseKeys};
use rusqlite::Connection;

use super::{Practice, Scene, VALUE, history, retractions};
use crate::TestResult;

#[test]
fn a_statement_that_is_forged_or_of_another_retraction_counts_for_nothing() -> TestResult {
    let mut scene = Scene::new()?;
    // One that is real, to be replayed later.
    scene.practice.object("1000001", "2026-11-02")?;
    scene.cycle("2026-11-02")?;
    ensure!(history(&scene.site, "deleted")? == 1);
    scene.practice.object("1000002", "2026-11-03")?;
    scene.site.options.as_of = "2026-11-03".to_owned();
    scene.site.run()?;
    let [first, second] = &retractions(&scene.stage, &scene.site)?[..] else {
        anyhow::bail!("not two retractions")
    };
    let database = Connection::open(scene.stage.linker.folder().join("linker.db"))?;
    let real: Vec<u8> = database.query_row("SELECT statement FROM deletion", [], |row| row.get(0))?;
    let says = |key: &SigningKey| {
        let statement = DeletionStatement {
            bundle: second.id,
            site: second.header.site.clone(),
            sequence: second.header.sequence,
            module: second.header.module.id.clone(),
            deleted_at_s: 1_793_700_000,
        };
        sign(&statement, key)
    };
    let linker = std::fs::read_to_string(scene.stage.linker.folder().join("linker-key.pem"))?;
    let mut flipped = says(&WarehouseKeys::in_folder(scene.stage.folder())?.signing()?);
    *flipped.last_mut().context("no signature")? ^= 1;
    for (what, statement, words) in [
        ("replayed", real, "about another retraction"),
        ("signed by the linker", says(&SigningKey::from_pem(&linker)?), "signed by nobody"),
        ("flipped", flipped, "signature"),
        ("nonsense", b"hello".to_vec(), "not a signed envelope"),
    ] {
        database.execute("DELETE FROM deletion WHERE bundle = ?1", [second.id.0.as_bytes()])?;
        database.execute(
            "INSERT INTO deletion SELECT ?1, key, ?2, received_at_s FROM deletion WHERE bundle = ?3",
            rusqlite::params![second.id.0.as_bytes(), statement, first.id.0.as_bytes()],
        )?;
        let pushed = scene.site.command(&["push"])?.expect(5).context(what)?;
        ensure!(pushed.stderr.contains("deletion statement"), "{what}: {}", pushed.stderr);
        ensure!(pushed.stderr.contains(words), "{what}: {}", pushed.stderr);
        ensure!(history(&scene.site, "deleted")? == 1, "{what}: it counted");
    }
    // A week later it is for a person to ask why.
    scene.site.options.as_of = "2026-11-12".to_owned();
    let status = scene.site.command(&["status"])?.expect(6)?.stdout;
    ensure!(status.contains("has not said for a week that it has deleted"), "{status}");
    database.execute("DELETE FROM deletion WHERE bundle = ?1", [second.id.0.as_bytes()])?;
    drop(database);
    scene.collect()?;
    scene.site.command(&["push"])?.ok()?;
    ensure!(history(&scene.site, "deleted")? == 2);
    Ok(())
}

#[test]
fn what_is_signed_for_a_site_that_is_not_pinned_is_set_aside_until_it_is() -> TestResult {
    let scene = Scene::new()?;
    let practice = Practice::with_patient(&scene.stage, "other", 201)?;
    let other = practice.site(&scene.stage, "B82002")?;
    other.run()?;
    let url = scene.stage.linker.url();
    let collect = ["collect", "--linker", &url];
    let collected = scene.warehouse.command(&collect)?.expect(3)?;
    ensure!(collected.stderr.contains("4 bundles are set aside"), "{}", collected.stderr);
    let status = scene.warehouse.command(&["status"])?.ok()?.stdout;
    ensure!(status.contains("pinned for no site"), "{status}");
    ensure!(scene.values()?.iter().filter(|value| **value == VALUE).count() == 1, "it counted");
    scene.warehouse.pin_sites(&scene.stage.linker)?;
    scene.warehouse.command(&collect)?.ok()?;
    ensure!(scene.values()?.iter().filter(|value| **value == VALUE).count() == 2, "it was lost");
    Ok(())
}

#[test]
fn a_warehouse_that_is_no_recipient_here_is_handed_nothing() -> TestResult {
    let scene = Scene::new()?;
    scene.stage.linker.command(&["recipient", "revoke", "warehouse"])?.ok()?;
    let url = scene.stage.linker.url();
    let collected = scene.warehouse.command(&["collect", "--linker", &url])?.expect(1)?;
    ensure!(collected.stderr.contains("unknown-recipient"), "{}", collected.stderr);
    let away = scene.warehouse.command(&["collect", "--linker", "http://127.0.0.1:9"])?.expect(4)?;
    ensure!(away.stderr.contains("cannot be reached"), "{}", away.stderr);
    let open = scene.warehouse.command(&["collect", "--linker", "http://linker.example.org"])?.expect(1)?;
    ensure!(open.stderr.contains("https://"), "{}", open.stderr);
    let _: Warehouse = scene.warehouse;
    Ok(())
}
