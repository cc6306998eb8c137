//! Collecting: what the linker has accepted is verified again, opened, and applied once; and what was deleted is said.
//!
//! 1. What is still to be said of earlier retractions is said. A crash may have come in between.
//! 2. Each bundle after the last one, and those that were set aside, whole: verified with the site's pinned key, opened, applied
//!    in one transaction that also notes how far the list was gone through.
//! 3. After deletions: the tables are written anew, the statements are signed and kept, and the linker is told.
//!
//! Whatever is killed, and when: what was not noted is done again, and what was done is recognised. Memory: one bundle.

use std::collections::HashMap;
use std::io;

use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::envelope::{Envelope, EnvelopeError, Verified, sign};
use lockgate_signing::ids::BundleId;
use lockgate_signing::opened::{OpenError, OpenedBundle, open_bundle};

use crate::failpoint;
use crate::keys::KeyPairs;
use crate::linker_client::{LinkerClient, LinkerError, ReceivedBundle};
use crate::rekey::TokenKey;
use crate::store::{Applied, Opened, Outcome, Store, StoreError};

/// Collecting ended early. What was applied is applied; the rest comes next time.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The linker.
    #[error(transparent)]
    Linker(#[from] LinkerError),
    /// The tables.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pair of keys that a statement has to be signed with.
    #[error(
        "the keys {0} are gone, and what was deleted must be signed with them; restore them from a backup"
    )]
    KeysGone(String),
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Collection {
    /// Bundles applied.
    pub bundles: u64,
    /// Rows that came with them.
    pub rows: u64,
    /// Rows that stayed out, because their patients are retracted.
    pub rows_kept_out: u64,
    /// Retractions among them.
    pub retractions: u64,
    /// Rows that they deleted.
    pub rows_deleted: u64,
    /// Rows of former tokens that were deleted when these were told: their patients had been retracted before.
    pub rows_deleted_late: u64,
    /// Patients whose former tokens were told, and were not known before.
    pub renewed: u64,
    /// Former tokens that were told otherwise before: the first word counts.
    pub contradicted: u64,
    /// Deletion statements that the linker took.
    pub statements: u64,
    /// Bundles that were set aside; `status` says why.
    pub waiting: u64,
}

/// Why a bundle is set aside. The texts name no content.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("signed with a key that is pinned for no site; see `site import`")]
    UnknownKey,
    #[error("signed with the key of another site")]
    OtherSite,
    #[error("not the bundle that was asked for")]
    OtherBundle,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("encrypted to none of the keys that are here")]
    NotARecipient,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{0}")]
    Carriage(String),
}

/// A bundle is not applied now: for its own sake, or because nothing works.
enum Stopped {
    Refused(Refusal),
    Failed(CollectError),
}

impl<E: Into<Refusal>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// What collecting needs.
#[derive(Debug)]
pub struct Collecting<'a> {
    /// The linker.
    pub linker: LinkerClient<'a>,
    /// Every pair of keys.
    pub keys: &'a KeyPairs,
    /// The key under which tokens are stored.
    pub token_key: &'a TokenKey,
    /// What the time is, seconds since 1970-01-01 UTC.
    pub clock: fn() -> i64,
}

