//! The four signed documents of a TUF repository (specification 1.0.34, section 4), as this program writes them.
//!
//! Written here and not by `tough`'s editor: `tough` puts the digest of a target before its whole path
//! (`<digest>.modules/…`) where the specification (section 3.1) and the agent's client put it before the file's name
//! (`modules/…/<digest>.manifest.toml`), reads no Ed25519 key in PEM, and brings an HTTP client. The canonical JSON
//! that is signed, and the key ids, are `sigstore-tuf`'s, whose other half verifies them.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use lockgate_signing::digest::Digest;
use lockgate_signing::keys::{PublicKey, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sigstore_tuf::Key;
use sigstore_tuf::canonical_json::to_canonical_bytes;

use crate::keys::{Role, RoleKeys};

/// The version of the specification that the documents follow.
const SPEC_VERSION: &str = "1.0.34";

/// A document could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It cannot be written as JSON.
    #[error("cannot write the {role} metadata: {why}")]
    Encoding {
        /// Whose.
        role: &'static str,
        /// Why not.
        why: String,
    },
    /// The key of a role is not there.
    #[error("there is no {role} key; name the folder with `{role}.pem` in it with --keys")]
    NoKey {
        /// Which role.
        role: &'static str,
    },
    /// The time is outside of what a calendar holds.
    #[error("the expiry date is out of range; use fewer days")]
    Expiry,
}

/// How long each role's signature is good for, days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryDays {
    /// The root; renewing it takes its key.
    pub root: u32,
    /// The list of what is published.
    pub targets: u32,
    /// What belongs together.
    pub snapshot: u32,
    /// What is current: the longest that somebody can hide a new publication from a practice.
    pub timestamp: u32,
}

impl Default for ExpiryDays {
    fn default() -> Self {
        Self { root: 730, targets: 365, snapshot: 30, timestamp: 14 }
    }
}

/// `days` after `now`, in whole seconds as the specification wants them.
pub fn expiry(now: Timestamp, days: u32) -> Result<Timestamp, DocumentError> {
    let end = now + SignedDuration::from_hours(i64::from(days) * 24);
    Timestamp::from_second(end.as_second()).map_err(|_| DocumentError::Expiry)
}

/// The root: which keys the roles have, and how many must sign.
#[derive(Debug, Serialize)]
pub struct Root {
    #[serde(rename = "_type")]
    type_: &'static str,
    spec_version: &'static str,
    version: u64,
    expires: Timestamp,
    consistent_snapshot: bool,
    keys: BTreeMap<String, Key>,
    roles: BTreeMap<&'static str, RoleSigners>,
}

#[derive(Debug, Serialize)]
struct RoleSigners {
    keyids: Vec<String>,
    threshold: u32,
}

impl Root {
    /// The first root: one signer a role.
    pub fn first(keys: &RoleKeys, expires: Timestamp) -> Result<Self, DocumentError> {
        let mut listed = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for (role, key) in keys.iter() {
            let key = tuf_key(&key.public())?;
            let id = key_id(&key)?;
            roles.insert(role.name(), RoleSigners { keyids: vec![id.clone()], threshold: 1 });
            listed.insert(id, key);
        }
        Ok(Self {
            type_: "root",
            spec_version: SPEC_VERSION,
            version: 1,
            expires,
            consistent_snapshot: true,
            keys: listed,
            roles,
        })
    }
}

/// The list of what is published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Targets {
    #[serde(rename = "_type")]
    type_: String,
    spec_version: String,
    /// Its version.
    pub version: u64,
    /// Its end.
    pub expires: Timestamp,
    /// The files, by path.
    pub targets: BTreeMap<String, TargetEntry>,
    /// What this version does not write, kept as it is.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetEntry {
    /// Its size, bytes.
    pub length: u64,
    /// Its digests in hexadecimal, by algorithm.
    pub hashes: BTreeMap<String, String>,
    /// What this version does not write, kept as it is.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl TargetEntry {
    /// The entry of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(bytes).to_hex())]);
        Self { length: bytes.len() as u64, hashes, rest: BTreeMap::new() }
    }

    /// Its SHA-256.
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_hex(self.hashes.get("sha256")?).ok()
    }
}

