//! What was accepted goes to recipients and to nobody else, and what they say goes to the site that asked.

use data_encoding::HEXLOWER;
use lockgate_signing::collection::{CollectionRequest, Wanted};
use lockgate_signing::deletion::{DeletionStatement, decode_statements};
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::SigningKey;

use crate::fixture::{Bundle, Linker, key, problem_of};

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn request(wanted: Wanted, by: &SigningKey) -> Vec<u8> {
    sign(&CollectionRequest { at_s: now_s(), wanted }, by)
}

fn add(linker: &Linker, name: &str, key: &SigningKey) {
    linker.run(&["recipient", "add", name, &HEXLOWER.encode(&key.public().to_bytes())]);
}

fn listed(linker: &Linker, after: u64, by: &SigningKey) -> Vec<(u64, String)> {
    let answer = linker.post_to("/v1/collections", &request(Wanted::After(after), by));
    assert_eq!(answer.status(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().unwrap()).unwrap();
    let bundles = answer["bundles"].as_array().unwrap().iter();
    bundles.map(|it| (it["position"].as_u64().unwrap(), it["bundle"].as_str().unwrap().to_owned())).collect()
}

fn statement_of(bundle: &Bundle) -> DeletionStatement {
    DeletionStatement {
        bundle: bundle.id(),
        site: bundle.header.site.clone(),
        sequence: bundle.header.sequence,
        module: bundle.header.module.id.clone(),
        deleted_at_s: 1_793_500_100,
    }
}

#[test]
fn what_was_accepted_goes_to_recipients_whole_and_in_the_order_of_acceptance() {
    let mut linker = Linker::start();
    let (one, two) = (linker.enrol("A81001", 1), linker.enrol("B82002", 2));
    let warehouse = key(7);
    add(&linker, "warehouse", &warehouse);
    let first = one.bundle(1, None, &[b"of one", &[3; 2_000_000]]);
    let second = two.bundle(1, None, &[b"of two"]);
    let waits = one.bundle(2, Some(first.id()), &[b"never sent"]);
    assert_eq!(listed(&linker, 0, &warehouse), []);
    linker.send(&second);
    let _ = linker.post(&waits.signed);
    linker.send(&first);
    let all = [(1, second.id().to_string()), (2, first.id().to_string())];
    assert_eq!(listed(&linker, 0, &warehouse), all, "what waits for blocks is not there");
    linker.restart();
    assert_eq!(listed(&linker, 0, &warehouse), all);
    assert_eq!(listed(&linker, 1, &warehouse), all[1..]);
    assert_eq!(listed(&linker, u64::MAX, &warehouse), []);
    for bundle in [&first, &second] {
        let answer = linker.post_to("/v1/collections", &request(Wanted::Bundle(bundle.id()), &warehouse));
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], lockgate_signing::carriage::CONTENT_TYPE);
        assert_eq!(answer.bytes().unwrap(), bundle.carried());
    }
}

#[test]
fn nobody_else_is_handed_anything() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let bundle = site.bundle(1, None, &[b"block"]);
    linker.send(&bundle);
    let warehouse = key(7);
    let refused = |body: &[u8]| problem_of(linker.post_to("/v1/collections", body));
    let wanted = [Wanted::After(0), Wanted::Bundle(bundle.id())];
    for wanted in wanted {
        // Nobody knows it; a site is no recipient.
        assert_eq!(refused(&request(wanted, &warehouse)), "unknown-recipient");
        assert_eq!(refused(&request(wanted, &site.key)), "unknown-recipient");
    }
    add(&linker, "warehouse", &warehouse);
    for wanted in wanted {
        for seconds in [-400, 400] {
            let stale = CollectionRequest { at_s: now_s() + seconds, wanted };
            assert_eq!(refused(&sign(&stale, &warehouse)), "stale-request", "a request that was recorded");
        }
        let mut forged = request(wanted, &warehouse);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(refused(&forged), "bad-signature");
    }
    // A statement is no request, and nothing is everything.
    assert_eq!(refused(&sign(&statement_of(&bundle), &warehouse)), "wrong-role");
    assert_eq!(refused(b""), "not-an-envelope");
    assert_eq!(refused(&vec![0; 2 << 20]), "too-large");
    let unknown = BundleId(Digest::of(b"no bundle"));
    assert_eq!(refused(&request(Wanted::Bundle(unknown), &warehouse)), "unknown-bundle");
    linker.run(&["recipient", "revoke", "warehouse"]);
    for wanted in wanted {
        assert_eq!(refused(&request(wanted, &warehouse)), "unknown-recipient");
    }
    assert_eq!(linker.code(&["recipient", "revoke", "nobody"]), 1);
    assert!(linker.json(&["recipients"])["recipients"][0]["revoked-at-s"].is_i64());
}

