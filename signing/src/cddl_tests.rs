//! What is encoded, checked against `bundle.cddl` by a library that knows nothing of ours.

use zeroize::Zeroizing;

use crate::block::{Bitmap, Column, Encoder, FormerTable, LinkTokens, PLAIN_BYTES_MAX, PatientTable, Values};
use crate::bundle::{
    BlockRef, BundleHeader, BundleKind, ColumnInfo, ColumnKind, Counts, EvidenceCount, EvidenceCounts,
    EvidenceKind, FormerTokens, ModuleRef, OutputInfo, TokenInfo, TokenScheme,
};
use crate::cbor::Writer;
use crate::collection::{CollectionRequest, Wanted};
use crate::deletion::{DeletionStatement, encode_statements};
use crate::delivery;
use crate::digest::Digest;
use crate::encryption::{BlockList, BlockPlace, BundleContext, ContentKey, Encryption};
use crate::enrolment::EnrolmentRequest;
use crate::envelope::{Message, sign};
use crate::evaluation::{EvaluationAnswer, EvaluationRequest};
use crate::ids::{BundleId, Name};
use crate::keys::SigningKey;
use crate::manifest::LinkKind;
use crate::receipt::Receipt;
use crate::recipients::tests::recipient;
use crate::sealed::OpeningKey;

const CDDL: &str = include_str!("../bundle.cddl");

/// Whether bytes are what a rule of `bundle.cddl` says. The library validates against the first rule of a document.
fn validates(rule: &str, bytes: &[u8]) -> Result<(), String> {
    let document = format!("root = {rule}\n{CDDL}");
    cddl::validate_cbor_from_slice(&document, bytes, None).map_err(|error| error.to_string())
}

pub(crate) fn site_key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn columns() -> Vec<ColumnInfo> {
    let info = |column, kind| ColumnInfo { name: name(column), kind };
    vec![
        info("patient", ColumnKind::Patient),
        info("date", ColumnKind::Date),
        info("code", ColumnKind::Code),
        info("value", ColumnKind::Number { decimals: 2 }),
        info("kind", ColumnKind::Category { categories: vec![name("result"), name("finding")] }),
    ]
}

/// A token table, a dictionary, rows and former tokens: each its plain bytes and the block.
fn blocks() -> [(Vec<u8>, Vec<u8>); 4] {
    let mut missing = Bitmap::none(2);
    missing.set(1);
    let table = PatientTable {
        tokens: vec![[1; 16], [2; 16]],
        type_2: Bitmap::none(2),
        links: vec![LinkTokens { tokens: vec![[3; 16], [0; 16]], missing: missing.clone() }],
    };
    let codes = [("snomed", "44054006"), ("loinc", "4548-4")];
    let codes = codes.map(|(system, code)| (system.to_owned(), code.to_owned()));
    let former = FormerTable { tokens: vec![[8; 16], [0; 16]], missing: missing.clone() };
    let whole = |values| Column { values, missing: None };
    let rows = [
        whole(Values::Patients(vec![0, 1])),
        whole(Values::Dates(vec![20_000, 20_300])),
        whole(Values::Codes(vec![1, 0])),
        Column { values: Values::Numbers(vec![48.5, 0.0]), missing: Some(missing) },
        whole(Values::Categories(vec![0, 1])),
    ];
    let mut encoder = Encoder::new().unwrap();
    [
        encoder.patients(&table).unwrap(),
        encoder.codes(&codes).unwrap(),
        encoder.rows(&columns(), &rows).unwrap(),
        encoder.former(&former).unwrap(),
    ]
    .map(|block| (zstd::bulk::decompress(&block, PLAIN_BYTES_MAX).unwrap(), block))
}

/// Who opens the sample.
pub(crate) fn warehouse_key() -> OpeningKey {
    OpeningKey::from_seed(&Zeroizing::new([3; 32]))
}

fn sample_key(context: &BundleContext) -> ContentKey {
    ContentKey::new(Zeroizing::new([4; 32]), context)
}

