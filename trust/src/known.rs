//! The last registry that verified, in one file: whole or not at all, so that a crash in the middle of a refresh leaves
//! a site that is offline with the refresh before it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use lockgate_durable::write_atomic;
use serde::{Deserialize, Serialize};
use sigstore_tuf::Repository;
use sigstore_tuf::transport::FetchFuture;

use super::error::TrustError;
use super::store::{TrustedStore, read_bounded};

/// The largest such file, bytes.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct LastKnown {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Saved {
    format: u32,
    refreshed: Timestamp,
    /// Metadata by name; the texts are exactly what was verified.
    metadata: BTreeMap<String, String>,
}

impl LastKnown {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Keeps what the store holds right after a refresh that succeeded.
    pub(super) fn save(&self, store: &TrustedStore, now: Timestamp) -> Result<(), TrustError> {
        let text = |(name, bytes)| Some((name, String::from_utf8(bytes).ok()?));
        let metadata = store.read_all()?.into_iter().filter_map(text).collect();
        let saved = Saved { format: 1, refreshed: now, metadata };
        let bytes = serde_json::to_vec(&saved).map_err(|error| broken(&error))?;
        Ok(write_atomic(&self.path, &bytes)?)
    }

    /// The saved metadata as a repository, and when it was current.
    pub(super) fn load(&self) -> Result<Option<(SavedMetadata, Timestamp)>, TrustError> {
        let Some(bytes) = read_bounded(&self.path, BYTES_MAX)? else { return Ok(None) };
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        if saved.format != 1 {
            return Err(TrustError::LastKnown { why: format!("format {} is not known", saved.format) });
        }
        Ok(Some((SavedMetadata(saved.metadata), saved.refreshed)))
    }
}

fn broken(error: &dyn std::error::Error) -> TrustError {
    TrustError::LastKnown { why: super::error::chain(error) }
}

/// Saved metadata, served to an updater that verifies it like a server's.
#[derive(Debug)]
pub(super) struct SavedMetadata(BTreeMap<String, String>);

impl SavedMetadata {
    fn find(&self, name: &str) -> Option<Vec<u8>> {
        // The chain of roots is kept under its versions; of the other roles there is only the last one.
        let kept = match name.split_once('.') {
            Some((version, rest))
                if rest != "root.json" && version.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                rest
            }
            _ => name,
        };
        self.0.get(kept).map(|text| text.clone().into_bytes())
    }
}

impl Repository for SavedMetadata {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(std::future::ready(Ok(self.find(name))))
    }

    fn fetch_target<'a>(&'a self, _path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
