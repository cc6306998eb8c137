//! `kill -9` at every step between an objection and the site that hears of its deletion: agent, linker, warehouse.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context as _, ensure};
use lockgate_tests::{Site, Stage, Warehouse};

use super::{OTHER_VALUE, Practice, VALUE, history, values};
use crate::TestResult;

/// Where the agent is killed, and nowhere else than in a retraction.
pub(crate) const PLACES: [&str; 5] = [
    "retract.sealed",
    "retract.in-ledger",
    "push.deletion-received",
    "push.deletion-stored",
    "push.deletion-in-ledger",
];
/// The same places as any bundle's, in a retraction.
const AS_ANY_BUNDLE: [&str; 6] = [
    "outbox.block-written",
    "outbox.header-written",
    "outbox.renamed",
    "outbox.queued",
    "push.in-ledger",
    "retract.record-written",
];
/// Where the linker is killed.
pub(crate) const LINKER: [&str; 3] =
    ["linker.collection.block-sent", "linker.deletion.before-commit", "linker.deletion.before-answer"];
/// Where the warehouse is killed.
pub(crate) const WAREHOUSE: [&str; 6] = [
    "warehouse.received",
    "warehouse.before-commit",
    "warehouse.committed",
    "warehouse.erased",
    "warehouse.stated",
    "warehouse.sent",
];

const SIGABRT: i32 = 6;

/// Practices, each with somebody who objects, and a warehouse that has what they sent before.
struct Crowd {
    stage: Stage,
    warehouse: Warehouse,
    sites: Vec<Site>,
}

impl Crowd {
    fn new(size: u64) -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let mut sites = Vec::new();
        for number in 0..size {
            let name = format!("A{number:05}");
            let practice = Practice::with_patient(&stage, &name, 1_000 * number + 1)?;
            let mut site = practice.site(&stage, &name)?;
            site.run()?;
            practice.object("1000001", "2026-11-02")?;
            site.options.as_of = "2026-11-02".to_owned();
            // One attempt: a linker that died does not come back while the agent waits for it.
            site.options.give_up_s = 0;
            sites.push(site);
        }
        let warehouse = Warehouse::of(&stage)?;
        warehouse.collect(&stage.linker.url())?;
        Ok(Self { stage, warehouse, sites })
    }

    fn collect(&self) -> TestResult {
        self.warehouse.collect(&self.stage.linker.url()).map(drop)
    }

    /// A cycle without a crash, and what must hold after it.
    fn ends_well(&self, done: usize) -> TestResult {
        let site = &self.sites[done];
        site.run()?;
        self.collect()?;
        site.command(&["push"])?.ok()?;
        let all = values(&self.warehouse)?;
        let count = |value: f64| all.iter().filter(|it| **it == value).count();
        ensure!(
            count(VALUE) == self.sites.len() - done - 1,
            "{} of those who object are there",
            count(VALUE)
        );
        ensure!(count(OTHER_VALUE) == self.sites.len(), "of the others {} are there", count(OTHER_VALUE));
        let (retracted, deleted) = (history(site, "retracted")?, history(site, "deleted")?);
        // Asked again after a crash, perhaps; and each of them followed.
        ensure!(
            (1..=2).contains(&retracted) && deleted == retracted,
            "{retracted} asked, {deleted} followed"
        );
        let status = self.warehouse.status()?;
        let stated =
            status["retractions"].as_array().context("no list")?.iter().all(|it| it["stated"] == true);
        ensure!(stated && status["waiting"] == serde_json::json!([]), "{status}");
        let again = self.warehouse.collect(&self.stage.linker.url())?;
        ensure!(again["bundles"] == 0 && again["statements"] == 0, "{again}");
        Ok(())
    }
}

#[test]
fn the_agent_may_die_at_every_step() -> TestResult {
    let mut crowd = Crowd::new((PLACES.len() + AS_ANY_BUNDLE.len()) as u64)?;
    for (number, point) in PLACES.into_iter().chain(AS_ANY_BUNDLE).enumerate() {
        let site = &mut crowd.sites[number];
        let waits = point.starts_with("push.deletion");
        if waits {
            site.run()?;
            crowd.warehouse.collect(&crowd.stage.linker.url())?;
        }
        site.use_agent(crowd.stage.binaries.with_failpoints("lockgate-agent")?);
        let mut agent = site.agent();
        agent.env("FAILPOINTS", format!("{point}=return")).arg(if waits { "push" } else { "run" });
        let output = agent.output()?;
        ensure!(output.status.signal() == Some(SIGABRT), "{point} was not reached: {output:?}");
        site.use_agent(crowd.stage.binaries.program("lockgate-agent")?);
        crowd.ends_well(number).context(point)?;
    }
    Ok(())
}

#[test]
fn the_warehouse_may_die_at_every_step() -> TestResult {
    let mut crowd = Crowd::new(WAREHOUSE.len() as u64)?;
    for (number, point) in WAREHOUSE.into_iter().enumerate() {
        crowd.sites[number].run()?;
        crowd.warehouse.use_program(crowd.stage.binaries.with_failpoints("lockgate-warehouse")?);
        let mut program = crowd.warehouse.program();
        program.env("FAILPOINTS", format!("{point}=return"));
        let output = program.args(["collect", "--linker", &crowd.stage.linker.url()]).output()?;
        ensure!(output.status.signal() == Some(SIGABRT), "{point} was not reached: {output:?}");
        crowd.warehouse.use_program(crowd.stage.binaries.program("lockgate-warehouse")?);
        crowd.ends_well(number).context(point)?;
    }
    Ok(())
}

#[test]
fn the_linker_may_die_at_every_step() -> TestResult {
    let mut crowd = Crowd::new(LINKER.len() as u64)?;
    for (number, point) in LINKER.into_iter().enumerate() {
        crowd.sites[number].run()?;
        crowd.stage.linker.kill()?;
        let dying = crowd.stage.binaries.with_failpoints("lockgate-linker")?;
        crowd.stage.linker.serve_with(dying, &[("FAILPOINTS", &format!("{point}=return"))]);
        crowd.stage.linker.start()?;
        let url = crowd.stage.linker.url();
        crowd.warehouse.command(&["collect", "--linker", &url])?.expect(4).context(point)?;
        let status = crowd.stage.linker.wait()?;
        ensure!(status.signal() == Some(SIGABRT), "{point}: the linker ended with {status}");
        crowd.stage.linker.serve_with(crowd.stage.binaries.program("lockgate-linker")?, &[]);
        crowd.stage.linker.start()?;
        crowd.ends_well(number).context(point)?;
    }
    Ok(())
}
