//! What the registry says to this site.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::civil::Date;
use lockgate_signing::cohort::{Audience, Cohort};
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::Direction;
use lockgate_signing::holds::{Hold, Holds, STANDING};
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::Recipients;
use lockgate_signing::rollout::{Rollout, RolloutStep};
use lockgate_signing::token_keys::TokenKeys;
use lockgate_trust::{Published as Document, Registry, TrustError, Trusted};
use semver::Version;

use super::ModulesError;
use super::today::Today;
use crate::config::Config;
use crate::identity::PublishedKeys;

/// What the registry says to one site.
#[derive(Debug)]
pub struct Published {
    /// The mapping of the site's clinical system.
    pub mapping: Arc<Trusted<Mapping>>,
    /// The objection policy.
    pub policy: Arc<Trusted<ObjectionPolicy>>,
    /// The sensitive codes.
    pub sensitive: Arc<Trusted<SensitiveCodes>>,
    /// Those who can open what is sent.
    pub recipients: Arc<Trusted<Recipients>>,
    /// The token keys of each purpose.
    pub token_keys: PublishedKeys,
    /// What is held and revoked.
    pub holds: Trusted<Holds>,
    /// What is offered to this site, by module, the newest version last. Days are not looked at yet.
    pub offers: BTreeMap<Name, Vec<Offer>>,
    /// What rollouts name for this site and is not what was signed for, by module.
    pub unsound: BTreeMap<Name, Vec<Unsound>>,
    /// Directions that are for this site.
    pub directions: BTreeMap<Name, Trusted<Direction>>,
    /// What could not be read, and stops nothing else.
    pub problems: Vec<Problem>,
    cohorts: Cohorts,
}

/// A version of a module that a rollout names for this site.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The version.
    pub version: Version,
    /// Its manifest.
    pub manifest: Trusted<Manifest>,
    /// The rollout's document.
    pub rollout: Digest,
    /// The last day of the offer; absent: as long as the manifest says.
    pub until: Option<Date>,
    /// The steps that name it for this site.
    steps: Vec<RolloutStep>,
}

impl Offer {
    /// Whether a step of it stands today, and the manifest too.
    pub fn stands_on(&self, today: Today) -> bool {
        let last = self.manifest.value().not_after;
        self.steps.iter().any(|step| today.is_within(|day| step.stands_on(day) && day <= last))
    }
}

/// A version of a module that a rollout names for this site, and that is refused whatever the site decides: its manifest
/// cannot be read, or the registry lists another component than the manifest names.
#[derive(Debug, Clone)]
pub struct Unsound {
    /// The version.
    pub version: Version,
    /// What is wrong with it.
    pub why: String,
    steps: Vec<RolloutStep>,
}

impl Unsound {
    /// Whether a step names it today.
    pub fn stands_on(&self, today: Today) -> bool {
        self.steps.iter().any(|step| today.is_within(|day| step.stands_on(day)))
    }
}

/// Something that could not be read or done, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub about: Name,
    /// What is wrong.
    pub what: String,
    of_site: bool,
}

impl Problem {
    /// Whether it is of this site's state and not of what is published.
    pub(super) fn is_of_site(&self) -> bool {
        self.of_site
    }
}

/// The cohorts that documents name, and whether this site is in them.
#[derive(Debug, Default)]
struct Cohorts {
    of_site: BTreeSet<Name>,
    unknown: BTreeSet<Name>,
}

