//! The modules that a site has installed, in a folder of their own: a module that runs here goes on to its own last day
//! when the registry does not list it any more.

use std::collections::BTreeSet;
use std::path::Path;

use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::target::TargetPath;
use semver::Version;

use super::TrustLimits;
use super::cache::TargetCache;
use super::error::TrustError;
use super::registry::Registry;
use super::trusted::{Trusted, TrustedModule, module_paths};

/// Exact bytes of installed modules, by digest.
///
/// What was installed was verified then; what is read later is held to the digest that the site wrote down in its ledger
/// when it installed it.
#[derive(Debug, Clone)]
pub struct InstalledModules {
    files: TargetCache,
    limits: TrustLimits,
}

impl InstalledModules {
    /// Opens the folder; it belongs to this type alone.
    pub fn open(folder: &Path, limits: TrustLimits) -> Result<Self, TrustError> {
        Ok(Self { files: TargetCache::open(folder.to_owned())?, limits })
    }

    /// Fetches a version of a module from the registry and keeps it, on stable storage when this returns.
    pub fn keep(
        &self,
        registry: &Registry,
        id: &Name,
        version: &Version,
    ) -> Result<TrustedModule, TrustError> {
        let module = registry.fetch_module(id, version)?;
        let [manifest_path, _] = module_paths(id, version)?;
        let manifest = registry.bytes(&manifest_path, self.limits.text_bytes_max)?;
        self.files.save(module.component_digest(), module.component())?;
        self.files.save(module.manifest().digest(), &manifest)?;
        Ok(module)
    }

    /// The manifest that was installed with this digest.
    pub fn manifest(
        &self,
        id: &Name,
        version: &Version,
        digest: Digest,
    ) -> Result<Trusted<Manifest>, TrustError> {
        let [path, _] = module_paths(id, version)?;
        Trusted::decode(&path, &self.bytes(&path, digest, self.limits.text_bytes_max)?)
    }

    /// The module that was installed with this manifest.
    pub fn module(
        &self,
        id: &Name,
        version: &Version,
        manifest: Digest,
    ) -> Result<TrustedModule, TrustError> {
        let manifest = self.manifest(id, version, manifest)?;
        let [manifest_path, component_path] = module_paths(id, version)?;
        let Some(named) = &manifest.value().component else {
            return Err(TrustError::NoComponent { path: manifest_path });
        };
        let component = self.bytes(&component_path, named.digest, self.limits.component_bytes_max)?;
        TrustedModule::join(manifest, &manifest_path, &component_path, component)
    }

    /// Removes everything but these modules, given by their manifests' digests.
    pub fn keep_only<'a>(
        &self,
        installed: impl IntoIterator<Item = (&'a Name, &'a Version, Digest)>,
    ) -> Result<(), TrustError> {
        let mut wanted = BTreeSet::new();
        for (id, version, digest) in installed {
            wanted.insert(digest);
            // A copy that is damaged is replaced or reported by whoever needs it.
            let manifest = self.manifest(id, version, digest).ok();
            wanted.extend(manifest.and_then(|manifest| Some(manifest.value().component.as_ref()?.digest)));
        }
        Ok(self.files.keep_only(&wanted)?)
    }

    fn bytes(&self, path: &TargetPath, digest: Digest, bytes_max: u64) -> Result<Vec<u8>, TrustError> {
        let why = format!("no file here has {digest}");
        self.files.load_any(digest, bytes_max)?.ok_or_else(|| TrustError::NotKept { path: path.clone(), why })
    }
}
