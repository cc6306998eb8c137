//! The keyholder against those who would misuse it: what is asked of the real service, over its socket, by hand.

use anyhow::{Context as _, ensure};
use lockgate_signing::envelope::sign;
use lockgate_signing::evaluation::{ELEMENT_BYTES, EvaluationAnswer, EvaluationRequest};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::receipt::Receipt;
use lockgate_tests::http::{self, Message};
use lockgate_tests::leak::Search;
use lockgate_tests::{Binaries, Keyholder};
use zeroize::Zeroizing;

use crate::TestResult;

/// Blinded elements of RFC 9497, appendix A.1.2: as good as any that a site makes.
const ELEMENTS: [&str; 2] = [
    "863f330cc1a1259ed5a5998a23acfd37fb4351a793a5b3c090b642ddc439b945",
    "cc0b2a350101881d8a4cba4c80241d74fb7dcbfde4a61fde2f91443c2bf9ef0c",
];

/// A keyholder that serves, and the site A81001 with a list of ten patients: eighty evaluations a day.
struct Served {
    keyholder: Keyholder,
    _folder: tempfile::TempDir,
    key: SigningKey,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([seed; 32]))
}

impl Served {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut keyholder = Keyholder::new(&Binaries::locate()?, folder.path(), &["care-data"])?;
        keyholder.start()?;
        let served = Self { keyholder, _folder: folder, key: key(1) };
        served.add("A81001", &served.key)?;
        Ok(served)
    }

    fn add(&self, site: &str, key: &SigningKey) -> TestResult {
        let file = self.keyholder.folder().with_file_name(format!("{site}.pub.pem"));
        std::fs::write(&file, key.public().to_pem()?)?;
        let file = file.display().to_string();
        self.keyholder.command(&["site", "add", site, &file, "--patients", "10"])?.ok().map(|_| ())
    }

    /// A request for as many elements, made now.
    fn request(&self, count: usize) -> anyhow::Result<EvaluationRequest> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let pair: Vec<u8> = ELEMENTS
            .iter()
            .flat_map(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap_or_default())
            .collect();
        Ok(EvaluationRequest {
            site: "A81001".parse()?,
            at_s: jiff::Timestamp::now().as_second(),
            nonce,
            domain: "care-data".parse()?,
            epoch: 1,
            elements: pair.into_iter().cycle().take(count * ELEMENT_BYTES).collect(),
        })
    }

    fn post(&self, body: &[u8]) -> anyhow::Result<Message> {
        http::send(&self.keyholder.url(), "POST /v1/evaluations", body)
    }

    fn ask(&self, request: &EvaluationRequest) -> anyhow::Result<Message> {
        self.post(&sign(request, &self.key))
    }

    fn refused(&self, body: &[u8], status: u16, code: &str) -> TestResult {
        let answer = self.post(body)?;
        ensure!(
            (answer.status(), answer.problem().as_str()) == (status, code),
            "{} {} in place of {status} {code}",
            answer.status(),
            answer.problem()
        );
        Ok(())
    }

    fn evaluations(&self) -> anyhow::Result<u64> {
        let sites = self.keyholder.command(&["--json", "sites"])?.ok()?.json()?;
        sites["sites"][0]["today"].as_u64().context("no count")
    }
}

#[test]
fn who_asks_is_answered_once() -> TestResult {
    let mut served = Served::new()?;
    let request = served.request(2)?;
    let answer = served.ask(&request)?;
    ensure!(answer.status() == 200, "{} {}", answer.status(), answer.problem());
    let answer = EvaluationAnswer::decode(&answer.body)?;
    ensure!(answer.elements.len() == request.elements.len() && answer.elements != request.elements);
    // The same question by another request has the same answer, under another proof.
    let again = EvaluationAnswer::decode(&served.ask(&served.request(2)?)?.body)?;
    ensure!(again.elements == answer.elements && again.proof != answer.proof);
    // The same request has none: not now, not after a clean restart, not after a crash.
    let replayed = sign(&request, &served.key);
    served.refused(&replayed, 409, "replayed")?;
    served.keyholder.stop()?;
    served.keyholder.start()?;
    served.refused(&replayed, 409, "replayed")?;
    served.keyholder.kill()?;
    served.keyholder.start()?;
    served.refused(&replayed, 409, "replayed")?;
    ensure!(served.evaluations()? == 4, "{} evaluations", served.evaluations()?);
    let after = EvaluationAnswer::decode(&served.ask(&served.request(2)?)?.body)?;
    ensure!(after.elements == answer.elements, "another key after a restart");
    Ok(())
}

