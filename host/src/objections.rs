//! Objections: who may not be seen, decided once a run from coded evidence, before any clinical row is read.
//!
//! There is no official rule for unclear records. Ours is that what is unclear counts against disclosure:
//!
//! 1. A deleted entry is ignored. A code is compared exactly, after its length is normalised; never by prefix or text.
//! 2. A dissent that is undated, or dated after the day of the run, holds: nothing can be shown to come after it.
//! 3. A withdrawal that is undated or dated after the day of the run is ignored, and so is one whose code no primary
//!    source confirms, unless the signed policy honours it.
//! 4. A partial date is an interval. A dissent counts from its last day, a withdrawal from its first, so that a
//!    withdrawal wins only where it certainly came later.
//! 5. The latest entry decides. On the same day, dissent wins.
//! 6. A type may have a last valid day (`dissent-until`); only a dissent that is certainly later than that is ignored.
//!
//! No evidence at all is a broken mapping or a broken copy until somebody shows otherwise, and stops the run.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use lockgate_signing::bundle::EvidenceCount;
use lockgate_signing::code::{CodeShape, normalise_code};
use lockgate_signing::policy::{ObjectionPolicy, ObjectionRule};

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

/// What a code means to a policy.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    type_2: bool,
    dissent: bool,
    honoured: bool,
    /// Entries seen, deleted ones not among them.
    entries: u64,
}

/// Collects evidence, then decides. Local ids are its keys, so it can be neither printed nor serialised.
pub(crate) struct EvidenceBook<'a> {
    policy: &'a ObjectionPolicy,
    meanings: BTreeMap<(String, String), Meaning>,
    today: Date,
    patients: HashMap<Box<[u8]>, [Standing; 2]>,
    rows: u64,
}

/// What is known so far of one patient and one type.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// A dissent that nothing can be shown to come after.
    open_ended: bool,
    dissent: Option<Date>,
    withdrawal: Option<Date>,
}

impl Standing {
    fn objects(self) -> bool {
        let withdrawn_later = match (self.dissent, self.withdrawal) {
            (Some(dissent), Some(withdrawal)) => withdrawal > dissent,
            _ => false,
        };
        self.open_ended || self.dissent.is_some() && !withdrawn_later
    }
}

/// The evidence holds nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "the objection evidence holds no row at all, which no practice's record does: check the mapping's \
     `objection-evidence` and that the copy of the database is whole; nothing was extracted"
)]
pub struct NoEvidence;

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
                meanings.insert(
                    (code.system.to_string(), text),
                    Meaning { type_2, dissent, honoured, entries: 0 },
                );
            }
        };
        add(&policy.type_1, false);
        add(&policy.type_2, true);
        Self { policy, meanings, today, patients: HashMap::new(), rows: 0 }
    }

    /// Whether the policy knows a code (normalised). Asked once for each distinct code, not once a row.
    pub(crate) fn knows(&self, system: &str, code: &str) -> bool {
        self.meanings.contains_key(&(system.to_owned(), code.to_owned()))
    }

    /// A row whose code the policy does not know: evidence that there is evidence.
    pub(crate) fn add_other(&mut self) {
        self.rows += 1;
    }

    /// A row whose code the policy knows; `date` is `None` where there is none or it cannot be read.
    pub(crate) fn add(
        &mut self,
        local_id: &[u8],
        system: &str,
        code: &str,
        date: Option<Interval>,
        deleted: bool,
    ) {
        self.rows += 1;
        // 1. Exact codes, rows that were not deleted.
        if deleted {
            return;
        }
        let Some(meaning) = self.meanings.get_mut(&(system.to_owned(), code.to_owned())) else { return };
        meaning.entries += 1;
        let rule = if meaning.type_2 { &self.policy.type_2 } else { &self.policy.type_1 };
        let standing = &mut self.patients.entry(local_id.into()).or_default()[usize::from(meaning.type_2)];
        match (meaning.dissent, date) {
            // 6. Certainly after the last valid day of this type.
            (true, Some(date)) if rule.dissent_until.is_some_and(|until| date.first > until) => {}
            // 2. Undated or possibly in the future.
            (true, None) => standing.open_ended = true,
            (true, Some(date)) if date.last > self.today => standing.open_ended = true,
            // 4. and 5. The latest dissent, by its last day.
            (true, Some(date)) => standing.dissent = standing.dissent.max(Some(date.last)),
            // 3. Not confirmed, undated, or possibly in the future.
            (false, _) if !meaning.honoured => {}
            (false, None) => {}
            (false, Some(date)) if date.last > self.today => {}
            // 4. and 5. The latest withdrawal, by its first day.
            (false, Some(date)) => standing.withdrawal = standing.withdrawal.max(Some(date.first)),
        }
    }

    /// Decides.
    pub(crate) fn close(self) -> Result<ObjectionRegister, NoEvidence> {
        if self.rows == 0 {
            return Err(NoEvidence);
        }
        let evidence = self.meanings.into_iter().filter(|(_, meaning)| meaning.entries > 0);
        let evidence =
            evidence.map(|((system, code), meaning)| EvidenceCount { system, code, rows: meaning.entries });
        let evidence = evidence.collect();
        let decided = self.patients.into_iter().map(|(local_id, [type_1, type_2])| {
            (local_id, Objection { type_1: type_1.objects(), type_2: type_2.objects() })
        });
        let objectors = decided.filter(|(_, objection)| *objection != Objection::default()).collect();
        Ok(ObjectionRegister { objectors, evidence })
    }
}

/// Who objects, and what was found. Keyed by local ids, so it can be neither printed nor serialised.
pub(crate) struct ObjectionRegister {
    objectors: HashMap<Box<[u8]>, Objection>,
    /// Rows by objection code, in order of system and code.
    pub(crate) evidence: Vec<EvidenceCount>,
}

impl ObjectionRegister {
    /// The objections of a patient.
    pub(crate) fn of(&self, local_id: &[u8]) -> Objection {
        self.objectors.get(local_id).copied().unwrap_or_default()
    }
}
