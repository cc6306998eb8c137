//! The invented site that a module runs on: `fixture/site.toml` and the files that it names.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use lockgate_signing::ids::{Period, SiteId};
use serde::Deserialize;

use super::scaffold;

/// A site of invented people.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// Its ODS code.
    pub site: SiteId,
    /// The day that it believes it is.
    pub as_of: Date,
    /// The months that a module is run on.
    pub months: Vec<Period>,
    /// SQL that makes its database.
    pub database: String,
    /// The mapping that presents it (TOML).
    pub mapping: Vec<u8>,
    /// The objection policy (TOML).
    pub policy: Vec<u8>,
    /// The sensitive codes (TOML).
    pub sensitive: Vec<u8>,
}

/// `site.toml`: the files are relative to its folder.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SiteFile {
    site: SiteId,
    as_of: Date,
    months: Vec<Period>,
    database: PathBuf,
    mapping: PathBuf,
    policy: PathBuf,
    sensitive: PathBuf,
}

/// A fixture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// A file.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// `site.toml` is wrong.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
}

impl Fixture {
    /// Reads a folder.
    pub fn read(folder: &Path) -> Result<Self, FixtureError> {
        let path = folder.join("site.toml");
        let wrong = |why: String| FixtureError::Syntax { path: path.clone(), why };
        let text = std::fs::read_to_string(&path).map_err(at(&path))?;
        let file: SiteFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if file.months.is_empty() {
            return Err(wrong(
                "`months` names none; write the last complete month, for example \"2026-10\"".into(),
            ));
        }
        let read = |name: &Path| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(at(&path))
        };
        let database = folder.join(&file.database);
        Ok(Self {
            site: file.site,
            as_of: file.as_of,
            months: file.months,
            database: std::fs::read_to_string(&database).map_err(at(&database))?,
            mapping: read(&file.mapping)?,
            policy: read(&file.policy)?,
            sensitive: read(&file.sensitive)?,
        })
    }

    /// The invented practice that `module new` lays out, for a module that brings none.
    pub fn invented_practice() -> Result<Self, FixtureError> {
        let path = PathBuf::from("the invented practice of this program");
        let file: SiteFile = toml::from_str(scaffold::SITE)
            .map_err(|error| FixtureError::Syntax { path, why: error.to_string() })?;
        Ok(Self {
            site: file.site,
            as_of: file.as_of,
            months: file.months,
            database: scaffold::PRACTICE.to_owned(),
            mapping: scaffold::MAPPING.into(),
            policy: scaffold::POLICY.into(),
            sensitive: scaffold::SENSITIVE.into(),
        })
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> FixtureError {
    let path = path.to_owned();
    move |error| FixtureError::File { path, error }
}
