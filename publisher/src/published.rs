//! What a repository has: published, and staged for the next publication.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockgate_signing::codelist::Codelist;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::text_format::TextFormat;
use semver::Version;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::lint::Warning;
use crate::module::{self, ModuleError, PreparedModule};
use crate::offers;
use crate::repository::{Live, Repository};
use crate::staging::{self, StagingError};

/// Something of a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// The repository, or what is staged in it.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A file.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A codelist of a manifest.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// It is not there.
    #[error("{id}{} is neither published nor staged; `lockgate-publish list` shows what is", .version.as_ref().map(|it| format!(" {it}")).unwrap_or_default())]
    NoSuchModule {
        /// The module.
        id: Name,
        /// The version that was asked for.
        version: Option<Version>,
    },
}

/// What a repository has.
#[derive(Debug)]
pub struct Published {
    dir: PathBuf,
    live: Live,
    staged: BTreeMap<TargetPath, Vec<u8>>,
}

impl Published {
    /// Reads a repository, once it verified.
    pub fn read(repository: &Repository) -> Result<Self, PublishedError> {
        let live = repository.live().map_err(StagingError::from)?;
        Ok(Self { dir: repository.dir().to_owned(), live, staged: staging::staged(repository)? })
    }

    /// What is live.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Whether a file is staged.
    pub(crate) fn is_staged(&self, path: &TargetPath) -> bool {
        self.staged.contains_key(path)
    }

    /// As it would be with one more file staged.
    pub(crate) fn with_staged(mut self, path: TargetPath, bytes: Vec<u8>) -> Self {
        self.staged.insert(path, bytes);
        self
    }

    /// The newest version of a document, published or staged.
    pub(crate) fn newest<T: TextFormat>(
        &self,
        kind: TargetKind,
        id: &Name,
    ) -> Result<Option<T>, PublishedError> {
        let catalogue = self.catalogue()?;
        let Some(path) = catalogue.newest(kind, id) else { return Ok(None) };
        Ok(catalogue.decode(&path)?)
    }

    /// The newest published version of a document, and its path.
    pub(crate) fn newest_published<T: TextFormat>(
        &self,
        kind: TargetKind,
        id: &Name,
    ) -> Result<Option<(TargetPath, T)>, PublishedError> {
        let catalogue = self.catalogue()?;
        let Some(path) = catalogue.newest_published(kind, id) else { return Ok(None) };
        Ok(catalogue.decode(&path)?.map(|document| (path, document)))
    }

    /// A version of a module; the newest when none is named.
    pub fn module(&self, id: &Name, version: Option<&Version>) -> Result<PreparedModule, PublishedError> {
        let catalogue = self.catalogue()?;
        let missing = || PublishedError::NoSuchModule { id: id.clone(), version: version.cloned() };
        let path = match version {
            Some(version) => TargetPath::new(TargetKind::ModuleManifest, id.clone(), version.clone())
                .map_err(StagingError::from)?,
            None => catalogue.newest(TargetKind::ModuleManifest, id).ok_or_else(missing)?,
        };
        let manifest_toml = catalogue.bytes(&path)?.ok_or_else(missing)?;
        let component = path.other_half().ok_or_else(missing)?;
        let component = catalogue.bytes(&component)?.ok_or_else(missing)?;
        let manifest = Manifest::decode(&manifest_toml).map_err(ModuleError::from)?;
        Ok(PreparedModule { manifest, manifest_toml, component, warnings: Vec::new() })
    }

    /// An author's manifest with the codes of the published codelists that it names.
    pub fn with_codelists(&self, manifest: &str) -> Result<String, PublishedError> {
        let catalogue = self.catalogue()?;
        let codelist = |id: &Name, version: &Version| {
            let path = TargetPath::new(TargetKind::Codelist, id.clone(), version.clone()).ok()?;
            catalogue.decode::<Codelist>(&path).ok().flatten()
        };
        Ok(module::resolve_codelists(manifest, codelist)?)
    }

    /// What of a module's offers would be in order and still not work.
    pub fn warnings(&self, module: &Name) -> Result<Vec<Warning>, PublishedError> {
        Ok(offers::without_token_keys(&self.catalogue()?, [module.clone()])?)
    }

    /// All of it by path.
    pub(crate) fn catalogue(&self) -> Result<Catalogue<'_>, CatalogueError> {
        Catalogue::new(&self.dir, &self.live, &self.staged)
    }
}
