//! Cohorts, rollouts, holds.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::Date;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::target::{TargetKind, TargetPath};
use semver::Version;

use super::Place;
use super::signing::Held;

#[derive(Debug, Subcommand)]
pub(crate) enum CohortCommand {
    /// Stage who is in a cohort: these sites and no others.
    Set(CohortSet),
}

#[derive(Debug, Args)]
pub(crate) struct CohortSet {
    /// The cohort, for example pathfinders.
    pub name: Name,
    /// What it is for, one line; needed for a new cohort.
    #[arg(long)]
    pub title: Option<String>,
    /// A site (may be repeated).
    #[arg(long = "site", value_name = "ID")]
    pub sites: Vec<SiteId>,
    /// Sites from a file, one a line; empty lines and what follows a # are left out.
    #[arg(long, value_name = "FILE", required_unless_present = "sites")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Rollout {
    /// The module.
    pub module: Name,
    /// Its version, published or staged.
    pub version: Version,
    /// A cohort (may be repeated), or `all`.
    #[arg(long, value_name = "COHORT|all", required_unless_present = "withdraw")]
    pub to: Vec<String>,
    /// The first day of the offer.
    #[arg(long, value_name = "DATE")]
    pub not_before: Option<Date>,
    /// The last day of the offer: sites that took it up run it until then.
    #[arg(long, value_name = "DATE")]
    pub not_after: Option<Date>,
    /// Offer this version to nobody any more. Sites that run it go on; to stop them, use `hold` or `revoke`.
    #[arg(long, conflicts_with_all = ["to", "not_before", "not_after"])]
    pub withdraw: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub held: Held,
    /// Why, one line; every practice reads it.
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    pub held: Held,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The module.
    pub module: Name,
    /// The version that never runs again.
    pub version: Version,
    /// Why, one line; every practice reads it.
    #[arg(long)]
    pub reason: String,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Unstage {
    /// What it is.
    #[arg(requires = "id")]
    pub kind: Option<StagedKind>,
    /// Its id; of a rollout the module's, of holds `standing`.
    pub id: Option<Name>,
    /// Its version; every staged one when absent.
    pub version: Option<Version>,
    #[command(flatten)]
    pub place: Place,
}

/// What can be staged, as the command is called that stages it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StagedKind {
    Module,
    Mapping,
    Policy,
    Sensitive,
    Recipients,
    Codelist,
    TokenKeys,
    Direction,
    Cohort,
    Rollout,
    Holds,
}

impl StagedKind {
    /// The folder of its files.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Module => TargetKind::ModuleManifest,
            Self::Mapping => TargetKind::Mapping,
            Self::Policy => TargetKind::Policy,
            Self::Sensitive => TargetKind::SensitiveCodes,
            Self::Recipients => TargetKind::Recipients,
            Self::Codelist => TargetKind::Codelist,
            Self::TokenKeys => TargetKind::TokenKeys,
            Self::Direction => TargetKind::Direction,
            Self::Cohort => TargetKind::Cohort,
            Self::Rollout => TargetKind::Rollout,
            Self::Holds => TargetKind::Holds,
        }
        .folder()
    }

    /// What a path is of, as one types it.
    pub(crate) fn in_words(path: &TargetPath) -> String {
        let is_it = |kind: &&Self| kind.folder() == path.kind().folder();
        let value = Self::value_variants().iter().find(is_it).and_then(Self::to_possible_value);
        let name = value.map_or(path.kind().name().to_owned(), |value| value.get_name().to_owned());
        format!("{name} {} {}", path.id(), path.version())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    pub place: Place,
    /// Days until the snapshot must be signed again.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = super::days())]
    pub snapshot_days: u32,
    /// Days until the timestamp must be signed again: the longest that somebody can hide a new publication from a site.
    #[arg(long, value_name = "DAYS", default_value_t = 14, value_parser = super::days())]
    pub timestamp_days: u32,
}
