//! The client workflow of the TUF specification (1.0.34, section 5), in the order of its steps.
//!
//! Every signature, version, length and hash is checked by `sigstore-tuf`'s [`TrustedMetadataSet`], which does no I/O.
//! This is the driver: what is fetched, when, and what is kept. It is ours because the library's driver asks for the
//! next root at each refresh, keeps files one by one, and fetches delegated lists again each time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use sigstore_tuf::metadata::Role as _;
use sigstore_tuf::{
    Delegations, Key, Metadata, Repository as _, Root, TargetFile, Targets, TrustedMetadataSet, Updater,
};

use crate::TrustLimits;
use crate::error::{Failure, TrustError};
use crate::floor::{ClockJudged, Floor};
use crate::source::{Fetcher, RegistrySource};
use crate::store::Documents;

/// The top-level list of targets.
const TARGETS: &str = "targets";

/// Drives one refresh, and finds targets in what it brought.
#[derive(Debug)]
pub struct Client {
    fetcher: Fetcher,
    source: RegistrySource,
    limits: TrustLimits,
    set: TrustedMetadataSet,
    /// The bytes of what was verified, in this refresh or an earlier one.
    documents: Documents,
    floor: Floor,
    /// The lists whose signatures were checked for the one that delegates to them: role and delegator.
    delegated: BTreeSet<(String, String)>,
}

/// How a refresh went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The registry is what it was.
    Unchanged,
    /// The registry was walked from root to targets.
    Walked,
}

impl Client {
    /// Starts from the pinned root and what was verified before; the roots among that are walked at once.
    ///
    /// `documents` that do not follow from the pinned root are an error: the store is damaged, or another registry's.
    pub fn new(
        fetcher: Fetcher,
        source: &RegistrySource,
        pinned_root: &[u8],
        documents: Documents,
        floor: Floor,
        limits: TrustLimits,
    ) -> Result<Self, TrustError> {
        let set = pinned(pinned_root)?;
        let (source, delegated) = (source.clone(), BTreeSet::new());
        let mut client = Self { fetcher, source, limits, set, documents, floor, delegated };
        let first = client.set.root().version + 1;
        for bytes in client.documents.roots_from(first) {
            client
                .adopt_root(&bytes)
                .map_err(|failure| TrustError::LastKnown { why: failure.to_string() })?;
        }
        client.load_stored();
        Ok(client)
    }

    /// What is verified so far, also after a refresh that failed.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// What later refreshes must not fall below.
    pub fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Takes what is trusted for the floor.
    pub(crate) fn pass(&mut self) {
        self.floor.pass(&self.set);
    }

    /// Judges the clock after a refresh that succeeded.
    pub(crate) fn judge_clock(&mut self, now: Timestamp) -> ClockJudged {
        self.pass();
        self.floor.judge_clock(now)
    }

    /// What is trusted.
    pub fn trusted(&self) -> &TrustedMetadataSet {
        &self.set
    }

    /// Root, timestamp, snapshot and top-level targets, as of `now`.
    pub async fn refresh(&mut self, now: Timestamp) -> Result<Refreshed, TrustError> {
        // 0. Ours: is there anything new?
        if self.is_unchanged(now).await {
            self.pass();
            return Ok(Refreshed::Unchanged);
        }
        let refreshed = self.walk_roles(now).await.map_err(|failure| match failure {
            // A site that cannot ask knows all the same that its clock is wrong.
            Failure::Tuf(sigstore_tuf::Error::Transport { .. }) => {
                self.floor.admits_clock(now).err().unwrap_or(failure)
            }
            _ => failure,
        });
        refreshed.map_err(|failure| failure.of(&self.source, now))?;
        Ok(Refreshed::Walked)
    }

