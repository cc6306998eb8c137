//! The keys of the four roles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, create_private_dir, read_private, write_private};
use lockgate_signing::keys::{KeyError, SigningKey};
use zeroize::Zeroizing;

/// A role of the TUF repository (specification, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Says which keys the roles have.
    Root,
    /// Says which files are published.
    Targets,
    /// Says which version of each list belongs to the others.
    Snapshot,
    /// Says which snapshot is current.
    Timestamp,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];
    /// The roles that every publication signs with. The root key can stay elsewhere.
    pub const PUBLISHING: [Self; 3] = [Self::Targets, Self::Snapshot, Self::Timestamp];

    /// Its name in metadata and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

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

/// Private keys by role. Zeroised when dropped.
#[derive(Debug)]
pub struct RoleKeys(BTreeMap<Role, SigningKey>);

impl RoleKeys {
    /// Reads the keys of some roles.
    pub fn load(dir: &Path, roles: &[Role]) -> Result<Self, KeysError> {
        let load = |&role| Ok((role, read_key(&key_path(dir, role))?));
        Ok(Self(roles.iter().map(load).collect::<Result<_, KeysError>>()?))
    }

    /// Makes the keys of all roles; one that is there already (an `init` that was interrupted) is kept.
    pub fn create(
        dir: &Path,
        mut seed: impl FnMut() -> Result<Zeroizing<[u8; 32]>, KeysError>,
    ) -> Result<Self, KeysError> {
        create_private_dir(dir)?;
        let mut keys = BTreeMap::new();
        for role in Role::ALL {
            let path = key_path(dir, role);
            if !path.exists() {
                let key = SigningKey::from_seed(&seed()?);
                let pem = key.to_pem().map_err(|error| KeysError::NotAKey { path: path.clone(), error })?;
                write_private(&path, pem.as_bytes())?;
            }
            keys.insert(role, read_key(&path)?);
        }
        Ok(Self(keys))
    }

    /// The keys that were loaded, by role.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &SigningKey)> {
        self.0.iter().map(|(role, key)| (*role, key))
    }

    /// The key of a role, if it was loaded.
    pub fn of(&self, role: Role) -> Option<&SigningKey> {
        self.0.get(&role)
    }
}

/// The root that the practices pin, beside the keys, where nobody who writes to the web server can change it.
pub fn pinned_root_path(keys_dir: &Path) -> PathBuf {
    keys_dir.join("root.json")
}

fn key_path(dir: &Path, role: Role) -> PathBuf {
    dir.join(format!("{}.pem", role.name()))
}

fn read_key(path: &Path) -> Result<SigningKey, KeysError> {
    let bytes = read_private(path)?;
    // Bytes that are not text are no PEM; the empty text is none either.
    let pem = std::str::from_utf8(&bytes).unwrap_or_default();
    SigningKey::from_pem(pem).map_err(|error| KeysError::NotAKey { path: path.to_owned(), error })
}
