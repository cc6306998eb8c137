//! The registry as one refresh found it: what is listed, and how to get it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use lockgate_signing::codelist::Codelist;
use lockgate_signing::cohort::Cohort;
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::Direction;
use lockgate_signing::holds::Holds;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::rollout::Rollout;
use lockgate_signing::target::{TargetKind, TargetPath};
use semver::Version;
use sigstore_tuf::{TargetFile, Updater};

use super::TrustLimits;
use super::error::TrustError;
use super::source::RegistrySource;
use super::store::TargetCache;
use super::trusted::{Published, Trusted, TrustedModule};

/// The registry as one refresh found it.
#[derive(Debug)]
pub struct Registry {
    updater: Updater,
    targets: BTreeMap<TargetPath, Listed>,
    cache: TargetCache,
    runtime: Arc<tokio::runtime::Runtime>,
    source: RegistrySource,
    limits: TrustLimits,
    as_of: Timestamp,
    offline: bool,
}

/// One target's signed entry.
#[derive(Debug)]
struct Listed {
    entry: TargetFile,
    digest: Digest,
}

impl Registry {
    /// Lists what a refreshed updater vouches for.
    pub(super) fn listed(
        mut updater: Updater,
        cache: TargetCache,
        runtime: Arc<tokio::runtime::Runtime>,
        source: RegistrySource,
        limits: TrustLimits,
        as_of: Timestamp,
        offline: bool,
    ) -> Result<Self, TrustError> {
        let mut targets = BTreeMap::new();
        for text in listed_paths(&updater) {
            let Some(path) = TargetPath::parse(&text)? else { continue };
            // Asked through the updater, not read from the list: it decides which role may speak for a path.
            let entry = runtime
                .block_on(updater.get_target_info(&text, as_of))
                .map_err(|error| TrustError::of_refresh(&source, error, as_of))?;
            let Some(entry) = entry else { continue };
            let digest = entry.hashes.get("sha256").and_then(|hex| Digest::from_hex(hex).ok());
            let digest = digest.ok_or_else(|| TrustError::NoDigest { path: path.clone() })?;
            targets.insert(path, Listed { entry, digest });
        }
        Ok(Self { updater, targets, cache, runtime, source, limits, as_of, offline })
    }

    /// When it was asked.
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// Whether this is the last known registry in place of the current one: nothing new may be installed from it.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Everything that is published and that this version knows.
    pub fn targets(&self) -> impl Iterator<Item = &TargetPath> {
        self.targets.keys()
    }

    /// The versions of one thing, oldest first.
    pub fn versions<'a>(&'a self, kind: TargetKind, id: &'a Name) -> impl Iterator<Item = &'a Version> {
        self.targets().filter(move |path| path.kind() == kind && path.id() == id).map(TargetPath::version)
    }

    /// The newest version of one thing. A pre-release is never the newest: it is used only where it is named.
    pub fn latest_version(&self, kind: TargetKind, id: &Name) -> Option<&Version> {
        self.targets()
            .filter(|path| path.kind() == kind && path.id() == id && path.version().pre.is_empty())
            .map(TargetPath::version)
            .max()
    }

    /// Every module and its newest version.
    pub fn latest_modules(&self) -> BTreeMap<&Name, &Version> {
        self.targets()
            .filter(|path| path.kind() == TargetKind::ModuleManifest && path.version().pre.is_empty())
            .map(|path| (path.id(), path.version()))
            // In order of version within an id, so that the last one stays.
            .collect()
    }

    /// The newest version of a manifest, mapping, policy or list.
    pub fn fetch_latest<T: Published>(&self, id: &Name) -> Result<Option<Trusted<T>>, TrustError> {
        self.latest_version(T::KIND, id).map(|version| self.fetch(id, version)).transpose()
    }

    /// One version of a manifest, mapping, policy or list.
    pub fn fetch<T: Published>(&self, id: &Name, version: &Version) -> Result<Trusted<T>, TrustError> {
        let path = TargetPath::new(T::KIND, id.clone(), version.clone())?;
        Trusted::decode(&path, &self.bytes(&path, self.limits.text_bytes_max)?)
    }

    /// One version of a module: its manifest, and its component.
    pub fn fetch_module(&self, id: &Name, version: &Version) -> Result<TrustedModule, TrustError> {
        let manifest = self.fetch::<Manifest>(id, version)?;
        let path = |kind| TargetPath::new(kind, id.clone(), version.clone());
        let component_path = path(TargetKind::ModuleComponent)?;
        let component = self.bytes(&component_path, self.limits.component_bytes_max)?;
        TrustedModule::join(manifest, &path(TargetKind::ModuleManifest)?, &component_path, component)
    }

    /// Fetches one target as an agent would use it, and looks at everything that it would look at.
    pub fn check(&self, path: &TargetPath) -> Result<(), TrustError> {
        let (id, version) = (path.id(), path.version());
        match path.kind() {
            TargetKind::ModuleManifest | TargetKind::ModuleComponent => {
                self.fetch_module(id, version).map(drop)
            }
            TargetKind::Mapping => self.fetch::<Mapping>(id, version).map(drop),
            TargetKind::Policy => self.fetch::<ObjectionPolicy>(id, version).map(drop),
            TargetKind::SensitiveCodes => self.fetch::<SensitiveCodes>(id, version).map(drop),
            TargetKind::Codelist => self.fetch::<Codelist>(id, version).map(drop),
            TargetKind::Cohort => self.fetch::<Cohort>(id, version).map(drop),
            TargetKind::Rollout => self.fetch::<Rollout>(id, version).map(drop),
            TargetKind::Holds => self.fetch::<Holds>(id, version).map(drop),
            TargetKind::Direction => self.fetch::<Direction>(id, version).map(drop),
        }
    }

    /// The digests of everything listed.
    pub(super) fn digests(&self) -> BTreeSet<Digest> {
        self.targets.values().map(|listed| listed.digest).collect()
    }

    /// The exact signed bytes of a target, from this site's copy or from the registry.
    fn bytes(&self, path: &TargetPath, bytes_max: u64) -> Result<Vec<u8>, TrustError> {
        let listed = self.targets.get(path).ok_or_else(|| TrustError::Missing { path: path.clone() })?;
        // 1. Endless data: the signed length bounds the download, and our own limit bounds the signed length.
        if listed.entry.length > bytes_max {
            let bytes = listed.entry.length;
            return Err(TrustError::TooLarge { path: path.clone(), bytes, bytes_max });
        }
        // 2. Tampered copy: a file is not trusted because it is in our folder; its bytes are hashed on each use.
        if let Some(bytes) = self.cache.load(listed.digest, listed.entry.length)? {
            return Ok(bytes);
        }
        if self.offline {
            return Err(TrustError::NotHere { path: path.clone() });
        }
        // 3. Swapped file: the updater checks length and hashes before it hands the bytes out.
        let bytes = self
            .runtime
            .block_on(self.updater.download_target(&listed.entry, &path.to_string()))
            .map_err(|error| TrustError::of_refresh(&self.source, error, self.as_of))?;
        self.cache.save(listed.digest, &bytes)?;
        Ok(bytes)
    }
}

/// The paths that any role lists. Delegated roles join here.
fn listed_paths(updater: &Updater) -> Vec<String> {
    let targets = updater.trusted().targets_role("targets");
    targets.map(|role| role.targets.keys().cloned().collect()).unwrap_or_default()
}
