//! Objections as signed headers count them: where a site's numbers drop to nothing, or step.
//!
//! One supplier did not send some 150,000 objections for three years, and nobody saw it. A site's own agent stops where its
//! evidence falls by more than the policy allows (`drop-max`); here is seen what is less than that, what a site's policy let
//! through, what rose, and what a site cannot know of itself. Nothing but headers is read, and each is verified again.
//!
//! The last snapshot of a site is compared with the one before it, and, for what lets more out (fewer objections, more that are
//! withdrawn), with every one of the weeks before: a slow drain is told too, and a step stands for as long. Where the last one has
//! no dissents at all, it is compared with the last one that had, however old: that alarm stands until there are some again.
//!
//! Memory: one header, and the alarms.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_signing::bundle::{BundleHeader, Counts, EvidenceKind};
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::{BundleId, SiteId};

use crate::database::BundleRow;
use crate::intake::Intake;
use crate::offline::{self, OfflineError};

/// What is an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Thresholds {
    /// Patients, or entries of dissents, that an alarm takes where nothing is left.
    pub zero_from: u64,
    /// A step is more than this part of what was before, per cent …
    pub step_percent: u32,
    /// … and at least as many entries or patients.
    pub step_min: u64,
    /// Days back from the last snapshot that what lets more out is compared with.
    pub look_back_days: u32,
}

/// What one snapshot of a site says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counted {
    /// The bundle whose header says so.
    pub bundle: BundleId,
    /// The moment of the clinical database, seconds since 1970-01-01 UTC.
    pub snapshot_at_s: i64,
    /// The policy by which it was decided.
    pub policy: Digest,
    /// What the agent counted.
    pub counts: Counts,
}

impl Counted {
    fn of(bundle: BundleId, header: &BundleHeader) -> Self {
        let counts = header.counts.clone();
        Self { bundle, snapshot_at_s: header.snapshot_at_s, policy: header.policy, counts }
    }
}

/// The last snapshots of a site, and what is alarming about them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteObjections {
    /// The site.
    pub site: SiteId,
    /// The last one; none: nothing was sent.
    pub last: Option<Counted>,
    /// The one before it; none: it is the first.
    pub before: Option<Counted>,
    /// What is alarming.
    pub alarms: Vec<Alarm>,
}

/// A number that should be looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alarm {
    /// Of what: `patients-withheld`, `patients-flagged`, a kind of entries, or a kind and a code.
    pub what: String,
    /// How.
    pub change: Change,
    /// How many there were.
    pub before: u64,
    /// How many there are.
    pub now: u64,
    /// The moment of the snapshot in which there were as many, seconds since 1970-01-01 UTC.
    pub before_at_s: i64,
    /// Whether another policy was applied then: numbers may step for a reason.
    pub policy_changed: bool,
}

impl Alarm {
    /// Whether more patients may be seen for it.
    fn lets_out(&self) -> bool {
        let is_rise = self.change == Change::Rose;
        is_rise == self.kind().is_some_and(|kind| !kind.is_dissent())
    }

    /// The kind of entries; none: patients.
    fn kind(&self) -> Option<EvidenceKind> {
        let name = self.what.split(' ').next()?;
        EvidenceKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn by(&self) -> u64 {
        self.before.abs_diff(self.now)
    }
}

/// How a number changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Nothing is left.
    Zero,
    /// Fewer by more than the thresholds.
    Fell,
    /// More by more than the thresholds.
    Rose,
}

/// Compares the last snapshot of a site with those before; `bundles`: those of the site, in the order of its chain.
pub async fn of_site(
    intake: &Intake,
    site: SiteId,
    bundles: &[BundleRow],
    thresholds: Thresholds,
) -> Result<SiteObjections, OfflineError> {
    let (mut last, mut before): (Option<Counted>, Option<Counted>) = (None, None);
    let (mut alarming, mut seen_at_s) = (Vec::new(), i64::MAX);
    // A retraction counts nothing.
    let extracts = bundles.iter().filter(|row| row.kind == "extract" && row.accepted_at_s.is_some());
    for row in extracts.rev() {
        let bytes = intake.store.header(row.id).await?.ok_or(OfflineError::Incomplete)?;
        let counted = Counted::of(row.id, offline::header_of(intake, &bytes)?.message());
        // The bundles of one run are of one snapshot.
        if counted.snapshot_at_s == std::mem::replace(&mut seen_at_s, counted.snapshot_at_s) {
            continue;
        }
        let Some(last) = &last else {
            last = Some(counted);
            continue;
        };
        let back_to_s = last.snapshot_at_s.saturating_sub(i64::from(thresholds.look_back_days) * DAY_S);
        let is_recent = counted.snapshot_at_s >= back_to_s;
        let seeks_some = last.counts.evidence.dissents() == 0;
        let has_some = counted.counts.evidence.dissents() > 0;
        if before.is_none() {
            alarming = alarms(&counted, last, thresholds);
            before = Some(counted);
        } else if is_recent || (seeks_some && has_some) {
            add(&mut alarming, alarms(&counted, last, thresholds));
        }
        if !is_recent && (has_some || !seeks_some) {
            break;
        }
    }
    Ok(SiteObjections { site, last, before, alarms: alarming })
}

