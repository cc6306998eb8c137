//! The next version of some lists, and the files that they name: what signers sign and `publish` makes live.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lockgate_signing::keys::SigningKey;
use lockgate_signing::target::TargetPath;

use crate::documents::{self, DocumentError, ExpiryDays, Root, TargetEntry, Targets};
use crate::envelope::{Authority, Envelope, Standing};
use crate::keys::RoleTable;
use crate::repository::Live;
use crate::role::Role;
use crate::staging::StagingError;

/// The next version of some lists, and the files that they name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// The documents, by role. Never the snapshot or the timestamp: those say what is live, and publishing makes them.
    pub documents: BTreeMap<Role, Envelope>,
    /// New files.
    pub files: BTreeMap<TargetPath, Vec<u8>>,
}

impl Change {
    /// The first documents of a repository: who may sign, and lists without files.
    pub fn first(table: &RoleTable, expiry: ExpiryDays, now: Timestamp) -> Result<Self, ChangeError> {
        let expires = documents::expiry(now, expiry.targets)?;
        let root = Root::new(table, 1, documents::expiry(now, expiry.root)?)?;
        let targets = Targets::delegating(table, 1, expires)?;
        let mut documents = BTreeMap::from([
            (Role::Root, Envelope::unsigned(&root, Role::Root)?),
            (Role::Targets, Envelope::unsigned(&targets, Role::Targets)?),
        ]);
        for role in Role::DELEGATED {
            documents.insert(role, Envelope::unsigned(&Targets::empty(1, expires), role)?);
        }
        Ok(Self { documents, files: BTreeMap::new() })
    }

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

    /// Adds a key's signature wherever it is one of those that may sign; says where.
    pub fn sign(&mut self, live: &Live, key: &SigningKey) -> Result<Vec<Role>, ChangeError> {
        let mut signed = Vec::new();
        let authorities = self.authorities(live)?;
        for (role, document) in &mut self.documents {
            let may_sign = |authority: &Authority| authority.has(&key.public());
            if authorities.get(role).is_some_and(|all| all.iter().any(may_sign)) {
                document.sign(key)?;
                signed.push(*role);
            }
        }
        Ok(signed)
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
    /// A document is not what it should be.
    #[error("the {role} document cannot be read: {why}; propose again")]
    Unreadable {
        /// Which.
        role: Role,
        /// Why.
        why: String,
    },
}
