//! Where things are in the trust repository: the target paths, written and read in one place.
//!
//! A path is parsed into its parts and has one spelling, so that no path can pass for another and none can leave the
//! folder it is in.

use std::fmt;

use semver::Version;

use crate::ids::Name;

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// `modules/<id>/<version>/manifest.toml`.
    ModuleManifest,
    /// `modules/<id>/<version>/component.wasm`.
    ModuleComponent,
    /// `mappings/<id>/<version>.toml`.
    Mapping,
    /// `policies/<id>/<version>.toml`.
    Policy,
    /// `sensitive/<id>/<version>.toml`.
    SensitiveCodes,
    /// `codelists/<id>/<version>.toml`.
    Codelist,
    /// `cohorts/<id>/<version>.toml`.
    Cohort,
    /// `rollouts/<id>/<version>.toml`; the id is the module's.
    Rollout,
    /// `holds/standing/<version>.toml`.
    Holds,
    /// `directions/<id>/<version>.toml`.
    Direction,
    /// `token-keys/<domain>/<version>.toml`.
    TokenKeys,
    /// `recipients/<id>/<version>.toml`.
    Recipients,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::ModuleManifest,
        Self::ModuleComponent,
        Self::Mapping,
        Self::Policy,
        Self::SensitiveCodes,
        Self::Codelist,
        Self::Cohort,
        Self::Rollout,
        Self::Holds,
        Self::Direction,
        Self::TokenKeys,
        Self::Recipients,
    ];

    /// Its name for people and scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModuleManifest => "module manifest",
            Self::ModuleComponent => "module component",
            Self::Mapping => "mapping",
            Self::Policy => "policy",
            Self::SensitiveCodes => "sensitive-code list",
            Self::Codelist => "codelist",
            Self::Cohort => "cohort",
            Self::Rollout => "rollout",
            Self::Holds => "list of holds",
            Self::Direction => "direction",
            Self::TokenKeys => "list of token keys",
            Self::Recipients => "list of recipients",
        }
    }

    /// The folder of its targets: what the path patterns of the registry's roles begin with.
    pub fn folder(self) -> &'static str {
        match self {
            Self::ModuleManifest | Self::ModuleComponent => "modules",
            Self::Mapping => "mappings",
            Self::Policy => "policies",
            Self::SensitiveCodes => "sensitive",
            Self::Codelist => "codelists",
            Self::Cohort => "cohorts",
            Self::Rollout => "rollouts",
            Self::Holds => "holds",
            Self::Direction => "directions",
            Self::TokenKeys => "token-keys",
            Self::Recipients => "recipients",
        }
    }

    /// What follows the version in the path.
    fn ending(self) -> &'static str {
        match self {
            Self::ModuleManifest => "/manifest.toml",
            Self::ModuleComponent => "/component.wasm",
            _ => ".toml",
        }
    }
}

/// One target: what it is, whose, and which version. Displays as its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetPath {
    kind: TargetKind,
    id: Name,
    version: Version,
}

/// A path in one of our folders that is not the path of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not the path of a target: {why}")]
pub struct TargetPathError {
    path: String,
    why: &'static str,
}

/// Bytes of a foreign path that an error repeats at most.
const ERROR_PATH_MAX: usize = 120;

impl TargetPath {
    /// The target of this kind, id and version.
    pub fn new(kind: TargetKind, id: Name, version: Version) -> Result<Self, TargetPathError> {
        // Versions that differ only in build metadata have no order (semver.org, item 10), so one of them could be
        // put in the place of the other.
        if !version.build.is_empty() {
            let path = format!("{}/{id}/{version}", kind.folder());
            return Err(TargetPathError { path, why: "a version has no `+` part" });
        }
        Ok(Self { kind, id, version })
    }

    /// Reads a path; `None` where it lies outside of the folders that this version knows.
    pub fn parse(path: &str) -> Result<Option<Self>, TargetPathError> {
        let wrong = |why| TargetPathError { path: path.chars().take(ERROR_PATH_MAX).collect(), why };
        let Some((folder, rest)) = path.split_once('/') else { return Ok(None) };
        if !TargetKind::ALL.iter().any(|kind| kind.folder() == folder) {
            return Ok(None);
        }
        let (id, rest) = rest.split_once('/').ok_or_else(|| wrong("it has no version"))?;
        let id: Name = id.parse().map_err(|_| wrong("its id is not a name"))?;
        let (kind, version) = TargetKind::ALL
            .into_iter()
            .filter(|kind| kind.folder() == folder)
            .find_map(|kind| Some((kind, rest.strip_suffix(kind.ending())?)))
            .ok_or_else(|| wrong("its folder holds no such file"))?;
        let version = Version::parse(version).map_err(|_| wrong("its version is not a semantic version"))?;
        Self::new(kind, id, version).map(Some)
    }

    /// What it is.
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// Whose it is.
    pub fn id(&self) -> &Name {
        &self.id
    }

    /// Which version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The other half of a module's version: its component for its manifest, and the reverse. Anything else is whole
    /// by itself.
    pub fn other_half(&self) -> Option<Self> {
        let kind = match self.kind {
            TargetKind::ModuleManifest => TargetKind::ModuleComponent,
            TargetKind::ModuleComponent => TargetKind::ModuleManifest,
            _ => return None,
        };
        Some(Self { kind, ..self.clone() })
    }
}

impl fmt::Display for TargetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}{}", self.kind.folder(), self.id, self.version, self.kind.ending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for path in [
            "modules/gp-monthly/1.0.0/manifest.toml",
            "modules/gp-monthly/1.2.3-rc.1/component.wasm",
            "mappings/practice/1.0.0.toml",
            "policies/england/2.0.0.toml",
            "sensitive/england/1.0.0.toml",
            "codelists/diabetes/1.0.0.toml",
            "cohorts/pathfinders/1.0.0.toml",
            "rollouts/gp-monthly/1.4.0.toml",
            "holds/standing/1.0.3.toml",
            "directions/flu-2026/1.0.0.toml",
            "token-keys/care-planning/1.0.0.toml",
            "recipients/warehouse-england/1.0.0.toml",
        ] {
            assert_eq!(TargetPath::parse(path).unwrap().unwrap().to_string(), path);
        }
        for path in ["readme.txt", "cohort/pathfinders/1.0.0.toml", "", "/modules/a/1.0.0/manifest.toml"] {
            assert_eq!(TargetPath::parse(path).unwrap(), None, "{path}");
        }
        for path in [
            "modules/",
            "modules/gp-monthly",
            "modules/gp-monthly/1.0.0/evil.wasm",
            "modules/gp-monthly/1.0/manifest.toml",
            "modules/gp-monthly/01.0.0/manifest.toml",
            "modules/gp-monthly/1.0.0+b/manifest.toml",
            "modules/GP/1.0.0/manifest.toml",
            "modules/../1.0.0/manifest.toml",
            "modules/a/../../1.0.0/manifest.toml",
            "modules/a/1.0.0//manifest.toml",
            "mappings/a/1.0.0/manifest.toml",
            "policies/a/b/1.0.0.toml",
            "cohorts/pathfinders.toml",
            "rollouts/gp-monthly/1.0.0/manifest.toml",
            "holds/standing/latest.toml",
        ] {
            assert!(TargetPath::parse(path).is_err(), "{path}");
        }
    }
}
