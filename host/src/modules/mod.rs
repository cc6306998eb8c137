//! Which modules run at this site: what the registry offers, what the site decided, and what follows from both.
//!
//! 1. [`published`]: what the registry says to this site: rollouts, holds, directions, policy.
//! 2. [`decisions`]: what this site decided, read from its ledger: installed, refused, revoked for ever, directions answered.
//! 3. [`standing`]: the two together, as of a day ([`today`]): what runs, what waits for a person, and what must not run.
//!
//! Nothing is installed from a registry that cannot be asked: what is installed goes on to its own last day. The ledger is
//! the only record of decisions, and is on stable storage before anything follows from one.

pub mod decisions;
pub mod published;
pub mod standing;
pub mod today;

use std::path::Path;

use jiff::civil::Date;
use lockgate_durable::{FileError, at};
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::Direction;
use lockgate_signing::ids::Name;
use lockgate_signing::scope::Widening;
use lockgate_trust::{
    InstalledModules, Notice, Registry, RegistrySource, RegistrySourceError, Trust, TrustError, TrustLimits,
    Trusted, TrustedModule,
};
use semver::Version;
use tempfile::TempDir;

use crate::config::Config;
use crate::failpoint::failpoint;
use crate::ledger::{Approval, Entry, Event, Ledger, LedgerError};
use crate::run::Now;
use decisions::{Decisions, Installed};
use published::{Offer, Published};
use standing::{ModuleStanding, Standing};
use today::Today;

/// Something about a module cannot be decided or done.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The registry's address.
    #[error(transparent)]
    RegistrySource(#[from] RegistrySourceError),
    /// The registry.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Never asked, and asking fails.
    #[error("this site has never reached its registry; run `lockgate-agent refresh`")]
    NeverRefreshed,
    /// Asked before, and what it said is gone.
    #[error(
        "what this site knew of its registry is lost, and the registry has not answered since; run `lockgate-agent refresh`"
    )]
    Lost,
    /// The same, said of a refresh that fails.
    #[error("{0}; and what this site knew of its registry is lost, so nothing runs here until it answers")]
    Alone(Box<Self>),
    /// Something that the configuration names is not published.
    #[error("the registry publishes no {what} `{name}`; check the configuration, or ask the publishing team")]
    NotPublished {
        /// What.
        what: &'static str,
        /// Its name.
        name: Name,
    },
    /// A registry without holds could hide one.
    #[error(
        "the registry publishes no list of holds, not even an empty one, so nobody knows what must not run; nothing was \
         changed; tell the publishing team"
    )]
    NoHolds,
    /// A module that this site has nothing to do with.
    #[error("no module `{0}` is installed or offered here; `lockgate-agent modules` lists those that are")]
    UnknownModule(Name),
    /// A version that is not offered.
    #[error("{module} {version} is not offered to this site; offered: {offered}")]
    NotOffered {
        /// The module.
        module: Name,
        /// The version that was asked for.
        version: Version,
        /// What is offered in its place, for people.
        offered: String,
    },
    /// Nothing to approve.
    #[error("{module} {version} is installed already, and nothing newer is offered to this site")]
    AlreadyInstalled {
        /// The module.
        module: Name,
        /// Its version.
        version: Version,
    },
    /// The module cannot run.
    #[error("{module} {version} does not run here: {why}")]
    NotRunnable {
        /// The module.
        module: Name,
        /// Its version.
        version: Version,
        /// Why not.
        why: String,
    },
    /// A module changed between what was looked at and what was fetched.
    #[error(
        "{module} {version} is another one than was looked at; nothing was installed; run the command again"
    )]
    Changed {
        /// The module.
        module: Name,
        /// Its version.
        version: Version,
    },
    /// Approving needs the registry.
    #[error(
        "nothing was approved, because the registry cannot be asked now and nothing is installed from an old copy: {0}"
    )]
    NeedsRegistry(Box<Self>),
    /// A clock that went back.
    #[error(
        "nothing was approved, because this computer's clock went back and nobody knows whether what the registry says is \
         current; check the clock. If it is right now, the registry's next signature says so: run the command again then"
    )]
    InDoubt,
    /// A direction that is not for this site.
    #[error(
        "no direction `{0}` is published for this site; `lockgate-agent directions` lists those that are"
    )]
    UnknownDirection(Name),
}

