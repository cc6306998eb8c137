//! Trust: from what a registry says to what an agent may use. The agent refreshes through it, and the publisher looks
//! through it at what it is about to publish.
//!
//! The registry is a TUF repository (The Update Framework, specification 1.0) in a folder or on a web server, and
//! nothing that it serves is believed. A refresh is the client workflow of the specification's section 5:
//!
//! 0. Nothing new? One request answers that, see `Client::is_unchanged`.
//! 1. Start from the root that was pinned at installation, and walk to the newest root, each signed by the one before.
//! 2. Timestamp, snapshot and the lists of targets, those of delegated roles included: signed to threshold by distinct
//!    keys, not expired (freeze), not older than what this site has seen before (rollback), and of one piece (mix and
//!    match).
//! 3. Every target path in our folders is parsed into kind, id and version, or the refresh fails, and is listed as the role
//!    lists it that may speak for it.
//! 4. A target is fetched within its signed length, checked against its signed hash, decoded strictly, and its content
//!    says the id and version that its path says. Only then is there a [`Trusted`] value.
//!
//! What fails, fails the whole refresh, and what the agent had before stays as it was; but versions that were verified on
//! the way stay seen.

mod cache;
mod client;
mod error;
mod failpoint;
mod floor;
mod installed;
mod registry;
mod source;
mod store;
mod trusted;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sigstore_tuf::UpdaterConfig;

pub use client::{Client, Refreshed};
pub use error::TrustError;
pub use floor::Floor;
pub use installed::InstalledModules;
pub use registry::Registry;
pub use source::{Fetcher, RegistrySource, RegistrySourceError};
pub use store::{Documents, Known, LastGood, Loaded, Notice, Store};
pub use trusted::{Published, Trusted, TrustedModule};

use cache::TargetCache;
use failpoint::failpoint;
use floor::ClockJudged;

/// How much a registry may send, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustLimits {
    /// One root, bytes.
    pub root_bytes_max: u64,
    /// The timestamp, bytes.
    pub timestamp_bytes_max: u64,
    /// The snapshot or one list of targets, bytes.
    pub metadata_bytes_max: u64,
    /// All metadata of a registry, bytes.
    pub metadata_total_bytes_max: u64,
    /// Delegated lists, of one role or on the way to one target.
    pub roles_max: usize,
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
            root_bytes_max: 512 << 10,
            timestamp_bytes_max: 16 << 10,
            metadata_bytes_max: 4 << 20,
            metadata_total_bytes_max: 16 << 20,
            roles_max: 32,
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
    /// The usual limits, but for how long one answer may take, seconds.
    pub fn within_s(answer_timeout_s: u64) -> Self {
        let usual = Self::default();
        Self {
            answer_timeout_s,
            connect_timeout_s: usual.connect_timeout_s.min(answer_timeout_s),
            read_timeout_s: usual.read_timeout_s.min(answer_timeout_s),
            ..usual
        }
    }

    fn download_config(&self) -> UpdaterConfig {
        let mut config = UpdaterConfig::default();
        config.target_max_length = self.text_bytes_max.max(self.component_bytes_max);
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
    store: Store,
    cache: TargetCache,
    limits: TrustLimits,
    runtime: Arc<tokio::runtime::Runtime>,
}

