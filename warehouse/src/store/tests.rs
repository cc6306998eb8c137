//! What is applied in which order: bundles overtake each other, and practices know of a person at different times.

mod epochs;

use lockgate_signing::block::{Bitmap, Column, FormerTable, LinkTokens, PatientTable, Rows, Token, Values};
use lockgate_signing::bundle::{
    BlockRef, BundleHeader, BundleKind, ColumnInfo, ColumnKind, Counts, FormerTokens, ModuleRef, OutputInfo,
    TokenInfo, TokenScheme,
};
use lockgate_signing::digest::Digest;
use lockgate_signing::encryption::{Encryption, WrappedKey};
use lockgate_signing::envelope::{Verified, sign, verify};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::manifest::LinkKind;
use lockgate_signing::opened::OpenedBundle;
use lockgate_signing::sealed::SealingKeyId;

use super::{Applied, Opened, Outcome, Renewals, Store};
use crate::rekey::TokenKey;

const TABLE: &str = "m/events";
const ANN: Token = [1; 16];
const BOB: Token = [2; 16];

struct Scene {
    dir: tempfile::TempDir,
    store: Store,
    key: TokenKey,
    position: u64,
}

/// A bundle: of a site, its place in the chain, the day of its snapshot, and who is in it, each with a value.
struct Sent<'a> {
    site: &'a str,
    sequence: u64,
    day: i64,
    kind: BundleKind,
    who: &'a [(Token, f64)],
    module: &'a str,
    /// What the token of each of them was; nothing: it is not told.
    former: &'a [Token],
}

impl<'a> Sent<'a> {
    fn extract(site: &'a str, sequence: u64, day: i64, who: &'a [(Token, f64)]) -> Self {
        Self { site, sequence, day, kind: BundleKind::Extract, who, module: "m", former: &[] }
    }

    fn retraction(site: &'a str, sequence: u64, day: i64, who: &'a [(Token, f64)]) -> Self {
        Self { kind: BundleKind::Retraction, ..Self::extract(site, sequence, day, who) }
    }

    /// The same, telling what its tokens were.
    fn telling(self, former: &'a [Token]) -> Self {
        assert_eq!(former.len(), self.who.len());
        Self { former, ..self }
    }

    /// The same, of another module.
    fn of(self, module: &'a str) -> Self {
        Self { module, ..self }
    }

    fn header(&self) -> Verified<BundleHeader> {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let block = |rows: usize| BlockRef { digest: digest("block"), bytes: 1, rows: rows as u32 };
        let former = FormerTokens { epoch: 1, blocks: vec![block(self.who.len())] };
        let info = |name: &str, kind| ColumnInfo { name: name.parse().unwrap(), kind };
        let columns =
            vec![info("patient", ColumnKind::Patient), info("value", ColumnKind::Number { decimals: 2 })];
        let is_extract = self.kind == BundleKind::Extract;
        let output = OutputInfo {
            name: "events".parse().unwrap(),
            aggregate: false,
            columns,
            blocks: vec![block(self.who.len())],
        };
        let header = BundleHeader {
            site: self.site.parse().unwrap(),
            sequence: self.sequence,
            previous: (self.sequence > 1)
                .then(|| lockgate_signing::ids::BundleId(digest(&self.sequence.to_string()))),
            module: ModuleRef {
                id: self.module.parse().unwrap(),
                version: semver::Version::new(1, 0, 0),
                manifest: digest("manifest"),
                component: digest("component"),
            },
            policy: digest("policy"),
            sensitive: digest("sensitive"),
            mapping: digest("mapping"),
            rollout: None,
            purpose: "care".parse().unwrap(),
            tokens: TokenInfo {
                scheme: TokenScheme::SealedKey,
                epoch: 2,
                links: if is_extract { vec![LinkKind::NhsNumber] } else { Vec::new() },
                former: (!self.former.is_empty()).then_some(former),
            },
            period: "2026-10".parse().unwrap(),
            snapshot_at_s: self.day * 86_400,
            agent_version: "0.1.0".to_owned(),
            fuel: 0,
            counts: Counts::default(),
            outputs: if is_extract { vec![output] } else { Vec::new() },
            patients: vec![block(self.who.len())],
            codes: Vec::new(),
            encryption: Encryption::new(vec![WrappedKey {
                key: SealingKeyId(digest("recipient")),
                encapsulated: [1; 32],
                wrapped: [2; 48],
            }]),
            supersedes: None,
            directions: Vec::new(),
            kind: self.kind,
        };
        let key = SigningKey::from_seed(&[1; 32].into());
        verify(&sign(&header, &key), &key.public()).unwrap()
    }