    /// Whether the registry is what it was: the timestamp that it serves is, byte for byte, the one that is trusted
    /// already, that one says of itself that it was signed when the newest root was the one that is trusted, and
    /// nothing that follows from it has expired or is missing here.
    ///
    /// This costs one request in place of two. It gives an attacker nothing: whoever can serve an old timestamp can
    /// also say that there is no newer root, and either lie ends when the timestamp expires. Nor does it make an honest
    /// registry's new root go unseen, because a publisher signs the timestamp again whenever the root changes, and the
    /// timestamp of one that does not say so (`root_version`) is never taken for an answer here.
    /// Whatever else comes back, an error included, is no answer: the workflow begins at its beginning.
    async fn is_unchanged(&self, now: Timestamp) -> bool {
        let Some(trusted) = self.documents.role("timestamp") else { return false };
        let names_root = self.set.timestamp().and_then(root_version) == Some(self.set.root().version);
        if !names_root || !self.is_whole(now) || self.floor.admits_clock(now).is_err() {
            return false;
        }
        let served = self.fetcher.fetch_metadata("timestamp.json", self.limits.timestamp_bytes_max).await;
        served.is_ok_and(|served| served.as_deref() == Some(trusted.as_bytes()))
    }

    /// Whether every role is here, belongs to the others, and is valid at `now`.
    pub(crate) fn is_whole(&self, now: Timestamp) -> bool {
        let set = &self.set;
        let (Some(timestamp), Some(snapshot), Some(targets)) =
            (set.timestamp(), set.snapshot(), set.targets_role(TARGETS))
        else {
            return false;
        };
        let pinned = |name: &str| snapshot.meta.get(&format!("{name}.json")).map(|pin| pin.version);
        let fresh = !set.root().is_expired(now)
            && !timestamp.is_expired(now)
            && !snapshot.is_expired(now)
            && !targets.is_expired(now);
        let one_piece = timestamp.snapshot_meta().map(|pin| pin.version) == Some(snapshot.version)
            && pinned(TARGETS) == Some(targets.version);
        fresh
            && one_piece
            && self.floor.admits_root(set.root().version).is_ok()
            && self.floor.admits_timestamp(timestamp.version).is_ok()
            && self.floor.admits_snapshot(snapshot).is_ok()
            && self.delegations().iter().all(|(role, delegator)| {
                set.verify_delegated_targets(role, delegator, now)
                    .is_ok_and(|list| pinned(role) == Some(list.version))
            })
    }

    async fn walk_roles(&mut self, now: Timestamp) -> Result<(), Failure> {
        // 5.3: the root, version by version, each signed by the one before and by itself.
        self.refresh_root().await?;
        // 5.3.10: freeze attack on the root.
        self.set.check_root_expired(now)?;
        // Rollback of the root: roots that this site has walked already must be there again.
        self.floor.admits_root(self.set.root().version)?;
        self.floor.enter(self.set.root());
        // Ours: a clock that is certainly wrong decides nothing that follows. Only after the root: a new one may take back
        // the time that somebody signed with a stolen key.
        self.floor.admits_clock(now)?;
        // 5.4 to 5.6
        self.refresh_timestamp(now).await?;
        self.refresh_snapshot(now).await?;
        self.refresh_targets(now).await
    }

    async fn refresh_root(&mut self) -> Result<(), Failure> {
        let before = self.set.root().version;
        for next in before + 1..=before.saturating_add(u64::from(self.limits.root_rotations_max)) {
            let name = format!("{next}.root.json");
            // 5.3.2: bounded, so that an endless file is not read to its end.
            let Some(bytes) = self.fetcher.fetch_metadata(&name, self.limits.root_bytes_max).await? else {
                // 5.3.9: this is the newest.
                if next > before + 1 {
                    self.load_stored();
                }
                return Ok(());
            };
            // 5.3.3 to 5.3.8
            let signers = Floor::signers_of(self.set.root());
            self.adopt_root(&bytes)?;
            self.documents.keep_root(next, &bytes, &self.limits)?;
            // 5.3.11: fast-forward recovery. Versions that were signed with keys that are rotated now count no more,
            // because an attacker may have had them signed.
            if Floor::signers_of(self.set.root()) != signers {
                self.documents.forget("timestamp");
                self.documents.forget("snapshot");
                self.floor.recover();
            }
        }
        let many = self.limits.root_rotations_max;
        Err(Failure::Wrong(format!("more than {many} new roots at once")))
    }

