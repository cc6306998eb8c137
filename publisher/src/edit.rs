//! Cohorts, rollouts and holds, edited by command: each edit stages the next version of the whole document.

use jiff::civil::Date;
use lockgate_signing::cohort::{Audience, Cohort};
use lockgate_signing::holds::{Hold, Holds, Revocation, STANDING};
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::rollout::{Rollout, RolloutStep};
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::text_format::{TextFormat, TextFormatError};
use semver::Version;

use crate::coherence::{self, CoherenceError};
use crate::published::{Published, PublishedError};
use crate::repository::Repository;
use crate::staging::{self, StagedAs, StagingError};

/// An edit cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What there is cannot be read.
    #[error(transparent)]
    Published(#[from] PublishedError),
    /// It cannot be staged.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The document would be wrong.
    #[error(transparent)]
    Content(#[from] TextFormatError),
    /// It does not fit with what is published.
    #[error(transparent)]
    Coherence(#[from] CoherenceError),
    /// A new cohort needs a title.
    #[error("{0} is a new cohort; say with --title what it is for")]
    NoTitle(Name),
    /// What is offered was revoked.
    #[error("{module} {version} was revoked for ever: {reason} No site would run it; offer another version")]
    Revoked {
        /// The module.
        module: Name,
        /// Its version.
        version: Version,
        /// Why it was.
        reason: String,
    },
    /// The last day of an offer is over.
    #[error(
        "the last day of the offer, {last}, is over on {today}, and no site would take it up; name a later day, or end the \
         offer with --withdraw"
    )]
    Over {
        /// The last day.
        last: Date,
        /// Today.
        today: Date,
    },
    /// There is nothing to take back.
    #[error("{0}; `list` shows what there is")]
    NotThere(String),
}

/// The path of the document, and what became of it. `Unchanged` where the edit changes nothing.
pub type Edited = Result<(TargetPath, StagedAs), EditError>;

/// Says who is in a cohort.
pub fn set_cohort(
    repository: &Repository,
    id: &Name,
    title: Option<String>,
    mut sites: Vec<SiteId>,
) -> Edited {
    sites.sort_unstable();
    sites.dedup();
    edit(repository, TargetKind::Cohort, id, |current: Option<Cohort>, version| {
        let title = title.or_else(|| current.map(|cohort| cohort.title));
        let title = title.ok_or_else(|| EditError::NoTitle(id.clone()))?;
        Ok(Cohort { format: 1, id: id.clone(), version, title, sites })
    })
}

/// Offers a version of a module, in place of how that version was offered before. Other versions stay as they are.
pub fn offer(repository: &Repository, module: &Name, step: RolloutStep, today: Date) -> Edited {
    if let Some(last) = step.not_after.filter(|last| *last < today) {
        return Err(EditError::Over { last, today });
    }
    let contents = Published::read(repository)?;
    let holds = coherence::newest_holds(&contents.catalogue().map_err(CoherenceError::from)?);
    let revoked = holds.map_err(CoherenceError::from)?.map(|holds| holds.revoked).unwrap_or_default();
    let is_it = |it: &&Revocation| it.module == *module && it.module_version == step.module_version;
    if let Some(Revocation { module_version, reason, .. }) = revoked.iter().find(is_it) {
        let (module, version, reason) = (module.clone(), module_version.clone(), reason.clone());
        return Err(EditError::Revoked { module, version, reason });
    }
    edit(repository, TargetKind::Rollout, module, |current: Option<Rollout>, version| {
        let mut steps = current.map(|rollout| rollout.steps).unwrap_or_default();
        let first = steps.iter().position(|other| other.module_version == step.module_version);
        steps.retain(|other| other.module_version != step.module_version);
        steps.insert(first.unwrap_or(steps.len()).min(steps.len()), step);
        Ok(Rollout { format: 1, id: module.clone(), version, steps })
    })
}

/// Offers a version of a module to nobody any more.
pub fn withdraw(repository: &Repository, module: &Name, version: &Version) -> Edited {
    edit(repository, TargetKind::Rollout, module, |current: Option<Rollout>, next| {
        let mut steps = current.map(|rollout| rollout.steps).unwrap_or_default();
        let before = steps.len();
        steps.retain(|step| step.module_version != *version);
        if steps.len() == before {
            return Err(EditError::NotThere(format!("{module} {version} is not offered to anybody")));
        }
        Ok(Rollout { format: 1, id: module.clone(), version: next, steps })
    })
}

