//! Who signs for which role, and the private keys that are on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, create_private_dir, read_private, write_private};
use lockgate_signing::keys::{KeyError, PublicKey, SigningKey};
use zeroize::Zeroizing;

use crate::role::Role;

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is no key.
    #[error("{}: {error}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
    /// The system gave no randomness.
    #[error("the operating system gives no randomness for a new key: {0}")]
    NoRandomness(String),
}

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
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        let mut keys = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(lockgate_durable::at("list", dir))? {
            let path = entry.map_err(lockgate_durable::at("list", dir))?.path();
            let is_pem = path.extension().is_some_and(|ending| ending == "pem");
            let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_pem) else {
                continue;
            };
            let pem = read_pem(&path)?;
            if !pem.contains(PROTECTED) {
                keys.insert(name.to_owned(), key_of_pem(&path, &pem)?);
            }
        }
        Ok(Self(keys))
    }

    /// Makes the keys of a repository on one machine; one that is there already (an `init` that was interrupted) is
    /// kept.
    pub fn create(
        dir: &Path,
        mut seed: impl FnMut() -> Result<Zeroizing<[u8; 32]>, KeysError>,
    ) -> Result<Self, KeysError> {
        create_private_dir(dir)?;
        let mut keys = BTreeMap::new();
        for &name in ON_ONE_MACHINE.iter().flat_map(|(_, names, _)| names.iter()) {
            if keys.contains_key(name) {
                continue;
            }
            let path = dir.join(format!("{name}.pem"));
            if !path.exists() {
                let key = SigningKey::from_seed(&seed()?);
                let pem = key.to_pem().map_err(|error| KeysError::NotAKey { path: path.clone(), error })?;
                write_private(&path, pem.as_bytes())?;
            }
            keys.insert(name.to_owned(), key_of_pem(&path, &read_pem(&path)?)?);
        }
        Ok(Self(keys))
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

/// What the first line of a protected key says (RFC 7468, section 11).
const PROTECTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// The root that the practices pin, beside the keys, where nobody who writes to the web server can change it.
pub fn pinned_root_path(keys_dir: &Path) -> PathBuf {
    keys_dir.join("root.json")
}

fn read_pem(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let bytes = read_private(path)?;
    // Bytes that are not text are no PEM; the empty text is none either.
    Ok(Zeroizing::new(std::str::from_utf8(&bytes).unwrap_or_default().to_owned()))
}

fn key_of_pem(path: &Path, pem: &str) -> Result<SigningKey, KeysError> {
    SigningKey::from_pem(pem).map_err(|error| KeysError::NotAKey { path: path.to_owned(), error })
}
