//! A cohort: a named set of sites, and who a rollout or a direction is for.

use std::collections::BTreeSet;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::ids::{Name, SiteId};
use crate::text_format::{self, Named, TextFormat, TextFormatError};

/// The most sites that a cohort names: three times as many as there are practices.
pub const SITES_MAX: usize = 20_000;

/// A named set of sites. The newest version of a cohort is the whole truth about who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cohort {
    /// Always 1.
    pub format: u32,
    /// The cohort's id.
    pub id: Name,
    /// The cohort's version.
    pub version: Version,
    /// One line for people.
    pub title: String,
    /// The sites, in order and each once, so that two versions can be compared by eye.
    pub sites: Vec<SiteId>,
}

impl Cohort {
    /// Whether a site is in it.
    pub fn has(&self, site: &SiteId) -> bool {
        self.sites.binary_search(site).is_ok()
    }
}

impl TextFormat for Cohort {
    const WHAT: &'static str = "cohort";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        text_format::check_line(Self::WHAT, "title", &self.title)?;
        let wrong = |why: &str| Err(TextFormatError::at(Self::WHAT, "sites", why));
        if self.id.as_str() == ALL {
            return Err(TextFormatError::at(Self::WHAT, "id", "`all` means every site; choose another name"));
        }
        if !(1..=SITES_MAX).contains(&self.sites.len()) {
            return wrong("from 1 to 20,000 sites");
        }
        match self.sites.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) if pair[0] == pair[1] => wrong(&format!("{} is named twice", pair[0])),
            Some(pair) => wrong(&format!("{} comes before {}; write them in order", pair[1], pair[0])),
            None => Ok(()),
        }
    }
}

/// Who something is for: `"all"`, or the names of cohorts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AudienceText", into = "AudienceText")]
pub enum Audience {
    /// Every site.
    All,
    /// The sites of these cohorts.
    Cohorts(BTreeSet<Name>),
}

/// The word for every site.
const ALL: &str = "all";

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum AudienceText {
    Word(String),
    Cohorts(Vec<Name>),
}

impl TryFrom<AudienceText> for Audience {
    type Error = String;

    fn try_from(text: AudienceText) -> Result<Self, String> {
        let names = match text {
            AudienceText::Word(word) if word == ALL => return Ok(Self::All),
            AudienceText::Word(word) => {
                return Err(format!("`{word}` is not an audience: use \"all\" or [\"a-cohort\"]"));
            }
            AudienceText::Cohorts(names) => names,
        };
        let count = names.len();
        let names: BTreeSet<_> = names.into_iter().collect();
        if names.is_empty() || names.len() != count || names.iter().any(|name| name.as_str() == ALL) {
            return Err("an audience is \"all\" or at least one cohort, each once".to_owned());
        }
        Ok(Self::Cohorts(names))
    }
}

impl From<Audience> for AudienceText {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::All => Self::Word(ALL.to_owned()),
            Audience::Cohorts(names) => Self::Cohorts(names.into_iter().collect()),
        }
    }
}

impl Audience {
    /// Whether it takes in a site that is in these cohorts.
    pub fn covers(&self, cohorts_of_site: &BTreeSet<Name>) -> bool {
        match self {
            Self::All => true,
            Self::Cohorts(names) => !names.is_disjoint(cohorts_of_site),
        }
    }

    /// The cohorts that it names.
    pub fn cohorts(&self) -> impl Iterator<Item = &Name> {
        match self {
            Self::All => None,
            Self::Cohorts(names) => Some(names),
        }
        .into_iter()
        .flatten()
    }
}

impl std::fmt::Display for Audience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all sites"),
            Self::Cohorts(names) => {
                let names: Vec<_> = names.iter().map(Name::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(id: &str, sites: &str) -> Result<Cohort, TextFormatError> {
        let text =
            format!("format = 1\nid = \"{id}\"\nversion = \"1.0.0\"\ntitle = \"Two\"\nsites = [{sites}]\n");
        Cohort::decode(text.as_bytes())
    }

    #[test]
    fn a_site_is_in_a_cohort_only_by_its_whole_name() {
        let two = cohort("two", "\"A81001\", \"A81002\"").unwrap();
        for (site, is_in) in [("A81001", true), ("A81002", true), ("A8100", false), ("A810011", false)] {
            assert_eq!(two.has(&site.parse().unwrap()), is_in, "{site}");
        }
        assert_eq!(Cohort::decode(two.encode().unwrap().as_bytes()).unwrap(), two);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |id: &str, sites: &str| cohort(id, sites).unwrap_err().to_string();
        assert!(error("two", "").contains("from 1 to 20,000 sites"));
        assert!(error("two", "\"A81001\", \"A81001\"").contains("A81001 is named twice"));
        assert!(error("two", "\"A81002\", \"A81001\"").contains("write them in order"));
        assert!(error("two", "\"a81002\"").contains("is not a site id"));
        assert!(error("all", "\"A81001\"").contains("every site"));
    }

    #[test]
    fn an_audience_is_all_or_cohorts() {
        #[derive(Deserialize)]
        struct To {
            to: Audience,
        }
        let read = |text: &str| toml::from_str::<To>(text).map(|to| to.to);
        let of_site = BTreeSet::from(["two".parse().unwrap()]);
        assert!(read("to = \"all\"").unwrap().covers(&BTreeSet::new()));
        assert!(read("to = [\"one\", \"two\"]").unwrap().covers(&of_site));
        assert!(!read("to = [\"one\"]").unwrap().covers(&of_site));
        for wrong in ["to = \"everyone\"", "to = []", "to = [\"a\", \"a\"]", "to = [\"all\"]", "to = 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
