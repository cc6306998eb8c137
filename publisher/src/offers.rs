//! Which versions of a module are offered, and to whom. A version that was revoked is offered to nobody, whatever stands
//! in the rollout.

use std::collections::BTreeSet;

use lockgate_signing::cohort::{Audience, Cohort};
use lockgate_signing::holds::Revocation;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::rollout::{Rollout, RolloutStep};
use lockgate_signing::target::{TargetKind, TargetPath};
use semver::Version;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::coherence;
use crate::lint::Warning;

/// What was revoked, by what is published and by what is new.
#[derive(Debug)]
pub(crate) struct Revoked(Vec<Revocation>);

impl Revoked {
    pub(crate) fn of(catalogue: &Catalogue<'_>) -> Result<Self, CatalogueError> {
        let holds = coherence::newest_holds(catalogue)?;
        Ok(Self(holds.map(|holds| holds.revoked).unwrap_or_default()))
    }

    pub(crate) fn has(&self, module: &Name, version: &Version) -> bool {
        self.0.iter().any(|it| it.module == *module && it.module_version == *version)
    }
}

/// What a module's newest rollout offers, published or new.
pub(crate) fn offered(catalogue: &Catalogue<'_>, module: &Name) -> Result<Vec<RolloutStep>, CatalogueError> {
    of(catalogue.newest(TargetKind::Rollout, module), catalogue)
}

/// What a module's published rollout offers: what sites may run today.
pub(crate) fn offered_already(
    catalogue: &Catalogue<'_>,
    module: &Name,
) -> Result<Vec<RolloutStep>, CatalogueError> {
    of(catalogue.newest_published(TargetKind::Rollout, module), catalogue)
}

fn of(rollout: Option<TargetPath>, catalogue: &Catalogue<'_>) -> Result<Vec<RolloutStep>, CatalogueError> {
    let rollout = rollout.map(|path| catalogue.decode::<Rollout>(&path)).transpose()?.flatten();
    let Some(Rollout { id, mut steps, .. }) = rollout else { return Ok(Vec::new()) };
    let revoked = Revoked::of(catalogue)?;
    steps.retain(|step| !revoked.has(&id, &step.module_version));
    Ok(steps)
}

/// The manifest of a version that is published or new.
pub(crate) fn manifest(
    catalogue: &Catalogue<'_>,
    module: &Name,
    version: &Version,
) -> Result<Option<Manifest>, CatalogueError> {
    let path = TargetPath::new(TargetKind::ModuleManifest, module.clone(), version.clone());
    Ok(path.ok().map(|path| catalogue.decode(&path)).transpose()?.flatten())
}

/// The offers that no site can take up, because the purpose of the module has no token keys, published or new. A warning and no refusal, because the keys come from others and may come later.
pub(crate) fn without_token_keys(
    catalogue: &Catalogue<'_>,
    modules: impl IntoIterator<Item = Name>,
) -> Result<Vec<Warning>, CatalogueError> {
    let mut warnings = Vec::new();
    for module in modules {
        let versions: BTreeSet<_> =
            offered(catalogue, &module)?.into_iter().map(|step| step.module_version).collect();
        for version in versions {
            let Some(Manifest { purpose, .. }) = manifest(catalogue, &module, &version)? else { continue };
            if !catalogue.has_any(TargetKind::TokenKeys, &purpose) {
                let why = format!(
                    "its purpose {purpose} has no token keys, and no site can run it without; publish them: `token-keys add`"
                );
                warnings.push(Warning { place: format!("{module} {version}"), why });
            }
        }
    }
    Ok(warnings)
}

/// To whom something is offered, with the number of sites.
pub(crate) fn audience_in_words(to: &Audience, catalogue: &Catalogue<'_>) -> Result<String, CatalogueError> {
    if let Audience::All = to {
        return Ok("all sites".to_owned());
    }
    let names: Vec<_> = to.cohorts().map(|name| with_size(name, catalogue)).collect::<Result<_, _>>()?;
    Ok(names.join(", "))
}

fn with_size(cohort: &Name, catalogue: &Catalogue<'_>) -> Result<String, CatalogueError> {
    let newest = catalogue.newest(TargetKind::Cohort, cohort);
    let newest = newest.map(|path| catalogue.decode::<Cohort>(&path)).transpose()?.flatten();
    Ok(match newest {
        Some(cohort) if cohort.sites.len() == 1 => format!("cohort {} (1 site)", cohort.id),
        Some(cohort) => format!("cohort {} ({} sites)", cohort.id, cohort.sites.len()),
        None => format!("cohort {cohort}"),
    })
}
