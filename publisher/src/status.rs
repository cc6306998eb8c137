//! What ends when: for monitoring, so that nothing ends unseen.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lockgate_signing::direction::Direction;
use lockgate_signing::holds::Hold;
use lockgate_signing::policy::ObjectionPolicy;
use lockgate_signing::recipients::Recipients;
use lockgate_signing::target::TargetKind;
use lockgate_signing::text_format::TextFormat;
use lockgate_signing::token_keys::TokenKeys;
use serde::Serialize;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::coherence;
use crate::lint::Warning;
use crate::offers;
use crate::repository::Live;
use crate::role::Role;

/// How the repository stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The worst of the ends; as bad as an end where something is missing.
    pub verdict: Verdict,
    /// What ends, the first first.
    pub ends: Vec<End>,
    /// What is offered and cannot run anywhere.
    pub missing: Vec<Warning>,
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
/// The same for what has to be written, reviewed and rolled out again.
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
    let modules = catalogue.ids(TargetKind::Rollout).into_iter().cloned();
    let missing = offers::without_token_keys(catalogue, modules)?;
    let is_missing = (!missing.is_empty()).then_some(Verdict::Ended);
    let verdicts = ends.iter().map(|end| end.verdict).chain(is_missing);
    let verdict = verdicts.max().unwrap_or(Verdict::Good);
    Ok(Status { verdict, missing, held, revoked: revoked.collect(), ends })
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

/// What a site cannot run without: the policies, every version of a module that is offered, to whose keys it encrypts, and
/// the keys of its tokens; and directions, whose end is meant.
fn of_content(catalogue: &Catalogue<'_>, today: Date) -> Result<Vec<End>, CatalogueError> {
    let mut ends = Vec::new();
    let mut ends_on =
        |what: String, day, remedy| ends.push(end(what, day, today, CONTENT_WARNING_DAYS, remedy));
    for policy in newest::<ObjectionPolicy>(catalogue, TargetKind::Policy)? {
        let what = format!("the objection policy {} {}", policy.id, policy.version);
        let remedy = "publish a version with a later `not-after`; without one no site extracts";
        ends_on(what, policy.not_after, remedy);
    }
    for id in catalogue.ids(TargetKind::Rollout) {
        for step in offers::offered(catalogue, id)? {
            let Some(manifest) = offers::manifest(catalogue, id, &step.module_version)? else { continue };
            let last = step.not_after.map_or(manifest.not_after, |day| day.min(manifest.not_after));
            let to = offers::audience_in_words(&step.to, catalogue)?;
            let what = format!("the module {id} {}, offered to {to}", manifest.version);
            let remedy = "publish and roll out a version with a later `not-after`; or, where it is not needed any more, \
                          end the offer with `rollout ID VERSION --withdraw`";
            ends_on(what, last, remedy);
        }
    }
    for list in newest::<Recipients>(catalogue, TargetKind::Recipients)? {
        let what = format!("the list of recipients {} {}", list.id, list.version);
        let spans = list.recipients.iter().map(|it| (it.not_before, it.not_after)).collect();
        let remedy = "publish a version with a key that goes on; without one no site sends anything";
        ends_on(what, covered_until(spans, today), remedy);
    }
    for keys in newest::<TokenKeys>(catalogue, TargetKind::TokenKeys)? {
        let what = format!("the token keys {} {}", keys.id, keys.version);
        let spans = keys.epochs.iter().map(|it| (it.from, it.until)).collect();
        let remedy = "publish a version with a further epoch; without one no module of this purpose runs";
        ends_on(what, covered_until(spans, today), remedy);
    }
    for direction in newest::<Direction>(catalogue, TargetKind::Direction)? {
        // It was given for this long: that it ends takes nobody by surprise, and stops nothing.
        let what =
            format!("the direction {} {}; the objections apply again", direction.id, direction.version);
        let mut meant = end(what, direction.not_after, today, 0, "");
        if meant.verdict != Verdict::Ended {
            meant.verdict = Verdict::Good;
            ends.push(meant);
        }
    }
    Ok(ends)
}

/// The newest version of each document of a kind: sites go by no other.
fn newest<T: TextFormat>(catalogue: &Catalogue<'_>, kind: TargetKind) -> Result<Vec<T>, CatalogueError> {
    let paths = catalogue.ids(kind).into_iter().filter_map(|id| catalogue.newest(kind, id));
    paths.filter_map(|path| catalogue.decode(&path).transpose()).collect()
}

/// The last day until which every day from today on is in one of these spans; where today is in none, the last day that
/// was, or yesterday.
fn covered_until(spans: Vec<(Date, Date)>, today: Date) -> Date {
    let yesterday = today.yesterday().unwrap_or(today);
    let mut last = yesterday;
    while let Ok(next) = last.tomorrow()
        && let Some((_, until)) = spans
            .iter()
            .filter(|(from, until)| *from <= next && next <= *until)
            .max_by_key(|(_, until)| until)
    {
        last = *until;
    }
    if last > yesterday {
        return last;
    }
    spans.iter().map(|(_, until)| *until).filter(|until| *until < today).max().unwrap_or(yesterday)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_covered_ends_at_the_first_gap() {
        let until = |spans: &[(&str, &str)]| {
            let spans = spans.iter().map(|(from, until)| (day(from), day(until))).collect();
            covered_until(spans, day("2026-11-01")).to_string()
        };
        assert_eq!(until(&[("2026-01-01", "2026-12-31")]), "2026-12-31");
        // An overlap, days that follow each other, and a gap.
        let mut spans = vec![("2026-01-01", "2026-12-31"), ("2026-12-01", "2027-06-30")];
        assert_eq!(until(&spans), "2027-06-30");
        spans.extend([("2027-07-01", "2027-12-31"), ("2028-01-02", "2028-12-31")]);
        assert_eq!(until(&spans), "2027-12-31");
        // Today is in none.
        assert_eq!(until(&[("2026-01-01", "2026-09-30"), ("2026-12-01", "2027-12-31")]), "2026-09-30");
        assert_eq!(until(&[("2026-11-02", "2027-12-31")]), "2026-10-31");
        assert_eq!(until(&[("2026-01-01", "2026-11-01")]), "2026-11-01");
    }
}
