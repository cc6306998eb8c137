//! What a registry must not fall below, for this site: the versions that it has seen, and the time that it knows to have
//! passed. Kept in a file of its own, beside the metadata that it was taken from, so that the loss of either is noticed
//! and made good from the other.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use lockgate_signing::digest::Digest;
use serde::{Deserialize, Serialize};
use sigstore_tuf::metadata::Role as _;
use sigstore_tuf::{Root, Snapshot, TrustedMetadataSet};

use crate::error::Failure;

/// How far a clock may be off before it is said so: time zones that are set wrong, and slow corrections.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// What a registry must not fall below.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Floor {
    /// SHA-256 of the pinned root, hexadecimal: whose versions these are.
    pub(crate) pinned_root: String,
    pub(crate) root: u64,
    /// Who signed what is below. Other signers, other floor: see [`Self::enter`].
    pub(crate) signers: String,
    pub(crate) timestamp: u64,
    snapshot: u64,
    /// Lists of targets by name.
    lists: BTreeMap<String, u64>,
    /// The newest time that a verified timestamp says it was signed at.
    signed_at: Option<Timestamp>,
    /// The latest time at which this site's clock stood when a refresh succeeded.
    clock: Option<ClockSeen>,
}

/// Where this site's clock stood, and how new the registry was then.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ClockSeen {
    at: Timestamp,
    timestamp: u64,
}

/// What a clock that stands before where it stood already means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ClockJudged {
    /// It did not go back.
    Forward,
    /// It went back, and the registry has signed something since that is valid now: it was wrong before.
    WasWrong { stood_at: Timestamp },
    /// It went back, and nothing says whether it was wrong before or is wrong now.
    Unsettled { stood_at: Timestamp },
}

impl Floor {
    /// Where a new site begins.
    pub(crate) fn of(pinned_root: &[u8]) -> Self {
        Self { pinned_root: Digest::of(pinned_root).to_hex(), ..Self::default() }
    }

    /// Whether it is the floor of the registry with this pinned root.
    pub(crate) fn is_of(&self, pinned_root: &[u8]) -> bool {
        self.pinned_root == Digest::of(pinned_root).to_hex()
    }

    /// The same under another pinned root: its chain of roots begins anew.
    pub(crate) fn under(self, pinned_root: &[u8]) -> Self {
        Self { root: 0, pinned_root: Self::of(pinned_root).pinned_root, ..self }
    }

    /// The newest time that the registry's signers vouch for.
    pub(crate) fn signed_at(&self) -> Option<Timestamp> {
        self.signed_at
    }

    /// The keys and thresholds of timestamp and snapshot.
    pub(crate) fn signers_of(root: &Root) -> String {
        let mut text = String::new();
        for name in ["timestamp", "snapshot"] {
            let Some(role) = root.role(name) else { continue };
            let keys = role.keyids.iter().map(|id| {
                root.keys.get(id).map_or(String::new(), |key| format!("{id}={}", key.keyval.public))
            });
            let keys: std::collections::BTreeSet<String> = keys.collect();
            text.push_str(&format!("{name} {} {keys:?}\n", role.threshold));
        }
        Digest::of(text.as_bytes()).to_hex()
    }

    /// Under this root, which is the newest.
    pub(crate) fn enter(&mut self, root: &Root) {
        self.root = root.version;
        let signers = Self::signers_of(root);
        if self.signers != signers {
            if !self.signers.is_empty() {
                self.recover();
            }
            self.signers = signers;
        }
    }

    /// Fast-forward recovery (specification, 5.3.11): whoever had the keys that are rotated now could have signed any
    /// version, and any time. Without this, the registry could never come back below them.
    pub(crate) fn recover(&mut self) {
        self.timestamp = 0;
        self.snapshot = 0;
        self.lists.clear();
        self.signed_at = None;
        self.clock = None;
    }

    pub(crate) fn admits_root(&self, version: u64) -> Result<(), Failure> {
        admits("root", self.root, version)
    }

    pub(crate) fn admits_timestamp(&self, version: u64) -> Result<(), Failure> {
        admits("timestamp", self.timestamp, version)
    }

    pub(crate) fn admits_snapshot_version(&self, version: u64) -> Result<(), Failure> {
        admits("snapshot", self.snapshot, version)
    }

    pub(crate) fn admits_snapshot(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        self.admits_snapshot_version(snapshot.version)?;
        self.lists.iter().try_for_each(|(name, version)| {
            let offered = snapshot.meta.get(name).map_or(0, |pin| pin.version);
            admits(name.trim_end_matches(".json"), *version, offered)
        })
    }

    /// Takes what is trusted for the floor; it was admitted.
    pub(crate) fn pass(&mut self, set: &TrustedMetadataSet) {
        self.enter(set.root());
        if let Some(timestamp) = set.timestamp() {
            self.timestamp = timestamp.version;
            self.vouch(timestamp);
        }
        if let Some(snapshot) = set.snapshot() {
            self.pass_snapshot(snapshot);
        }
    }

    pub(crate) fn pass_snapshot(&mut self, snapshot: &Snapshot) {
        self.snapshot = snapshot.version;
        self.lists = snapshot.meta.iter().map(|(name, pin)| (name.clone(), pin.version)).collect();
    }

    /// Takes the time at which a verified timestamp was signed, a field that our publisher adds, as a time that has
    /// passed. One after its own end is none.
    pub(crate) fn vouch(&mut self, timestamp: &sigstore_tuf::Timestamp) {
        let signed_at = timestamp.extra.get("signed_at").and_then(|at| at.as_str()?.parse().ok());
        self.signed_at = signed_at.filter(|at| *at <= timestamp.expires()).max(self.signed_at);
    }

    /// A clock that is before a time that signers vouch for is wrong.
    pub(crate) fn admits_clock(&self, now: Timestamp) -> Result<(), Failure> {
        match self.signed_at {
            Some(signed_at) if is_before(now, signed_at) => Err(Failure::ClockBehind { signed_at }),
            _ => Ok(()),
        }
    }

    /// Judges the clock after a refresh that succeeded at `now`, and remembers where it stands.
    ///
    /// A clock that was once wrong in the future must not stop a site for ever, and one that is set back must not make
    /// old metadata new again. So the site's own clock is no proof against itself: if it stands before where it stood,
    /// then a timestamp newer than the one of that time, valid at `now`, settles that the earlier time was wrong. Until
    /// there is one, nothing new is installed.
    pub(crate) fn judge_clock(&mut self, now: Timestamp) -> ClockJudged {
        let seen = ClockSeen { at: now, timestamp: self.timestamp };
        match self.clock {
            Some(before) if is_before(now, before.at) => {
                let stood_at = before.at;
                if self.timestamp > before.timestamp {
                    self.clock = Some(seen);
                    ClockJudged::WasWrong { stood_at }
                } else {
                    ClockJudged::Unsettled { stood_at }
                }
            }
            Some(before) if now < before.at => ClockJudged::Forward,
            _ => {
                self.clock = Some(seen);
                ClockJudged::Forward
            }
        }
    }
}

fn is_before(now: Timestamp, then: Timestamp) -> bool {
    now.checked_add(CLOCK_TOLERANCE).is_ok_and(|latest| latest < then)
}

fn admits(role: &str, trusted: u64, offered: u64) -> Result<(), Failure> {
    if offered < trusted {
        return Err(Failure::Rollback { role: role.to_owned(), trusted, offered });
    }
    Ok(())
}
