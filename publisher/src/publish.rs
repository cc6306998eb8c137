//! Making what is staged live: sign, check as an agent, then write so that no reader ever sees a torn set.

use std::path::Path;

use jiff::Timestamp;
use lockgate_durable::{FileError, at, sync_dir, sync_parent, write_atomic};
use lockgate_signing::digest::Digest;
use lockgate_signing::target::TargetPath;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::ceremony;
use crate::change::{Change, ChangeError};
use crate::check::{self, CheckError, Proposed};
use crate::documents::{self, DocumentError, ExpiryDays, Pin, Snapshot, TimestampRole};
use crate::envelope::{Authority, Envelope, Standing};
use crate::floor::{self, FloorError};
use crate::key_file::KeyFileError;
use crate::keys::{Keyring, pinned_root_path};
use crate::repository::{Live, Repository, RepositoryError, target_file};
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
    /// The repository is older than what was published.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// A key could not be made or read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A file could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
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

/// What a publication takes from what is staged and from what is live.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Sign again the lists that are live, too.
    pub renew: bool,
    /// Only the lists of these roles; empty: of all.
    pub roles: Vec<Role>,
}

/// The change that what is staged would make; `None` where there is nothing to do.
pub fn propose(
    repository: &Repository,
    live: &Live,
    selection: &Selection,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Option<Change>, PublishError> {
    let wanted = |role: &Role| selection.roles.is_empty() || selection.roles.contains(role);
    let mut staged = staging::staged(repository)?;
    staged.retain(|path, _| Role::listing(path).is_some_and(|role| wanted(&role)));
    let renewed: Vec<_> = live.lists.keys().copied().filter(|role| selection.renew && wanted(role)).collect();
    if staged.is_empty() && renewed.is_empty() {
        return Ok(None);
    }
    Ok(Some(Change::of_files(live, staged, &renewed, expiry, now)?))
}

/// What is live, if it is not older than what was published from here.
pub fn live(repository: &Repository) -> Result<Live, PublishError> {
    let live = repository.live()?;
    floor::check(repository.keys_dir(), &live)?;
    Ok(live)
}

/// Makes what is staged live, signed with every key of this machine.
pub fn publish(
    repository: &Repository,
    keys: &Keyring,
    selection: &Selection,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Publication, PublishError> {
    let _lock = repository.lock()?;
    let live = live(repository)?;
    let Some(mut change) = propose(repository, &live, selection, expiry, now)? else {
        return Ok(Publication::NothingStaged);
    };
    for key in keys.iter() {
        change.sign(&live, key)?;
    }
    go_live(repository, &live, &change, keys, expiry, now)
}

/// Makes a proposal live, with the signatures of all of its copies.
pub fn publish_proposal(
    repository: &Repository,
    copies: &[Change],
    keys: &Keyring,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Publication, PublishError> {
    let _lock = repository.lock()?;
    let live = live(repository)?;
    let change = Change::of_copies(&live, copies)?;
    go_live(repository, &live, &change, keys, expiry, now)
}

/// Signs the timestamp again, and the snapshot where it would end before the timestamp does. Needs the online keys only.
pub fn refresh(
    repository: &Repository,
    keys: &Keyring,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Refreshed, PublishError> {
    let _lock = repository.lock()?;
    let live = live(repository)?;
    let root = Change::default().root(&live)?;
    let online = |role: Role, document: Envelope| {
        let authority = root.authority(role).ok_or(ChangeError::NoSuchRole { role })?;
        sign_online(role, document, &authority, keys)
    };
    let mut proposed = Proposed::default();
    let expires = documents::expiry(now, expiry.timestamp)?;
    let mut pin = live.timestamp.as_ref().and_then(|timestamp| timestamp.meta.get("snapshot.json").cloned());
    let snapshot_is_due = live.expires(Role::Snapshot).is_none_or(|end| end < expires);
    if snapshot_is_due {
        let version = live.version(Role::Snapshot) + 1;
        let meta = live.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()).unwrap_or_default();
        let snapshot = Snapshot::new(version, documents::expiry(now, expiry.snapshot)?, meta);
        let snapshot = online(Role::Snapshot, Envelope::unsigned(&snapshot, Role::Snapshot)?)?;
        pin = Some(Pin::of(version, &snapshot));
        proposed.metadata.insert(format!("{version}.snapshot.json"), snapshot);
    }
    let pin = pin.ok_or(ChangeError::NoSuchRole { role: Role::Snapshot })?;
    let timestamp = TimestampRole::new(live.version(Role::Timestamp) + 1, expires, pin, root.version, now);
    let timestamp = online(Role::Timestamp, Envelope::unsigned(&timestamp, Role::Timestamp)?)?;
    proposed.metadata.insert(TIMESTAMP.to_owned(), timestamp);
    check::as_agents(repository, &proposed, now)?;
    write(repository.dir(), &proposed)?;
    let live = repository.live()?;
    floor::raise(repository.keys_dir(), &live)?;
    Ok(Refreshed { snapshot: snapshot_is_due, expires, first_end: live.first_end().unwrap_or(expires) })
}

/// What a refresh did.
#[derive(Debug, Clone, Copy)]
pub struct Refreshed {
    /// Whether the snapshot was signed again, too.
    pub snapshot: bool,
    /// When the timestamp ends.
    pub expires: Timestamp,
    /// When the first document of all ends.
    pub first_end: Timestamp,
}

/// Makes a repository with the keys of every role beside it, for trying out.
pub fn init_on_one_machine(
    dir: &Path,
    keys_dir: &Path,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<(Repository, Keyring), PublishError> {
    Repository::check_places(dir, keys_dir)?;
    let keys = Keyring::create(keys_dir)?;
    let mut first = ceremony::first(&keys.table(), expiry, now)?;
    for key in keys.iter() {
        first.sign(&Live::default(), key)?;
    }
    let repository = init(dir, keys_dir, &[first], &keys, expiry, now)?;
    Ok((repository, keys))
}

/// Makes the first documents of a repository live, with the signatures of all copies.
pub fn init(
    dir: &Path,
    keys_dir: &Path,
    copies: &[Change],
    keys: &Keyring,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Repository, PublishError> {
    Repository::check_places(dir, keys_dir)?;
    let live = Live::default();
    let change = &Change::of_copies(&live, copies)?;
    change.check(&live, &Catalogue::new(dir, &live, &change.files)?)?;
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
    let repository = Repository::open(dir, keys_dir)?;
    floor::raise(keys_dir, &repository.live()?)?;
    Ok(repository)
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
    change.check(live, &Catalogue::new(repository.dir(), live, &change.files)?)?;
    let proposed = assemble(live, change, keys, expiry, now)?;
    check::as_agents(repository, &proposed, now)?;
    write(repository.dir(), &proposed)?;
    staging::clear(repository, &change.files)?;
    let added: Vec<_> = change.files.keys().cloned().collect();
    let live = repository.live()?;
    floor::raise(repository.keys_dir(), &live)?;
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
        proposed.targets.insert(target_file(path, Digest::of(bytes)), bytes.clone());
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
    proposed.metadata.insert(format!("{version}.snapshot.json"), snapshot);
    let version = live.version(Role::Timestamp) + 1;
    let timestamp = TimestampRole::new(version, until(expiry.timestamp)?, pin, root.version, now);
    let timestamp = online(Role::Timestamp, Envelope::unsigned(&timestamp, Role::Timestamp)?)?;
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
