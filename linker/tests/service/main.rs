//! The linker as a site meets it: the real program, real sockets, real files.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod fixture;
mod full_disk;
mod kill;
mod recipients;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use fixture::{Answer, Linker, Raw, Site, bundle_of, key, names_in, problem_of};
use lockgate_signing::cbor::Writer;
use lockgate_signing::digest::Digest;
use lockgate_signing::enrolment::EnrolmentRequest;
use lockgate_signing::envelope::{Message as _, sign, verify};
use lockgate_signing::ids::BundleId;
use lockgate_signing::receipt::Receipt;

#[test]
fn a_bundle_is_taken_in_once_however_often_it_is_sent() {
    let mut linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let bundle = site.bundle(1, None, &[b"patients", b"codes", b"rows"]);

    let Answer::Missing(missing) = linker.post(&bundle.signed) else { panic!("it asks for blocks") };
    assert_eq!(missing.len(), 3);
    for block in &bundle.blocks {
        assert_eq!(linker.put(block, block).status(), 204);
        assert_eq!(linker.put(block, block).status(), 204, "again");
    }
    let Answer::Receipt(receipt) = linker.post(&bundle.signed) else { panic!("it is complete") };
    let verified = verify::<Receipt>(&receipt, &linker.key()).unwrap();
    assert_eq!(verified.message().bundle, bundle.id());
    assert_eq!((verified.message().sequence, verified.message().bytes), (1, 17));

    assert_eq!(linker.post(&bundle.signed), Answer::Receipt(receipt.clone()), "the same bytes again");
    assert_eq!(linker.put(&bundle.blocks[0], &bundle.blocks[0]).status(), 204);
    linker.restart();
    assert_eq!(linker.post(&bundle.signed), Answer::Receipt(receipt), "the same bytes after a restart");

    assert_eq!(names_in(&linker.objects().join("blocks")), 3, "one copy of each block");
    assert_eq!(names_in(&linker.objects().join("headers")), 1);
    let bundles = linker.json(&["bundles"]);
    assert_eq!(bundles["bundles"].as_array().unwrap().len(), 1);
    let shown = linker.json(&["bundle", "show", &bundle.id().to_string()[..12]]);
    assert_eq!(shown["header"]["outputs"][0]["name"], "events");
    assert!(linker.text(&["bundle", "show", &bundle.id().to_string()]).contains("gp-monthly"));
}

