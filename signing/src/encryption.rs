//! Encryption of blocks: what the linker stores can be opened by the recipients only.
//!
//! Each bundle has a content key of its own. A block is encrypted under it with ChaCha20-Poly1305 (RFC 8439); the nonce is
//! the block's place in the bundle, so no two blocks share one. The key itself is sealed to every recipient (see
//! [`crate::sealed`]). Both are bound to the [`BundleContext`], so a block or a key of one bundle is worth nothing in
//! another; and the header in turn names every block's ciphertext.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use semver::Version;
use zeroize::Zeroizing;

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::ids::{BundleId, Name, Period, SiteId};
use crate::recipients::{RECIPIENTS_MAX, Recipient};
use crate::sealed::{OpeningKey, SealedError, SealingKeyId, TAG_BYTES};

/// The cipher's name in the header.
const CIPHER: &str = "chacha20-poly1305";
/// The purpose of a sealed content key; the bundle's context follows.
const KEY_LABEL: &str = "lockgate content key 1";
/// The purpose of an encrypted block.
const BLOCK_LABEL: &str = "lockgate block 1";
/// Bytes of a content key that is sealed.
const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

/// What is known of a bundle before its blocks are: all that a content key and a block are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleContext {
    /// Who sends it.
    pub site: SiteId,
    /// Its place in the site's chain.
    pub sequence: u64,
    /// The bundle before it.
    pub previous: Option<BundleId>,
    /// The module that made it.
    pub module: Name,
    /// The module's version.
    pub version: Version,
    /// The month that it covers.
    pub period: Period,
}

impl BundleContext {
    /// Deterministic CBOR: `[site, sequence, previous, module, version, period]`.
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(6);
        writer.text(self.site.as_str());
        writer.unsigned(self.sequence);
        match self.previous {
            Some(previous) => writer.bytes(previous.0.as_bytes()),
            None => writer.null(),
        }
        writer.text(self.module.as_str());
        writer.text(&self.version.to_string());
        writer.text(&self.period.to_string());
        writer.into_bytes()
    }
}

/// Where a block stands in its bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockPlace {
    /// The list that it is in.
    pub list: BlockList,
    /// Its position in the list, from 0.
    pub position: u32,
}

/// The lists of blocks of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockList {
    /// The token table.
    Patients,
    /// The code dictionary.
    Codes,
    /// The tokens of the epoch before, row by row of the token table.
    Former,
    /// An output, by its position in the header.
    Output(u32),
}

impl BlockList {
    /// Its number on the wire. 2 and 4 to 15 are for lists to come.
    fn number(self) -> u32 {
        match self {
            Self::Patients => 0,
            Self::Codes => 1,
            Self::Former => 3,
            Self::Output(position) => position.saturating_add(16),
        }
    }
}

impl BlockPlace {
    /// List and position, big-endian: 12 bytes, another in every place.
    fn nonce(self) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[..4].copy_from_slice(&self.list.number().to_be_bytes());
        nonce[8..].copy_from_slice(&self.position.to_be_bytes());
        nonce
    }

    /// Deterministic CBOR: `[label, context, list, position]`.
    fn associated(self, context: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(4);
        writer.text(BLOCK_LABEL);
        writer.bytes(context);
        writer.unsigned(self.list.number().into());
        writer.unsigned(self.position.into());
        writer.into_bytes()
    }
}

/// The key of one bundle's blocks. Zeroised when dropped; cannot be printed.
pub struct ContentKey {
    key: Zeroizing<[u8; 32]>,
    context: Vec<u8>,
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey")
    }
}

impl ContentKey {
    /// A key from 32 bytes that the caller drew from the operating system's randomness for this bundle only.
    pub fn new(key: Zeroizing<[u8; 32]>, context: &BundleContext) -> Self {
        Self { key, context: context.encode() }
    }

    /// Encrypts a block in its place. No two blocks of a bundle may have the same place.
    pub fn encrypt(&self, place: BlockPlace, mut block: Vec<u8>) -> Result<Vec<u8>, EncryptionError> {
        let associated = place.associated(&self.context);
        block.reserve_exact(TAG_BYTES);
        self.cipher()
            .encrypt_in_place(&place.nonce(), &associated, &mut block)
            .map_err(|_| EncryptionError::TooLarge)?;
        Ok(block)
    }