    fn adopt_root(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let root = Metadata::<Root>::from_slice(bytes)?.into_signed();
        for (name, role) in &root.roles {
            check_keys(name, &role.keyids, &root.keys)?;
        }
        // The set forgets the lower roles: a new root may name other keys for them.
        self.set.update_root(bytes)?;
        self.delegated.clear();
        Ok(())
    }

    /// Takes what is stored into the set, as far as it verifies under the root that is trusted now. It may have expired:
    /// it is the floor for what comes, and expiry is looked at where it is used.
    fn load_stored(&mut self) {
        let long_ago = Timestamp::MIN;
        let stored = |role: &str| self.documents.role(role).map(|text| text.as_bytes().to_vec());
        let (timestamp, snapshot, targets) = (stored("timestamp"), stored("snapshot"), stored(TARGETS));
        let loaded = timestamp.is_some_and(|bytes| self.set.update_timestamp(&bytes, long_ago).is_ok())
            && snapshot.is_some_and(|bytes| self.set.update_snapshot(&bytes, long_ago).is_ok())
            && targets.is_some_and(|bytes| self.adopt_targets(TARGETS, None, &bytes, long_ago).is_ok());
        if loaded {
            self.load_stored_delegated();
        }
    }

    /// The lists below the top-level one, as far as they are stored and still pinned.
    fn load_stored_delegated(&mut self) {
        let mut before = usize::MAX;
        // Each round can make the delegations of the next level known.
        while before != self.delegated.len() {
            before = self.delegated.len();
            for (role, delegator) in self.delegations() {
                if self.set.targets_role(&role).is_none()
                    && let Some(text) = self.documents.role(&role)
                {
                    let bytes = text.as_bytes().to_vec();
                    // One that does not fit any more is fetched again where it is needed.
                    let _ = self.adopt_targets(&role, Some(&delegator), &bytes, Timestamp::MIN);
                }
            }
        }
    }

    async fn refresh_timestamp(&mut self, now: Timestamp) -> Result<(), Failure> {
        // 5.4.1
        let name = "timestamp.json";
        let bytes = self.fetch_metadata(name, self.limits.timestamp_bytes_max).await?;
        let trusted = self.set.clone();
        match self.set.update_timestamp(&bytes, now) {
            Ok(()) => {}
            // 5.4.3: the same version again. Its content does not count; the one that is trusted goes on, unless it is
            // older than the floor: a refresh that was cut off, or a copy that was lost, can leave the files behind it.
            Err(sigstore_tuf::Error::EqualVersion { .. }) => {
                let trusted = self.set.timestamp().map_or(0, |timestamp| timestamp.version);
                self.floor.admits_timestamp(trusted)?;
                return Ok(self.set.check_timestamp_expired(now)?);
            }
            Err(error) => return Err(error.into()),
        }
        let Some(timestamp) = self.set.timestamp() else { return Err(Failure::missing(name)) };
        let snapshot = timestamp.snapshot_meta().map_or(0, |pin| pin.version);
        // The floor outlives the files that it was taken from.
        let admitted = self
            .floor
            .admits_timestamp(timestamp.version)
            .and_then(|()| self.floor.admits_snapshot_version(snapshot))
            .and_then(|()| {
                // Withheld root: the timestamp says that there is one that the registry does not serve.
                let newest = root_version(timestamp).unwrap_or(0);
                if newest > self.set.root().version {
                    let why =
                        format!("its timestamp was signed under root {newest}, which it does not serve");
                    return Err(Failure::Wrong(why));
                }
                // Clock: a time that signers vouch for has passed.
                self.floor.vouch(timestamp);
                self.floor.admits_clock(now)
            });
        if let Err(failure) = admitted {
            self.set = trusted;
            return Err(failure);
        }
        self.floor.timestamp = timestamp.version;
        self.documents.keep("timestamp", &bytes, &self.limits)
    }

