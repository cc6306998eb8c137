//! The next version of some lists, and the files that they name: what signers sign and `publish` makes live.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lockgate_signing::digest::Digest;
use lockgate_signing::keys::SigningKey;
use lockgate_signing::target::TargetPath;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::coherence::{self, CoherenceError};
use crate::documents::{self, DocumentError, ExpiryDays, Root, TargetEntry, Targets};
use crate::envelope::{Authority, Envelope, Standing};
use crate::repository::Live;
use crate::role::Role;
use crate::staging::{self, StagingError};

/// The next version of some lists, and the files that they name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// The documents, by role. Never the snapshot or the timestamp: those say what is live, and publishing makes them.
    pub documents: BTreeMap<Role, Envelope>,
    /// New files.
    pub files: BTreeMap<TargetPath, Vec<u8>>,
}

impl Change {
    /// New files, each put into the list of its role. With `renew`, the other lists are signed again as they are.
    pub fn of_files(
        live: &Live,
        files: BTreeMap<TargetPath, Vec<u8>>,
        renew: &[Role],
        expiry: ExpiryDays,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let expires = documents::expiry(now, expiry.targets)?;
        let mut lists: BTreeMap<Role, Targets> = BTreeMap::new();
        let next = |role: Role| {
            let list = live.list(role).ok_or(ChangeError::NoSuchRole { role })?;
            Ok::<_, ChangeError>(list.extended(list.version + 1, expires))
        };
        for &role in renew {
            lists.insert(role, next(role)?);
        }
        for (path, bytes) in &files {
            let role = Role::listing(path).ok_or_else(|| ChangeError::NoRole { path: path.clone() })?;
            let list = match lists.entry(role) {
                std::collections::btree_map::Entry::Occupied(list) => list.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(next(role)?),
            };
            let entry = TargetEntry::of(bytes);
            let before = list.targets.insert(path.to_string(), entry.clone());
            // Staging refused this; but another publication may have come in between.
            if before.is_some_and(|before| before.digest() != entry.digest()) {
                return Err(StagingError::VersionTaken { path: path.clone() }.into());
            }
        }
        let documents = lists
            .into_iter()
            .map(|(role, list)| Ok((role, Envelope::unsigned(&list, role)?)))
            .collect::<Result<_, DocumentError>>()?;
        Ok(Self { documents, files })
    }

    /// What names it: the same for every copy, whoever has signed.
    pub fn digest(&self) -> Result<Digest, ChangeError> {
        let mut text = "lockgate proposal 1\n".to_owned();
        for (role, document) in &self.documents {
            text.push_str(&format!("{role} {}\n", Digest::of(&document.signed_bytes()?).to_hex()));
        }
        Ok(Digest::of(text.as_bytes()))
    }

    /// Whether it makes a repository, rather than changing one.
    pub fn is_first(&self) -> bool {
        let root = self.documents.get(&Role::Root).map(Envelope::document::<Root>);
        matches!(root, Some(Ok(root)) if root.version == 1)
    }

    /// Checks that it follows on what is live and says nothing that a reviewer is not shown. Signatures are not looked
    /// at.
    pub fn check(&self, live: &Live, catalogue: &Catalogue<'_>) -> Result<(), ChangeError> {
        let mut listed = BTreeSet::new();
        for (&role, document) in &self.documents {
            let unreadable =
                |error: serde_json::Error| ChangeError::Unreadable { role, why: error.to_string() };
            let wrong = |why: String| ChangeError::Unreadable { role, why };
            if Role::ONLINE.contains(&role) {
                return Err(wrong("it is made at publishing and is no part of a proposal".to_owned()));
            }
            // 1. Stale base: what was reviewed is the difference to a list that is not live any more. It is said before
            // anything else, because everything else compares with the live one.
            let follows = |version: u64| {
                let live = live.version(role);
                let made_on = version.saturating_sub(1);
                if version == live + 1 { Ok(()) } else { Err(ChangeError::Stale { role, made_on, live }) }
            };
            let unknown = if role == Role::Root {
                let root: Root = document.document().map_err(unreadable)?;
                if !root.is_usual() {
                    return Err(wrong("it is not as this version writes it".to_owned()));
                }
                follows(root.version)?;
                root.unknown_field().map(str::to_owned)
            } else {
                let list: Targets = document.document().map_err(unreadable)?;
                follows(list.version)?;
                self.check_list(live, role, &list).map_err(wrong)?;
                listed.extend(list.targets.keys().cloned());
                list.unknown_field().map(str::to_owned)
            };
            // 2. What this version does not know, it does not show.
            if let Some(field) = unknown {
                return Err(wrong(format!("its field `{field}` is not known to this version")));
            }
        }
        // 3. Every new file is in a list.
        if let Some(path) = self.files.keys().find(|path| !listed.contains(&path.to_string())) {
            return Err(ChangeError::NotListed { path: path.clone() });
        }
        staging::check_files(&self.files)?;
        Ok(coherence::check(catalogue)?)
    }