impl Published {
    /// Fetches everything that this site decides by, so that all of it is here when the registry is not.
    pub fn read(registry: &Registry, config: &Config) -> Result<Self, ModulesError> {
        let missing = |what, name: &Name| ModulesError::NotPublished { what, name: name.clone() };
        let (mapping, policy) = (&config.database.mapping, &config.registry.policy);
        let (sensitive, recipients) = (&config.registry.sensitive, &config.registry.recipients);
        let standing: Name = STANDING.parse().map_err(|_| ModulesError::NoHolds)?;
        // Without these nothing runs, so an error in one of them is an error of the whole.
        let mapping = registry.fetch_latest(mapping)?.ok_or_else(|| missing("mapping", mapping))?;
        let policy = registry.fetch_latest(policy)?.ok_or_else(|| missing("objection policy", policy))?;
        let sensitive =
            registry.fetch_latest(sensitive)?.ok_or_else(|| missing("sensitive-code list", sensitive))?;
        let recipients =
            registry.fetch_latest(recipients)?.ok_or_else(|| missing("list of recipients", recipients))?;
        let holds = registry.fetch_latest::<Holds>(&standing)?.ok_or(ModulesError::NoHolds)?;
        let mut published = Self {
            mapping: Arc::new(mapping),
            policy: Arc::new(policy),
            sensitive: Arc::new(sensitive),
            recipients: Arc::new(recipients),
            token_keys: BTreeMap::new(),
            holds,
            offers: BTreeMap::new(),
            unsound: BTreeMap::new(),
            directions: BTreeMap::new(),
            problems: Vec::new(),
            cohorts: Cohorts::default(),
        };
        let keys = published.fetch_each::<TokenKeys>(registry)?;
        published.token_keys = keys.into_iter().map(|it| (it.value().id.clone(), Arc::new(it))).collect();
        let rollouts = published.fetch_each::<Rollout>(registry)?;
        let directions = published.fetch_each::<Direction>(registry)?;
        // The site's cohorts: only those that something names.
        let named = rollouts.iter().flat_map(|it| &it.value().steps).flat_map(|step| step.to.cohorts());
        let named = named.chain(directions.iter().flat_map(|it| it.value().to.cohorts()));
        let held = published.holds.value().holds.clone();
        let named: BTreeSet<Name> =
            named.chain(held.iter().filter_map(|hold| hold.cohort.as_ref())).cloned().collect();
        for name in named {
            match registry.fetch_latest::<Cohort>(&name) {
                Ok(Some(cohort)) if cohort.value().has(&config.site) => {
                    published.cohorts.of_site.insert(name);
                }
                Ok(Some(_)) => {}
                Ok(None) => published.unknown_cohort(name, "is not published".to_owned()),
                Err(error) if is_of_one_target(&error) => published.unknown_cohort(name, error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        for rollout in rollouts {
            if config.modules.as_ref().is_none_or(|wanted| wanted.contains(&rollout.value().id)) {
                published.add_offers(registry, config, &rollout)?;
            }
        }
        let is_for_site = |to: &Audience| to.covers(&published.cohorts.of_site);
        let directions = directions.into_iter().filter(|it| is_for_site(&it.value().to));
        published.directions = directions.map(|it| (it.value().id.clone(), it)).collect();
        Ok(published)
    }

    /// The hold that stops a module at this site. A hold on a cohort that cannot be read holds: the site may be in it.
    pub fn hold(&self, module: &Name) -> Option<&Hold> {
        self.holds.value().holds.iter().find(|hold| {
            hold.module.as_ref().is_none_or(|held| held == module)
                && hold.cohort.as_ref().is_none_or(|cohort| {
                    self.cohorts.of_site.contains(cohort) || self.cohorts.unknown.contains(cohort)
                })
        })
    }

    /// The cohorts of this site that some document names.
    pub fn cohorts(&self) -> &BTreeSet<Name> {
        &self.cohorts.of_site
    }

    /// Notes something about a module of this site.
    pub(super) fn problem(&mut self, about: &Name, what: String) {
        let problem = Problem { about: about.clone(), what, of_site: true };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn unknown_cohort(&mut self, cohort: Name, why: String) {
        let what = format!("cohort {cohort} {why}; nothing is offered by it, and a hold of it holds");
        self.problems.push(Problem { about: cohort.clone(), what, of_site: false });
        self.cohorts.unknown.insert(cohort);
    }

    /// The newest version of each document of a kind; one that is wrong is noted, and does not stop the others.
    fn fetch_each<T: Document>(&mut self, registry: &Registry) -> Result<Vec<Trusted<T>>, ModulesError> {
        let ids: BTreeSet<Name> =
            registry.targets().filter(|path| path.kind() == T::KIND).map(|path| path.id().clone()).collect();
        let mut documents = Vec::new();
        for id in ids {
            match registry.fetch_latest::<T>(&id) {
                Ok(document) => documents.extend(document),
                Err(error) if is_of_one_target(&error) => {
                    self.problems.push(Problem { about: id, what: error.to_string(), of_site: false });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(documents)
    }

    fn add_offers(
        &mut self,
        registry: &Registry,
        config: &Config,
        rollout: &Trusted<Rollout>,
    ) -> Result<(), ModulesError> {
        let module = &rollout.value().id;
        let mut by_version = BTreeMap::<&Version, Vec<RolloutStep>>::new();
        for step in rollout.value().steps.iter().filter(|step| step.to.covers(&self.cohorts.of_site)) {
            by_version.entry(&step.module_version).or_default().push(step.clone());
        }
        let mut offers = Vec::new();
        for (version, steps) in by_version {
            // The component itself is fetched only where it is installed; which one is listed is known before.
            let manifest = registry.fetch::<Manifest>(module, version);
            let manifest = match manifest.and_then(|it| registry.check_component(&it).map(|()| it)) {
                Ok(manifest) => manifest,
                Err(error) if is_of_one_target(&error) => {
                    let unsound = Unsound { version: version.clone(), why: error.to_string(), steps };
                    self.unsound.entry(module.clone()).or_default().push(unsound);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if manifest.value().sites != config.kind {
                continue;
            }
            // Several steps may name one version; the longest counts.
            let until =
                steps.iter().map(|step| step.not_after).reduce(|one, other| Some(one?.max(other?))).flatten();
            offers.push(Offer {
                version: version.clone(),
                manifest,
                rollout: rollout.digest(),
                until,
                steps,
            });
        }
        if !offers.is_empty() {
            self.offers.insert(module.clone(), offers);
        }
        Ok(())
    }
}

/// Whether one target is wrong, and not the registry or the way to it.
fn is_of_one_target(error: &TrustError) -> bool {
    matches!(
        error,
        TrustError::Missing { .. }
            | TrustError::NotHere { .. }
            | TrustError::TooLarge { .. }
            | TrustError::Content { .. }
            | TrustError::OtherName { .. }
            | TrustError::NoComponent { .. }
            | TrustError::OtherComponent { .. }
    )
}
