//! The linker's signed answer to a bundle. Without one, nothing leaves an outbox.

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::envelope::Message;
use crate::ids::{BundleId, SiteId};

/// "This bundle, whole, is on stable storage here."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The bundle.
    pub bundle: BundleId,
    /// Who sent it.
    pub site: SiteId,
    /// The bundle's place in the site's chain.
    pub sequence: u64,
    /// When it was accepted, seconds since 1970-01-01 UTC.
    pub accepted_at_s: i64,
    /// Block bytes that were stored.
    pub bytes: u64,
}

const PLACE: &str = "receipt";
const FORMAT: u64 = 1;

impl Message for Receipt {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.receipt+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(6, FORMAT);
        writer.unsigned(2);
        writer.bytes(self.bundle.0.as_bytes());
        writer.unsigned(3);
        writer.text(self.site.as_str());
        writer.unsigned(4);
        writer.unsigned(self.sequence);
        writer.unsigned(5);
        writer.integer(self.accepted_at_s);
        writer.unsigned(6);
        writer.unsigned(self.bytes);
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        r.versioned_record(6, FORMAT, PLACE)?;
        r.field(2, PLACE)?;
        let bundle = BundleId(Digest::from_bytes(r.fixed(PLACE)?));
        r.field(3, PLACE)?;
        let site = r.text(PLACE)?.parse().map_err(|error| CborError::value(PLACE, error))?;
        r.field(4, PLACE)?;
        let sequence = r.unsigned(PLACE)?;
        r.field(5, PLACE)?;
        let accepted_at_s = r.integer(PLACE)?;
        r.field(6, PLACE)?;
        let bytes = r.unsigned(PLACE)?;
        reader.finish()?;
        Ok(Self { bundle, site, sequence, accepted_at_s, bytes })
    }
}