impl Collecting<'_> {
    /// Collects everything that there is.
    pub fn collect(&self, store: &mut Store) -> Result<Collection, CollectError> {
        let mut done = Collection::default();
        self.say_what_was_deleted(store, &mut done)?;
        for (position, id) in store.to_retry()? {
            self.take(store, position, id, &mut done)?;
        }
        self.say_what_was_deleted(store, &mut done)?;
        loop {
            let listed = self.linker.accepted_after(store.position()?, (self.clock)())?;
            if listed.is_empty() {
                break;
            }
            for accepted in listed {
                // A list that does not go forward would be asked for without end.
                if accepted.position <= store.position()? {
                    return Err(LinkerError::Unreachable("its list is out of order".to_owned()).into());
                }
                self.take(store, accepted.position, accepted.bundle, &mut done)?;
            }
            // Once for many: it writes all tables anew.
            self.say_what_was_deleted(store, &mut done)?;
        }
        done.waiting = store.waiting()?.len() as u64;
        Ok(done)
    }

    /// Takes one bundle, or sets it aside.
    fn take(
        &self,
        store: &mut Store,
        position: u64,
        id: BundleId,
        done: &mut Collection,
    ) -> Result<(), CollectError> {
        let (header, content) = match self.fetch(store, id) {
            Ok(opened) => opened,
            Err(Stopped::Failed(error)) => return Err(error),
            Err(Stopped::Refused(why)) => {
                tracing::warn!(bundle = %id, "set aside: {why}");
                return Ok(store.set_aside(position, id, &why.to_string(), (self.clock)())?);
            }
        };
        failpoint::reach(failpoint::RECEIVED);
        let message = header.message();
        let recipients: Vec<_> = message.encryption.recipients.iter().map(|it| it.key).collect();
        let keys = self.keys.of(&recipients).into_iter().map(|pair| pair.name.to_string()).collect();
        let opened = Opened { header: &header, content: &content, keys };
        let Outcome { applied, renewals } = store.apply(position, &opened, self.token_key, (self.clock)())?;
        failpoint::reach(failpoint::COMMITTED);
        tracing::info!(
            bundle = %id, site = %message.site, sequence = message.sequence, renewed = renewals.patients,
            rows_deleted_late = renewals.rows_deleted, "{applied}",
        );
        if renewals.contradicted > 0 {
            tracing::warn!(
                bundle = %id, site = %message.site, contradicted = renewals.contradicted,
                "former tokens that were told otherwise before; the first word counts"
            );
        }
        done.renewed += renewals.patients;
        done.contradicted += renewals.contradicted;
        done.rows_deleted_late += renewals.rows_deleted;
        match applied {
            Applied::Rows { rows, retracted } => {
                (done.bundles, done.rows) = (done.bundles + 1, done.rows + rows);
                done.rows_kept_out += retracted;
            }
            Applied::Replaced => done.bundles += 1,
            Applied::Again => {}
            Applied::Deleted { rows, .. } => {
                (done.bundles, done.retractions) = (done.bundles + 1, done.retractions + 1);
                done.rows_deleted += rows;
            }
        }
        Ok(())
    }

    /// Fetches, verifies and opens a bundle.
    fn fetch(&self, store: &Store, id: BundleId) -> Result<(Verified<BundleHeader>, OpenedBundle), Stopped> {
        let failed = |error: LinkerError| match error {
            LinkerError::Carriage(error) => Stopped::Refused(Refusal::Carriage(error.to_string())),
            error => Stopped::Failed(error.into()),
        };
        let received = self.linker.bundle(id, (self.clock)()).map_err(failed)?;
        // 1. The site's key as the operator pinned it, whatever the linker says.
        let envelope = Envelope::<BundleHeader>::read(received.signed_header())?;
        let pinned = store.pinned(envelope.key()).map_err(|error| Stopped::Failed(error.into()))?;
        let pinned = pinned.ok_or(Refusal::UnknownKey)?;
        let header = envelope.verify(&pinned.key)?;
        if header.message().site != pinned.site {
            return Err(Refusal::OtherSite.into());
        }
        if header.id() != id {
            return Err(Refusal::OtherBundle.into());
        }
        // 2. Something to open it with, before its blocks come.
        let recipients: Vec<_> = header.message().encryption.recipients.iter().map(|it| it.key).collect();
        let pairs = self.keys.of(&recipients);
        let pair = pairs.first().ok_or(Refusal::NotARecipient)?;
        // 3. Every block, exactly the bytes that the header names.
        let mut blocks = receive(received, &header)?;
        let content = open_bundle(&header, &pair.opening, |named| {
            blocks.remove(named.digest.as_bytes()).ok_or_else(|| io::Error::other("it was named twice"))
        })?;
        Ok((header, content))
    }

    /// Says of every retraction that was applied that it was; not before what it deleted is gone from the disk.
    fn say_what_was_deleted(&self, store: &mut Store, done: &mut Collection) -> Result<(), CollectError> {
        let mut due = store.due_statements()?;
        if store.is_erase_due()? || due.iter().any(|due| due.signed.is_none()) {
            store.erase()?;
            failpoint::reach(failpoint::ERASED);
        }
        for due in &mut due {
            let signed = match due.signed.take() {
                Some(signed) => signed,
                None => {
                    let pair = self.keys.iter().find(|pair| pair.name.as_str() == due.key);
                    let pair = pair.ok_or_else(|| CollectError::KeysGone(due.key.clone()))?;
                    let signed = sign(&due.statement, &pair.signing);
                    store.keep_statement(due, &signed)?;
                    failpoint::reach(failpoint::STATED);
                    signed
                }
            };
            self.linker.state(signed)?;
            failpoint::reach(failpoint::SENT);
            store.statement_sent(due, (self.clock)())?;
            done.statements += 1;
        }
        Ok(())
    }
}

/// The blocks of a bundle by their digests.
fn receive(
    received: ReceivedBundle,
    header: &Verified<BundleHeader>,
) -> Result<HashMap<[u8; 32], Vec<u8>>, Stopped> {
    use lockgate_signing::carriage::CarriageError;
    let mut blocks = HashMap::new();
    let kept = received.blocks(
        header,
        |_| Ok(Vec::new()),
        |named, bytes| {
            blocks.insert(*named.digest.as_bytes(), bytes);
            Ok(())
        },
    );
    match kept {
        Ok(()) => Ok(blocks),
        // The connection ended; the same bundle may come whole next time.
        Err(CarriageError::Io(error)) => {
            Err(Stopped::Failed(LinkerError::Unreachable(error.to_string()).into()))
        }
        Err(error) => Err(Refusal::Carriage(error.to_string()).into()),
    }
}