#[test]
fn of_many_that_send_at_once_all_get_the_same_receipt() {
    let mut linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let bundle = site.bundle(1, None, &[&[1; 100_000], &[2; 3_000_000]]);
    let rival = site.bundle(1, None, &[b"rival"]);
    let receipts = std::thread::scope(|scope| {
        let send = || {
            linker.send(&bundle);
            linker.post(&bundle.signed)
        };
        assert!(matches!(linker.post(&bundle.signed), Answer::Missing(_)));
        let senders: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        let refused: Vec<_> = (0..4).map(|_| scope.spawn(|| linker.refused(&rival.signed))).collect();
        assert!(refused.into_iter().all(|thread| thread.join().unwrap() == "chain-fork"));
        senders.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    // Until then the last of the eight may still be replacing a block by itself.
    linker.restart();
    assert_eq!(names_in(&linker.objects().join("blocks")), 2);
}

#[test]
fn a_block_that_two_bundles_share_is_stored_once() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let first = site.bundle(1, None, &[b"shared", b"one"]);
    let second = site.bundle(2, Some(first.id()), &[b"shared", b"two"]);
    linker.send(&first);
    let Answer::Missing(missing) = linker.post(&second.signed) else { panic!("one is missing") };
    assert_eq!(missing, [Digest::of(b"two").to_hex()]);
    linker.send(&second);
    assert_eq!(names_in(&linker.objects().join("blocks")), 3);
}

#[test]
fn every_kind_of_wrong_header_has_its_own_code() {
    let linker = Linker::start();
    let (mine, other) = (linker.enrol("A81001", 1), linker.enrol("B82002", 2));
    let good = mine.bundle(1, None, &[b"block"]);
    let signed = &good.signed;

    assert_eq!(linker.refused(b""), "not-an-envelope");
    assert_eq!(linker.refused(b"hello"), "not-an-envelope");
    assert_eq!(linker.refused(&signed[..signed.len() - 1]), "not-an-envelope");
    assert_eq!(linker.refused(&[signed.as_slice(), b"\0"].concat()), "trailing-bytes");
    // The array's head in two bytes instead of one: the same content, the same signature, another encoding.
    let long = [&signed[..1], &[0x98, 4], &signed[2..]].concat();
    assert_eq!(linker.refused(&long), "not-deterministic");
    assert_eq!(linker.refused(&vec![0; (1 << 20) + 1]), "too-large");
    assert_eq!(linker.refused(&vec![0; 3 << 20]), "too-large");

    let receipt =
        Receipt { bundle: good.id(), site: mine.site.clone(), sequence: 1, accepted_at_s: 0, bytes: 0 };
    assert_eq!(linker.refused(&sign(&receipt, &mine.key)), "wrong-role");
    assert_eq!(linker.refused(&sign(&good.header, &key(9))), "unknown-key");
    let mut forged = signed.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(linker.refused(&forged), "bad-signature");
    // Another site's bundle under one's own key.
    assert_eq!(linker.refused(&sign(&good.header, &other.key)), "wrong-site");

    let payload = good.header.encode();
    assert_eq!(
        linker.refused(&sign(&Raw([payload.as_slice(), b"\0"].concat()), &mine.key)),
        "trailing-bytes"
    );
    // The map's head in two bytes instead of one, this time signed like this.
    let long = [&[0xb8, 21], &payload[1..]].concat();
    assert_eq!(linker.refused(&sign(&Raw(long), &mine.key)), "not-deterministic");
    let mut writer = Writer::new();
    writer.text("not a header");
    assert_eq!(linker.refused(&sign(&Raw(writer.into_bytes()), &mine.key)), "content-invalid");
    let mut header = good.header.clone();
    header.sequence = 0;
    assert_eq!(linker.refused(&sign(&header, &mine.key)), "content-invalid");

    linker.run(&["key", "revoke", &mine.key.public().id().to_string()]);
    assert_eq!(linker.refused(signed), "revoked-key");
    linker.run(&["site", "revoke", "B82002"]);
    assert_eq!(linker.refused(&other.bundle(1, None, &[b"x"]).signed), "revoked-key");
    assert_eq!(linker.json(&["bundles"])["bundles"].as_array().unwrap().len(), 0, "nothing stayed");
}

#[test]
fn no_byte_of_a_header_can_be_changed() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let good = site.bundle(1, None, &[b"block"]);
    let mut codes = BTreeSet::new();
    for position in 0..good.signed.len() {
        let mut changed = good.signed.clone();
        changed[position] ^= 1 << (position % 8);
        codes.insert(linker.refused(&changed));
    }
    for code in ["not-an-envelope", "unknown-key", "bad-signature", "wrong-role"] {
        assert!(codes.contains(code), "{code} is not among {codes:?}");
    }
    assert_eq!(linker.json(&["bundles"])["bundles"].as_array().unwrap().len(), 0);
}

#[test]
fn no_byte_of_a_block_can_be_changed_and_none_is_taken_that_nobody_named() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let block = b"a block of a few bytes".to_vec();
    let bundle = site.bundle(1, None, &[&block]);
    assert_eq!(problem_of(linker.put(&block, &block)), "block-not-named");
    assert_eq!(problem_of(linker.put_at("A1", &block)), "block-address");
    assert_eq!(
        problem_of(linker.put_at(&Digest::of(&block).to_hex().to_uppercase(), &block)),
        "block-address"
    );

    assert!(matches!(linker.post(&bundle.signed), Answer::Missing(_)));
    assert_eq!(problem_of(linker.put(b"another", b"another")), "block-not-named");
    for position in 0..block.len() {
        let mut changed = block.clone();
        changed[position] ^= 1;
        assert_eq!(problem_of(linker.put(&block, &changed)), "block-digest-mismatch");
    }
    assert_eq!(problem_of(linker.put(&block, &block[1..])), "block-size-mismatch");
    assert_eq!(problem_of(linker.put(&block, b"")), "block-size-mismatch");
    assert_eq!(problem_of(linker.put(&block, &[block.as_slice(), b"\0"].concat())), "block-size-mismatch");
    assert_eq!(problem_of(linker.put(&block, &vec![0; 20 << 20])), "block-size-mismatch");
    assert_eq!(names_in(&linker.objects().join("blocks")), 0, "nothing stayed");

    linker.send(&bundle);
    // It is checked even where it is there already.
    assert_eq!(problem_of(linker.put(&block, &[0; 22])), "block-digest-mismatch");
    assert!(matches!(linker.post(&bundle.signed), Answer::Receipt(_)));
}

#[test]
fn a_header_that_lies_about_the_size_of_a_stored_block_is_refused() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let first = site.bundle(1, None, &[b"block"]);
    linker.send(&first);
    let mut header = site.bundle(2, Some(first.id()), &[b"block"]).header;
    header.outputs[0].blocks[0].bytes = 4;
    assert_eq!(linker.refused(&sign(&header, &site.key)), "block-size-mismatch");
}

