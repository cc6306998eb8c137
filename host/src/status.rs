//! One page on how this site is: what a person looks at first, and what a monitor asks.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use lockgate_durable::at;
use lockgate_signing::direction::Override;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::PublicKey;
use serde::Serialize;

use crate::agent::{self, AgentError};
use crate::config::Config;
use crate::identity::Tokens;
use crate::ledger::{Entry, Event, Ledger, LedgerError, OpenRetraction};
use crate::modules::standing::ModuleStanding;
use crate::modules::{Modules, ModulesError, View};
use crate::observed::{Ended, Observed};
use crate::run::Now;

/// How this site is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The site.
    pub site: SiteId,
    /// The key that is registered at the linker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolled: Option<Enrolled>,
    /// The registry.
    pub registry: RegistryStatus,
    /// The last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Ended>,
    /// What waits in the outbox.
    pub outbox: OutboxStatus,
    /// Modules, as in `modules`.
    pub modules: Vec<ModuleLine>,
    /// Directions, as in `directions`.
    pub directions: Vec<DirectionLine>,
    /// What a person has to do; empty: nothing.
    pub needs_person: Vec<String>,
}

/// The site's registration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enrolled {
    /// The key's id.
    pub key: String,
    /// When.
    pub at: Timestamp,
}

/// The registry, as this site knows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegistryStatus {
    /// Where.
    pub location: String,
    /// When it last answered with something that verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<Timestamp>,
    /// When what it said then runs out; after that, nothing new is installed until it answers again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The last attempt, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Ended>,
}

/// What waits in the outbox.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutboxStatus {
    /// Bundles.
    pub queued: usize,
    /// When the oldest of them was sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// The last push, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Ended>,
}

/// One version of a module, in words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleLine {
    /// The module.
    pub module: Name,
    /// The version.
    pub version: String,
    /// `installed`, `offered`, `waiting`, `held`, `refused`, `revoked`, `expired` or `damaged`.
    pub state: &'static str,
    /// The same in a sentence.
    pub detail: String,
    /// Its last day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::civil::Date>,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Why the data is collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Name>,
    /// On what legal basis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_basis: Option<String>,
    /// What it reads.
    pub reads: Vec<String>,
    /// What it sends.
    pub sends: Vec<String>,
    /// What patients can be linked by, beside the token of the purpose.
    pub links: Vec<&'static str>,
    /// For one that waits: what it has beyond what runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wider: Vec<lockgate_signing::scope::Widening>,
}

/// One direction, in words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirectionLine {
    /// The direction.
    pub direction: Name,
    /// Its version.
    pub version: String,
    /// `open`, `accepted`, `refused`, `not-yet` or `over`.
    pub state: &'static str,
    /// One line for people.
    pub title: String,
    /// On what legal basis.
    pub legal_basis: String,
    /// The module that it is for.
    pub module: Name,
    /// What it overrides.
    pub overrides: Vec<&'static str>,
    /// Its first day.
    pub not_before: jiff::civil::Date,
    /// Its last day.
    pub not_after: jiff::civil::Date,
}

/// A bundle that waits for longer is a linker that nobody looks after.
const OUTBOX_PATIENCE: SignedDuration = SignedDuration::from_hours(48);
/// A retraction that is not followed for longer is a centre that does not delete, or a linker that does not tell.
const DELETION_PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A registry that does not answer for longer could be holding a hold back.
const REGISTRY_PATIENCE: SignedDuration = SignedDuration::from_hours(48);

