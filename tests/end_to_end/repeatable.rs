//! The same snapshot, module, policy, mapping and keys give the same bytes, encryption aside; and what changed later is sent
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use lockgate_signing::bundle::{BlockRef, BundleHeader, BundleKind};
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::{Message as _, verify};
use lockgate_tests::command::finish;
use lockgate_tests::opened::{OpenedBundle, files, frames, site_key, warehouse_key};
use lockgate_tests::{Site, SiteOptions, Stage};
use rusqlite::Connection;

use crate::TestResult;
use crate::record::{DISSENT, Entry, PLAIN, Record, WITHDRAWN};

/// Makes a practice.
fn practice(stage: &Stage, path: &Path, arguments: &[&str]) -> TestResult {
    let mut command = Command::new(stage.binaries.program("practice")?);
    finish(command.args(["make", "practice", "--out"]).arg(path).args(arguments))?.ok().map(|_| ())
}

/// What a fresh agent with the keys of `site` makes of a database.
struct Made {
    /// What headers say, and decrypted blocks, by name. The content key of a bundle is another each time, and with it the
    /// digests of its blocks and its id.
    files: BTreeMap<String, Vec<u8>>,
    /// The digests of the blocks as they are sent.
    sent: BTreeSet<Digest>,
    /// Rows of coded entries.
    events: u64,
}

fn made(stage: &Stage, site: &Site, name: &str, database: &Path) -> anyhow::Result<Made> {
    let options = SiteOptions { database: database.to_owned(), ..site.options.clone() };
    let other = stage.site_not_enrolled(name, options)?;
    // The site's own secret is made when its agent is first opened.
    site.command(&["outbox"])?.ok()?;
    std::fs::create_dir_all(other.state().join("tokens"))?;
    for key in ["site-key.pem", "linker-key.pem", "opening-key.pem", "tokens/local.key"] {
        std::fs::copy(site.state().join(key), other.state().join(key))?;
    }
    finish(
        Command::new("cp").arg("-a").arg(site.state().join("tokens/keys")).arg(other.state().join("tokens")),
    )?
    .ok()?;
    let ran = other.command(&["--json", "run", "--no-push"])?.ok()?.json()?;
    let bundles =
        ran["modules"].as_array().into_iter().flatten().filter_map(|module| module["bundles"].as_array());
    let outputs = bundles.flatten().filter_map(|bundle| bundle["outputs"].as_array()).flatten();
    let events = outputs
        .filter(|output| output["name"] == "events")
        .filter_map(|output| output["rows"].as_u64())
        .sum();
    let queued = other.state().join("outbox/queued");
    let mut made = BTreeMap::new();
    let (key, warehouse) = (site_key(site)?, warehouse_key(site)?);
    let mut sent = BTreeSet::new();
    for path in files(&queued)? {
        let folder = path.parent().context("a file in no folder")?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let bytes = std::fs::read(&path)?;
        let sequence = &path.strip_prefix(&queued)?.display().to_string()[..10];
        if name == "header.cbor" {
            let block = |block: &BlockRef| folder.join(format!("{}.block", block.digest.to_hex()));
            for frame in frames(&bytes, &key, &warehouse, block)? {
                made.insert(format!("{sequence} {:?}", frame.place), frame.bytes);
            }
            let mut header = verify::<BundleHeader>(&bytes, &key)?.into_message();
            sent.extend(header.blocks().map(|block| block.digest));
            let forget = |block: &mut BlockRef| block.digest = Digest::of(b"");
            let outputs = header.outputs.iter_mut().flat_map(|output| &mut output.blocks);
            outputs.chain(&mut header.patients).chain(&mut header.codes).for_each(forget);
            header.encryption.recipients.clear();
            header.previous = None;
            made.insert(format!("{sequence} header.cbor"), header.encode());
        } else if !name.ends_with(".block") {
            made.insert(format!("{sequence} {name}"), bytes);
        }
    }
    Ok(Made { files: made, sent, events })
}

