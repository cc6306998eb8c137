//! Targets that were fetched, by the SHA-256 of their bytes. Hashed again on each use.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lockgate_durable::{FileError, at, create_private_dir, write_atomic};
use lockgate_signing::digest::Digest;

use crate::store::read_bounded;

/// Targets on disk, by the SHA-256 of their bytes.
#[derive(Debug, Clone)]
pub(crate) struct TargetCache {
    folder: PathBuf,
}

impl TargetCache {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, FileError> {
        create_private_dir(&folder)?;
        Ok(Self { folder })
    }

    /// The bytes of this digest and length; a file that does not hold them counts as absent.
    pub(crate) fn load(&self, digest: Digest, length: u64) -> Result<Option<Vec<u8>>, FileError> {
        let bytes = read_bounded(&self.path(digest), length)?;
        Ok(bytes.filter(|bytes| bytes.len() as u64 == length && Digest::of(bytes) == digest))
    }

    /// The bytes of this digest, at most `bytes_max`; a file that does not hold them counts as absent.
    pub(crate) fn load_any(&self, digest: Digest, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
        Ok(read_bounded(&self.path(digest), bytes_max)?.filter(|bytes| Digest::of(bytes) == digest))
    }

    pub(crate) fn save(&self, digest: Digest, bytes: &[u8]) -> Result<(), FileError> {
        write_atomic(&self.path(digest), bytes)
    }

    /// Removes what is not listed any more.
    pub(crate) fn keep_only(&self, listed: &BTreeSet<Digest>) -> Result<(), FileError> {
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
