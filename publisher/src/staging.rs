//! What waits for the next publication: plain files in `staged/`, checked when they come and again when they go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use lockgate_durable::{FileError, at, write_atomic};
use lockgate_signing::codelist::Codelist;
use lockgate_signing::cohort::Cohort;
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::Direction;
use lockgate_signing::holds::Holds;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::Recipients;
use lockgate_signing::rollout::Rollout;
use lockgate_signing::target::{TargetKind, TargetPath, TargetPathError};
use lockgate_signing::text_format::{TextFormat, TextFormatError};
use lockgate_signing::token_keys::TokenKeys;
use semver::Version;

use crate::contract::{self, ContractError};
use crate::mapping_sql;
use crate::module::PreparedModule;
use crate::repository::{LOCK, Live, Repository, RepositoryError};

/// Something cannot be staged.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The file is wrong.
    #[error(transparent)]
    Content(#[from] TextFormatError),
    /// Its id and version make no path.
    #[error(transparent)]
    Path(#[from] TargetPathError),
    /// Its last day is over.
    #[error("its last day is {not_after}, and it is {today}; set a later one")]
    Expired {
        /// The last day.
        not_after: Date,
        /// Today.
        today: Date,
    },
    /// The version is taken.
    #[error("`{path}` is published already, with other bytes; a version never changes: raise the version")]
    VersionTaken {
        /// The path.
        path: TargetPath,
    },
    /// A file in `staged/` that is none of ours.
    #[error("{} was not put there by this program; remove it", .0.display())]
    Stranger(PathBuf),
    /// It is not staged.
    #[error("{0} is not staged; `unstage` alone shows what is")]
    NotStaged(String),
    /// A staged file was changed after it was checked.
    #[error("the new file `{path}` is wrong: {why}; add it again, or take it back with `unstage`")]
    Changed {
        /// The path.
        path: TargetPath,
        /// What is wrong.
        why: String,
    },
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[must_use]
pub enum StagedAs {
    /// It waits for the next publication.
    New,
    /// It took the place of another that waited.
    Replaced,
    /// The same bytes waited already.
    Unchanged,
    /// The same bytes are live.
    AlreadyPublished,
}

/// Checks and stages a mapping.
pub fn add_mapping(repository: &Repository, bytes: &[u8]) -> Result<(TargetPath, StagedAs), StagingError> {
    mapping_sql::check(&Mapping::decode(bytes)?)?;
    add_text::<Mapping>(repository, TargetKind::Mapping, bytes)
}

/// Checks and stages a list of sensitive codes.
pub fn add_sensitive(repository: &Repository, bytes: &[u8]) -> Result<(TargetPath, StagedAs), StagingError> {
    add_text::<SensitiveCodes>(repository, TargetKind::SensitiveCodes, bytes)
}

/// Checks and stages an objection policy.
pub fn add_policy(
    repository: &Repository,
    bytes: &[u8],
    today: Date,
) -> Result<(TargetPath, StagedAs), StagingError> {
    let not_after = ObjectionPolicy::decode(bytes)?.not_after;
    if not_after < today {
        return Err(StagingError::Expired { not_after, today });
    }
    add_text::<ObjectionPolicy>(repository, TargetKind::Policy, bytes)
}

/// Checks and stages a direction.
pub fn add_direction(
    repository: &Repository,
    bytes: &[u8],
    today: Date,
) -> Result<(TargetPath, StagedAs), StagingError> {
    let not_after = Direction::decode(bytes)?.not_after;
    if not_after < today {
        return Err(StagingError::Expired { not_after, today });
    }
    add_text::<Direction>(repository, TargetKind::Direction, bytes)
}

/// Checks and stages the public keys of tokens.
pub fn add_token_keys(
    repository: &Repository,
    bytes: &[u8],
    today: Date,
) -> Result<(TargetPath, StagedAs), StagingError> {
    let keys = TokenKeys::decode(bytes)?;
    check_keys(&keys)?;
    let last = keys.epochs.iter().map(|epoch| epoch.until).max();
    if let Some(not_after) = last.filter(|last| *last < today) {
        return Err(StagingError::Expired { not_after, today });
    }
    add_text::<TokenKeys>(repository, TargetKind::TokenKeys, bytes)
}

/// Sites check each token with these keys: with one that is none, every run would end in an error.
fn check_keys(keys: &TokenKeys) -> Result<(), TextFormatError> {
    for epoch in &keys.epochs {
        if let Err(error) = lockgate_oprf::PublicKey::from_bytes(epoch.public_key.0) {
            let place = format!("epoch {}.public-key", epoch.epoch);
            let why = format!("{error}; copy what `lockgate-keyholder keys` prints");
            return Err(TextFormatError::at(TokenKeys::WHAT, &place, &why));
        }
    }
    Ok(())
}

/// Checks and stages a list of recipients.
pub fn add_recipients(
    repository: &Repository,
    bytes: &[u8],
    today: Date,
) -> Result<(TargetPath, StagedAs), StagingError> {
    let last = Recipients::decode(bytes)?.recipients.iter().map(|it| it.not_after).max();
    if let Some(not_after) = last.filter(|last| *last < today) {
        return Err(StagingError::Expired { not_after, today });
    }
    add_text::<Recipients>(repository, TargetKind::Recipients, bytes)
}

/// Checks and stages a codelist.
pub fn add_codelist(repository: &Repository, bytes: &[u8]) -> Result<(TargetPath, StagedAs), StagingError> {
    add_text::<Codelist>(repository, TargetKind::Codelist, bytes)
}

/// Stages a module: both files or neither.
pub fn add_module(
    repository: &Repository,
    module: &PreparedModule,
) -> Result<(TargetPath, StagedAs), StagingError> {
    let live = repository.live()?;
    let path = |kind| TargetPath::new(kind, module.manifest.id.clone(), module.manifest.version.clone());
    let manifest = path(TargetKind::ModuleManifest)?;
    let component = path(TargetKind::ModuleComponent)?;
    refuse_other_bytes(&live, &component, &module.component)?;
    refuse_other_bytes(&live, &manifest, &module.manifest_toml)?;
    // The manifest last: it is what makes the pair a module.
    let _ = stage(repository, &live, &component, &module.component)?;
    let staged = stage(repository, &live, &manifest, &module.manifest_toml)?;
    Ok((manifest, staged))
}

fn add_text<T: TextFormat>(
    repository: &Repository,
    kind: TargetKind,
    bytes: &[u8],
) -> Result<(TargetPath, StagedAs), StagingError> {
    let text = T::decode(bytes)?;
    let named = text.named();
    let path = TargetPath::new(kind, named.id.clone(), named.version.clone())?;
    let live = repository.live()?;
    refuse_other_bytes(&live, &path, bytes)?;
    let staged = stage(repository, &live, &path, bytes)?;
    Ok((path, staged))
}

/// A version that means two things could be run by one site and reviewed by another.
fn refuse_other_bytes(live: &Live, path: &TargetPath, bytes: &[u8]) -> Result<(), StagingError> {
    match live.entry(path) {
        Some(entry) if entry.digest() != Some(Digest::of(bytes)) => {
            Err(StagingError::VersionTaken { path: path.clone() })
        }
        _ => Ok(()),
    }
}

pub(crate) fn stage(
    repository: &Repository,
    live: &Live,
    path: &TargetPath,
    bytes: &[u8],
) -> Result<StagedAs, StagingError> {
    if live.entry(path).is_some() {
        return Ok(StagedAs::AlreadyPublished);
    }
    let _lock = repository.lock()?;
    let file = staged_file(repository, path);
    let staged = match std::fs::read(&file) {
        Ok(there) if there == bytes => return Ok(StagedAs::Unchanged),
        Ok(_) => StagedAs::Replaced,
        Err(_) => StagedAs::New,
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(at("create", folder))?;
    }
    write_atomic(&file, bytes)?;
    Ok(staged)
}

fn staged_file(repository: &Repository, path: &TargetPath) -> PathBuf {
    repository.dir().join("staged").join(path.to_string())
}

/// Everything that is staged, checked again: a file is not trusted because of where it lies.
pub fn staged(repository: &Repository) -> Result<BTreeMap<TargetPath, Vec<u8>>, StagingError> {
    let root = repository.dir().join("staged");
    let mut staged = BTreeMap::new();
    for file in files_below(&root)? {
        let name = file.strip_prefix(&root).ok().and_then(Path::to_str).unwrap_or_default();
        if name == LOCK {
            continue;
        }
        match TargetPath::parse(name) {
            Ok(Some(path)) => {
                staged.insert(path, std::fs::read(&file).map_err(at("read", &file))?);
            }
            _ => return Err(StagingError::Stranger(file)),
        }
    }
    check_files(&staged)?;
    Ok(staged)
}

/// Checks new files as they were checked when they were staged.
pub(crate) fn check_files(files: &BTreeMap<TargetPath, Vec<u8>>) -> Result<(), StagingError> {
    for (path, bytes) in files {
        check_staged(path, bytes, files).map_err(|why| StagingError::Changed { path: path.clone(), why })?;
    }
    Ok(())
}

/// Removes what was staged and is published now. What was staged otherwise in the meantime stays.
pub(crate) fn clear(
    repository: &Repository,
    published: &BTreeMap<TargetPath, Vec<u8>>,
) -> Result<(), FileError> {
    for (path, bytes) in published {
        let file = staged_file(repository, path);
        if !std::fs::read(&file).is_ok_and(|staged| staged == *bytes) {
            continue;
        }
        remove(&file)?;
    }
    Ok(())
}

/// The paths of everything that is staged, right or wrong.
pub fn staged_paths(repository: &Repository) -> Result<BTreeSet<TargetPath>, StagingError> {
    let root = repository.dir().join("staged");
    let path = |file: PathBuf| TargetPath::parse(file.strip_prefix(&root).ok()?.to_str()?).ok().flatten();
    Ok(files_below(&root)?.into_iter().filter_map(path).collect())
}

/// Takes back what is staged: one version of something, or all where none is named; of a module both files.
pub fn unstage(
    repository: &Repository,
    folder: &str,
    id: &Name,
    version: Option<&Version>,
) -> Result<Vec<TargetPath>, StagingError> {
    let _lock = repository.lock()?;
    let mut paths = staged_paths(repository)?;
    paths.retain(|path| {
        let same_version = version.is_none_or(|version| version == path.version());
        path.kind().folder() == folder && path.id() == id && same_version
    });
    if paths.is_empty() {
        let version = version.map(|version| format!("/{version}")).unwrap_or_default();
        return Err(StagingError::NotStaged(format!("{folder}/{id}{version}")));
    }
    // The manifest before its component: it is what makes the pair a module.
    for path in &paths {
        remove(&staged_file(repository, path))?;
    }
    Ok(paths.into_iter().collect())
}

fn remove(file: &Path) -> Result<(), FileError> {
    std::fs::remove_file(file).map_err(at("remove", file))?;
    // The folders of the id and the version, where nothing else is in them.
    for folder in file.ancestors().skip(1).take(2) {
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

fn check_staged(
    path: &TargetPath,
    bytes: &[u8],
    staged: &BTreeMap<TargetPath, Vec<u8>>,
) -> Result<(), String> {
    fn named<T: TextFormat>(path: &TargetPath, bytes: &[u8]) -> Result<T, String> {
        let text = T::decode(bytes).map_err(|error| error.to_string())?;
        let named = text.named();
        if named.id == path.id() && named.version == path.version() {
            Ok(text)
        } else {
            Err(format!("it says that it is {} {}", named.id, named.version))
        }
    }
    let other_half = path.other_half().and_then(|other| staged.get(&other));
    match path.kind() {
        TargetKind::Mapping => {
            mapping_sql::check(&named::<Mapping>(path, bytes)?).map_err(|error| error.to_string())
        }
        TargetKind::Policy => named::<ObjectionPolicy>(path, bytes).map(drop),
        TargetKind::SensitiveCodes => named::<SensitiveCodes>(path, bytes).map(drop),
        TargetKind::Codelist => named::<Codelist>(path, bytes).map(drop),
        TargetKind::Cohort => named::<Cohort>(path, bytes).map(drop),
        TargetKind::Rollout => named::<Rollout>(path, bytes).map(drop),
        TargetKind::Holds => named::<Holds>(path, bytes).map(drop),
        TargetKind::Direction => named::<Direction>(path, bytes).map(drop),
        TargetKind::TokenKeys => {
            check_keys(&named::<TokenKeys>(path, bytes)?).map_err(|error| error.to_string())
        }
        TargetKind::Recipients => named::<Recipients>(path, bytes).map(drop),
        TargetKind::ModuleComponent if other_half.is_none() => Err("its manifest is missing".to_owned()),
        TargetKind::ModuleComponent => {
            contract::check(bytes).map_err(|error: ContractError| error.to_string())
        }
        TargetKind::ModuleManifest => {
            let component = named::<Manifest>(path, bytes)?.component.ok_or("it names no component")?;
            match other_half {
                Some(bytes) if Digest::of(bytes) == component.digest => Ok(()),
                Some(_) => Err("it names another component".to_owned()),
                None => Err("its component is missing".to_owned()),
            }
        }
    }
}

pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(at("list", &folder))? {
            let entry = entry.map_err(at("list", &folder))?;
            let is_folder = entry.file_type().map_err(at("list", &folder))?.is_dir();
            if is_folder { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    Ok(files)
}
