//! What the host counted while it read: signed, so that the centre can see a site that stops withholding.
//!
//! One supplier did not send some 150,000 objections for three years, and nobody saw it. So every bundle says how many
//! entries of each objection code there are, by year, and the centre can alarm where a count drops to nothing or steps.

use serde::Serialize;

use super::codec::{read_list, read_text};
use crate::cbor::{CborError, Reader, Writer};
use crate::policy::POLICY_CODES_MAX;

/// What the host counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Persons in the snapshot, test patients not among them.
    pub patients: u64,
    /// Persons withheld by a Type 1 objection.
    pub withheld_type_1: u64,
    /// Persons whose rows carry the Type 2 flag.
    pub flagged_type_2: u64,
    /// Persons left out because the record marks them as sensitive.
    pub withheld_sensitive: u64,
    /// Test and dummy patients, left out.
    pub test_patients: u64,
    /// Persons without a valid NHS number: sent, but not linkable.
    pub invalid_nhs_numbers: u64,
    /// The objection evidence.
    pub evidence: EvidenceCounts,
    /// Rows of declared inputs that the database held for the period.
    pub rows_read: u64,
    /// Rows left out because their patient is (objection, sensitive, test).
    pub rows_withheld: u64,
    /// Rows left out because no patient of the snapshot owns them.
    pub rows_without_patient: u64,
    /// Rows left out by a sensitive-code list.
    pub rows_sensitive: u64,
    /// Rows left out because a code does not have the shape of its system.
    pub rows_malformed: u64,
    /// Aggregate cells suppressed.
    pub cells_suppressed: u64,
    /// Rows left out because the record marks them as deleted.
    pub rows_deleted: u64,
    /// Rows left out because the record marks them as confidential.
    pub rows_confidential: u64,
    /// Units and other optional codes that do not have the shape of their system, left out of rows that crossed.
    pub values_malformed: u64,
    /// Persons with a Type 1 objection that a direction lets in.
    pub let_in: u64,
}

/// The objection evidence, counted before anything is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EvidenceCounts {
    /// Rows read, of whatever code, deleted ones among them.
    pub rows: u64,
    /// Entries of the policy's codes that are marked as deleted, and so ignored.
    pub deleted: u64,
    /// Entries of the policy's codes without a date. From here on deleted ones are not counted.
    pub undated: u64,
    /// … with a date that cannot be read.
    pub unreadable: u64,
    /// … that are or may be dated after the day of the run.
    pub future_dated: u64,
    /// Dissents after the last valid day of their type.
    pub lapsed: u64,
    /// Withdrawals whose code is not confirmed, and so not honoured.
    pub not_honoured: u64,
    /// Patients and types for whom a dissent and a withdrawal of one day are the latest.
    pub ties: u64,
    /// Entries of patients whom the identity table does not know.
    pub unknown_patients: u64,
    /// Entries by kind, code and year, in this order.
    pub by_code: Vec<EvidenceCount>,
}

impl EvidenceCounts {
    /// All dissents, of both types.
    pub fn dissents(&self) -> u64 {
        let dissents = self.by_code.iter().filter(|count| count.kind.is_dissent());
        dissents.map(|count| count.entries).sum()
    }
}

/// What an objection code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum EvidenceKind {
    /// Nothing leaves the practice.
    #[serde(rename = "type-1-dissent")]
    Type1Dissent,
    /// That it was withdrawn.
    #[serde(rename = "type-1-withdrawal")]
    Type1Withdrawal,
    /// Nothing leaves the centre in identifiable form.
    #[serde(rename = "type-2-dissent")]
    Type2Dissent,
    /// That it was withdrawn.
    #[serde(rename = "type-2-withdrawal")]
    Type2Withdrawal,
}

impl EvidenceKind {
    /// All of them, in their order.
    pub const ALL: [Self; 4] =
        [Self::Type1Dissent, Self::Type1Withdrawal, Self::Type2Dissent, Self::Type2Withdrawal];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type1Dissent => "type-1-dissent",
            Self::Type1Withdrawal => "type-1-withdrawal",
            Self::Type2Dissent => "type-2-dissent",
            Self::Type2Withdrawal => "type-2-withdrawal",
        }
    }

    /// Whether it is a dissent.
    pub fn is_dissent(self) -> bool {
        matches!(self, Self::Type1Dissent | Self::Type2Dissent)
    }
}

/// How often one objection code occurs in one year.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EvidenceCount {
    /// What the code says.
    pub kind: EvidenceKind,
    /// Its system.
    pub system: String,
    /// Its text.
    pub code: String,
    /// The year of the entry, the first of those that a partial date may mean; what is older than [`EVIDENCE_YEARS`] is in
    /// the first of them. `None`: undated, unreadable, or in the future.
    pub year: Option<u16>,
    /// How many entries.
    pub entries: u64,
}

