//! A publication, seen through the agent's own client before it goes live.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use lockgate_trust::{RegistrySource, Trust, TrustError, TrustLimits};
use sigstore_tuf::transport::FetchFuture;

use crate::repository::{Files, Repository};

/// Files of a publication that are not on disk yet.
#[derive(Debug, Clone, Default)]
pub struct Proposed {
    /// Metadata, by file name.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// Target files, by path and with the digest in their name.
    pub targets: BTreeMap<String, Vec<u8>>,
}

/// An agent would not take the publication.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It says why.
    #[error("{agent} would refuse this publication: {why}; nothing went live")]
    Refused {
        /// Which agent.
        agent: &'static str,
        /// Its reason.
        why: TrustError,
    },
    /// There is no place for an agent's store.
    #[error("cannot make a temporary folder to try the publication in: {0}; nothing went live")]
    Folder(#[source] std::io::Error),
}

/// Refreshes as two agents would, and fetches everything that is listed.
pub fn as_agents(repository: &Repository, proposed: &Proposed, now: Timestamp) -> Result<(), CheckError> {
    // 1. One that was installed today, and starts from the pinned root.
    as_new_agent(repository, proposed, now)?;

    // 2. One that has seen what is live now: it must not take the publication for a rollback. What is live may have
    //    expired, and publishing is the remedy: so it was seen when it was signed.
    let refused = |why| CheckError::Refused { agent: "an agent that knows what is live now", why };
    let store = tempfile::tempdir().map_err(CheckError::Folder)?;
    let live = client(repository, &Proposed::default(), store.path()).map_err(refused)?;
    let seen = match live.refresh(Timestamp::UNIX_EPOCH) {
        Err(TrustError::ClockBehind { signed_at, .. }) => live.refresh(signed_at),
        seen => seen,
    };
    match seen {
        // One that met something expired has seen the versions all the same.
        Ok(_) | Err(TrustError::Expired { .. }) => {}
        Err(why) => return Err(refused(why)),
    }
    let known = client(repository, proposed, store.path()).map_err(refused)?;
    known.refresh(now).map_err(refused).map(drop)
}

/// Refreshes as an agent that was installed today would, and fetches everything that is listed.
pub fn as_new_agent(repository: &Repository, proposed: &Proposed, now: Timestamp) -> Result<(), CheckError> {
    let refused = |why| CheckError::Refused { agent: "a newly installed agent", why };
    let store = tempfile::tempdir().map_err(CheckError::Folder)?;
    let fresh = client(repository, proposed, store.path()).map_err(refused)?;
    let registry = fresh.refresh(now).map_err(refused)?;
    registry.targets().try_for_each(|path| registry.check(path)).map_err(refused)
}

fn client(repository: &Repository, proposed: &Proposed, store: &Path) -> Result<Trust, TrustError> {
    let files = Overlay { proposed: proposed.clone(), live: Files::of(repository.dir()) };
    let source = RegistrySource::Folder(repository.dir().to_owned());
    Trust::open_proposed(&source, files, repository.pinned_root(), store, TrustLimits::default())
}

/// The repository as it will be.
#[derive(Debug)]
struct Overlay {
    proposed: Proposed,
    live: Files,
}

impl sigstore_tuf::Repository for Overlay {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        match self.proposed.metadata.get(name) {
            Some(bytes) => Box::pin(std::future::ready(bounded(name, bytes, max_length))),
            None => self.live.fetch_metadata(name, max_length),
        }
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        match self.proposed.targets.get(path) {
            Some(bytes) => Box::pin(std::future::ready(bounded(path, bytes, max_length))),
            None => self.live.fetch_target(path, max_length),
        }
    }
}

fn bounded(name: &str, bytes: &[u8], max_length: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
    if bytes.len() as u64 > max_length {
        return Err(sigstore_tuf::Error::transport(format!("{name} is longer than {max_length} bytes")));
    }
    Ok(Some(bytes.to_vec()))
}
