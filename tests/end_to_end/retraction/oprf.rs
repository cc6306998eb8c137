//! Retraction where tokens are made by a real keyholder: of who moved, and across epochs.

use anyhow::ensure;
use lockgate_signing::bundle::TokenScheme;
use lockgate_tests::opened::{OpenedBundle, files};
use lockgate_tests::{Keyholder, Site, SiteOptions, Stage, Warehouse};

use super::{OTHER_VALUE, Practice, VALUE, history, retractions, values};
use crate::TestResult;
use crate::tokens::publish_epochs;

const DOMAIN: &str = "care-data";
/// What the patient has in a month that is not extracted again.
const OLD_VALUE: f64 = 23.4844;
/// What the new practice enters of the patient; or what somebody has in August only.
const NEXT_VALUE: f64 = 20.2656;
const OLD: usize = 0;
const NEW: usize = 1;

/// Two practices that have their tokens of one keyholder. The patient is at the first.
struct Two {
    stage: Stage,
    keyholder: Keyholder,
    old: Practice,
    new: Practice,
    sites: [Site; 2],
    warehouse: Warehouse,
}

impl Two {
    fn new() -> anyhow::Result<Self> {
        Self::with(&[])
    }

    /// Further patients of the old practice, each with an entry of August and no other.
    fn with(more: &[(&str, u64, f64)]) -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let mut keyholder = Keyholder::new(&stage.binaries, stage.folder(), &[DOMAIN])?;
        keyholder.start()?;
        publish_epochs(&stage, &keyholder, &[(1, "2026-01-01", "2027-12-31")])?;
        let old = Practice::with_patient(&stage, "old", 1)?;
        old.measure("1000001", "2026-08-10", OLD_VALUE)?;
        for (id, person, value) in more {
            old.record.patient(id, *person, "E01990001")?;
            old.measure(id, "2026-08-12", *value)?;
        }
        let new = Practice::new(&stage, "new", 101)?;
        let site = |name: &str, practice: &Practice| -> anyhow::Result<Site> {
            let options = SiteOptions::practice(name, &practice.database);
            let site = stage.site(name, SiteOptions { keyholder: Some(keyholder.url()), ..options })?;
            let key = site.state().join("site-key.pub.pem").display().to_string();
            keyholder.command(&["site", "add", name, &key, "--patients", "300"])?.ok()?;
            Ok(site)
        };
        let sites = [site("A81001", &old)?, site("B82002", &new)?];
        let warehouse = Warehouse::of(&stage)?;
        sites.iter().try_for_each(|site| site.run().map(drop))?;
        let two = Self { stage, keyholder, old, new, sites, warehouse };
        two.collect()?;
        let sent = values(&two.warehouse)?;
        ensure!(sent.len() == 4 + more.len() && sent.contains(&VALUE), "{sent:?}");
        Ok(two)
    }

    fn collect(&self) -> anyhow::Result<serde_json::Value> {
        self.warehouse.collect(&self.stage.linker.url())
    }

    /// A site runs; the warehouse collects; the site hears of it.
    fn run(&mut self, site: usize, day: &str) -> anyhow::Result<serde_json::Value> {
        day.clone_into(&mut self.sites[site].options.as_of);
        self.sites[site].run()?;
        let collected = self.collect()?;
        self.sites[site].command(&["push"])?.ok()?;
        Ok(collected)
    }

    /// A second epoch begins in December; the first one is answered for until March.
    fn rotate(&mut self) -> TestResult {
        self.keyholder.command(&["key", "new", DOMAIN])?.ok()?;
        self.keyholder.stop()?;
        self.keyholder.start()?;
        let epochs = [(1, "2026-01-01", "2027-03-31"), (2, "2026-12-01", "2027-12-31")];
        publish_epochs(&self.stage, &self.keyholder, &epochs)?;
        // What is published is known from here on: on later days, this registry's timestamp has expired.
        self.sites.iter().try_for_each(|site| site.command(&["refresh"])?.ok().map(drop))
    }

    /// The patient registers at the new practice, under another local id, and objects before anything was sent from there.
    fn move_and_object(&self, day: &str) -> TestResult {
        self.new.record.patient("7000001", 1, "E01990001")?;
        self.new.object("7000001", day)
    }

    /// Neither value of the patient is in the tables, nor anywhere on the warehouse's disk.
    fn is_forgotten(&self) -> TestResult {
        let left = values(&self.warehouse)?;
        ensure!(left.iter().all(|value| *value == OTHER_VALUE), "{left:?}");
        for file in files(self.warehouse.folder())? {
            let bytes = std::fs::read(&file)?;
            for value in [VALUE, OLD_VALUE] {
                let found = bytes.windows(8).any(|window| window == value.to_be_bytes());
                ensure!(!found, "{} holds {value}", file.display());
            }
        }
        Ok(())
    }
}

