//! An objection that is made later reaches what was sent: from the record of a practice to the disk of the warehouse and back.

mod crashes;
mod forged;
mod oprf;
mod returns;
mod spread;

pub(crate) use crashes::{LINKER as LINKER_DIES_AT, PLACES as DIES_AT, WAREHOUSE as WAREHOUSE_DIES_AT};

use std::path::PathBuf;

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, ensure};
use data_encoding::{BASE64, HEXLOWER};
use lockgate_signing::bundle::BundleKind;
use lockgate_tests::opened::{OpenedBundle, files};
use lockgate_tests::{Site, SiteOptions, Stage, Warehouse};
use serde_json::Value;

use crate::TestResult;
use crate::record::{Entry, PLAIN, Record};

/// What the patient has that nobody else has, and whom nobody retracts.
const VALUE: f64 = 31.7656;
const OTHER_VALUE: f64 = 26.5469;
const EVENTS: &str = "gp-monthly/events";
const DISSENT: &str = "827241000000103";
const WITHDRAWAL: &str = "827261000000102";

/// A coded entry about consent.
fn consent<'a>(patient: &'a str, day: &'a str, code: &'a str) -> Entry<'a> {
    Entry {
        patient,
        entered: day,
        effective: Some(day),
        code,
        kind: "CONS",
        code_kind: Some("CONS"),
        value: None,
        unit: None,
        ..PLAIN
    }
}

/// A practice of two patients that are sent, and of one who has long objected. Persons are numbered from `first`.
struct Practice {
    record: Record,
    database: PathBuf,
}

impl Practice {
    fn new(stage: &Stage, name: &str, first: u64) -> anyhow::Result<Self> {
        let database = stage.folder().join(name).with_extension("sqlite");
        let record = Record::create(&database)?;
        let practice = Self { record, database };
        practice.register("1000002", first + 1, OTHER_VALUE)?;
        practice.record.patient("1000003", first + 2, "E01990001")?;
        practice.record.entry(&consent("1000003", "2019-02-03", DISSENT))?;
        Ok(practice)
    }

    /// The same with the patient whom the tests are about.
    fn with_patient(stage: &Stage, name: &str, first: u64) -> anyhow::Result<Self> {
        let practice = Self::new(stage, name, first)?;
        practice.register("1000001", first, VALUE)?;
        Ok(practice)
    }

    /// A registration with an entry of October.
    fn register(&self, id: &str, person: u64, value: f64) -> TestResult {
        self.record.patient(id, person, "E01990001")?;
        self.measure(id, "2026-10-10", value)
    }

    fn measure(&self, id: &str, day: &str, value: f64) -> TestResult {
        self.record.entry(&Entry {
            patient: id,
            entered: day,
            effective: Some(day),
            value: Some(value),
            ..PLAIN
        })
    }

    fn object(&self, id: &str, day: &str) -> TestResult {
        self.record.entry(&consent(id, day, DISSENT))
    }

    fn withdraw(&self, id: &str, day: &str) -> TestResult {
        self.record.entry(&consent(id, day, WITHDRAWAL))
    }

    fn site(&self, stage: &Stage, name: &str) -> anyhow::Result<Site> {
        stage.site(name, SiteOptions::practice(name, &self.database))
    }
}

/// Everything, with one practice that has sent and a warehouse that has collected.
struct Scene {
    stage: Stage,
    practice: Practice,
    site: Site,
    warehouse: Warehouse,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let practice = Practice::with_patient(&stage, "practice", 1)?;
        let site = practice.site(&stage, "A81001")?;
        let warehouse = Warehouse::of(&stage)?;
        let scene = Self { stage, practice, site, warehouse };
        scene.site.run()?;
        scene.collect()?;
        ensure!(scene.values()? == [OTHER_VALUE, VALUE], "{:?}", scene.values()?);
        Ok(scene)
    }

    fn collect(&self) -> anyhow::Result<Value> {
        self.warehouse.collect(&self.stage.linker.url())
    }

    /// A whole cycle: the site runs, the warehouse collects, the site hears of it.
    fn cycle(&mut self, day: &str) -> anyhow::Result<Value> {
        day.clone_into(&mut self.site.options.as_of);
        self.site.run()?;
        let collected = self.collect()?;
        self.site.command(&["push"])?.ok()?;
        Ok(collected)
    }

    fn values(&self) -> anyhow::Result<Vec<f64>> {
        values(&self.warehouse)
    }

    /// In one cycle the patient whom the tests are about is gone from the centre, and the next one does not say so again.
    fn retracts_her_once(&mut self) -> TestResult {
        self.cycle("2026-11-02")?;
        ensure!(history(&self.site, "retracted")? == 1 && history(&self.site, "deleted")? == 1);
        ensure!(self.values()? == [OTHER_VALUE], "{:?}", self.values()?);
        self.cycle("2026-11-03")?;
        ensure!(history(&self.site, "retracted")? == 1, "retracted twice");
        Ok(())
    }
}