const DAY_S: i64 = 86_400;

/// Adds what an earlier snapshot shows to be let out: of each number, the largest step.
fn add(alarms: &mut Vec<Alarm>, earlier: Vec<Alarm>) {
    for alarm in earlier.into_iter().filter(Alarm::lets_out) {
        match alarms.iter_mut().find(|known| known.what == alarm.what) {
            Some(known) if known.lets_out() && known.by() >= alarm.by() => {}
            Some(known) => *known = alarm,
            None => alarms.push(alarm),
        }
    }
}

/// What is alarming about two snapshots of a site.
pub fn alarms(before: &Counted, now: &Counted, thresholds: Thresholds) -> Vec<Alarm> {
    let (before_at_s, policy_changed) = (before.snapshot_at_s, before.policy != now.policy);
    let alarm = |what: String, zero_from: u64, before: u64, now: u64| {
        let change = change(before, now, zero_from, thresholds)?;
        Some(Alarm { what, change, before, now, before_at_s, policy_changed })
    };
    let (before, now) = (&before.counts, &now.counts);
    // Whom a direction lets in has objected all the same.
    let patients = |counts: &Counts| {
        let withheld = counts.withheld_type_1 + counts.let_in;
        [("patients-withheld", withheld), ("patients-flagged", counts.flagged_type_2)]
    };
    let patients = patients(before).into_iter().zip(patients(now));
    let mut alarms: Vec<Alarm> = patients
        .filter_map(|((what, before), (_, now))| alarm(what.to_owned(), thresholds.zero_from, before, now))
        .collect();
    let (mut before, mut now) = (entries(before), entries(now));
    for kind in EvidenceKind::ALL {
        let before = before.remove(kind.name()).unwrap_or_default();
        let now = now.remove(kind.name()).unwrap_or_default();
        let zero_from = if kind.is_dissent() { thresholds.zero_from } else { thresholds.step_min };
        let of_all = alarm(kind.name().to_owned(), zero_from, before.values().sum(), now.values().sum());
        if let Some(of_all) = of_all {
            alarms.push(of_all);
            continue;
        }
        // A supplier may lose one code of several.
        let codes: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let entries = |of: &BTreeMap<String, u64>, code: &String| of.get(code).copied().unwrap_or(0);
        alarms.extend(codes.into_iter().filter_map(|code| {
            let what = format!("{} {code}", kind.name());
            alarm(what, thresholds.step_min, entries(&before, code), entries(&now, code))
        }));
    }
    alarms
}

fn change(before: u64, now: u64, zero_from: u64, thresholds: Thresholds) -> Option<Change> {
    if now == 0 && before >= zero_from.max(1) {
        return Some(Change::Zero);
    }
    let by = before.abs_diff(now);
    let is_part = u128::from(by) * 100 > u128::from(before) * u128::from(thresholds.step_percent);
    let is_step = by >= thresholds.step_min.max(1) && is_part;
    is_step.then_some(if now < before { Change::Fell } else { Change::Rose })
}

/// Entries of each kind, by code.
type Entries = BTreeMap<&'static str, BTreeMap<String, u64>>;

fn entries(counts: &Counts) -> Entries {
    let mut entries = Entries::new();
    for count in &counts.evidence.by_code {
        let codes = entries.entry(count.kind.name()).or_default();
        *codes.entry(format!("{} {}", count.system, count.code)).or_default() += count.entries;
    }
    entries
}

#[cfg(test)]
mod tests {
    use lockgate_signing::bundle::{EvidenceCount, EvidenceCounts};

    use super::*;

    const THRESHOLDS: Thresholds =
        Thresholds { zero_from: 1, step_percent: 20, step_min: 10, look_back_days: 92 };

    /// Entries of three codes, the last one of withdrawals; and patients withheld and flagged.
    fn counts(dissents: [u64; 2], withdrawals: u64, withheld: u64, flagged: u64) -> Counts {
        let of = |kind, code: &str, year, entries| EvidenceCount {
            kind,
            system: "snomed".to_owned(),
            code: code.to_owned(),
            year,
            entries,
        };
        let all = [
            // In two years, and counted as one.
            of(EvidenceKind::Type1Dissent, "827241000000103", None, dissents[0] / 2),
            of(EvidenceKind::Type1Dissent, "827241000000103", Some(2021), dissents[0] - dissents[0] / 2),
            of(EvidenceKind::Type1Dissent, "9Nu0", Some(2021), dissents[1]),
            of(EvidenceKind::Type1Withdrawal, "827261000000102", Some(2022), withdrawals),
        ];
        let by_code = all.into_iter().filter(|count| count.entries > 0).collect();
        Counts {
            withheld_type_1: withheld,
            flagged_type_2: flagged,
            evidence: EvidenceCounts { by_code, ..EvidenceCounts::default() },
            ..Counts::default()
        }
    }

