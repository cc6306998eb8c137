//! What no single file shows: that documents which name each other fit together, and that nothing which must stay goes.

use std::collections::BTreeSet;

use lockgate_signing::direction::Direction;
use lockgate_signing::holds::{Holds, STANDING};
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::{Manifest, OutputColumn};
use lockgate_signing::rollout::Rollout;
use lockgate_signing::target::{TargetKind, TargetPath};
use semver::Version;

use crate::catalogue::{Catalogue, CatalogueError};

/// Documents do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum CoherenceError {
    /// A file could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Sites use the newest version, so an older one would change nothing.
    #[error(
        "`{path}` is older than version {newest}, which is published, so no site would use it; use a higher version"
    )]
    NotNewest {
        /// The new file.
        path: TargetPath,
        /// What is published.
        newest: Version,
    },
    /// A document names something that is not there.
    #[error("`{path}` names {what}, which is neither published nor staged; {remedy}")]
    Unknown {
        /// The document.
        path: TargetPath,
        /// What it names.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A rollout offers what was revoked.
    #[error("`{path}` offers {module} {version}, which was revoked for ever; offer another version")]
    Revoked {
        /// The rollout.
        path: TargetPath,
        /// The module.
        module: Name,
        /// Its version.
        version: Version,
    },
    /// A revocation is missing.
    #[error("`{path}` drops the revocation of {module} {version}; a revocation is for ever: put it back")]
    RevocationDropped {
        /// The new list.
        path: TargetPath,
        /// The module.
        module: Name,
        /// Its version.
        version: Version,
    },
    /// What readers of the output rely on is gone.
    #[error(
        "`{path}` breaks what reads the output of version {before}: {what}; raise the major version (to {major}.0.0), or \
         keep it"
    )]
    OutputBroken {
        /// The manifest.
        path: TargetPath,
        /// The version before.
        before: Version,
        /// What is gone.
        what: String,
        /// The next major version.
        major: u64,
    },
}

/// Checks every new file against what is published and what else is new.
pub fn check(catalogue: &Catalogue<'_>) -> Result<(), CoherenceError> {
    for (path, _) in catalogue.new_files() {
        match path.kind() {
            TargetKind::Cohort => newest_counts(catalogue, path)?,
            TargetKind::Rollout => {
                newest_counts(catalogue, path)?;
                check_rollout(catalogue, path)?;
            }
            TargetKind::Holds => {
                newest_counts(catalogue, path)?;
                check_holds(catalogue, path)?;
            }
            TargetKind::Direction => {
                newest_counts(catalogue, path)?;
                check_direction(catalogue, path)?;
            }
            TargetKind::ModuleManifest => check_manifest(catalogue, path)?,
            _ => {}
        }
    }
    Ok(())
}

fn newest_counts(catalogue: &Catalogue<'_>, path: &TargetPath) -> Result<(), CoherenceError> {
    match catalogue.published_versions(path.kind(), path.id()).last() {
        Some(&newest) if newest > path.version() => {
            Err(CoherenceError::NotNewest { path: path.clone(), newest: newest.clone() })
        }
        _ => Ok(()),
    }
}

fn check_rollout(catalogue: &Catalogue<'_>, path: &TargetPath) -> Result<(), CoherenceError> {
    let Some(rollout) = catalogue.decode::<Rollout>(path)? else { return Ok(()) };
    let revoked = newest_holds(catalogue)?.map(|holds| holds.revoked).unwrap_or_default();
    for step in &rollout.steps {
        known_version(catalogue, path, &rollout.id, &step.module_version)?;
        step.to.cohorts().try_for_each(|cohort| known_cohort(catalogue, path, cohort))?;
        let is_revoked = |it: &&lockgate_signing::holds::Revocation| {
            it.module == rollout.id && it.module_version == step.module_version
        };
        // A step that was there before its version was revoked harms nobody: no site runs it.
        let is_new = !stood_before(catalogue, &rollout, &step.module_version)?;
        if is_new && revoked.iter().any(|it| is_revoked(&it)) {
            return Err(CoherenceError::Revoked {
                path: path.clone(),
                module: rollout.id.clone(),
                version: step.module_version.clone(),
            });
        }
    }
    Ok(())
}

fn stood_before(
    catalogue: &Catalogue<'_>,
    rollout: &Rollout,
    version: &Version,
) -> Result<bool, CoherenceError> {
    let Some(path) = catalogue.newest_published(TargetKind::Rollout, &rollout.id) else { return Ok(false) };
    let before = catalogue.decode::<Rollout>(&path)?;
    Ok(before.is_some_and(|before| before.steps.iter().any(|step| step.module_version == *version)))
}

/// The newest list of holds, published or new.
pub fn newest_holds(catalogue: &Catalogue<'_>) -> Result<Option<Holds>, CatalogueError> {
    let Ok(standing) = STANDING.parse::<Name>() else { return Ok(None) };
    match catalogue.newest(TargetKind::Holds, &standing) {
        Some(path) => catalogue.decode(&path),
        None => Ok(None),
    }
}