/// Pauses a module, a cohort, a module in a cohort, or everything.
pub fn hold(repository: &Repository, hold: Hold) -> Edited {
    edit_holds(repository, |holds| {
        let same = |other: &&mut Hold| (&other.module, &other.cohort) == (&hold.module, &hold.cohort);
        match holds.holds.iter_mut().find(same) {
            // It goes on since it began, for the reason given now.
            Some(there) => there.reason = hold.reason,
            None => holds.holds.push(hold),
        }
        Ok(())
    })
}

/// Lifts a pause.
pub fn resume(repository: &Repository, module: Option<&Name>, cohort: Option<&Name>) -> Edited {
    edit_holds(repository, |holds| {
        let is = |hold: &Hold| (hold.module.as_ref(), hold.cohort.as_ref()) == (module, cohort);
        let before = holds.holds.len();
        let what = holds.holds.iter().map(Hold::what).collect::<Vec<_>>();
        holds.holds.retain(|hold| !is(hold));
        if holds.holds.len() == before {
            let held = if what.is_empty() { "nothing".to_owned() } else { what.join("; ") };
            return Err(EditError::NotThere(format!("there is no such hold; held are: {held}")));
        }
        Ok(())
    })
}

/// Stops a version of a module for ever.
pub fn revoke(
    repository: &Repository,
    module: Name,
    version: Version,
    since: Date,
    reason: String,
) -> Edited {
    edit_holds(repository, |holds| {
        let is = |other: &Revocation| other.module == module && other.module_version == version;
        if !holds.revoked.iter().any(is) {
            holds.revoked.push(Revocation { module, module_version: version, since, reason });
        }
        Ok(())
    })
}

fn edit_holds(repository: &Repository, change: impl FnOnce(&mut Holds) -> Result<(), EditError>) -> Edited {
    let id: Name = STANDING.parse().map_err(|_| EditError::NotThere("no list of holds".to_owned()))?;
    edit(repository, TargetKind::Holds, &id.clone(), |current: Option<Holds>, version| {
        let empty =
            || Holds { format: 1, id, version: version.clone(), holds: Vec::new(), revoked: Vec::new() };
        let mut holds = current.unwrap_or_else(empty);
        holds.version = version;
        change(&mut holds)?;
        Ok(holds)
    })
}

/// Makes the next version of a document from its newest one, staged or published, and stages it.
fn edit<T: TextFormat>(
    repository: &Repository,
    kind: TargetKind,
    id: &Name,
    change: impl FnOnce(Option<T>, Version) -> Result<T, EditError>,
) -> Edited {
    let contents = Published::read(repository)?;
    let published = contents.newest_published::<T>(kind, id)?;
    // However often it was edited since, the version is the one after the published.
    let version = published.as_ref().map_or(Version::new(1, 0, 0), |(path, _)| {
        let Version { major, minor, patch, .. } = *path.version();
        Version::new(major, minor, patch + 1)
    });
    let path = TargetPath::new(kind, id.clone(), version.clone()).map_err(StagingError::from)?;
    let next = change(contents.newest(kind, id)?, version)?;
    // What is staged is what a site will decode.
    let bytes = next.encode()?.into_bytes();
    T::decode(&bytes)?;
    if let Some((same, published)) = published
        && !contents.is_staged(&path)
        && without_version(&published)? == without_version(&next)?
    {
        return Ok((same, StagedAs::AlreadyPublished));
    }
    let contents = contents.with_staged(path.clone(), bytes.clone());
    coherence::check(&contents.catalogue().map_err(CoherenceError::from)?)?;
    let as_ = staging::stage(repository, contents.live(), &path, &bytes)?;
    Ok((path, as_))
}

/// What a document says, but for its version.
fn without_version(document: &impl TextFormat) -> Result<toml::Table, EditError> {
    let mut table: toml::Table = toml::from_str(&document.encode()?).unwrap_or_default();
    table.remove("version");
    Ok(table)
}

/// Who a command's `--to` names: `all`, or cohorts.
pub fn audience(names: &[String]) -> Result<Audience, String> {
    if names.len() == 1 && names[0] == "all" {
        return Ok(Audience::All);
    }
    let parse = |name: &String| name.parse::<Name>().map_err(|error| error.to_string());
    let cohorts = names.iter().map(parse).collect::<Result<_, _>>()?;
    if names.iter().any(|name| name == "all") {
        return Err("`all` takes in every cohort; name it alone".to_owned());
    }
    Ok(Audience::Cohorts(cohorts))
}
