//! The signed documents of a TUF repository (specification 1.0.34, section 4), as this program writes them.
//!
//! Written here and not by `tough`'s editor: `tough` puts the digest of a target before its whole path
//! (`<digest>.modules/…`) where the specification (section 3.1) and the agent's client put it before the file's name
//! (`modules/…/<digest>.manifest.toml`), reads no Ed25519 key in PEM, and brings an HTTP client. The canonical JSON
//! that is signed, and the key ids, are `sigstore-tuf`'s, whose other half verifies them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lockgate_signing::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigstore_tuf::Key;

use crate::envelope::{self, Authority};
use crate::keys::RoleTable;
use crate::role::Role;

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
    /// The time is outside of what a calendar holds.
    #[error("the expiry date is out of range; use fewer days")]
    Expiry,
}

/// How long each role's signature is good for, days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiryDays {
    /// The root; renewing it takes its key.
    pub root: u32,
    /// The lists of what is published, and of who may publish.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    #[serde(rename = "_type")]
    type_: String,
    spec_version: String,
    /// Its version.
    pub version: u64,
    /// Its end.
    pub expires: Timestamp,
    consistent_snapshot: bool,
    keys: BTreeMap<String, Key>,
    roles: BTreeMap<String, RoleSigners>,
    /// What this version does not write, kept as it is.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RoleSigners {
    keyids: Vec<String>,
    threshold: u32,
}

impl Root {
    /// The roles whose keys the root names.
    pub const NAMES: [Role; 4] = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];

    /// A root with these signers.
    pub fn new(table: &RoleTable, version: u64, expires: Timestamp) -> Result<Self, DocumentError> {
        let (mut keys, mut roles) = (BTreeMap::new(), BTreeMap::new());
        for role in Self::NAMES {
            let (listed, keyids, threshold) = listed(table, role)?;
            keys.extend(listed);
            roles.insert(role.name().to_owned(), RoleSigners { keyids, threshold });
        }
        Ok(Self {
            type_: "root".to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            consistent_snapshot: true,
            keys,
            roles,
            rest: BTreeMap::new(),
        })
    }

    /// The same with another version and end.
    pub fn extended(&self, version: u64, expires: Timestamp) -> Self {
        Self { version, expires, ..self.clone() }
    }

    /// A field that this version does not know, and could not show to a reviewer.
    pub fn unknown_field(&self) -> Option<&str> {
        self.rest.keys().map(String::as_str).next()
    }

    /// Whether it is of the kind that this version writes: the four roles, keys under their own ids, files named by
    /// their digests.
    pub fn is_usual(&self) -> bool {
        self.consistent_snapshot
            && envelope::are_plain(&self.keys)
            && self.roles.len() == Self::NAMES.len()
            && Self::NAMES.iter().all(|role| self.roles.contains_key(role.name()))
    }

    /// Who signs for one of its roles.
    pub fn authority(&self, role: Role) -> Option<Authority> {
        let signers = self.roles.get(role.name())?;
        Some(Authority::new(&self.keys, &signers.keyids, signers.threshold))
    }
}

/// The keys of a role as metadata lists them, their ids, and the threshold.
type Listed = (BTreeMap<String, Key>, Vec<String>, u32);

fn listed(table: &RoleTable, role: Role) -> Result<Listed, DocumentError> {
    let (mut keys, mut ids) = (BTreeMap::new(), Vec::new());
    for (name, key) in table.signers(role) {
        let id = envelope::key_id(key)?;
        keys.insert(id.clone(), envelope::tuf_key(name, key)?);
        ids.push(id);
    }
    Ok((keys, ids, table.threshold(role)))
}

