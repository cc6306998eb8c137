//! What becomes of the months of a run: held until all modules have read (see `held.rs`), or shown.

use lockgate_signing::digest::Digest;

use super::{FinishedPeriod, Held, MadeBundle, PreviewedBundle, Run, RunError};
use crate::encryption::BlockCipher;
use crate::identity::Tokens;
use crate::ledger::Ledger;
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

/// The periods of one module, which are held when they are made.
pub(super) struct Holding<'a> {
    outbox: &'a Outbox,
    ledger: &'a Ledger,
    held: &'a mut Held,
    /// The bundle that is being made.
    unfinished: Option<SealingFolder>,
    made: &'a mut Vec<MadeBundle>,
}

impl<'a> Holding<'a> {
    /// A module that has made nothing yet.
    pub(super) fn new(
        outbox: &'a Outbox,
        ledger: &'a Ledger,
        held: &'a mut Held,
        made: &'a mut Vec<MadeBundle>,
    ) -> Self {
        Self { outbox, ledger, held, unfinished: None, made }
    }

    /// Gives up the bundle that was being made, where there is one.
    pub(super) fn discard_unfinished(&mut self) -> Result<(), OutboxError> {
        self.unfinished.take().map_or(Ok(()), |sealing| Outbox::discard(&sealing))
    }
}

impl Periods for Holding<'_> {
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError> {
        let sealing = self.outbox.begin(&format!("{}-{}", run.manifest.id, step.period))?;
        self.unfinished = Some(sealing.clone());
        Ok(BlockStore::in_folder(run.cipher(step.period, self.held.head(self.ledger))?, sealing))
    }

    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError> {
        let header = run.header(step.period, &period, self.ledger);
        let FinishedPeriod { store: BlockStore { cipher, kept }, blocks, .. } = period;
        let Kept::Folder(sealing) = kept else { return Ok(()) };
        self.unfinished = None;
        let content = content_digest(run.site.tokens, &cipher);
        let before = self.ledger.latest(&run.manifest.id, step.period);
        // Of a month that was sent before a retraction, the centre may have less than was sent.
        let is_whole = |sent: u64| self.held.retracted_at(self.ledger, &run.manifest.id) < Some(sent);
        let same = before.is_some_and(|before| before.content == content && is_whole(before.sequence));
        if same && !blocks.tells_of_others {
            Outbox::discard(&sealing)?;
            self.made.push(MadeBundle { id: None, header });
            return Ok(());
        }
        // sign
        let id = self.held.hold(header.clone(), content, sealing, run.site.key);
        self.made.push(MadeBundle { id: Some(id), header });
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
            let directions = run.signed.directions.iter().map(|it| it.value().id.clone()).collect();
            self.shown = Some(PreviewedBundle { header, blocks, directions });
        }
        Ok(())
    }
}

/// A keyed digest of what a bundle says, its place in the chain and the time aside.
fn content_digest(key: &Tokens, cipher: &BlockCipher) -> String {
    Digest::from_bytes(key.private_digest(&cipher.content())).to_hex()
}
