//! Push: queued bundles go to the linker in the order of the chain, and leave the outbox against a verified receipt.
//!
//! Each is tried again with growing, jittered pauses until the time is up; what is left stays for the next time. The same
//! bytes are sent under the same id, so a repeat after a lost answer is answered with the same receipt.
//!
//! Then the recipients' statements on earlier retractions are asked for: what the centre says that it has deleted.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lockgate_durable::{FileError, write_atomic};
use lockgate_signing::deletion::{DeletionStatement, decode_statements};
use lockgate_signing::envelope::Envelope;
use lockgate_signing::ids::{BundleId, Name, SiteId};
use lockgate_signing::keys::{PublicKey, SigningKey};
use lockgate_signing::receipt::Receipt;
use lockgate_signing::recipients::Recipients;

use crate::failpoint::failpoint;
use crate::jitter::jittered;
use crate::ledger::{Event, Ledger, LedgerError};
use crate::linker_client::{HeaderAnswer, LinkerClient, LinkerError};
use crate::outbox::{Outbox, OutboxError, QueuedBundle, ReceivedReceipt};

/// A push ended early; what is not acknowledged is still in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The linker.
    #[error("{0}; bundles stay in the outbox{remedy}", remedy = remedy(.0))]
    Linker(#[from] LinkerError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody says that the centre has deleted, who may not say so.
    #[error(
        "the linker hands out a deletion statement for retraction {sequence} that is not one: {why}; it does not count, ask the linker's operator"
    )]
    Statement {
        /// The retraction's place in the chain.
        sequence: u64,
        /// What is wrong.
        why: String,
    },
}

fn remedy(error: &LinkerError) -> &'static str {
    match error {
        LinkerError::Unreachable(_) => " and are sent when it is back",
        LinkerError::Refused { .. } => ", ask the linker's operator",
        LinkerError::Url(_) | LinkerError::Receipt(_) => "",
    }
}

impl PushError {
    /// Whether the same may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Linker(error) if error.is_passing())
    }
}

/// One bundle that the linker has acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// The linker's receipt.
    pub receipt: Receipt,
}

/// Where to push, and for how long.
#[derive(Debug)]
pub struct Push<'a> {
    /// The linker.
    pub client: &'a LinkerClient,
    /// The linker's key, as pinned at enrolment.
    pub linker_key: &'a PublicKey,
    /// The site.
    pub site: &'a SiteId,
    /// The site's key.
    pub site_key: &'a SigningKey,
    /// How long to go on trying.
    pub give_up: Duration,
}

/// When a push stops trying.
#[derive(Clone, Copy)]
struct Deadline {
    started: Instant,
    give_up: Duration,
}

impl Deadline {
    fn left(self) -> Duration {
        self.give_up.saturating_sub(self.started.elapsed())
    }
}

