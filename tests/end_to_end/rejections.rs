//! What a real agent made, changed on its way: the linker refuses it with a reason of its own, and the agent keeps the bundle.
//! (`linker/tests` has every kind of wrong header and block that no agent would make.)

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::{sign, verify};
use lockgate_signing::keys::SigningKey;
use lockgate_tests::http::{FalseLinker, Message, send};
use lockgate_tests::{ExactlyOnce, Site, SiteOptions, Stage};

use crate::TestResult;

/// A first run makes four months.
const BUNDLES: u64 = 4;

#[test]
fn no_byte_of_a_real_bundle_can_be_changed() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage, "A81001")?;
    let url = stage.linker.url();
    let bundle = Queued::first(&site)?;
    let mut codes = BTreeMap::<String, usize>::new();
    for position in 0..bundle.header.len() {
        let mut changed = bundle.header.clone();
        changed[position] ^= 1 << (position % 8);
        let answer = send(&url, "POST /v1/bundles", &changed)?;
        ensure!((400..500).contains(&answer.status()), "byte {position}: {}", answer.start);
        *codes.entry(answer.problem()).or_default() += 1;
    }
    let seen: Vec<&str> = codes.keys().map(String::as_str).collect();
    let possible = [
        "bad-signature",
        "not-an-envelope",
        "not-deterministic",
        "trailing-bytes",
        "unknown-key",
        "wrong-role",
    ];
    ensure!(seen.iter().all(|code| possible.contains(code)), "{codes:?}");
    // Nearly all bytes are signed content; the 32 of the key's id name another key.
    ensure!(codes["bad-signature"] > bundle.header.len() / 2 && codes["unknown-key"] == 32, "{codes:?}");

    let answer = send(&url, "POST /v1/bundles", &[bundle.header.as_slice(), b"\0"].concat())?;
    ensure!(answer.problem() == "trailing-bytes", "{answer:?}");
    let (digest, block) = bundle.blocks.first().context("a bundle without blocks")?;
    let put = format!("PUT /v1/blocks/{digest}");
    ensure!(send(&url, &put, block)?.problem() == "block-not-named", "no header was accepted so far");
    ensure!(send(&url, "POST /v1/bundles", &bundle.header)?.status() == 202, "the control");
    for position in (0..block.len()).step_by(block.len() / 150 + 1) {
        let mut changed = block.clone();
        changed[position] ^= 1 << (position % 8);
        ensure!(send(&url, &put, &changed)?.problem() == "block-digest-mismatch", "byte {position}");
    }
    ensure!(send(&url, &put, &block[1..])?.problem() == "block-size-mismatch", "one byte less");
    ensure!(
        send(&url, &put, &[block.as_slice(), b"\0"].concat())?.problem() == "block-size-mismatch",
        "one more"
    );
    let other = format!("PUT /v1/blocks/{}", "0".repeat(64));
    ensure!(send(&url, &other, block)?.problem() == "block-not-named", "another name");

    // The real one goes through all the same, once.
    site.run()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn a_bundle_is_of_one_site_and_of_one_linker() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let (mine, other) = (site(&stage, "A81001")?, site(&stage, "B82002")?);
    let (key, other_key) = (key_of(&mine)?, key_of(&other)?);
    let bundle = Queued::first(&mine)?;
    let content = verify::<BundleHeader>(&bundle.header, &key.public())?.into_message();
    let refused = |header: &BundleHeader, key: &SigningKey| -> anyhow::Result<String> {
        Ok(send(&stage.linker.url(), "POST /v1/bundles", &sign(header, key))?.problem())
    };
    ensure!(refused(&content, &other_key)? == "wrong-site", "another site's bundle under one's own key");
    let stranger = SigningKey::from_seed(&[7; 32].into());
    ensure!(refused(&content, &stranger)? == "unknown-key", "a key that was never enrolled");

    // Sent as it is by somebody else, it is the first site's all the same, and of no use to the other.
    ensure!(send(&stage.linker.url(), "POST /v1/bundles", &bundle.header)?.status() == 202, "the control");
    // In a chain that has begun, a second bundle of one's own for the same place is a fork.
    let mut fork = content.clone();
    fork.snapshot_at_s += 1;
    ensure!(refused(&fork, &key)? == "chain-fork", "a second bundle for one place");

    // At a linker where the site is not enrolled, nothing of it is taken.
    let elsewhere = Stage::unpublished(lockgate_tests::AS_OF)?;
    let answer = send(&elsewhere.linker.url(), "POST /v1/bundles", &bundle.header)?;
    ensure!(answer.problem() == "unknown-key", "{answer:?}");
    for site in [&mine, &other] {
        site.run()?;
    }
    ExactlyOnce::new(&stage.linker, &other).check(BUNDLES)
}

