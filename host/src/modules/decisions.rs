//! What this site decided, read from its ledger: there is no second record that could say something else.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use semver::Version;

use crate::ledger::{Approval, Entry, Event};

/// What this site decided so far.
#[derive(Debug, Default)]
pub struct Decisions {
    modules: BTreeMap<Name, Module>,
    revoked: BTreeMap<(Name, Version), Revoked>,
    directions: BTreeMap<Name, Answer>,
}

#[derive(Debug, Default)]
struct Module {
    installed: Option<Installed>,
    refused: bool,
    refused_versions: BTreeSet<Version>,
}

/// The version of a module that runs, or ran until something stopped it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The version.
    pub version: Version,
    /// Its manifest.
    pub manifest: Digest,
    /// The rollout by which it was offered.
    pub rollout: Digest,
    /// The last day that the rollout gave it; the manifest's alone counts when absent.
    pub until: Option<Date>,
    /// When it was installed.
    pub at: Timestamp,
    /// Who or what approved it.
    pub how: Approval,
}

/// A version that never runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Since when.
    pub since: Date,
    /// Why.
    pub reason: String,
}

/// What the site said to a direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The version that it was said to.
    pub version: Version,
    /// Its document.
    pub document: Digest,
    /// Yes or no.
    pub accepted: bool,
    /// When.
    pub at: Timestamp,
}

impl Decisions {
    /// Whether there is none: this site has never installed, refused, answered or been told of a revocation.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty() && self.revoked.is_empty() && self.directions.is_empty()
    }

    /// Reads them from the ledger, oldest first: what came later counts.
    pub fn of(entries: &[Entry]) -> Self {
        let mut decisions = Self::default();
        for entry in entries {
            decisions.add(entry.at, &entry.event);
        }
        decisions
    }

    fn add(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Installed { module, version, manifest, rollout, until, how } => {
                let of = self.modules.entry(module.clone()).or_default();
                of.refused = false;
                of.refused_versions.remove(version);
                of.installed = Some(Installed {
                    version: version.clone(),
                    manifest: *manifest,
                    rollout: *rollout,
                    until: *until,
                    at,
                    // A renewal changes nothing of who approved it.
                    how: match (&of.installed, how) {
                        (Some(before), Approval::Renewed) => before.how,
                        _ => *how,
                    },
                });
            }
            Event::Refused { module, version: None } => {
                let of = self.modules.entry(module.clone()).or_default();
                of.refused = true;
                of.installed = None;
            }
            Event::Refused { module, version: Some(version) } => {
                let of = self.modules.entry(module.clone()).or_default();
                of.refused_versions.insert(version.clone());
                of.installed = of.installed.take().filter(|installed| installed.version != *version);
            }
            Event::Revoked { module, version, since, reason } => {
                let revoked = Revoked { since: *since, reason: reason.clone() };
                self.revoked.entry((module.clone(), version.clone())).or_insert(revoked);
            }
            Event::DirectionAnswered { direction, version, document, accepted } => {
                let answer =
                    Answer { version: version.clone(), document: *document, accepted: *accepted, at };
                self.directions.insert(direction.clone(), answer);
            }
            Event::Enrolled { .. }
            | Event::TokenKeyInstalled { .. }
            | Event::Sealed { .. }
            | Event::Acknowledged { .. }
            | Event::Retracted { .. }
            | Event::Deleted { .. }
            | Event::Failed { .. } => {}
        }
    }

    /// Every module that the site decided about.
    pub fn modules(&self) -> impl Iterator<Item = &Name> {
        self.modules.keys()
    }

    /// The installed version of a module.
    pub fn installed(&self, module: &Name) -> Option<&Installed> {
        self.modules.get(module)?.installed.as_ref()
    }

    /// What is named by the ledger, to keep the files of.
    pub fn installed_files(&self) -> impl Iterator<Item = (&Name, &Version, Digest)> {
        self.modules.iter().filter_map(|(module, of)| {
            let installed = of.installed.as_ref()?;
            Some((module, &installed.version, installed.manifest))
        })
    }

    /// Whether the site refused the whole module.
    pub fn is_refused(&self, module: &Name) -> bool {
        self.modules.get(module).is_some_and(|of| of.refused)
    }

    /// Whether the site refused this version.
    pub fn is_version_refused(&self, module: &Name, version: &Version) -> bool {
        self.modules.get(module).is_some_and(|of| of.refused_versions.contains(version))
    }

    /// The revocation of a version.
    pub fn revocation(&self, module: &Name, version: &Version) -> Option<&Revoked> {
        // Few modules are revoked; a key of borrowed parts is not worth a type.
        self.revoked.get(&(module.clone(), version.clone()))
    }

    /// What the site said to a direction, in any version.
    pub fn answer(&self, direction: &Name) -> Option<&Answer> {
        self.directions.get(direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn installed(version: &str, how: Approval) -> Event {
        Event::Installed {
            module: "m".parse().unwrap(),
            version: version.parse().unwrap(),
            manifest: Digest::of(version.as_bytes()),
            rollout: Digest::of(b"rollout"),
            until: None,
            how,
        }
    }

    fn refused(version: Option<&str>) -> Event {
        Event::Refused { module: "m".parse().unwrap(), version: version.map(|text| text.parse().unwrap()) }
    }

    fn after(events: &[Event]) -> Decisions {
        let mut decisions = Decisions::default();
        for event in events {
            decisions.add(Timestamp::UNIX_EPOCH, event);
        }
        decisions
    }

    fn runs(events: &[Event]) -> Option<String> {
        after(events).installed(&"m".parse().unwrap()).map(|installed| installed.version.to_string())
    }

    #[test]
    fn the_last_word_counts() {
        let (one, two) = (installed("1.0.0", Approval::Person), installed("2.0.0", Approval::Person));
        assert_eq!(runs(&[]), None);
        assert_eq!(runs(&[one.clone(), two.clone()]).as_deref(), Some("2.0.0"));
        assert_eq!(runs(&[one.clone(), refused(Some("2.0.0"))]).as_deref(), Some("1.0.0"));
        assert_eq!(runs(&[one.clone(), refused(Some("1.0.0"))]), None);
        assert_eq!(runs(&[one.clone(), refused(None)]), None);
        let again = after(&[one.clone(), refused(None), one.clone()]);
        assert!(!again.is_refused(&"m".parse().unwrap()));
    }

    #[test]
    fn a_revocation_is_for_ever_and_its_first_reason_stays() {
        let revoked = |reason: &str| Event::Revoked {
            module: "m".parse().unwrap(),
            version: version("1.0.0"),
            since: "2026-11-03".parse().unwrap(),
            reason: reason.to_owned(),
        };
        let decisions = after(&[revoked("first"), installed("1.0.0", Approval::Person), revoked("second")]);
        let found = decisions.revocation(&"m".parse().unwrap(), &version("1.0.0")).unwrap();
        assert_eq!(found.reason, "first");
    }

    #[test]
    fn a_renewal_keeps_who_approved() {
        let decisions = after(&[installed("1.0.0", Approval::Person), installed("1.0.0", Approval::Renewed)]);
        assert_eq!(decisions.installed(&"m".parse().unwrap()).unwrap().how, Approval::Person);
    }
}