impl ModulesError {
    /// Whether it may pass by itself: the registry does not answer.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Trust(TrustError::Unreachable { .. }) => true,
            Self::Alone(error) => error.is_passing(),
            _ => false,
        }
    }

    /// The same where there is nothing to go on with: what matters is why the registry does not answer, and what is lost.
    fn without(self, known: Self) -> Self {
        if let Self::Lost = known { Self::Alone(Box::new(self)) } else { self }
    }

    /// Whether there is no last known state, or a part of it was never here.
    fn is_of_nothing_here(&self) -> bool {
        matches!(self, Self::NeverRefreshed | Self::Lost | Self::Trust(TrustError::NotHere { .. }))
    }

    /// Whether a site goes on with what it knew: whatever the registry says wrong changes nothing here. What fails on this
    /// computer's own disk, or in its configuration, does.
    fn leaves_last_known(&self) -> bool {
        match self {
            Self::Trust(error) => !matches!(
                error,
                TrustError::PinnedRoot { .. } | TrustError::Start { .. } | TrustError::Store(_) | TrustError::Source(_)
                    // Certain, and what a run writes down would be wrong.
                    | TrustError::ClockBehind { .. }
            ),
            Self::NotPublished { .. } | Self::NoHolds => true,
            _ => false,
        }
    }
}

/// The site's side of the registry, and its installed modules.
#[derive(Debug)]
pub struct Modules {
    config: Config,
    trust: Trust,
    installed: InstalledModules,
    /// Where what is trusted lies, where that is a copy.
    _copy: Option<TempDir>,
}

/// What the registry says and what the site decided, as of a moment.
#[derive(Debug)]
pub struct View {
    /// The registry.
    pub registry: Registry,
    /// What it says to this site.
    pub published: Published,
    /// What the site decided.
    pub decisions: Decisions,
    /// What follows, by module; the installed version before a newer one.
    pub standings: Vec<ModuleStanding>,
    /// The day.
    pub today: Today,
    /// Why the registry could not be asked, where this is the last known one in its place.
    pub failed: Option<ModulesError>,
    /// What a person should know about the copy of the registry and the clock, and that stopped nothing.
    pub noticed: Vec<String>,
}

/// What was installed by an approval.
#[derive(Debug)]
pub struct Approved {
    /// The module.
    pub module: TrustedModule,
    /// The version that ran before.
    pub before: Option<Version>,
    /// What the new one has beyond it; everything, where none ran before.
    pub wider: Vec<Widening>,
}

impl Modules {
    /// Opens the site's side. Nothing is asked yet.
    pub fn open(config: &Config) -> Result<Self, ModulesError> {
        Self::open_over(config, &config.state_dir.join("trust"), None)
    }

    /// Opens it over a copy of what this site trusts: what is asked through it, and as of which day, this site forgets.
    pub fn open_copy(config: &Config) -> Result<Self, ModulesError> {
        let copy = tempfile::tempdir().map_err(at("make a folder in", &std::env::temp_dir()))?;
        let trusted = copy.path().join("trust");
        copy_folder(&config.state_dir.join("trust"), &trusted)?;
        Self::open_over(config, &trusted, Some(copy))
    }

    fn open_over(config: &Config, trusted: &Path, copy: Option<TempDir>) -> Result<Self, ModulesError> {
        let source: RegistrySource = config.registry.location.parse()?;
        let root = std::fs::read(&config.registry.root).map_err(at("read", &config.registry.root))?;
        let limits = TrustLimits::within_s(config.registry.give_up_s);
        Ok(Self {
            config: config.clone(),
            trust: Trust::open(&source, &root, trusted, limits)?,
            installed: InstalledModules::open(&config.state_dir.join("modules"), limits)?,
            _copy: copy,
        })
    }

    /// Asks the registry, remembers what it revokes, and installs what needs no person.
    pub fn refresh(&self, ledger: &mut Ledger, now: Now) -> Result<View, ModulesError> {
        self.ask(ledger, now).map_err(|error| {
            let known = error.leaves_last_known().then(|| self.last_known(ledger.entries(), now.today));
            if let Some(Err(known)) = known { error.without(known) } else { error }
        })
    }

