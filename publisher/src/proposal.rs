//! A proposal: a plain folder that can be carried to those who sign, and back.
//!
//! ```text
//! <proposal>/documents/<role>.json   the next lists, with the signatures so far
//! <proposal>/files/<path>            the new files that they name
//! <proposal>/base/                   what was live when it was made, signed: metadata, and the files that a review reads
//! ```
//!
//! The base is there so that somebody without the repository can see what changes. It is believed because it verifies
//! from the reviewer's own root; and an old base that verifies shows nothing wrong, because `publish` takes a proposal
//! only on the base that is live.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at, sync_dir, sync_parent, write_atomic};
use lockgate_signing::digest::Digest;
use lockgate_signing::target::TargetPath;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::change::{Change, ChangeError};
use crate::documents::DocumentError;
use crate::envelope::Envelope;
use crate::lint::Warning;
use crate::repository::{self, Files, Live, Repository, target_file};
use crate::review::{self, Review, Verified};
use crate::role::Role;
use crate::staging;

/// The largest document of a proposal, bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;
/// The largest new file of a proposal, bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A proposal cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A document could not be made.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It does not follow on what is live.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A file could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// There is something already.
    #[error("{} is there already; a proposal is never overwritten: choose another folder", .0.display())]
    Exists(PathBuf),
    /// No proposal.
    #[error("{} is not a proposal: {why}; make one with `lockgate-publish propose`", dir.display())]
    NotAProposal {
        /// The folder.
        dir: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// Nothing would change.
    #[error("nothing is staged for these roles; there is nothing to propose")]
    Nothing,
    /// The base is not what the reviewer trusts.
    #[error(
        "the base of the proposal {} does not verify from your root: {why}; do not sign it, and ask the publishing team",
        dir.display()
    )]
    Base {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no root to verify the base from.
    #[error(
        "no root to verify the proposal {} from: name the root.json that you were given with --root or LOCKGATE_ROOT; \
         `sign` also takes the one beside your key, and one that lies beside the proposal is never believed",
        .0.display()
    )]
    NoRoot(PathBuf),
    /// Somebody else's registry.
    #[error(
        "the proposal {} begins a registry, and you go by the root {} of one that there is: it would not be yours. Do not \
         sign it, and ask the publishing team. Where you mean to begin another registry, use another key in a folder \
         without root.json, and name no root", dir.display(), root.display()
    )]
    AnotherBeginning {
        /// The folder.
        dir: PathBuf,
        /// The reviewer's root.
        root: PathBuf,
    },
}

/// A proposal in its folder.
#[derive(Debug)]
pub struct Proposal {
    dir: PathBuf,
    /// What it would change.
    pub change: Change,
    /// What whoever made it is told; empty where it was read.
    pub warnings: Vec<Warning>,
}