/// The first pause; each one after it is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Push<'_> {
    /// Sends everything that is queued.
    pub fn all(
        &self,
        outbox: &Outbox,
        ledger: &mut Ledger,
        at: Timestamp,
        mut acknowledged: impl FnMut(Acknowledged),
    ) -> Result<(), PushError> {
        let started = Instant::now();
        for bundle in outbox.queued(&self.site_key.public())? {
            let (receipt, bytes) = match outbox.stored_receipt(&bundle, self.linker_key)? {
                Some(stored) => stored,
                None => self.with_retries(&bundle, Deadline { started, give_up: self.give_up })?,
            };
            // 1. The receipt is stored, 2. entered, and 3. only then is the bundle removed.
            outbox.store_receipt(&bundle, &receipt, &bytes)?;
            let id = bundle.id().to_string();
            let entered = ledger
                .entries()
                .iter()
                .any(|entry| matches!(&entry.event, Event::Acknowledged { bundle, .. } if *bundle == id));
            if !entered {
                let sequence = bundle.header().sequence;
                ledger.append(at, Event::Acknowledged { bundle: id, sequence, receipt: receipt.digest() })?;
            }
            failpoint("push.in-ledger");
            outbox.remove(bundle)?;
            acknowledged(Acknowledged { receipt: receipt.into_message() });
        }
        Ok(())
    }

    /// Asks for the statements on retractions that not every recipient has said to have followed; stores and enters those that
    /// verify. A linker that has none yet, or does not answer, is asked again at the next push.
    pub fn deletions(
        &self,
        ledger: &mut Ledger,
        folder: &Path,
        recipients: &Recipients,
        at: Timestamp,
    ) -> Result<(), PushError> {
        let open: Vec<_> = ledger.retractions_open();
        let open: Vec<(BundleId, u64, Name, Vec<String>)> = open
            .into_iter()
            .filter(|it| it.acknowledged)
            .map(|it| {
                let silent = it.silent.into_iter().map(str::to_owned).collect();
                (it.bundle, it.sequence, it.module.clone(), silent)
            })
            .collect();
        for (bundle, sequence, module, silent) in open {
            let bytes = match self.client.deletions(bundle) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::info!(%bundle, "no deletion statements: {error}");
                    continue;
                }
            };
            failpoint("push.deletion-received");
            let wrong = |why: &dyn std::fmt::Display| PushError::Statement { sequence, why: why.to_string() };
            for signed in decode_statements(&bytes).map_err(|error| wrong(&error))? {
                let envelope = Envelope::<DeletionStatement>::read(signed).map_err(|error| wrong(&error))?;
                // 1. Signed with the key that signed metadata names for a recipient; another's word counts for nothing.
                let Some(key) = recipients.signing_key(envelope.key()) else {
                    return Err(wrong(&"signed by nobody whom the list of recipients names"));
                };
                let statement = envelope.verify(key).map_err(|error| wrong(&error))?;
                // 2. Of this retraction, and of no other: an earlier statement is not to be had again for it.
                let message = statement.message();
                if message.bundle != bundle
                    || message.site != *self.site
                    || message.sequence != sequence
                    || message.module != module
                {
                    return Err(wrong(&"it is about another retraction"));
                }
                // 3. Stored, and then entered, for each key of that recipient to which the retraction was encrypted.
                let of_it = recipients.recipients.iter().filter(|it| it.signing_key.0 == *key);
                for recipient in of_it.filter(|it| silent.contains(&it.key_id.to_string())) {
                    let file = format!("{sequence:010}-{bundle}-{}.cbor", recipient.name);
                    write_atomic(&folder.join(file), signed)?;
                    failpoint("push.deletion-stored");
                    let deleted = Event::Deleted {
                        bundle: bundle.to_string(),
                        sequence,
                        module: module.clone(),
                        recipient: recipient.name.clone(),
                        key: recipient.key_id.to_string(),
                        statement: statement.digest(),
                    };
                    ledger.append(at, deleted)?;
                    failpoint("push.deletion-in-ledger");
                }
            }
        }
        Ok(())
    }

    fn with_retries(&self, bundle: &QueuedBundle, deadline: Deadline) -> Result<ReceivedReceipt, PushError> {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.once(bundle, deadline) {
                Err(PushError::Linker(error)) if error.is_passing() && pause < deadline.left() => {
                    tracing::info!(bundle = %bundle.id(), "trying again: {error}");
                    std::thread::sleep(jittered(pause));
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                result => return result,
            }
        }
    }

    fn once(&self, bundle: &QueuedBundle, deadline: Deadline) -> Result<ReceivedReceipt, PushError> {
        failpoint("push.before-header");
        let missing = match self.client.post_header(
            bundle.header_bytes().to_vec(),
            self.linker_key,
            deadline.left(),
        )? {
            HeaderAnswer::Receipt(receipt, bytes) => return Ok((*receipt, bytes)),
            HeaderAnswer::Missing(missing) => missing,
        };
        failpoint("push.header-sent");
        // Only blocks that the header names; an answer that asks for others is not of our linker.
        for block in bundle.header().blocks().filter(|block| missing.contains(&block.digest)) {
            self.client.put_block(block.digest, bundle.block(block)?, deadline.left())?;
            failpoint("push.block-sent");
        }
        match self.client.post_header(bundle.header_bytes().to_vec(), self.linker_key, deadline.left())? {
            HeaderAnswer::Receipt(receipt, bytes) => {
                failpoint("push.receipt-received");
                Ok((*receipt, bytes))
            }
            HeaderAnswer::Missing(_) => {
                Err(LinkerError::Unreachable("it still lacks blocks that it took".to_owned()).into())
            }
        }
    }
}
