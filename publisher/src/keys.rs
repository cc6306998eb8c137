//! Who signs for which role, and the private keys that are on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_durable::{at, create_private_dir};
use lockgate_signing::keys::{PublicKey, SigningKey};

use crate::key_file::{self, KeyFileError};
use crate::role::Role;

/// Who signs for which role, and how many must.
#[derive(Debug, Clone)]
pub struct RoleTable {
    pub(crate) keys: BTreeMap<String, PublicKey>,
    pub(crate) roles: BTreeMap<Role, RoleEntry>,
}

#[derive(Debug, Clone)]
pub(crate) struct RoleEntry {
    pub(crate) keys: Vec<String>,
    pub(crate) threshold: u32,
}

impl RoleTable {
    /// The names and keys of those who may sign for a role.
    pub fn signers(&self, role: Role) -> impl Iterator<Item = (&str, &PublicKey)> {
        let names = self.roles.get(&role).map(|entry| entry.keys.as_slice()).unwrap_or_default();
        names.iter().filter_map(|name| Some((name.as_str(), self.keys.get(name)?)))
    }

    /// How many of them must.
    pub fn threshold(&self, role: Role) -> u32 {
        self.roles.get(&role).map_or(u32::MAX, |entry| entry.threshold)
    }
}

/// The signers of a repository that lives on one machine, for trying out: every role has keys of its own kind and its
/// real threshold, so that what works here works with keys in different hands.
const ON_ONE_MACHINE: [(Role, &[&str], u32); 10] = [
    (Role::Root, &["root-1", "root-2", "root-3"], 2),
    (Role::Targets, &["root-1", "root-2", "root-3"], 2),
    (Role::Snapshot, &["online"], 1),
    (Role::Timestamp, &["online"], 1),
    (Role::Modules, &["publishing", "governance"], 2),
    (Role::Policies, &["publishing", "governance"], 2),
    (Role::Mappings, &["mappings"], 1),
    (Role::Rollout, &["publishing", "governance"], 2),
    (Role::Holds, &["duty"], 1),
    (Role::Directions, &["directions-1", "directions-2"], 2),
];

/// The private keys in a folder on this machine. Zeroised when dropped.
#[derive(Debug)]
pub struct Keyring(BTreeMap<String, SigningKey>);

impl Keyring {
    /// Reads the keys of a folder, by name. Those that a passphrase protects are left out: they sign with `sign`.
    pub fn load(dir: &Path) -> Result<Self, KeyFileError> {
        let mut keys = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(at("list", dir))? {
            let path = entry.map_err(at("list", dir))?.path();
            let is_key = path.extension().is_some_and(|ending| ending == "pem");
            if let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_key)
                && let Some(key) = key_file::load_unprotected(&path)?
            {
                keys.insert(name.to_owned(), key);
            }
        }
        Ok(Self(keys))
    }

    /// Makes the keys of a repository on one machine; one that is there already (an `init` that was interrupted) is
    /// kept.
    pub fn create(dir: &Path) -> Result<Self, KeyFileError> {
        create_private_dir(dir)?;
        for &name in ON_ONE_MACHINE.iter().flat_map(|(_, names, _)| names.iter()) {
            let path = dir.join(format!("{name}.pem"));
            if !path.exists() {
                key_file::create(&path, None)?;
            }
        }
        Self::load(dir)
    }

    /// The role table of a repository on one machine.
    pub fn table(&self) -> RoleTable {
        let keys = self.0.iter().map(|(name, key)| (name.clone(), key.public())).collect();
        let entry = |&(role, names, threshold): &(Role, &[&str], u32)| {
            (role, RoleEntry { keys: names.iter().map(|&name| name.to_owned()).collect(), threshold })
        };
        RoleTable { keys, roles: ON_ONE_MACHINE.iter().map(entry).collect() }
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &SigningKey> {
        self.0.values()
    }
}

/// The root that the practices pin, beside the keys, where nobody who writes to the web server can change it.
pub fn pinned_root_path(keys_dir: &Path) -> PathBuf {
    keys_dir.join("root.json")
}