    async fn refresh_snapshot(&mut self, now: Timestamp) -> Result<(), Failure> {
        let Some(pin) = self.set.timestamp().and_then(|timestamp| timestamp.snapshot_meta()) else {
            return Err(Failure::Wrong("the timestamp names no snapshot".to_owned()));
        };
        let version = pin.version;
        // What is here already is not fetched again.
        let is_here = |set: &TrustedMetadataSet| {
            set.snapshot().is_some_and(|snapshot| snapshot.version == version && !snapshot.is_expired(now))
        };
        if !is_here(&self.set) {
            // 5.5.1
            let name = self.file_name("snapshot", version);
            let bytes = self.fetch_metadata(&name, self.limits.metadata_bytes_max).await?;
            let trusted = self.set.clone();
            // 5.5.2 to 5.5.6
            self.set.update_snapshot(&bytes, now)?;
            let Some(snapshot) = self.set.snapshot() else { return Err(Failure::missing(&name)) };
            if let Err(failure) = self.floor.admits_snapshot(snapshot) {
                self.set = trusted;
                return Err(failure);
            }
            self.delegated.clear();
            self.documents.keep("snapshot", &bytes, &self.limits)?;
            // Lists that did not change are still pinned.
            if let Some(text) = self.documents.role(TARGETS) {
                let bytes = text.as_bytes().to_vec();
                let _ = self.adopt_targets(TARGETS, None, &bytes, Timestamp::MIN);
            }
        }
        if let Some(snapshot) = self.set.snapshot() {
            self.floor.pass_snapshot(snapshot);
        }
        Ok(())
    }

    async fn refresh_targets(&mut self, now: Timestamp) -> Result<(), Failure> {
        let version = self.pinned_version(TARGETS).ok_or_else(|| Failure::missing("targets.json"))?;
        let is_here = self
            .set
            .targets_role(TARGETS)
            .is_some_and(|targets| targets.version == version && !targets.is_expired(now));
        if !is_here {
            // 5.6.1
            let name = self.file_name(TARGETS, version);
            let bytes = self.fetch_metadata(&name, self.limits.metadata_bytes_max).await?;
            // 5.6.2 to 5.6.6
            self.adopt_targets(TARGETS, None, &bytes, now)?;
            self.documents.keep(TARGETS, &bytes, &self.limits)?;
        }
        self.load_stored_delegated();
        Ok(())
    }

    /// Fetches every list that is delegated to, so that all of them can be listed, and forgets what no role is any more.
    pub async fn load_delegated(&mut self, now: Timestamp) -> Result<(), TrustError> {
        let loaded = self.load_all(now).await;
        loaded.map_err(|failure| failure.of(&self.source, now))
    }

    async fn load_all(&mut self, now: Timestamp) -> Result<(), Failure> {
        let mut loaded = BTreeSet::new();
        loop {
            let next = self.delegations().into_iter().find(|edge| !loaded.contains(edge));
            let Some((role, delegator)) = next else { break };
            if !self.load(&role, &delegator, now).await? {
                // Mix and match by leaving out: a list that is delegated to and not in the snapshot could be withheld.
                return Err(Failure::Wrong(format!("its snapshot leaves out the list `{role}`")));
            }
            loaded.insert((role, delegator));
        }
        let mut roles: BTreeSet<&str> = loaded.iter().map(|(role, _)| role.as_str()).collect();
        roles.extend(["timestamp", "snapshot", TARGETS]);
        self.documents.keep_only(&roles);
        Ok(())
    }

