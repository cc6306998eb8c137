//! What a registry vouches for: values that only verified bytes become.

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
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::text_format::TextFormat;
use lockgate_signing::token_keys::TokenKeys;
use semver::Version;

use crate::error::TrustError;

/// A signed text that is published by itself.
pub trait Published: TextFormat {
    /// Where it is.
    const KIND: TargetKind;
}

impl Published for Manifest {
    const KIND: TargetKind = TargetKind::ModuleManifest;
}

impl Published for Mapping {
    const KIND: TargetKind = TargetKind::Mapping;
}

impl Published for ObjectionPolicy {
    const KIND: TargetKind = TargetKind::Policy;
}

impl Published for SensitiveCodes {
    const KIND: TargetKind = TargetKind::SensitiveCodes;
}

impl Published for Codelist {
    const KIND: TargetKind = TargetKind::Codelist;
}

impl Published for Cohort {
    const KIND: TargetKind = TargetKind::Cohort;
}

impl Published for Rollout {
    const KIND: TargetKind = TargetKind::Rollout;
}

impl Published for Holds {
    const KIND: TargetKind = TargetKind::Holds;
}

impl Published for Direction {
    const KIND: TargetKind = TargetKind::Direction;
}

impl Published for TokenKeys {
    const KIND: TargetKind = TargetKind::TokenKeys;
}

impl Published for Recipients {
    const KIND: TargetKind = TargetKind::Recipients;
}

/// A value whose bytes the registry's signers signed. Only this module makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Trusted<T> {
    value: T,
    version: Version,
    digest: Digest,
}

impl<T: Published> Trusted<T> {
    /// From bytes that were checked against the signed hash of `path`.
    pub(crate) fn decode(path: &TargetPath, bytes: &[u8]) -> Result<Self, TrustError> {
        let value = T::decode(bytes)
            .map_err(|error| TrustError::Content { path: path.clone(), error: Box::new(error) })?;
        // A signer who may publish one module must not be able to pass it off as another by its path.
        let named = value.named();
        if named.id != path.id() || named.version != path.version() {
            let says = format!("{} {}", named.id, named.version);
            return Err(TrustError::OtherName { path: path.clone(), says });
        }
        Ok(Self { version: path.version().clone(), digest: Digest::of(bytes), value })
    }
}

impl<T> Trusted<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The digest of the exact bytes that were signed.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A module that may be compiled: its manifest and the bytes of its component, never a path, so that what runs is what
/// was checked.
#[derive(Clone)]
pub struct TrustedModule {
    manifest: Trusted<Manifest>,
    component: Vec<u8>,
    component_digest: Digest,
}

impl TrustedModule {
    /// From a manifest and component bytes that were each checked against their signed hashes.
    pub(crate) fn join(
        manifest: Trusted<Manifest>,
        manifest_path: &TargetPath,
        component_path: &TargetPath,
        component: Vec<u8>,
    ) -> Result<Self, TrustError> {
        let component_digest = Digest::of(&component);
        let bytes = component.len() as u64;
        check_component(&manifest, manifest_path, component_path, component_digest, bytes)?;
        Ok(Self { manifest, component, component_digest })
    }

    /// What the module declares.
    pub fn manifest(&self) -> &Trusted<Manifest> {
        &self.manifest
    }

    /// The component's bytes.
    pub fn component(&self) -> &[u8] {
        &self.component
    }

    /// The digest of the component's bytes.
    pub fn component_digest(&self) -> Digest {
        self.component_digest
    }
}

/// The paths of a module's manifest and of its component.
pub(crate) fn module_paths(id: &Name, version: &Version) -> Result<[TargetPath; 2], TrustError> {
    let path = |kind| TargetPath::new(kind, id.clone(), version.clone());
    Ok([path(TargetKind::ModuleManifest)?, path(TargetKind::ModuleComponent)?])
}

/// Swapped component: both files are signed, but the manifest was reviewed with another component. The digest binds the
/// two, whatever the registry's list says.
pub(crate) fn check_component(
    manifest: &Trusted<Manifest>,
    manifest_path: &TargetPath,
    component_path: &TargetPath,
    digest: Digest,
    bytes: u64,
) -> Result<(), TrustError> {
    let Some(declared) = &manifest.value().component else {
        return Err(TrustError::NoComponent { path: manifest_path.clone() });
    };
    if declared.digest != digest || declared.bytes != bytes {
        return Err(TrustError::OtherComponent {
            path: component_path.clone(),
            why: format!("{digest} in place of {}", declared.digest),
        });
    }
    Ok(())
}

impl std::fmt::Debug for TrustedModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let manifest = self.manifest.value();
        write!(f, "TrustedModule({} {}, {})", manifest.id, manifest.version, self.component_digest)
    }
}
