//! What a proposal would change, in words, for people who decide whether to sign it.

mod lists;
mod manifest;
mod signers;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lockgate_signing::codelist::Codelist;
use lockgate_signing::cohort::Cohort;
use lockgate_signing::digest::Digest;
use lockgate_signing::holds::Holds;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::rollout::Rollout;
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::text_format::TextFormat;
use semver::Version;
use serde::Serialize;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::change::{Change, ChangeError};
use crate::documents::{Root, Targets};
use crate::envelope::{Envelope, Standing};
use crate::lint::Warning;
use crate::offers::{self, Revoked};
use crate::proposal::TrustedRoot;
use crate::repository::Live;
use crate::role::Role;
use manifest::{Earlier, Now};

/// What a proposal would change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Review {
    /// What names the proposal: those who sign compare it.
    pub digest: Digest,
    /// The root that its base was verified from; none where it begins a registry.
    pub root: Option<Verified>,
    /// What would be in order and still not work.
    pub warnings: Vec<Warning>,
    /// The changes.
    pub changes: Vec<Section>,
    /// Who has signed what.
    pub signatures: Vec<Signed>,
}

/// From which root the base of a proposal was verified.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The reviewer's file.
    pub file: PathBuf,
    /// Its digest, as `sha256sum` prints it.
    pub sha256: Digest,
    /// The version of the newest root that follows from it.
    pub version: u64,
}

impl Verified {
    pub(crate) fn from(root: &TrustedRoot, live: &Live) -> Self {
        let TrustedRoot { file, bytes } = root;
        Self { file: file.clone(), sha256: Digest::of(bytes), version: live.version(Role::Root) }
    }
}

impl std::fmt::Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, sha256, version } = self;
        write!(f, "Verified from {} (sha256 {}), root version {version}", file.display(), sha256.to_hex())
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// What changes.
    pub title: String,
    /// How.
    pub lines: Vec<String>,
}

/// Who has signed a document. A new root has two: by the root before it, and by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signed {
    /// The document.
    pub role: Role,
    /// Who has signed it.
    #[serde(flatten)]
    pub standing: Standing,
}

impl Review {
    /// What vouches for the lists that it is compared with, in a line.
    pub fn vouched_for(&self) -> String {
        match &self.root {
            Some(root) => root.to_string(),
            None => {
                "It begins a registry: nothing vouches for it but those who sign; compare the keys".to_owned()
            }
        }
    }
}

impl std::fmt::Display for Review {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Proposal {}", self.digest.to_hex())?;
        writeln!(f, "{}", self.vouched_for())?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for section in &self.changes {
            writeln!(f, "\n{}", section.title)?;
            for line in &section.lines {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "\nSignatures")?;
        for Signed { role, standing } in &self.signatures {
            writeln!(f, "  {role}: {standing}")?;
        }
        Ok(())
    }
}

/// Says what a change would change. It was checked before.
pub fn review(change: &Change, live: &Live, catalogue: &Catalogue<'_>) -> Result<Review, ChangeError> {
    let mut changes = signers_changes(change, live)?;
    for path in change.files.keys() {
        changes.extend(of_file(path, change, catalogue)?);
    }
    changes.push(ends(change)?);
    let concerned =
        |path: &&TargetPath| matches!(path.kind(), TargetKind::Rollout | TargetKind::ModuleManifest);
    let modules: BTreeSet<_> = change.files.keys().filter(concerned).map(|path| path.id().clone()).collect();
    let warnings = offers::without_token_keys(catalogue, modules)?;
    let standings = change.standings(live)?.into_iter();
    let signatures = standings.map(|(role, standing)| Signed { role, standing }).collect();
    Ok(Review { digest: change.digest()?, root: None, warnings, changes, signatures })
}

fn signers_changes(change: &Change, live: &Live) -> Result<Vec<Section>, ChangeError> {
    let mut changes = Vec::new();
    if let Some(root) = document::<Root>(change, Role::Root)? {
        changes.extend(signers::of_root(live.root.as_ref(), &root));
    }
    if let Some(top) = document::<Targets>(change, Role::Targets)? {
        changes.extend(signers::of_targets(live.list(Role::Targets), &top));
    }
    Ok(changes)
}

fn document<T: serde::de::DeserializeOwned>(change: &Change, role: Role) -> Result<Option<T>, ChangeError> {
    let unreadable = |error: serde_json::Error| ChangeError::Unreadable { role, why: error.to_string() };
    change.documents.get(&role).map(Envelope::document).transpose().map_err(unreadable)
}

/// Until when the signatures would hold.
fn ends(change: &Change) -> Result<Section, ChangeError> {
    let mut lines = Vec::new();
    for &role in change.documents.keys() {
        let (version, expires) = match role {
            Role::Root => document::<Root>(change, role)?.map(|root| (root.version, root.expires)),
            _ => document::<Targets>(change, role)?.map(|list| (list.version, list.expires)),
        }
        .ok_or(ChangeError::NoSuchRole { role })?;
        lines.push(format!("{role} version {version}, until {}", day(expires)));
    }
    Ok(Section { title: "Documents to sign".to_owned(), lines })
}