    /// The signed entry of a path, from the role that may speak for it; `None`: no such role lists it.
    ///
    /// 5.6.7: delegations are followed depth first in the order in which they are listed, a terminating one ends the
    /// search, and lists that are not here yet are fetched on the way.
    pub async fn find(&mut self, path: &str, now: Timestamp) -> Result<Option<TargetFile>, TrustError> {
        let found = self.search(path, now).await;
        found.map_err(|failure| failure.of(&self.source, now))
    }

    async fn search(&mut self, path: &str, now: Timestamp) -> Result<Option<TargetFile>, Failure> {
        let mut waiting = VecDeque::from([(TARGETS.to_owned(), None::<String>)]);
        let mut visited = BTreeSet::new();
        while let Some((role, delegator)) = waiting.pop_front() {
            // 5.6.7.1: a role once, so that a circle ends.
            if visited.contains(&role) {
                continue;
            }
            if visited.len() >= self.limits.roles_max {
                return Err(self.too_many_roles());
            }
            if let Some(delegator) = &delegator
                && !self.load(&role, delegator, now).await?
            {
                continue;
            }
            let Some(targets) = self.set.targets_role(&role) else { return Err(Failure::missing(&role)) };
            visited.insert(role.clone());
            if let Some(entry) = targets.target(path) {
                return Ok(Some(entry.clone()));
            }
            let mut children = Vec::new();
            for child in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
                // 5.6.7.2: only where the delegation covers the path.
                if is_delegable(&child.name) && child.matches_path(path)? {
                    children.push((child.name.clone(), Some(role.clone())));
                    if child.terminating {
                        waiting.clear();
                        break;
                    }
                }
            }
            for child in children.into_iter().rev() {
                waiting.push_front(child);
            }
        }
        Ok(None)
    }

    /// Makes a delegated list trusted, from what is stored or from the registry; `false`: the snapshot does not have it.
    async fn load(&mut self, role: &str, delegator: &str, now: Timestamp) -> Result<bool, Failure> {
        let edge = (role.to_owned(), delegator.to_owned());
        if let Some(list) = self.set.targets_role(role)
            && !list.is_expired(now)
        {
            // Two roles can delegate to one with different keys: each delegation is checked for itself, once.
            if !self.delegated.contains(&edge) {
                self.set.verify_delegated_targets(role, delegator, now)?;
                self.delegated.insert(edge);
            }
            return Ok(true);
        }
        let Some(version) = self.pinned_version(role) else { return Ok(false) };
        let name = self.file_name(role, version);
        let bytes = self.fetch_metadata(&name, self.limits.metadata_bytes_max).await?;
        self.adopt_targets(role, Some(delegator), &bytes, now)?;
        self.documents.keep(role, &bytes, &self.limits)?;
        Ok(true)
    }

    /// Verifies a list for the role that names its signers: the root where there is no delegator.
    fn adopt_targets(
        &mut self,
        role: &str,
        delegator: Option<&str>,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let list = Metadata::<Targets>::from_slice(bytes)?.into_signed();
        if let Some(Delegations { keys, roles, .. }) = &list.delegations {
            if roles.len() > self.limits.roles_max {
                return Err(self.too_many_roles());
            }
            for delegated in roles {
                check_keys(&delegated.name, &delegated.keyids, keys)?;
            }
        }
        match delegator {
            None => self.set.update_targets(bytes, now).map(drop)?,
            Some(delegator) => {
                self.set.update_delegated_targets(bytes, role, delegator, now)?;
                self.delegated.insert((role.to_owned(), delegator.to_owned()));
            }
        }
        Ok(())
    }

    /// Every delegation that the lists in the set make, in their order: role and delegator.
    fn delegations(&self) -> Vec<(String, String)> {
        let mut edges: Vec<(String, String)> = Vec::new();
        let mut waiting = VecDeque::from([TARGETS.to_owned()]);
        while let Some(delegator) = waiting.pop_front() {
            let list = self.set.targets_role(&delegator);
            for child in list.iter().flat_map(|list| &list.delegations).flat_map(|all| &all.roles) {
                let edge = (child.name.clone(), delegator.clone());
                if is_delegable(&child.name) && !edges.contains(&edge) && edges.len() <= self.limits.roles_max
                {
                    waiting.push_back(child.name.clone());
                    edges.push(edge);
                }
            }
        }
        edges
    }

    /// The lists that are trusted, top-level first, each with its name.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (String, &Targets)> {
        let delegated = self.delegations().into_iter().map(|(role, _)| role);
        let names: BTreeSet<String> = delegated.collect();
        std::iter::once(TARGETS.to_owned())
            .chain(names)
            .filter_map(|name| self.set.targets_role(&name).map(|list| (name, list)))
    }

    /// Downloads a target that [`Self::find`] found, within its signed length, and checks its hashes.
    pub async fn download(
        &self,
        entry: &TargetFile,
        path: &str,
        now: Timestamp,
    ) -> Result<Vec<u8>, TrustError> {
        let failed = |error: sigstore_tuf::Error| Failure::from(error).of(&self.source, now);
        let updater = Updater::new(self.fetcher.clone(), self.set.root_bytes()).map_err(failed)?;
        let updater = updater.with_config(self.limits.download_config());
        updater.download_target(entry, path).await.map_err(failed)
    }

    async fn fetch_metadata(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let fetched = self.fetcher.fetch_metadata(name, bytes_max).await?;
        fetched.ok_or_else(|| Failure::missing(name))
    }

    fn pinned_version(&self, role: &str) -> Option<u64> {
        self.set.snapshot()?.meta.get(&format!("{role}.json")).map(|pin| pin.version)
    }

    /// 6.2: consistent snapshots have the version in the file's name.
    fn file_name(&self, role: &str, version: u64) -> String {
        let role = encode(role);
        if self.set.root().consistent_snapshot {
            format!("{version}.{role}.json")
        } else {
            format!("{role}.json")
        }
    }

    fn too_many_roles(&self) -> Failure {
        Failure::Wrong(format!("more than {} delegated lists", self.limits.roles_max))
    }
}

