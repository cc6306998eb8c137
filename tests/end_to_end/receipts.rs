//! Nothing leaves the outbox but against the receipt of the pinned linker for that very bundle.

use anyhow::{Context as _, ensure};
use lockgate_signing::envelope::{sign, verify};
use lockgate_signing::keys::{PublicKey, SigningKey};
use lockgate_signing::receipt::Receipt;
use lockgate_tests::http::{FalseLinker, Message, answer, send};
use lockgate_tests::{ExactlyOnce, Site, SiteOptions, Stage};

use crate::TestResult;

/// A first run makes four months.
const BUNDLES: u64 = 4;

#[test]
fn a_false_receipt_never_empties_the_outbox() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let (site, other) = (site(&stage, "A81001")?, site(&stage, "B82002")?);
    let mine = receipts(&stage, &site)?;
    let others = receipts(&stage, &other)?;
    let right = mine.first().context("no receipt")?.clone();
    let site_key = SigningKey::from_pem(&std::fs::read_to_string(site.state().join("site-key.pem"))?)?;
    let linker_key = PublicKey::from_pem(&std::fs::read_to_string(site.state().join("linker-key.pem"))?)?;
    let content = verify::<Receipt>(&right, &linker_key)?.into_message();

    let mut cases = vec![
        ("of the next bundle".to_owned(), mine[1].clone(), "for another bundle"),
        ("of another site's bundle".to_owned(), others[0].clone(), "for another bundle"),
        ("signed by the site itself".to_owned(), sign(&content, &site_key), "not valid"),
        ("with a byte after it".to_owned(), [right.as_slice(), b"\0"].concat(), "not valid"),
        ("cut".to_owned(), right[..right.len() - 1].to_vec(), "not valid"),
        ("empty".to_owned(), Vec::new(), "not valid"),
        ("of the wrong kind".to_owned(), queued_header(&site)?, "not valid"),
    ];
    for position in (0..right.len()).step_by(9) {
        let mut changed = right.clone();
        changed[position] ^= 1 << (position % 8);
        cases.push((format!("changed in byte {position}"), changed, "not valid"));
    }
    for (what, receipt, told) in cases {
        let false_linker = FalseLinker::new(move |_| answer("HTTP/1.1 200 OK", &receipt))?;
        let push = push_to(&stage, &site, &false_linker.url())?;
        ensure!(push.code == Some(5), "a receipt {what}: {push:?}");
        ensure!(push.stderr.contains(told), "a receipt {what}: {}", push.stderr);
        untouched(&site).with_context(|| format!("a receipt {what}"))?;
    }

    // The control: the same false linker with the right receipts empties it.
    let header = queued_header(&site)?;
    let false_linker = FalseLinker::new(move |request: &Message| match request.body == header {
        true => answer("HTTP/1.1 200 OK", &right),
        false => answer("HTTP/1.1 500 Internal Server Error", b""),
    })?;
    push_to(&stage, &site, &false_linker.url())?.expect(4)?;
    ensure!(queued(&site)? == 3, "the right receipt was not taken either");
    push_to(&stage, &site, &stage.linker.url())?.ok()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn whatever_answers_in_the_linkers_place_bundles_stay() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage, "A81001")?;
    let url = stage.linker.url();
    let redirect = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {url}/v1/bundles");
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n\xd2\x84".to_vec();
    let strange = format!("{{\"missing\": [\"{}\"]}}", "0".repeat(64)).into_bytes();
    let page = b"<html>Please log in to the practice's network</html>";
    let refusal = b"{\"code\": \"bad\\u001b[2J\", \"title\": \"no\\nFAKE LINE\", \"status\": 403}".to_vec();
    let cases: Vec<(&str, Vec<u8>, i32, &str)> = vec![
        ("a page of a captive portal", answer("HTTP/1.1 200 OK", page), 5, "receipt is not valid"),
        ("a page that says no", answer("HTTP/1.1 403 Forbidden", page), 4, "403 Forbidden"),
        ("a fault", answer("HTTP/1.1 500 Internal Server Error", b""), 4, "500 Internal Server Error"),
        ("a gateway", answer("HTTP/1.1 502 Bad Gateway", page), 4, "502 Bad Gateway"),
        ("a redirection", answer(&redirect, b""), 4, "307 Temporary Redirect"),
        ("an answer cut short", cut, 4, "cannot be reached"),
        ("no answer", Vec::new(), 4, "cannot be reached"),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), 4, "cannot be reached"),
        (
            "an answer without end",
            answer("HTTP/1.1 200 OK", &vec![0; 6 << 20]),
            4,
            "longer than 1048576 bytes",
        ),
        (
            "nothing is missing, and no receipt",
            answer("HTTP/1.1 202 Accepted", b"{\"missing\": []}"),
            4,
            "lacks",
        ),
        ("a block is missing that is not ours", answer("HTTP/1.1 202 Accepted", &strange), 4, "lacks"),
        (
            "what is missing is no digest",
            answer("HTTP/1.1 202 Accepted", b"{\"missing\": [\"../x\"]}"),
            4,
            "cannot be reached",
        ),
        ("a refusal that draws on the terminal", answer("HTTP/1.1 403 Forbidden", &refusal), 5, "bad[2J"),
    ];
    for (what, bytes, code, told) in cases {
        let false_linker = FalseLinker::new(move |_| bytes.clone())?;
        let push = push_to(&stage, &site, &false_linker.url())?;
        ensure!(push.code == Some(code), "{what}: {push:?}");
        ensure!(
            push.stderr.contains(told) && push.stderr.contains("stay in the outbox"),
            "{what}: {}",
            push.stderr
        );
        ensure!(
            push.stderr.lines().count() == 1 && !push.stderr.contains('\u{1b}'),
            "{what}: {:?}",
            push.stderr
        );
        untouched(&site).context(what)?;
    }
    ensure!(
        stage.linker.command(&["--json", "bundles"])?.json()?["bundles"]
            .as_array()
            .is_some_and(Vec::is_empty),
        "a redirection was followed"
    );
    push_to(&stage, &site, &url)?.ok()?;
    ExactlyOnce::new(&stage.linker, &site).check(BUNDLES)
}

