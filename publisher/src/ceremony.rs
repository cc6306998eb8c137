//! Who may sign: the first documents of a repository, other signers, and a longer time for the same ones.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lockgate_signing::holds::{Holds, STANDING};
use lockgate_signing::target::{TargetKind, TargetPath};
use lockgate_signing::text_format::TextFormat as _;
use semver::Version;

use crate::change::{Change, ChangeError};
use crate::documents::{self, ExpiryDays, Root, TargetEntry, Targets};
use crate::envelope::Envelope;
use crate::keys::RoleTable;
use crate::repository::Live;
use crate::role::Role;

/// The first documents of a repository: who may sign, and lists without files but for one, which says that nothing is
/// held.
pub fn first(table: &RoleTable, expiry: ExpiryDays, now: Timestamp) -> Result<Change, ChangeError> {
    let expires = documents::expiry(now, expiry.targets)?;
    let root = Root::new(table, 1, documents::expiry(now, expiry.root)?)?;
    let top = Targets::delegating(table, 1, expires)?;
    let mut change = Change::default();
    change.documents.insert(Role::Root, Envelope::unsigned(&root, Role::Root)?);
    change.documents.insert(Role::Targets, Envelope::unsigned(&top, Role::Targets)?);
    let (path, bytes) = nothing_held()?;
    for role in Role::DELEGATED {
        let mut list = Targets::empty(1, expires);
        if Role::listing(&path) == Some(role) {
            list.targets.insert(path.to_string(), TargetEntry::of(&bytes));
        }
        change.documents.insert(role, Envelope::unsigned(&list, role)?);
    }
    change.files = BTreeMap::from([(path, bytes)]);
    Ok(change)
}

/// The first list of holds. A site that finds none has been shown an incomplete repository, and stops.
fn nothing_held() -> Result<(TargetPath, Vec<u8>), ChangeError> {
    let wrong = |why: String| ChangeError::Unreadable { role: Role::Holds, why };
    let id = STANDING.parse().map_err(|_| wrong("its id is not a name".to_owned()))?;
    let version = Version::new(1, 0, 0);
    let holds = Holds { format: 1, id, version, holds: Vec::new(), revoked: Vec::new() };
    let path = TargetPath::new(TargetKind::Holds, holds.id.clone(), holds.version.clone());
    let path = path.map_err(|error| wrong(error.to_string()))?;
    let text = holds.encode().map_err(|error| wrong(error.to_string()))?;
    Ok((path, text.into_bytes()))
}

/// Other signers: a new root and a new top list where they change, and every list whose signatures would not be enough
/// under the new signers, to be signed again as it is.
pub fn rotated(
    live: &Live,
    table: &RoleTable,
    expiry: ExpiryDays,
    now: Timestamp,
) -> Result<Change, ChangeError> {
    let expires = documents::expiry(now, expiry.targets)?;
    let (Some(old_root), Some(old_top)) = (&live.root, live.list(Role::Targets)) else {
        return Err(ChangeError::NoSuchRole { role: Role::Root });
    };
    let mut change = Change::default();
    let root = Root::new(table, old_root.version + 1, documents::expiry(now, expiry.root)?)?;
    let root_changes = Root::NAMES.iter().any(|&role| root.authority(role) != old_root.authority(role));
    if root_changes {
        change.documents.insert(Role::Root, Envelope::unsigned(&root, Role::Root)?);
    }
    let top = Targets::delegating(table, old_top.version + 1, expires)?;
    let top_changes = Role::DELEGATED.iter().any(|&role| top.authority(role) != old_top.authority(role));
    if top_changes {
        change.documents.insert(Role::Targets, Envelope::unsigned(&top, Role::Targets)?);
    }
    for (&role, list) in &live.lists {
        let authority = if role == Role::Targets { root.authority(role) } else { top.authority(role) };
        let signed = live.signed.get(&role).zip(authority);
        let holds = signed.map(|(signed, authority)| signed.standing(&authority)).transpose()?;
        if !holds.is_some_and(|standing| standing.is_met()) && !change.documents.contains_key(&role) {
            let again = list.extended(list.version + 1, expires);
            change.documents.insert(role, Envelope::unsigned(&again, role)?);
        }
    }
    if change.documents.is_empty() {
        return Err(ChangeError::SameSigners);
    }
    Ok(change)
}

/// The same root for longer.
pub fn extended(live: &Live, expiry: ExpiryDays, now: Timestamp) -> Result<Change, ChangeError> {
    let Some(root) = &live.root else { return Err(ChangeError::NoSuchRole { role: Role::Root }) };
    let longer = root.extended(root.version + 1, documents::expiry(now, expiry.root)?);
    let documents = BTreeMap::from([(Role::Root, Envelope::unsigned(&longer, Role::Root)?)]);
    Ok(Change { documents, files: BTreeMap::new() })
}