fn day(time: jiff::Timestamp) -> jiff::civil::Date {
    time.to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn of_file(
    path: &TargetPath,
    change: &Change,
    catalogue: &Catalogue<'_>,
) -> Result<Option<Section>, CatalogueError> {
    let section = match path.kind() {
        // Its manifest says what it may do, and names it by its digest.
        TargetKind::ModuleComponent => None,
        TargetKind::ModuleManifest => {
            let before = earlier(path, catalogue);
            let (before, after) = pair::<Manifest>(before, path, catalogue)?;
            let run = earlier_versions(path, before.as_ref(), catalogue)?;
            after.map(|after| manifest::section(before.as_ref(), &run, &after))
        }
        TargetKind::Codelist => {
            let (before, after) = pair::<Codelist>(earlier(path, catalogue), path, catalogue)?;
            after.map(|after| lists::of_codelist(before.as_ref(), &after))
        }
        TargetKind::Cohort => {
            let (before, after) = pair::<Cohort>(newest(path, catalogue), path, catalogue)?;
            after.map(|after| lists::of_cohort(before.as_ref(), &after))
        }
        TargetKind::Rollout => {
            let (before, after) = pair::<Rollout>(newest(path, catalogue), path, catalogue)?;
            let asked = |version: &Version| asked(path.id(), version, change, catalogue);
            after.map(|after| lists::of_rollout(before.as_ref(), &after, catalogue, asked)).transpose()?
        }
        TargetKind::Holds => {
            let (before, after) = pair::<Holds>(newest(path, catalogue), path, catalogue)?;
            after.map(|after| lists::of_holds(before.as_ref(), &after))
        }
        _ => {
            let before = earlier(path, catalogue);
            let before_bytes = before.as_ref().map(|path| catalogue.bytes(path)).transpose()?.flatten();
            let bytes = catalogue.bytes(path)?.unwrap_or_default();
            Some(text::section(path, before.as_ref().zip(before_bytes.as_deref()), &bytes))
        }
    };
    Ok(section)
}

/// Which sites are asked before a version that is published already runs; of one that comes with the change, its manifest's
/// section says it.
fn asked(
    module: &Name,
    version: &Version,
    change: &Change,
    catalogue: &Catalogue<'_>,
) -> Result<Vec<String>, CatalogueError> {
    let offered = offers::manifest(catalogue, module, version)?;
    let path = TargetPath::new(TargetKind::ModuleManifest, module.clone(), version.clone()).ok();
    match offered.zip(path).filter(|(_, path)| !change.files.contains_key(path)) {
        Some((offered, path)) => Ok(manifest::asked(&earlier_versions(&path, None, catalogue)?, &offered)),
        None => Ok(Vec::new()),
    }
}

/// The version before a module's, and every other earlier one that is offered: the oldest first.
fn earlier_versions(
    path: &TargetPath,
    before: Option<&Manifest>,
    catalogue: &Catalogue<'_>,
) -> Result<Vec<Earlier>, CatalogueError> {
    let mut whom: BTreeMap<Version, Vec<String>> = BTreeMap::new();
    for step in offers::offered_already(catalogue, path.id())? {
        let to = offers::audience_in_words(&step.to, catalogue)?;
        whom.entry(step.module_version).or_default().push(to);
    }
    whom.extend(
        before.filter(|it| !whom.contains_key(&it.version)).map(|it| (it.version.clone(), Vec::new())),
    );
    whom.retain(|version, _| version < path.version());
    let revoked = Revoked::of(catalogue)?;
    let mut earlier = Vec::new();
    for (version, whom) in whom {
        let now = match whom.as_slice() {
            [] if revoked.has(path.id(), &version) => Now::Revoked,
            [] => Now::OfferedToNobody,
            whom => Now::OfferedTo(whom.join(" and ")),
        };
        if let Some(manifest) = offers::manifest(catalogue, path.id(), &version)? {
            earlier.push(Earlier { manifest, now });
        }
    }
    Ok(earlier)
}

/// The published version that a file follows: the highest below it.
fn earlier(path: &TargetPath, catalogue: &Catalogue<'_>) -> Option<TargetPath> {
    let version = crate::coherence::version_before(catalogue, path)?.clone();
    TargetPath::new(path.kind(), path.id().clone(), version).ok()
}

/// The published version that a file replaces, where only the newest counts.
fn newest(path: &TargetPath, catalogue: &Catalogue<'_>) -> Option<TargetPath> {
    catalogue.newest_published(path.kind(), path.id())
}

fn pair<T: TextFormat>(
    before: Option<TargetPath>,
    path: &TargetPath,
    catalogue: &Catalogue<'_>,
) -> Result<(Option<T>, Option<T>), CatalogueError> {
    let before = before.map(|before| catalogue.decode(&before)).transpose()?.flatten();
    Ok((before, catalogue.decode(path)?))
}

/// Names in a line: all of them, or the first ones and how many more.
fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 40;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