#[test]
fn every_other_request_has_its_reason() -> TestResult {
    let served = Served::new()?;
    let good = served.request(2)?;
    let signed = |change: &dyn Fn(&mut EvaluationRequest)| {
        let mut request = good.clone();
        change(&mut request);
        sign(&request, &served.key)
    };
    // Not a request.
    served.refused(b"", 400, "not-an-envelope")?;
    served.refused(b"{}", 400, "not-an-envelope")?;
    served.refused(&[signed(&|_| {}), vec![0]].concat(), 400, "trailing-bytes")?;
    served.refused(&vec![0; 600_000], 413, "too-large")?;
    let receipt = Receipt {
        bundle: "0".repeat(64).parse()?,
        site: "A81001".parse()?,
        sequence: 1,
        accepted_at_s: 0,
        bytes: 0,
    };
    served.refused(&sign(&receipt, &served.key), 400, "wrong-role")?;
    // Not from the site.
    served.refused(&sign(&good, &key(2)), 403, "unknown-key")?;
    let mut forged = signed(&|_| {});
    let last = forged.len() - 1;
    forged[last] ^= 1;
    served.refused(&forged, 403, "bad-signature")?;
    served.add("A81002", &key(3))?;
    served.refused(&sign(&good, &key(3)), 403, "wrong-site")?;
    // Not now.
    for apart_s in [-3_600, 3_600] {
        served.refused(&signed(&|request| request.at_s += apart_s), 403, "clock-apart")?;
    }
    // Not what there is.
    served.refused(&signed(&|request| request.elements.truncate(33)), 422, "content-invalid")?;
    served.refused(&signed(&|request| request.elements.clear()), 422, "content-invalid")?;
    served.refused(&signed(&|request| request.epoch = 2), 404, "no-such-key")?;
    let other = "diabetes-audit".parse()?;
    served.refused(
        &signed(&|request| request.domain = std::clone::Clone::clone(&other)),
        404,
        "no-such-key",
    )?;
    served.refused(&signed(&|request| request.elements[32..].fill(0)), 422, "not-an-element")?;
    let unknown = http::send(&served.keyholder.url(), "POST /v1/keys", b"")?;
    ensure!(unknown.problem() == "not-found");
    ensure!(
        http::send(&served.keyholder.url(), "GET /v1/evaluations", b"")?.problem() == "method-not-allowed"
    );
    // The service is none the worse for it, and a revoked site ends.
    ensure!(served.ask(&served.request(1)?)?.status() == 200);
    served.keyholder.command(&["site", "revoke", "A81001"])?.ok()?;
    served.refused(&sign(&served.request(1)?, &served.key), 403, "revoked-key")?;
    // All of it is counted.
    let audit = served.keyholder.command(&["--json", "audit"])?.ok()?.stdout;
    for code in [
        "unknown-key",
        "bad-signature",
        "wrong-site",
        "clock-apart",
        "no-such-key",
        "not-an-element",
        "revoked-key",
    ] {
        ensure!(audit.contains(code), "{code} is not in the audit: {audit}");
    }
    // A revoked site that goes on asking is told by its name: it has proved who it is.
    let audit = served.keyholder.command(&["audit"])?.ok()?.stdout;
    let named = audit.lines().any(|line| line.contains("A81001") && line.contains("revoked-key"));
    ensure!(named, "{audit}");
    Ok(())
}