fn check_holds(catalogue: &Catalogue<'_>, path: &TargetPath) -> Result<(), CoherenceError> {
    let Some(holds) = catalogue.decode::<Holds>(path)? else { return Ok(()) };
    for hold in &holds.holds {
        hold.module.iter().try_for_each(|module| known_module(catalogue, path, module))?;
        hold.cohort.iter().try_for_each(|cohort| known_cohort(catalogue, path, cohort))?;
    }
    let version = |it: &lockgate_signing::holds::Revocation| (it.module.clone(), it.module_version.clone());
    let revoked: BTreeSet<_> = holds.revoked.iter().map(version).collect();
    let before = match catalogue.newest_published(path.kind(), path.id()) {
        Some(before) => catalogue.decode::<Holds>(&before)?.map(|before| before.revoked).unwrap_or_default(),
        None => Vec::new(),
    };
    let before: BTreeSet<_> = before.iter().map(version).collect();
    if let Some((module, version)) = before.difference(&revoked).next().cloned() {
        return Err(CoherenceError::RevocationDropped { path: path.clone(), module, version });
    }
    for (module, version) in revoked.difference(&before) {
        known_version(catalogue, path, module, version)?;
    }
    Ok(())
}

fn check_direction(catalogue: &Catalogue<'_>, path: &TargetPath) -> Result<(), CoherenceError> {
    let Some(direction) = catalogue.decode::<Direction>(path)? else { return Ok(()) };
    known_module(catalogue, path, &direction.module)?;
    direction.to.cohorts().try_for_each(|cohort| known_cohort(catalogue, path, cohort))
}

fn known_module(catalogue: &Catalogue<'_>, path: &TargetPath, module: &Name) -> Result<(), CoherenceError> {
    if catalogue.has_any(TargetKind::ModuleManifest, module) {
        return Ok(());
    }
    let remedy = "check its name, or stage it with `module add`";
    Err(CoherenceError::Unknown { path: path.clone(), what: format!("the module {module}"), remedy })
}

fn known_version(
    catalogue: &Catalogue<'_>,
    path: &TargetPath,
    module: &Name,
    version: &Version,
) -> Result<(), CoherenceError> {
    let manifest = TargetPath::new(TargetKind::ModuleManifest, module.clone(), version.clone());
    if manifest.is_ok_and(|manifest| catalogue.has(&manifest)) {
        return Ok(());
    }
    let remedy = "check its name and version, or stage it with `module add`";
    Err(CoherenceError::Unknown { path: path.clone(), what: format!("{module} {version}"), remedy })
}

fn known_cohort(catalogue: &Catalogue<'_>, path: &TargetPath, cohort: &Name) -> Result<(), CoherenceError> {
    if catalogue.has_any(TargetKind::Cohort, cohort) {
        return Ok(());
    }
    let remedy = "check its name, or make it with `cohort set`";
    Err(CoherenceError::Unknown { path: path.clone(), what: format!("the cohort {cohort}"), remedy })
}

/// Semantic versioning of what a module sends: within one major version, columns are added and never go, because
/// somebody at the centre reads them.
fn check_manifest(catalogue: &Catalogue<'_>, path: &TargetPath) -> Result<(), CoherenceError> {
    let Some(manifest) = catalogue.decode::<Manifest>(path)? else { return Ok(()) };
    let Some(before) = version_before(catalogue, path) else { return Ok(()) };
    let before = TargetPath::new(path.kind(), path.id().clone(), before.clone());
    let Some(before) = before.ok().map(|before| catalogue.decode::<Manifest>(&before)).transpose()?.flatten()
    else {
        return Ok(());
    };
    if before.version.major != manifest.version.major {
        return Ok(());
    }
    match lost_output(&before, &manifest) {
        Some(what) => Err(CoherenceError::OutputBroken {
            path: path.clone(),
            major: manifest.version.major + 1,
            before: before.version,
            what,
        }),
        None => Ok(()),
    }
}

/// The highest published version below a module's.
pub(crate) fn version_before<'c>(catalogue: &'c Catalogue<'_>, path: &TargetPath) -> Option<&'c Version> {
    let versions = catalogue.published_versions(path.kind(), path.id());
    versions.into_iter().rfind(|version| *version < path.version())
}

fn lost_output(before: &Manifest, after: &Manifest) -> Option<String> {
    for (name, output) in &before.outputs {
        let Some(now) = after.outputs.get(name) else { return Some(format!("the output `{name}` is gone")) };
        for column in &output.columns {
            let same = |other: &&OutputColumn| other.name == column.name;
            match now.columns.iter().find(same) {
                None => return Some(format!("the output `{name}` has no column `{}` any more", column.name)),
                Some(other) if other.kind.type_name() != column.kind.type_name() => {
                    return Some(format!(
                        "the column `{}` of the output `{name}` was a {} and is a {}",
                        column.name,
                        column.kind.type_name(),
                        other.kind.type_name()
                    ));
                }
                Some(_) => {}
            }
        }
    }
    None
}
