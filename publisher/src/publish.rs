//! Making what is staged live: sign, check as an agent, then write so that no reader ever sees a torn set.

use std::path::Path;

use jiff::Timestamp;
use lockgate_durable::{FileError, at, sync_dir, sync_parent, write_atomic};
use lockgate_signing::digest::Digest;
use lockgate_signing::target::TargetPath;

use crate::change::{Change, ChangeError};
use crate::check::{self, CheckError, Proposed};
use crate::documents::{self, DocumentError, ExpiryDays, Pin, Snapshot, TimestampRole};
use crate::envelope::{Authority, Envelope, Standing};
use crate::keys::{Keyring, pinned_root_path};
use crate::repository::{Live, Repository, RepositoryError};
use crate::role::Role;
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
    /// A change cannot be made.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Too few have signed.
    #[error("the {role} document lacks signatures: {standing}; nothing went live")]
    Threshold {
        /// Which document.
        role: Role,
        /// Who has signed.
        standing: Standing,
    },
    /// The snapshot and the timestamp cannot be signed here.
    #[error(
        "the {role} key is not on this machine ({standing}); publish where it is, or name its folder with --keys; \
         nothing went live"
    )]
    NotOnline {
        /// Which document.
        role: Role,
        /// Who could sign.
        standing: Standing,
    },
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

/// Makes what is staged live, signed with every key of this machine. With `renew`, the lists that these keys can sign
/// are signed again as they are.
pub fn publish(
    repository: &Repository,
    keys: &Keyring,
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
    let renewed: Vec<_> = if renew { live.lists.keys().copied().collect() } else { Vec::new() };
    let mut change = Change::of_files(&live, staged, &renewed, expiry, now)?;
    for key in keys.iter() {
        change.sign(&live, key)?;
    }
    go_live(repository, &live, &change, keys, expiry, now)
}

/// Makes the first documents of a repository live.
pub fn init(
    dir: &Path,
    keys_dir: &Path,
    change: &Change,
    keys: &Keyring,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Repository, PublishError> {
    Repository::check_places(dir, keys_dir)?;
    let live = Live::default();
    let proposed = assemble(&live, change, keys, expiry, now)?;
    let root = change.documents.get(&Role::Root).ok_or(ChangeError::NoSuchRole { role: Role::Root })?;
    let root = root.to_bytes(Role::Root)?;

    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(lockgate_durable::TEMPORARY_SUFFIX);
    let unfinished = dir.with_file_name(name);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(at("remove", &unfinished))?;
    }
    for folder in ["metadata", "targets", "staged"] {
        let folder = unfinished.join(folder);
        std::fs::create_dir_all(&folder).map_err(at("create", &folder))?;
    }
    write(&unfinished, &proposed)?;
    check::as_new_agent(&Repository::of(&unfinished, keys_dir, root.clone()), &Proposed::default(), now)?;
    sync_dir(&unfinished)?;
    std::fs::rename(&unfinished, dir).map_err(at("create", dir))?;
    sync_parent(dir)?;
    // Last: its presence says that the keys are in use.
    write_atomic(&pinned_root_path(keys_dir), &root)?;
    Ok(Repository::open(dir, keys_dir)?)
}

/// Makes a signed change live.
fn go_live(
    repository: &Repository,
    live: &Live,
    change: &Change,
    keys: &Keyring,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Publication, PublishError> {
    let proposed = assemble(live, change, keys, expiry, now)?;
    check::as_agents(repository, &proposed, now)?;
    write(repository.dir(), &proposed)?;
    let added: Vec<_> = change.files.keys().cloned().collect();
    staging::clear(repository, added.iter().cloned())?;
    let live = repository.live()?;
    let expires = live.first_end().unwrap_or(now);
    Ok(Publication::Published { added, version: live.version(Role::Snapshot), expires })
}

/// The signed documents of a publication: those of the change, if enough have signed them, and the snapshot and the
/// timestamp that make them current.
fn assemble(
    live: &Live,
    change: &Change,
    keys: &Keyring,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Proposed, PublishError> {
    // 1. Enough people have signed.
    for (role, standing) in change.standings(live)? {
        if !standing.is_met() {
            return Err(PublishError::Threshold { role, standing });
        }
    }
    // 2. The new lists, and the pins of those that stay.
    let mut proposed = Proposed::default();
    let mut meta = live.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()).unwrap_or_default();
    for (&role, document) in &change.documents {
        let bytes = document.to_bytes(role)?;
        let version = live.version(role) + 1;
        if role != Role::Root {
            meta.insert(format!("{role}.json"), Pin::of(version, &bytes));
        }
        proposed.metadata.insert(format!("{version}.{role}.json"), bytes);
    }
    for (path, bytes) in &change.files {
        proposed.targets.insert(file_name(path, Digest::of(bytes)), bytes.clone());
    }
    // 3. The snapshot and the timestamp, by the root as it will be.
    let until = |days| documents::expiry(now, days);
    let root = change.root(live)?;
    let online = |role: Role, document: Envelope| {
        let authority = root.authority(role).ok_or(ChangeError::NoSuchRole { role })?;
        sign_online(role, document, &authority, keys)
    };
    let version = live.version(Role::Snapshot) + 1;
    let snapshot = Snapshot::new(version, until(expiry.snapshot)?, meta);
    let snapshot = online(Role::Snapshot, Envelope::unsigned(&snapshot, Role::Snapshot)?)?;
    let pin = Pin::of(version, &snapshot);
    let timestamp = TimestampRole::new(live.version(Role::Timestamp) + 1, until(expiry.timestamp)?, pin);
    let timestamp = online(Role::Timestamp, Envelope::unsigned(&timestamp, Role::Timestamp)?)?;
    proposed.metadata.insert(format!("{version}.snapshot.json"), snapshot);
    proposed.metadata.insert(TIMESTAMP.to_owned(), timestamp);
    Ok(proposed)
}

fn sign_online(
    role: Role,
    mut document: Envelope,
    authority: &Authority,
    keys: &Keyring,
) -> Result<Vec<u8>, PublishError> {
    for key in keys.iter().filter(|key| authority.has(&key.public())) {
        document.sign(key)?;
    }
    let standing = document.standing(authority)?;
    if !standing.is_met() {
        return Err(PublishError::NotOnline { role, standing });
    }
    Ok(document.to_bytes(role)?)
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
fn write(dir: &Path, proposed: &Proposed) -> Result<(), FileError> {
    let targets = dir.join("targets");
    for (name, bytes) in &proposed.targets {
        let file = targets.join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(at("create", folder))?;
        }
        write_atomic(&file, bytes)?;
    }
    let metadata = dir.join("metadata");
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
