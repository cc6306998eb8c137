//! Retraction: whoever was sent and may not be seen any more is deleted at the centre.
//!
//! A bundle of the kind `retraction` in the site's chain: tokens, encrypted to the recipients like any block, and nothing
//! else. It is held before anything that the module makes of the same snapshot, and queued whatever becomes of that. Moving away is
//! no retraction: who is gone from the snapshot is not withheld in it, unless the evidence says that they object.

use std::collections::BTreeSet;

use lockgate_signing::block::{Bitmap, Encoder, PatientTable, ROWS_MAX, Token};
use lockgate_signing::bundle::{
    BlockRef, BundleHeader, BundleKind, Counts, ModuleRef, TokenInfo, TokenScheme,
};
use lockgate_signing::digest::Digest;
use lockgate_signing::encryption::{BlockList, BlockPlace, BundleContext};
use lockgate_signing::ids::{BundleId, Name, Period, SiteId};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::recipients::Recipient;

use crate::encryption::{BlockCipher, BlockCipherError};
use crate::failpoint::failpoint;
use crate::identity::Retracted;
use crate::ledger::{Event, Ledger};
use crate::outbox::Outbox;
use crate::run::{Held, Now, RunError};
use crate::seal::SealError;

/// The fewest tokens of a retraction. Their number is made a power of two with tokens that are nobody's, so that it tells the
/// linker little.
const TOKENS_MIN: usize = 16;

/// What every retraction of a run says.
#[derive(Debug)]
pub(crate) struct Retracting<'a> {
    pub(crate) site: &'a SiteId,
    pub(crate) key: &'a SigningKey,
    pub(crate) module: &'a ModuleRef,
    pub(crate) purpose: &'a Name,
    pub(crate) policy: Digest,
    pub(crate) sensitive: Digest,
    pub(crate) mapping: Digest,
    pub(crate) recipients: &'a [Recipient],
    pub(crate) now: Now,
}

impl Retracting<'_> {
    /// Holds a retraction for each scheme and epoch.
    pub(crate) fn hold(
        &self,
        retracted: &Retracted,
        outbox: &Outbox,
        ledger: &Ledger,
        held: &mut Held,
    ) -> Result<(), RunError> {
        for (number, ((scheme, epoch), tokens)) in (1..).zip(retracted) {
            let tokens = padded(tokens).map_err(SealError::from)?;
            let mut sealing = outbox.begin(&format!("{}-retraction-{number}", self.module.id))?;
            let (sequence, previous) = match held.head(ledger) {
                Some((sequence, id)) => (sequence + 1, Some(id)),
                None => (1, None),
            };
            let context = BundleContext {
                site: self.site.clone(),
                sequence,
                previous,
                module: self.module.id.clone(),
                version: self.module.version.clone(),
                period: Period::of(self.now.today),
            };
            let mut cipher = BlockCipher::new(context, self.recipients).map_err(SealError::from)?;
            let mut encoder = Encoder::new().map_err(SealError::from)?;
            let mut patients = Vec::new();
            for (position, tokens) in (0..).zip(tokens.chunks(ROWS_MAX as usize)) {
                let type_2 = Bitmap::none(tokens.len());
                let table = PatientTable { tokens: tokens.to_vec(), type_2, links: Vec::new() };
                let block = encoder.patients(&table).map_err(SealError::from)?;
                let place = BlockPlace { list: BlockList::Patients, position };
                let sent = cipher.encrypt(place, block).map_err(SealError::from)?;
                let (bytes, rows) = (sent.len() as u64, tokens.len() as u32);
                let named = BlockRef { digest: Digest::of(&sent), bytes, rows };
                sealing.put(&named, &sent).map_err(SealError::from)?;
                patients.push(named);
            }
            failpoint("retract.sealed");
            let header = self.header(&cipher, *scheme, *epoch, patients);
            // What it says is nowhere compared with what was said before.
            held.hold(header, Digest::of(b"").to_hex(), sealing, self.key);
        }
        Ok(())
    }

    fn header(
        &self,
        cipher: &BlockCipher,
        scheme: TokenScheme,
        epoch: u32,
        patients: Vec<BlockRef>,
    ) -> BundleHeader {
        let context = cipher.context();
        BundleHeader {
            site: context.site.clone(),
            sequence: context.sequence,
            previous: context.previous,
            module: self.module.clone(),
            policy: self.policy,
            sensitive: self.sensitive,
            mapping: self.mapping,
            rollout: None,
            purpose: self.purpose.clone(),
            tokens: TokenInfo { scheme, epoch, links: Vec::new(), former: None },
            period: context.period,
            snapshot_at_s: self.now.at.as_second(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            fuel: 0,
            counts: Counts::default(),
            outputs: Vec::new(),
            patients,
            codes: Vec::new(),
            encryption: cipher.encryption().clone(),
            supersedes: None,
            directions: Vec::new(),
            kind: BundleKind::Retraction,
        }
    }
}

/// The tokens, and as many that are nobody's as make their number a power of two; in their order, so that neither tells the other.
fn padded(tokens: &BTreeSet<Token>) -> Result<Vec<Token>, BlockCipherError> {
    let mut padded = tokens.clone();
    let count = tokens.len().max(TOKENS_MIN).next_power_of_two();
    while padded.len() < count {
        let mut token = Token::default();
        getrandom::fill(&mut token).map_err(BlockCipherError::Randomness)?;
        padded.insert(token);
    }
    Ok(padded.into_iter().collect())
}

/// How the ledger tells of a retraction.
pub(crate) fn retracted_event(id: BundleId, header: &BundleHeader) -> Event {
    Event::Retracted {
        bundle: id.to_string(),
        sequence: header.sequence,
        module: header.module.id.clone(),
        recipients: header.encryption.recipients.iter().map(|it| it.key.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_tokens_tells_its_power_of_two_and_nothing_else() {
        for (tokens, sent) in [(1, 16), (16, 16), (17, 32), (33, 64), (300, 512)] {
            let tokens: BTreeSet<Token> = (0..tokens).map(|number: u128| number.to_be_bytes()).collect();
            let padded = padded(&tokens).unwrap();
            assert_eq!(padded.len(), sent);
            assert!(padded.is_sorted() && tokens.iter().all(|token| padded.contains(token)));
        }
    }
}