#[test]
fn a_token_enrols_one_key_of_one_site_once() {
    let linker = Linker::start();
    let token = linker.add_site("A81001");
    linker.add_site("B82002");
    let request = |site: &str, seed: u8, secret: [u8; 32]| {
        let key = key(seed);
        let request = EnrolmentRequest { site: site.parse().unwrap(), public_key: key.public(), secret };
        sign(&request, &key)
    };
    let refused = |signed: &[u8]| problem_of(linker.post_to("/v1/enrolments", signed));
    assert_eq!(refused(b"hello"), "not-an-envelope");
    assert_eq!(refused(&request("C83003", 1, token.secret)), "unknown-site");
    assert_eq!(refused(&request("A81001", 1, [0; 32])), "token-unknown");
    assert_eq!(refused(&request("B82002", 1, token.secret)), "token-unknown");
    let good = request("A81001", 1, token.secret);
    let enrolment = EnrolmentRequest {
        site: "A81001".parse().unwrap(),
        public_key: key(1).public(),
        secret: token.secret,
    };
    assert_eq!(refused(&sign(&enrolment, &key(2))), "unknown-key", "the key that is enrolled must sign");

    let answer = linker.post_to("/v1/enrolments", &good);
    assert_eq!(answer.status(), 200);
    let first: serde_json::Value = serde_json::from_slice(&answer.bytes().unwrap()).unwrap();
    assert_eq!(first["site"], "A81001");
    assert_eq!(first["key-id"], key(1).public().id().to_string());
    let linker_key =
        lockgate_signing::keys::PublicKey::from_pem(first["linker-key"].as_str().unwrap()).unwrap();
    assert_eq!(linker_key.id(), token.linker, "the token says whose key it is");

    let again = linker.post_to("/v1/enrolments", &good);
    assert_eq!(again.status(), 200, "the first answer may have been lost");
    assert_eq!(refused(&request("A81001", 2, token.secret)), "token-used");
    linker.run(&["site", "revoke", "A81001"]);
    assert_eq!(refused(&good), "revoked-key");
}

#[test]
fn gaps_are_reported_and_forks_are_refused() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let chain = site.chain(6);
    for position in [0, 1, 2, 5] {
        linker.send(&chain[position]);
    }
    let sites = linker.json(&["sites"]);
    assert_eq!(sites["sites"][0]["expected"], 4);
    assert_eq!(sites["sites"][0]["missing"], serde_json::json!([[4, 5]]));
    assert!(linker.text(&["sites"]).contains("expected 4, have up to 6, missing 4-5"));

    let other = BundleId(Digest::of(b"no bundle"));
    let fork = |sequence, previous| site.bundle(sequence, previous, &[b"fork"]).signed;
    assert_eq!(linker.refused(&fork(1, None)), "chain-fork", "a second first bundle");
    assert_eq!(linker.refused(&fork(3, Some(chain[1].id()))), "chain-fork", "the same place");
    assert_eq!(linker.refused(&fork(4, Some(chain[1].id()))), "chain-fork", "the same predecessor");
    assert_eq!(linker.refused(&fork(4, Some(other))), "chain-fork", "another predecessor than the known one");
    assert_eq!(linker.refused(&fork(5, Some(other))), "chain-fork", "not what the known successor names");
    assert_eq!(linker.refused(&fork(9, Some(chain[5].id()))), "chain-fork", "a place too far");
    let incidents = linker.json(&["sites"])["sites"][0]["incidents"].as_array().unwrap().len();
    assert_eq!(incidents, 6);

    linker.send(&chain[4]);
    linker.send(&chain[3]);
    assert!(linker.text(&["sites"]).contains("whole up to 6"));
    // A bundle that was begun and not completed holds its place too.
    let seventh = site.bundle(7, Some(chain[5].id()), &[b"seven"]);
    assert!(matches!(linker.post(&seventh.signed), Answer::Missing(_)));
    assert_eq!(linker.refused(&fork(7, Some(chain[5].id()))), "chain-fork");
    linker.send(&seventh);
}

#[test]
fn a_site_that_begins_and_never_completes_is_told_to_stop() {
    let mut linker = Linker::start();
    fs::write(linker.path("data/linker.toml"), "[limits]\npending-per-site-max = 2\n").unwrap();
    linker.restart();
    let site = linker.enrol("A81001", 1);
    let chain = site.chain(3);
    assert!(matches!(linker.post(&chain[0].signed), Answer::Missing(_)));
    assert!(matches!(linker.post(&chain[1].signed), Answer::Missing(_)));
    assert_eq!(linker.refused(&chain[2].signed), "too-many-pending");
    linker.send(&chain[0]);
    linker.send(&chain[2]);
}

