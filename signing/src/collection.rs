//! What a recipient asks of the linker: which bundles there are, and a bundle whole.
//!
//! Signed with the key that the recipient signs with, so that the linker hands ciphertext to nobody else; and with the time,
//! so that a request that somebody recorded is soon worth nothing.

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::envelope::Message;
use crate::ids::BundleId;

/// A recipient's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectionRequest {
    /// When, seconds since 1970-01-01 UTC.
    pub at_s: i64,
    /// What.
    pub wanted: Wanted,
}

/// What a recipient asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The bundles that were accepted after this position of the linker's list, which begins with 1.
    After(u64),
    /// This bundle: its header and its blocks, as in a carried file.
    Bundle(BundleId),
}

/// How far a request's time may be from the linker's.
pub const TIME_TOLERANCE_S: i64 = 300;

const PLACE: &str = "collection request";
const FORMAT: u64 = 1;

impl Message for CollectionRequest {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.collection-request+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(3, FORMAT);
        writer.unsigned(2);
        writer.integer(self.at_s);
        writer.unsigned(3);
        writer.array(2);
        match self.wanted {
            Wanted::After(position) => {
                writer.text("after");
                writer.unsigned(position);
            }
            Wanted::Bundle(id) => {
                writer.text("bundle");
                writer.bytes(id.0.as_bytes());
            }
        }
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        r.versioned_record(3, FORMAT, PLACE)?;
        r.field(2, PLACE)?;
        let at_s = r.integer(PLACE)?;
        r.field(3, PLACE)?;
        if r.array(PLACE)? != 2 {
            return Err(CborError::value(PLACE, "not a word and what it is about"));
        }
        let wanted = match r.text(PLACE)? {
            "after" => Wanted::After(r.unsigned(PLACE)?),
            "bundle" => Wanted::Bundle(BundleId(Digest::from_bytes(r.fixed(PLACE)?))),
            _ => return Err(CborError::value(PLACE, "asks for something unknown")),
        };
        reader.finish()?;
        Ok(Self { at_s, wanted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        for wanted in [Wanted::After(0), Wanted::After(u64::MAX), Wanted::Bundle(BundleId(Digest::of(b"b")))]
        {
            let request = CollectionRequest { at_s: 1_793_500_000, wanted };
            let bytes = request.encode();
            assert_eq!(CollectionRequest::decode(&bytes).unwrap(), request);
            for length in 0..bytes.len() {
                assert!(CollectionRequest::decode(&bytes[..length]).is_err(), "{length}");
            }
            assert!(CollectionRequest::decode(&[bytes, vec![0]].concat()).is_err());
        }
    }
}