/// The values in the warehouse, in ascending order.
fn values(warehouse: &Warehouse) -> anyhow::Result<Vec<f64>> {
    let rows = warehouse.rows(EVENTS)?;
    let mut values: Vec<f64> = rows.iter().filter_map(|row| row.get("value")?.as_f64()).collect();
    values.sort_unstable_by(f64::total_cmp);
    Ok(values)
}

/// How often each event is in a site's history.
fn history(site: &Site, event: &str) -> anyhow::Result<usize> {
    let history = site.command(&["--json", "history"])?.ok()?.json()?;
    let entries = history["entries"].as_array().context("no entries")?;
    Ok(entries.iter().filter(|entry| entry["event"] == event).count())
}

fn retractions(stage: &Stage, site: &Site) -> anyhow::Result<Vec<OpenedBundle>> {
    let mut bundles = OpenedBundle::stored(&stage.linker, site)?;
    bundles.retain(|bundle| bundle.header.kind == BundleKind::Retraction);
    Ok(bundles)
}

/// A token or a value in every form in which it could lie about.
fn forms(bytes: &[u8]) -> [Vec<u8>; 3] {
    [bytes.to_vec(), HEXLOWER.encode(bytes).into_bytes(), BASE64.encode(bytes).into_bytes()]
}

#[test]
fn an_objection_entered_today_leads_to_deletion_that_the_site_hears_of_in_one_cycle() -> TestResult {
    let mut scene = Scene::new()?;
    let extracts = OpenedBundle::stored(&scene.stage.linker, &scene.site)?;
    let sent: Vec<_> = extracts.iter().flat_map(|bundle| &bundle.patients).map(|row| row.token).collect();
    ensure!(sent.len() == 2, "{} patients were sent", sent.len());
    // What the warehouse calls the patient, and what it knows of her.
    let rows = scene.warehouse.rows(EVENTS)?;
    let row = rows.iter().find(|row| row["value"] == VALUE).context("no row of the patient")?;
    let stored = HEXLOWER.decode(row["patient"].as_str().context("no token")?.as_bytes())?;
    ensure!(sent.iter().all(|token| token[..] != stored), "tokens are stored as sites send them");
    let hers = AhoCorasick::new([forms(&stored), forms(&VALUE.to_be_bytes())].concat())?;
    let on_disk = |hers: &AhoCorasick| -> anyhow::Result<usize> {
        let mut found = 0;
        for file in files(scene.warehouse.folder())? {
            found += hers.find_iter(&std::fs::read(&file)?).count();
        }
        Ok(found)
    };
    ensure!(on_disk(&hers)? >= 2, "the search would not find her");

    scene.practice.object("1000001", "2026-11-02")?;
    scene.site.options.as_of = "2026-11-02".to_owned();
    let printed = scene.site.run()?;
    ensure!(history(&scene.site, "retracted")? == 1, "{printed}");
    // Before anything of the same snapshot, and with nothing in it but tokens.
    let [retraction] = &retractions(&scene.stage, &scene.site)?[..] else {
        anyhow::bail!("not one retraction")
    };
    ensure!(retraction.header.sequence == extracts.len() as u64 + 1, "{:?}", retraction.header);
    ensure!(retraction.patients.len() == 16, "{} tokens", retraction.patients.len());
    let named: Vec<_> = retraction.patients.iter().filter(|row| sent.contains(&row.token)).collect();
    ensure!(named.len() == 1, "it names {} of the two", named.len());
    ensure!(retraction.patients.is_sorted_by_key(|row| row.token), "its order tells who was added");
    // The linker holds it and cannot tell whose it is.
    let tokens: Vec<_> = retraction.patients.iter().flat_map(|row| forms(&row.token)).collect();
    let tokens = AhoCorasick::new(tokens)?;
    for file in files(scene.stage.linker.folder())? {
        ensure!(!tokens.is_match(&std::fs::read(&file)?), "{} holds a token", file.display());
    }
    ensure!(!tokens.is_match(&scene.stage.linker.log()), "the linker's log holds a token");

    let collected = scene.collect()?;
    // Her entry, and her row of the table of patients.
    ensure!(collected["retractions"] == 1 && collected["rows-deleted"] == 2, "{collected}");
    ensure!(collected["statements"] == 1, "{collected}");
    ensure!(on_disk(&hers)? == 0, "what was deleted is still on the disk");
    ensure!(scene.values()? == [OTHER_VALUE], "{:?}", scene.values()?);
    ensure!(history(&scene.site, "deleted")? == 0, "the site cannot know yet");
    scene.site.command(&["push"])?.ok()?;
    ensure!(history(&scene.site, "deleted")? == 1);
    let shown = scene.site.command(&["history"])?.ok()?.stdout;
    ensure!(shown.contains("retracted") && shown.contains("deleted at the centre"), "{shown}");
    let listed = scene.stage.linker.command(&["bundles"])?.ok()?.stdout;
    ensure!(listed.contains("deleted by warehouse"), "{listed}");

    // Nothing more to say, on any side.
    let again = scene.cycle("2026-11-03")?;
    ensure!(again["bundles"] == 0 && again["statements"] == 0, "{again}");
    ensure!(history(&scene.site, "retracted")? == 1 && history(&scene.site, "deleted")? == 1);
    Ok(())
}