    /// Decrypts the block of a place.
    pub fn decrypt(&self, place: BlockPlace, mut block: Vec<u8>) -> Result<Vec<u8>, EncryptionError> {
        let associated = place.associated(&self.context);
        self.cipher()
            .decrypt_in_place(&place.nonce(), &associated, &mut block)
            .map_err(|_| EncryptionError::Block(place))?;
        Ok(block)
    }

    /// Seals the key to a recipient. `ephemeral`: 32 bytes from the operating system's randomness, for this recipient and
    /// bundle only.
    pub fn wrap(
        &self,
        recipient: &Recipient,
        ephemeral: &Zeroizing<[u8; 32]>,
    ) -> Result<WrappedKey, EncryptionError> {
        let sealed =
            recipient.public_key.seal(&key_info(&self.context), &[], self.key.as_slice(), ephemeral)?;
        let wrapped = sealed.ciphertext.try_into().map_err(|_| EncryptionError::TooLarge)?;
        Ok(WrappedKey { key: recipient.key_id, encapsulated: sealed.encapsulated, wrapped })
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(*self.key))
    }
}

fn key_info(context: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(2);
    writer.text(KEY_LABEL);
    writer.bytes(context);
    writer.into_bytes()
}

/// Why a bundle is not encrypted or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// Larger than the cipher takes.
    #[error("a block is too large to be encrypted")]
    TooLarge,
    /// A recipient's key.
    #[error("the content key: {0}")]
    Key(#[from] SealedError),
    /// None of the recipients.
    #[error("the bundle is not encrypted to this key; it names {}", list(.0))]
    NotARecipient(Vec<SealingKeyId>),
    /// Changed, or of another place or bundle.
    #[error("a block does not decrypt in its place ({0:?}): it was changed, or it is another one")]
    Block(BlockPlace),
}

fn list(ids: &[SealingKeyId]) -> String {
    ids.iter().map(SealingKeyId::to_string).collect::<Vec<_>>().join(", ")
}

/// How the blocks of a bundle are encrypted, and for whom: field 20 of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The content key for each recipient, in the order of their ids.
    pub recipients: Vec<WrappedKey>,
}

/// The content key, sealed to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The recipient's key.
    pub key: SealingKeyId,
    /// The encapsulated key.
    pub encapsulated: [u8; 32],
    /// The content key's ciphertext.
    pub wrapped: [u8; WRAPPED_BYTES],
}

impl Encryption {
    /// Of these recipients; they are put in order.
    pub fn new(mut recipients: Vec<WrappedKey>) -> Self {
        recipients.sort_unstable_by_key(|recipient| recipient.key);
        Self { recipients }
    }

