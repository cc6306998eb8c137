//! The agent as its commands use it: opens what a command needs, and does whole jobs.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate_durable::key_file::{self, KeyFileError};
use lockgate_durable::{FileError, at};
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::{Name, Period};
use lockgate_signing::keys::{KeyError, PublicKey, SigningKey};

use crate::config::Config;
use crate::guest::{GuestEngine, GuestError, HostLimits};
use crate::identity::{Tokens, TokensError};
use crate::ledger::{Event, Ledger, LedgerError};
use crate::linker_client::{LinkerClient, LinkerError};
use crate::modules::standing::Standing;
use crate::modules::{Modules, ModulesError, View};
use crate::observed::{Ended, Failure, Observed};
use crate::outbox::{Outbox, OutboxError};
use crate::progress::Progress;
use crate::push::{Acknowledged, Push, PushError};
use crate::run::{self, Authority, Held, MadeBundle, Now, PreviewedBundle, RunError, Signed, Site};
use lockgate_trust::TrustedModule;
use semver::Version;

/// A job could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not enrolled, or its key is gone.
    #[error("this site has no key yet ({} is not there); run `lockgate-agent enrol --token-file FILE` first", .0.display())]
    NotEnrolled(PathBuf),
    /// The site's key cannot be used.
    #[error("the site's key: {0}")]
    Key(#[from] KeyFileError),
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
    /// What the registry offers, or what this site decided.
    #[error(transparent)]
    Modules(#[from] ModulesError),
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
    modules: Modules,
    progress: Progress,
    _lock: File,
}

/// What became of one module.
#[derive(Debug)]
pub struct ModuleOutcome {
    /// The module.
    pub module: Name,
    /// The version that is installed, or the one that is offered.
    pub version: Version,
    /// A newer version that waits for a person.
    pub waiting: Option<Version>,
    /// Its bundles: also where it failed in a later month. None: nothing was due, or nothing is sent.
    pub made: Vec<MadeBundle>,
    /// How its turn ended.
    pub result: Result<Ran, AgentError>,
}

/// How a module's turn ended, where nothing failed.
#[derive(Debug)]
#[must_use]
pub enum Ran {
    /// It ran.
    Whole,
    /// It does not run here.
    Not(Standing),
}

impl ModuleOutcome {
    /// Whether this is for somebody to look at: it failed, or its last day is over. Held, waiting and refused are how
    /// things are meant to be.
    pub fn is_failure(&self) -> bool {
        matches!(&self.result, Err(_) | Ok(Ran::Not(Standing::Expired(_) | Standing::Damaged(_))))
    }

    fn why(&self) -> Option<String> {
        match &self.result {
            Err(error) => Some(error.to_string()),
            Ok(Ran::Not(standing)) if self.is_failure() => {
                Some(format!("{} {} {}", self.module, self.version, standing.sentence(&self.module)))
            }
            Ok(_) => None,
        }
    }
}

impl Agent {
    /// Opens the state folder, and finishes what a crash left unfinished.
    pub fn open(config: Config, progress: Progress, now: Now) -> Result<Self, AgentError> {
        lockgate_durable::create_private_dir(&config.state_dir)?;
        let lock = lock(&config.state_dir)?;
        lockgate_durable::create_private_dir(&config.state_dir.join("deletions"))?;
        for folder in ["", "receipts", "deletions", "modules", "trust", "trust/targets"] {
            lockgate_durable::sweep(&config.state_dir.join(folder))?;
        }
        let key = site_key(&config)?;
        let tokens = Tokens::open(&config)?;
        let outbox = Outbox::open(&config.state_dir)?;
        let mut ledger = Ledger::of_site(&config)?;
        run::recover(&outbox, &mut ledger, &key, now)?;
        let modules = Modules::open(&config)?;
        Ok(Self { config, outbox, ledger, key, tokens, modules, progress, _lock: lock })
    }

    /// Refreshes, then runs every module that is installed, or one. A module that fails does not stop the next, unless it is
    /// the objection evidence that it failed by. What they made is queued when all have read.
    pub fn run(&mut self, only: Option<&Name>, now: Now) -> Result<Vec<ModuleOutcome>, AgentError> {
        let view = refresh_or_last_known(&self.modules, &self.config, &mut self.ledger, now)?;
        if let Some(only) = only.filter(|only| view.standing(only).is_none()) {
            return Err(ModulesError::UnknownModule(only.clone()).into());
        }
        if view.standings.iter().any(|it| matches!(it.standing, Standing::Installed)) {
            // A database that is not there is one error, and not one of each module.
            run::open_database(&self.config)?;
        }
        let engine = GuestEngine::new(HostLimits::default())?;
        let mut outcomes: Vec<ModuleOutcome> = Vec::new();
        let mut held = Held::default();
        let mut doubted = None;
        for standing in view.standings.iter().filter(|it| only.is_none_or(|only| *only == it.module)) {
            // The installed version comes first; what follows it is a newer one.
            if let Some(last) = outcomes.last_mut().filter(|last| last.module == standing.module) {
                if matches!(standing.standing, Standing::Waiting(_)) {
                    last.waiting = Some(standing.version.clone());
                }
                continue;
            }
            let module = &standing.module;
            let mut made = Vec::new();
            let result = match (&standing.standing, &doubted) {
                (Standing::Installed, Some(by)) => Err(RunError::EvidenceInDoubt(Name::clone(by)).into()),
                (Standing::Installed, None) => {
                    self.run_module(&view, &engine, module, now, &mut held, &mut made).map(|()| Ran::Whole)
                }
                (other, _) => Ok(Ran::Not(other.clone())),
            };
            if let Err(AgentError::Run(error)) = &result
                && doubted.is_none()
                && error.is_of_evidence()
            {
                doubted = Some(module.clone());
            }
            let (module, version) = (module.clone(), standing.version.clone());
            outcomes.push(ModuleOutcome { module, version, waiting: None, made, result });
        }
        if doubted.is_none() {
            self.retract_without_run(&view, &engine, only, &mut outcomes, &mut held, now)?;
        }
        self.queue(held, doubted.as_ref(), &mut outcomes, now)?;
        for outcome in &outcomes {
            if let Err(error) = &outcome.result {
                self.note_failure(outcome, error, now)?;
            }
        }
        let failed = outcomes.iter().filter_map(|it| {
            Some(Failure { module: Some(it.module.clone()), why: it.why()?, passing: false })
        });
        let ended = Ended { at: now.at, failed: failed.collect(), noticed: Vec::new() };
        Observed::note(&self.config.state_dir, |observed| observed.run = Some(ended))?;
        Ok(outcomes)
    }

    /// Whoever was sent by a module that did not run now, and may not be seen any more, is retracted all the same.
    fn retract_without_run(
        &mut self,
        view: &View,
        engine: &GuestEngine,
        only: Option<&Name>,
        outcomes: &mut [ModuleOutcome],
        held: &mut Held,
        now: Now,
    ) -> Result<(), AgentError> {
        let published = &view.published;
        for of in self.tokens.recorded()? {
            // Whether or not the module failed after that.
            if held.has_record_of(&of) || only.is_some_and(|only| *only != of.module) {
                continue;
            }
            let directions = view.directions_of(&of.module);
            let authority = Authority {
                mapping: &published.mapping,
                policy: &published.policy,
                sensitive: &published.sensitive,
                recipients: &published.recipients,
                token_keys: published.token_keys.get(&of.purpose).map(|keys| &**keys),
                directions: &directions,
            };
            let retracted = run::retract_without_run(
                &self.site(engine),
                authority,
                &of,
                now,
                &self.outbox,
                &self.ledger,
                held,
            );
            let Err(error) = retracted else { continue };
            match outcomes.iter_mut().find(|it| it.module == of.module) {
                Some(outcome) if outcome.result.is_ok() => outcome.result = Err(error.into()),
                // What the module failed by is told as its failure.
                Some(outcome) if outcome.why().is_some_and(|why| why == error.to_string()) => {}
                _ => tracing::warn!(module = %of.module, "{error}"),
            }
        }
        Ok(())
    }

    /// Queues what the modules made, or nothing of it where the objection evidence is in doubt.
    fn queue(
        &mut self,
        mut held: Held,
        doubted: Option<&Name>,
        outcomes: &mut [ModuleOutcome],
        now: Now,
    ) -> Result<(), AgentError> {
        if let Some(by) = doubted {
            for outcome in outcomes {
                let had_made = !std::mem::take(&mut outcome.made).is_empty();
                if had_made && outcome.result.is_ok() {
                    outcome.result = Err(RunError::EvidenceInDoubt(by.clone()).into());
                }
            }
            return Ok(held.discard()?);
        }
        let queued = held.queue(&self.outbox, &mut self.ledger, &self.key, now);
        let Err(error) = queued else { return Ok(()) };
        // As after a crash: what is queued is in the ledger before anything follows it, and what is not queued goes.
        let Some(first) = held.modules().next().cloned() else { return Err(error.into()) };
        let mut error = Some(error);
        for outcome in outcomes.iter_mut().filter(|it| held.modules().any(|module| *module == it.module)) {
            outcome.made.retain(|it| it.id.is_none_or(|id| !held.has(id)));
            let own = error.take_if(|_| outcome.module == first);
            outcome.result = Err(own.unwrap_or_else(|| RunError::NotQueued(first.clone())).into());
        }
        self.outbox.sweep()?;
        Ok(run::recover(&self.outbox, &mut self.ledger, &self.key, now)?)
    }

    fn site<'a>(&'a self, engine: &'a GuestEngine) -> Site<'a> {
        let Self { config, key, tokens, progress, .. } = self;
        Site { config, key, tokens, engine, progress }
    }

    fn note_failure(
        &mut self,
        outcome: &ModuleOutcome,
        error: &AgentError,
        now: Now,
    ) -> Result<(), AgentError> {
        tracing::warn!(module = %outcome.module, "{error}");
        let (module, version) = (outcome.module.clone(), outcome.version.clone());
        Ok(self.ledger.append(now.at, Event::Failed { module, version, why: error.to_string() })?)
    }

    fn run_module(
        &mut self,
        view: &View,
        engine: &GuestEngine,
        module: &Name,
        now: Now,
        held: &mut Held,
        made: &mut Vec<MadeBundle>,
    ) -> Result<(), AgentError> {
        let unknown = || ModulesError::UnknownModule(module.clone());
        let installed = view.decisions.installed(module).ok_or_else(unknown)?;
        let signed = signed(view, self.modules.load(module, installed)?, Some(installed.rollout));
        Ok(run::run(&self.site(engine), &signed, now, &self.outbox, &self.ledger, held, made)?)
    }

    /// Runs one module on one period and keeps nothing: the version that is installed, or else the one that is offered, or
    /// the one that is named. So a site sees what would leave before it approves anything, and on which day it likes: what
    /// the registry answers to that is forgotten.
    pub fn preview(
        &self,
        module: &Name,
        version: Option<&Version>,
        period: Option<Period>,
        now: Now,
    ) -> Result<PreviewedBundle, AgentError> {
        let modules = Modules::open_copy(&self.config)?;
        let view = modules.look(self.ledger.entries(), now)?;
        let previewed = modules.to_preview(&view, module, version)?;
        let signed = signed(&view, previewed, view.rollout(module));
        let engine = &GuestEngine::new(HostLimits::default())?;
        Ok(run::preview(&self.site(engine), &signed, now, &self.ledger, period)?)
    }

    /// Sends what is queued.
    pub fn push(&mut self, now: Now, acknowledged: impl FnMut(Acknowledged)) -> Result<(), AgentError> {
        let waiting = !self.outbox.queued(&self.key.public())?.is_empty();
        let deletions = !self.ledger.retractions_open().is_empty();
        if !waiting && !deletions {
            return Ok(());
        }
        let client = LinkerClient::new(&self.config.linker.url)?;
        let linker_key = self.linker_key()?;
        let push = Push {
            client: &client,
            linker_key: &linker_key,
            site: &self.config.site,
            site_key: &self.key,
            give_up: Duration::from_secs(self.config.linker.give_up_s),
        };
        let mut pushed = push.all(&self.outbox, &mut self.ledger, now.at, acknowledged);
        if pushed.is_ok() && deletions {
            let known = self.modules.last_known(self.ledger.entries(), now.today)?;
            let recipients = known.published.recipients.value();
            let folder = self.config.state_dir.join("deletions");
            pushed = push.deletions(&mut self.ledger, &folder, recipients, now.at);
        }
        let failed = pushed.as_ref().err().map(|error| Failure {
            module: None,
            why: error.to_string(),
            passing: error.is_passing(),
        });
        let ended = Ended { at: now.at, failed: failed.into_iter().collect(), noticed: Vec::new() };
        Observed::note(&self.config.state_dir, |observed| observed.push = Some(ended))?;
        Ok(pushed?)
    }

    fn linker_key(&self) -> Result<PublicKey, AgentError> {
        let path = self.config.linker_key_path();
        let pem = std::fs::read_to_string(&path).map_err(at("read", &path))?;
        PublicKey::from_pem(&pem).map_err(|source| AgentError::LinkerKey { path, source })
    }
}

/// The site's signing key.
pub fn site_key(config: &Config) -> Result<SigningKey, AgentError> {
    let path = config.key_path();
    if path.exists() { Ok(key_file::load(&path)?) } else { Err(AgentError::NotEnrolled(path)) }
}

/// Writes down that a run came to nothing, for `status`.
pub fn observe_failed_run(config: &Config, now: Now, error: &AgentError) -> Result<(), FileError> {
    let failure = Failure { module: None, why: error.to_string(), passing: false };
    let ended = Ended { at: now.at, failed: vec![failure], noticed: Vec::new() };
    Observed::note(&config.state_dir, |observed| observed.run = Some(ended))
}

/// Asks the registry, and writes down how that went.
pub fn refresh(
    modules: &Modules,
    config: &Config,
    ledger: &mut Ledger,
    now: Now,
) -> Result<View, AgentError> {
    let refreshed = modules.refresh(ledger, now);
    observe_refresh(config, now, &refreshed)?;
    Ok(refreshed?)
}

/// The same, but with what was published when the registry last answered, where it does not answer now, or says something
/// that nobody may believe.
pub fn refresh_or_last_known(
    modules: &Modules,
    config: &Config,
    ledger: &mut Ledger,
    now: Now,
) -> Result<View, AgentError> {
    let current = modules.current(ledger, now);
    observe_refresh(config, now, &current)?;
    Ok(current?)
}

fn observe_refresh(config: &Config, now: Now, found: &Result<View, ModulesError>) -> Result<(), FileError> {
    let (failed, noticed) = match found {
        Ok(view) => (view.failed.as_ref(), view.noticed.clone()),
        Err(error) => (Some(error), Vec::new()),
    };
    let failed =
        failed.map(|error| Failure { module: None, why: error.to_string(), passing: error.is_passing() });
    let ended = Ended { at: now.at, failed: failed.into_iter().collect(), noticed };
    Observed::note(&config.state_dir, |observed| observed.refresh = Some(ended))
}

fn signed(view: &View, module: TrustedModule, rollout: Option<Digest>) -> Signed {
    let published = &view.published;
    let token_keys = published.token_keys.get(&module.manifest().value().purpose);
    Signed {
        directions: view.directions_of(&module.manifest().value().id),
        module,
        rollout,
        mapping: Arc::clone(&published.mapping),
        policy: Arc::clone(&published.policy),
        sensitive: Arc::clone(&published.sensitive),
        recipients: Arc::clone(&published.recipients),
        token_keys: token_keys.map(Arc::clone),
    }
}

/// How long a command waits for another that works on the same state.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// One agent at a time works on a state folder; the lock goes with the process.
pub(crate) fn lock(state: &Path) -> Result<File, AgentError> {
    let path = state.join("lock");
    let file = File::create(&path).map_err(at("create", &path))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A service's refresh takes a moment; a person's command waits for it, and not for a whole run.
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(AgentError::Busy(state.to_owned())),
            Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error).into()),
        }
    }
}
