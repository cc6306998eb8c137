//! `docs/PUBLISHING.md`, as those who publish type it: a registry from its first key to the day on which a key is lost, a
//! module, a rule that changes, what is stopped. Two practices watch, and behave at each step as the page says. One is a
//! pathfinder; both ask before they run more than they did.

mod replay;

use std::path::Path;

use anyhow::{Context as _, ensure};
use lockgate_signing::cohort::Cohort;
use lockgate_signing::rollout::Rollout;
use lockgate_signing::text_format::TextFormat;
use lockgate_tests::{Linker, SealedKeys, Site, SiteOptions};

use crate::TestResult;
use crate::rollout::{after_refresh, bundles, listed, not_run};
use replay::Replay;

const NOTHING: [&str; 0] = [];

#[test]
fn the_page_is_typed_from_its_beginning_to_its_end() -> TestResult {
    let mut page = Replay::begin()?;
    page.through("Once: the ceremony")?;
    page.through("What every site needs")?;
    page.through("Those who sign")?;
    let mut linker = Linker::new(&page.binaries, page.folder())?;
    linker.start()?;
    let pathfinder = practice(&page, &linker, "A81001")?;
    let other = practice(&page, &linker, "A81002")?;
    for site in [&pathfinder, &other] {
        assert_eq!(after_refresh(site)?, NOTHING);
    }

    // A new module: nothing is live that one person signed, and then only the cohort is offered it.
    page.until("A new module", "publishing")?;
    assert_eq!(after_refresh(&pathfinder)?, NOTHING);
    page.until("A new module", "A81001")?;
    assert_eq!(after_refresh(&pathfinder)?, ["asthma 1.0.0 waiting"]);
    assert_eq!(after_refresh(&other)?, NOTHING);
    ensure!(not_run(&pathfinder.run()?) == "waiting", "nobody has approved it");
    page.through("A new module")?;
    assert_eq!(listed(&pathfinder)?, ["asthma 1.0.0 installed"]);
    assert_eq!((sent(&pathfinder)?, would_send(&pathfinder)?.rows), (4, 5));
    is_as_the_sample::<Cohort>(&page, "cohorts/pathfinders")?;

    page.through("Widening")?;
    assert_eq!(after_refresh(&other)?, ["asthma 1.0.0 waiting"]);
    other.command(&["modules", "approve", "asthma"])?.ok()?;
    ensure!(bundles(&other.run()?) == 4, "a first run makes four months");

    // A rule changes: the one is asked, the other hears nothing, until it is widened.
    page.until("A rule changes", "A81001")?;
    is_as_the_sample::<Rollout>(&page, "rollouts/asthma")?;
    assert_eq!(after_refresh(&pathfinder)?, ["asthma 1.0.0 installed", "asthma 1.1.0 waiting"]);
    assert_eq!(after_refresh(&other)?, ["asthma 1.0.0 installed"]);
    page.next("A81001")?;
    assert_eq!(listed(&pathfinder)?, ["asthma 1.1.0 installed"]);
    assert_eq!((would_send(&pathfinder)?.rows, would_send(&other)?.rows), (6, 5));
    page.through("A rule changes")?;
    assert_eq!(after_refresh(&other)?, ["asthma 1.0.0 installed", "asthma 1.1.0 waiting"]);
    let approved = other.command(&["modules", "approve", "asthma"])?.ok()?.stdout;
    ensure!(approved.contains("Beyond 1.0.0:") && approved.contains("233678006"), "{approved}");
    let both = || [&pathfinder, &other].into_iter();
    for site in both() {
        assert_eq!(after_refresh(site)?, ["asthma 1.1.0 installed"]);
        ensure!(not_run(&site.run()?) == "it ran", "both run the new version");
    }

    page.through("Stopping")?;
    for site in both() {
        let run = site.run()?;
        let why = run["modules"][0]["detail"].as_str().unwrap_or_default();
        ensure!(not_run(&run) == "held" && why.contains("Counts at two practices are wrong"), "{run}");
        assert_eq!(listed(site)?, ["asthma 1.1.0 held"]);
    }
    page.through("Going on")?;
    for site in both() {
        ensure!(not_run(&site.run()?) == "it ran", "nothing is held any more");
        assert_eq!(listed(site)?, ["asthma 1.1.0 installed"]);
    }
    page.through("For ever")?;
    for site in both() {
        // The version before it is still offered, and reads and sends less.
        assert_eq!(after_refresh(site)?, ["asthma 1.0.0 installed"]);
        assert_eq!(would_send(site)?.rows, 5);
        let again = site.command(&["modules", "approve", "asthma", "--version", "1.1.0"])?.expect(1)?;
        ensure!(
            again.stderr.contains("it was revoked on 2026-11-01: The code is of another illness."),
            "{again:?}"
        );
    }

    page.until("Directions", "A81001")?;
    for site in both() {
        site.command(&["refresh"])?.ok()?;
        assert_eq!(would_send(site)?.withheld, 1, "a direction that nobody accepted does nothing");
    }
    page.through("Directions")?;
    assert_eq!((would_send(&pathfinder)?.withheld, would_send(&other)?.withheld), (0, 1));
    let of_other = other.command(&["directions"])?.ok()?.stdout;
    ensure!(of_other.contains("No direction is published for this site"), "{of_other}");

    page.through("The online machine")?;
    page.through("When somebody leaves, or a key is lost")?;
    for site in both() {
        assert_eq!(after_refresh(site)?, ["asthma 1.0.0 installed"]);
        site.run()?;
        site.command(&["status"])?.ok()?;
    }
    page.through("Trying it out")?;
    page.end()
}

