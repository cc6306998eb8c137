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
    /// Nothing leaves the practice.
    pub type_1: ObjectionRule,
    /// Nothing leaves the centre in identifiable form.
    pub type_2: ObjectionRule,
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
        Ok(())
    }
}

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
