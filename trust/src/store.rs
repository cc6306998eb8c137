//! What the site keeps of the registry: verified metadata, which is the floor for the next refresh, and targets by
//! digest. Both are read as bytes to verify, never believed.
//!
//! ```text
//! metadata/root.json, timestamp.json, snapshot.json, targets.json    as last verified
//! metadata/root_history/<version>.root.json                          the chain from the pinned root
//! targets/<sha256>                                                   exact bytes
//! ```

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lockgate_durable::{FileError, at, create_private_dir, write_atomic};
use lockgate_signing::digest::Digest;
use sigstore_tuf::{Error, MetadataStore};

/// The folder of the root chain; the updater's own name for it.
const ROOT_HISTORY: &str = "root_history";

/// Verified metadata on disk. Remembers the first failure, because the updater only logs it.
#[derive(Debug, Clone)]
pub(super) struct TrustedStore {
    folder: PathBuf,
    bytes_max: u64,
    failure: Arc<Mutex<Option<FileError>>>,
}

impl TrustedStore {
    pub(super) fn open(folder: PathBuf, bytes_max: u64) -> Result<Self, FileError> {
        create_private_dir(&folder.join(ROOT_HISTORY))?;
        Ok(Self { folder, bytes_max, failure: Arc::default() })
    }

    /// The first failure since the last call.
    pub(super) fn take_failure(&self) -> Result<(), FileError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// The metadata of every role, and the root chain, by the names that a refresh asks for without their versions.
    pub(super) fn read_all(&self) -> Result<Vec<(String, Vec<u8>)>, FileError> {
        let mut files = Vec::new();
        for (folder, is_wanted) in [
            (self.folder.clone(), (|name| name != "root.json") as fn(&str) -> bool),
            (self.folder.join(ROOT_HISTORY), |_| true),
        ] {
            for entry in std::fs::read_dir(&folder).map_err(at("list", &folder))? {
                let path = entry.map_err(at("list", &folder))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if name.ends_with(".json")
                    && is_wanted(name)
                    && let Some(bytes) = read_bounded(&path, self.bytes_max)?
                {
                    files.push((name.to_owned(), bytes));
                }
            }
        }
        Ok(files)
    }

    /// The file for a name; `None`: not kept.
    fn file(&self, name: &str) -> Option<PathBuf> {
        let (folder, name) = match name.split_once('/') {
            None => (self.folder.clone(), name),
            Some((ROOT_HISTORY, name)) => (self.folder.join(ROOT_HISTORY), name),
            // Targets are kept by digest, by [`TargetCache`].
            Some(_) => return None,
        };
        // The updater offers each snapshot under its version as well; keeping those would fill the disk.
        let numbered_snapshot = name
            .strip_suffix(".snapshot.json")
            .is_some_and(|version| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()));
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'%'));
        (plain && !name.starts_with('.') && !numbered_snapshot).then(|| folder.join(name))
    }

    fn failed(&self, error: FileError) -> Error {
        let text = error.to_string();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        Error::transport(text)
    }
}

impl MetadataStore for TrustedStore {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(path) = self.file(name) else { return Ok(None) };
        read_bounded(&path, self.bytes_max).map_err(|error| self.failed(error))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let Some(path) = self.file(name) else { return Ok(()) };
        let written = || {
            // Most refreshes find nothing new: spare the disk.
            if read_bounded(&path, self.bytes_max)?.as_deref() == Some(bytes) {
                return Ok(());
            }
            write_atomic(&path, bytes)
        };
        written().map_err(|error| self.failed(error))
    }
}

/// Targets on disk, by the SHA-256 of their bytes.
#[derive(Debug, Clone)]
pub(super) struct TargetCache {
    folder: PathBuf,
}

impl TargetCache {
    pub(super) fn open(folder: PathBuf) -> Result<Self, FileError> {
        create_private_dir(&folder)?;
        Ok(Self { folder })
    }

    /// The bytes of this digest and length; a file that does not hold them counts as absent.
    pub(super) fn load(&self, digest: Digest, length: u64) -> Result<Option<Vec<u8>>, FileError> {
        let bytes = read_bounded(&self.path(digest), length)?;
        Ok(bytes.filter(|bytes| bytes.len() as u64 == length && Digest::of(bytes) == digest))
    }

    pub(super) fn save(&self, digest: Digest, bytes: &[u8]) -> Result<(), FileError> {
        write_atomic(&self.path(digest), bytes)
    }

    /// Removes what is not listed any more.
    pub(super) fn keep_only(&self, listed: &BTreeSet<Digest>) -> Result<(), FileError> {
        for entry in std::fs::read_dir(&self.folder).map_err(at("list", &self.folder))? {
            let path = entry.map_err(at("list", &self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Not named by a digest: a file that another process is writing, or none of ours.
            if Digest::from_hex(name).is_ok_and(|digest| !listed.contains(&digest)) {
                std::fs::remove_file(&path).map_err(at("remove", &path))?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_hex())
    }
}

/// The bytes of a file, cut at one more than `bytes_max`; `None` where there is none.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(Some(bytes))
}