    fn ask(&self, ledger: &mut Ledger, now: Now) -> Result<View, ModulesError> {
        let fetch = |registry: &Registry| Published::read(registry, &self.config);
        let (registry, published) = self.trust.refresh_and::<_, ModulesError>(now.at, fetch)?;
        failpoint("refresh.known");
        for (module, it) in published.unsound.iter().flat_map(|(id, all)| all.iter().map(move |it| (id, it)))
        {
            tracing::warn!(%module, version = %it.version, "is refused: {}", it.why);
        }
        self.remember_revocations(&published, ledger, now)?;
        let mut view = self.view(registry, published, ledger.entries(), now.today);
        for notice in &view.noticed {
            tracing::warn!("{notice}");
        }
        let installed = self.install_what_may_be(&mut view, ledger, now)?;
        if installed {
            let View { registry, mut published, noticed, .. } = view;
            published.problems.retain(|problem| !problem.is_of_site());
            view = View { noticed, ..self.view(registry, published, ledger.entries(), now.today) };
        }
        self.installed.keep_only(view.decisions.installed_files())?;
        Ok(view)
    }

    /// What is known without asking the registry.
    pub fn last_known(&self, entries: &[Entry], today: Date) -> Result<View, ModulesError> {
        let registry = self.trust.last_known()?.ok_or_else(|| match Decisions::of(entries).is_empty() {
            true => ModulesError::NeverRefreshed,
            false => ModulesError::Lost,
        })?;
        let published = Published::read(&registry, &self.config)?;
        Ok(self.view(registry, published, entries, today))
    }

    /// The registry as of now, or the last known one with a warning where it does not answer, or answers wrongly.
    pub fn current(&self, ledger: &mut Ledger, now: Now) -> Result<View, ModulesError> {
        let asked = self.ask(ledger, now);
        self.or_last_known(asked, ledger.entries(), now)
    }

    /// The same for a look at it: nothing is installed, and no decision is written down.
    pub fn look(&self, entries: &[Entry], now: Now) -> Result<View, ModulesError> {
        let fetch = |registry: &Registry| Published::read(registry, &self.config);
        let asked = self.trust.refresh_and::<_, ModulesError>(now.at, fetch);
        let seen = asked.map(|(registry, published)| self.view(registry, published, entries, now.today));
        self.or_last_known(seen, entries, now)
    }

    fn or_last_known(
        &self,
        asked: Result<View, ModulesError>,
        entries: &[Entry],
        now: Now,
    ) -> Result<View, ModulesError> {
        match asked {
            Err(error) if error.leaves_last_known() => match self.last_known(entries, now.today) {
                Ok(view) => {
                    tracing::warn!("{error}; going on with what was published on {}", view.registry.as_of());
                    Ok(View { failed: Some(error), ..view })
                }
                Err(known) if known.is_of_nothing_here() => Err(error.without(known)),
                Err(other) => Err(other),
            },
            result => result,
        }
    }

    /// The version that runs, exactly as it was installed.
    pub fn load(&self, module: &Name, installed: &Installed) -> Result<TrustedModule, ModulesError> {
        Ok(self.installed.module(module, &installed.version, installed.manifest)?)
    }

    /// The module as it runs here, or as it would: the installed version, or the offered one, or the one that is named.
    pub fn to_preview(
        &self,
        view: &View,
        module: &Name,
        version: Option<&Version>,
    ) -> Result<TrustedModule, ModulesError> {
        let installed = view.decisions.installed(module);
        if let Some(installed) = installed.filter(|it| version.is_none_or(|version| it.version == *version)) {
            return self.load(module, installed);
        }
        let offer = view.offer(module, version)?;
        Ok(view.registry.fetch_module(module, &offer.version)?)
    }

    /// Installs an offered version because a person said so.
    pub fn approve(
        &self,
        ledger: &mut Ledger,
        module: &Name,
        version: Option<&Version>,
        now: Now,
    ) -> Result<Approved, ModulesError> {
        let mut view = self.refresh(ledger, now).map_err(|error| match error {
            error @ ModulesError::Ledger(_) => error,
            error => ModulesError::NeedsRegistry(Box::new(error)),
        })?;
        if view.registry.is_offline() {
            return Err(ModulesError::InDoubt);
        }
        let offer = view.offer(module, version)?.clone();
        let installed = view.decisions.installed(module).cloned();
        if let Some(installed) = &installed
            && installed.version == offer.version
            && view.decisions.revocation(module, &offer.version).is_none()
        {
            return Err(ModulesError::AlreadyInstalled { module: module.clone(), version: offer.version });
        }
        let before = installed.as_ref().and_then(|installed| {
            self.installed.manifest(module, &installed.version, installed.manifest).ok()
        });
        let wider = standing::beyond(before.as_ref().map(|before| before.value()), offer.manifest.value());
        let trusted = self.install(&mut view, ledger, module, &offer, Approval::Person, now)?;
        Ok(Approved { module: trusted, before: installed.map(|installed| installed.version), wider })
    }