/// The years that evidence is counted by, the year of the run being the last.
pub const EVIDENCE_YEARS: u16 = 30;

/// Every code in every year, and without one.
const BY_CODE_MAX: usize = POLICY_CODES_MAX * (EVIDENCE_YEARS as usize + 1);

impl Counts {
    pub(super) fn write(&self, w: &mut Writer) {
        w.map(17);
        let before = [
            self.patients,
            self.withheld_type_1,
            self.flagged_type_2,
            self.withheld_sensitive,
            self.test_patients,
            self.invalid_nhs_numbers,
        ];
        let after = [
            self.rows_read,
            self.rows_withheld,
            self.rows_without_patient,
            self.rows_sensitive,
            self.rows_malformed,
            self.cells_suppressed,
            self.rows_deleted,
            self.rows_confidential,
            self.values_malformed,
            self.let_in,
        ];
        write_numbers(w, 1, &before);
        w.unsigned(7);
        self.evidence.write(w);
        write_numbers(w, 8, &after);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "counts of a bundle header";
        let count = |r: &mut Reader<'_>, key| read_number(r, key, PLACE);
        r.record(17, PLACE)?;
        Ok(Self {
            patients: count(r, 1)?,
            withheld_type_1: count(r, 2)?,
            flagged_type_2: count(r, 3)?,
            withheld_sensitive: count(r, 4)?,
            test_patients: count(r, 5)?,
            invalid_nhs_numbers: count(r, 6)?,
            evidence: {
                r.field(7, PLACE)?;
                EvidenceCounts::read(r)?
            },
            rows_read: count(r, 8)?,
            rows_withheld: count(r, 9)?,
            rows_without_patient: count(r, 10)?,
            rows_sensitive: count(r, 11)?,
            rows_malformed: count(r, 12)?,
            cells_suppressed: count(r, 13)?,
            rows_deleted: count(r, 14)?,
            rows_confidential: count(r, 15)?,
            values_malformed: count(r, 16)?,
            let_in: count(r, 17)?,
        })
    }
}

impl EvidenceCounts {
    fn write(&self, w: &mut Writer) {
        w.map(10);
        let numbers = [
            self.rows,
            self.deleted,
            self.undated,
            self.unreadable,
            self.future_dated,
            self.lapsed,
            self.not_honoured,
            self.ties,
            self.unknown_patients,
        ];
        write_numbers(w, 1, &numbers);
        w.unsigned(10);
        w.array(self.by_code.len());
        for count in &self.by_code {
            w.array(5);
            w.text(count.kind.name());
            w.text(&count.system);
            w.text(&count.code);
            match count.year {
                Some(year) => w.unsigned(year.into()),
                None => w.null(),
            }
            w.unsigned(count.entries);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "evidence of a bundle header";
        let count = |r: &mut Reader<'_>, key| read_number(r, key, PLACE);
        r.record(10, PLACE)?;
        let read = Self {
            rows: count(r, 1)?,
            deleted: count(r, 2)?,
            undated: count(r, 3)?,
            unreadable: count(r, 4)?,
            future_dated: count(r, 5)?,
            lapsed: count(r, 6)?,
            not_honoured: count(r, 7)?,
            ties: count(r, 8)?,
            unknown_patients: count(r, 9)?,
            by_code: {
                r.field(10, PLACE)?;
                read_list(r, BY_CODE_MAX, EvidenceCount::read)?
            },
        };
        let key = |count: &EvidenceCount| (count.kind, count.system.clone(), count.code.clone(), count.year);
        if !read.by_code.is_sorted_by(|one, next| key(one) < key(next)) {
            return Err(CborError::value(PLACE, "not in order, or a year of a code twice"));
        }
        Ok(read)
    }
}

impl EvidenceCount {
    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "evidence count";
        if r.array(PLACE)? != 5 {
            return Err(CborError::value(PLACE, "not kind, system, code, year and entries"));
        }
        let kind = r.text(PLACE)?;
        let kind = EvidenceKind::ALL.into_iter().find(|known| known.name() == kind);
        Ok(Self {
            kind: kind.ok_or_else(|| CborError::value(PLACE, "an unknown kind"))?,
            system: read_text(r, 24)?,
            code: read_text(r, 24)?,
            year: if r.is_null() { None } else { Some(r.narrow(PLACE)?) },
            entries: r.unsigned(PLACE)?,
        })
    }
}

fn write_numbers(w: &mut Writer, first_key: u64, numbers: &[u64]) {
    for (key, number) in (first_key..).zip(numbers) {
        w.unsigned(key);
        w.unsigned(*number);
    }
}

fn read_number(r: &mut Reader<'_>, key: u64, place: &'static str) -> Result<u64, CborError> {
    r.field(key, place)?;
    r.unsigned(place)
}
