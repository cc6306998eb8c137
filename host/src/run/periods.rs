//! What becomes of the months of a run: queued to be sent, or shown.

use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::SigningKey;

use super::{FinishedPeriod, MadeBundle, Now, PreviewedBundle, Run, RunError};
use crate::encryption::BlockCipher;
use crate::failpoint::failpoint;
use crate::identity::Tokens;
use crate::ledger::{Event, Ledger};
use crate::outbox::{Outbox, OutboxError, SealingFolder};
use crate::plan::PlanStep;
use crate::seal::{BlockStore, Kept};

/// What becomes of the periods of a run.
pub(super) trait Periods {
    /// A period is about to be run: where its blocks go.
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError>;

    /// A period was run.
    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError>;
}

/// Periods that are queued to be sent, once all of them were read: a row of the last may show that the objection evidence is
/// not whole.
pub(super) struct Queueing<'a> {
    outbox: &'a Outbox,
    ledger: &'a mut Ledger,
    /// The end of the chain, with what is held.
    head: Option<(u64, BundleId)>,
    /// The bundle that is being made.
    unfinished: Option<SealingFolder>,
    held: Vec<HeldBundle>,
    made: Vec<MadeBundle>,
}

/// A bundle that is signed and not yet queued.
struct HeldBundle {
    header: BundleHeader,
    signed: Vec<u8>,
    content: String,
    sealing: SealingFolder,
}

impl<'a> Queueing<'a> {
    /// Nothing is held yet.
    pub(super) fn new(outbox: &'a Outbox, ledger: &'a mut Ledger) -> Self {
        let head = ledger.head();
        Self { outbox, ledger, head, unfinished: None, held: Vec::new(), made: Vec::new() }
    }

    /// Gives up the bundle that was being made, where there is one.
    pub(super) fn discard_unfinished(&mut self) -> Result<(), OutboxError> {
        self.unfinished.take().map_or(Ok(()), |sealing| Outbox::discard(&sealing))
    }

    /// Queues what is held, each bundle on stable storage and then in the ledger; gives what was made.
    pub(super) fn queue(self, key: &SigningKey, now: Now) -> Result<Vec<MadeBundle>, RunError> {
        for HeldBundle { header, signed, content, sealing } in self.held {
            let queued = self.outbox.queue(&sealing, signed, &content, &key.public())?;
            self.ledger.append(now.at, sealed_event(queued.id(), &header, content))?;
            failpoint("run.in-ledger");
        }
        Ok(self.made)
    }
}

impl Periods for Queueing<'_> {
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError> {
        let sealing = self.outbox.begin(step.period)?;
        self.unfinished = Some(sealing.clone());
        Ok(BlockStore::in_folder(run.cipher(step.period, self.head)?, sealing))
    }

    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError> {
        let header = run.header(step.period, &period, self.ledger);
        let FinishedPeriod { store: BlockStore { cipher, kept }, .. } = period;
        let Kept::Folder(sealing) = kept else { return Ok(()) };
        self.unfinished = None;
        let content = content_digest(run.site.tokens, &cipher);
        let before = self.ledger.latest(&run.manifest.id, step.period);
        if before.is_some_and(|before| before.content == content) {
            Outbox::discard(&sealing)?;
            self.made.push(MadeBundle { id: None, header });
            return Ok(());
        }
        // sign
        let signed = sign(&header, run.site.key);
        let id = BundleId(Digest::of(&signed));
        self.head = Some((header.sequence, id));
        self.made.push(MadeBundle { id: Some(id), header: header.clone() });
        self.held.push(HeldBundle { header, signed, content, sealing });
        Ok(())
    }
}

/// A period that is shown.
pub(super) struct Showing<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) shown: Option<PreviewedBundle>,
}

impl Periods for Showing<'_> {
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError> {
        Ok(BlockStore::in_memory(run.cipher(step.period, self.ledger.head())?))
    }

    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError> {
        let header = run.header(step.period, &period, self.ledger);
        if let Kept::Memory { blocks, .. } = period.store.kept {
            self.shown = Some(PreviewedBundle { header, blocks });
        }
        Ok(())
    }
}

/// A keyed digest of what a bundle says, its place in the chain and the time aside.
fn content_digest(key: &Tokens, cipher: &BlockCipher) -> String {
    Digest::from_bytes(key.private_digest(&cipher.content())).to_hex()
}

fn sealed_event(id: BundleId, header: &BundleHeader, content: String) -> Event {
    Event::Sealed {
        bundle: id.to_string(),
        sequence: header.sequence,
        module: header.module.id.clone(),
        version: header.module.version.clone(),
        period: header.period,
        rows: header.rows(),
        bytes: header.bytes(),
        dissents: header.counts.evidence.dissents(),
        directions: header.directions.clone(),
        content,
    }
}

/// Enters bundles that a crash kept out of the ledger: they were queued, so they will be sent.
pub fn recover(outbox: &Outbox, ledger: &mut Ledger, key: &SigningKey, now: Now) -> Result<(), RunError> {
    for queued in outbox.queued(&key.public())? {
        let header = queued.header();
        if ledger.head().is_none_or(|(sequence, _)| header.sequence > sequence) {
            let content = queued.content()?;
            ledger.append(now.at, sealed_event(queued.id(), header, content))?;
        }
    }
    Ok(())
}
