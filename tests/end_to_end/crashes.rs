//! `kill -9` at every stage and at any time, of the agent and of the linker: exactly one copy, and nothing lost.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use lockgate_tests::exactly_once::files_below;
use lockgate_tests::sealed_keys::SealedKeys;
use lockgate_tests::{Binaries, ExactlyOnce, Site, SiteOptions, Stage};

use crate::TestResult;
use crate::attacks::store;
use crate::retraction;
use crate::rollout::approval;

/// Where the agent is killed, in the order of a bundle's life, and whether it comes there once a run or with each bundle.
const AGENT: [(&str, Comes); 20] = [
    ("run.snapshot", Comes::Once),
    ("run.objections", Comes::Once),
    ("run.identity", Comes::Once),
    ("run.guest-finished", Comes::Often),
    ("outbox.block-written", Comes::Often),
    ("run.blocks-sealed", Comes::Often),
    ("retract.record-written", Comes::Once),
    ("outbox.blocks-synchronised", Comes::Often),
    ("outbox.header-written", Comes::Often),
    ("outbox.renamed", Comes::Often),
    ("outbox.queued", Comes::Often),
    ("run.in-ledger", Comes::Often),
    ("push.before-header", Comes::Often),
    ("push.header-sent", Comes::Often),
    ("push.block-sent", Comes::Often),
    ("push.receipt-received", Comes::Often),
    ("outbox.receipt-stored", Comes::Often),
    ("push.in-ledger", Comes::Often),
    ("outbox.removing", Comes::Often),
    ("outbox.removed", Comes::Often),
];

#[derive(Clone, Copy, PartialEq)]
enum Comes {
    Once,
    Often,
}

/// Where the linker is killed while a bundle comes in; two more are in an enrolment.
const LINKER: [&str; 9] = [
    "linker.header.received",
    "linker.header.admitted",
    "linker.block.received",
    "linker.block.written",
    "linker.block.renamed",
    "linker.header.stored",
    "linker.before-commit",
    "linker.after-commit",
    "linker.before-answer",
];
const LINKER_ENROLMENT: [&str; 2] = ["linker.enrolment.before-commit", "linker.enrolment.before-answer"];

/// A first run makes four months.
const BUNDLES: u64 = 4;
const SIGABRT: i32 = 6;

#[test]
fn the_agent_may_die_at_every_stage_of_its_first_bundle() -> TestResult {
    let crowd = Crowd::new()?;
    for (number, (point, _)) in AGENT.into_iter().enumerate() {
        let site = crowd.site(number)?;
        crowd.agent_dies(site, &format!("{point}=return"))?;
    }
    Ok(())
}

#[test]
fn the_agent_may_die_at_every_stage_of_a_later_bundle() -> TestResult {
    let crowd = Crowd::new()?;
    let often = AGENT.into_iter().filter(|(_, comes)| *comes == Comes::Often);
    for (number, (point, _)) in often.enumerate() {
        let site = crowd.site(number)?;
        crowd.agent_dies(site, &format!("{point}=2*off->return"))?;
    }
    Ok(())
}

#[test]
fn the_agent_may_die_again_and_again() -> TestResult {
    let crowd = Crowd::new()?;
    let mut site = crowd.site(1)?;
    let agent = crowd.stage.binaries.program("lockgate-agent")?;
    for (point, _) in AGENT.into_iter().filter(|(point, _)| *point != "push.before-header") {
        site.use_agent(crowd.stage.binaries.with_failpoints("lockgate-agent")?);
        let output = site.agent().env("FAILPOINTS", format!("{point}=return")).arg("run").output()?;
        // Each dies where the one before it has left off; the last ones find nothing left to do.
        let ended = output.status.signal() == Some(SIGABRT) || output.status.success();
        ensure!(ended, "{point}: {output:?}");
    }
    site.use_agent(agent);
    site.run()?;
    ExactlyOnce::new(&crowd.stage.linker, &site).check(BUNDLES)
}

#[test]
fn the_linker_may_die_at_every_stage_of_a_bundle() -> TestResult {
    let mut crowd = Crowd::new()?;
    for (number, point) in LINKER.into_iter().enumerate() {
        let site = crowd.site(number)?;
        crowd.linker_dies_at(&format!("{point}=return"))?;
        let run = site.command(&["--json", "run"])?.expect(4).context(point)?;
        ensure!(run.json()?["acknowledged"].as_array().is_some_and(Vec::is_empty), "{point}: {run:?}");
        let status = crowd.stage.linker.wait().context(point)?;
        ensure!(status.signal() == Some(SIGABRT), "{point}: the linker ended with {status}");
        crowd.linker_lives()?;
        site.run().context(point)?;
        ExactlyOnce::new(&crowd.stage.linker, &site).check(BUNDLES).context(point)?;
    }
    Ok(())
}