    /// Writes down that a module, or one version of it, is not to run here.
    pub fn refuse(
        &self,
        ledger: &mut Ledger,
        module: &Name,
        version: Option<Version>,
        now: Now,
    ) -> Result<(), ModulesError> {
        let decisions = Decisions::of(ledger.entries());
        // A site may refuse what it runs whatever the registry says; what it does not run, only if there is such a thing.
        let runs =
            |installed: &Installed| version.as_ref().is_none_or(|version| installed.version == *version);
        if !decisions.installed(module).is_some_and(runs) {
            self.last_known(ledger.entries(), now.today)?.offer(module, version.as_ref())?;
        }
        ledger.append(now.at, Event::Refused { module: module.clone(), version })?;
        self.installed.keep_only(Decisions::of(ledger.entries()).installed_files())?;
        Ok(())
    }

    /// Writes down the answer to a direction. It is to this version: a later one is asked about again.
    pub fn answer(
        &self,
        ledger: &mut Ledger,
        direction: &Name,
        accepted: bool,
        now: Now,
    ) -> Result<Version, ModulesError> {
        let view = self.last_known(ledger.entries(), now.today)?;
        let found = view.published.directions.get(direction);
        let document = found.ok_or_else(|| ModulesError::UnknownDirection(direction.clone()))?;
        let version = document.version().clone();
        let answered = Event::DirectionAnswered {
            direction: direction.clone(),
            version: version.clone(),
            document: document.digest(),
            accepted,
        };
        ledger.append(now.at, answered)?;
        Ok(version)
    }

    fn view(&self, registry: Registry, published: Published, entries: &[Entry], today: Date) -> View {
        let decisions = Decisions::of(entries);
        let manifest = |module: &Name, installed: &Installed| {
            // The whole module, so that a component that is damaged is seen before the day on which it has to run.
            let module = self.installed.module(module, &installed.version, installed.manifest)?;
            Ok(module.manifest().clone())
        };
        let today = Today::new(today, &registry);
        let standings = standing::standings(&self.config, &published, &decisions, manifest, today);
        // That nothing was known is how every site begins; at one that has decided something it was lost.
        let is_told = |notice: &&Notice| **notice != Notice::Began || !decisions.is_empty();
        let noticed = registry.notices().iter().filter(is_told).map(ToString::to_string).collect();
        View { registry, published, decisions, standings, today, failed: None, noticed }
    }

    /// A revocation is for ever, so the site does not depend on its being repeated.
    fn remember_revocations(
        &self,
        published: &Published,
        ledger: &mut Ledger,
        now: Now,
    ) -> Result<(), ModulesError> {
        let known = Decisions::of(ledger.entries());
        for revoked in &published.holds.value().revoked {
            if known.revocation(&revoked.module, &revoked.module_version).is_none() {
                let event = Event::Revoked {
                    module: revoked.module.clone(),
                    version: revoked.module_version.clone(),
                    since: revoked.since,
                    reason: revoked.reason.clone(),
                };
                ledger.append(now.at, event)?;
            }
        }
        Ok(())
    }

