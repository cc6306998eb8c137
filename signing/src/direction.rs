//! A direction: a legal instruction that some objections do not apply to one module for some time.
//!
//! It does nothing at a site until the site's controller has accepted it.

use std::collections::BTreeSet;

use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::cohort::Audience;
use crate::ids::Name;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// A legal instruction that overrides objections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Direction {
    /// Always 1.
    pub format: u32,
    /// The direction's id.
    pub id: Name,
    /// The direction's version. An acceptance is of one version.
    pub version: Version,
    /// One line for people.
    pub title: String,
    /// The legal basis, in a sentence for people.
    pub legal_basis: String,
    /// The one module that it is for.
    pub module: Name,
    /// What it overrides.
    pub overrides: BTreeSet<Override>,
    /// Its first day.
    pub not_before: Date,
    /// Its last day.
    pub not_after: Date,
    /// For whom.
    pub to: Audience,
}

/// What a direction overrides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Override {
    /// Type 1 objections.
    #[serde(rename = "type-1")]
    Type1,
    /// The removal of sensitive codes.
    Sensitive,
}

impl Override {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type1 => "type-1",
            Self::Sensitive => "sensitive",
        }
    }
}

impl Direction {
    /// Whether it is in force on this day.
    pub fn stands_on(&self, day: Date) -> bool {
        (self.not_before..=self.not_after).contains(&day)
    }
}

impl TextFormat for Direction {
    const WHAT: &'static str = "direction";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        for (place, text) in [("title", &self.title), ("legal-basis", &self.legal_basis)] {
            text_format::check_line(Self::WHAT, place, text)?;
        }
        if self.overrides.is_empty() {
            return Err(TextFormatError::at(Self::WHAT, "overrides", "name `type-1`, `sensitive`, or both"));
        }
        text_format::check_days(Self::WHAT, "not-after", Some(self.not_before), Some(self.not_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(rest: &str) -> Result<Direction, TextFormatError> {
        let text = format!(
            "format = 1\nid = \"flu-2026\"\nversion = \"1.0.0\"\ntitle = \"Influenza\"\nmodule = \"gp-monthly\"\n\
             legal-basis = \"Regulation 3(4)\"\n{rest}"
        );
        Direction::decode(text.as_bytes())
    }

    #[test]
    fn a_direction_is_read_and_written() {
        let rest = "overrides = [\"type-1\"]\nnot-before = \"2026-11-01\"\nnot-after = \"2027-01-31\"\nto = \"all\"\n";
        let flu = direction(rest).unwrap();
        assert_eq!(Direction::decode(flu.encode().unwrap().as_bytes()).unwrap(), flu);
        for (day, stands) in
            [("2026-10-31", false), ("2026-11-01", true), ("2027-01-31", true), ("2027-02-01", false)]
        {
            assert_eq!(flu.stands_on(day.parse().unwrap()), stands, "{day}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |overrides: &str, last: &str| {
            let rest = format!(
                "overrides = [{overrides}]\nnot-before = \"2026-11-01\"\nnot-after = \"{last}\"\nto = \"all\"\n"
            );
            direction(&rest).unwrap_err().to_string()
        };
        assert!(error("", "2027-01-31").contains("`type-1`, `sensitive`, or both"));
        assert!(error("\"type-2\"", "2027-01-31").contains("type-2"));
        assert!(error("\"type-1\"", "2026-10-31").contains("lies after"));
    }
}
