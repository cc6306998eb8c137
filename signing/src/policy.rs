//! The objection policy and the sensitive-code lists: signed data that the host decides by.
//!
//! Codes and rules: `docs/FORMAT.md`. Which of them are confirmed is part of the data, because a withdrawal that is
//! not confirmed must not be honoured by accident.

use std::collections::BTreeMap;

use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::code::{CodeSystem, CodesBySystem};
use crate::ids::Name;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// Which coded entries are objections, and what to do where the record is unclear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ObjectionPolicy {
    /// Always 1.
    pub format: u32,
    /// The policy's id.
    pub id: Name,
    /// The policy's version.
    pub version: Version,
    /// The last day on which the policy may be used.
    pub not_after: Date,
    /// What stops a run because the evidence looks broken.
    pub evidence: EvidenceRules,
    /// What to do where the dates of the record do not decide.
    pub dates: DateRules,
    /// Nothing leaves the practice.
    pub type_1: ObjectionRule,
    /// Nothing leaves the centre in identifiable form.
    pub type_2: ObjectionRule,
}

/// What stops a run, because it looks like a broken copy or a wrong mapping and not like people who changed their minds.
/// Shares are from 0 to 1. Nothing has a default: a policy says what it takes for broken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EvidenceRules {
    /// Rows of evidence, of whatever code, that every record holds; at least 1.
    pub rows_min: u64,
    /// The largest share of entries whose date is there and cannot be read.
    pub unreadable_dates_max: f64,
    /// The largest share of dissents of patients whom the identity table does not know.
    pub unknown_patients_max: f64,
    /// The largest share of dissents that may be gone since the last bundle that the site made …
    pub drop_max: f64,
    /// … where at least so many are gone.
    pub drop_entries_min: u64,
}

/// What to do where the dates of the record do not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DateRules {
    /// A dissent and a withdrawal of one day.
    pub same_day: SameDay,
    /// Entries without a date that can be read.
    pub undated: Uncertain,
    /// Entries that are or may be dated after the day of the run.
    pub future_dated: Uncertain,
    /// Dates that are only a month or a year.
    pub partial: Partial,
}

/// A dissent and a withdrawal of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SameDay {
    /// The cautious choice.
    DissentWins,
    /// The withdrawal is taken for the later one.
    WithdrawalWins,
}

/// Entries of which nobody can say when they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncertain {
    /// A dissent holds, whatever else the record says; a withdrawal is ignored. The cautious choice.
    DissentHolds,
    /// Both are ignored.
    Ignored,
}

/// Dates that are only a month or a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partial {
    /// A dissent counts from the last day that it may be from, a withdrawal from the first. The cautious choice.
    AgainstDisclosure,
    /// Both count from the first day.
    FirstDay,
}

/// One type of objection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ObjectionRule {
    /// Entries dated after this day are not objections of this type; absent: every entry counts (the cautious choice).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dissent_until: Option<Date>,
    /// Whether withdrawals that are not confirmed count.
    #[serde(default)]
    pub honour_unconfirmed_withdrawals: bool,
    /// The dissent codes.
    pub dissent: Vec<ObjectionCode>,
    /// The codes that withdraw a dissent.
    pub withdrawal: Vec<ObjectionCode>,
}

/// One code of a rule. Exact: never a prefix, never a text, never another letter case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ObjectionCode {
    /// The code's system.
    pub system: CodeSystem,
    /// The code's text, normalised.
    pub code: String,
    /// Whether a primary source confirms the code.
    #[serde(default = "yes")]
    pub confirmed: bool,
}

fn yes() -> bool {
    true
}

impl TextFormat for ObjectionPolicy {
    const WHAT: &'static str = "objection policy";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        let EvidenceRules { rows_min, unreadable_dates_max, unknown_patients_max, drop_max, .. } =
            self.evidence;
        if rows_min == 0 {
            return Err(TextFormatError::at(Self::WHAT, "evidence.rows-min", "at least 1"));
        }
        for (place, share) in [
            ("evidence.unreadable-dates-max", unreadable_dates_max),
            ("evidence.unknown-patients-max", unknown_patients_max),
            ("evidence.drop-max", drop_max),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(TextFormatError::at(Self::WHAT, place, "a share from 0 to 1"));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for (place, rule) in [("type-1", &self.type_1), ("type-2", &self.type_2)] {
            for (part, codes) in [("dissent", &rule.dissent), ("withdrawal", &rule.withdrawal)] {
                let place = format!("{place}.{part}");
                let mut by_system = CodesBySystem::new();
                for code in codes {
                    if !seen.insert((&code.system, &code.code)) {
                        let why = format!("{} {} is named twice", code.system, code.code);
                        return Err(TextFormatError::at(Self::WHAT, &place, &why));
                    }
                    by_system.entry(code.system.clone()).or_default().push(code.code.clone());
                }
                text_format::check_codes(Self::WHAT, &place, &by_system)?;
            }
        }
        if seen.len() > POLICY_CODES_MAX {
            let why = format!("at most {POLICY_CODES_MAX} codes in all");
            return Err(TextFormatError::at(Self::WHAT, "type-1, type-2", &why));
        }
        Ok(())
    }
}

/// The most codes of a policy: each is counted by year in every header.
pub const POLICY_CODES_MAX: usize = 64;

/// Codes whose rows no module sees, in named groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SensitiveCodes {
    /// Always 1.
    pub format: u32,
    /// The list's id.
    pub id: Name,
    /// The list's version.
    pub version: Version,
    /// The groups.
    pub group: BTreeMap<Name, CodesBySystem>,
}

impl TextFormat for SensitiveCodes {
    const WHAT: &'static str = "sensitive-code list";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        if self.group.is_empty() {
            return Err(TextFormatError::at(Self::WHAT, "group", "holds no group"));
        }
        for (name, codes) in &self.group {
            text_format::check_codes(Self::WHAT, &format!("group.{name}"), codes)?;
        }
        Ok(())
    }
}
