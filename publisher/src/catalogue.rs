//! What is published and what would be, by path: the files that checks and reviews read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at};
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::text_format::{TextFormat, TextFormatError};
use semver::Version;

use crate::repository::{Live, RepositoryError, target_file};

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The repository lists a path that is none of ours.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what was signed.
    #[error("`{path}` on disk is not what was signed; restore it from a copy")]
    Damaged {
        /// The path.
        path: TargetPath,
    },
    /// It is not of its shape.
    #[error("`{path}`: {error}")]
    Content {
        /// The path.
        path: TargetPath,
        /// What is wrong.
        error: TextFormatError,
    },
}

/// Published files, and new ones beside them.
#[derive(Debug)]
pub struct Catalogue<'a> {
    /// The folder with `targets` in it.
    dir: PathBuf,
    published: BTreeMap<TargetPath, Digest>,
    new: &'a BTreeMap<TargetPath, Vec<u8>>,
    /// The published files that were read: what a proposal must carry for others to read the same.
    read: RefCell<BTreeSet<TargetPath>>,
}

impl<'a> Catalogue<'a> {
    /// What is live in a folder, and these new files.
    pub fn new(
        dir: &Path,
        live: &Live,
        new: &'a BTreeMap<TargetPath, Vec<u8>>,
    ) -> Result<Self, CatalogueError> {
        let digest =
            |(path, entry): (TargetPath, crate::documents::TargetEntry)| Some((path, entry.digest()?));
        let published = live.published()?.into_iter().filter_map(digest).collect();
        Ok(Self { dir: dir.to_owned(), published, new, read: RefCell::default() })
    }

    /// The new files.
    pub fn new_files(&self) -> impl Iterator<Item = (&'a TargetPath, &'a Vec<u8>)> + use<'a> {
        self.new.iter()
    }

    /// Whether a file is published or new.
    pub fn has(&self, path: &TargetPath) -> bool {
        self.published.contains_key(path) || self.new.contains_key(path)
    }

    /// Whether something of this kind and id is published or new, in any version.
    pub fn has_any(&self, kind: TargetKind, id: &Name) -> bool {
        let is = |path: &TargetPath| path.kind() == kind && path.id() == id;
        self.published.keys().any(is) || self.new.keys().any(is)
    }

    /// The published versions of something, the newest last.
    pub fn published_versions(&self, kind: TargetKind, id: &Name) -> Vec<&Version> {
        versions(self.published.keys(), kind, id)
    }

    /// The published file of the newest version.
    pub fn newest_published(&self, kind: TargetKind, id: &Name) -> Option<TargetPath> {
        let version = (*self.published_versions(kind, id).last()?).clone();
        TargetPath::new(kind, id.clone(), version).ok()
    }

    /// The file of the newest version, published or new.
    pub fn newest(&self, kind: TargetKind, id: &Name) -> Option<TargetPath> {
        let version = versions(self.published.keys().chain(self.new.keys()), kind, id).pop()?.clone();
        TargetPath::new(kind, id.clone(), version).ok()
    }

    /// The ids of what is published or new of a kind.
    pub fn ids(&self, kind: TargetKind) -> BTreeSet<&Name> {
        let all = self.published.keys().chain(self.new.keys());
        all.filter(|path| path.kind() == kind).map(TargetPath::id).collect()
    }

    /// Reads and decodes a file that is published or new.
    pub fn decode<T: TextFormat>(&self, path: &TargetPath) -> Result<Option<T>, CatalogueError> {
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        T::decode(&bytes).map(Some).map_err(|error| CatalogueError::Content { path: path.clone(), error })
    }

    /// The bytes of a file that is published or new.
    pub fn bytes(&self, path: &TargetPath) -> Result<Option<Vec<u8>>, CatalogueError> {
        if let Some(bytes) = self.new.get(path) {
            return Ok(Some(bytes.clone()));
        }
        let Some(&digest) = self.published.get(path) else { return Ok(None) };
        let file = self.dir.join("targets").join(target_file(path, digest));
        let bytes = std::fs::read(&file).map_err(at("read", &file))?;
        if Digest::of(&bytes) != digest {
            return Err(CatalogueError::Damaged { path: path.clone() });
        }
        self.read.borrow_mut().insert(path.clone());
        Ok(Some(bytes))
    }

    /// The published files that were read so far.
    pub fn read_so_far(&self) -> BTreeSet<TargetPath> {
        self.read.borrow().clone()
    }
}

fn versions<'p>(
    paths: impl Iterator<Item = &'p TargetPath>,
    kind: TargetKind,
    id: &Name,
) -> Vec<&'p Version> {
    let mut versions: Vec<_> =
        paths.filter(|path| path.kind() == kind && path.id() == id).map(TargetPath::version).collect();
    versions.sort_unstable();
    versions
}
