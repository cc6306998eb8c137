//! The signed envelope: COSE_Sign1 (RFC 9052, section 4.2) with Ed25519, one check function for every role.
//!
//! The role (content type) and the key id are in the protected header, so a receipt can never pass for a header and a
//! signature names its key. What is verified is the received bytes; only then are they decoded.

use std::fmt;
use std::marker::PhantomData;

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::keys::{KeyId, PublicKey, SignatureError, SigningKey};

/// The largest envelope, bytes: a header of a few thousand blocks.
pub const ENVELOPE_BYTES_MAX: usize = 1 << 20;

/// COSE_Sign1 (RFC 9052, table 1).
const TAG_SIGN1: u64 = 18;
/// EdDSA (RFC 9053, table 2), written as the CBOR integer -8.
const ALGORITHM_EDDSA: i64 = -8;

/// What can be put in an envelope.
pub trait Message: Sized {
    /// The role: a media type, in the signed bytes.
    const CONTENT_TYPE: &'static str;

    /// The payload, as deterministic CBOR.
    fn encode(&self) -> Vec<u8>;

    /// Decodes the payload strictly.
    fn decode(payload: &[u8]) -> Result<Self, CborError>;
}

/// A message whose signature was verified. There is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    message: T,
    key: KeyId,
    digest: Digest,
}

impl<T> Verified<T> {
    /// The message.
    pub fn message(&self) -> &T {
        &self.message
    }

    /// The message, alone.
    pub fn into_message(self) -> T {
        self.message
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// SHA-256 of the whole envelope as it was received.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Why an envelope is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Too large to be one of ours.
    #[error("the envelope has {0} bytes, more than {ENVELOPE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not an envelope.
    #[error("not a signed envelope: {0}")]
    Encoding(#[source] CborError),
    /// An envelope of another role.
    #[error("the envelope is not of type {0}")]
    WrongRole(&'static str),
    /// Signed with another key than it names.
    #[error("the envelope names key {named}, not {given}")]
    WrongKey {
        /// The key id in the protected header.
        named: KeyId,
        /// The key it was checked with.
        given: KeyId,
    },
    /// The signature is wrong.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Signed, but not a message of this version.
    #[error("signed, but its content is wrong: {0}")]
    Content(#[source] CborError),
}

/// Signs a message.
pub fn sign<T: Message>(message: &T, key: &SigningKey) -> Vec<u8> {
    let protected = protected_header(T::CONTENT_TYPE, key.public().id());
    let payload = message.encode();
    let signature = key.sign(&signed_bytes(&protected, &payload));
    let mut writer = Writer::new();
    writer.tag(TAG_SIGN1);
    writer.array(4);
    writer.bytes(&protected);
    writer.map(0);
    writer.bytes(&payload);
    writer.bytes(&signature);
    writer.into_bytes()
}

/// An envelope whose structure was read and whose signature was not checked yet.
#[derive(Clone)]
pub struct Envelope<'a, T> {
    key: KeyId,
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
    digest: Digest,
    message: PhantomData<T>,
}

impl<T> fmt::Debug for Envelope<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({})", self.digest)
    }
}

impl<'a, T: Message> Envelope<'a, T> {
    /// Reads the structure of the received bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        // 1. A limit before any work.
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        // 2. Exactly one deterministic encoding: no second form of the same signed content, no bytes after it.
        let mut reader = Reader::new(bytes);
        let read = |reader: &mut Reader<'a>| {
            reader.tag(TAG_SIGN1, "COSE_Sign1")?;
            if reader.array("COSE_Sign1")? != 4 {
                return Err(CborError::value("COSE_Sign1", "not four parts"));
            }
            let protected = reader.bytes("protected header")?;
            // 3. Nothing outside of the signature: the unprotected header is empty.
            if reader.map("unprotected header")? != 0 {
                return Err(CborError::value("unprotected header", "is not empty"));
            }
            Ok((protected, reader.bytes("payload")?, reader.bytes("signature")?))
        };
        let (protected, payload, signature) = read(&mut reader).map_err(EnvelopeError::Encoding)?;
        reader.finish().map_err(EnvelopeError::Encoding)?;
        // 4. The protected header is the one header that we write for this role, but for the key id.
        let key = named_key(protected).map_err(EnvelopeError::Encoding)?;
        if protected != protected_header(T::CONTENT_TYPE, key) {
            return Err(EnvelopeError::WrongRole(T::CONTENT_TYPE));
        }
        let digest = Digest::of(bytes);
        Ok(Self { key, protected, payload, signature, digest, message: PhantomData })
    }

    /// The key that the envelope says it is signed with.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Verifies the signature over the received bytes, then decodes them.
    pub fn verify(&self, key: &PublicKey) -> Result<Verified<T>, EnvelopeError> {
        // 5. The key that was named is the key that is used: no key confusion.
        if key.id() != self.key {
            return Err(EnvelopeError::WrongKey { named: self.key, given: key.id() });
        }
        // 6. Strict verification (no malleability), over the bytes as they came.
        key.verify(&signed_bytes(self.protected, self.payload), self.signature)?;
        // 7. Only now is the content looked at.
        let message = T::decode(self.payload).map_err(EnvelopeError::Content)?;
        Ok(Verified { message, key: self.key, digest: self.digest })
    }

    /// The payload before verification. For one purpose: a message that carries the key it is signed with.
    pub(crate) fn payload_dangerous(&self) -> &'a [u8] {
        self.payload
    }
}