    /// Opens the content key with a recipient's key.
    pub fn content_key(
        &self,
        context: &BundleContext,
        key: &OpeningKey,
    ) -> Result<ContentKey, EncryptionError> {
        let id = key.public().id();
        let ids = || self.recipients.iter().map(|recipient| recipient.key).collect();
        let wrapped = self.recipients.iter().find(|recipient| recipient.key == id);
        let wrapped = wrapped.ok_or_else(|| EncryptionError::NotARecipient(ids()))?;
        let context = context.encode();
        let opened = key.open(&key_info(&context), &[], &wrapped.encapsulated, &wrapped.wrapped)?;
        let mut content = Zeroizing::new([0; 32]);
        // 48 bytes of ciphertext are 32 of key.
        content.copy_from_slice(&opened);
        Ok(ContentKey { key: content, context })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.map(2);
        w.unsigned(1);
        w.text(CIPHER);
        w.unsigned(2);
        w.array(self.recipients.len());
        for recipient in &self.recipients {
            w.array(3);
            w.bytes(recipient.key.0.as_bytes());
            w.bytes(&recipient.encapsulated);
            w.bytes(&recipient.wrapped);
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "encryption of a bundle header";
        r.record(2, PLACE)?;
        r.field(1, PLACE)?;
        if r.text(PLACE)? != CIPHER {
            return Err(CborError::value(PLACE, "an unknown cipher"));
        }
        r.field(2, PLACE)?;
        let count = r.array(PLACE)?;
        if count == 0 || count > RECIPIENTS_MAX {
            return Err(CborError::value(PLACE, format_args!("1 to {RECIPIENTS_MAX} recipients")));
        }
        let mut recipients: Vec<WrappedKey> = Vec::with_capacity(count);
        for _ in 0..count {
            if r.array(PLACE)? != 3 {
                return Err(CborError::value(PLACE, "not key id, encapsulated key and wrapped key"));
            }
            let key = SealingKeyId(Digest::from_bytes(r.fixed(PLACE)?));
            if recipients.last().is_some_and(|last| last.key >= key) {
                return Err(CborError::NotDeterministic("recipients are not in the order of their ids"));
            }
            recipients.push(WrappedKey { key, encapsulated: r.fixed(PLACE)?, wrapped: r.fixed(PLACE)? });
        }
        Ok(Self { recipients })
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use jiff::civil::date;

    use super::*;
    use crate::recipients::tests::recipient;

    /// The example of docs/FORMAT.md, which another implementation (Python's `cryptography`, HPKE written out from RFC 9180)
    /// computed from the same inputs.
    const CONTEXT: &str = "866641383130303101f66a67702d6d6f6e74686c7965312e302e3067323032362d3130";
    const RECIPIENT: &str = "77b54bd53e9da7c23a8beb0f4e87a033b8efaee3db3adf3620e62ee8fb746e2c";
    const ENCAPSULATED: &str = "22bb6024bca0c34dc89f26e9adbe8f8152ba85d8348c70585fa273f0c1a01c6f";
    const WRAPPED: &str =
        "f7f1fc4f90f15eaf964f60e47c2d2e3c8c09ff50463d95a564276afee8b8d44d73f6b1a53a0f989218c14ffdbf683faa";
    const NONCE: &str = "000000100000000000000000";
    const BLOCK: &str = "707d12b1d7b0e63e72222b543a0757179c13e11a3757657f37c2e5a1a1c9034067937787";

    fn context() -> BundleContext {
        BundleContext {
            site: "A81001".parse().unwrap(),
            sequence: 1,
            previous: None,
            module: "gp-monthly".parse().unwrap(),
            version: Version::new(1, 0, 0),
            period: "2026-10".parse().unwrap(),
        }
    }

    #[test]
    fn another_implementation_makes_the_same() {
        let place = BlockPlace { list: BlockList::Output(0), position: 0 };
        let key = ContentKey::new(Zeroizing::new([4; 32]), &context());
        let to = recipient("warehouse", 3, date(2026, 1, 1), date(2026, 12, 31));
        let wrapped = key.wrap(&to, &Zeroizing::new([6; 32])).unwrap();
        let block = key.encrypt(place, b"the frame of a block".to_vec()).unwrap();
        assert_eq!(HEXLOWER.encode(&context().encode()), CONTEXT);
        assert_eq!(wrapped.key.to_string(), RECIPIENT);
        assert_eq!(HEXLOWER.encode(&wrapped.encapsulated), ENCAPSULATED);
        assert_eq!(HEXLOWER.encode(&wrapped.wrapped), WRAPPED);
        assert_eq!(HEXLOWER.encode(&place.nonce()), NONCE);
        assert_eq!(HEXLOWER.encode(&block), BLOCK);
        let document = include_str!("../../docs/FORMAT.md");
        for value in [CONTEXT, RECIPIENT, ENCAPSULATED, WRAPPED, NONCE, BLOCK] {
            assert!(document.contains(value), "{value} is not in docs/FORMAT.md");
        }
    }

    #[test]
    fn a_block_of_every_place_has_a_nonce_of_its_own() {
        let lists = [
            BlockList::Patients,
            BlockList::Codes,
            BlockList::Former,
            BlockList::Output(0),
            BlockList::Output(255),
        ];
        let places =
            lists.into_iter().flat_map(|list| [0, 1, 8_191].map(|position| BlockPlace { list, position }));
        let nonces: std::collections::BTreeSet<_> = places.map(|place| place.nonce().to_vec()).collect();
        assert_eq!(nonces.len(), 15);
    }
}