/// A root that signs for itself, and in which no role counts a key twice.
pub(crate) fn pinned(bytes: &[u8]) -> Result<TrustedMetadataSet, TrustError> {
    let set = TrustedMetadataSet::from_root(bytes)
        .map_err(|error| TrustError::PinnedRoot { why: crate::error::chain(&error) })?;
    for (name, role) in &set.root().roles {
        check_keys(name, &role.keyids, &set.root().keys)
            .map_err(|failure| TrustError::PinnedRoot { why: failure.to_string() })?;
    }
    Ok(set)
}

/// One signer counted twice: a key under two ids would meet a threshold of two alone.
fn check_keys(role: &str, ids: &[String], keys: &BTreeMap<String, Key>) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for id in ids {
        let named_twice = !seen.insert(format!("id {id}"));
        let key = keys.get(id).map(|key| key.keyval.public.trim().to_ascii_lowercase());
        if named_twice || key.is_some_and(|key| !seen.insert(key)) {
            return Err(Failure::Signers(format!("the role {role} names one key twice ({id})")));
        }
    }
    Ok(())
}

/// The version of the newest root when a timestamp was signed: a field that our publisher adds.
fn root_version(timestamp: &sigstore_tuf::Timestamp) -> Option<u64> {
    timestamp.extra.get("root_version")?.as_u64()
}

fn is_delegable(name: &str) -> bool {
    !matches!(name, "root" | "timestamp" | "snapshot" | TARGETS)
}

/// A role's name in a file's name: percent-encoded (RFC 3986, section 2.1) but for what is unreserved (section 2.3).
fn encode(role: &str) -> String {
    let mut text = String::new();
    for byte in role.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
