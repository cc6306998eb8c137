//! The publisher's own floor: the newest versions that it made live, beside its keys.
//!
//! Rollback of the publisher: an old copy of the repository verifies, and new lists signed on top of it would undo what
//! came in between (a hold, a revocation) with the publisher's own signature.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at, write_atomic};
use serde::{Deserialize, Serialize};

use crate::repository::Live;
use crate::role::Role;

/// The repository is older than what was published.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not of its shape.
    #[error("{} cannot be read: {why}; restore it from a copy", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Older than what was published from here.
    #[error(
        "the repository went back: its {role} is version {found}, and version {published} was published from here ({}); \
         nothing is signed on top of it. Restore the repository from a newer copy", path.display()
    )]
    WentBack {
        /// Which document.
        role: Role,
        /// What is there.
        found: u64,
        /// What was published.
        published: u64,
        /// Where that is written down.
        path: PathBuf,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Floor {
    format: u32,
    published: BTreeMap<Role, u64>,
}

fn path(keys_dir: &Path) -> PathBuf {
    keys_dir.join("published.json")
}

/// Refuses a repository that is older than what was published from here.
pub fn check(keys_dir: &Path, live: &Live) -> Result<(), FloorError> {
    let path = path(keys_dir);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("read", &path)(error).into()),
    };
    let floor: Floor = serde_json::from_slice(&bytes)
        .map_err(|error| FloorError::Unreadable { path: path.clone(), why: error.to_string() })?;
    for (role, published) in floor.published {
        let found = live.version(role);
        if found < published {
            return Err(FloorError::WentBack { role, found, published, path });
        }
    }
    Ok(())
}

/// Writes down what is live, after it went live: a crash in between leaves the floor lower, never too high.
pub fn raise(keys_dir: &Path, live: &Live) -> Result<(), FloorError> {
    let published = Role::ALL.into_iter().map(|role| (role, live.version(role))).collect();
    let path = path(keys_dir);
    let bytes = serde_json::to_vec_pretty(&Floor { format: 1, published })
        .map_err(|error| FloorError::Unreadable { path: path.clone(), why: error.to_string() })?;
    Ok(write_atomic(&path, &bytes)?)
}