    /// A snapshot that says so, of a day.
    fn counted(day: i64, counts: &Counts) -> Counted {
        let digest = Digest::of(b"");
        let (bundle, policy) = (BundleId(digest), digest);
        Counted { bundle, snapshot_at_s: day * DAY_S, policy, counts: counts.clone() }
    }

    fn told(before: &Counts, now: &Counts) -> Vec<(String, Change)> {
        told_by(before, now, THRESHOLDS)
    }

    fn told_by(before: &Counts, now: &Counts, thresholds: Thresholds) -> Vec<(String, Change)> {
        let alarms = alarms(&counted(1, before), &counted(2, now), thresholds);
        alarms.into_iter().map(|alarm| (alarm.what, alarm.change)).collect()
    }

    fn named(what: &str, change: Change) -> (String, Change) {
        (what.to_owned(), change)
    }

    #[test]
    fn what_drops_to_nothing_is_told_however_little_it_was() {
        let (before, now) = (counts([1, 0], 2, 1, 1), counts([0, 0], 0, 0, 1));
        // Two withdrawals are nothing to speak of.
        let expected = [named("patients-withheld", Change::Zero), named("type-1-dissent", Change::Zero)];
        assert_eq!(told(&before, &now), expected);
        assert_eq!(told(&before, &before), []);
        assert_eq!(told(&now, &now), [], "nothing was there");
        let lenient = Thresholds { zero_from: 2, ..THRESHOLDS };
        assert_eq!(told_by(&before, &now, lenient), []);
    }

    #[test]
    fn a_step_is_both_a_part_and_a_number() {
        let before = counts([100, 0], 0, 50, 0);
        // A fifth, and no more; nine of twenty; both.
        assert_eq!(told(&before, &counts([80, 0], 0, 50, 0)), []);
        assert_eq!(told(&counts([20, 0], 0, 50, 0), &counts([11, 0], 0, 50, 0)), []);
        let fell = [named("type-1-dissent", Change::Fell)];
        assert_eq!(told(&before, &counts([79, 0], 0, 50, 0)), fell);
        let rose = [named("type-1-dissent", Change::Rose)];
        assert_eq!(told(&before, &counts([121, 0], 0, 50, 0)), rose);
        assert_eq!(told(&counts([0, 0], 0, 50, 0), &counts([10, 0], 0, 50, 0)), rose);
        // Objections that are withdrawn by the dozen let data out as surely as objections that are lost.
        let withdrawn = [named("type-1-withdrawal", Change::Rose)];
        assert_eq!(told(&before, &counts([100, 0], 12, 50, 0)), withdrawn);
    }

    #[test]
    fn one_code_of_several_is_told_of_and_a_direction_is_no_alarm() {
        let before = counts([300, 12], 0, 50, 0);
        let lost = [named("type-1-dissent snomed 9Nu0", Change::Zero)];
        assert_eq!(told(&before, &counts([300, 0], 0, 50, 0)), lost);
        let let_in = Counts { withheld_type_1: 0, let_in: 50, ..before.clone() };
        assert_eq!(told(&before, &let_in), []);
    }
    #[test]
    fn of_what_lets_more_out_the_largest_step_is_told_and_of_what_does_not_only_the_last() {
        // Withdrawals and dissents, by month: a drain in steps of nine, and as many who withdraw.
        let now = counted(90, &counts([73, 0], 27, 73, 0));
        let mut all = alarms(&counted(60, &counts([82, 0], 18, 82, 0)), &now, THRESHOLDS);
        assert_eq!(all, []);
        for (day, dissents, withdrawals) in [(30, 91, 9), (1, 100, 0), (0, 95, 5)] {
            let earlier = counted(day, &counts([dissents, 0], withdrawals, dissents, 0));
            add(&mut all, alarms(&earlier, &now, THRESHOLDS));
        }
        let told: Vec<_> =
            all.iter().map(|it| (it.what.as_str(), it.before, it.before_at_s / DAY_S)).collect();
        assert_eq!(
            told,
            [("type-1-withdrawal", 0, 1), ("patients-withheld", 100, 1), ("type-1-dissent", 100, 1)]
        );
        // A rise of dissents is told once.
        let mut all = Vec::new();
        add(&mut all, alarms(&counted(1, &counts([10, 0], 30, 10, 0)), &now, THRESHOLDS));
        assert_eq!(all, []);
    }
}