impl Trust {
    /// Opens a registry. Nothing is fetched yet.
    ///
    /// `pinned_root` is the `root.json` that the practice got from the publishing team at installation; `store_dir`
    /// belongs to this crate alone.
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
        Self::open_with(source, Fetcher::given(Arc::new(proposed)), pinned_root, store_dir, limits)
    }

    fn open_with(
        source: &RegistrySource,
        fetcher: Fetcher,
        pinned_root: &[u8],
        store_dir: &Path,
        limits: TrustLimits,
    ) -> Result<Self, TrustError> {
        client::pinned(pinned_root)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| TrustError::Start { why: error.to_string() })?;
        Ok(Self {
            source: source.clone(),
            fetcher,
            pinned_root: pinned_root.to_vec(),
            store: Store::open(store_dir, &limits)?,
            cache: TargetCache::open(store_dir.join(store::TARGETS_FOLDER))?,
            limits,
            runtime: Arc::new(runtime),
        })
    }

    /// Asks the registry what is current, as of `now`.
    ///
    /// What a refresh verified is kept also where it then fails: a version that was seen stays seen.
    pub fn refresh(&self, now: Timestamp) -> Result<Registry, TrustError> {
        self.refresh_and(now, |_| Ok(())).map(|(registry, ())| registry)
    }

    /// The same for a caller that needs some of the registry's targets: `fetch` gets them, and only then does this
    /// refresh take the place of the last known one. So a registry that lists what it does not hold leaves the site with
    /// what it had.
    pub fn refresh_and<T, E: From<TrustError>>(
        &self,
        now: Timestamp,
        fetch: impl FnOnce(&Registry) -> Result<T, E>,
    ) -> Result<(Registry, T), E> {
        let Loaded { known, floor, mut notices } = self.store.load(&self.pinned_root)?;
        // 1. What this site knew, verified again; what does not verify is fetched again, above the same floor.
        let mut client = match self.client(self.fetcher.clone(), known.documents.clone(), floor.clone()) {
            Err(TrustError::LastKnown { why }) => {
                notices.push(Notice::Rebuilt { why });
                self.client(self.fetcher.clone(), Documents::default(), floor)?
            }
            client => client?,
        };
        // 2. The specification's workflow, and the lists of all delegated roles.
        failpoint("trust.before-fetch");
        let refreshed = self.runtime.block_on(async {
            client.refresh(now).await?;
            client.load_delegated(now).await
        });
        failpoint("trust.fetched");
        if let Err(error) = refreshed {
            self.store
                .save(&Known::partial(known, client.documents().clone()), client.floor())
                .map_err(TrustError::from)?;
            return Err(error.into());
        }
        // 3. Whether the clock can be believed.
        match client.judge_clock(now) {
            ClockJudged::Forward => {}
            ClockJudged::WasWrong { stood_at } => notices.push(Notice::ClockWasWrong { stood_at, now }),
            ClockJudged::Unsettled { stood_at } => notices.push(Notice::ClockWentBack { stood_at, now }),
        }
        // 4. Every path in our folders, or none.
        let (documents, floor) = (client.documents().clone(), client.floor().clone());
        let registry = self.registry(client, now)?.noticing(notices);
        // 5. Everything that the caller needs of it. What was verified is on the disk before the first target: a site that is
        // switched off during its first refresh would otherwise look like one that lost what it knew.
        let verified = Known::partial(known, documents.clone());
        self.store.save(&verified, &floor).map_err(TrustError::from)?;
        let fetched = fetch(&registry)?;
        failpoint("trust.targets-fetched");
        self.store.save(&Known::good(documents, now), &floor).map_err(TrustError::from)?;
        failpoint("trust.saved");
        self.cache.keep_only(&registry.digests()).map_err(TrustError::from)?;
        Ok((registry, fetched))
    }

    /// What the last successful refresh found, without asking the registry: for a site that is offline, or whose
    /// registry has expired. `None` where there never was one.
    ///
    /// Everything is verified again from the pinned root, as of the time of that refresh; targets come from this
    /// site's disk only. Nothing new may be installed from it: what was approved goes on until its own last day.
    pub fn last_known(&self) -> Result<Option<Registry>, TrustError> {
        let Loaded { known, notices, .. } = self.store.load(&self.pinned_root)?;
        let Some((documents, at)) = known.good_documents() else {
            // Never refreshed, or lost: the difference is worth an error, because it says what to do.
            return match notices.into_iter().find(|notice| matches!(notice, Notice::Rebuilt { .. })) {
                Some(Notice::Rebuilt { why }) => Err(TrustError::LastKnown { why }),
                _ => Ok(None),
            };
        };
        let mut client = self.client(Fetcher::nowhere(), documents, Floor::of(&self.pinned_root))?;
        if !client.is_whole(at) {
            return Err(TrustError::LastKnown { why: "its parts do not belong together".to_owned() });
        }
        // What its signers vouched for then has passed, whatever the clock says now.
        client.pass();
        Ok(Some(self.registry(client, at)?.last_known().noticing(notices)))
    }

    fn client(&self, fetcher: Fetcher, known: Documents, floor: Floor) -> Result<Client, TrustError> {
        Client::new(fetcher, &self.source, &self.pinned_root, known, floor, self.limits)
    }

    fn registry(&self, client: Client, now: Timestamp) -> Result<Registry, TrustError> {
        Registry::listed(client, self.cache.clone(), Arc::clone(&self.runtime), self.limits, now)
    }
}

#[cfg(test)]
mod tests;