/// A list of what is published: the top one, which delegates and lists nothing itself, or a delegated one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Who signs for which folders; only in the top list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delegations: Option<Delegations>,
    /// What this version does not write, kept as it is.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Delegations {
    keys: BTreeMap<String, Key>,
    roles: Vec<DelegatedRole>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DelegatedRole {
    name: String,
    keyids: Vec<String>,
    threshold: u32,
    terminating: bool,
    paths: Vec<String>,
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
    /// A list without files.
    pub fn empty(version: u64, expires: Timestamp) -> Self {
        Self {
            type_: "targets".to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            targets: BTreeMap::new(),
            delegations: None,
            rest: BTreeMap::new(),
        }
    }

    /// The top list: who signs for which folders. Every delegation ends the search, so that what one role does not list
    /// cannot be listed by another.
    pub fn delegating(table: &RoleTable, version: u64, expires: Timestamp) -> Result<Self, DocumentError> {
        let (mut keys, mut roles) = (BTreeMap::new(), Vec::new());
        for role in Role::DELEGATED {
            let (listed, keyids, threshold) = listed(table, role)?;
            keys.extend(listed);
            roles.push(DelegatedRole {
                name: role.name().to_owned(),
                keyids,
                threshold,
                terminating: true,
                paths: role.paths().iter().map(|&path| path.to_owned()).collect(),
                rest: BTreeMap::new(),
            });
        }
        let delegations = Some(Delegations { keys, roles, rest: BTreeMap::new() });
        Ok(Self { delegations, ..Self::empty(version, expires) })
    }

    /// The same with another version and end.
    pub fn extended(&self, version: u64, expires: Timestamp) -> Self {
        Self { version, expires, ..self.clone() }
    }

    /// A field that this version does not know, and could not show to a reviewer.
    pub fn unknown_field(&self) -> Option<&str> {
        let of_entries = self.targets.values().flat_map(|entry| entry.rest.keys());
        let delegations = self.delegations.iter();
        let of_delegations = delegations
            .flat_map(|all| all.rest.keys().chain(all.roles.iter().flat_map(|role| role.rest.keys())));
        self.rest.keys().chain(of_entries).chain(of_delegations).map(String::as_str).next()
    }

    /// The names of the roles that it delegates to.
    pub fn delegated(&self) -> impl Iterator<Item = &str> {
        self.delegations.iter().flat_map(|delegations| &delegations.roles).map(|role| role.name.as_str())
    }

    /// Whether it delegates as this version does: the same roles in the same order, for the same folders, each ending
    /// the search.
    pub fn delegates_as_usual(&self) -> bool {
        let roles = self.delegations.as_ref().map(|all| all.roles.as_slice()).unwrap_or_default();
        let keys = self.delegations.as_ref().map(|all| &all.keys);
        keys.is_some_and(envelope::are_plain)
            && roles.len() == Role::DELEGATED.len()
            && roles.iter().zip(Role::DELEGATED).all(|(role, usual)| {
                role.name == usual.name() && role.terminating && role.paths == usual.paths()
            })
    }

    /// Who signs for a role that it delegates to.
    pub fn authority(&self, role: Role) -> Option<Authority> {
        let delegations = self.delegations.as_ref()?;
        let delegated = delegations.roles.iter().find(|delegated| delegated.name == role.name())?;
        Some(Authority::new(&delegations.keys, &delegated.keyids, delegated.threshold))
    }
}

/// Which version of each list belongs to the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(rename = "_type")]
    type_: String,
    spec_version: String,
    /// Its version.
    pub version: u64,
    /// Its end.
    pub expires: Timestamp,
    /// The lists, by file name.
    pub meta: BTreeMap<String, Pin>,
}

/// Which snapshot is current.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TimestampRole {
    #[serde(rename = "_type")]
    type_: String,
    spec_version: String,
    /// Its version.
    pub version: u64,
    /// Its end.
    pub expires: Timestamp,
    /// The snapshot.
    pub meta: BTreeMap<String, Pin>,
    /// The newest root when this was signed. An agent that is served the same timestamp again knows by it that there is
    /// no newer root, with one request; and a newer root cannot be withheld from one that is served a newer timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_version: Option<u64>,
    /// When this was signed. For an agent a time that has passed, whatever its own clock says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
}

/// Version, size and digest of another document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Its version.
    pub version: u64,
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
        Self { type_: "snapshot".to_owned(), spec_version: SPEC_VERSION.to_owned(), version, expires, meta }
    }
}

impl TimestampRole {
    /// A timestamp of this snapshot, signed now and under this root.
    pub fn new(version: u64, expires: Timestamp, snapshot: Pin, root_version: u64, now: Timestamp) -> Self {
        Self {
            type_: "timestamp".to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version,
            expires,
            meta: BTreeMap::from([("snapshot.json".to_owned(), snapshot)]),
            root_version: Some(root_version),
            // Whole seconds.
            signed_at: Timestamp::from_second(now.as_second()).ok(),
        }
    }
}
