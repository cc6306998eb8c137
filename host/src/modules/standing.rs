//! How a module stands at this site on a day: from what is offered, what the site decided, and what is held.

use std::collections::BTreeSet;

use jiff::civil::Date;
use lockgate_signing::holds::Hold;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::scope::{self, Widening};
use lockgate_trust::{TrustError, Trusted};
use semver::Version;

use super::decisions::{Decisions, Installed, Revoked};
use super::published::{Offer, Published};
use super::today::Today;
use crate::config::{Approve, Config};
use crate::ledger::Approval;

/// How one version of a module stands.
#[derive(Debug)]
pub struct ModuleStanding {
    /// The module.
    pub module: Name,
    /// The version.
    pub version: Version,
    /// How it stands.
    pub standing: Standing,
    /// What it declares; absent where it cannot be read.
    pub manifest: Option<Trusted<Manifest>>,
    /// Its last day.
    pub until: Option<Date>,
    /// Whether it is installed and the registry offers it under another rollout, or its copy here is damaged.
    pub(super) is_to_be_renewed: bool,
}

/// How one version of a module stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is what runs.
    Installed,
    /// It is offered, and the next refresh installs it.
    Offered(Approval),
    /// It waits for a person, because it has this beyond what runs now.
    Waiting(Vec<Widening>),
    /// It is installed and paused.
    Held(Hold),
    /// This site refused it.
    Refused,
    /// It is installed, and never runs again.
    Revoked(Revoked),
    /// It is installed, and its last day is over.
    Expired(Date),
    /// It is installed, and its files here are gone or damaged.
    Damaged(String),
    /// It is offered, and is not what was signed for.
    Unsound(String),
}

impl Standing {
    /// In a word, for tables and scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Offered(_) => "offered",
            Self::Waiting(_) => "waiting",
            Self::Held(_) => "held",
            Self::Refused | Self::Unsound(_) => "refused",
            Self::Revoked(_) => "revoked",
            Self::Expired(_) => "expired",
            Self::Damaged(_) => "damaged",
        }
    }

    /// In a sentence, for people: what it means and what to do.
    pub fn sentence(&self, module: &Name) -> String {
        match self {
            Self::Installed => "runs".to_owned(),
            Self::Offered(_) => "is installed at the next refresh".to_owned(),
            Self::Waiting(_) => format!("waits for `lockgate-agent modules approve {module}`"),
            Self::Held(hold) => {
                format!(
                    "is held by the publishing team since {} ({}): {}",
                    hold.since,
                    hold.what(),
                    hold.reason
                )
            }
            Self::Refused => {
                format!("was refused by this site; `lockgate-agent modules approve {module}` takes it back")
            }
            Self::Revoked(revoked) => {
                format!(
                    "was revoked by the publishing team on {}, for ever: {}",
                    revoked.since, revoked.reason
                )
            }
            Self::Expired(until) => {
                format!("was valid until {until}; the publishing team has to publish a newer one")
            }
            Self::Damaged(why) => why.clone(),
            Self::Unsound(why) => format!("is refused: {why}"),
        }
    }

    /// Whether nothing goes on until a person does something here.
    pub fn needs_person(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Expired(_) | Self::Damaged(_) | Self::Unsound(_))
    }
}