    /// Nothing goes, nothing changes under its name, and what is new is there.
    fn check_list(&self, live: &Live, role: Role, list: &Targets) -> Result<(), String> {
        if role == Role::Targets {
            if !list.targets.is_empty() || !list.delegates_as_usual() {
                return Err("the top list delegates the usual folders and lists no file itself".to_owned());
            }
            return Ok(());
        }
        if list.delegated().next().is_some() {
            return Err("a delegated role must not delegate further".to_owned());
        }
        let before = live.list(role).map(|list| &list.targets);
        for (path, entry) in before.into_iter().flatten() {
            match list.targets.get(path) {
                Some(now) if now == entry => {}
                Some(_) => {
                    return Err(format!("`{path}` changes; a version never changes: raise the version"));
                }
                None => return Err(format!("`{path}` is gone; what was published stays")),
            }
        }
        for (path, entry) in &list.targets {
            if before.is_some_and(|before| before.contains_key(path)) {
                continue;
            }
            let parsed = TargetPath::parse(path).map_err(|error| error.to_string())?;
            let parsed = parsed.filter(|parsed| Role::listing(parsed) == Some(role));
            let parsed = parsed.ok_or_else(|| format!("`{path}` is not in a folder of this role"))?;
            if self.files.get(&parsed).map(|bytes| TargetEntry::of(bytes)).as_ref() != Some(entry) {
                return Err(format!("`{path}` is listed, and the file is missing or another one"));
            }
        }
        Ok(())
    }

    /// Joins the signatures of a copy, which must say the same.
    pub fn join(&mut self, live: &Live, copy: &Self) -> Result<(), ChangeError> {
        let same = self.documents.len() == copy.documents.len()
            && self.files == copy.files
            && self.documents.iter().all(|(role, document)| {
                copy.documents.get(role).is_some_and(|other| other.says_the_same_as(document))
            });
        if !same {
            return Err(ChangeError::OtherProposal);
        }
        let authorities = self.authorities(live)?;
        for (role, document) in &mut self.documents {
            let all: Vec<_> = authorities.get(role).into_iter().flatten().collect();
            if let Some(other) = copy.documents.get(role) {
                document.join(other, &all)?;
            }
        }
        Ok(())
    }

    /// Joins the signatures of copies into one.
    pub fn of_copies(live: &Live, copies: &[Self]) -> Result<Self, ChangeError> {
        let mut change = copies.first().cloned().ok_or(ChangeError::OtherProposal)?;
        // The first with itself, too: only signatures that count go on.
        copies.iter().try_for_each(|copy| change.join(live, copy))?;
        Ok(change)
    }

    /// Adds a key's signature wherever it is one of those that may sign. Returns where, and whether any of it is new.
    pub fn sign(&mut self, live: &Live, key: &SigningKey) -> Result<(Vec<Role>, bool), ChangeError> {
        let (mut signed, mut is_new) = (Vec::new(), false);
        let authorities = self.authorities(live)?;
        for (role, document) in &mut self.documents {
            let may_sign = |authority: &Authority| authority.has(&key.public());
            if authorities.get(role).is_some_and(|all| all.iter().any(may_sign)) {
                is_new |= document.sign(key)?;
                signed.push(*role);
            }
        }
        Ok((signed, is_new))
    }