impl Status {
    /// Looks at everything that is on this computer. Nothing is asked, and nothing is changed.
    pub fn of(config: &Config, now: Now) -> Result<Self, LedgerError> {
        let state = &config.state_dir;
        let entries = Ledger::entries_of_site(config)?;
        let observed = Observed::load(state);
        let view = view(config, &entries, now);
        let mut needs_person = Vec::new();
        let enrolled = enrolled(config, &entries, &mut needs_person);
        if let Err(error) = Tokens::check(config) {
            needs_person.push(error.to_string());
        }
        let registry = registry(config, &view, &observed, now, &mut needs_person);
        let outbox = outbox(state, &entries, &observed, now, &mut needs_person)?;
        for retraction in OpenRetraction::all(&entries) {
            if retraction.acknowledged && now.at.duration_since(retraction.at) > DELETION_PATIENCE {
                needs_person.push(format!(
                    "the centre has not said for a week that it has deleted what retraction {} of {} asked for: ask the publishing team",
                    retraction.sequence, retraction.module
                ));
            }
        }
        for failure in observed.run.iter().flat_map(|run| &run.failed) {
            let who = failure.module.as_ref().map_or_else(String::new, |module| format!("{module}: "));
            needs_person.push(format!("in the last run: {who}{}", failure.why));
        }
        let (mut modules, mut directions) = (Vec::new(), Vec::new());
        match &view {
            Ok(view) => {
                modules = view.standings.iter().map(ModuleLine::of).collect();
                directions = DirectionLine::all(view);
                needs_person.extend(view.published.problems.iter().map(|problem| problem.what.clone()));
                let said: Vec<&Name> = observed
                    .run
                    .iter()
                    .flat_map(|run| &run.failed)
                    .filter_map(|it| it.module.as_ref())
                    .collect();
                let standings = view.standings.iter();
                // What the last run said of a module is not said twice.
                let standings =
                    standings.filter(|it| it.standing.needs_person() && !said.contains(&&it.module));
                needs_person.extend(
                    standings.map(|it| {
                        format!("{} {} {}", it.module, it.version, it.standing.sentence(&it.module))
                    }),
                );
                needs_person.extend(directions.iter().filter_map(DirectionLine::question));
            }
            Err(error) => needs_person.push(error.to_string()),
        }
        // What two places notice is one thing to do.
        let mut said = BTreeSet::new();
        needs_person.retain(|what| said.insert(what.clone()));
        let site = config.site.clone();
        let last_run = observed.run;
        Ok(Self { site, enrolled, registry, last_run, outbox, modules, directions, needs_person })
    }
}

fn view(config: &Config, entries: &[Entry], now: Now) -> Result<View, ModulesError> {
    Modules::open(config)?.last_known(entries, now.today)
}

fn enrolled(config: &Config, entries: &[Entry], needs_person: &mut Vec<String>) -> Option<Enrolled> {
    let enrolled = entries.iter().rev().find_map(|entry| match &entry.event {
        Event::Enrolled { key, .. } => Some(Enrolled { key: key.clone(), at: entry.at }),
        _ => None,
    });
    let linker_key = std::fs::read_to_string(config.linker_key_path()).ok();
    let is_pinned = linker_key.is_some_and(|pem| PublicKey::from_pem(&pem).is_ok());
    match agent::site_key(config) {
        Ok(_) if enrolled.is_some() && is_pinned => return enrolled,
        Err(error @ AgentError::Key(_)) => needs_person.push(error.to_string()),
        _ => needs_person
            .push("this site is not enrolled: `lockgate-agent enrol --token-file FILE`".to_owned()),
    }
    None
}

fn registry(
    config: &Config,
    view: &Result<View, ModulesError>,
    observed: &Observed,
    now: Now,
    needs_person: &mut Vec<String>,
) -> RegistryStatus {
    let known = view.as_ref().ok().map(|view| &view.registry);
    // Where what it said is gone, it was asked all the same.
    let asked = observed.refresh.as_ref().filter(|ended| ended.failed.is_empty()).map(|ended| ended.at);
    let refreshed = known.map(lockgate_trust::Registry::as_of).or(asked);
    let expires = known.and_then(lockgate_trust::Registry::expires);
    let failed = observed.refresh.clone().filter(|ended| !ended.failed.is_empty());
    let is_old = refreshed.is_some_and(|at| now.at.duration_since(at) > REGISTRY_PATIENCE);
    for failure in failed.iter().flat_map(|ended| &ended.failed) {
        // A line that is down for an hour is nobody's task.
        if !failure.passing || is_old {
            let named = failure.why.starts_with("the registry") || failure.why.starts_with("this ");
            needs_person.push(if named {
                failure.why.clone()
            } else {
                format!("the registry: {}", failure.why)
            });
        }
    }
    needs_person.extend(observed.refresh.iter().flat_map(|refresh| refresh.noticed.iter().cloned()));
    if let Some(expires) = expires.filter(|expires| *expires < now.at) {
        needs_person.push(format!(
            "what the registry said last expired at {expires}; nothing new is installed until it answers again"
        ));
    } else if is_old && failed.is_none() {
        needs_person
            .push("the registry was not asked for two days: is `lockgate-agent serve` running?".to_owned());
    }
    RegistryStatus { location: config.registry.location.clone(), refreshed, expires, failed }
}

