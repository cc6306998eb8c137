//! Who may sign: the keys of each role, and how many must.

use std::collections::BTreeSet;

use super::Section;
use super::lists::came_and_went;
use crate::documents::{Root, Targets};
use crate::envelope::Authority;
use crate::role::Role;

pub(super) fn of_root(before: Option<&Root>, after: &Root) -> Vec<Section> {
    let authority = |root: Option<&Root>, role| root.and_then(|root| root.authority(role));
    let sections =
        Root::NAMES.map(|role| section(role, authority(before, role), authority(Some(after), role)));
    sections.into_iter().flatten().collect()
}

pub(super) fn of_targets(before: Option<&Targets>, after: &Targets) -> Vec<Section> {
    let authority = |list: Option<&Targets>, role| list.and_then(|list| list.authority(role));
    let sections =
        Role::DELEGATED.map(|role| section(role, authority(before, role), authority(Some(after), role)));
    sections.into_iter().flatten().collect()
}

/// `None` where nothing changes.
fn section(role: Role, before: Option<Authority>, after: Option<Authority>) -> Option<Section> {
    if before == after {
        return None;
    }
    let keys = |authority: &Option<Authority>| -> BTreeSet<String> {
        authority.as_ref().map(Authority::keys_in_words).unwrap_or_default()
    };
    let mut lines = came_and_went("key", "s", &keys(&before), &keys(&after));
    match (&before, &after) {
        (Some(before), Some(after)) if before.threshold != after.threshold => {
            lines.push(format!("{} must sign (was {})", after.threshold, before.threshold));
        }
        (_, Some(after)) => lines.push(format!("{} must sign", after.threshold)),
        (_, None) => lines.push("nobody can sign any more".to_owned()),
    }
    let what = match role.paths() {
        [] => String::new(),
        paths => format!(", for {}", paths.join(" and ")),
    };
    Some(Section { title: format!("Who signs {role}{what}"), lines })
}
