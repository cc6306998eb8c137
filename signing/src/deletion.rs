//! A recipient's signed answer to a retraction: what it asked for is deleted.

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::envelope::Message;
use crate::ids::{BundleId, Name, SiteId};
use crate::recipients::RECIPIENTS_MAX;

/// "The rows of this retraction's tokens are deleted here." Signed with the key that the list of recipients names.
///
/// It names one retraction, so it is worth nothing for another, and it counts nothing: a number would tell the linker how
/// many of the tokens were somebody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionStatement {
    /// The retraction.
    pub bundle: BundleId,
    /// Who asked for it.
    pub site: SiteId,
    /// Its place in the site's chain.
    pub sequence: u64,
    /// The module whose rows were deleted.
    pub module: Name,
    /// When, seconds since 1970-01-01 UTC.
    pub deleted_at_s: i64,
}

const PLACE: &str = "deletion statement";
const FORMAT: u64 = 1;

impl Message for DeletionStatement {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.deletion+cbor";

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
        writer.text(self.module.as_str());
        writer.unsigned(6);
        writer.integer(self.deleted_at_s);
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
        let module = r.text(PLACE)?.parse().map_err(|error| CborError::value(PLACE, error))?;
        r.field(6, PLACE)?;
        let deleted_at_s = r.integer(PLACE)?;
        reader.finish()?;
        Ok(Self { bundle, site, sequence, module, deleted_at_s })
    }
}

/// The media type of the statements on one retraction.
pub const STATEMENTS_CONTENT_TYPE: &str = "application/vnd.lockgate.deletions+cbor";

const STATEMENTS: &str = "deletion statements";

/// The signed statements of a retraction's recipients, as the linker hands them out: an array of byte strings.
pub fn encode_statements(statements: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(statements.len());
    statements.iter().for_each(|statement| writer.bytes(statement));
    writer.into_bytes()
}

/// The signed statements in what the linker hands out; none of them is verified.
pub fn decode_statements(bytes: &[u8]) -> Result<Vec<&[u8]>, CborError> {
    let mut reader = Reader::new(bytes);
    let count = reader.array(STATEMENTS)?;
    if count > RECIPIENTS_MAX {
        return Err(CborError::value(STATEMENTS, format_args!("more than {RECIPIENTS_MAX} statements")));
    }
    let statements = (0..count).map(|_| reader.bytes(STATEMENTS)).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_handed_out_together() {
        let statements = vec![vec![1, 2], vec![3]];
        let bytes = encode_statements(&statements);
        assert_eq!(decode_statements(&bytes).unwrap(), [&[1, 2][..], &[3]]);
        assert_eq!(decode_statements(&encode_statements(&[])).unwrap(), [&[] as &[u8]; 0]);
        assert!(decode_statements(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode_statements(&[bytes, vec![0]].concat()).is_err());
        assert!(decode_statements(&encode_statements(&vec![vec![1]; RECIPIENTS_MAX + 1])).is_err());
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        let statement = DeletionStatement {
            bundle: BundleId(Digest::of(b"bundle")),
            site: "A81001".parse().unwrap(),
            sequence: 7,
            module: "gp-monthly".parse().unwrap(),
            deleted_at_s: 1_793_500_000,
        };
        let bytes = statement.encode();
        assert_eq!(DeletionStatement::decode(&bytes).unwrap(), statement);
        for length in 0..bytes.len() {
            assert!(DeletionStatement::decode(&bytes[..length]).is_err(), "{length}");
        }
        assert!(DeletionStatement::decode(&[bytes, vec![0]].concat()).is_err());
    }
}