fn encryption(context: &BundleContext) -> Encryption {
    let (first, last) = (jiff::civil::date(2026, 1, 1), jiff::civil::date(2026, 12, 31));
    let recipients = [recipient("warehouse", 3, first, last), recipient("reserve", 5, first, last)];
    let wrap = |recipient| sample_key(context).wrap(&recipient, &Zeroizing::new([6; 32])).unwrap();
    Encryption::new(recipients.into_iter().map(wrap).collect())
}

/// The blocks of the sample as they are sent.
fn sent(context: &BundleContext) -> [Vec<u8>; 4] {
    let lists = [BlockList::Patients, BlockList::Codes, BlockList::Output(0), BlockList::Former];
    let mut lists = lists.into_iter().map(|list| BlockPlace { list, position: 0 });
    blocks()
        .map(|(_, block)| block)
        .map(|block| sample_key(context).encrypt(lists.next().unwrap(), block).unwrap())
}

pub(crate) fn sample_context() -> BundleContext {
    BundleContext {
        site: "A81001".parse().unwrap(),
        sequence: 2,
        previous: Some(BundleId(Digest::of(b"previous"))),
        module: name("gp-monthly"),
        version: semver::Version::new(1, 0, 0),
        period: "2026-10".parse().unwrap(),
    }
}

/// The bytes of a block that [`sample_header`] names.
pub(crate) fn block_bytes(named: &BlockRef) -> Vec<u8> {
    let found = sent(&sample_context()).into_iter().find(|block| Digest::of(block) == named.digest);
    found.unwrap()
}

/// A header with something in every field that can be empty.
pub(crate) fn sample_header() -> BundleHeader {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let context = sample_context();
    let [patients, codes, rows, former] = sent(&context).map(|block| BlockRef {
        digest: Digest::of(&block),
        bytes: block.len() as u64,
        rows: 2,
    });
    BundleHeader {
        encryption: encryption(&context),
        site: context.site,
        sequence: context.sequence,
        previous: context.previous,
        module: ModuleRef {
            id: context.module,
            version: context.version,
            manifest: digest("manifest"),
            component: digest("component"),
        },
        policy: digest("policy"),
        sensitive: digest("sensitive"),
        mapping: digest("mapping"),
        rollout: Some(digest("rollout")),
        purpose: name("care-planning"),
        tokens: TokenInfo {
            scheme: TokenScheme::SealedKey,
            epoch: 2,
            links: vec![LinkKind::NhsNumber],
            former: Some(FormerTokens { epoch: 1, blocks: vec![former] }),
        },
        period: context.period,
        snapshot_at_s: 1_793_500_000,
        agent_version: "0.1.0".to_owned(),
        fuel: 12_345,
        counts: Counts {
            patients: 2,
            evidence: EvidenceCounts {
                rows: 3,
                undated: 1,
                by_code: vec![evidence(None), evidence(Some(2014))],
                ..EvidenceCounts::default()
            },
            ..Counts::default()
        },
        outputs: vec![OutputInfo {
            name: name("events"),
            aggregate: false,
            columns: columns(),
            blocks: vec![rows],
        }],
        patients: vec![patients],
        codes: vec![codes],
        supersedes: Some(BundleId(digest("earlier"))),
        directions: vec![digest("direction")],
        kind: BundleKind::Extract,
    }
}

/// The sample as a retraction of its two patients.
pub(crate) fn sample_retraction() -> BundleHeader {
    let mut header = sample_header();
    header.kind = BundleKind::Retraction;
    header.tokens.links.clear();
    header.tokens.former = None;
    header.outputs.clear();
    header.codes.clear();
    header.directions.clear();
    header.supersedes = None;
    header.counts = Counts::default();
    header.fuel = 0;
    header
}

fn evidence(year: Option<u16>) -> EvidenceCount {
    EvidenceCount {
        kind: EvidenceKind::Type1Dissent,
        system: "snomed".to_owned(),
        code: "827241000000103".to_owned(),
        year,
        entries: 1,
    }
}

fn receipt() -> Receipt {
    Receipt {
        bundle: BundleId(Digest::of(b"bundle")),
        site: "A81001".parse().unwrap(),
        sequence: 2,
        accepted_at_s: 1_793_500_060,
        bytes: 123,
    }
}

