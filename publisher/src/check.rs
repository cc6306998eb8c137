//! A publication, seen through the agent's own client before it goes live.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{MemoryStore, Updater};

use crate::repository::{Files, Repository, chain, run};

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
#[error("{agent} would refuse this publication: {why}; nothing went live")]
pub struct RefusedByAgent {
    agent: &'static str,
    why: String,
}

/// Refreshes as two agents would, and fetches everything that is listed.
pub fn as_agents(repository: &Repository, proposed: &Proposed, now: Timestamp) -> Result<(), RefusedByAgent> {
    // 1. One that was installed today, and starts from the pinned root.
    let refused = |why| RefusedByAgent { agent: "a newly installed agent", why };
    let mut fresh = client(repository, proposed).map_err(refused)?;
    run(fresh.refresh(now)).map_err(refused)?;
    fetch_all(&mut fresh, now).map_err(refused)?;

    // 2. One that has seen what is live now: it must not take the publication for a rollback.
    let refused = |why| RefusedByAgent { agent: "an agent that knows what is live now", why };
    let store = Arc::new(MemoryStore::new());
    let live = client(repository, &Proposed::default()).map_err(refused)?;
    run(live.with_store(Arc::clone(&store)).refresh(Timestamp::UNIX_EPOCH)).map_err(refused)?;
    let mut known = client(repository, proposed).map_err(refused)?.with_store(store);
    run(known.refresh(now)).map_err(refused)
}

fn client(repository: &Repository, proposed: &Proposed) -> Result<Updater, String> {
    let files = Overlay { proposed: proposed.clone(), live: Files::of(repository.dir()) };
    Updater::new(files, repository.pinned_root()).map_err(|error| chain(&error))
}

fn fetch_all(client: &mut Updater, now: Timestamp) -> Result<(), String> {
    let listed = client.trusted().targets_role("targets").map(|role| role.targets.keys().cloned());
    for path in listed.into_iter().flatten().collect::<Vec<_>>() {
        run(client.get_target(&path, now)).map_err(|why| format!("`{path}`: {why}"))?;
    }
    Ok(())
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
