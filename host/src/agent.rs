//! The agent as its commands use it: opens what a command needs, and does whole jobs.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockgate_durable::key_file::{self, KeyFileError};
use lockgate_durable::{FileError, at};
use lockgate_signing::ids::{Name, Period};
use lockgate_signing::keys::{KeyError, PublicKey, SigningKey};
use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::token_keys::TokenKeys;

use crate::config::Config;
use crate::guest::{GuestEngine, GuestError, HostLimits};
use crate::identity::{Tokens, TokensError};
use crate::ledger::{Event, Ledger, LedgerError};
use crate::linker_client::{LinkerClient, LinkerError};
use crate::outbox::{Outbox, OutboxError};
use crate::progress::Progress;
use crate::push::{Acknowledged, Push, PushError};
use crate::run::{self, MadeBundle, Now, PreviewedBundle, RunError, Signed, Site};
use lockgate_trust::{
    Registry, RegistrySource, RegistrySourceError, Trust, TrustError, TrustLimits, Trusted,
};

/// A job could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not enrolled, or its key is gone.
    #[error("this site has no key yet: {0}; run `lockgate-agent enrol --token-file FILE` first")]
    NotEnrolled(KeyFileError),
    /// The linker's pinned key.
    #[error("{path}: {source}; run `lockgate-agent enrol` again with a new token")]
    LinkerKey {
        /// The file.
        path: PathBuf,
        /// Why it is not a key.
        source: KeyError,
    },
    /// Tokens cannot be made.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// Another agent works on the same state.
    #[error("another agent is running on {}; wait until it is done", .0.display())]
    Busy(PathBuf),
    /// The registry's address.
    #[error(transparent)]
    RegistrySource(#[from] RegistrySourceError),
    /// The registry.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Something that the configuration names is not published.
    #[error("the registry publishes no {what} `{name}`; check the configuration, or ask the publishing team")]
    NotPublished {
        /// What.
        what: &'static str,
        /// Its name.
        name: Name,
    },
    /// The engine.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The linker.
    #[error(transparent)]
    Linker(#[from] LinkerError),
    /// Pushing.
    #[error(transparent)]
    Push(#[from] PushError),
}

/// An agent whose state folder is open and locked.
#[derive(Debug)]
pub struct Agent {
    /// The configuration.
    pub config: Config,
    /// The outbox.
    pub outbox: Outbox,
    /// The ledger.
    pub ledger: Ledger,
    /// The site's key.
    pub key: SigningKey,
    tokens: Tokens,
    progress: Progress,
    _lock: File,
}

/// What became of one module.
#[derive(Debug)]
pub struct ModuleOutcome {
    /// The module.
    pub module: Name,
    /// Its bundles, or why there are none.
    pub result: Result<Vec<MadeBundle>, AgentError>,
}

/// Signed things that a run needs besides the module.
struct Common {
    mapping: Arc<Trusted<Mapping>>,
    policy: Arc<Trusted<ObjectionPolicy>>,
    sensitive: Arc<Trusted<SensitiveCodes>>,
}

impl Agent {
    /// Opens the state folder, and finishes what a crash left unfinished.
    pub fn open(config: Config, progress: Progress, now: Now) -> Result<Self, AgentError> {
        lockgate_durable::create_private_dir(&config.state_dir)?;
        let lock = lock(&config.state_dir)?;
        for folder in ["", "receipts", "trust", "trust/metadata", "trust/targets"] {
            lockgate_durable::sweep(&config.state_dir.join(folder))?;
        }
        let key = key_file::load(&config.key_path()).map_err(AgentError::NotEnrolled)?;
        let tokens = Tokens::open(&config)?;
        let outbox = Outbox::open(&config.state_dir)?;
        let mut ledger = Ledger::open(&config.state_dir.join("ledger.jsonl"))?;
        run::recover(&outbox, &mut ledger, &key, &tokens, now)?;
        Ok(Self { config, outbox, ledger, key, tokens, progress, _lock: lock })
    }

    /// Runs every module that is due, or one. A module that fails does not stop the next.
    pub fn run(&mut self, only: Option<&Name>, now: Now) -> Result<Vec<ModuleOutcome>, AgentError> {
        let registry = self.registry(now)?;
        let common = self.common(&registry)?;
        let engine = GuestEngine::new(HostLimits::default())?;
        let mut outcomes = Vec::new();
        for module in self.modules(&registry, only)? {
            let result = self.run_module(&registry, &common, &engine, &module, now);
            if let Err(error) = &result {
                // As after a crash: what is half-made goes, and what is queued is in the ledger before anything follows it.
                self.outbox.sweep()?;
                run::recover(&self.outbox, &mut self.ledger, &self.key, &self.tokens, now)?;
                let version = registry.latest_modules().get(&module).map(|version| (*version).clone());
                let version = version.unwrap_or(semver::Version::new(0, 0, 0));
                tracing::warn!(%module, "{error}");
                let failed = Event::Failed { module: module.clone(), version, why: error.to_string() };
                self.ledger.append(now.at, failed)?;
            }
            outcomes.push(ModuleOutcome { module, result });
        }
        Ok(outcomes)
    }

    fn run_module(
        &mut self,
        registry: &Registry,
        common: &Common,
        engine: &GuestEngine,
        module: &Name,
        now: Now,
    ) -> Result<Vec<MadeBundle>, AgentError> {
        let signed = common.with(registry, module)?;
        let site = Site {
            config: &self.config,
            key: &self.key,
            tokens: &self.tokens,
            engine,
            progress: &self.progress,
        };
        Ok(run::run(&site, &signed, now, &self.outbox, &mut self.ledger)?)
    }

    /// Runs one module on one period and keeps nothing.
    pub fn preview(
        &self,
        module: &Name,
        period: Option<Period>,
        now: Now,
    ) -> Result<PreviewedBundle, AgentError> {
        let registry = self.registry(now)?;
        let signed = self.common(&registry)?.with(&registry, module)?;
        let engine = &GuestEngine::new(HostLimits::default())?;
        let site = Site {
            config: &self.config,
            key: &self.key,
            tokens: &self.tokens,
            engine,
            progress: &self.progress,
        };
        Ok(run::preview(&site, &signed, now, &self.ledger, period)?)
    }

    /// Sends what is queued.
    pub fn push(&mut self, now: Now, acknowledged: impl FnMut(Acknowledged)) -> Result<(), AgentError> {
        if self.outbox.queued(&self.key.public())?.is_empty() {
            return Ok(());
        }
        let client = LinkerClient::new(&self.config.linker.url)?;
        let linker_key = self.linker_key()?;
        let push = Push {
            client: &client,
            linker_key: &linker_key,
            site_key: &self.key,
            give_up: Duration::from_secs(self.config.linker.give_up_s),
        };
        Ok(push.all(&self.outbox, &mut self.ledger, now.at, acknowledged)?)
    }

    fn linker_key(&self) -> Result<PublicKey, AgentError> {
        let path = self.config.linker_key_path();
        let pem = std::fs::read_to_string(&path).map_err(at("read", &path))?;
        PublicKey::from_pem(&pem).map_err(|source| AgentError::LinkerKey { path, source })
    }

    /// What is published now; what was published when the registry last answered, where it does not answer.
    fn registry(&self, now: Now) -> Result<Registry, AgentError> {
        let source: RegistrySource = self.config.registry.location.parse()?;
        let root =
            std::fs::read(&self.config.registry.root).map_err(at("read", &self.config.registry.root))?;
        let trust =
            Trust::open(&source, &root, &self.config.state_dir.join("trust"), TrustLimits::default())?;
        match trust.refresh(now.at) {
            Ok(registry) => Ok(registry),
            Err(error) if error.leaves_last_known() => match trust.last_known()? {
                Some(registry) => {
                    tracing::warn!("{error}; going on with what was published on {}", registry.as_of());
                    Ok(registry)
                }
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn common(&self, registry: &Registry) -> Result<Common, AgentError> {
        let (mapping, config) = (&self.config.database.mapping, &self.config.registry);
        let missing = |what, name: &Name| AgentError::NotPublished { what, name: name.clone() };
        Ok(Common {
            mapping: Arc::new(registry.fetch_latest(mapping)?.ok_or_else(|| missing("mapping", mapping))?),
            policy: Arc::new(
                registry
                    .fetch_latest(&config.policy)?
                    .ok_or_else(|| missing("objection policy", &config.policy))?,
            ),
            sensitive: Arc::new(
                registry
                    .fetch_latest(&config.sensitive)?
                    .ok_or_else(|| missing("sensitive-code list", &config.sensitive))?,
            ),
        })
    }

    /// The modules to run: those of the configuration, or all that are published for this kind of site.
    fn modules(&self, registry: &Registry, only: Option<&Name>) -> Result<Vec<Name>, AgentError> {
        let published = registry.latest_modules();
        let wanted = match (only, &self.config.modules) {
            (Some(only), _) => vec![only.clone()],
            (None, Some(named)) => named.clone(),
            (None, None) => {
                let mut fitting = Vec::new();
                for (id, version) in published {
                    if registry.fetch::<Manifest>(id, version)?.value().sites == self.config.kind {
                        fitting.push(id.clone());
                    }
                }
                return Ok(fitting);
            }
        };
        match wanted.iter().find(|name| !published.contains_key(name)) {
            Some(name) => Err(AgentError::NotPublished { what: "module", name: name.clone() }),
            None => Ok(wanted),
        }
    }
}

impl Common {
    fn with(&self, registry: &Registry, module: &Name) -> Result<Signed, AgentError> {
        let missing = || AgentError::NotPublished { what: "module", name: module.clone() };
        let version = registry.latest_modules().get(module).map(|version| (*version).clone());
        let module = registry.fetch_module(module, &version.ok_or_else(missing)?)?;
        let token_keys = registry.fetch_latest::<TokenKeys>(&module.manifest().value().purpose)?;
        Ok(Signed {
            module,
            token_keys: token_keys.map(Arc::new),
            mapping: Arc::clone(&self.mapping),
            policy: Arc::clone(&self.policy),
            sensitive: Arc::clone(&self.sensitive),
            directions: Vec::new(),
        })
    }
}

/// One agent at a time works on a state folder; the lock goes with the process.
pub(crate) fn lock(state: &Path) -> Result<File, AgentError> {
    let path = state.join("lock");
    let file = File::create(&path).map_err(at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AgentError::Busy(state.to_owned())),
        Err(TryLockError::Error(error)) => Err(at("lock", &path)(error).into()),
    }
}