/// Reads and verifies in one step, where the key is known beforehand.
pub fn verify<T: Message>(bytes: &[u8], key: &PublicKey) -> Result<Verified<T>, EnvelopeError> {
    Envelope::read(bytes)?.verify(key)
}

/// `{1: -8, 3: content type, 4: key id}` (RFC 9052, section 3.1).
fn protected_header(content_type: &str, key: KeyId) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(3);
    writer.unsigned(1);
    writer.integer(ALGORITHM_EDDSA);
    writer.unsigned(3);
    writer.text(content_type);
    writer.unsigned(4);
    writer.bytes(key.0.as_bytes());
    writer.into_bytes()
}

fn named_key(protected: &[u8]) -> Result<KeyId, CborError> {
    const PLACE: &str = "protected header";
    let mut reader = Reader::new(protected);
    if reader.map(PLACE)? != 3 {
        return Err(CborError::value(PLACE, "not exactly algorithm, content type and key id"));
    }
    for key in [1, 3] {
        reader.field(key, PLACE)?;
        reader.skip()?;
    }
    reader.field(4, PLACE)?;
    let key = KeyId(Digest::from_bytes(reader.fixed(PLACE)?));
    reader.finish()?;
    Ok(key)
}

/// The Sig_structure (RFC 9052, section 4.4), without external data.
fn signed_bytes(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(4);
    writer.text("Signature1");
    writer.bytes(protected);
    writer.bytes(&[]);
    writer.bytes(payload);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use coset::{CborSerializable as _, TaggedCborSerializable as _};
    use zeroize::Zeroizing;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Note(u64);

    impl Message for Note {
        const CONTENT_TYPE: &'static str = "application/vnd.lockgate.note+cbor";

        fn encode(&self) -> Vec<u8> {
            let mut writer = Writer::new();
            writer.unsigned(self.0);
            writer.into_bytes()
        }

        fn decode(payload: &[u8]) -> Result<Self, CborError> {
            let mut reader = Reader::new(payload);
            let note = Self(reader.unsigned("note")?);
            reader.finish()?;
            Ok(note)
        }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let signed = sign(&Note(7), &key(1));
        assert_eq!(*verify::<Note>(&signed, &key(1).public()).unwrap().message(), Note(7));
        for position in 0..signed.len() {
            for bit in 0..8 {
                let mut changed = signed.clone();
                changed[position] ^= 1 << bit;
                assert!(verify::<Note>(&changed, &key(1).public()).is_err(), "byte {position}, bit {bit}");
            }
        }
        assert!(matches!(
            verify::<Note>(&[signed.as_slice(), &[0]].concat(), &key(1).public()),
            Err(EnvelopeError::Encoding(CborError::Leftover(1)))
        ));
        assert!(matches!(verify::<Note>(&signed, &key(2).public()), Err(EnvelopeError::WrongKey { .. })));
    }

    #[test]
    fn another_cose_library_agrees() {
        let signed = sign(&Note(7), &key(1));
        let theirs = coset::CoseSign1::from_tagged_slice(&signed).unwrap();
        theirs.verify_signature(b"", |signature, bytes| key(1).public().verify(bytes, signature)).unwrap();
        assert_eq!(
            theirs.protected.header.alg,
            Some(coset::Algorithm::Assigned(coset::iana::Algorithm::EdDSA))
        );
        assert_eq!(theirs.protected.header.key_id, key(1).public().id().0.as_bytes());
        assert_eq!(theirs.clone().to_tagged_vec().unwrap(), signed);
        assert!(theirs.to_vec().is_ok_and(|untagged| verify::<Note>(&untagged, &key(1).public()).is_err()));
    }
}