#[test]
fn a_statement_is_kept_only_of_a_retraction_that_was_accepted() {
    let linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let extract = site.bundle(1, None, &[b"block"]);
    let retraction = site.retraction(2, Some(extract.id()), b"tokens");
    linker.send(&extract);
    let (warehouse, reserve) = (key(7), key(8));
    add(&linker, "warehouse", &warehouse);
    add(&linker, "reserve", &reserve);
    let refused = |statement: &[u8]| problem_of(linker.post_to("/v1/deletions", statement));
    let good = statement_of(&retraction);
    assert_eq!(refused(&sign(&good, &warehouse)), "deletion-mismatch", "not there yet");
    linker.send(&retraction);
    assert_eq!(refused(&sign(&good, &site.key)), "unknown-recipient");
    let mut forged = sign(&good, &warehouse);
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&forged), "bad-signature");
    let changes: [fn(&mut DeletionStatement); 4] = [
        |it| it.bundle = BundleId(Digest::of(b"other")),
        |it| it.sequence = 3,
        |it| it.site = "B82002".parse().unwrap(),
        |it| it.module = "other".parse().unwrap(),
    ];
    for change in changes {
        let mut wrong = good.clone();
        change(&mut wrong);
        assert_eq!(refused(&sign(&wrong, &warehouse)), "deletion-mismatch", "{wrong:?}");
    }
    assert_eq!(refused(&sign(&statement_of(&extract), &warehouse)), "deletion-mismatch", "no retraction");

    let stated = |bundle: BundleId| {
        let answer = linker.get(&format!("/v1/deletions/{bundle}"));
        assert_eq!(answer.status(), 200);
        let bytes = answer.bytes().unwrap();
        decode_statements(&bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_eq!(stated(retraction.id()), [] as [Vec<u8>; 0]);
    assert_eq!(problem_of(linker.get("/v1/deletions/abc")), "unknown-bundle");
    assert_eq!(
        problem_of(linker.get(&format!("/v1/deletions/{}", Digest::of(b"x").to_hex()))),
        "unknown-bundle"
    );
    let later = DeletionStatement { deleted_at_s: good.deleted_at_s + 1, ..good.clone() };
    for statement in [&good, &good, &later] {
        assert_eq!(linker.post_to("/v1/deletions", &sign(statement, &warehouse)).status(), 204);
        assert_eq!(stated(retraction.id()), [sign(&good, &warehouse)], "the first stays");
    }
    assert_eq!(linker.post_to("/v1/deletions", &sign(&good, &reserve)).status(), 204);
    assert_eq!(stated(retraction.id()).len(), 2);
    let row = &linker.json(&["bundles"])["bundles"][1];
    assert_eq!(row["kind"], "retraction");
    assert_eq!(row["deleted-by"].as_array().unwrap().len(), 2);
    assert!(linker.text(&["bundles"]).contains("deleted by"));
}

#[cfg(feature = "failpoints")]
#[test]
fn it_may_die_while_it_deals_with_recipients() {
    for point in lockgate_linker::failpoint::OF_RECIPIENTS {
        let mut linker = Linker::start();
        let site = linker.enrol("A81001", 1);
        let warehouse = key(7);
        add(&linker, "warehouse", &warehouse);
        let retraction = site.retraction(1, None, &[5; 100_000]);
        linker.send(&retraction);
        let attempt = |linker: &Linker| {
            let wanted = request(Wanted::Bundle(retraction.id()), &warehouse);
            let (status, collected) = linker.try_post_to("/v1/collections", &wanted)?;
            assert_eq!((status, collected), (200, retraction.carried()));
            linker.try_post_to("/v1/deletions", &sign(&statement_of(&retraction), &warehouse))
        };
        linker.restart_with(&format!("{point}=return"));
        assert!(attempt(&linker).is_err(), "{point} was not reached");
        linker.restart();
        assert_eq!(attempt(&linker).unwrap().0, 204, "{point}");
        let answer = linker.get(&format!("/v1/deletions/{}", retraction.id())).bytes().unwrap();
        assert_eq!(decode_statements(&answer).unwrap(), [sign(&statement_of(&retraction), &warehouse)]);
    }
}
