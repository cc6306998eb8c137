//! A bundle as one file, for carriage without a network: a CBOR sequence (RFC 8742) of the signed header, and then of each
//! block as a byte string, in the order of [`BundleHeader::blocks`].
//!
//! Written and read as a stream: at most one header and a small buffer are in memory. Every block is checked against the
//! header while it passes, on the way out as on the way in, so a file that was written whole is one that can be read.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::bundle::{BlockRef, BundleHeader};
use crate::cbor::{CborError, Writer};
use crate::digest::Digest;
use crate::envelope::{ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, Verified};

/// The media type of such a file, and its customary ending.
pub const CONTENT_TYPE: &str = "application/vnd.lockgate.bundle+cbor-seq";
/// See [`CONTENT_TYPE`].
pub const FILE_SUFFIX: &str = ".lockgate";

const BUFFER_BYTES: usize = 64 << 10;

/// A carried bundle cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CarriageError {
    /// The file, or where it goes.
    #[error("the bundle's file cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The header is not an envelope.
    #[error(transparent)]
    Header(#[from] EnvelopeError),
    /// A block is not written as it should be.
    #[error("block {position}: {source}")]
    Encoding {
        /// Which, from 1.
        position: usize,
        /// What is wrong.
        source: CborError,
    },
    /// Other bytes than the header names.
    #[error("block {position} has other bytes than the header names")]
    BlockDigest {
        /// Which, from 1.
        position: usize,
    },
    /// More or fewer bytes than the header says.
    #[error("block {position} has another size than the header says")]
    BlockSize {
        /// Which, from 1.
        position: usize,
    },
    /// The file goes on after the last block.
    #[error("bytes are left over after the last block")]
    Leftover,
    /// The header that was verified is not the header of this file.
    #[error("the verified header is of another bundle")]
    OtherHeader,
}

/// Writes a bundle as one file.
///
/// `block` opens each block in turn. Whether the header's signature is good is not asked here: who reads the file will ask.
pub fn write<R: Read>(
    to: &mut impl Write,
    signed_header: &[u8],
    header: &BundleHeader,
    mut block: impl FnMut(&BlockRef) -> io::Result<R>,
) -> Result<(), CarriageError> {
    Envelope::<BundleHeader>::read(signed_header)?;
    to.write_all(signed_header)?;
    for (position, named) in (1..).zip(header.blocks()) {
        let mut head = Writer::new();
        head.bytes_head(named.bytes);
        to.write_all(&head.into_bytes())?;
        let mut source = block(named)?;
        copy_block(&mut source, to, named, position)?;
        if source.read(&mut [0])? != 0 {
            return Err(CarriageError::BlockSize { position });
        }
    }
    Ok(())
}

/// A carried bundle whose header was read, and nothing of it verified yet.
#[derive(Debug)]
pub struct Carriage<R> {
    source: R,
    signed_header: Vec<u8>,
}

impl<R: Read> Carriage<R> {
    /// Reads the header's bytes. Verify them, then take the blocks with [`Carriage::blocks`].
    pub fn open(mut source: R) -> Result<Self, CarriageError> {
        let signed_header = read_envelope(&mut source)?;
        // Strict structure; the signature is the caller's to check, who knows the keys.
        Envelope::<BundleHeader>::read(&signed_header)?;
        Ok(Self { source, signed_header })
    }

    /// The signed header, as it is in the file.
    pub fn signed_header(&self) -> &[u8] {
        &self.signed_header
    }

    /// Copies each block to where `sink` says, and requires the end of the file after the last.
    ///
    /// A block's bytes are verified when `sink`'s writer has all of them and `done` is called with it; until then they are
    /// anybody's.
    pub fn blocks<W: Write>(
        mut self,
        header: &Verified<BundleHeader>,
        mut sink: impl FnMut(&BlockRef) -> io::Result<W>,
        mut done: impl FnMut(&BlockRef, W) -> io::Result<()>,
    ) -> Result<(), CarriageError> {
        // 1. The blocks are those of the header that was verified, not of another that came with the file.
        if Digest::of(&self.signed_header) != header.digest() {
            return Err(CarriageError::OtherHeader);
        }
        for (position, named) in (1..).zip(header.message().blocks()) {
            // 2. The length first: nothing is copied of a block that has another.
            let length =
                read_head(&mut self.source, &mut Vec::new(), BYTES).map_err(|error| error.at(position))?;
            if length != named.bytes {
                return Err(CarriageError::BlockSize { position });
            }
            // 3. Then exactly these bytes.
            let mut target = sink(named)?;
            copy_block(&mut self.source, &mut target, named, position)?;
            done(named, target)?;
        }
        // 4. Nothing after the last block: no second content rides along.
        if self.source.read(&mut [0])? != 0 {
            return Err(CarriageError::Leftover);
        }
        Ok(())
    }
}

/// Copies exactly the bytes that are named; an error if they are others or fewer.
fn copy_block(
    from: &mut impl Read,
    to: &mut impl Write,
    named: &BlockRef,
    position: usize,
) -> Result<(), CarriageError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = named.bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let count = match from.read(&mut buffer[..want]) {
            Ok(0) => return Err(CarriageError::BlockSize { position }),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hash.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    if Digest::from_bytes(hash.finalize().into()) != named.digest {
        return Err(CarriageError::BlockDigest { position });
    }
    Ok(())
}

const BYTES: u8 = 2;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