#[test]
fn a_compromised_site_gets_its_quota_and_an_alarm() -> TestResult {
    let served = Served::new()?;
    served.add("A81002", &key(3))?;
    ensure!(served.ask(&served.request(79)?)?.status() == 200);
    served.refused(&sign(&served.request(2)?, &served.key), 429, "quota-exceeded")?;
    ensure!(served.ask(&served.request(1)?)?.status() == 200);
    served.refused(&sign(&served.request(1)?, &served.key), 429, "quota-exceeded")?;
    ensure!(served.evaluations()? == 80);
    let audit = served.keyholder.command(&["audit"])?.ok()?.stdout;
    ensure!(audit.contains("ALARM") && audit.contains("A81001"), "{audit}");
    // Another site's quota is its own.
    let request = EvaluationRequest { site: "A81002".parse()?, ..served.request(80)? };
    ensure!(served.post(&sign(&request, &key(3)))?.status() == 200);
    Ok(())
}

#[test]
fn many_at_once_are_counted_one_by_one() -> TestResult {
    let served = Served::new()?;
    let statuses = std::thread::scope(|scope| {
        let ask = |_| scope.spawn(|| anyhow::Ok(served.ask(&served.request(5)?)?.status()));
        let asked: Vec<_> = (0..24).map(ask).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Ok(0))).collect::<Result<Vec<_>, _>>()
    })?;
    let granted = statuses.iter().filter(|status| **status == 200).count();
    ensure!(granted == 16, "{granted} of 16 were granted: {statuses:?}");
    ensure!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    ensure!(served.evaluations()? == 80);
    Ok(())
}

#[test]
fn what_was_asked_is_nowhere_on_its_disk_or_in_its_log() -> TestResult {
    let mut served = Served::new()?;
    let answer = EvaluationAnswer::decode(&served.ask(&served.request(2)?)?.body)?;
    let mut texts: Vec<String> = ELEMENTS.iter().map(|hex| (*hex).to_owned()).collect();
    texts
        .extend(answer.elements.chunks(ELEMENT_BYTES).map(|element| data_encoding::HEXLOWER.encode(element)));
    let search = Search::new(texts.iter().map(String::as_str))?;
    served.refused(&sign(&served.request(0)?, &served.key), 422, "content-invalid")?;
    served.keyholder.stop()?;
    let log = served.keyholder.log();
    ensure!(log.contains("evaluations=2") && log.contains("A81001"), "{log}");
    ensure!(search.find(log.as_bytes()).is_none(), "in the log: {log}");
    let found = search.find_in_files(served.keyholder.folder())?;
    ensure!(found.is_empty(), "{found:?}");
    // Nor as bytes.
    for file in lockgate_tests::opened::files(served.keyholder.folder())? {
        let bytes = std::fs::read(&file)?;
        for hex in &texts {
            let element = data_encoding::HEXLOWER.decode(hex.as_bytes())?;
            ensure!(
                !bytes.windows(16).any(|window| window == &element[..16]),
                "{} holds {hex}",
                file.display()
            );
        }
    }
    Ok(())
}

#[test]
fn without_the_passphrase_there_are_no_keys() -> TestResult {
    let folder = tempfile::tempdir()?;
    let keyholder = Keyholder::new(&Binaries::locate()?, folder.path(), &["care-data"])?;
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "another passphrase, as long\n")?;
    // Nothing is wrong but the passphrase.
    keyholder.command(&["keys"])?.ok()?;
    let finished = keyholder.command_with(&wrong, &["keys"])?.expect(1)?;
    ensure!(finished.stderr.contains("chmod 600"), "{}", finished.stderr);
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o600))?;
    let finished = keyholder.command_with(&wrong, &["keys"])?.expect(1)?;
    ensure!(finished.stderr.contains("the passphrase is another one"), "{}", finished.stderr);
    Ok(())
}
