//! Trust: from what a registry says to what an agent may use. The agent refreshes through it, and the publisher looks
//! through it at what it is about to publish.
//!
//! The registry is a TUF repository (The Update Framework, specification 1.0) in a folder or on a web server, and
//! nothing that it serves is believed. A refresh is the client workflow of the specification's section 5, carried out
//! by `sigstore-tuf`; this module gives it a source with limits, a store that survives a crash, and the time:
//!
//! 1. Start from the root that was pinned at installation, and walk to the newest root, each signed by the one before.
//! 2. Timestamp, snapshot and targets: signed to threshold, not expired (freeze), not older than what this site has
//!    seen before (rollback), and of one piece (mix and match).
//! 3. Every target path in our folders is parsed into kind, id and version, or the refresh fails.
//! 4. A target is fetched within its signed length, checked against its signed hash, decoded strictly, and its content
//!    says the id and version that its path says. Only then is there a [`Trusted`] value.
//!
//! What fails, fails the whole refresh, and what the agent had before stays as it was.

mod error;
mod known;
mod registry;
mod source;
mod store;
mod trusted;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sigstore_tuf::{TrustedMetadataSet, Updater, UpdaterConfig};

pub use error::TrustError;
pub use registry::Registry;
pub use source::{RegistrySource, RegistrySourceError};
pub use trusted::{Published, Trusted, TrustedModule};

use known::LastKnown;
use source::Fetcher;
use store::{TargetCache, TrustedStore};

/// How much a registry may send, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustLimits {
    /// One metadata file, bytes.
    pub metadata_bytes_max: u64,
    /// One manifest, mapping, policy or list, bytes.
    pub text_bytes_max: u64,
    /// One component, bytes.
    pub component_bytes_max: u64,
    /// Roots that one refresh walks at most.
    pub root_rotations_max: u32,
    /// To reach a web server, seconds.
    pub connect_timeout_s: u64,
    /// Between two parts of an answer, seconds.
    pub read_timeout_s: u64,
    /// One whole answer, seconds: a server that sends a byte a second never trips the read timeout.
    pub answer_timeout_s: u64,
}

impl Default for TrustLimits {
    fn default() -> Self {
        Self {
            metadata_bytes_max: 4 << 20,
            text_bytes_max: 16 << 20,
            component_bytes_max: 16 << 20,
            root_rotations_max: 64,
            connect_timeout_s: 10,
            read_timeout_s: 20,
            answer_timeout_s: 120,
        }
    }
}

impl TrustLimits {
    fn updater_config(&self) -> UpdaterConfig {
        let mut config = UpdaterConfig::default();
        config.root_max_length = config.root_max_length.min(self.metadata_bytes_max);
        config.timestamp_max_length = config.timestamp_max_length.min(self.metadata_bytes_max);
        config.snapshot_max_length = self.metadata_bytes_max;
        config.targets_max_length = self.metadata_bytes_max;
        config.target_max_length = self.text_bytes_max.max(self.component_bytes_max);
        config.max_root_rotations = self.root_rotations_max;
        config
    }
}

/// A registry, the root that it must answer to, and what this site has seen of it so far.
///
/// Synchronous; do not call it from asynchronous code.
#[derive(Debug)]
pub struct Trust {
    source: RegistrySource,
    fetcher: Fetcher,
    pinned_root: Vec<u8>,
    store: TrustedStore,
    cache: TargetCache,
    last_known: LastKnown,
    limits: TrustLimits,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Trust {
    /// Opens a registry. Nothing is fetched yet.
    ///
    /// `pinned_root` is the `root.json` that the practice got from the publishing team at installation; `store_dir`
    /// belongs to this module alone.
    pub fn open(
        source: &RegistrySource,
        pinned_root: &[u8],
        store_dir: &Path,
        limits: TrustLimits,
    ) -> Result<Self, TrustError> {
        Self::open_with(source, Fetcher::new(source, &limits)?, pinned_root, store_dir, limits)
    }

    /// The same for a repository that is not at `source` yet: what the publisher is about to publish there.
    pub fn open_proposed(
        source: &RegistrySource,
        proposed: impl sigstore_tuf::Repository + 'static,
        pinned_root: &[u8],
        store_dir: &Path,
        limits: TrustLimits,
    ) -> Result<Self, TrustError> {
        Self::open_with(source, Fetcher::Given(Arc::new(proposed)), pinned_root, store_dir, limits)
    }

    fn open_with(
        source: &RegistrySource,
        fetcher: Fetcher,
        pinned_root: &[u8],
        store_dir: &Path,
        limits: TrustLimits,
    ) -> Result<Self, TrustError> {
        TrustedMetadataSet::from_root(pinned_root)
            .map_err(|error| TrustError::PinnedRoot { why: error::chain(&error) })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| TrustError::Start { why: error.to_string() })?;
        Ok(Self {
            source: source.clone(),
            fetcher,
            pinned_root: pinned_root.to_vec(),
            store: TrustedStore::open(store_dir.join("metadata"), limits.metadata_bytes_max)?,
            cache: TargetCache::open(store_dir.join("targets"))?,
            last_known: LastKnown::at(store_dir.join("last-known.json")),
            limits,
            runtime: Arc::new(runtime),
        })
    }

    /// Asks the registry what is current, as of `now`.
    pub fn refresh(&self, now: Timestamp) -> Result<Registry, TrustError> {
        let mut updater = Updater::new(self.fetcher.clone(), &self.pinned_root)
            .map_err(|error| TrustError::PinnedRoot { why: error::chain(&error) })?
            .with_config(self.limits.updater_config())
            .with_store(self.store.clone());
        let refreshed = self.runtime.block_on(updater.refresh(now));
        // The store holds the floor below which a later refresh must not fall. The updater only logs when it could not
        // be read or written; going on would lose the floor, and with it the protection against rollback.
        self.store.take_failure()?;
        refreshed.map_err(|error| TrustError::of_refresh(&self.source, error, now))?;
        let registry = self.registry(updater, now, false)?;
        self.last_known.save(&self.store, now)?;
        self.cache.keep_only(&registry.digests())?;
        Ok(registry)
    }

    /// What the last successful refresh found, without asking the registry: for a site that is offline, or whose
    /// registry has expired. `None` where there never was one.
    ///
    /// Everything is verified again from the pinned root, as of the time of that refresh; targets come from this
    /// site's disk only. Nothing new may be installed from it: what was approved goes on until its own last day.
    pub fn last_known(&self) -> Result<Option<Registry>, TrustError> {
        let Some((saved, at)) = self.last_known.load()? else { return Ok(None) };
        let mut updater = Updater::new(saved, &self.pinned_root)
            .map_err(|error| TrustError::PinnedRoot { why: error::chain(&error) })?
            .with_config(self.limits.updater_config());
        self.runtime
            .block_on(updater.refresh(at))
            .map_err(|error| TrustError::LastKnown { why: error::chain(&error) })?;
        self.registry(updater, at, true).map(Some)
    }

    fn registry(&self, updater: Updater, now: Timestamp, offline: bool) -> Result<Registry, TrustError> {
        let runtime = Arc::clone(&self.runtime);
        Registry::listed(updater, self.cache.clone(), runtime, self.source.clone(), self.limits, now, offline)
    }
}

#[cfg(test)]
mod tests;
