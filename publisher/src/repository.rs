//! The repository on disk: made once by `init`, read only after it verified.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use futures::FutureExt as _;
use jiff::Timestamp;
use lockgate_durable::{FileError, at, sync_dir, sync_parent, write_atomic};
use lockgate_signing::target::{TargetPath, TargetPathError};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{FileStore, StoreRepository, Updater};

use crate::documents::{
    self, DocumentError, ExpiryDays, Pin, Root, Snapshot, TargetEntry, Targets, TimestampRole,
};
use crate::keys::{Role, RoleKeys, pinned_root_path};

/// The repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There is something already.
    #[error("{} is not empty; a repository is never overwritten: choose another folder", .0.display())]
    NotEmpty(PathBuf),
    /// The keys are another repository's.
    #[error(
        "{} is there already, so these keys belong to another repository; choose another folder for the keys",
        .0.display()
    )]
    KeysInUse(PathBuf),
    /// The keys would be served.
    #[error("the keys folder {} lies in the repository, which is served to everybody; choose another", .0.display())]
    KeysInRepository(PathBuf),
    /// No repository.
    #[error("{} is not a repository; make one with `lockgate-publish init`", .0.display())]
    NotARepository(PathBuf),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document could not be made.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What is live does not verify.
    #[error(
        "what is live in {} does not verify from {}: {why}; nothing is signed on top of it. Restore the repository from \
         a copy that verifies", dir.display(), root.display()
    )]
    Tampered {
        /// The repository.
        dir: PathBuf,
        /// The pinned root.
        root: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A live path is none of ours.
    #[error("the repository lists a file that this version does not know: {0}; update lockgate-publish")]
    Path(#[from] TargetPathError),
    /// Another process is at work.
    #[error("another lockgate-publish is working on {}; try again when it is done", .0.display())]
    Busy(PathBuf),
}

/// A repository and the root that it must answer to.
#[derive(Debug)]
pub struct Repository {
    dir: PathBuf,
    keys_dir: PathBuf,
    pinned_root: Vec<u8>,
}

/// What is live, verified from the pinned root.
#[derive(Debug)]
pub struct Live {
    /// The list of what is published.
    pub targets: Targets,
    /// The snapshot's version.
    pub snapshot_version: u64,
    /// The timestamp's version.
    pub timestamp_version: u64,
    /// When the timestamp ends.
    pub expires: Timestamp,
}

impl Live {
    /// What is published, by parsed path.
    pub fn published(&self) -> Result<BTreeMap<TargetPath, TargetEntry>, RepositoryError> {
        let mut published = BTreeMap::new();
        for (path, entry) in &self.targets.targets {
            if let Some(path) = TargetPath::parse(path)? {
                published.insert(path, entry.clone());
            }
        }
        Ok(published)
    }
}

impl Repository {
    /// Makes a new repository. It appears whole or not at all.
    pub fn init(
        dir: &Path,
        keys_dir: &Path,
        keys: &RoleKeys,
        expiry: ExpiryDays,
        now: Timestamp,
    ) -> Result<Self, RepositoryError> {
        Self::check_places(dir, keys_dir)?;
        let until = |days| documents::expiry(now, days);
        let root = documents::sign(&Root::first(keys, until(expiry.root)?)?, Role::Root, keys)?;
        let targets = documents::sign(&Targets::empty(until(expiry.targets)?), Role::Targets, keys)?;
        let meta = BTreeMap::from([("targets.json".to_owned(), Pin::of(1, &targets))]);
        let snapshot = Snapshot::new(1, until(expiry.snapshot)?, meta);
        let snapshot = documents::sign(&snapshot, Role::Snapshot, keys)?;
        let timestamp = TimestampRole::new(1, until(expiry.timestamp)?, Pin::of(1, &snapshot));
        let timestamp = documents::sign(&timestamp, Role::Timestamp, keys)?;

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
        for (name, bytes) in [
            ("1.root.json", &root),
            ("1.targets.json", &targets),
            ("1.snapshot.json", &snapshot),
            ("timestamp.json", &timestamp),
        ] {
            write_atomic(&unfinished.join("metadata").join(name), bytes)?;
        }
        sync_dir(&unfinished)?;
        std::fs::rename(&unfinished, dir).map_err(at("create", dir))?;
        sync_parent(dir)?;
        // Last: its presence says that the keys are in use.
        write_atomic(&pinned_root_path(keys_dir), &root)?;
        Self::open(dir, keys_dir)
    }

    /// Whether a repository can be made here; for asking before keys are made.
    pub fn check_places(dir: &Path, keys_dir: &Path) -> Result<(), RepositoryError> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(at("resolve", path));
        if absolute(keys_dir)?.starts_with(absolute(dir)?) {
            return Err(RepositoryError::KeysInRepository(keys_dir.to_owned()));
        }
        if dir.exists() && std::fs::read_dir(dir).map_err(at("list", dir))?.next().is_some() {
            return Err(RepositoryError::NotEmpty(dir.to_owned()));
        }
        let pinned = pinned_root_path(keys_dir);
        if pinned.exists() { Err(RepositoryError::KeysInUse(pinned)) } else { Ok(()) }
    }

    /// Opens a repository.
    pub fn open(dir: &Path, keys_dir: &Path) -> Result<Self, RepositoryError> {
        if !dir.join("metadata").join("timestamp.json").is_file() {
            return Err(RepositoryError::NotARepository(dir.to_owned()));
        }
        let path = pinned_root_path(keys_dir);
        let pinned_root = std::fs::read(&path).map_err(at("read", &path))?;
        Ok(Self { dir: dir.to_owned(), keys_dir: keys_dir.to_owned(), pinned_root })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root that practices pin.
    pub fn pinned_root(&self) -> &[u8] {
        &self.pinned_root
    }

    /// Keeps other processes away until the file is dropped.
    pub fn lock(&self) -> Result<File, RepositoryError> {
        let path = self.dir.join("staged").join(LOCK);
        let file = File::create(&path).map_err(at("create", &path))?;
        file.try_lock().map_err(|_| RepositoryError::Busy(self.dir.clone()))?;
        Ok(file)
    }

    /// Reads what is live.
    ///
    /// Laundering: a publisher that signed whatever list it found would put its signature under the work of somebody
    /// who wrote to the web server. So the list is verified with the agent's client, from the root beside the keys.
    pub fn live(&self) -> Result<Live, RepositoryError> {
        let tampered = |why: String| RepositoryError::Tampered {
            dir: self.dir.clone(),
            root: pinned_root_path(&self.keys_dir),
            why,
        };
        let mut updater =
            Updater::new(Files::of(&self.dir), &self.pinned_root).map_err(|error| tampered(chain(&error)))?;
        // Signatures and what belongs together, but no expiry: publishing again is the remedy for that.
        run(updater.refresh(Timestamp::UNIX_EPOCH)).map_err(tampered)?;
        let trusted = updater.trusted();
        let (Some(targets), Some(snapshot), Some(timestamp)) =
            (trusted.targets_role("targets"), trusted.snapshot(), trusted.timestamp())
        else {
            return Err(tampered("a role is missing".to_owned()));
        };
        Ok(Live {
            targets: Targets::of_verified(targets).map_err(|error| tampered(error.to_string()))?,
            snapshot_version: snapshot.version,
            timestamp_version: timestamp.version,
            expires: timestamp.expires,
        })
    }
}

/// The lock's file, in the folder that is not served.
pub(crate) const LOCK: &str = ".lock";

/// The repository's files as the agent's client fetches them.
#[derive(Debug)]
pub(crate) struct Files {
    metadata: StoreRepository<FileStore>,
    /// Reads `targets/…`.
    targets: StoreRepository<FileStore>,
}

impl Files {
    pub(crate) fn of(dir: &Path) -> Self {
        Self {
            metadata: StoreRepository::new(FileStore::new(dir.join("metadata"))),
            targets: StoreRepository::new(FileStore::new(dir)),
        }
    }
}

impl sigstore_tuf::Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.metadata.fetch_metadata(name, max_length)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.targets.fetch_target(path, max_length)
    }
}

/// Runs a future of the client. Files are read without waiting, so it is always ready at once.
pub(crate) fn run<T>(future: impl Future<Output = sigstore_tuf::Result<T>>) -> Result<T, String> {
    match future.now_or_never() {
        Some(result) => result.map_err(|error| chain(&error)),
        None => Err("the client waits for something that is not a file".to_owned()),
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
