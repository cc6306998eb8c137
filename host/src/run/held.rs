//! What a run has made and not yet queued: nothing of it is queued before every module has read.

use std::collections::VecDeque;

use lockgate_signing::bundle::{BundleHeader, BundleKind};
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::{BundleId, Name};
use lockgate_signing::keys::SigningKey;

use super::{Now, RunError};
use crate::failpoint::failpoint;
use crate::identity::{IdentityError, Recorded, SealedFile, SentRecord, TokensError};
use crate::ledger::{Event, Ledger};
use crate::outbox::{Outbox, OutboxError, SealingFolder};
use crate::retract::retracted_event;

/// What the modules of one run have made, in the order of the chain. Nothing of it is queued until every module has read: a
/// row of the last may show that the objection evidence of all of them is not whole.
#[derive(Default)]
pub struct Held {
    items: VecDeque<HeldItem>,
}

enum HeldItem {
    Bundle(Box<HeldBundle>),
    /// The record of what a module has sent, if it changed: written when its retractions are queued, and before anything that
    /// it made is. Encrypted already, which takes far less memory.
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

    /// The last retraction of a module's, by its place in the chain, with what is held.
    pub(crate) fn retracted_at(&self, ledger: &Ledger, module: &Name) -> Option<u64> {
        let is_one = |held: &&HeldBundle| {
            held.header.kind == BundleKind::Retraction && held.header.module.id == *module
        };
        let held = self.bundles().rfind(is_one).map(|held| held.header.sequence);
        held.or_else(|| ledger.retracted_at(module))
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
        self.items.push_back(HeldItem::Bundle(Box::new(HeldBundle { id, header, signed, content, sealing })));
        id
    }

    /// Holds the record of what a module has sent.
    pub(super) fn hold_record(&mut self, of: Recorded, record: SentRecord) -> Result<(), RunError> {
        let sealed = record.sealed().map_err(TokensError::from).map_err(IdentityError::from)?;
        self.items.push_back(HeldItem::Record(of, sealed));
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
        while let Some(item) = self.items.front() {
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
            self.items.pop_front();
        }
        Ok(())
    }

    /// Whether a bundle is still held.
    pub fn has(&self, id: BundleId) -> bool {
        self.bundles().any(|held| held.id == id)
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
