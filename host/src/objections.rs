//! Objections: who may not be seen, decided once a run from coded evidence, before any clinical row is read.
//!
//! There is no official rule for unclear records. The policy says what to do; where it takes the cautious choices, what is
//! unclear counts against disclosure:
//!
//! 1. A deleted entry is ignored. A code is compared exactly, after its length is normalised; never by prefix or text.
//! 2. A dissent that is undated, or may be dated after the day of the run, holds: nothing can be shown to come after it.
//! 3. A withdrawal that is undated or may be dated after the day of the run is ignored, and so is one whose code no primary
//!    source confirms, unless the policy honours it.
//! 4. A partial date is an interval. A dissent counts from its last day, a withdrawal from its first, so that a
//!    withdrawal wins only where it certainly came later.
//! 5. The latest entry decides. On the same day, dissent wins.
//! 6. A type may have a last valid day (`dissent-until`); only a dissent that is certainly later than that is ignored.
//!
//! Evidence that looks broken stops the run ([`EvidenceError`]): none at all, too little, dates in a form that nobody declared,
//! patients whom nobody knows, much less of it than the last time.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use lockgate_signing::bundle::{EVIDENCE_YEARS, EvidenceCount, EvidenceCounts, EvidenceKind};
use lockgate_signing::code::{CodeShape, normalise_code};
use lockgate_signing::policy::{ObjectionPolicy, ObjectionRule, Partial, SameDay, Uncertain};

/// A type of objection that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Objection {
    /// Nothing leaves the practice.
    pub(crate) type_1: bool,
    /// Nothing leaves the centre in identifiable form.
    pub(crate) type_2: bool,
}

/// The days that an entry may be from, first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) first: Date,
    pub(crate) last: Date,
}

/// What the record says of the day of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryDate {
    /// Nothing.
    None,
    /// Something that is not a date in the declared form.
    Unreadable,
    /// A day, or the days of a month or a year.
    Within(Interval),
}

/// What a code means to a policy.
#[derive(Debug, Clone)]
struct Meaning {
    type_2: bool,
    dissent: bool,
    honoured: bool,
    /// Entries by year, deleted ones not among them.
    entries: BTreeMap<Option<u16>, u64>,
}

impl Meaning {
    fn kind(&self) -> EvidenceKind {
        match (self.type_2, self.dissent) {
            (false, true) => EvidenceKind::Type1Dissent,
            (false, false) => EvidenceKind::Type1Withdrawal,
            (true, true) => EvidenceKind::Type2Dissent,
            (true, false) => EvidenceKind::Type2Withdrawal,
        }
    }
}

/// Collects evidence, then decides. Local ids are its keys, so it can be neither printed nor serialised.
pub(crate) struct EvidenceBook<'a> {
    policy: &'a ObjectionPolicy,
    meanings: BTreeMap<(String, String), Meaning>,
    today: Date,
    patients: HashMap<Box<[u8]>, Testimony>,
    counts: EvidenceCounts,
}

/// What the evidence says of one patient.
#[derive(Debug, Clone, Copy, Default)]
struct Testimony {
    /// By type.
    standing: [Standing; 2],
    entries: u32,
    dissents: u32,
}

/// What is known so far of one patient and one type.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// A dissent was read, whether it counts or not.
    dissent_seen: bool,
    /// A dissent that nothing can be shown to come after.
    open_ended: bool,
    dissent: Option<Date>,
    withdrawal: Option<Date>,
}

impl Standing {
    fn is_tie(self) -> bool {
        !self.open_ended && self.dissent.is_some() && self.dissent == self.withdrawal
    }

    fn objects(self, same_day: SameDay) -> bool {
        let withdrawn_later = match (self.dissent, self.withdrawal) {
            (Some(dissent), Some(withdrawal)) => match same_day {
                SameDay::DissentWins => withdrawal > dissent,
                SameDay::WithdrawalWins => withdrawal >= dissent,
            },
            _ => false,
        };
        self.open_ended || self.dissent.is_some() && !withdrawn_later
    }
}

