//! Blocks and headers, named by their SHA-256, in an [`ObjectStore`]: a local folder, later S3 or its like.
//!
//! An object has its name only when it is whole, verified and synchronised: the local store writes `NAME#1`, synchronises it,
//! renames it and synchronises the folder (`LocalFileSystem::with_fsync`); S3 promises the same of a completed upload. So a
//! name that is there is a block that is there, and no table has to agree with the folder.
//!
//! The last step of an upload runs beside the next upload: the answer to a block says that it was received and verified, and
//! the receipt waits for all of them. So synchronising overlaps with receiving, and file systems join the flushes.

use std::collections::{BTreeSet, HashMap};
use std::error::Error as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lockgate_durable::FileError;
use lockgate_signing::bundle::BlockRef;
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::BundleId;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failpoint;

/// Finished uploads that are remembered; a forgotten one costs a look at the store and a synchronised folder.
const REMEMBERED_MAX: usize = 65_536;

/// The store cannot do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk of the block store is full; free some space, nothing was lost")]
    DiskFull,
    /// The store refuses.
    #[error("the block store fails: {0}")]
    Objects(#[source] Arc<object_store::Error>),
    /// A folder cannot be read or synchronised.
    #[error(transparent)]
    Folder(Arc<FileError>),
    /// A task of the program ended early.
    #[error("the block store's task ended")]
    Ended,
}

impl From<object_store::Error> for StoreError {
    fn from(error: object_store::Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>()
                && matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            {
                return Self::DiskFull;
            }
            cause = error.source();
        }
        Self::Objects(Arc::new(error))
    }
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        if error.is_disk_full() { Self::DiskFull } else { Self::Folder(Arc::new(error)) }
    }
}

type Stored = Option<Result<(), StoreError>>;

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    folder: Arc<PathBuf>,
    /// Blocks that this process has received lately; `None` in the channel: still being synchronised.
    received: Arc<Mutex<HashMap<Digest, watch::Receiver<Stored>>>>,
}

/// What is there of a bundle.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// All of it, on stable storage.
    Complete,
    /// These blocks are not there.
    Missing(Vec<Digest>),
    /// A block is there, and has another size than the header says.
    SizeMismatch,
}