fn same(what: &str, one: &Made, two: &Made) -> TestResult {
    let names = |made: &Made| made.files.keys().cloned().collect::<Vec<_>>();
    ensure!(one.files == two.files, "{what} changes the bytes:\n{:#?}\n{:#?}", names(one), names(two));
    ensure!(one.sent.is_disjoint(&two.sent), "{what}: two bundles were encrypted with one key");
    Ok(())
}

/// Copies a database and changes the copy with SQL.
fn changed(from: &Path, to: &Path, sql: &str) -> TestResult {
    std::fs::copy(from, to)?;
    Ok(Connection::open(to)?.execute_batch(sql)?)
}

#[test]
fn the_same_snapshot_gives_the_same_bytes_however_it_is_stored() -> TestResult {
    let stage = Stage::new(&["gp-monthly", "diabetes-register"])?;
    let folder = stage.folder();
    let path = |name: &str| folder.join(name).with_extension("sqlite");
    let plain = path("plain");
    practice(&stage, &plain, &["--patients", "600"])?;
    practice(&stage, &path("shuffled"), &["--patients", "600", "--shuffle", "11"])?;
    practice(&stage, &path("wal"), &["--patients", "600", "--journal", "wal"])?;
    ensure!(path("wal").with_extension("sqlite-wal").exists(), "there is no log beside the database");
    changed(&plain, &path("vacuumed"), "PRAGMA page_size = 16384; VACUUM;")?;
    ensure!(std::fs::read(path("vacuumed"))?[16..18] == [0x40, 0], "the page size is the same");
    changed(
        &plain,
        &path("unindexed"),
        "DROP INDEX CareRecord_Observation_EnteredDate; DROP INDEX CareRecord_Observation_CodeId;
         DROP INDEX Prescribing_IssueRecord_EnteredDate; DELETE FROM sqlite_stat1;",
    )?;
    // Rows again in the opposite order, each with another rowid.
    changed(
        &plain,
        &path("reversed"),
        "CREATE TABLE o AS SELECT * FROM CareRecord_Observation; DELETE FROM CareRecord_Observation;
         INSERT INTO CareRecord_Observation SELECT * FROM o ORDER BY rowid DESC; DROP TABLE o;
         CREATE TABLE p AS SELECT * FROM Admin_Patient; DELETE FROM Admin_Patient;
         INSERT INTO Admin_Patient SELECT * FROM p ORDER BY rowid DESC; DROP TABLE p;",
    )?;

    let site = stage.site("site", SiteOptions::practice("A81001", &plain))?;
    let first = made(&stage, &site, "first", &plain)?;
    ensure!(
        first.files.keys().filter(|name| name.ends_with("header.cbor")).count() == 8,
        "{:?}",
        first.files.keys()
    );
    same("a second run", &first, &made(&stage, &site, "second", &plain)?)?;
    for name in ["shuffled", "wal", "vacuumed", "unindexed", "reversed"] {
        same(name, &first, &made(&stage, &site, name, &path(name))?)?;
    }
    // The comparison can fail: one value more or less is seen.
    changed(
        &plain,
        &path("other"),
        "UPDATE CareRecord_Observation SET NumericValue = NumericValue + 1 WHERE rowid =
             (SELECT max(rowid) FROM CareRecord_Observation WHERE NumericValue IS NOT NULL AND IsDeleted = 0)",
    )?;
    ensure!(
        first.files != made(&stage, &site, "other", &path("other"))?.files,
        "another value gives the same bytes"
    );
    Ok(())
}

#[test]
fn an_input_that_is_too_large_for_memory_gives_the_same_bytes_in_any_order() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let (plain, shuffled) = (stage.folder().join("plain.sqlite"), stage.folder().join("shuffled.sqlite"));
    // 970,000 coded entries in one month are 27 MiB in columns; the agent keeps 24 of an input and spills the rest.
    let large = ["--patients", "2000", "--months", "1", "--events-per-patient-month", "660"];
    practice(&stage, &plain, &large)?;
    practice(&stage, &shuffled, &[&large[..], &["--shuffle", "3"]].concat())?;
    let site = stage.site("site", SiteOptions::practice("A81001", &plain))?;
    let one = made(&stage, &site, "one", &plain)?;
    same("another order", &one, &made(&stage, &site, "two", &shuffled)?)?;
    // 29 bytes a row.
    ensure!(one.events * 29 > 24 << 20, "{} rows are not enough to spill", one.events);
    Ok(())
}