/// The evidence cannot be decided by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// None at all.
    #[error(
        "the objection evidence holds no row at all, which no practice's record does: check the mapping's \
         `objection-evidence` and that the copy of the database is whole; nothing was extracted"
    )]
    Empty,
    /// Less than any record holds.
    #[error(
        "the objection evidence holds {rows} rows, and the objection policy takes fewer than {rows_min} for a broken copy: \
         check the mapping's `objection-evidence` and that the copy of the database is whole; nothing was extracted"
    )]
    TooFew {
        /// Rows read.
        rows: u64,
        /// The policy's least.
        rows_min: u64,
    },
    /// Dates in a form that the mapping does not declare.
    #[error(
        "{unreadable} of {entries} entries of the objection evidence have a date that cannot be read, which is more than the \
         objection policy's share: the mapping declares another form of date than the database has; ask the publishing team; \
         nothing was extracted"
    )]
    UnreadableDates {
        /// Entries with such a date.
        unreadable: u64,
        /// Entries of the policy's codes.
        entries: u64,
    },
    /// Ids that do not agree.
    #[error(
        "{unknown} of {dissents} dissents of the objection evidence are of patients whom the identity table does not know, \
         which is more than the objection policy's share: the two tables of the mapping do not speak of the same ids; ask the \
         publishing team; nothing was extracted"
    )]
    UnknownPatients {
        /// Dissents of unknown patients.
        unknown: u64,
        /// All dissents.
        dissents: u64,
    },
    /// Much less than the last time.
    #[error(
        "the objection evidence holds {now} dissents, and held {before} when the last bundle was made, which is a larger drop \
         than the objection policy allows: check that the copy of the database is whole; if the dissents are rightly gone, ask \
         the publishing team for a policy that allows it; nothing was extracted"
    )]
    Dropped {
        /// Dissents now.
        now: u64,
        /// Dissents then.
        before: u64,
    },
}

impl<'a> EvidenceBook<'a> {
    /// An empty book, as of a day.
    pub(crate) fn new(policy: &'a ObjectionPolicy, today: Date) -> Self {
        let mut meanings = BTreeMap::new();
        let mut add = |rule: &ObjectionRule, type_2: bool| {
            let dissents = rule.dissent.iter().map(|code| (code, true));
            let withdrawals = rule.withdrawal.iter().map(|code| (code, false));
            for (code, dissent) in dissents.chain(withdrawals) {
                let honoured = dissent || code.confirmed || rule.honour_unconfirmed_withdrawals;
                let text = match CodeShape::of_known_system(code.system.as_str()) {
                    Some(shape) => normalise_code(shape, &code.code),
                    None => code.code.clone(),
                };
                let meaning = Meaning { type_2, dissent, honoured, entries: BTreeMap::new() };
                meanings.insert((code.system.to_string(), text), meaning);
            }
        };
        add(&policy.type_1, false);
        add(&policy.type_2, true);
        Self { policy, meanings, today, patients: HashMap::new(), counts: EvidenceCounts::default() }
    }

    /// Whether the policy knows a code (normalised). Asked once for each distinct code, not once a row.
    pub(crate) fn knows(&self, system: &str, code: &str) -> bool {
        self.meanings.contains_key(&(system.to_owned(), code.to_owned()))
    }

    /// A row whose code the policy does not know: evidence that there is evidence.
    pub(crate) fn add_other(&mut self) {
        self.counts.rows += 1;
    }

    /// A row whose code the policy knows.
    pub(crate) fn add(&mut self, local_id: &[u8], system: &str, code: &str, date: EntryDate, deleted: bool) {
        let counts = &mut self.counts;
        counts.rows += 1;
        let Some(meaning) = self.meanings.get_mut(&(system.to_owned(), code.to_owned())) else { return };
        // 1. Exact codes, rows that were not deleted.
        if deleted {
            counts.deleted += 1;
            return;
        }
        let dates = &self.policy.dates;
        // 2. and 3. Undated, or possibly in the future: how an entry is uncertain, if it is.
        let (on, uncertain) = match date {
            EntryDate::None => {
                counts.undated += 1;
                (None, Some(dates.undated))
            }
            EntryDate::Unreadable => {
                counts.unreadable += 1;
                (None, Some(dates.undated))
            }
            EntryDate::Within(on) if on.last > self.today => {
                counts.future_dated += 1;
                (Some(on), Some(dates.future_dated))
            }
            EntryDate::Within(on) => (Some(on), None),
        };
        let year = on.filter(|_| uncertain.is_none()).map(|on| counted_year(on.first, self.today));
        *meaning.entries.entry(year).or_default() += 1;
        let rule = if meaning.type_2 { &self.policy.type_2 } else { &self.policy.type_1 };
        let testimony = self.patients.entry(local_id.into()).or_default();
        testimony.entries += 1;
        testimony.dissents += u32::from(meaning.dissent);
        let standing = &mut testimony.standing[usize::from(meaning.type_2)];
        if !meaning.dissent {
            // 3. Not confirmed, undated, or possibly in the future.
            if !meaning.honoured {
                counts.not_honoured += 1;
            } else if let (Some(on), None) = (on, uncertain) {
                // 4. and 5. The latest withdrawal, by its first day.
                standing.withdrawal = standing.withdrawal.max(Some(on.first));
            }
            return;
        }
        standing.dissent_seen = true;
        match (on, uncertain) {
            // 6. Certainly after the last valid day of this type.
            (Some(on), _) if rule.dissent_until.is_some_and(|until| on.first > until) => counts.lapsed += 1,
            // 2. Undated or possibly in the future.
            (_, Some(Uncertain::DissentHolds)) => standing.open_ended = true,
            (_, Some(Uncertain::Ignored)) | (None, None) => {}
            // 4. and 5. The latest dissent, by its last day.
            (Some(on), None) => {
                let day = match dates.partial {
                    Partial::AgainstDisclosure => on.last,
                    Partial::FirstDay => on.first,
                };
                standing.dissent = standing.dissent.max(Some(day));
            }
        }
    }