impl Store {
    /// The store in a folder, which must exist.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let objects = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { objects: Arc::new(objects), folder: Arc::new(folder.to_owned()), received: Arc::default() })
    }

    /// Removes what uploads left behind that a crash cut off. Only for a process that has the folder to itself.
    pub fn sweep(&self) -> Result<usize, StoreError> {
        let mut swept = 0;
        for kind in ["blocks", "headers"] {
            for folder in entries(&self.folder.join(kind))? {
                for file in entries(&folder)? {
                    // Names of ours are hexadecimal; the local store's names of unfinished files have a `#`.
                    if file.file_name().is_some_and(|name| name.to_string_lossy().contains('#')) {
                        fs::remove_file(&file).map_err(lockgate_durable::at("remove", &file))?;
                        swept += 1;
                    }
                }
            }
        }
        Ok(swept)
    }

    /// Whether a block is there, whole; its size.
    pub async fn block_bytes(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&block_path(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What is there of a bundle's blocks; waits for those that are being synchronised.
    pub async fn presence(&self, blocks: impl Iterator<Item = &BlockRef>) -> Result<Presence, StoreError> {
        let mut missing = BTreeSet::new();
        let mut folders = BTreeSet::new();
        for block in blocks {
            let ours = self.wait(block.digest).await?;
            match self.block_bytes(block.digest).await? {
                Some(bytes) if bytes != block.bytes => return Ok(Presence::SizeMismatch),
                Some(_) => {
                    if !ours {
                        // Renamed by a process that may have died before it synchronised the folder.
                        folders.insert(self.folder.join("blocks").join(&block.digest.to_hex()[..2]));
                    }
                }
                None => {
                    missing.insert(block.digest);
                }
            }
        }
        if !missing.is_empty() {
            return Ok(Presence::Missing(missing.into_iter().collect()));
        }
        if !folders.is_empty() {
            folders.insert(self.folder.join("blocks"));
            let sync = move || folders.iter().try_for_each(|folder| lockgate_durable::sync_dir(folder));
            tokio::task::spawn_blocking(sync).await.map_err(|_| StoreError::Ended)??;
        }
        Ok(Presence::Complete)
    }

    /// Forgets that blocks were received lately.
    pub fn forget<'a>(&self, blocks: impl Iterator<Item = &'a BlockRef>) {
        let mut received = self.received();
        blocks.for_each(|block| {
            received.remove(&block.digest);
        });
    }

    /// Waits until a block that is being synchronised is done; whether this process has done it.
    async fn wait(&self, digest: Digest) -> Result<bool, StoreError> {
        let Some(mut receiver) = self.received().get(&digest).cloned() else { return Ok(false) };
        let stored = receiver.wait_for(Option::is_some).await.map_err(|_| StoreError::Ended);
        match stored.map(|stored| stored.clone()) {
            Ok(Some(Err(error))) | Err(error) => {
                // Told once; the next attempt starts afresh.
                self.received().remove(&digest);
                Err(error)
            }
            Ok(_) => Ok(true),
        }
    }

    fn received(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Stored>>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to write a block.
    pub async fn begin(&self, digest: Digest) -> Result<BlockUpload, StoreError> {
        let upload = self.objects.put_multipart(&block_path(digest)).await?;
        Ok(BlockUpload { store: self.clone(), digest, upload, writing: None })
    }

    /// Stores a signed header; it is on stable storage when this returns.
    pub async fn put_header(&self, id: BundleId, bytes: Bytes) -> Result<(), StoreError> {
        self.objects.put(&header_path(id), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// A signed header; none: the bundle was never complete.
    pub async fn header(&self, id: BundleId) -> Result<Option<Bytes>, StoreError> {
        match self.objects.get(&header_path(id)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A block's bytes, at most 16 MiB.
    pub async fn block(&self, digest: Digest) -> Result<Bytes, StoreError> {
        Ok(self.objects.get(&block_path(digest)).await?.bytes().await?)
    }
}

/// A block that is being written. Dropped before [`BlockUpload::publish`], it leaves nothing behind.
#[derive(Debug)]
pub struct BlockUpload {
    store: Store,
    digest: Digest,
    upload: Box<dyn MultipartUpload>,
    writing: Option<JoinHandle<object_store::Result<()>>>,
}

impl BlockUpload {
    /// Writes the next part, while the caller receives and hashes the one after it: one part is written, one is filled.
    pub async fn write(&mut self, part: Vec<Bytes>) -> Result<(), StoreError> {
        self.settle().await?;
        self.writing = Some(tokio::spawn(self.upload.put_part(PutPayload::from_iter(part))));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), StoreError> {
        match self.writing.take() {
            Some(writing) => Ok(writing.await.map_err(|_| StoreError::Ended)??),
            None => Ok(()),
        }
    }

    /// Gives the block, whose bytes the caller has verified, its name. Goes on after this returns; `held` is dropped at the
    /// end.
    pub async fn publish(mut self, held: impl Send + 'static) -> Result<(), StoreError> {
        self.settle().await?;
        failpoint::reach(failpoint::BLOCK_WRITTEN);
        let (sender, receiver) = watch::channel(None);
        let mut received = self.store.received();
        if received.len() >= REMEMBERED_MAX {
            received.retain(|_, stored| stored.borrow().is_none());
        }
        received.insert(self.digest, receiver);
        drop(received);
        tokio::spawn(async move {
            let stored = self.upload.complete().await;
            if stored.is_err() {
                // The store removes what it wrote when the upload is dropped, but not after a failed completion.
                let _ = self.store.sweep_block(self.digest);
            }
            failpoint::reach(failpoint::BLOCK_RENAMED);
            // Nobody listens: the next header asks again.
            let _ = sender.send(Some(stored.map(|_| ()).map_err(StoreError::from)));
            drop(held);
        });
        Ok(())
    }

    /// Removes what was written.
    pub async fn abort(mut self) {
        let _ = self.settle().await;
        if let Err(error) = self.upload.abort().await {
            tracing::warn!(%error, "an unfinished block could not be removed; the next start removes it");
        }
    }
}

impl Store {
    /// Removes unfinished files of one block after its completion failed.
    fn sweep_block(&self, digest: Digest) -> Result<(), StoreError> {
        let name = digest.to_hex();
        let folder = self.folder.join("blocks").join(&name[..2]);
        for file in entries(&folder)? {
            let unfinished = |file: &str| file.strip_prefix(&name).is_some_and(|rest| rest.starts_with('#'));
            if file.file_name().and_then(|name| name.to_str()).is_some_and(unfinished) {
                fs::remove_file(&file).map_err(lockgate_durable::at("remove", &file))?;
            }
        }
        Ok(())
    }
}

/// The lock of a data folder: shared by all that work in it.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    /// Whether nobody else worked in the folder when the lock was taken.
    pub alone: bool,
}

impl FolderLock {
    /// Takes the lock; if nobody else has it, runs `alone` (a sweep) before others may enter.
    pub fn take(path: &Path, alone: impl FnOnce() -> Result<(), StoreError>) -> Result<Self, StoreError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(lockgate_durable::at("open", path))?;
        let first = file.try_lock().is_ok();
        if first {
            alone()?;
        }
        file.lock_shared().map_err(lockgate_durable::at("lock", path))?;
        Ok(Self { _file: file, alone: first })
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(lockgate_durable::at("list", folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(lockgate_durable::at("list", folder)(error)),
    }
}

fn block_path(digest: Digest) -> ObjectPath {
    let name = digest.to_hex();
    ObjectPath::from(format!("blocks/{}/{name}", &name[..2]))
}

fn header_path(id: BundleId) -> ObjectPath {
    let name = id.0.to_hex();
    ObjectPath::from(format!("headers/{}/{name}", &name[..2]))
}