#[test]
fn what_is_changed_on_the_way_is_refused_and_stays_in_the_outbox() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage, "A81001")?;
    let url = stage.linker.url();
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, &str, Change, &str); 6] = [
        ("POST", "content", |body| flip_middle(body), "bad-signature"),
        ("POST", "signature", |body| flip_last(body), "bad-signature"),
        ("POST", "first byte", |body| flip(body, 0), "not-an-envelope"),
        ("POST", "a byte more", |body| body.push(0), "trailing-bytes"),
        ("PUT", "a block", |body| flip_middle(body), "block-digest-mismatch"),
        ("PUT", "a shorter block", |body| body.truncate(body.len() - 1), "block-size-mismatch"),
    ];
    for (method, what, change, code) in cases {
        let target = url.clone();
        let between = FalseLinker::new(move |request: &Message| {
            let mut body = request.body.clone();
            if request.start.starts_with(method) {
                change(&mut body);
            }
            let request = request.start.trim_end_matches(" HTTP/1.1");
            send(&target, request, &body).map(|answer| answer.to_bytes()).unwrap_or_default()
        })?;
        let push = with_url(&site, &url, &between.url(), &["push"])?.expect(5).context(what)?;
        let told = push.stderr.contains("the linker refuses: ")
            && push
                .stderr
                .contains(&format!("({code}); bundles stay in the outbox, ask the linker's operator"));
        ensure!(told, "{what}: {}", push.stderr);
        ensure!(queued(&site)? == 4, "{what}: a bundle is gone");
    }
    site.run()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn what_is_changed_in_the_outbox_is_not_sent() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage, "A81001")?;
    let bundle = Queued::first(&site)?;
    let content = verify::<BundleHeader>(&bundle.header, &key_of(&site)?.public())?.into_message();
    // In the order in which they are sent: a block that the linker has already is not read again.
    let mut files: Vec<PathBuf> = vec![bundle.folder.join("header.cbor")];
    let block = |digest: Digest| bundle.folder.join(format!("{}.block", digest.to_hex()));
    files.extend(content.blocks().map(|named| block(named.digest)));
    for file in files {
        let kept = std::fs::read(&file)?;
        for position in [0, kept.len() / 2, kept.len() - 1] {
            let mut changed = kept.clone();
            flip(&mut changed, position);
            std::fs::write(&file, changed)?;
            let push = site.command(&["push"])?.expect(1)?;
            ensure!(push.stderr.contains("is damaged") && push.stderr.contains("restore"), "{}", push.stderr);
        }
        std::fs::write(&file, kept)?;
    }
    let stored = stage.linker.command(&["--json", "bundles"])?.ok()?.json()?;
    let accepted = stored["bundles"].as_array().into_iter().flatten();
    ensure!(accepted.into_iter().all(|bundle| bundle["accepted-at-s"].is_null()), "accepted: {stored}");
    site.run()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn a_revoked_site_keeps_its_bundles_and_is_told_what_to_do() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let (by_site, by_key) = (site(&stage, "A81001")?, site(&stage, "B82002")?);
    let bystander = site(&stage, "C83003")?;
    stage.linker.command(&["site", "revoke", "A81001"])?.ok()?;
    let key = key_of(&by_key)?.public().id().to_string();
    stage.linker.command(&["key", "revoke", &key])?.ok()?;
    for site in [&by_site, &by_key] {
        let run = site.command(&["run"])?.expect(5)?;
        let told = "the linker refuses: the key was revoked; enrol the site again with a new token (revoked-key); \
                    bundles stay in the outbox, ask the linker's operator";
        ensure!(run.stderr.contains(told), "{}", run.stderr);
        ensure!(queued(site)? == 4, "a bundle is gone");
    }
    bystander.run()?;
    ExactlyOnce::new(&stage.linker, &bystander).check(BUNDLES)
}

#[test]
fn a_second_agent_on_the_same_state_waits_its_turn() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage, "A81001")?;
    let lock = std::fs::File::open(site.state().join("lock"))?;
    lock.lock()?;
    for arguments in [&["run"][..], &["push"], &["outbox"], &["enrol", "--token-file", "none"]] {
        let second = site.command(arguments)?.expect(1)?;
        ensure!(second.stderr.contains("another agent is running"), "{arguments:?}: {}", second.stderr);
    }
    drop(lock);
    site.run()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

/// A bundle of an outbox.
struct Queued {
    folder: PathBuf,
    header: Vec<u8>,
    blocks: Vec<(String, Vec<u8>)>,
}

impl Queued {
    fn first(site: &Site) -> anyhow::Result<Self> {
        let folders = std::fs::read_dir(site.state().join("outbox/queued"))?;
        let folders = folders.map(|folder| Ok(folder?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        let folder = folders.into_iter().min().context("the outbox is empty")?;
        let mut blocks = Vec::new();
        for file in std::fs::read_dir(&folder)? {
            let file = file?.path();
            if let Some(digest) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".block")) {
                blocks.push((digest.to_owned(), std::fs::read(&file)?));
            }
        }
        Ok(Self { header: std::fs::read(folder.join("header.cbor"))?, folder, blocks })
    }
}

/// A site with four bundles in its outbox.
fn site(stage: &Stage, id: &str) -> anyhow::Result<Site> {
    let database = stage.practice_database(id, 40)?;
    let site = stage.site(id, SiteOptions { give_up_s: 0, ..SiteOptions::practice(id, &database) })?;
    site.command(&["run", "--no-push"])?.ok()?;
    Ok(site)
}

fn key_of(site: &Site) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_pem(&std::fs::read_to_string(site.state().join("site-key.pem"))?)?)
}

fn queued(site: &Site) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(site.state().join("outbox/queued"))?.count())
}

fn flip_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    flip(bytes, middle);
}

fn flip_last(bytes: &mut [u8]) {
    let last = bytes.len() - 1;
    flip(bytes, last);
}

fn flip(bytes: &mut [u8], position: usize) {
    bytes[position] ^= 1;
}

/// Runs a command with another linker's address.
fn with_url(
    site: &Site,
    from: &str,
    to: &str,
    arguments: &[&str],
) -> anyhow::Result<lockgate_tests::Finished> {
    let config = std::fs::read_to_string(site.config_path())?;
    std::fs::write(site.config_path(), config.replace(from, to))?;
    let finished = site.command(arguments);
    std::fs::write(site.config_path(), config)?;
    finished
}