/// The root that a reviewer was given by another way than the proposal.
#[derive(Debug)]
pub struct TrustedRoot {
    /// Its file.
    pub file: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Proposal {
    /// Writes a change of a repository as a new proposal. It appears whole or not at all.
    pub fn write(dir: &Path, change: Change, base: &Repository, live: &Live) -> Result<Self, ProposalError> {
        if change.documents.is_empty() {
            return Err(ProposalError::Nothing);
        }
        let catalogue = Catalogue::new(base.dir(), live, &change.files)?;
        change.check(live, &catalogue)?;
        // What the review reads is what the reviewer needs.
        let warnings = review::review(&change, live, &catalogue)?.warnings;
        let unfinished = start(dir)?;
        let metadata = base.dir().join("metadata");
        for name in metadata_of(live) {
            let file = metadata.join(&name);
            let bytes = std::fs::read(&file).map_err(at("read", &file))?;
            write(&unfinished.join("base").join("metadata").join(name), &bytes)?;
        }
        for path in catalogue.read_so_far() {
            if let Some(bytes) = catalogue.bytes(&path)? {
                let name = target_file(&path, Digest::of(&bytes));
                write(&unfinished.join("base").join("targets").join(name), &bytes)?;
            }
        }
        Ok(Self { warnings, ..Self::finish(dir, &unfinished, change)? })
    }

    /// Writes the first documents of a repository as a new proposal.
    pub fn write_first(dir: &Path, change: Change) -> Result<Self, ProposalError> {
        let unfinished = start(dir)?;
        Self::finish(dir, &unfinished, change)
    }

    fn finish(dir: &Path, unfinished: &Path, change: Change) -> Result<Self, ProposalError> {
        for (path, bytes) in &change.files {
            write(&unfinished.join("files").join(path.to_string()), bytes)?;
        }
        let proposal = Self { dir: unfinished.to_owned(), change, warnings: Vec::new() };
        proposal.save()?;
        sync_dir(unfinished)?;
        std::fs::rename(unfinished, dir).map_err(at("create", dir))?;
        sync_parent(dir)?;
        Ok(Self { dir: dir.to_owned(), ..proposal })
    }

    /// Reads a proposal. Nothing is verified.
    pub fn open(dir: &Path) -> Result<Self, ProposalError> {
        let wrong = |why: String| ProposalError::NotAProposal { dir: dir.to_owned(), why };
        let folder = dir.join("documents");
        if !folder.is_dir() {
            return Err(wrong("it has no folder `documents`".to_owned()));
        }
        let mut documents = BTreeMap::new();
        for file in staging::files_below(&folder)? {
            let name = file.strip_prefix(&folder).ok().and_then(Path::to_str).unwrap_or_default();
            let role: Role = name
                .strip_suffix(".json")
                .ok_or_else(|| wrong(format!("documents/{name} is not a document")))?
                .parse()
                .map_err(wrong)?;
            let bytes = read(&file, DOCUMENT_BYTES_MAX)?;
            let document =
                Envelope::parse(&bytes).map_err(|error| wrong(format!("documents/{name}: {error}")))?;
            documents.insert(role, document);
        }
        let mut files = BTreeMap::new();
        let folder = dir.join("files");
        for file in if folder.is_dir() { staging::files_below(&folder)? } else { Vec::new() } {
            let name = file.strip_prefix(&folder).ok().and_then(Path::to_str).unwrap_or_default();
            let path = TargetPath::parse(name).map_err(|error| wrong(error.to_string()))?;
            let path = path.ok_or_else(|| wrong(format!("files/{name} is none of ours")))?;
            files.insert(path, read(&file, FILE_BYTES_MAX)?);
        }
        if documents.is_empty() {
            return Err(wrong("it has no documents".to_owned()));
        }
        Ok(Self { dir: dir.to_owned(), change: Change { documents, files }, warnings: Vec::new() })
    }

    /// Verifies it from the reviewer's root, and says in words what it would change.
    ///
    /// Nothing of the proposal's folder vouches for it, and nothing beside it: whoever wrote the one could write the other.
    pub fn review(&self, root: Option<&TrustedRoot>) -> Result<(Live, Review), ProposalError> {
        let base = self.dir.join("base");
        let live = match (root, self.change.is_first()) {
            // The first documents of a repository: there is nothing before them, and the reviewer compares the keys.
            (None, true) => Live::default(),
            (None, false) => return Err(ProposalError::NoRoot(self.dir.clone())),
            (Some(root), true) => {
                let (dir, root) = (self.dir.clone(), root.file.clone());
                return Err(ProposalError::AnotherBeginning { dir, root });
            }
            (Some(root), false) => repository::live(Files::of(&base), &root.bytes)
                .map_err(|why| ProposalError::Base { dir: self.dir.clone(), why })?,
        };
        let catalogue = Catalogue::new(&base, &live, &self.change.files)?;
        self.change.check(&live, &catalogue)?;
        let mut review = review::review(&self.change, &live, &catalogue)?;
        review.root = root.map(|root| Verified::from(root, &live));
        Ok((live, review))
    }

    /// Writes the signatures so far.
    pub fn save(&self) -> Result<(), ProposalError> {
        for (&role, document) in &self.change.documents {
            write(&self.dir.join("documents").join(format!("{role}.json")), &document.to_bytes(role)?)?;
        }
        Ok(())
    }
}

fn start(dir: &Path) -> Result<PathBuf, ProposalError> {
    if dir.exists() {
        return Err(ProposalError::Exists(dir.to_owned()));
    }
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(lockgate_durable::TEMPORARY_SUFFIX);
    let unfinished = dir.with_file_name(name);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(at("remove", &unfinished))?;
    }
    std::fs::create_dir_all(&unfinished).map_err(at("create", &unfinished))?;
    Ok(unfinished)
}

/// The files of what is live: the whole chain of roots, because a reviewer may know an old one.
fn metadata_of(live: &Live) -> Vec<String> {
    let mut names: Vec<_> =
        (1..=live.version(Role::Root)).map(|version| format!("{version}.root.json")).collect();
    names.extend(live.lists.iter().map(|(role, list)| format!("{}.{role}.json", list.version)));
    names.push(format!("{}.snapshot.json", live.version(Role::Snapshot)));
    names.push("timestamp.json".to_owned());
    names
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(at("create", folder))?;
    }
    write_atomic(file, bytes)
}

fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(bytes_max).read_to_end(&mut bytes))
        .map_err(at("read", file))?;
    Ok(bytes)
}
