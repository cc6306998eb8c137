//! Files that survive a crash: written whole or not at all, and private where they hold secrets.
//!
//! A file counts as written when its bytes, and then the folder entry that names it, have been synchronised
//! (`fsync` of the file, `rename`, `fsync` of the folder). A reader sees the old file or the new one, never a part.

pub mod key_file;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The largest secret file that is read, bytes.
const PRIVATE_BYTES_MAX: u64 = 1 << 20;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A secret that others may read.
    #[error("{} may be read by others (mode {mode:03o}); run `chmod 600` on it", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn remedy(error: &io::Error) -> &'static str {
    if is_full(error) { "; free some space and try again, nothing was lost" } else { "" }
}

/// Turns an I/O error into one that names the file.
pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

/// Writes a file whole or not at all, replacing an older one.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, 0o644)
}

/// Writes a secret (mode 0600) whole or not at all, replacing an older one.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, 0o600)
}

/// Writes a new secret (mode 0600); an existing file is left alone and is an error.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = beside(path);
    let written = write_synced(&temporary, bytes, 0o600)
        // `hard_link` fails where the name is taken; `rename` would replace it.
        .and_then(|()| fs::hard_link(&temporary, path).map_err(at("create", path)));
    let removed = fs::remove_file(&temporary).map_err(at("remove", &temporary));
    written?;
    removed?;
    sync_parent(path)
}

/// Reads a secret; refuses one that others may read.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = File::open(path).map_err(at("open", path))?;
    let mode = file.metadata().map_err(at("open", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::NotPrivate { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(PRIVATE_BYTES_MAX).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(bytes)
}

/// Creates a folder that only its owner may enter, and its parents.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(at("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(at("protect", path))?;
    sync_parent(path)
}

/// Synchronises a folder, so that the names in it survive a crash.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at("synchronise", path))
}

/// Synchronises the folder that holds a file.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Removes what writes that a crash cut off have left in a folder. Only while nobody else writes there.
pub fn sweep(folder: &Path) -> Result<(), FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(at("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(TEMPORARY_SUFFIX.as_bytes()) && path.is_file() {
            fs::remove_file(&path).map_err(at("remove", &path))?;
        }
    }
    Ok(())
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = beside(path);
    let renamed = write_synced(&temporary, bytes, mode)
        .and_then(|()| fs::rename(&temporary, path).map_err(at("write", path)));
    if renamed.is_err() {
        // The first error is the one to report; see `sweep` for a leftover.
        let _ = fs::remove_file(&temporary);
    }
    renamed?;
    sync_parent(path)
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(at("write", path))
}

/// The ending of files that are not whole yet.
pub const TEMPORARY_SUFFIX: &str = ".part";

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{TEMPORARY_SUFFIX}", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_cut_off_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["key.pem.7.part", "key.pem", "part"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        fs::create_dir(dir.path().join("folder.part")).unwrap();
        sweep(dir.path()).unwrap();
        assert!(!dir.path().join("key.pem.7.part").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        sweep(&dir.path().join("nothing")).unwrap();
    }

    #[test]
    fn a_secret_is_never_overwritten_and_never_readable_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write_private(&path, b"first").unwrap();
        assert!(write_private(&path, b"second").is_err());
        assert_eq!(read_private(&path).unwrap().as_slice(), b"first");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_private(&path), Err(FileError::NotPrivate { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");
    }
}