enum HeadError {
    Io(io::Error),
    Cbor(CborError),
}

impl HeadError {
    fn at(self, position: usize) -> CarriageError {
        match self {
            Self::Io(error) => error.into(),
            Self::Cbor(source) => CarriageError::Encoding { position, source },
        }
    }
}

impl From<HeadError> for CarriageError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Io(error) => error.into(),
            HeadError::Cbor(error) => EnvelopeError::Encoding(error).into(),
        }
    }
}

/// Reads exactly one envelope from a stream, whose length is not known beforehand: tag, array, three byte strings and an
/// empty map, each within the limit.
fn read_envelope(source: &mut impl Read) -> Result<Vec<u8>, CarriageError> {
    let mut bytes = Vec::new();
    for major in [TAG, ARRAY, BYTES, MAP, BYTES, BYTES] {
        let length = read_head(source, &mut bytes, major)?;
        if major == BYTES {
            let left = (ENVELOPE_BYTES_MAX - bytes.len()) as u64;
            if length > left {
                return Err(EnvelopeError::TooLarge(ENVELOPE_BYTES_MAX + 1).into());
            }
            if source.take(length).read_to_end(&mut bytes)? as u64 != length {
                return Err(EnvelopeError::Encoding(CborError::Truncated).into());
            }
        }
    }
    Ok(bytes)
}

/// Reads the head of an item of one major type, in its shortest form, and appends its bytes; its argument.
fn read_head(source: &mut impl Read, bytes: &mut Vec<u8>, major: u8) -> Result<u64, HeadError> {
    let mut take = |buffer: &mut [u8]| {
        source.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => HeadError::Cbor(CborError::Truncated),
            _ => HeadError::Io(error),
        })
    };
    let mut first = [0];
    take(&mut first)?;
    bytes.extend(first);
    let info = first[0] & 0x1f;
    if first[0] >> 5 != major {
        let expected = "a signed header, then blocks as byte strings";
        return Err(HeadError::Cbor(CborError::Unexpected { expected, place: "carried bundle" }));
    }
    let width = match info {
        0..=23 => return Ok(info.into()),
        24..=27 => 1_usize << (info - 24),
        28..=30 => return Err(HeadError::Cbor(CborError::Malformed("reserved additional information"))),
        _ => return Err(HeadError::Cbor(CborError::NotDeterministic("indefinite length"))),
    };
    let mut argument = [0; 8];
    take(&mut argument[8 - width..])?;
    bytes.extend(&argument[8 - width..]);
    let value = u64::from_be_bytes(argument);
    let smallest = match width {
        1 => 24,
        2 => 1 << 8,
        4 => 1 << 16,
        _ => 1 << 32,
    };
    if value < smallest {
        let why = "an integer or length is not in its shortest form";
        return Err(HeadError::Cbor(CborError::NotDeterministic(why)));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cddl_tests::{block_bytes, sample_header, site_key};
    use crate::envelope::{sign, verify};

    fn carried() -> (Verified<BundleHeader>, Vec<u8>) {
        let header = sample_header();
        let signed = sign(&header, &site_key());
        let mut file = Vec::new();
        write(&mut file, &signed, &header, |named| Ok(io::Cursor::new(block_bytes(named)))).unwrap();
        (verify(&signed, &site_key().public()).unwrap(), file)
    }

    fn read(file: &[u8]) -> Result<Vec<Vec<u8>>, CarriageError> {
        let carriage = Carriage::open(file)?;
        let header = verify(carriage.signed_header(), &site_key().public())?;
        let mut blocks = Vec::new();
        carriage.blocks(
            &header,
            |_| Ok(Vec::new()),
            |_, block| {
                blocks.push(block);
                Ok(())
            },
        )?;
        Ok(blocks)
    }

    #[test]
    fn a_bundle_is_carried_whole() {
        let (header, file) = carried();
        let blocks: Vec<_> = header.message().blocks().map(block_bytes).collect();
        assert_eq!(read(&file).unwrap(), blocks);
    }

    #[test]
    fn every_changed_byte_every_cut_and_every_addition_is_refused() {
        let (_, file) = carried();
        for position in 0..file.len() {
            let mut changed = file.clone();
            changed[position] ^= 1;
            assert!(read(&changed).is_err(), "byte {position} changed");
            assert!(read(&file[..position]).is_err(), "cut at {position}");
        }
        assert!(matches!(read(&[file.as_slice(), &[0xf6]].concat()), Err(CarriageError::Leftover)));
    }

    #[test]
    fn a_length_in_a_longer_form_is_refused() {
        let (header, file) = carried();
        let start = sign(header.message(), &site_key()).len();
        // The first block is shorter than 256 bytes: 0x58 and one byte of length, here as 0x59 and two.
        assert_eq!(file[start], 0x58);
        let long = [&file[..start], &[0x59, 0], &file[start + 1..]].concat();
        let error = read(&long).unwrap_err();
        let source = CborError::NotDeterministic("an integer or length is not in its shortest form");
        assert!(matches!(error, CarriageError::Encoding { position: 1, source: found } if found == source));
    }

    #[test]
    fn a_huge_header_is_refused_before_it_is_read() {
        let huge = [&[0xd2, 0x84, 0x5b][..], &u64::MAX.to_be_bytes()].concat();
        assert!(matches!(read(&huge), Err(CarriageError::Header(EnvelopeError::TooLarge(_)))));
    }
}