    /// Who may sign each document, in words.
    pub fn who_may_sign(&self, live: &Live) -> Result<String, ChangeError> {
        let line = |(role, all): (&Role, &Vec<Authority>)| {
            let mut names: Vec<_> = all.iter().flat_map(Authority::names).collect();
            names.sort();
            names.dedup();
            format!("{role}: {}", names.join(", "))
        };
        let lines: Vec<_> = self.authorities(live)?.iter().map(line).collect();
        Ok(format!("Those who may sign are, {}", lines.join("; ")))
    }

    /// Who has signed each document. A root has two standings, under the root before it and under itself.
    pub fn standings(&self, live: &Live) -> Result<Vec<(Role, Standing)>, ChangeError> {
        let mut standings = Vec::new();
        for (role, authorities) in self.authorities(live)? {
            if let Some(document) = self.documents.get(&role) {
                for authority in &authorities {
                    standings.push((role, document.standing(authority)?));
                }
            }
        }
        Ok(standings)
    }

    /// The root as it will be.
    pub fn root(&self, live: &Live) -> Result<Root, ChangeError> {
        let unreadable =
            |error: serde_json::Error| ChangeError::Unreadable { role: Role::Root, why: error.to_string() };
        match (self.documents.get(&Role::Root), &live.root) {
            (Some(document), _) => document.document().map_err(unreadable),
            (None, Some(root)) => Ok(root.clone()),
            (None, None) => Err(ChangeError::NoSuchRole { role: Role::Root }),
        }
    }

    /// Who may sign each document: by the root and the delegations as they will be.
    fn authorities(&self, live: &Live) -> Result<BTreeMap<Role, Vec<Authority>>, ChangeError> {
        let root = self.root(live)?;
        let unreadable = |error: serde_json::Error| ChangeError::Unreadable {
            role: Role::Targets,
            why: error.to_string(),
        };
        let new_targets = self.documents.get(&Role::Targets).map(Envelope::document::<Targets>);
        let new_targets = new_targets.transpose().map_err(unreadable)?;
        let targets = new_targets.as_ref().or(live.list(Role::Targets));
        let mut authorities = BTreeMap::new();
        for &role in self.documents.keys() {
            let all: Vec<_> = match role {
                // By the root before it, if there is one, and by itself (specification, section 5.3.4).
                Role::Root => {
                    live.root.iter().chain([&root]).filter_map(|root| root.authority(role)).collect()
                }
                Role::Targets | Role::Snapshot | Role::Timestamp => {
                    root.authority(role).into_iter().collect()
                }
                _ => targets.and_then(|targets| targets.authority(role)).into_iter().collect(),
            };
            if all.is_empty() {
                return Err(ChangeError::NoSuchRole { role });
            }
            authorities.insert(role, all);
        }
        Ok(authorities)
    }
}

/// A change cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A document could not be made.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A file cannot be published.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The repository knows no such role.
    #[error("the repository has no role `{role}`; make it with `lockgate-publish root rotate`")]
    NoSuchRole {
        /// Which.
        role: Role,
    },
    /// No role lists such a file.
    #[error("no role lists `{path}`; update lockgate-publish")]
    NoRole {
        /// The file.
        path: TargetPath,
    },
    /// Somebody published in between.
    #[error(
        "the proposal was made on version {made_on} of the {role} list, and version {live} is live; propose again, so \
         that what is signed is what was reviewed"
    )]
    Stale {
        /// Which list.
        role: Role,
        /// The version that it follows.
        made_on: u64,
        /// The version that is live.
        live: u64,
    },
    /// The roles file says what is so already.
    #[error(
        "the roles file names the signers that there are already; nothing changes. To sign for longer: `root extend`"
    )]
    SameSigners,
    /// A file that no list names.
    #[error("the proposal holds `{path}`, which none of its lists names; propose again")]
    NotListed {
        /// The file.
        path: TargetPath,
    },
    /// A file could not be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Documents do not fit together.
    #[error(transparent)]
    Coherence(#[from] CoherenceError),
    /// Two folders are not copies of one proposal.
    #[error("the folders are not copies of one proposal; sign copies of the same one")]
    OtherProposal,
    /// A document is not what it should be.
    #[error("the {role} document is wrong: {why}; propose again")]
    Unreadable {
        /// Which.
        role: Role,
        /// Why.
        why: String,
    },
}
