//! The repository on disk: made once by `init`, read only after it verified.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use lockgate_durable::{FileError, at};
use lockgate_signing::digest::Digest;
use lockgate_signing::target::{TargetPath, TargetPathError};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{FileStore, MemoryStore, MetadataStore as _, StoreRepository, Updater};

use crate::documents::{Root, Snapshot, TargetEntry, Targets, TimestampRole};
use crate::envelope::Envelope;
use crate::keys::pinned_root_path;
use crate::role::Role;

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

/// What is live, verified from the pinned root. Before the first publication: nothing, in version 0.
#[derive(Debug, Default)]
pub struct Live {
    /// The newest root.
    pub root: Option<Root>,
    /// The top list and the delegated ones.
    pub lists: BTreeMap<Role, Targets>,
    /// Which lists belong together.
    pub snapshot: Option<Snapshot>,
    /// What is current.
    pub timestamp: Option<TimestampRole>,
    /// The root and the lists with their signatures.
    pub signed: BTreeMap<Role, Envelope>,
}

impl Live {
    /// The list of a role.
    pub fn list(&self, role: Role) -> Option<&Targets> {
        self.lists.get(&role)
    }

    /// The version of a role's document; 0 where there is none yet.
    pub fn version(&self, role: Role) -> u64 {
        match role {
            Role::Root => self.root.as_ref().map(|root| root.version),
            Role::Snapshot => self.snapshot.as_ref().map(|snapshot| snapshot.version),
            Role::Timestamp => self.timestamp.as_ref().map(|timestamp| timestamp.version),
            _ => self.list(role).map(|list| list.version),
        }
        .unwrap_or(0)
    }

    /// When a role's document ends.
    pub fn expires(&self, role: Role) -> Option<Timestamp> {
        match role {
            Role::Root => self.root.as_ref().map(|root| root.expires),
            Role::Snapshot => self.snapshot.as_ref().map(|snapshot| snapshot.expires),
            Role::Timestamp => self.timestamp.as_ref().map(|timestamp| timestamp.expires),
            _ => self.list(role).map(|list| list.expires),
        }
    }

    /// When the first of its documents ends.
    pub fn first_end(&self) -> Option<Timestamp> {
        Role::ALL.into_iter().filter_map(|role| self.expires(role)).min()
    }

    /// The entry of a published file.
    pub fn entry(&self, path: &TargetPath) -> Option<&TargetEntry> {
        self.list(Role::listing(path)?)?.targets.get(&path.to_string())
    }

    /// What is published, by parsed path.
    pub fn published(&self) -> Result<BTreeMap<TargetPath, TargetEntry>, RepositoryError> {
        let mut published = BTreeMap::new();
        for (path, entry) in self.lists.values().flat_map(|list| &list.targets) {
            if let Some(path) = TargetPath::parse(path)? {
                published.insert(path, entry.clone());
            }
        }
        Ok(published)
    }
}

impl Repository {
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
        Ok(Self::of(dir, keys_dir, pinned_root))
    }

    /// The repository in a folder, which must answer to this root.
    pub(crate) fn of(dir: &Path, keys_dir: &Path, pinned_root: Vec<u8>) -> Self {
        Self { dir: dir.to_owned(), keys_dir: keys_dir.to_owned(), pinned_root }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of its keys, of its pinned root and of what was published from here.
    pub fn keys_dir(&self) -> &Path {
        &self.keys_dir
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
        live(Files::of(&self.dir), &self.pinned_root).map_err(tampered)
    }
}

/// Verifies a repository's documents from a root: signatures and what belongs together, but no expiry, because publishing
/// again is the remedy for that.
pub(crate) fn live(files: Files, pinned_root: &[u8]) -> Result<Live, String> {
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    let verified = Arc::new(MemoryStore::new());
    let mut updater =
        Updater::new(files, pinned_root).map_err(|error| chain(&error))?.with_store(Arc::clone(&verified));
    run(updater.refresh(NOW))?;
    let signed = |role: Role| {
        let bytes = verified.load(&format!("{role}.json")).map_err(|error| chain(&error))?;
        let bytes = bytes.ok_or_else(|| format!("the {role} document is missing"))?;
        Envelope::parse(&bytes).map_err(|error| format!("{role}: {error}"))
    };
    let text = |role: Role| move |error: serde_json::Error| format!("{role}: {error}");
    let mut live = Live {
        root: Some(signed(Role::Root)?.document().map_err(text(Role::Root))?),
        snapshot: Some(signed(Role::Snapshot)?.document().map_err(text(Role::Snapshot))?),
        timestamp: Some(signed(Role::Timestamp)?.document().map_err(text(Role::Timestamp))?),
        ..Live::default()
    };
    let top: Targets = signed(Role::Targets)?.document().map_err(text(Role::Targets))?;
    if let Some(path) = top.targets.keys().next() {
        return Err(format!("the top list names `{path}` itself, where only delegated roles list files"));
    }
    for name in top.delegated() {
        let role: Role = name.parse()?;
        // The client loads and verifies a role when it looks for a file in one of its folders.
        let path = role.paths().first().map(|pattern| pattern.replace('*', "none"));
        run(updater.get_target_info(&path.unwrap_or_default(), NOW))?;
        let list: Targets = signed(role)?.document().map_err(text(role))?;
        if let Some(path) = list.targets.keys().find(|path| !lists(role, path)) {
            return Err(format!("the {role} role lists `{path}`, which is not in its folders"));
        }
        live.lists.insert(role, list);
    }
    live.lists.insert(Role::Targets, top);
    for role in live.lists.keys().copied().chain([Role::Root]) {
        live.signed.insert(role, signed(role)?);
    }
    Ok(live)
}

/// Whether a path is a file of ours in a folder of this role. The client would not find it, but would not complain.
fn lists(role: Role, path: &str) -> bool {
    matches!(TargetPath::parse(path), Ok(Some(path)) if Role::listing(&path) == Some(role))
}

/// The file of a target below a repository, with consistent snapshots (specification 1.0.34, section 6.2.1).
pub(crate) fn target_file(path: &TargetPath, digest: Digest) -> String {
    let path = path.to_string();
    match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/{}.{name}", digest.to_hex()),
        None => format!("{}.{path}", digest.to_hex()),
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