#[test]
fn who_moved_and_objects_at_the_new_practice_is_deleted_everywhere_and_may_come_back() -> TestResult {
    let mut two = Two::new()?;
    // Sent from both practices by now, under one token that neither of them could have made alone.
    two.new.register("7000001", 1, NEXT_VALUE)?;
    two.run(NEW, "2026-11-02")?;
    ensure!(values(&two.warehouse)?.contains(&NEXT_VALUE), "{:?}", values(&two.warehouse)?);
    two.new.object("7000001", "2026-11-03")?;
    let collected = two.run(NEW, "2026-11-03")?;
    ensure!(collected["retractions"] == 1 && collected["statements"] == 1, "{collected}");
    let [retraction] = &retractions(&two.stage, &two.sites[NEW])?[..] else { anyhow::bail!("not one") };
    ensure!(retraction.header.tokens.scheme == TokenScheme::Oprf, "{:?}", retraction.header.tokens);
    two.is_forgotten()?;
    ensure!(!values(&two.warehouse)?.contains(&NEXT_VALUE), "{:?}", values(&two.warehouse)?);
    // The new site has it in writing; the old one was not asked, and need not know.
    ensure!(history(&two.sites[NEW], "retracted")? == 1 && history(&two.sites[NEW], "deleted")? == 1);
    ensure!(history(&two.sites[OLD], "retracted")? == 0 && history(&two.sites[OLD], "deleted")? == 0);
    let shown = two.sites[NEW].command(&["history"])?.ok()?.stdout;
    ensure!(shown.contains("deleted at the centre"), "{shown}");
    // The old practice goes on to send; it stays out.
    two.old.measure("1000001", "2026-11-05", VALUE)?;
    let collected = two.run(OLD, "2026-12-01")?;
    ensure!(collected["rows-kept-out"].as_u64() > Some(0), "{collected}");
    two.is_forgotten()?;

    // Withdrawn where it was made: back from then on.
    two.new.withdraw("7000001", "2026-12-02")?;
    two.new.measure("7000001", "2026-12-05", NEXT_VALUE)?;
    two.run(NEW, "2027-01-02")?;
    ensure!(values(&two.warehouse)?.contains(&NEXT_VALUE), "{:?}", values(&two.warehouse)?);
    ensure!(history(&two.sites[NEW], "retracted")? == 1, "it was retracted again");
    two.old.measure("1000001", "2026-12-06", VALUE)?;
    two.run(OLD, "2027-01-03")?;
    ensure!(values(&two.warehouse)?.contains(&VALUE), "{:?}", values(&two.warehouse)?);
    Ok(())
}

#[test]
fn a_retraction_of_the_new_epoch_deletes_what_was_sent_in_the_old_one() -> TestResult {
    let mut two = Two::new()?;
    two.rotate()?;
    let collected = two.run(OLD, "2026-12-01")?;
    ensure!(collected["renewed"] == 2 && collected["contradicted"] == 0, "{collected}");
    // One patient has one token, though the months are of two epochs.
    let rows = two.warehouse.rows(super::EVENTS)?;
    let tokens = |value: f64| rows.iter().filter(move |row| row["value"] == value).map(|row| &row["patient"]);
    ensure!(tokens(OLD_VALUE).count() == 1 && tokens(OLD_VALUE).eq(tokens(VALUE)), "{rows:?}");

    // When the old epoch is over, the new practice can make no token of it for her.
    two.move_and_object("2027-04-02")?;
    let collected = two.run(NEW, "2027-04-03")?;
    let retracted = retractions(&two.stage, &two.sites[NEW])?;
    ensure!(retracted.len() == 1 && retracted[0].header.tokens.epoch == 2, "{} retractions", retracted.len());
    ensure!(collected["statements"] == 1 && collected["rows-deleted"].as_u64() >= Some(2), "{collected}");
    two.is_forgotten()?;
    ensure!(history(&two.sites[NEW], "deleted")? == 1);
    Ok(())
}