    fn content(&self) -> OpenedBundle {
        let tokens: Vec<Token> = self.who.iter().map(|(token, _)| *token).collect();
        let rows = self.who.len();
        let whole = |values| Column { values, missing: None };
        let columns = vec![
            whole(Values::Patients((0..rows as u32).collect())),
            whole(Values::Numbers(self.who.iter().map(|(_, value)| *value).collect())),
        ];
        let is_extract = self.kind == BundleKind::Extract;
        let links = LinkTokens { tokens: tokens.clone(), missing: Bitmap::none(rows) };
        OpenedBundle {
            patients: vec![PatientTable {
                tokens,
                type_2: Bitmap::none(rows),
                links: if is_extract { vec![links] } else { Vec::new() },
            }],
            codes: Vec::new(),
            former: if self.former.is_empty() {
                Vec::new()
            } else {
                vec![FormerTable { tokens: self.former.to_vec(), missing: Bitmap::none(rows) }]
            },
            outputs: if is_extract { vec![vec![Rows { rows, columns }]] } else { Vec::new() },
        }
    }
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("warehouse.db");
        Store::create(&path).unwrap();
        TokenKey::create(&dir.path().join("token.key")).unwrap();
        let key = TokenKey::load(&dir.path().join("token.key")).unwrap();
        Self { store: Store::open(&path).unwrap(), dir, key, position: 0 }
    }

    fn apply(&mut self, sent: &Sent<'_>) -> Applied {
        self.apply_telling(sent).applied
    }

    /// What followed from what a bundle told of former tokens.
    fn renewals(&mut self, sent: &Sent<'_>) -> Renewals {
        self.apply_telling(sent).renewals
    }

    fn apply_telling(&mut self, sent: &Sent<'_>) -> Outcome {
        self.position += 1;
        let (header, content) = (sent.header(), sent.content());
        let opened = Opened { header: &header, content: &content, keys: vec!["warehouse".to_owned()] };
        let outcome = self.store.apply(self.position, &opened, &self.key, 0).unwrap();
        assert_eq!(self.store.position().unwrap(), self.position);
        outcome
    }

    /// Site and value of every row, in order.
    fn rows(&self) -> Vec<(String, f64)> {
        if self.store.tables().unwrap().is_empty() {
            return Vec::new();
        }
        self.rows_of(TABLE)
    }

    fn rows_of(&self, table: &str) -> Vec<(String, f64)> {
        let rows = self.store.rows(table, None, None, 1_000).unwrap();
        let mut rows: Vec<_> = rows
            .rows
            .into_iter()
            .map(|row| (row[0].as_str().unwrap().to_owned(), row[3].as_f64().unwrap()))
            .collect();
        rows.sort_by(|one, other| one.partial_cmp(other).unwrap());
        rows
    }

    /// Values of the rows that are stored under a token.
    fn values_under(&self, token: &Token) -> Vec<f64> {
        let stored = self.key.purpose(&"care".parse().unwrap(), "patient").token(token);
        let stored: String = stored.iter().map(|byte| format!("{byte:02x}")).collect();
        let rows = self.store.rows(TABLE, None, None, 1_000).unwrap().rows;
        let mut values: Vec<f64> =
            rows.iter().filter(|row| row[2] == stored).map(|row| row[3].as_f64().unwrap()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// Everything that is in the folder.
    fn on_disk(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for file in std::fs::read_dir(self.dir.path()).unwrap() {
            bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        bytes
    }

    fn count(&self, table: &str) -> u64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.store.connection.query_row(&sql, [], |row| row.get(0).map(super::unsigned)).unwrap()
    }
}

fn of(site: &str, value: f64) -> (String, f64) {
    (site.to_owned(), value)
}

#[test]
fn the_later_of_two_stays_in_whichever_order_they_come() {
    for turned in [false, true] {
        let mut scene = Scene::new();
        let (first, second) = ([(ANN, 1.5), (BOB, 2.5)], [(ANN, 3.5)]);
        let mut both = [Sent::extract("A81001", 1, 1, &first), Sent::extract("A81001", 2, 2, &second)];
        if turned {
            both.reverse();
        }
        let applied = both.each_ref().map(|sent| scene.apply(sent));
        assert_eq!(applied[1] == Applied::Replaced, turned);
        assert_eq!(scene.rows(), [of("A81001", 3.5)]);
        assert_eq!((scene.count("patient"), scene.count("link")), (1, 1));
        // Another site's is another matter; and the same again is recognised.
        assert_eq!(scene.apply(&both[0]), Applied::Again);
        let _ = scene.apply(&Sent::extract("B82002", 1, 1, &first));
        assert_eq!(scene.rows().len(), 3);
    }
}

#[test]
fn a_retraction_holds_against_every_site_until_its_own_sends_again() {
    let mut scene = Scene::new();
    let both = [(ANN, 1.5), (BOB, 2.5)];
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &both));
    let ann = [(ANN, 0.0)];
    let deleted = scene.apply(&Sent::retraction("B82002", 1, 5, &ann));
    assert_eq!(deleted, Applied::Deleted { patients: 1, rows: 1 });
    assert_eq!(scene.rows(), [of("A81001", 2.5)]);
    assert_eq!((scene.count("patient"), scene.count("link"), scene.count("retracted")), (1, 1, 1));
    assert_eq!(scene.store.retractions(10).unwrap()[0].rows_of_others, 1);
    // Made before, or later, by another: it stays out.
    for (sequence, day) in [(2, 4), (3, 9)] {
        let kept_out = scene.apply(&Sent::extract("A81001", sequence, day, &both));
        assert_eq!(kept_out, Applied::Rows { rows: 1, retracted: 1 });
    }
    // Made before by the site itself, and late.
    let kept_out = scene.apply(&Sent::extract("B82002", 3, 5, &ann));
    assert_eq!(kept_out, Applied::Rows { rows: 0, retracted: 1 });
    // The objection is withdrawn there.
    assert_eq!(scene.apply(&Sent::extract("B82002", 4, 6, &ann)), Applied::Rows { rows: 1, retracted: 0 });
    assert_eq!(scene.count("retracted"), 0);
    assert_eq!(scene.apply(&Sent::extract("A81001", 4, 10, &both)), Applied::Rows { rows: 2, retracted: 0 });
}