fn request() -> EnrolmentRequest {
    let site = "A81001".parse().unwrap();
    EnrolmentRequest { site, public_key: site_key().public(), secret: [7; 32] }
}

fn evaluation_request() -> EvaluationRequest {
    EvaluationRequest {
        site: "A81001".parse().unwrap(),
        at_s: 1_793_500_000,
        nonce: [7; 16],
        domain: name("care-planning"),
        epoch: 1,
        elements: vec![9; 64],
    }
}

#[test]
fn what_the_keyholder_is_asked_and_answers_is_as_described() {
    validates("signed-evaluation-request", &sign(&evaluation_request(), &site_key())).unwrap();
    let answer = EvaluationAnswer { elements: vec![9; 64], proof: [1; 64] };
    validates("evaluation-answer", &answer.encode()).unwrap();
    let none = EvaluationRequest { elements: Vec::new(), ..evaluation_request() };
    assert!(validates("evaluation-request", &none.encode()).is_err(), "no element");
    let none = EvaluationAnswer { elements: Vec::new(), ..answer };
    assert!(validates("evaluation-answer", &none.encode()).is_err(), "no element");
    assert!(validates("signed-evaluation-request", &sign(&receipt(), &site_key())).is_err(), "another role");
}

#[test]
fn how_a_sealed_key_gets_to_a_site_is_as_described() {
    let (request, delivery) = (delivery::tests::request(), delivery::tests::delivery());
    validates("signed-token-key-request", &sign(&request, &site_key())).unwrap();
    validates("signed-token-key", &sign(&delivery, &site_key())).unwrap();
    assert!(validates("signed-token-key", &sign(&request, &site_key())).is_err(), "another role");
    assert!(validates("token-key-request", &delivery.encode()).is_err());
    assert!(validates("token-key", &request.encode()).is_err());
}

#[test]
fn what_is_signed_is_as_described() {
    let key = site_key();
    validates("signed-bundle", &sign(&sample_header(), &key)).unwrap();
    validates("signed-receipt", &sign(&receipt(), &key)).unwrap();
    validates("signed-enrolment", &sign(&request(), &key)).unwrap();
    validates("bundle-header", &sample_header().encode()).unwrap();
    let first = BundleHeader {
        sequence: 1,
        previous: None,
        rollout: None,
        supersedes: None,
        outputs: Vec::new(),
        patients: Vec::new(),
        codes: Vec::new(),
        tokens: TokenInfo { former: None, ..sample_header().tokens },
        ..sample_header()
    };
    validates("bundle-header", &first.encode()).unwrap();
    validates("signed-bundle", &sign(&sample_retraction(), &key)).unwrap();
}

#[test]
fn a_retraction_says_nothing_but_whose() {
    let retraction = sample_retraction();
    assert_eq!(BundleHeader::decode(&retraction.encode()).unwrap(), retraction);
    let changes: [fn(&mut BundleHeader); 10] = [
        |header| header.patients.clear(),
        |header| header.tokens.links.push(LinkKind::NhsNumber),
        |header| header.tokens.former = sample_header().tokens.former,
        |header| header.outputs = sample_header().outputs,
        |header| header.codes = sample_header().codes,
        |header| header.supersedes = sample_header().supersedes,
        |header| header.directions = sample_header().directions,
        |header| header.fuel = 1,
        |header| header.counts.withheld_type_1 = 1,
        |header| header.counts.evidence.rows = 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut header = retraction.clone();
        change(&mut header);
        assert!(BundleHeader::decode(&header.encode()).is_err(), "change {number}");
    }
}

#[test]
fn what_a_recipient_signs_is_as_described() {
    let statement = DeletionStatement {
        bundle: BundleId(Digest::of(b"bundle")),
        site: "A81001".parse().unwrap(),
        sequence: 2,
        module: name("gp-monthly"),
        deleted_at_s: 1_793_500_120,
    };
    validates("signed-deletion", &sign(&statement, &site_key())).unwrap();
    let together = encode_statements(&[sign(&statement, &site_key())]);
    validates("deletion-statements", &together).unwrap();
    validates("deletion-statements", &encode_statements(&[])).unwrap();
    for wanted in [Wanted::After(0), Wanted::Bundle(BundleId(Digest::of(b"bundle")))] {
        let request = CollectionRequest { at_s: 1_793_500_000, wanted };
        validates("signed-collection-request", &sign(&request, &site_key())).unwrap();
        assert!(validates("signed-deletion", &sign(&request, &site_key())).is_err(), "another role");
    }
    assert!(validates("signed-receipt", &sign(&statement, &site_key())).is_err(), "another role");
}

