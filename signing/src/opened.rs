//! A bundle as a recipient opens it: blocks back from what was sent, strictly.
//!
//! What is decoded was named by a verified header, decrypted in its own place, and says no more and no less than the header
//! does: a block of other rows, a patient outside of the token table or a code outside of the dictionary is refused.

use std::io;

use crate::block::{self, Column, FormerTable, PatientTable, Rows, Values};
use crate::bundle::{BlockRef, BundleHeader};
use crate::cbor::CborError;
use crate::digest::Digest;
use crate::encryption::{BlockList, BlockPlace, ContentKey, EncryptionError};
use crate::envelope::Verified;
use crate::sealed::OpeningKey;

/// A bundle cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A block that cannot be read.
    #[error("a block cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Other bytes than the header names.
    #[error("a block is not the one that the header names ({0:?})")]
    OtherBlock(BlockPlace),
    /// A place that the header does not have.
    #[error("the header names no block in that place ({0:?})")]
    NoBlock(BlockPlace),
    /// Not encrypted to this key, or changed.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// Decrypted, but not a block of this version.
    #[error("a block is wrong ({place:?}): {error}")]
    Content {
        /// Which.
        place: BlockPlace,
        /// Why.
        error: CborError,
    },
}

/// A bundle, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedBundle {
    /// The token table, block by block.
    pub patients: Vec<PatientTable>,
    /// The code dictionary: (system, text) of each code.
    pub codes: Vec<(String, String)>,
    /// What the tokens of the token table were in the epoch before, block by block of it; none outside of an overlap.
    pub former: Vec<FormerTable>,
    /// The rows of each output, in the order of the header, block by block.
    pub outputs: Vec<Vec<Rows>>,
}

/// Opens a whole bundle in memory. `block` fetches the bytes of a block; they are checked here.
pub fn open_bundle(
    header: &Verified<BundleHeader>,
    key: &OpeningKey,
    mut block: impl FnMut(&BlockRef) -> io::Result<Vec<u8>>,
) -> Result<OpenedBundle, OpenError> {
    let opener = BundleOpener::new(header, key)?;
    let message = header.message();
    let mut opened =
        OpenedBundle { patients: Vec::new(), codes: Vec::new(), former: Vec::new(), outputs: Vec::new() };
    for (position, named) in (0..).zip(&message.patients) {
        opened.patients.push(opener.patients(position, block(named)?)?);
    }
    for (position, named) in (0..).zip(&message.codes) {
        opened.codes.extend(opener.codes(position, block(named)?)?);
    }
    for (position, named) in (0..).zip(message.tokens.former.iter().flat_map(|former| &former.blocks)) {
        opened.former.push(opener.former(position, block(named)?)?);
    }
    for (number, output) in (0..).zip(&message.outputs) {
        let mut rows = Vec::new();
        for (position, named) in (0..).zip(&output.blocks) {
            rows.push(opener.rows(number, position, block(named)?)?);
        }
        opened.outputs.push(rows);
    }
    Ok(opened)
}

/// Opens a bundle block by block.
#[derive(Debug)]
pub struct BundleOpener<'a> {
    header: &'a BundleHeader,
    key: ContentKey,
    patients: u64,
    codes: u64,
}

impl<'a> BundleOpener<'a> {
    /// Opens the content key.
    pub fn new(header: &'a Verified<BundleHeader>, key: &OpeningKey) -> Result<Self, OpenError> {
        let header = header.message();
        let key = header.encryption.content_key(&header.context(), key)?;
        let rows = |blocks: &[BlockRef]| blocks.iter().map(|block| u64::from(block.rows)).sum();
        Ok(Self { header, key, patients: rows(&header.patients), codes: rows(&header.codes) })
    }

    /// A block of the token table.
    pub fn patients(&self, position: u32, bytes: Vec<u8>) -> Result<PatientTable, OpenError> {
        let place = BlockPlace { list: BlockList::Patients, position };
        let (named, plain) = self.plain(place, bytes)?;
        let table = block::decode_patients(&plain, self.header.tokens.links.len());
        let table = table.map_err(|error| OpenError::Content { place, error })?;
        same_rows(place, named, table.tokens.len())?;
        Ok(table)
    }

    /// A block of the code dictionary.
    pub fn codes(&self, position: u32, bytes: Vec<u8>) -> Result<Vec<(String, String)>, OpenError> {
        let place = BlockPlace { list: BlockList::Codes, position };
        let (named, plain) = self.plain(place, bytes)?;
        let codes = block::decode_codes(&plain).map_err(|error| OpenError::Content { place, error })?;
        same_rows(place, named, codes.len())?;
        Ok(codes)
    }

    /// A block of former tokens: of the same rows as the block of the token table in this position.
    pub fn former(&self, position: u32, bytes: Vec<u8>) -> Result<FormerTable, OpenError> {
        let place = BlockPlace { list: BlockList::Former, position };
        let (named, plain) = self.plain(place, bytes)?;
        let table = block::decode_former(&plain).map_err(|error| OpenError::Content { place, error })?;
        same_rows(place, named, table.tokens.len())?;
        Ok(table)
    }