#[test]
fn the_linker_may_die_while_a_site_enrols() -> TestResult {
    let mut crowd = Crowd::new()?;
    for (number, point) in LINKER_ENROLMENT.into_iter().enumerate() {
        let options = crowd.options(number);
        let site = crowd.stage.site_not_enrolled(&options.id.clone(), options)?;
        crowd.linker_dies_at(&format!("{point}=return"))?;
        let token = site.folder.join("token");
        let token = token.to_str().context("a path that is text")?;
        crowd.stage.linker.command(&["site", "add", &site.options.id, "--token-file", token])?.ok()?;
        let refused = site.command(&["enrol", "--token-file", token])?.expect(1).context(point)?;
        ensure!(refused.stderr.contains("the linker cannot be reached"), "{point}: {}", refused.stderr);
        let status = crowd.stage.linker.wait().context(point)?;
        ensure!(status.signal() == Some(SIGABRT), "{point}: the linker ended with {status}");
        crowd.linker_lives()?;
        // The same token works again for the same key, whether or not the first attempt was committed.
        site.command(&["enrol", "--token-file", token])?.ok().context(point)?;
        SealedKeys::in_folder(crowd.stage.folder())?.install(&site)?;
        site.run().context(point)?;
        ExactlyOnce::new(&crowd.stage.linker, &site).check(BUNDLES).context(point)?;
    }
    Ok(())
}

#[test]
fn the_agent_may_be_killed_at_any_time() -> TestResult {
    let crowd = Crowd::new()?;
    let started = Instant::now();
    crowd.site(0)?.run()?;
    let whole = started.elapsed();
    for (number, share) in MOMENTS.into_iter().enumerate() {
        let site = crowd.site(1 + number)?;
        let mut agent = site.agent().args(["--json", "run"]).stdout(std::process::Stdio::null()).spawn()?;
        // No moment is the right one: this is the moment.
        std::thread::sleep(whole.mul_f64(share));
        agent.kill()?;
        agent.wait()?;
        site.run()?;
        ExactlyOnce::new(&crowd.stage.linker, &site).check(BUNDLES).with_context(|| format!("{share}"))?;
    }
    Ok(())
}

#[test]
fn the_linker_may_be_killed_at_any_time() -> TestResult {
    let mut crowd = Crowd::new()?;
    let first = crowd.site(0)?;
    first.command(&["run", "--no-push"])?.ok()?;
    let started = Instant::now();
    first.command(&["push"])?.ok()?;
    let whole = started.elapsed();
    for (number, share) in MOMENTS.into_iter().enumerate() {
        let site = crowd.site(1 + number)?;
        site.command(&["run", "--no-push"])?.ok()?;
        let mut agent = site.agent().arg("push").stdout(std::process::Stdio::null()).spawn()?;
        std::thread::sleep(whole.mul_f64(share));
        crowd.stage.linker.kill()?;
        let code = agent.wait()?.code();
        // It was done before, or it kept what was not acknowledged.
        ensure!(matches!(code, Some(0 | 4)), "the agent ended with {code:?}");
        crowd.linker_lives()?;
        site.run()?;
        ExactlyOnce::new(&crowd.stage.linker, &site).check(BUNDLES).with_context(|| format!("{share}"))?;
    }
    Ok(())
}

#[test]
fn what_the_other_tests_check_can_be_broken() -> TestResult {
    let crowd = Crowd::new()?;
    let site = crowd.site(1)?;
    site.run()?;
    let checked = ExactlyOnce::new(&crowd.stage.linker, &site);
    checked.check(BUNDLES)?;
    ensure!(checked.check(BUNDLES + 1).is_err(), "a bundle that was never made is not missed");
    let cut_off = site.state().join("receipts/receipt.cbor.1.part");
    for left in [site.state().join("outbox/sealing/1"), site.state().join("outbox/removing/1")] {
        std::fs::create_dir(&left)?;
        ensure!(checked.check(BUNDLES).is_err(), "{} is not seen", left.display());
    }
    std::fs::write(&cut_off, b"")?;
    ensure!(checked.check(BUNDLES).is_err(), "a write that was cut off is not seen");
    // Each command of the agent begins with a sweep.
    site.command(&["outbox"])?.ok()?;
    checked.check(BUNDLES)?;
    let blocks = files_below(&checked.objects.join("blocks"))?;
    let block = blocks.first().context("no block")?;
    let kept = std::fs::read(block)?;
    std::fs::remove_file(block)?;
    ensure!(checked.check(BUNDLES).is_err(), "a lost block is not missed");
    std::fs::write(block, &kept[1..])?;
    ensure!(checked.check(BUNDLES).is_err(), "a damaged block is not seen");
    std::fs::write(block, &kept)?;
    let ledger = site.state().join("ledger.jsonl");
    let text = std::fs::read_to_string(&ledger)?;
    std::fs::write(&ledger, text.replacen("acknowledged", "Acknowledged", 1))?;
    ensure!(checked.check(BUNDLES).is_err(), "a changed ledger is not seen");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(&ledger, lines[..lines.len() - 1].concat())?;
    ensure!(checked.check(BUNDLES).is_err(), "a ledger without its last entry is not seen");
    Ok(())
}