impl Targets {
    /// The list of a new repository.
    pub fn empty(expires: Timestamp) -> Self {
        Self {
            type_: "targets".to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: 1,
            expires,
            targets: BTreeMap::new(),
            rest: BTreeMap::new(),
        }
    }

    /// The list that a client verified.
    pub fn of_verified(targets: &sigstore_tuf::Targets) -> Result<Self, serde_json::Error> {
        let mut list: Self = serde_json::from_value(serde_json::to_value(targets)?)?;
        // The client writes what is absent as null, and other clients refuse a null.
        list.rest.retain(|_, value| !value.is_null());
        for entry in list.targets.values_mut() {
            entry.rest.retain(|_, value| !value.is_null());
        }
        Ok(list)
    }
}

/// Which version of each list belongs to the others.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    #[serde(rename = "_type")]
    type_: &'static str,
    spec_version: &'static str,
    version: u64,
    expires: Timestamp,
    meta: BTreeMap<String, Pin>,
}

/// Which snapshot is current.
#[derive(Debug, Serialize)]
pub struct TimestampRole {
    #[serde(rename = "_type")]
    type_: &'static str,
    spec_version: &'static str,
    version: u64,
    expires: Timestamp,
    meta: BTreeMap<String, Pin>,
}

/// Version, size and digest of another document.
#[derive(Debug, Clone, Serialize)]
pub struct Pin {
    version: u64,
    length: u64,
    hashes: BTreeMap<String, String>,
}

impl Pin {
    /// Of the exact bytes of a signed document.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        let TargetEntry { length, hashes, .. } = TargetEntry::of(bytes);
        Self { version, length, hashes }
    }
}

impl Snapshot {
    /// A snapshot of these lists, by file name.
    pub fn new(version: u64, expires: Timestamp, meta: BTreeMap<String, Pin>) -> Self {
        Self { type_: "snapshot", spec_version: SPEC_VERSION, version, expires, meta }
    }
}

impl TimestampRole {
    /// A timestamp of this snapshot.
    pub fn new(version: u64, expires: Timestamp, snapshot: Pin) -> Self {
        let meta = BTreeMap::from([("snapshot.json".to_owned(), snapshot)]);
        Self { type_: "timestamp", spec_version: SPEC_VERSION, version, expires, meta }
    }
}

/// Signs a document with the key of its role; the result is the bytes of its file.
pub fn sign(document: &impl Serialize, role: Role, keys: &RoleKeys) -> Result<Vec<u8>, DocumentError> {
    let failed = |why: String| DocumentError::Encoding { role: role.name(), why };
    let key = keys.of(role).ok_or(DocumentError::NoKey { role: role.name() })?;
    let signed = serde_json::to_value(document).map_err(|error| failed(error.to_string()))?;
    let canonical = to_canonical_bytes(&signed).map_err(|error| failed(error.to_string()))?;
    let signatures = json!([signature(key, &canonical)?]);
    let file = json!({ "signatures": signatures, "signed": signed });
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| failed(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn signature(key: &SigningKey, canonical: &[u8]) -> Result<Value, DocumentError> {
    let id = key_id(&tuf_key(&key.public())?)?;
    Ok(json!({ "keyid": id, "sig": HEXLOWER.encode(&key.sign(canonical)) }))
}

/// A public key as TUF writes it.
fn tuf_key(key: &PublicKey) -> Result<Key, DocumentError> {
    let public = HEXLOWER.encode(&key.to_bytes());
    let key = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
    serde_json::from_value(key)
        .map_err(|error| DocumentError::Encoding { role: "key", why: error.to_string() })
}

/// The SHA-256 of the key's canonical JSON: what other TUF programs compute, so that those that check it agree.
fn key_id(key: &Key) -> Result<String, DocumentError> {
    key.key_id().map_err(|error| DocumentError::Encoding { role: "key", why: error.to_string() })
}
