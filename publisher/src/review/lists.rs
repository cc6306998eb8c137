//! Documents whose members come and go: codelists, cohorts, rollouts, holds.

use std::collections::BTreeSet;

use lockgate_signing::code::CodesBySystem;
use lockgate_signing::codelist::Codelist;
use lockgate_signing::cohort::Cohort;
use lockgate_signing::holds::Holds;
use lockgate_signing::ids::SiteId;
use lockgate_signing::rollout::{Rollout, RolloutStep};
use semver::Version;

use super::{Section, some_of};
use crate::catalogue::{Catalogue, CatalogueError};
use crate::offers::{Revoked, audience_in_words};

pub(super) fn of_codelist(before: Option<&Codelist>, after: &Codelist) -> Section {
    let mut lines = codes_lines(before.map(|before| &before.codes), &after.codes);
    if before.is_some_and(|before| before.title != after.title) {
        lines.push(format!("title: now “{}”", after.title));
    }
    if lines.is_empty() {
        lines.push("the codes stay as they are".to_owned());
    }
    let title = match before {
        Some(before) => {
            format!("Codelist {}: version {} follows {}", after.id, after.version, before.version)
        }
        None => format!("New codelist {} {}: {}", after.id, after.version, after.title),
    };
    Section { title, lines }
}

/// Which codes came and which went, by system.
pub(super) fn codes_lines(before: Option<&CodesBySystem>, after: &CodesBySystem) -> Vec<String> {
    let codes = |all: Option<&CodesBySystem>, system| -> BTreeSet<String> {
        all.and_then(|all| all.get(system)).into_iter().flatten().cloned().collect()
    };
    let systems: BTreeSet<_> = before.into_iter().flat_map(|all| all.keys()).chain(after.keys()).collect();
    let mut lines = Vec::new();
    for system in systems {
        let (old, new) = (codes(before, system), codes(Some(after), system));
        lines.extend(came_and_went(&format!("{system} code"), "s", &old, &new));
    }
    lines
}

/// One line for what came and one for what went; `several` is what more than one end in.
pub(super) fn came_and_went(
    what: &str,
    several: &str,
    old: &BTreeSet<String>,
    new: &BTreeSet<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (verb, set) in [("came", new.difference(old)), ("went", old.difference(new))] {
        let names: Vec<_> = set.cloned().collect();
        if !names.is_empty() {
            let several = if names.len() == 1 { "" } else { several };
            lines.push(format!("{} {what}{several} {verb}: {}", names.len(), some_of(&names)));
        }
    }
    lines
}

pub(super) fn of_cohort(before: Option<&Cohort>, after: &Cohort) -> Section {
    let sites = |cohort: Option<&Cohort>| -> BTreeSet<String> {
        cohort.into_iter().flat_map(|cohort| &cohort.sites).map(SiteId::to_string).collect()
    };
    let mut lines = came_and_went("site", "s", &sites(before), &sites(Some(after)));
    lines.push(match after.sites.len() {
        1 => "1 site in all".to_owned(),
        sites => format!("{sites} sites in all"),
    });
    let title = match before {
        Some(before) => format!("Cohort {}: version {} follows {}", after.id, after.version, before.version),
        None => format!("New cohort {} {}: {}", after.id, after.version, after.title),
    };
    Section { title, lines }
}

/// What the sites of a step are told at their next refresh.
const NOW_OFFERED: &str = "now offered";

/// `asked`: which sites are asked before a version runs, where nothing else of the change says so.
pub(super) fn of_rollout(
    before: Option<&Rollout>,
    after: &Rollout,
    catalogue: &Catalogue<'_>,
    asked: impl Fn(&Version) -> Result<Vec<String>, CatalogueError>,
) -> Result<Section, CatalogueError> {
    let mut lines = Vec::new();
    let revoked = Revoked::of(catalogue)?;
    let old = before.map(|before| before.steps.as_slice()).unwrap_or_default();
    for step in &after.steps {
        let standing = match old.contains(step) {
            _ if revoked.has(&after.id, &step.module_version) => "revoked, and run nowhere",
            true => "still offered",
            false => NOW_OFFERED,
        };
        lines.push(format!("{standing}: {}", step_in_words(step, catalogue)?));
        if standing == NOW_OFFERED {
            lines.extend(asked(&step.module_version)?.into_iter().map(|line| format!("  {line}")));
        }
    }
    for step in old.iter().filter(|step| !after.steps.contains(step)) {
        lines.push(format!("no longer: {}", step_in_words(step, catalogue)?));
    }
    if after.steps.is_empty() {
        lines.push("offered to nobody any more; sites that run it go on until its last day".to_owned());
    }
    Ok(Section { title: format!("Rollout of {}, version {}", after.id, after.version), lines })
}

fn step_in_words(step: &RolloutStep, catalogue: &Catalogue<'_>) -> Result<String, CatalogueError> {
    let mut words = format!("{} to {}", step.module_version, audience_in_words(&step.to, catalogue)?);
    if let Some(day) = step.not_before {
        words.push_str(&format!(", from {day}"));
    }
    if let Some(day) = step.not_after {
        words.push_str(&format!(", until {day}"));
    }
    Ok(words)
}

pub(super) fn of_holds(before: Option<&Holds>, after: &Holds) -> Section {
    let mut lines = Vec::new();
    let old = before.map(|before| before.holds.as_slice()).unwrap_or_default();
    for hold in &after.holds {
        let standing = if old.contains(hold) { "still held" } else { "now held" };
        lines.push(format!("{standing}, since {}: {}: {}", hold.since, hold.what(), hold.reason));
    }
    for hold in old.iter().filter(|hold| !after.holds.contains(hold)) {
        lines.push(format!("no longer held: {}", hold.what()));
    }
    let old = before.map(|before| before.revoked.as_slice()).unwrap_or_default();
    for revoked in &after.revoked {
        let standing = if old.contains(revoked) { "revoked" } else { "now revoked for ever" };
        let (module, version) = (&revoked.module, &revoked.module_version);
        lines.push(format!("{standing}, since {}: {module} {version}: {}", revoked.since, revoked.reason));
    }
    if lines.is_empty() {
        lines.push("nothing is held or revoked".to_owned());
    }
    Section { title: format!("Holds and revocations, version {}", after.version), lines }
}