#[test]
fn who_has_no_rows_in_the_overlap_is_told_of_too_and_once() -> TestResult {
    let mut two = Two::with(&[("1000004", 4, NEXT_VALUE)])?;
    two.rotate()?;
    let collected = two.run(OLD, "2026-12-01")?;
    ensure!(collected["renewed"] == 3, "{collected}");
    let sent = OpenedBundle::stored(&two.stage.linker, &two.sites[OLD])?;
    let of_epoch: Vec<_> = sent.iter().filter(|bundle| bundle.header.tokens.epoch == 2).collect();
    let [first, second] = &of_epoch[..] else { anyhow::bail!("{} bundles", of_epoch.len()) };
    // Behind those of the bundle's rows, and with nothing but her tokens.
    let [one, other, told] = &first.patients[..] else { anyhow::bail!("{} patients", first.patients.len()) };
    ensure!([one, other, told].iter().all(|row| row.former.is_some()), "{:?}", first.patients);
    ensure!(one.links[0].is_some() && told.links.iter().all(Option::is_none), "{:?}", first.patients);
    ensure!(second.patients.is_empty(), "told twice: {:?}", second.patients);
    // That it told does not count: October is as it was.
    let collected = two.run(OLD, "2026-12-02")?;
    ensure!(collected["bundles"] == 0, "{collected}");

    two.new.record.patient("7000004", 4, "E01990001")?;
    two.new.object("7000004", "2026-12-03")?;
    two.run(NEW, "2026-12-03")?;
    let left = values(&two.warehouse)?;
    ensure!(!left.contains(&NEXT_VALUE) && left.contains(&OLD_VALUE), "{left:?}");
    Ok(())
}

#[test]
fn a_retraction_that_comes_before_the_word_on_the_new_epoch_deletes_at_once() -> TestResult {
    let mut two = Two::new()?;
    two.rotate()?;
    two.move_and_object("2026-12-02")?;
    // Nobody has said yet which token is whose, so she is retracted under both.
    let collected = two.run(NEW, "2026-12-03")?;
    ensure!(collected["rows-deleted"].as_u64() >= Some(2), "{collected}");
    two.is_forgotten()?;
    let collected = two.run(OLD, "2026-12-04")?;
    ensure!(collected["rows-kept-out"].as_u64() > Some(0), "{collected}");
    two.is_forgotten()
}

#[test]
fn who_left_before_anybody_could_say_what_her_token_became_is_deleted_too() -> TestResult {
    let mut two = Two::new()?;
    // In no database while the epoch changes, and first seen at the new practice under the new one: she was sent under a token
    // that no bundle will ever explain.
    two.old.record.remove("1000001")?;
    two.rotate()?;
    two.run(OLD, "2026-12-01")?;
    two.run(NEW, "2026-12-01")?;
    ensure!(values(&two.warehouse)?.contains(&OLD_VALUE), "{:?}", values(&two.warehouse)?);
    two.move_and_object("2026-12-02")?;
    two.run(NEW, "2026-12-03")?;
    let mut epochs: Vec<u32> = retractions(&two.stage, &two.sites[NEW])?
        .iter()
        .map(|retraction| retraction.header.tokens.epoch)
        .collect();
    epochs.sort_unstable();
    ensure!(epochs == [1, 2], "{epochs:?}");
    two.is_forgotten()?;
    ensure!(history(&two.sites[NEW], "deleted")? == 2);
    Ok(())
}
