//! `roles.toml`: who signs for which role, written by the people who set a repository up, and reviewed by all who sign
//! its root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at};
use lockgate_signing::ids::Name;
use serde::Deserialize;

use crate::key_file::{self, KeyFileError};
use crate::keys::{RoleEntry, RoleTable};
use crate::role::Role;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RolesFile {
    format: u32,
    /// The public keys: a file each, beside the roles file or by its full path.
    #[serde(rename = "key")]
    keys: BTreeMap<Name, PathBuf>,
    #[serde(rename = "role")]
    roles: BTreeMap<Role, Signers>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Signers {
    keys: Vec<Name>,
    threshold: u32,
}

/// The roles file is wrong.
#[derive(Debug, thiserror::Error)]
pub enum RolesFileError {
    /// It could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key could not be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// It is not of its shape.
    #[error("{}: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        why: String,
    },
}

/// Reads a roles file and the public keys that it names.
pub fn read(path: &Path) -> Result<RoleTable, RolesFileError> {
    let wrong = |why: String| RolesFileError::Wrong { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(at("read", path))?;
    let file: RolesFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    check(&file).map_err(wrong)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut keys = BTreeMap::new();
    for (name, file) in &file.keys {
        let key = key_file::load_public(&folder.join(file))?;
        if let Some((other, _)) = keys.iter().find(|(_, other)| **other == key) {
            return Err(wrong(format!("`{name}` and `{other}` are the same key; one key counts once")));
        }
        keys.insert(name.to_string(), key);
    }
    let entry = |(role, signers): (Role, Signers)| {
        let keys = signers.keys.iter().map(Name::to_string).collect();
        (role, RoleEntry { keys, threshold: signers.threshold })
    };
    Ok(RoleTable { keys, roles: file.roles.into_iter().map(entry).collect() })
}

fn check(file: &RolesFile) -> Result<(), String> {
    if file.format != 1 {
        return Err("`format`: this version knows only format 1; update the program".to_owned());
    }
    for role in Role::ALL {
        let Some(signers) = file.roles.get(&role) else {
            return Err(format!("`role.{role}` is missing; give it `keys` and `threshold`"));
        };
        let names: BTreeSet<_> = signers.keys.iter().collect();
        if names.len() != signers.keys.len() {
            return Err(format!("`role.{role}` names a key twice; one key counts once"));
        }
        if let Some(name) = names.iter().find(|name| !file.keys.contains_key(**name)) {
            return Err(format!("`role.{role}` names `{name}`, and there is no such key under `key`"));
        }
        let fewest = role.threshold_min();
        if signers.threshold < fewest {
            return Err(format!(
                "`role.{role}`: a threshold of {} is too low; at least {fewest}, so that nobody can do it alone",
                signers.threshold
            ));
        }
        if (names.len() as u64) < u64::from(signers.threshold) {
            return Err(format!(
                "`role.{role}` has {} keys and a threshold of {}; it could never be signed",
                names.len(),
                signers.threshold
            ));
        }
    }
    // A key that lies on a machine in the network must not be one of those that decide.
    let online = |role: &Role| Role::ONLINE.contains(role);
    let online_keys: BTreeSet<_> =
        file.roles.iter().filter(|(role, _)| online(role)).flat_map(|(_, signers)| &signers.keys).collect();
    for (role, signers) in file.roles.iter().filter(|(role, _)| !online(role)) {
        if let Some(name) = signers.keys.iter().find(|name| online_keys.contains(name)) {
            return Err(format!(
                "`{name}` is an online key and signs for `{role}` too; give {role} keys of its own"
            ));
        }
    }
    let used: BTreeSet<_> = file.roles.values().flat_map(|signers| &signers.keys).collect();
    match file.keys.keys().find(|name| !used.contains(name)) {
        Some(name) => Err(format!("the key `{name}` signs for no role; take it out, or name it in one")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
format = 1
key = { a = "a.pub", b = "b.pub", c = "c.pub", online = "online.pub" }
[role]
root = { keys = ["a", "b", "c"], threshold = 2 }
targets = { keys = ["a", "b", "c"], threshold = 2 }
snapshot = { keys = ["online"], threshold = 1 }
timestamp = { keys = ["online"], threshold = 1 }
modules = { keys = ["a", "b"], threshold = 2 }
policies = { keys = ["a", "b"], threshold = 2 }
mappings = { keys = ["a"], threshold = 1 }
rollout = { keys = ["a", "b"], threshold = 2 }
holds = { keys = ["c"], threshold = 1 }
directions = { keys = ["b", "c"], threshold = 2 }
"#;

    #[test]
    fn each_mistake_has_its_own_message() {
        let verdict = |text: &str| check(&toml::from_str(text).unwrap());
        assert_eq!(verdict(GOOD), Ok(()));
        for (from, to, said) in [
            ("format = 1", "format = 2", "format"),
            ("holds = { keys = [\"c\"], threshold = 1 }\n", "", "`role.holds` is missing"),
            (
                "modules = { keys = [\"a\", \"b\"], threshold = 2 }",
                "modules = { keys = [\"a\", \"b\"], threshold = 1 }",
                "too low",
            ),
            ("modules = { keys = [\"a\", \"b\"]", "modules = { keys = [\"a\"]", "never be signed"),
            ("modules = { keys = [\"a\", \"b\"]", "modules = { keys = [\"a\", \"a\"]", "twice"),
            ("modules = { keys = [\"a\", \"b\"]", "modules = { keys = [\"a\", \"z\"]", "no such key"),
            ("mappings = { keys = [\"a\"]", "mappings = { keys = [\"online\"]", "online key"),
            ("online = \"online.pub\"", "online = \"online.pub\", d = \"d.pub\"", "no role"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let why = verdict(&text).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
