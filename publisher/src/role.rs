//! The roles of the repository: who may sign which files.

use std::fmt;
use std::str::FromStr;

use lockgate_signing::target::TargetPath;
use serde::{Deserialize, Serialize};

/// A role of the TUF repository (specification 1.0.34, section 2.1). Those after [`Role::Timestamp`] are delegated by the
/// targets role, each with its own folders, keys and threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Says which keys the top roles have.
    Root,
    /// Says which keys the delegated roles have, and lists no file itself.
    Targets,
    /// Says which version of each list belongs to the others.
    Snapshot,
    /// Says which snapshot is current.
    Timestamp,
    /// Modules and codelists.
    Modules,
    /// Objection policies, sensitive-code lists and the public keys of tokens.
    Policies,
    /// Mappings.
    Mappings,
    /// Cohorts and rollouts: which site runs which version.
    Rollout,
    /// Holds and revocations. It can only stop, so one person is enough.
    Holds,
    /// Directions that override an objection.
    Directions,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 10] = [
        Self::Root,
        Self::Targets,
        Self::Snapshot,
        Self::Timestamp,
        Self::Modules,
        Self::Policies,
        Self::Mappings,
        Self::Rollout,
        Self::Holds,
        Self::Directions,
    ];
    /// The roles that the targets role delegates to: those that list files.
    pub const DELEGATED: [Self; 6] =
        [Self::Modules, Self::Policies, Self::Mappings, Self::Rollout, Self::Holds, Self::Directions];
    /// The roles whose keys are online, so that `refresh` needs nobody.
    pub const ONLINE: [Self; 2] = [Self::Snapshot, Self::Timestamp];

    /// Its name in metadata and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Modules => "modules",
            Self::Policies => "policies",
            Self::Mappings => "mappings",
            Self::Rollout => "rollout",
            Self::Holds => "holds",
            Self::Directions => "directions",
        }
    }

    /// The paths that it may list, as patterns of the specification (section 4.5): `*` stays within one folder.
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Root | Self::Targets | Self::Snapshot | Self::Timestamp => &[],
            Self::Modules => &["modules/*/*/*", "codelists/*/*"],
            Self::Policies => &["policies/*/*", "sensitive/*/*", "token-keys/*/*", "recipients/*/*"],
            Self::Mappings => &["mappings/*/*"],
            Self::Rollout => &["cohorts/*/*", "rollouts/*/*"],
            Self::Holds => &["holds/*/*"],
            Self::Directions => &["directions/*/*"],
        }
    }

    /// The fewest signatures that a roles file may ask of it. What changes what a site sends, or who may change that,
    /// takes two people.
    pub fn threshold_min(self) -> u32 {
        match self {
            Self::Snapshot | Self::Timestamp | Self::Mappings | Self::Holds => 1,
            Self::Root
            | Self::Targets
            | Self::Modules
            | Self::Policies
            | Self::Rollout
            | Self::Directions => 2,
        }
    }

    /// The delegated role that lists a file.
    pub fn listing(path: &TargetPath) -> Option<Self> {
        let path = path.to_string();
        let folder = path.split('/').next()?;
        let lists =
            |role: &Self| role.paths().iter().any(|pattern| pattern.split('/').next() == Some(folder));
        Self::DELEGATED.into_iter().find(lists)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|role| role.name()).collect();
            format!("`{text}` is not a role; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use lockgate_signing::target::TargetKind;

    use super::*;

    #[test]
    fn every_kind_of_file_has_one_role() {
        for kind in TargetKind::ALL {
            let path = TargetPath::new(kind, "example".parse().unwrap(), "1.0.0".parse().unwrap()).unwrap();
            let role = Role::listing(&path).unwrap();
            let segments = path.to_string().split('/').count();
            assert!(role.paths().iter().any(|pattern| pattern.split('/').count() == segments), "{path}");
        }
    }
}