    /// Decides, if the evidence is such that it can be decided by.
    pub(crate) fn close(self) -> Result<ObjectionRegister, EvidenceError> {
        let (rules, mut counts) = (self.policy.evidence, self.counts);
        if counts.rows == 0 {
            return Err(EvidenceError::Empty);
        }
        if counts.rows < rules.rows_min {
            return Err(EvidenceError::TooFew { rows: counts.rows, rows_min: rules.rows_min });
        }
        let entries = self.patients.values().map(|testimony| u64::from(testimony.entries)).sum();
        if is_more(counts.unreadable, rules.unreadable_dates_max, entries) {
            return Err(EvidenceError::UnreadableDates { unreadable: counts.unreadable, entries });
        }
        let by_code = self.meanings.into_iter().flat_map(|((system, code), meaning)| {
            let kind = meaning.kind();
            meaning.entries.into_iter().map(move |(year, entries)| {
                let (system, code) = (system.clone(), code.clone());
                EvidenceCount { kind, system, code, year, entries }
            })
        });
        counts.by_code = by_code.collect();
        counts.by_code.sort_unstable();
        let standings = || self.patients.values().flat_map(|testimony| testimony.standing);
        counts.ties = standings().filter(|standing| standing.is_tie()).count() as u64;
        Ok(ObjectionRegister { patients: self.patients, same_day: self.policy.dates.same_day, counts })
    }
}

/// Whether a part of a whole is more than a share of it.
fn is_more(part: u64, share: f64, whole: u64) -> bool {
    part as f64 > share * whole as f64
}

fn counted_year(day: Date, today: Date) -> u16 {
    let last = today.year().unsigned_abs();
    // Dates of the source lie between 1800 and 2200.
    day.year().unsigned_abs().clamp(last.saturating_sub(EVIDENCE_YEARS - 1), last)
}

/// Who objects, and what was found. Keyed by local ids, so it can be neither printed nor serialised.
pub(crate) struct ObjectionRegister {
    patients: HashMap<Box<[u8]>, Testimony>,
    same_day: SameDay,
    /// What was counted; entries of unknown patients not yet (see [`ObjectionRegister::check_known`]).
    pub(crate) counts: EvidenceCounts,
}

impl ObjectionRegister {
    /// The objections of a patient.
    pub(crate) fn of(&self, local_id: &[u8]) -> Objection {
        let Some(testimony) = self.patients.get(local_id) else { return Objection::default() };
        let [type_1, type_2] = testimony.standing.map(|standing| standing.objects(self.same_day));
        Objection { type_1, type_2 }
    }

    /// Everybody of whom there is evidence.
    pub(crate) fn local_ids(&self) -> impl Iterator<Item = &[u8]> {
        self.patients.keys().map(|local_id| &**local_id)
    }

    /// Which types of dissent the evidence held for a patient, whether they count or not.
    pub(crate) fn dissents_seen(&self, local_id: &[u8]) -> Objection {
        let Some(testimony) = self.patients.get(local_id) else { return Objection::default() };
        let [type_1, type_2] = testimony.standing.map(|standing| standing.dissent_seen);
        Objection { type_1, type_2 }
    }

    /// Counts the entries of patients whom the identity table does not know; too many of them stop the run, because an
    /// objection whose id agrees with nobody's withholds nobody.
    pub(crate) fn check_known(
        &mut self,
        policy: &ObjectionPolicy,
        is_known: impl Fn(&[u8]) -> bool,
    ) -> Result<(), EvidenceError> {
        let mut unknown = 0;
        for (_, testimony) in self.patients.iter().filter(|(local_id, _)| !is_known(local_id)) {
            self.counts.unknown_patients += u64::from(testimony.entries);
            unknown += u64::from(testimony.dissents);
        }
        let dissents = self.counts.dissents();
        if is_more(unknown, policy.evidence.unknown_patients_max, dissents) {
            return Err(EvidenceError::UnknownPatients { unknown, dissents });
        }
        Ok(())
    }

    /// Compares with what the last bundle was made from: the canary that a site can see by itself.
    pub(crate) fn check_drop(&self, policy: &ObjectionPolicy, before: u64) -> Result<(), EvidenceError> {
        let (now, rules) = (self.counts.dissents(), policy.evidence);
        let gone = before.saturating_sub(now);
        if gone >= rules.drop_entries_min.max(1) && is_more(gone, rules.drop_max, before) {
            return Err(EvidenceError::Dropped { now, before });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