#[test]
fn blocks_are_as_described() {
    let [patients, codes, rows, former] = blocks().map(|(plain, _)| plain);
    validates("former-block", &former).unwrap();
    assert!(validates("former-block", &patients).is_err());
    validates("patients-block", &patients).unwrap();
    validates("codes-block", &codes).unwrap();
    validates("rows-block", &rows).unwrap();
    assert!(validates("rows-block", &patients).is_err());
    assert!(validates("codes-block", &rows).is_err());
}

/// Each of these is wrong in one place; the description must see it, or it describes nothing.
#[test]
fn a_link_token_is_one_that_is_known_and_there_once() {
    let encoded = sample_header().encode();
    let name = LinkKind::NhsNumber.name().as_bytes();
    let at = encoded.windows(name.len()).position(|window| window == name).unwrap();
    let mut unknown = encoded;
    unknown[at] = b'x';
    assert!(validates("bundle-header", &unknown).is_err());
    assert!(BundleHeader::decode(&unknown).is_err());
    let mut twice = sample_header();
    twice.tokens.links = vec![LinkKind::NhsNumber; 2];
    assert!(BundleHeader::decode(&twice.encode()).is_err());
}

#[test]
fn what_is_wrong_is_not_as_described() {
    let key = site_key();
    assert!(validates("signed-receipt", &sign(&sample_header(), &key)).is_err(), "another role");
    assert!(validates("signed-bundle", &sign(&receipt(), &key)).is_err(), "another role");
    let mut signed = sign(&receipt(), &key);
    signed.truncate(signed.len() - 1);
    assert!(validates("signed-receipt", &signed).is_err(), "cut");

    let wrong = |change: &dyn Fn(&mut BundleHeader)| {
        let mut header = sample_header();
        change(&mut header);
        validates("bundle-header", &header.encode()).is_err()
    };
    assert!(!wrong(&|_| {}));
    assert!(wrong(&|header| header.sequence = 0), "sequence");
    assert!(wrong(&|header| header.agent_version = String::new()), "agent version");
    assert!(wrong(&|header| header.patients[0].bytes = 0), "block size");
    assert!(wrong(&|header| header.outputs[0].blocks[0].rows = 65_537), "block rows");
    let decimals = |header: &mut BundleHeader| {
        header.outputs[0].columns[3].kind = ColumnKind::Number { decimals: 7 };
    };
    assert!(wrong(&decimals), "decimals");
    assert!(wrong(&|header| header.encryption.recipients.clear()), "nobody can open it");

    let record = |fields: &[&dyn Fn(&mut Writer)]| {
        let mut writer = Writer::new();
        writer.map(fields.len());
        for (key, field) in (1..).zip(fields) {
            writer.unsigned(key);
            field(&mut writer);
        }
        writer.into_bytes()
    };
    let enrolment = |site: &'static str, secret: &'static [u8]| {
        record(&[&|w| w.unsigned(1), &|w| w.text(site), &|w| w.bytes(&[1; 32]), &|w| w.bytes(secret)])
    };
    validates("enrolment-request", &enrolment("A81001", &[7; 32])).unwrap();
    // The library looks for a `.regexp` anywhere in the text, where RFC 8610 means the whole text.
    assert!(validates("enrolment-request", &enrolment("a8-1", &[7; 32])).is_err(), "site");
    assert!(validates("enrolment-request", &enrolment("A81001", &[7; 31])).is_err(), "short secret");
    let future = record(&[&|w| w.unsigned(2), &|w| w.text("A81001"), &|w| w.bytes(&[1; 32]), &|w| {
        w.bytes(&[7; 32]);
    }]);
    assert!(validates("enrolment-request", &future).is_err(), "another version");
}
