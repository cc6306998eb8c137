//! What ends when: for monitoring, so that nothing ends unseen.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lockgate_signing::holds::Hold;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::policy::ObjectionPolicy;
use lockgate_signing::rollout::Rollout;
use lockgate_signing::target::{TargetKind, TargetPath};
use serde::Serialize;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::coherence;
use crate::repository::Live;
use crate::role::Role;

/// How the repository stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The worst of the ends.
    pub verdict: Verdict,
    /// What ends, the first first.
    pub ends: Vec<End>,
    /// What is held.
    pub held: Vec<String>,
    /// What was revoked.
    pub revoked: Vec<String>,
}

/// Whether somebody has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing to do.
    Good,
    /// It ends soon.
    Soon,
    /// It has ended.
    Ended,
}

/// One thing that ends.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct End {
    /// What.
    pub what: String,
    /// Its last day.
    pub ends: Date,
    /// Days until then; negative where it is over.
    pub days: i32,
    /// Whether that is soon.
    pub verdict: Verdict,
    /// What to do.
    pub remedy: &'static str,
}

/// Days before the end from which on a document is reported: long enough to get its signers together, and for the online
/// ones to see that the timer has failed.
fn warning_days(role: Role) -> i32 {
    match role {
        Role::Root => 90,
        Role::Snapshot => 7,
        Role::Timestamp => 5,
        _ => 45,
    }
}
/// The same for modules and policies, which have to be written, reviewed and rolled out again.
const CONTENT_WARNING_DAYS: i32 = 60;

/// What ends when.
pub fn status(live: &Live, catalogue: &Catalogue<'_>, now: Timestamp) -> Result<Status, CatalogueError> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let mut ends = Vec::new();
    for role in Role::ALL {
        if let Some(expires) = live.expires(role) {
            let day = expires.to_zoned(TimeZone::UTC).date();
            let remedy = match role {
                Role::Root => "`root extend`, signed by the root's keys",
                Role::Snapshot | Role::Timestamp => "`refresh`; look why the timer did not run",
                _ => "`propose --renew`, signed by its keys",
            };
            let mut end = end(format!("the {role} document"), day, today, warning_days(role), remedy);
            if expires < now {
                end.verdict = Verdict::Ended;
            }
            ends.push(end);
        }
    }
    ends.extend(of_content(catalogue, today)?);
    ends.sort_by(|a, b| (a.ends, &a.what).cmp(&(b.ends, &b.what)));
    let holds = coherence::newest_holds(catalogue)?;
    let held = holds.iter().flat_map(|holds| &holds.holds);
    let held =
        held.map(|hold: &Hold| format!("{}, since {}: {}", hold.what(), hold.since, hold.reason)).collect();
    let revoked = holds.iter().flat_map(|holds| &holds.revoked);
    let revoked =
        revoked.map(|it| format!("{} {}, since {}: {}", it.module, it.module_version, it.since, it.reason));
    let verdict = ends.iter().map(|end| end.verdict).max().unwrap_or(Verdict::Good);
    Ok(Status { verdict, held, revoked: revoked.collect(), ends })
}

fn end(what: String, ends: Date, today: Date, warning_days: i32, remedy: &'static str) -> End {
    let days = today.until(ends).map(|span| span.get_days()).unwrap_or(0);
    let verdict = match days {
        ..0 => Verdict::Ended,
        days if days <= warning_days => Verdict::Soon,
        _ => Verdict::Good,
    };
    End { what, ends, days, verdict, remedy }
}

/// The module versions that are offered, and the newest policies: what a site cannot run without.
fn of_content(catalogue: &Catalogue<'_>, today: Date) -> Result<Vec<End>, CatalogueError> {
    let mut ends = Vec::new();
    for id in catalogue.ids(TargetKind::Policy) {
        let newest = catalogue.newest(TargetKind::Policy, id);
        if let Some(policy) =
            newest.map(|path| catalogue.decode::<ObjectionPolicy>(&path)).transpose()?.flatten()
        {
            let what = format!("the objection policy {id} {}", policy.version);
            let remedy = "publish a version with a later `not-after`; without one no site extracts";
            ends.push(end(what, policy.not_after, today, CONTENT_WARNING_DAYS, remedy));
        }
    }
    for id in catalogue.ids(TargetKind::Rollout) {
        let Some(path) = catalogue.newest(TargetKind::Rollout, id) else { continue };
        let Some(rollout) = catalogue.decode::<Rollout>(&path)? else { continue };
        // The newest offer is what sites come to run.
        let Some(step) = rollout.steps.iter().max_by_key(|step| &step.module_version) else { continue };
        let path = TargetPath::new(TargetKind::ModuleManifest, id.clone(), step.module_version.clone());
        let manifest = path.ok().map(|path| catalogue.decode::<Manifest>(&path)).transpose()?.flatten();
        if let Some(manifest) = manifest {
            let last = step.not_after.map_or(manifest.not_after, |day| day.min(manifest.not_after));
            let what = format!("the module {id} {}", manifest.version);
            let remedy = "publish and roll out a version with a later `not-after`, if it is still needed";
            ends.push(end(what, last, today, CONTENT_WARNING_DAYS, remedy));
        }
    }
    Ok(ends)
}
