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
use lockgate_signing::recipients::Recipients;
use lockgate_signing::rollout::Rollout;
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::token_keys::TokenKeys;
use semver::Version;
use sigstore_tuf::TargetFile;

use crate::TrustLimits;
use crate::cache::TargetCache;
use crate::client::Client;
use crate::error::TrustError;
use crate::store::Notice;
use crate::trusted::{self, Published, Trusted, TrustedModule, module_paths};

/// The registry as one refresh found it.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    targets: BTreeMap<TargetPath, Listed>,
    cache: TargetCache,
    runtime: Arc<tokio::runtime::Runtime>,
    limits: TrustLimits,
    as_of: Timestamp,
    is_last_known: bool,
    in_doubt: bool,
    notices: Vec<Notice>,
}

/// One target's signed entry.
#[derive(Debug)]
struct Listed {
    entry: TargetFile,
    digest: Digest,
}

impl Registry {
    /// Lists what a refreshed client vouches for: what every role lists, each path as the role lists it that may speak
    /// for it.
    pub(crate) fn listed(
        mut client: Client,
        cache: TargetCache,
        runtime: Arc<tokio::runtime::Runtime>,
        limits: TrustLimits,
        as_of: Timestamp,
    ) -> Result<Self, TrustError> {
        let mut targets = BTreeMap::new();
        let mut notices = Vec::new();
        for (list, text, listed) in ours(&client)? {
            // Which role may speak for a path is decided by the delegations, not by where it is listed.
            let entry = runtime.block_on(client.find(&text, as_of))?;
            if entry.as_ref() != Some(&listed) {
                notices
                    .push(Notice::NotTheirs { list, path: text.chars().take(PATH_CHARACTERS_MAX).collect() });
            }
            let (Some(path), Some(entry)) = (TargetPath::parse(&text)?, entry) else { continue };
            let digest = entry.hashes.get("sha256").and_then(|hex| Digest::from_hex(hex).ok());
            let digest = digest.ok_or_else(|| TrustError::NoDigest { path: path.clone() })?;
            targets.insert(path, Listed { entry, digest });
        }
        let (is_last_known, in_doubt) = (false, false);
        Ok(Self { client, targets, cache, runtime, limits, as_of, is_last_known, in_doubt, notices })
    }

    /// The same as the last one that is known, in place of the current one.
    pub(crate) fn last_known(self) -> Self {
        Self { is_last_known: true, ..self }
    }

    /// The same, with what was noticed on the way.
    pub(crate) fn noticing(mut self, before: Vec<Notice>) -> Self {
        self.in_doubt |= before.iter().any(|notice| matches!(notice, Notice::ClockWentBack { .. }));
        self.notices.splice(0..0, before);
        self
    }

    /// When it was asked.
    pub fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// Whether nothing new may be installed from it: it is the last known registry in place of the current one, or this
    /// computer's clock went back and nobody knows whether what it says is current.
    pub fn is_offline(&self) -> bool {
        self.is_last_known || self.in_doubt
    }

    /// The newest time that the registry's signers vouch for; `None` where its timestamp does not say when it was
    /// signed. A time that has passed, whatever this computer's clock says.
    pub fn signed_at(&self) -> Option<Timestamp> {
        self.client.floor().signed_at()
    }

    /// When what it says runs out, unless somebody signs it again before: the earliest end of its parts.
    pub fn expires(&self) -> Option<Timestamp> {
        let set = self.client.trusted();
        let (timestamp, snapshot) = (set.timestamp()?, set.snapshot()?);
        let targets = set.targets_role("targets")?;
        [set.root().expires, timestamp.expires, snapshot.expires, targets.expires].into_iter().min()
    }

    /// What a person should know about this refresh, and that stopped nothing.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
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
        let [manifest_path, component_path] = module_paths(id, version)?;
        let component = self.bytes(&component_path, self.limits.component_bytes_max)?;
        TrustedModule::join(manifest, &manifest_path, &component_path, component)
    }

    /// Checks that the component which is listed beside a manifest is the one that it names. Nothing is fetched.
    pub fn check_component(&self, manifest: &Trusted<Manifest>) -> Result<(), TrustError> {
        let [manifest_path, component_path] = module_paths(&manifest.value().id, manifest.version())?;
        let listed = self.targets.get(&component_path);
        let listed = listed.ok_or_else(|| TrustError::Missing { path: component_path.clone() })?;
        let (digest, bytes) = (listed.digest, listed.entry.length);
        trusted::check_component(manifest, &manifest_path, &component_path, digest, bytes)
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
            TargetKind::TokenKeys => self.fetch::<TokenKeys>(id, version).map(drop),
            TargetKind::Recipients => self.fetch::<Recipients>(id, version).map(drop),
        }
    }

    /// The digests of everything listed.
    pub(crate) fn digests(&self) -> BTreeSet<Digest> {
        self.targets.values().map(|listed| listed.digest).collect()
    }

    /// The exact signed bytes of a target, from this site's copy or from the registry.
    pub(crate) fn bytes(&self, path: &TargetPath, bytes_max: u64) -> Result<Vec<u8>, TrustError> {
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
        if self.is_last_known {
            return Err(TrustError::NotHere { path: path.clone() });
        }
        // 3. Swapped file: the updater checks length and hashes before it hands the bytes out.
        let bytes =
            self.runtime.block_on(self.client.download(&listed.entry, &path.to_string(), self.as_of))?;
        self.cache.save(listed.digest, &bytes)?;
        Ok(bytes)
    }
}

/// Characters of a foreign path that a notice repeats at most.
const PATH_CHARACTERS_MAX: usize = 120;

/// What any role lists in one of our folders: the role, the path, the entry.
fn ours(client: &Client) -> Result<Vec<(String, String, TargetFile)>, TrustError> {
    let mut paths = Vec::new();
    for (name, list) in client.lists() {
        for (text, entry) in &list.targets {
            if TargetPath::parse(text)?.is_some() {
                paths.push((name.clone(), text.clone(), entry.clone()));
            }
        }
    }
    Ok(paths)
}