#[test]
fn every_place_to_die_is_tested() -> TestResult {
    let root = Binaries::locate()?.root().to_owned();
    // Whichever crate they are in: a run is killed here, a refresh and an approval elsewhere.
    let mut agent = BTreeSet::new();
    for entry in std::fs::read_dir(&root)? {
        let sources = entry?.path().join("src");
        if sources.is_dir() {
            agent.extend(named_in(&sources, "failpoint(\"")?);
        }
    }
    let run = AGENT.iter().map(|(point, _)| *point);
    let approval = approval::DIES_AT.iter().map(|(point, _)| *point);
    let tested = run.chain(approval).chain(store::DIES_AT).chain(retraction::DIES_AT);
    assert_eq!(agent, tested.map(str::to_owned).collect());
    let linker = named_in(&root.join("linker/src"), ": &str = \"")?;
    let linker: BTreeSet<String> = linker.into_iter().filter(|name| name.starts_with("linker.")).collect();
    let tested = LINKER.into_iter().chain(LINKER_ENROLMENT).chain(retraction::LINKER_DIES_AT);
    assert_eq!(linker, tested.map(str::to_owned).collect());
    let warehouse = named_in(&root.join("warehouse/src"), ": &str = \"")?;
    let warehouse: BTreeSet<String> =
        warehouse.into_iter().filter(|name| name.starts_with("warehouse.")).collect();
    assert_eq!(warehouse, retraction::WAREHOUSE_DIES_AT.into_iter().map(str::to_owned).collect());
    Ok(())
}

/// Shares of a whole run, drawn once: the same ones each time.
const MOMENTS: [f64; 8] = [0.11, 0.29, 0.43, 0.58, 0.66, 0.74, 0.83, 0.97];

/// One linker and one database, and as many sites as a test wants to kill.
struct Crowd {
    stage: Stage,
    database: std::path::PathBuf,
}

impl Crowd {
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let database = stage.practice_database("practice", 40)?;
        Ok(Self { stage, database })
    }

    fn options(&self, number: usize) -> SiteOptions {
        // One attempt: a linker that died does not come back while the agent waits for it.
        SiteOptions { give_up_s: 0, ..SiteOptions::practice(&format!("A{number:05}"), &self.database) }
    }

    fn site(&self, number: usize) -> anyhow::Result<Site> {
        let options = self.options(number);
        self.stage.site(&options.id.clone(), options)
    }

    /// Runs the agent to its death, then again.
    fn agent_dies(&self, mut site: Site, failpoint: &str) -> TestResult {
        let agent = self.stage.binaries.program("lockgate-agent")?;
        site.use_agent(self.stage.binaries.with_failpoints("lockgate-agent")?);
        let output = site.agent().env("FAILPOINTS", failpoint).arg("run").output()?;
        ensure!(output.status.signal() == Some(SIGABRT), "{failpoint} was not reached: {output:?}");
        site.use_agent(agent);
        site.run().with_context(|| failpoint.to_owned())?;
        ExactlyOnce::new(&self.stage.linker, &site).check(BUNDLES).with_context(|| failpoint.to_owned())
    }

    fn linker_dies_at(&mut self, failpoint: &str) -> TestResult {
        let linker = self.stage.binaries.with_failpoints("lockgate-linker")?;
        self.stage.linker.kill()?;
        self.stage.linker.serve_with(linker, &[("FAILPOINTS", failpoint)]);
        self.stage.linker.start()
    }

    fn linker_lives(&mut self) -> TestResult {
        let linker = self.stage.binaries.program("lockgate-linker")?;
        self.stage.linker.serve_with(linker, &[]);
        self.stage.linker.start()
    }
}

/// What stands between `before` and the next quotation mark in the sources of a folder.
fn named_in(folder: &Path, before: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let is_source = |file: &std::path::PathBuf| file.extension().is_some_and(|ending| ending == "rs");
    for file in files_below(folder)?.into_iter().filter(is_source) {
        let text = std::fs::read_to_string(file)?;
        let found = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
        names.extend(found.map(str::to_owned));
    }
    Ok(names)
}
