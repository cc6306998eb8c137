//! Encrypting a bundle's blocks as they are made, so that no plaintext of them reaches the disk.

use std::collections::BTreeMap;

use lockgate_signing::digest::Digest;
use lockgate_signing::encryption::{BlockPlace, BundleContext, ContentKey, Encryption, EncryptionError};
use lockgate_signing::recipients::Recipient;
use zeroize::Zeroizing;

/// A bundle cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum BlockCipherError {
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// The key, or a block.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
}

/// The content key of one bundle, and what was encrypted with it.
#[derive(Debug)]
pub(crate) struct BlockCipher {
    key: ContentKey,
    context: BundleContext,
    encryption: Encryption,
    plain: BTreeMap<BlockPlace, Digest>,
}

impl BlockCipher {
    /// Draws a content key for a bundle and seals it to each recipient.
    pub(crate) fn new(context: BundleContext, recipients: &[Recipient]) -> Result<Self, BlockCipherError> {
        let key = ContentKey::new(random()?, &context);
        let wrap = |recipient| Ok::<_, BlockCipherError>(key.wrap(recipient, &random()?)?);
        let wrapped = recipients.iter().map(wrap).collect::<Result<_, _>>()?;
        Ok(Self { key, context, encryption: Encryption::new(wrapped), plain: BTreeMap::new() })
    }

    /// Encrypts a block in its place.
    pub(crate) fn encrypt(&mut self, place: BlockPlace, block: Vec<u8>) -> Result<Vec<u8>, BlockCipherError> {
        self.plain.insert(place, Digest::of(&block));
        self.encrypt_beside(place, block)
    }

    /// Encrypts a block that does not count as content: what is told of a new epoch.
    pub(crate) fn encrypt_beside(
        &mut self,
        place: BlockPlace,
        block: Vec<u8>,
    ) -> Result<Vec<u8>, BlockCipherError> {
        Ok(self.key.encrypt(place, block)?)
    }

    /// The bundle that it is for.
    pub(crate) fn context(&self) -> &BundleContext {
        &self.context
    }

    /// What the header says of it.
    pub(crate) fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// The digests of the plain blocks that count, in the order of the header: two bundles with the same content have the same,
    /// which their ciphertexts do not show. What is told of a new epoch does not count: a month is not sent again because
    /// that was told, or because an overlap is over.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.plain.values().flat_map(|digest| *digest.as_bytes()).collect()
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, BlockCipherError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(BlockCipherError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use lockgate_signing::encryption::BlockList;
    use lockgate_signing::keys::SigningKey;
    use lockgate_signing::recipients::RecipientSigningKey;
    use lockgate_signing::sealed::OpeningKey;

    use super::*;

    fn context() -> BundleContext {
        BundleContext {
            site: "A81001".parse().unwrap(),
            sequence: 1,
            previous: None,
            module: "gp-monthly".parse().unwrap(),
            version: semver::Version::new(1, 0, 0),
            period: "2026-10".parse().unwrap(),
        }
    }

    fn recipient(name: &str, key: &OpeningKey) -> Recipient {
        Recipient {
            name: name.parse().unwrap(),
            public_key: key.public(),
            key_id: key.public().id(),
            signing_key: RecipientSigningKey(SigningKey::from_seed(&Zeroizing::new([1; 32])).public()),
            not_before: jiff::civil::date(2026, 1, 1),
            not_after: jiff::civil::date(2026, 12, 31),
        }
    }

    /// Invariant 7: the same content is recognised although each bundle has a key of its own; and every recipient reads it.
    #[test]
    fn the_same_content_has_one_digest_and_never_the_same_bytes() {
        let keys = [1, 2].map(|seed| OpeningKey::from_seed(&Zeroizing::new([seed; 32])));
        let recipients = [recipient("old", &keys[0]), recipient("new", &keys[1])];
        let place = |list| BlockPlace { list, position: 0 };
        let make = |former: Option<&[u8]>| {
            let mut cipher = BlockCipher::new(context(), &recipients).unwrap();
            // In the overlap of two epochs, and not after it.
            if let Some(former) = former {
                cipher.encrypt_beside(place(BlockList::Former), former.to_vec()).unwrap();
                let others = BlockPlace { list: BlockList::Patients, position: 1 };
                cipher.encrypt_beside(others, b"others".to_vec()).unwrap();
            }
            // Rows are made before the tables that they point into.
            let rows = cipher.encrypt(place(BlockList::Output(0)), b"rows".to_vec()).unwrap();
            let table = cipher.encrypt(place(BlockList::Patients), b"table".to_vec()).unwrap();
            (cipher, rows, table)
        };
        let ((one, one_rows, _), (other, other_rows, table)) = (make(Some(b"former")), make(None));
        assert_ne!(one_rows, other_rows);
        assert_eq!(one.content(), other.content());
        let digests = [Digest::of(b"table"), Digest::of(b"rows")];
        assert_eq!(one.content(), digests.map(|digest| *digest.as_bytes()).concat());
        for key in &keys {
            let content = other.encryption().content_key(&context(), key).unwrap();
            assert_eq!(content.decrypt(place(BlockList::Output(0)), other_rows.clone()).unwrap(), b"rows");
            // A block in another place, and a block of another bundle.
            assert!(content.decrypt(place(BlockList::Codes), table.clone()).is_err());
            assert!(content.decrypt(place(BlockList::Output(0)), one_rows.clone()).is_err());
        }
    }
}
