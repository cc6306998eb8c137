//! Making what is staged live: sign, check as an agent, then write so that no reader ever sees a torn set.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lockgate_durable::{FileError, at, write_atomic};
use lockgate_signing::digest::Digest;
use lockgate_signing::target::TargetPath;

use crate::check::{self, CheckError, Proposed};
use crate::documents::{self, DocumentError, ExpiryDays, Pin, Snapshot, TargetEntry, TimestampRole};
use crate::keys::{Role, RoleKeys};
use crate::repository::{Live, Repository, RepositoryError};
use crate::staging::{self, StagingError};

/// A publication failed. What is live stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// What is staged is wrong.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A document could not be made.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// An agent would not take it.
    #[error(transparent)]
    Refused(#[from] CheckError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a publication did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Publication {
    /// Nothing was staged, and nothing was signed.
    NothingStaged,
    /// It is live.
    Published {
        /// What came, by path; none where the same was signed again.
        added: Vec<TargetPath>,
        /// The version of the list.
        version: u64,
        /// When the first of its signatures ends.
        expires: Timestamp,
    },
}

/// Signs what is live and what is staged, and makes it live. With `renew` also where nothing is staged.
pub fn publish(
    repository: &Repository,
    keys: &RoleKeys,
    expiry: ExpiryDays,
    now: Timestamp,
    renew: bool,
) -> Result<Publication, PublishError> {
    let _lock = repository.lock()?;
    let live = repository.live()?;
    let staged = staging::staged(repository)?;
    if staged.is_empty() && !renew {
        return Ok(Publication::NothingStaged);
    }
    let (proposed, version, expires) = propose(&live, &staged, keys, expiry, now)?;
    check::as_agents(repository, &proposed, now)?;
    go_live(repository, &proposed)?;
    let added: Vec<_> = staged.into_keys().collect();
    staging::clear(repository, added.iter().cloned())?;
    Ok(Publication::Published { added, version, expires })
}

/// The next signed documents, and the files that they name.
fn propose(
    live: &Live,
    staged: &BTreeMap<TargetPath, Vec<u8>>,
    keys: &RoleKeys,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<(Proposed, u64, Timestamp), PublishError> {
    let until = |days| documents::expiry(now, days);
    let mut proposed = Proposed::default();

    let mut targets = live.targets.clone();
    targets.version += 1;
    targets.expires = until(expiry.targets)?;
    for (path, bytes) in staged {
        let entry = TargetEntry::of(bytes);
        let before = targets.targets.insert(path.to_string(), entry.clone());
        // Staging refused this; but another publication may have come in between.
        if before.is_some_and(|before| before.digest() != entry.digest()) {
            return Err(StagingError::VersionTaken { path: path.clone() }.into());
        }
        proposed.targets.insert(file_name(path, Digest::of(bytes)), bytes.clone());
    }
    let targets_version = targets.version;
    let targets = documents::sign(&targets, Role::Targets, keys)?;

    let snapshot_version = live.snapshot_version + 1;
    let meta = BTreeMap::from([("targets.json".to_owned(), Pin::of(targets_version, &targets))]);
    let snapshot = Snapshot::new(snapshot_version, until(expiry.snapshot)?, meta);
    let snapshot = documents::sign(&snapshot, Role::Snapshot, keys)?;

    let pin = Pin::of(snapshot_version, &snapshot);
    let timestamp = TimestampRole::new(live.timestamp_version + 1, until(expiry.timestamp)?, pin);
    let timestamp = documents::sign(&timestamp, Role::Timestamp, keys)?;

    proposed.metadata.insert(format!("{targets_version}.targets.json"), targets);
    proposed.metadata.insert(format!("{snapshot_version}.snapshot.json"), snapshot);
    proposed.metadata.insert(TIMESTAMP.to_owned(), timestamp);
    let first_days = expiry.targets.min(expiry.snapshot).min(expiry.timestamp);
    Ok((proposed, targets_version, until(first_days)?))
}

/// The one metadata file without a version in its name: replacing it is what makes a publication live.
const TIMESTAMP: &str = "timestamp.json";

/// The file of a target in a repository with consistent snapshots (specification, section 3.1).
fn file_name(path: &TargetPath, digest: Digest) -> String {
    let path = path.to_string();
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{}.{name}", digest.to_hex()),
        None => format!("{}.{path}", digest.to_hex()),
    }
}

/// Every file has a name that nothing live refers to, until the timestamp is replaced: a reader sees the old set or the
/// new one. What an interrupted publication leaves behind is overwritten by the next.
fn go_live(repository: &Repository, proposed: &Proposed) -> Result<(), FileError> {
    let targets = repository.dir().join("targets");
    for (name, bytes) in &proposed.targets {
        let file = targets.join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(at("create", folder))?;
        }
        write_atomic(&file, bytes)?;
    }
    let metadata = repository.dir().join("metadata");
    for (name, bytes) in proposed.metadata.iter().filter(|(name, _)| *name != TIMESTAMP) {
        write_atomic(&metadata.join(name), bytes)?;
    }
    match proposed.metadata.get(TIMESTAMP) {
        Some(bytes) => write_atomic(&metadata.join(TIMESTAMP), bytes),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
