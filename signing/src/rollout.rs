//! A rollout: which version of a module is offered to whom, and when.

use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::cohort::Audience;
use crate::ids::Name;
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// The most steps of a rollout.
pub const STEPS_MAX: usize = 200;

/// Which version of a module is offered to whom. Its newest version is the whole truth about its module: a version
/// that no step names is offered to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rollout {
    /// Always 1.
    pub format: u32,
    /// The module's id.
    pub id: Name,
    /// The rollout's version.
    pub version: Version,
    /// The steps; none: the module is offered to nobody any more.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RolloutStep>,
}

/// One version for some sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RolloutStep {
    /// The module's version.
    pub module_version: Version,
    /// For whom.
    pub to: Audience,
    /// The first day of the offer; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Date>,
    /// The last day of the offer; absent: as long as the manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Date>,
}

impl RolloutStep {
    /// Whether the offer stands on this day.
    pub fn stands_on(&self, day: Date) -> bool {
        self.not_before.is_none_or(|first| first <= day) && self.not_after.is_none_or(|last| day <= last)
    }
}

impl TextFormat for Rollout {
    const WHAT: &'static str = "rollout";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        if self.steps.len() > STEPS_MAX {
            return Err(TextFormatError::at(Self::WHAT, "step", "at most 200 steps"));
        }
        for (position, step) in self.steps.iter().enumerate() {
            let place = format!("step {}", position + 1);
            text_format::check_days(Self::WHAT, &place, step.not_before, step.not_after)?;
            if self.steps[..position].contains(step) {
                return Err(TextFormatError::at(Self::WHAT, &place, "is written twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "format = 1\nid = \"gp-monthly\"\nversion = \"1.0.0\"\n";

    #[test]
    fn a_rollout_is_read_and_written() {
        let text = format!(
            "{HEAD}[[step]]\nmodule-version = \"1.1.0\"\nto = [\"pathfinders\"]\nnot-before = \"2026-11-01\"\n\
             [[step]]\nmodule-version = \"1.0.0\"\nto = \"all\"\nnot-after = \"2027-11-01\"\n"
        );
        let rollout = Rollout::decode(text.as_bytes()).unwrap();
        assert_eq!(Rollout::decode(rollout.encode().unwrap().as_bytes()).unwrap(), rollout);
        let stands = |step: usize, day: &str| rollout.steps[step].stands_on(day.parse().unwrap());
        assert!(!stands(0, "2026-10-31") && stands(0, "2026-11-01") && stands(0, "2099-01-01"));
        assert!(stands(1, "2000-01-01") && stands(1, "2027-11-01") && !stands(1, "2027-11-02"));
        assert!(Rollout::decode(HEAD.as_bytes()).unwrap().steps.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |step: &str| {
            let text = format!("{HEAD}[[step]]\nmodule-version = \"1.0.0\"\n{step}\n");
            Rollout::decode(text.as_bytes()).unwrap_err().to_string()
        };
        let backwards = error("to = \"all\"\nnot-before = \"2026-11-02\"\nnot-after = \"2026-11-01\"");
        assert!(backwards.contains("step 1") && backwards.contains("lies after"), "{backwards}");
        assert!(error("to = []").contains("at least one cohort"));
        assert!(error("").contains("`to`"));
        assert!(error("to = \"all\"\nfor = 1").contains("unknown field"));
        assert!(error("to = \"all\"\n[[step]]\nmodule-version = \"1.0.0\"\nto = \"all\"").contains("twice"));
    }
}