/// How every module of this site stands, in the order of their names; what is installed comes before what is offered, and
/// that before what is refused because it is not what was signed for.
///
/// `manifest_of` reads the manifest of an installed version.
pub fn standings(
    config: &Config,
    published: &Published,
    decisions: &Decisions,
    manifest_of: impl Fn(&Name, &Installed) -> Result<Trusted<Manifest>, TrustError>,
    today: Today,
) -> Vec<ModuleStanding> {
    let ids: BTreeSet<Name> = decisions
        .modules()
        .filter(|module| config.modules.as_ref().is_none_or(|wanted| wanted.contains(module)))
        .chain(published.offers.keys())
        .chain(published.unsound.keys())
        .cloned()
        .collect();
    let mut standings = Vec::new();
    for module in ids {
        let offers = published.offers.get(&module).map(Vec::as_slice).unwrap_or_default();
        let installed = decisions.installed(&module);
        let manifest = installed.map(|installed| manifest_of(&module, installed));
        if let (Some(installed), Some(manifest)) = (installed, &manifest) {
            standings.push(of_installed(&module, installed, manifest, offers, published, decisions, today));
        }
        let manifest = manifest.and_then(Result::ok);
        // Of several versions that are offered today, the newest that may still run.
        let offer = offers
            .iter()
            .rev()
            .find(|offer| offer.stands_on(today) && decisions.revocation(&module, &offer.version).is_none());
        let newer =
            offer.filter(|offer| installed.is_none_or(|installed| installed.version != offer.version));
        if let Some(offer) = newer {
            standings.push(of_offer(config.approve, &module, offer, manifest.as_ref(), decisions));
        }
        let unsound = published.unsound.get(&module).map(Vec::as_slice).unwrap_or_default();
        standings.extend(unsound.iter().filter(|it| it.stands_on(today)).map(|it| ModuleStanding {
            module: module.clone(),
            version: it.version.clone(),
            standing: Standing::Unsound(it.why.clone()),
            manifest: None,
            until: None,
            is_to_be_renewed: false,
        }));
    }
    standings
}

/// What a manifest has beyond another; everything that it reads and sends where there is none.
pub fn beyond(approved: Option<&Manifest>, later: &Manifest) -> Vec<Widening> {
    match approved {
        Some(approved) => scope::widenings(approved, later),
        None => scope::everything(later),
    }
}

fn of_installed(
    module: &Name,
    installed: &Installed,
    manifest: &Result<Trusted<Manifest>, TrustError>,
    offers: &[Offer],
    published: &Published,
    decisions: &Decisions,
    today: Today,
) -> ModuleStanding {
    let offer = offers.iter().find(|offer| offer.version == installed.version);
    // What the rollout says now, where it still names this version for this site; else what it said last.
    let rollout_until = offer.map_or(installed.until, |offer| offer.until);
    let manifest_until = manifest.as_ref().ok().map(|manifest| manifest.value().not_after);
    let until = match (manifest_until, rollout_until) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let standing = if let Some(revoked) = decisions.revocation(module, &installed.version) {
        Standing::Revoked(revoked.clone())
    } else if let Err(error) = manifest {
        Standing::Damaged(error.to_string())
    } else if let Some(until) = until.filter(|until| today.clock > *until) {
        Standing::Expired(until)
    } else if let Some(hold) = published.hold(module) {
        Standing::Held(hold.clone())
    } else {
        Standing::Installed
    };
    let is_to_be_renewed = offer.is_some_and(|offer| {
        let same_bytes = offer.manifest.digest() == installed.manifest;
        let other_terms = offer.rollout != installed.rollout || offer.until != installed.until;
        // A published version never changes; one that did is not what was approved.
        same_bytes
            && offer.stands_on(today)
            && (other_terms || manifest.is_err())
            && !matches!(standing, Standing::Revoked(_))
    });
    ModuleStanding {
        module: module.clone(),
        version: installed.version.clone(),
        standing,
        manifest: manifest.as_ref().ok().cloned(),
        until,
        is_to_be_renewed,
    }
}

fn of_offer(
    approve: Approve,
    module: &Name,
    offer: &Offer,
    installed: Option<&Trusted<Manifest>>,
    decisions: &Decisions,
) -> ModuleStanding {
    let standing = if decisions.is_refused(module) || decisions.is_version_refused(module, &offer.version) {
        Standing::Refused
    } else {
        let wider = beyond(installed.map(Trusted::value), offer.manifest.value());
        match approve {
            Approve::Auto => Standing::Offered(Approval::Auto),
            Approve::WithinScope if installed.is_some() && wider.is_empty() => {
                Standing::Offered(Approval::WithinScope)
            }
            Approve::WithinScope | Approve::Manual => Standing::Waiting(wider),
        }
    };
    let manifest = offer.manifest.clone();
    let until = manifest.value().not_after;
    ModuleStanding {
        module: module.clone(),
        version: offer.version.clone(),
        standing,
        until: Some(offer.until.map_or(until, |offered| offered.min(until))),
        manifest: Some(manifest),
        is_to_be_renewed: false,
    }
}