/// What a site sends, as of a day.
fn run_on(stage: &Stage, site: &mut Site, day: &str) -> anyhow::Result<Vec<OpenedBundle>> {
    let before = OpenedBundle::stored(&stage.linker, site)?.len();
    site.options.as_of = day.to_owned();
    site.run()?;
    Ok(OpenedBundle::stored(&stage.linker, site)?.split_off(before))
}

fn periods(bundles: &[OpenedBundle]) -> Vec<String> {
    bundles.iter().map(|bundle| bundle.header.period.to_string()).collect()
}

#[test]
fn an_earlier_month_is_sent_again_only_if_it_changed() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let record = Record::create(&database)?;
    for (id, person) in [("1000001", 1), ("1000002", 2), ("1000003", 3)] {
        record.patient(id, person, "E01990001")?;
        for entered in ["2026-10-10", "2026-11-10"] {
            record.entry(&Entry { patient: id, entered, ..PLAIN })?;
        }
    }
    // Somebody who withdrew: evidence that there is evidence.
    record.entry(&Entry { patient: "1000003", entered: "2020-01-01", ..WITHDRAWN })?;
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;

    let first = run_on(&stage, &mut site, "2026-11-01")?;
    ensure!(periods(&first) == ["2026-07", "2026-08", "2026-09", "2026-10"], "{:?}", periods(&first));
    // Nothing changed: only the new month.
    let november = run_on(&stage, &mut site, "2026-12-01")?;
    ensure!(periods(&november) == ["2026-11"], "{:?}", periods(&november));
    ensure!(november[0].header.supersedes.is_none() && november[0].header.previous == Some(first[3].id));
    ensure!(run_on(&stage, &mut site, "2026-12-02")?.is_empty(), "sent again without a change");

    // A row that reached the database late, with a day of entry in November.
    record.entry(&Entry { patient: "1000002", entered: "2026-11-29", value: Some(26.5), ..PLAIN })?;
    let december = run_on(&stage, &mut site, "2027-01-01")?;
    ensure!(periods(&december) == ["2026-11", "2026-12"], "{:?}", periods(&december));
    ensure!(december[0].header.supersedes == Some(november[0].id), "{:?}", december[0].header.supersedes);
    ensure!(december[0].rows("events").len() == november[0].rows("events").len() + 1);

    // An objection made since: the month before is sent again, without the person who made it.
    let (entered, effective) = ("2027-01-05", Some("2027-01-05"));
    record.entry(&Entry { patient: "1000001", entered, effective, ..DISSENT })?;
    record.entry(&Entry { patient: "1000001", entered: "2026-12-05", ..PLAIN })?;
    record.entry(&Entry { patient: "1000002", entered: "2026-12-05", ..PLAIN })?;
    let mut january = run_on(&stage, &mut site, "2027-02-01")?;
    ensure!(january.remove(0).header.kind == BundleKind::Retraction, "the person was sent before");
    ensure!(periods(&january) == ["2026-12", "2027-01"], "{:?}", periods(&january));
    ensure!(january[0].header.supersedes == Some(december[1].id));
    ensure!(january[0].patients.len() == 1 && january[0].header.counts.withheld_type_1 == 1);
    // The chain has no gap and no fork.
    let all = OpenedBundle::stored(&stage.linker, &site)?;
    for pair in all.windows(2) {
        ensure!(
            pair[1].header.previous == Some(pair[0].id),
            "the chain is broken at {}",
            pair[1].header.sequence
        );
    }
    let sites = stage.linker.command(&["--json", "sites"])?.ok()?.json()?;
    let incidents = sites["sites"][0]["incidents"].as_array().map(Vec::len);
    ensure!(incidents.is_none_or(|incidents| incidents == 0), "{sites}");
    all.last().context("nothing was sent").map(|_| ())
}