#[test]
fn a_retraction_that_a_courier_held_back_undoes_no_withdrawal() {
    let mut scene = Scene::new();
    let ann = [(ANN, 1.5)];
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &ann));
    // Two was a retraction; three sends her again.
    let _ = scene.apply(&Sent::extract("A81001", 3, 3, &ann));
    assert_eq!(
        scene.apply(&Sent::retraction("A81001", 2, 2, &ann)),
        Applied::Deleted { patients: 0, rows: 0 }
    );
    assert_eq!(scene.rows(), [of("A81001", 1.5)]);
}

#[test]
fn of_two_that_retract_the_last_one_says_when_it_is_over() {
    let mut scene = Scene::new();
    let ann = [(ANN, 1.5)];
    let _ = scene.apply(&Sent::retraction("A81001", 1, 1, &ann));
    let _ = scene.apply(&Sent::retraction("B82002", 1, 5, &ann));
    // One that comes late is not the last.
    let _ = scene.apply(&Sent::retraction("C83003", 1, 3, &ann));
    assert_eq!(scene.apply(&Sent::extract("C83003", 2, 9, &ann)), Applied::Rows { rows: 0, retracted: 1 });
    assert_eq!(scene.apply(&Sent::extract("B82002", 2, 9, &ann)), Applied::Rows { rows: 1, retracted: 0 });
}

#[test]
fn nothing_of_many_rows_that_were_deleted_is_left_on_the_disk() {
    let mut scene = Scene::new();
    let token = |number: u32| {
        let mut token = [7; 16];
        token[..4].copy_from_slice(&number.to_be_bytes());
        token
    };
    // Enough for many pages of every tree.
    let all: Vec<(Token, f64)> = (0..6_000).map(|number| (token(number), f64::from(number) + 0.1)).collect();
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &all));
    let gone: Vec<(Token, f64)> = all.iter().step_by(3).copied().collect();
    let rekey = scene.key.purpose(&"care".parse().unwrap(), "patient");
    let found = |bytes: &[u8], pieces: &mut dyn Iterator<Item = Vec<u8>>| {
        let pieces: std::collections::HashSet<Vec<u8>> = pieces.collect();
        let lengths: std::collections::BTreeSet<usize> = pieces.iter().map(Vec::len).collect();
        lengths
            .iter()
            .map(|length| bytes.windows(*length).filter(|window| pieces.contains(*window)).count())
            .sum::<usize>()
    };
    let values = || gone.iter().map(|(_, value)| value.to_be_bytes().to_vec());
    let before = scene.on_disk();
    assert!(found(&before, &mut values()) >= gone.len(), "the search would not find them");
    let _ = scene.apply(&Sent::retraction("A81001", 2, 2, &gone));
    scene.store.erase().unwrap();
    let after = scene.on_disk();
    assert_eq!(found(&after, &mut values()), 0, "values are left");
    // In the list of those who are kept out they have other names.
    let mut tokens = gone.iter().map(|(sent, _)| rekey.token(sent).to_vec());
    assert_eq!(found(&after, &mut tokens), 0, "tokens are left");
}
