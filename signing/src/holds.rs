//! The standing list of holds and revocations: what must not run, whatever was approved.
//!
//! One document, so that its newest version is the whole truth and nothing can be missed by looking in the wrong place.
//! A hold is lifted by a later version without it. A revocation is for ever: a site remembers it when a later version
//! has dropped it.

use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// The one id of this document.
pub const STANDING: &str = "standing";

/// The most holds, and the most revocations.
pub const ENTRIES_MAX: usize = 10_000;

/// What must not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Holds {
    /// Always 1.
    pub format: u32,
    /// Always [`STANDING`].
    pub id: Name,
    /// The list's version.
    pub version: Version,
    /// What is paused.
    #[serde(default, rename = "hold", skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// What never runs again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<Revocation>,
}

/// A pause: of a module, of the sites of a cohort, of a module there, or of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hold {
    /// The module; absent: every module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Name>,
    /// The cohort; absent: every site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<Name>,
    /// Since when, for people.
    pub since: Date,
    /// Why, one line for the practices.
    pub reason: String,
}

/// A version of a module that never runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Revocation {
    /// The module.
    pub module: Name,
    /// Its version.
    pub module_version: Version,
    /// Since when, for people.
    pub since: Date,
    /// Why, one line for the practices.
    pub reason: String,
}

impl Hold {
    /// What is held, for people.
    pub fn what(&self) -> String {
        match (&self.module, &self.cohort) {
            (None, None) => "everything".to_owned(),
            (Some(module), None) => module.to_string(),
            (None, Some(cohort)) => format!("everything in cohort {cohort}"),
            (Some(module), Some(cohort)) => format!("{module} in cohort {cohort}"),
        }
    }
}

impl TextFormat for Holds {
    const WHAT: &'static str = "list of holds";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        if self.id.as_str() != STANDING {
            return Err(TextFormatError::at(
                Self::WHAT,
                "id",
                "there is one such list, and its id is `standing`",
            ));
        }
        if self.holds.len().max(self.revoked.len()) > ENTRIES_MAX {
            return Err(TextFormatError::at(Self::WHAT, "hold, revoked", "at most 10,000 of each"));
        }
        for (position, hold) in self.holds.iter().enumerate() {
            let place = format!("hold {}", position + 1);
            text_format::check_line(Self::WHAT, &format!("{place}.reason"), &hold.reason)?;
            let same = |other: &Hold| (&other.module, &other.cohort) == (&hold.module, &hold.cohort);
            if self.holds[..position].iter().any(same) {
                return Err(TextFormatError::at(Self::WHAT, &place, &format!("holds {} again", hold.what())));
            }
        }
        for (position, revoked) in self.revoked.iter().enumerate() {
            let place = format!("revoked {}", position + 1);
            text_format::check_line(Self::WHAT, &format!("{place}.reason"), &revoked.reason)?;
            let version = |entry: &Revocation| (entry.module.clone(), entry.module_version.clone());
            if self.revoked[..position].iter().any(|other| version(other) == version(revoked)) {
                let why = format!("{} {} is revoked already", revoked.module, revoked.module_version);
                return Err(TextFormatError::at(Self::WHAT, &place, &why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "format = 1\nid = \"standing\"\nversion = \"1.0.0\"\n";

    fn holds(rest: &str) -> Result<Holds, TextFormatError> {
        Holds::decode(format!("{HEAD}{rest}").as_bytes())
    }

    #[test]
    fn the_list_is_read_and_written_and_may_be_empty() {
        assert_eq!(holds("").unwrap().holds, []);
        let list = holds(
            "[[hold]]\nsince = \"2026-11-03\"\nreason = \"Counts fell\"\nmodule = \"a\"\n\
             [[hold]]\nsince = \"2026-11-03\"\nreason = \"Counts fell\"\n\
             [[revoked]]\nmodule = \"a\"\nmodule-version = \"1.0.0\"\nsince = \"2026-11-03\"\nreason = \"Wrong\"\n",
        )
        .unwrap();
        assert_eq!(list.holds.iter().map(Hold::what).collect::<Vec<_>>(), ["a", "everything"]);
        assert_eq!(Holds::decode(list.encode().unwrap().as_bytes()).unwrap(), list);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |rest: &str| holds(rest).unwrap_err().to_string();
        let hold = "[[hold]]\nsince = \"2026-11-03\"\nreason = \"Counts fell\"\n";
        assert!(error(&format!("{hold}{hold}")).contains("holds everything again"));
        assert!(error("[[hold]]\nsince = \"2026-11-03\"\nreason = \"\"\n").contains("hold 1.reason"));
        let revoked = "[[revoked]]\nmodule = \"a\"\nmodule-version = \"1.0.0\"\nsince = \"2026-11-03\"\nreason = \"x\"\n";
        assert!(error(&format!("{revoked}{revoked}")).contains("a 1.0.0 is revoked already"));
        let other = "format = 1\nid = \"other\"\nversion = \"1.0.0\"\n";
        assert!(Holds::decode(other.as_bytes()).unwrap_err().to_string().contains("`standing`"));
    }
}