    /// Installs what the site's rule lets through; `true` if anything was. A module that cannot be fetched does not stop
    /// the others, and is tried again the next time.
    fn install_what_may_be(
        &self,
        view: &mut View,
        ledger: &mut Ledger,
        now: Now,
    ) -> Result<bool, ModulesError> {
        if view.registry.is_offline() {
            return Ok(false);
        }
        let may_be: Vec<_> = view
            .standings
            .iter()
            .filter_map(|it| match it.standing {
                Standing::Offered(how) => Some((it.module.clone(), it.version.clone(), how)),
                // The same version under another rollout, or whose copy here is damaged.
                _ if it.is_to_be_renewed => Some((it.module.clone(), it.version.clone(), Approval::Renewed)),
                _ => None,
            })
            .collect();
        let mut any = false;
        for (module, version, how) in may_be {
            let Ok(offer) = view.offer(&module, Some(&version)).cloned() else { continue };
            match self.install(view, ledger, &module, &offer, how, now) {
                Ok(_) => any = true,
                Err(error @ (ModulesError::Ledger(_) | ModulesError::File(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(%module, "{error}");
                    view.published
                        .problem(&module, format!("{module} {version} cannot be installed: {error}"));
                }
            }
        }
        Ok(any)
    }

    fn install(
        &self,
        view: &mut View,
        ledger: &mut Ledger,
        module: &Name,
        offer: &Offer,
        how: Approval,
        now: Now,
    ) -> Result<TrustedModule, ModulesError> {
        // 1. Its files, on stable storage. 2. The ledger's line: from here on it runs. A crash in between leaves files that
        // nobody asks for, and the next refresh removes them.
        let trusted = self.installed.keep(&view.registry, module, &offer.version)?;
        if trusted.manifest().digest() != offer.manifest.digest() {
            return Err(ModulesError::Changed { module: module.clone(), version: offer.version.clone() });
        }
        failpoint("install.files-kept");
        let event = Event::Installed {
            module: module.clone(),
            version: offer.version.clone(),
            manifest: trusted.manifest().digest(),
            rollout: offer.rollout,
            until: offer.until,
            how,
        };
        ledger.append(now.at, event)?;
        failpoint("install.in-ledger");
        view.decisions = Decisions::of(ledger.entries());
        Ok(trusted)
    }
}

impl View {
    /// The directions for a module that stand today and that this site accepted: exactly these documents.
    pub fn directions_of(&self, module: &Name) -> Vec<Trusted<Direction>> {
        let stands = |direction: &&Trusted<Direction>| {
            let value = direction.value();
            let answer = self.decisions.answer(&value.id);
            value.module == *module
                && self.today.is_within(|day| value.stands_on(day))
                && answer.is_some_and(|answer| answer.accepted && answer.document == direction.digest())
        };
        self.published.directions.values().filter(stands).cloned().collect()
    }

    /// The offer of a version of a module, or of its newest.
    pub fn offer(&self, module: &Name, version: Option<&Version>) -> Result<&Offer, ModulesError> {
        let offers = self.published.offers.get(module).map(Vec::as_slice).unwrap_or_default();
        let offers: Vec<&Offer> = offers.iter().filter(|offer| offer.stands_on(self.today)).collect();
        let found = match version {
            None => offers.last(),
            Some(version) => offers.iter().find(|offer| offer.version == *version),
        };
        if let Some(offer) = found {
            if let Some(revoked) = self.decisions.revocation(module, &offer.version) {
                return Err(ModulesError::NotRunnable {
                    module: module.clone(),
                    version: offer.version.clone(),
                    why: format!("it was revoked on {}: {}", revoked.since, revoked.reason),
                });
            }
            return Ok(offer);
        }
        let unsound = self.published.unsound.get(module).into_iter().flatten();
        let mut unsound = unsound.filter(|it| it.stands_on(self.today));
        if let Some(it) = unsound.find(|it| version.is_none_or(|version| it.version == *version)) {
            let (module, version, why) = (module.clone(), it.version.clone(), it.why.clone());
            return Err(ModulesError::NotRunnable { module, version, why });
        }
        match (version, self.decisions.installed(module)) {
            (None, Some(installed)) => Err(ModulesError::AlreadyInstalled {
                module: module.clone(),
                version: installed.version.clone(),
            }),
            (None, None) => Err(ModulesError::UnknownModule(module.clone())),
            (Some(version), _) => {
                let offered: Vec<_> = offers.iter().map(|offer| offer.version.to_string()).collect();
                let offered = if offered.is_empty() { "no version".to_owned() } else { offered.join(", ") };
                Err(ModulesError::NotOffered { module: module.clone(), version: version.clone(), offered })
            }
        }
    }

    /// The standing of the version of a module that is installed, or of the newest one that is offered.
    pub fn standing(&self, module: &Name) -> Option<&ModuleStanding> {
        self.standings.iter().find(|it| it.module == *module)
    }

    /// The rollout by which an installed version came.
    pub fn rollout(&self, module: &Name) -> Option<Digest> {
        self.decisions.installed(module).map(|installed| installed.rollout)
    }
}

/// Copies a folder with its folders; none where there is none.
fn copy_folder(from: &Path, to: &Path) -> Result<(), FileError> {
    lockgate_durable::create_private_dir(to)?;
    if !from.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(from).map_err(at("read", from))? {
        let entry = entry.map_err(at("read", from))?;
        let (here, there) = (entry.path(), to.join(entry.file_name()));
        if here.is_dir() {
            copy_folder(&here, &there)?;
        } else {
            std::fs::copy(&here, &there).map_err(at("copy", &here))?;
        }
    }
    Ok(())
}
