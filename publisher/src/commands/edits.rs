//! `cohort set`, `rollout`, `hold`, `resume`, `revoke`, `unstage`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use jiff::civil::Date;
use lockgate_publish::edit::{self, Edited};
use lockgate_publish::published::Published;
use lockgate_publish::staging;
use lockgate_signing::holds;
use lockgate_signing::ids::SiteId;
use lockgate_signing::rollout::RolloutStep;

use crate::cli::edits::{CohortSet, Hold, Resume, Revoke, Rollout, StagedKind, Unstage};
use crate::report::{self, Report};
use crate::{open, read};

/// The largest file of sites, bytes.
const SITES_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn cohort_set(set: CohortSet) -> anyhow::Result<Report> {
    let CohortSet { name, title, mut sites, file, place } = set;
    if let Some(file) = file {
        sites.extend(read_sites(&file)?);
    }
    staged(edit::set_cohort(&open(place)?, &name, title, sites))
}

fn read_sites(file: &Path) -> anyhow::Result<Vec<SiteId>> {
    let text = String::from_utf8(read(file, SITES_BYTES_MAX)?).with_context(|| file.display().to_string())?;
    let mut sites = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let site = line.split('#').next().unwrap_or_default().trim();
        if !site.is_empty() {
            let place = || format!("{}, line {}", file.display(), number + 1);
            sites.push(site.parse().with_context(place)?);
        }
    }
    Ok(sites)
}

pub(crate) fn rollout(rollout: Rollout, today: Date) -> anyhow::Result<Report> {
    let Rollout { module, version, to, not_before, not_after, withdraw, place } = rollout;
    let repository = open(place)?;
    if withdraw {
        return staged(edit::withdraw(&repository, &module, &version));
    }
    let to = edit::audience(&to).map_err(|why| anyhow!("--to: {why}"))?;
    let step = RolloutStep { module_version: version, to, not_before, not_after };
    let (path, staged) = edit::offer(&repository, &module, step, today)?;
    Ok(report::added(path, staged, Published::read(&repository)?.warnings(&module)?))
}

pub(crate) fn hold(hold: Hold, today: Date) -> anyhow::Result<Report> {
    let Hold { held, reason, place } = hold;
    let hold = holds::Hold { module: held.module, cohort: held.cohort, since: today, reason };
    staged(edit::hold(&open(place)?, hold))
}

pub(crate) fn resume(resume: Resume) -> anyhow::Result<Report> {
    let Resume { held, place } = resume;
    staged(edit::resume(&open(place)?, held.module.as_ref(), held.cohort.as_ref()))
}

pub(crate) fn revoke(revoke: Revoke, today: Date) -> anyhow::Result<Report> {
    let Revoke { module, version, reason, place } = revoke;
    staged(edit::revoke(&open(place)?, module, version, today, reason))
}

pub(crate) fn unstage(unstage: Unstage) -> anyhow::Result<Report> {
    let Unstage { kind, id, version, place } = unstage;
    let repository = open(place)?;
    let removed = match (kind, id) {
        (Some(kind), Some(id)) => staging::unstage(&repository, kind.folder(), &id, version.as_ref())?,
        _ => Vec::new(),
    };
    let words = |paths: BTreeSet<_>| paths.iter().map(StagedKind::in_words).collect::<BTreeSet<_>>();
    Ok(report::unstaged(words(removed.into_iter().collect()), words(staging::staged_paths(&repository)?)))
}

fn staged(edited: Edited) -> anyhow::Result<Report> {
    let (path, staged) = edited?;
    Ok(report::added(path, staged, Vec::new()))
}
