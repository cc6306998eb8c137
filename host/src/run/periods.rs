//! What becomes of the months of a run: held until all modules have read and then queued to be sent, or shown.

use lockgate_signing::bundle::{BundleHeader, BundleKind};
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::{BundleId, Name};
use lockgate_signing::keys::SigningKey;

use super::{FinishedPeriod, MadeBundle, Now, PreviewedBundle, Run, RunError};
use crate::encryption::BlockCipher;
use crate::failpoint::failpoint;
use crate::identity::{IdentityError, Recorded, SealedFile, SentRecord, Tokens, TokensError};
use crate::ledger::{Event, Ledger};
use crate::outbox::{Outbox, OutboxError, SealingFolder};
use crate::plan::PlanStep;
use crate::retract::retracted_event;
use crate::seal::{BlockStore, Kept};

/// What becomes of the periods of a run.
pub(super) trait Periods {
    /// A period is about to be run: where its blocks go.
    fn begin(&mut self, run: &Run<'_>, step: PlanStep) -> Result<BlockStore, RunError>;

    /// A period was run.
    fn finished(&mut self, run: &Run<'_>, step: PlanStep, period: FinishedPeriod) -> Result<(), RunError>;
}

/// What the modules of one run have made, in the order of the chain. Nothing of it is queued until every module has read: a
/// row of the last may show that the objection evidence of all of them is not whole.
#[derive(Default)]
pub struct Held {
    items: Vec<HeldItem>,
}

enum HeldItem {
    Bundle(Box<HeldBundle>),
    /// The record of what a module has sent, if it changed: written when its retractions are queued, and before anything that
    /// it made is. Encrypted already, which takes less memory.
    Record(Recorded, Option<SealedFile>),
}

/// A bundle that is signed and not yet queued.
struct HeldBundle {
    id: BundleId,
    header: BundleHeader,
    signed: Vec<u8>,
    content: String,
    sealing: SealingFolder,
}

impl Held {
    /// The end of the chain, with what is held.
    pub(crate) fn head(&self, ledger: &Ledger) -> Option<(u64, BundleId)> {
        self.bundles().last().map(|last| (last.header.sequence, last.id)).or_else(|| ledger.head())
    }

    /// Signs a bundle and holds it.
    pub(crate) fn hold(
        &mut self,
        header: BundleHeader,
        content: String,
        sealing: SealingFolder,
        key: &SigningKey,
    ) -> BundleId {
        let signed = sign(&header, key);
        let id = BundleId(Digest::of(&signed));
        self.items.push(HeldItem::Bundle(Box::new(HeldBundle { id, header, signed, content, sealing })));
        id
    }

    /// Holds the record of what a module has sent.
    pub(super) fn hold_record(&mut self, of: Recorded, record: SentRecord) -> Result<(), RunError> {
        let sealed = record.sealed().map_err(TokensError::from).map_err(IdentityError::from)?;
        self.items.push(HeldItem::Record(of, sealed));
        Ok(())
    }

    /// Whether it is known who has to be retracted of this module.
    pub(crate) fn has_record_of(&self, of: &Recorded) -> bool {
        self.items.iter().any(|item| matches!(item, HeldItem::Record(held, _) if held == of))
    }

    /// Queues what is held, each bundle on stable storage and then in the ledger. Where one cannot be queued, it and what
    /// follows it in the chain is still held.
    pub fn queue(
        &mut self,
        outbox: &Outbox,
        ledger: &mut Ledger,
        key: &SigningKey,
        now: Now,
    ) -> Result<(), RunError> {
        while let Some(item) = self.items.first() {
            match item {
                HeldItem::Bundle(held) => {
                    let HeldBundle { header, signed, content, sealing, .. } = &**held;
                    let queued = outbox.queue(sealing, signed.clone(), content, &key.public())?;
                    ledger.append(now.at, queued_event(queued.id(), header, content.clone()))?;
                    match header.kind {
                        BundleKind::Extract => failpoint("run.in-ledger"),
                        BundleKind::Retraction => failpoint("retract.in-ledger"),
                    }
                }
                HeldItem::Record(_, sealed) => {
                    if let Some(sealed) = sealed {
                        sealed.write().map_err(TokensError::from).map_err(IdentityError::from)?;
                    }
                    failpoint("retract.record-written");
                }
            }
            self.items.remove(0);
        }
        Ok(())
    }

    /// The modules of what is held.
    pub fn modules(&self) -> impl Iterator<Item = &Name> {
        self.items.iter().map(|item| match item {
            HeldItem::Bundle(held) => &held.header.module.id,
            HeldItem::Record(of, _) => &of.module,
        })
    }

    /// Gives up what is held.
    pub fn discard(self) -> Result<(), OutboxError> {
        self.bundles().try_for_each(|held| Outbox::discard(&held.sealing))
    }

    fn bundles(&self) -> impl DoubleEndedIterator<Item = &HeldBundle> {
        self.items.iter().filter_map(|item| match item {
            HeldItem::Bundle(held) => Some(&**held),
            HeldItem::Record(..) => None,
        })
    }
}

/// The periods of one module, which are held when they are made.
pub(super) struct Holding<'a> {
    outbox: &'a Outbox,
    ledger: &'a Ledger,
    held: &'a mut Held,
    /// The bundle that is being made.
    unfinished: Option<SealingFolder>,
    pub(super) made: Vec<MadeBundle>,
}

impl<'a> Holding<'a> {
    /// A module that has made nothing yet.
    pub(super) fn new(outbox: &'a Outbox, ledger: &'a Ledger, held: &'a mut Held) -> Self {
        Self { outbox, ledger, held, unfinished: None, made: Vec::new() }
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
        if before.is_some_and(|before| before.content == content) && !blocks.tells_of_others {
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
            self.shown = Some(PreviewedBundle { header, blocks });
        }
        Ok(())
    }
}

/// A keyed digest of what a bundle says, its place in the chain and the time aside.
fn content_digest(key: &Tokens, cipher: &BlockCipher) -> String {
    Digest::from_bytes(key.private_digest(&cipher.content())).to_hex()
}

/// How the ledger tells of a bundle that is queued.
fn queued_event(id: BundleId, header: &BundleHeader, content: String) -> Event {
    match header.kind {
        BundleKind::Extract => sealed_event(id, header, content),
        BundleKind::Retraction => retracted_event(id, header),
    }
}

fn sealed_event(id: BundleId, header: &BundleHeader, content: String) -> Event {
    Event::Sealed {
        bundle: id.to_string(),
        sequence: header.sequence,
        module: header.module.id.clone(),
        version: header.module.version.clone(),
        period: header.period,
        epoch: header.tokens.epoch,
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
            ledger.append(now.at, queued_event(queued.id(), header, content))?;
        }
    }
    Ok(())
}
