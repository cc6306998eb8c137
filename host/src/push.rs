//! Push: queued bundles go to the linker in the order of the chain, and leave the outbox against a verified receipt.
//!
//! Each is tried again with growing, jittered pauses until the time is up; what is left stays for the next time. The same
//! bytes are sent under the same id, so a repeat after a lost answer is answered with the same receipt.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lockgate_signing::keys::{PublicKey, SigningKey};
use lockgate_signing::receipt::Receipt;

use crate::failpoint::failpoint;
use crate::jitter::jittered;
use crate::ledger::{Event, Ledger, LedgerError};
use crate::linker_client::{HeaderAnswer, LinkerClient, LinkerError};
use crate::outbox::{Outbox, OutboxError, QueuedBundle, ReceivedReceipt};

/// A push ended early; what is not acknowledged is still in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The linker.
    #[error(transparent)]
    Linker(#[from] LinkerError),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
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