    /// A block of an output.
    pub fn rows(&self, output: u32, position: u32, bytes: Vec<u8>) -> Result<Rows, OpenError> {
        let place = BlockPlace { list: BlockList::Output(output), position };
        let info = self.header.outputs.get(output as usize).ok_or(OpenError::NoBlock(place))?;
        let (named, plain) = self.plain(place, bytes)?;
        let content = |error| OpenError::Content { place, error };
        let rows = block::decode_rows(&plain, &info.columns).map_err(content)?;
        same_rows(place, named, rows.rows)?;
        rows.columns.iter().try_for_each(|column| self.check_references(column)).map_err(content)?;
        Ok(rows)
    }

    /// Patients are of the token table, and codes of the dictionary.
    fn check_references(&self, column: &Column) -> Result<(), CborError> {
        let (numbers, all, why) = match &column.values {
            Values::Patients(numbers) => (numbers, self.patients, "a patient outside of the token table"),
            Values::Codes(numbers) => (numbers, self.codes, "a code outside of the dictionary"),
            Values::Dates(_) | Values::Numbers(_) | Values::Categories(_) => return Ok(()),
        };
        let outside = |(row, number): (usize, &u32)| column.has(row) && u64::from(*number) >= all;
        if numbers.iter().enumerate().any(outside) { Err(CborError::value("block", why)) } else { Ok(()) }
    }

    /// Any block before it is decoded: its zstd frame.
    pub fn frame(&self, place: BlockPlace, bytes: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        self.plain(place, bytes).map(|(_, frame)| frame)
    }

    fn plain(&self, place: BlockPlace, bytes: Vec<u8>) -> Result<(&'a BlockRef, Vec<u8>), OpenError> {
        let named = self.header.block(place).ok_or(OpenError::NoBlock(place))?;
        if bytes.len() as u64 != named.bytes || Digest::of(&bytes) != named.digest {
            return Err(OpenError::OtherBlock(place));
        }
        Ok((named, self.key.decrypt(place, bytes)?))
    }
}

fn same_rows(place: BlockPlace, named: &BlockRef, rows: usize) -> Result<(), OpenError> {
    if u64::from(named.rows) == rows as u64 {
        return Ok(());
    }
    let error = CborError::value("block", "another number of rows than the header says");
    Err(OpenError::Content { place, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cddl_tests::{block_bytes, sample_header, site_key, warehouse_key};
    use crate::envelope::{sign, verify};
    use crate::ids::BundleId;

    fn signed(header: &BundleHeader) -> Verified<BundleHeader> {
        verify(&sign(header, &site_key()), &site_key().public()).unwrap()
    }

    fn open(header: &BundleHeader) -> Result<OpenedBundle, OpenError> {
        open_bundle(&signed(header), &warehouse_key(), |block| Ok(block_bytes(block)))
    }

    #[test]
    fn a_recipient_opens_the_whole_bundle() {
        let opened = open(&sample_header()).unwrap();
        assert_eq!(opened.patients[0].tokens, [[1; 16], [2; 16]]);
        assert_eq!(opened.codes[0], ("snomed".to_owned(), "44054006".to_owned()));
        assert_eq!(opened.outputs[0][0].rows, 2);
        assert_eq!(opened.former[0].tokens, [[8; 16], [0; 16]]);
        assert!(!opened.former[0].missing.contains(0) && opened.former[0].missing.contains(1));
    }

    /// The key is of this bundle only: a signer cannot put a sealed key, or blocks, under another header.
    #[test]
    fn nothing_of_it_opens_in_another_bundle() {
        let changes: [fn(&mut BundleHeader); 6] = [
            |header| header.sequence = 3,
            |header| header.previous = Some(BundleId(Digest::of(b"other"))),
            |header| header.site = "A81002".parse().unwrap(),
            |header| header.module.id = "other".parse().unwrap(),
            |header| header.module.version = semver::Version::new(1, 0, 1),
            |header| header.period = "2026-09".parse().unwrap(),
        ];
        for change in changes {
            let mut header = sample_header();
            change(&mut header);
            assert!(matches!(open(&header), Err(OpenError::Encryption(EncryptionError::Key(_)))));
        }
    }

    #[test]
    fn what_the_header_does_not_say_is_refused() {
        let mut header = sample_header();
        header.encryption.recipients.retain(|it| it.key != warehouse_key().public().id());
        assert!(matches!(open(&header), Err(OpenError::Encryption(EncryptionError::NotARecipient(_)))));

        // A block that was moved to another place of the same bundle.
        let mut header = sample_header();
        std::mem::swap(&mut header.patients, &mut header.codes);
        assert!(matches!(open(&header), Err(OpenError::Encryption(EncryptionError::Block(_)))));

        let changed = open_bundle(&signed(&sample_header()), &warehouse_key(), |block| {
            let mut bytes = block_bytes(block);
            bytes[0] ^= 1;
            Ok(bytes)
        });
        assert!(matches!(changed, Err(OpenError::OtherBlock(_))));

        for change in [
            (|header| header.outputs[0].blocks[0].rows = 3) as fn(&mut BundleHeader),
            // Rows that name a patient, and a code, that nobody sent.
            |header| {
                header.patients.clear();
                header.tokens.former = None;
            },
            |header| header.codes.clear(),
            |header| header.tokens.links.clear(),
        ] {
            let mut header = sample_header();
            change(&mut header);
            assert!(matches!(open(&header), Err(OpenError::Content { .. })), "{header:?}");
        }
    }
}
