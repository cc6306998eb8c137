//! Which module runs where: rollouts to cohorts, approval, holds and revocations, through the real programs.

pub(crate) mod approval;
mod directions;
mod holds;
mod offers;
mod offline;
mod transport;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use lockgate_tests::command::finish;
use lockgate_tests::{AS_OF, Site, SiteOptions, Stage};
use serde_json::Value;

use crate::TestResult;

/// The module: the well-behaved one among the bad ones, which is quick.
const MODULE: &str = "control";

/// A registry, a linker, and a database that every site reads.
struct Trial {
    stage: Stage,
    database: PathBuf,
}

impl Trial {
    /// Version 1.0.0 of the module is published, and offered to nobody.
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::unpublished(AS_OF)?;
        stage.registry.add_examples()?;
        // Entries of later months too: a site that goes on without its registry has something to send.
        let database = stage.folder().join("practice.sqlite");
        let mut make = Command::new(stage.binaries.program("practice")?);
        make.args([
            "make",
            "practice",
            "--patients",
            "40",
            "--months",
            "9",
            "--as-of",
            "2027-02-01",
            "--out",
        ]);
        finish(make.arg(&database))?.ok()?;
        let trial = Self { stage, database };
        trial.add("1.0.0", &[])?;
        trial.publish()?;
        Ok(trial)
    }

    /// The same, offered to every site.
    fn rolled_out() -> anyhow::Result<Self> {
        let trial = Self::new()?;
        trial.offer(&[("1.0.0", "\"all\"", "")])?;
        Ok(trial)
    }

    /// Stages a version of the module, with changes to its manifest.
    fn add(&self, version: &str, changes: &[(&str, &str)]) -> TestResult {
        let original = self.stage.binaries.root().join(format!("guest-modules/bad/manifests/{MODULE}.toml"));
        let mut text =
            std::fs::read_to_string(original)?.replace("1.0.0\"\ntitle", &format!("{version}\"\ntitle"));
        for (from, to) in changes {
            anyhow::ensure!(text.contains(from), "the manifest has no `{from}`");
            text = text.replace(from, to);
        }
        let manifest = self.stage.folder().join(format!("{MODULE}-{version}.toml"));
        std::fs::write(&manifest, text)?;
        let staged = self.stage.registry.stage_module(&manifest, &self.stage.binaries.guest(MODULE)?, &[])?;
        anyhow::ensure!(staged == (MODULE.to_owned(), version.to_owned()), "{staged:?}");
        Ok(())
    }

    fn publish(&self) -> TestResult {
        self.stage.registry.publish()
    }

    /// Publishes who the module is offered to from now on.
    fn offer(&self, steps: &[(&str, &str, &str)]) -> TestResult {
        self.stage.registry.offer(MODULE, steps)?;
        self.publish()
    }

    /// Publishes a cohort.
    fn cohort(&self, id: &str, sites: &[&str]) -> TestResult {
        let sites: Vec<_> = sites.iter().map(|site| format!("\"{site}\"")).collect();
        let text = format!("title = \"Some sites\"\nsites = [{}]\n", sites.join(", "));
        self.stage.registry.stage_document("cohorts", id, &text)?;
        self.publish()
    }

    /// Publishes the list of holds and revocations.
    fn holds(&self, list: &str) -> TestResult {
        self.stage.registry.stage_document("holds", "standing", list)?;
        self.publish()
    }

    fn site(&self, id: &str, approve: &'static str) -> anyhow::Result<Site> {
        let options = SiteOptions { approve, ..SiteOptions::practice(id, &self.database) };
        self.stage.site(id, options)
    }

    /// A practice that has approved the module and sent its first months.
    fn running_site(&self, id: &str, approve: &'static str) -> anyhow::Result<Site> {
        let site = self.site(id, approve)?;
        site.approve_all()?;
        anyhow::ensure!(bundles(&site.run()?) == 4, "a first run makes four months");
        Ok(site)
    }
}

/// `control 1.0.0 installed` of every module that a site lists, after it has asked the registry.
pub(crate) fn after_refresh(site: &Site) -> anyhow::Result<Vec<String>> {
    site.command(&["refresh"])?.ok()?;
    listed(site)
}

/// The same, without asking.
pub(crate) fn listed(site: &Site) -> anyhow::Result<Vec<String>> {
    let modules = site.command(&["--json", "modules"])?.ok()?.json()?;
    let modules = modules["modules"].as_array().context("`modules` lists nothing")?;
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    Ok(modules
        .iter()
        .map(|line| format!("{} {} {}", text(line, "module"), text(line, "version"), text(line, "state")))
        .collect())
}

/// How many bundles a run made and sent.
pub(crate) fn bundles(printed: &Value) -> usize {
    printed["acknowledged"].as_array().map_or(0, Vec::len)
}

/// What a run says of the module that did not run.
pub(crate) fn not_run(printed: &Value) -> String {
    printed["modules"][0]["not-run"].as_str().unwrap_or("it ran").to_owned()
}