/// A practice with the invented people of a new module, enrolled. It got `root.json` by hand.
fn practice(page: &Replay, linker: &Linker, id: &str) -> anyhow::Result<Site> {
    let folder = page.place(id);
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(page.place("online/keys/root.json"), folder.join("root.json"))?;
    let database = folder.join("practice.sqlite");
    let people = page.binaries.root().join("publisher/src/workshop/template/fixture/practice.sql");
    rusqlite::Connection::open(&database)?.execute_batch(&std::fs::read_to_string(people)?)?;
    let site = Site::new(
        page.binaries.program("lockgate-agent")?,
        folder.clone(),
        SiteOptions { approve: "within-scope", ..SiteOptions::practice(id, &database) },
        &page.place("online/registry"),
        &folder.join("root.json"),
        &linker.url(),
    )?;
    linker.enrol(&site)?;
    SealedKeys::of_the_sample(&folder)?.install_for(&site, &["asthma"])?;
    Ok(site)
}

/// What a site would send for the last month, of the version that it has installed.
struct WouldSend {
    rows: u64,
    withheld: u64,
}

fn would_send(site: &Site) -> anyhow::Result<WouldSend> {
    let shown = site.command(&["--json", "preview", "asthma"])?.ok()?.json()?;
    let number = |value: &serde_json::Value| value.as_u64().with_context(|| shown.to_string());
    Ok(WouldSend {
        rows: number(&shown["outputs"][0]["rows"])?,
        withheld: number(&shown["counts"]["withheld-type-1"])?,
    })
}

/// How many bundles of a site the linker has acknowledged.
fn sent(site: &Site) -> anyhow::Result<usize> {
    let receipts = std::fs::read_dir(site.state().join("receipts"))?;
    Ok(receipts.count())
}

/// What was published by command is what the sample shows, version included.
fn is_as_the_sample<T: TextFormat + PartialEq + std::fmt::Debug>(
    page: &Replay,
    document: &str,
) -> TestResult {
    let samples = page.binaries.root().join("examples/registry");
    let sample = T::decode(&std::fs::read(samples.join(document).with_extension("toml"))?)?;
    let mut published = Vec::new();
    for file in std::fs::read_dir(page.place("online/registry/targets").join(Path::new(document)))? {
        published.push(T::decode(&std::fs::read(file?.path())?)?);
    }
    ensure!(published.contains(&sample), "{document}: {published:#?}");
    Ok(())
}