#[test]
fn a_linker_with_another_key_than_the_pinned_one_gets_nothing_acknowledged() -> TestResult {
    let mut stage = Stage::new(&["gp-monthly"])?;
    let site = site(&stage, "A81001")?;
    let other = Stage::unpublished(lockgate_tests::AS_OF)?;
    // Everything is the linker's own, the address too; only the key is another.
    let key = "linker-key.pem";
    let (own, foreign) = (stage.linker.folder().join(key), other.linker.folder().join(key));
    let kept = std::fs::read(&own)?;
    stage.linker.kill()?;
    std::fs::copy(foreign, &own)?;
    stage.linker.start()?;
    let push = site.command(&["push"])?.expect(5)?;
    ensure!(
        push.stderr.contains("the linker's receipt is not valid: the envelope names key"),
        "{}",
        push.stderr
    );
    untouched(&site)?;
    std::fs::write(&own, kept)?;
    Ok(())
}

/// A site with four bundles in its outbox.
fn site(stage: &Stage, id: &str) -> anyhow::Result<Site> {
    let database = stage.practice_database(id, 40)?;
    let site = stage.site(id, SiteOptions { give_up_s: 0, ..SiteOptions::practice(id, &database) })?;
    site.command(&["run", "--no-push"])?.ok()?;
    Ok(site)
}

/// The receipts of a site's bundles, from the linker itself, which then has all of them; the site does not hear of it.
fn receipts(stage: &Stage, site: &Site) -> anyhow::Result<Vec<Vec<u8>>> {
    let url = stage.linker.url();
    let mut receipts = Vec::new();
    for folder in bundles(site)? {
        let header = std::fs::read(folder.join("header.cbor"))?;
        send(&url, "POST /v1/bundles", &header)?;
        for file in std::fs::read_dir(&folder)? {
            let file = file?.path();
            if let Some(digest) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".block")) {
                send(&url, &format!("PUT /v1/blocks/{digest}"), &std::fs::read(&file)?)?;
            }
        }
        let answer = send(&url, "POST /v1/bundles", &header)?;
        ensure!(answer.status() == 200, "{}", answer.problem());
        receipts.push(answer.body);
    }
    Ok(receipts)
}

fn bundles(site: &Site) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let folders = std::fs::read_dir(site.state().join("outbox/queued"))?.map(|folder| Ok(folder?.path()));
    let mut folders = folders.collect::<anyhow::Result<Vec<_>>>()?;
    folders.sort();
    Ok(folders)
}

fn queued(site: &Site) -> anyhow::Result<usize> {
    Ok(bundles(site)?.len())
}

fn queued_header(site: &Site) -> anyhow::Result<Vec<u8>> {
    let first = bundles(site)?.into_iter().next().context("the outbox is empty")?;
    Ok(std::fs::read(first.join("header.cbor"))?)
}

/// All four bundles are there, and neither a receipt nor the ledger says otherwise.
fn untouched(site: &Site) -> TestResult {
    let history = site.command(&["--json", "history"])?.ok()?.json()?;
    let told = history["entries"].as_array().into_iter().flatten();
    ensure!(told.into_iter().all(|entry| entry["event"] != "acknowledged"), "the ledger says acknowledged");
    ensure!(std::fs::read_dir(site.state().join("receipts"))?.count() == 0, "a receipt was stored");
    ensure!(queued(site)? as u64 == BUNDLES, "a bundle left the outbox");
    Ok(())
}

/// Pushes to another address than the site's own.
fn push_to(stage: &Stage, site: &Site, url: &str) -> anyhow::Result<lockgate_tests::Finished> {
    let config = std::fs::read_to_string(site.config_path())?;
    let changed = config.replace(&stage.linker.url(), url);
    std::fs::write(site.config_path(), changed)?;
    let push = site.command(&["push"]);
    std::fs::write(site.config_path(), config)?;
    push
}