#[test]
fn a_later_bundle_replaces_an_earlier_one_in_whatever_order_they_come() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let first = site.bundle(1, None, &[b"one"]);
    let mut header = site.bundle(2, Some(first.id()), &[b"two"]).header;
    header.supersedes = Some(first.id());
    let second = bundle_of(header, &site.key, &[b"two"]);
    let mut header = site.bundle(3, Some(second.id()), &[b"three"]).header;
    header.supersedes = Some(first.id());
    header.period = "2026-09".parse().unwrap();
    let third = bundle_of(header, &site.key, &[b"three"]);
    linker.send(&second);
    linker.send(&first);
    linker.send(&third);
    let bundles = linker.json(&["bundles", "--site", "A81001"]);
    assert_eq!(bundles["bundles"][0]["superseded-by"], second.id().to_string());
    assert!(bundles["bundles"][1]["superseded-by"].is_null());
    let incidents = &linker.json(&["sites"])["sites"][0]["incidents"];
    assert_eq!(incidents[0]["code"], "supersede-mismatch", "another month");
}

#[test]
fn what_a_crash_left_unfinished_is_removed_at_the_next_start() {
    let mut linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let bundle = site.bundle(1, None, &[b"block", b"other"]);
    assert!(matches!(linker.post(&bundle.signed), Answer::Missing(_)));
    assert_eq!(linker.put(b"block", b"block").status(), 204);
    // The answer to a header waits until what was received is on stable storage; the answer to a block does not.
    let name = Digest::of(b"other").to_hex();
    assert_eq!(linker.post(&bundle.signed), Answer::Missing(vec![name.clone()]));
    linker.kill();
    let folder = linker.objects().join("blocks").join(&name[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}#1")), b"oth").unwrap();
    linker.restart();
    assert_eq!(names_in(&linker.objects().join("blocks")), 1);
    assert_eq!(linker.post(&bundle.signed), Answer::Missing(vec![name]), "what was received is still there");
    linker.send(&bundle);
}

#[test]
fn a_carried_file_is_checked_taken_in_and_given_out() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let bundle = site.bundle(1, None, &[b"patients", b"codes"]);
    let (file, out) = (linker.path("bundle.lockgate"), linker.path("again.lockgate"));
    let pem = linker.path("site.pem");
    fs::write(&file, bundle.carried()).unwrap();
    fs::write(&pem, site.key.public().to_pem().unwrap()).unwrap();
    let (file, out, pem) = (file.to_str().unwrap(), out.to_str().unwrap(), pem.to_str().unwrap());

    assert_eq!(linker.code(&["verify", file]), 0);
    assert_eq!(linker.code(&["verify", file, "--key", pem]), 0);
    linker.run(&["ingest", file]);
    let receipt = fs::read(format!("{file}.receipt")).unwrap();
    assert_eq!(linker.post(&bundle.signed), Answer::Receipt(receipt), "one path, one receipt");
    linker.run(&["export", &bundle.id().to_string(), out]);
    assert_eq!(fs::read(out).unwrap(), bundle.carried());

    let carried = bundle.carried();
    for position in (0..carried.len()).step_by(37).chain([carried.len() - 1]) {
        let mut changed = carried.clone();
        changed[position] ^= 1;
        fs::write(out, changed).unwrap();
        assert_eq!(linker.code(&["verify", out]), 3, "byte {position}");
        assert_eq!(linker.code(&["ingest", out]), 3, "byte {position}");
    }
    fs::write(out, &carried[..carried.len() - 1]).unwrap();
    assert_eq!(linker.code(&["verify", out]), 3, "cut");
    fs::write(out, [carried.as_slice(), b"\0"].concat()).unwrap();
    let verdict = linker.json_of(&["verify", out], 3);
    assert_eq!(verdict["code"], "trailing-bytes");
    assert_eq!(linker.code(&["verify", "no-such-file"]), 4);
    assert_eq!(linker.code(&["verify"]), 2);
}

#[test]
fn the_example_verifies_a_bundle() {
    let example =
        std::path::Path::new(env!("CARGO_BIN_EXE_lockgate-linker")).parent().unwrap().join("examples/verify");
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new("A81001", 1);
    let bundle = site.bundle(1, None, &[b"patients", b"codes"]);
    let (header, pem) = (dir.path().join("header"), dir.path().join("key.pem"));
    fs::write(&header, &bundle.signed).unwrap();
    fs::write(&pem, site.key.public().to_pem().unwrap()).unwrap();
    for block in &bundle.blocks {
        fs::write(dir.path().join(Digest::of(block).to_hex()), block).unwrap();
    }
    let verified = |site: &str| {
        let mut command = Command::new(&example);
        command.arg(site).arg(&pem).arg(&header).arg(dir.path());
        command.output().unwrap().status.success()
    };
    assert!(verified("A81001"));
    assert!(!verified("B82002"));
    fs::write(dir.path().join(Digest::of(b"codes").to_hex()), b"coded").unwrap();
    assert!(!verified("A81001"));
}