fn outbox(
    state: &Path,
    entries: &[Entry],
    observed: &Observed,
    now: Now,
    needs_person: &mut Vec<String>,
) -> Result<OutboxStatus, LedgerError> {
    let folder = state.join("outbox/queued");
    let queued = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.count(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(at("list", &folder)(error).into()),
    };
    let acknowledged: std::collections::BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Acknowledged { bundle, .. } => Some(bundle.as_str()),
            _ => None,
        })
        .collect();
    let oldest = entries.iter().find_map(|entry| match &entry.event {
        Event::Sealed { bundle, .. } | Event::Retracted { bundle, .. }
            if !acknowledged.contains(bundle.as_str()) =>
        {
            Some(entry.at)
        }
        _ => None,
    });
    let oldest = oldest.filter(|_| queued > 0);
    let failed = observed.push.clone().filter(|push| !push.failed.is_empty() && queued > 0);
    let is_old = oldest.is_some_and(|at| now.at.duration_since(at) > OUTBOX_PATIENCE);
    for failure in failed.iter().flat_map(|push| &push.failed) {
        if !failure.passing || is_old {
            needs_person.push(format!("{queued} bundles wait in the outbox: {}", failure.why));
        }
    }
    if is_old && failed.is_none() {
        needs_person.push(format!("{queued} bundles wait in the outbox for two days: `lockgate-agent push`"));
    }
    Ok(OutboxStatus { queued, oldest, failed })
}

impl ModuleLine {
    /// A standing in words.
    pub fn of(standing: &ModuleStanding) -> Self {
        use crate::modules::standing::Standing;
        let manifest = standing.manifest.as_ref().map(|manifest| manifest.value());
        Self {
            module: standing.module.clone(),
            version: standing.version.to_string(),
            state: standing.standing.word(),
            detail: standing.standing.sentence(&standing.module),
            until: standing.until,
            title: manifest.map(|manifest| manifest.title.clone()),
            purpose: manifest.map(|manifest| manifest.purpose.clone()),
            legal_basis: manifest.map(|manifest| manifest.legal_basis.clone()),
            reads: manifest.map(lockgate_signing::scope::reads).unwrap_or_default(),
            sends: manifest.map(lockgate_signing::scope::sends).unwrap_or_default(),
            links: manifest
                .map(|manifest| manifest.tokens.link.iter().map(|link| link.name()).collect())
                .unwrap_or_default(),
            wider: match &standing.standing {
                Standing::Waiting(wider) => wider.clone(),
                _ => Vec::new(),
            },
        }
    }
}

impl DirectionLine {
    /// What to ask where nobody has answered yet.
    pub fn question(&self) -> Option<String> {
        (self.state == "open").then(|| {
            format!(
                "direction {0} waits for `lockgate-agent directions accept {0}` or `refuse {0}`",
                self.direction
            )
        })
    }

    /// Every direction that is published for this site.
    pub fn all(view: &View) -> Vec<Self> {
        let directions = view.published.directions.values();
        directions
            .map(|direction| {
                let (document, value) = (direction.digest(), direction.value());
                let answer = view.decisions.answer(&value.id).filter(|answer| answer.document == document);
                let state = match answer {
                    Some(answer) if !answer.accepted => "refused",
                    _ if view.today.clock > value.not_after => "over",
                    Some(_) if !view.today.is_within(|day| value.stands_on(day)) => "not-yet",
                    Some(_) => "accepted",
                    None => "open",
                };
                Self {
                    direction: value.id.clone(),
                    version: value.version.to_string(),
                    state,
                    title: value.title.clone(),
                    legal_basis: value.legal_basis.clone(),
                    module: value.module.clone(),
                    overrides: value.overrides.iter().copied().map(Override::name).collect(),
                    not_before: value.not_before,
                    not_after: value.not_after,
                }
            })
            .collect()
    }
}