#[test]
fn who_is_newly_marked_as_sensitive_is_retracted_and_who_moves_away_is_not() -> TestResult {
    let mut scene = Scene::new()?;
    scene.practice.record.remove("1000001")?;
    scene.cycle("2026-11-02")?;
    ensure!(history(&scene.site, "retracted")? == 0, "who moved away was retracted");
    let sensitive = "UPDATE Admin_Patient SET IsSensitive = 'true' WHERE PatientId = '1000002'";
    scene.practice.record.connection.execute_batch(sensitive)?;
    scene.cycle("2026-11-03")?;
    ensure!(history(&scene.site, "retracted")? == 1 && history(&scene.site, "deleted")? == 1);
    ensure!(!scene.values()?.contains(&OTHER_VALUE), "{:?}", scene.values()?);
    Ok(())
}

#[test]
fn who_a_new_policy_withholds_is_retracted() -> TestResult {
    let mut scene = Scene::new()?;
    // A code that no policy names yet: of the Summary Care Record.
    let code = "777441000000102";
    scene.practice.record.entry(&consent("1000001", "2020-05-05", code))?;
    scene.cycle("2026-11-02")?;
    ensure!(history(&scene.site, "retracted")? == 0, "a code that is no dissent");
    let policy = scene.stage.binaries.root().join("examples/registry/policies/objections.toml");
    let text = std::fs::read_to_string(policy)?;
    let wider = text.replace("version = \"1.0.0\"", "version = \"1.1.0\"").replacen(
        "[[type-1.dissent]]",
        &format!("[[type-1.dissent]]\nsystem = \"snomed\"\ncode = \"{code}\"\n\n[[type-1.dissent]]"),
        1,
    );
    let file = scene.stage.folder().join("policy.toml");
    std::fs::write(&file, wider)?;
    scene.stage.registry.add_text("policy", &file)?;
    scene.stage.registry.publish()?;
    scene.cycle("2026-11-03")?;
    ensure!(history(&scene.site, "retracted")? == 1 && history(&scene.site, "deleted")? == 1);
    ensure!(scene.values()? == [OTHER_VALUE], "{:?}", scene.values()?);
    Ok(())
}

#[test]
fn who_objects_and_is_gone_before_the_next_run_is_retracted() -> TestResult {
    let mut scene = Scene::new()?;
    scene.practice.object("1000001", "2026-11-02")?;
    scene.practice.record.remove("1000001")?;
    scene.retracts_her_once()
}

#[test]
fn a_module_that_does_not_run_any_more_is_retracted_too() -> TestResult {
    let mut scene = Scene::new()?;
    scene.site.command(&["modules", "refuse", "gp-monthly"])?.ok()?;
    scene.practice.object("1000001", "2026-11-02")?;
    scene.retracts_her_once()
}

#[test]
fn a_record_that_is_lost_makes_everybody_who_is_withheld_be_retracted() -> TestResult {
    let mut scene = Scene::new()?;
    scene.practice.object("1000001", "2026-11-02")?;
    let sent = scene.site.state().join("sent");
    for file in files(&sent)? {
        std::fs::remove_file(file)?;
    }
    scene.cycle("2026-11-02")?;
    ensure!(history(&scene.site, "retracted")? == 1 && history(&scene.site, "deleted")? == 1);
    ensure!(scene.values()? == [OTHER_VALUE], "{:?}", scene.values()?);
    // The record itself tells nobody anything.
    let [file] = &files(&sent)?[..] else { anyhow::bail!("not one record") };
    let bytes = std::fs::read(file)?;
    for bundle in OpenedBundle::stored(&scene.stage.linker, &scene.site)? {
        for row in bundle.patients {
            ensure!(!AhoCorasick::new(forms(&row.token))?.is_match(&bytes), "a token is in the open");
        }
    }
    scene.cycle("2026-11-03")?;
    ensure!(history(&scene.site, "retracted")? == 1, "retracted twice");
    Ok(())
}
