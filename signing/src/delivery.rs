//! How the key of the `sealed-key` scheme gets to a site that cannot reach the keyholder, as two files.
//!
//! The site makes an X25519 key of its own, and asks with a [`TokenKeyRequest`], signed with the site's key. The keyholder
//! seals the token key of one domain and epoch to it: a [`TokenKeyDelivery`], signed with the key that the domain's published
//! [`crate::token_keys::TokenKeys`] name. Who has either file has no key.

use std::fmt;

use zeroize::Zeroizing;

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::envelope::Message;
use crate::ids::{Name, SiteId};
use crate::sealed::{OpeningKey, SealedError, SealingKey, SealingKeyId, TAG_BYTES};

/// The purpose of a sealed token key.
const LABEL: &str = "lockgate token key 1";
/// Bytes of a token key that is sealed.
const SEALED_BYTES: usize = 32 + TAG_BYTES;
const FORMAT: u64 = 1;

/// A token key: the HMAC-SHA-256 key of the `sealed-key` scheme for one domain and epoch.
pub type TokenKeyBytes = Zeroizing<[u8; 32]>;

/// "Seal this site's token keys to this key." Signed by the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeyRequest {
    /// Who asks.
    pub site: SiteId,
    /// The key that opens what is sealed; its private half stays at the site.
    pub opening_key: SealingKey,
    /// When, seconds since 1970-01-01 UTC.
    pub at_s: i64,
}

const REQUEST: &str = "token key request";

impl Message for TokenKeyRequest {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.token-key-request+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(4, FORMAT);
        writer.unsigned(2);
        writer.text(self.site.as_str());
        writer.unsigned(3);
        writer.bytes(&self.opening_key.to_bytes());
        writer.unsigned(4);
        writer.integer(self.at_s);
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        r.versioned_record(4, FORMAT, REQUEST)?;
        r.field(2, REQUEST)?;
        let site = r.text(REQUEST)?.parse().map_err(|error| CborError::value(REQUEST, error))?;
        r.field(3, REQUEST)?;
        let opening_key = SealingKey::from_bytes(r.fixed(REQUEST)?);
        let opening_key = opening_key.map_err(|error| CborError::value(REQUEST, error))?;
        r.field(4, REQUEST)?;
        let at_s = r.integer(REQUEST)?;
        reader.finish()?;
        Ok(Self { site, opening_key, at_s })
    }
}

/// The token key of a domain and epoch, for one site. Signed by the keyholder.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKeyDelivery {
    /// The site that it is for.
    pub site: SiteId,
    /// What its tokens are for: the purpose of a manifest.
    pub domain: Name,
    /// The key's epoch.
    pub epoch: u32,
    /// When it was sealed, seconds since 1970-01-01 UTC.
    pub at_s: i64,
    /// The site's key that opens it.
    pub opening_key: SealingKeyId,
    encapsulated: [u8; 32],
    sealed: [u8; SEALED_BYTES],
}

impl fmt::Debug for TokenKeyDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeyDelivery({}, {} epoch {})", self.site, self.domain, self.epoch)
    }
}

const DELIVERY: &str = "token key";

impl TokenKeyDelivery {
    /// Seals a token key to the key of a request. `ephemeral`: 32 bytes from the operating system's randomness, for this
    /// delivery only.
    pub fn seal(
        request: &TokenKeyRequest,
        (domain, epoch): (&Name, u32),
        key: &TokenKeyBytes,
        at_s: i64,
        ephemeral: &Zeroizing<[u8; 32]>,
    ) -> Result<Self, SealedError> {
        let info = info(&request.site, domain, epoch);
        let sealed = request.opening_key.seal(&info, &[], key.as_slice(), ephemeral)?;
        Ok(Self {
            site: request.site.clone(),
            domain: domain.clone(),
            epoch,
            at_s,
            opening_key: request.opening_key.id(),
            encapsulated: sealed.encapsulated,
            sealed: sealed.ciphertext.try_into().map_err(|_| SealedError::NotOpened)?,
        })
    }

    /// Opens the token key with the site's key. Site, domain and epoch are bound to it.
    pub fn open(&self, key: &OpeningKey) -> Result<TokenKeyBytes, SealedError> {
        let info = info(&self.site, &self.domain, self.epoch);
        let opened = key.open(&info, &[], &self.encapsulated, &self.sealed)?;
        let mut token_key = TokenKeyBytes::default();
        // 48 bytes of ciphertext are 32 of key.
        token_key.copy_from_slice(&opened);
        Ok(token_key)
    }
}

/// Deterministic CBOR: `[label, site, domain, epoch]`.
fn info(site: &SiteId, domain: &Name, epoch: u32) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(4);
    writer.text(LABEL);
    writer.text(site.as_str());
    writer.text(domain.as_str());
    writer.unsigned(epoch.into());
    writer.into_bytes()
}

impl Message for TokenKeyDelivery {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.token-key+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.versioned_record(8, FORMAT);
        writer.unsigned(2);
        writer.text(self.site.as_str());
        writer.unsigned(3);
        writer.text(self.domain.as_str());
        writer.unsigned(4);
        writer.unsigned(self.epoch.into());
        writer.unsigned(5);
        writer.integer(self.at_s);
        writer.unsigned(6);
        writer.bytes(self.opening_key.0.as_bytes());
        writer.unsigned(7);
        writer.bytes(&self.encapsulated);
        writer.unsigned(8);
        writer.bytes(&self.sealed);
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        r.versioned_record(8, FORMAT, DELIVERY)?;
        r.field(2, DELIVERY)?;
        let site = r.text(DELIVERY)?.parse().map_err(|error| CborError::value(DELIVERY, error))?;
        r.field(3, DELIVERY)?;
        let domain = r.text(DELIVERY)?.parse().map_err(|error| CborError::value(DELIVERY, error))?;
        r.field(4, DELIVERY)?;
        let epoch = r.narrow(DELIVERY)?;
        r.field(5, DELIVERY)?;
        let at_s = r.integer(DELIVERY)?;
        r.field(6, DELIVERY)?;
        let opening_key = SealingKeyId(Digest::from_bytes(r.fixed(DELIVERY)?));
        r.field(7, DELIVERY)?;
        let encapsulated = r.fixed(DELIVERY)?;
        r.field(8, DELIVERY)?;
        let sealed = r.fixed(DELIVERY)?;
        reader.finish()?;
        Ok(Self { site, domain, epoch, at_s, opening_key, encapsulated, sealed })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    pub(crate) fn opening_key() -> OpeningKey {
        OpeningKey::from_seed(&Zeroizing::new([5; 32]))
    }

    pub(crate) fn request() -> TokenKeyRequest {
        let site = "A81001".parse().unwrap();
        TokenKeyRequest { site, opening_key: opening_key().public(), at_s: 1_793_500_000 }
    }

    pub(crate) fn delivery() -> TokenKeyDelivery {
        let of = (&"care-planning".parse().unwrap(), 1);
        let (key, ephemeral) = (Zeroizing::new([7; 32]), Zeroizing::new([6; 32]));
        TokenKeyDelivery::seal(&request(), of, &key, 1_793_500_000, &ephemeral).unwrap()
    }

    #[test]
    fn a_key_opens_for_its_site_domain_and_epoch_and_for_nothing_else() {
        let delivery = delivery();
        assert_eq!(*delivery.open(&opening_key()).unwrap(), [7; 32]);
        assert_eq!(TokenKeyDelivery::decode(&delivery.encode()).unwrap(), delivery);
        assert_eq!(TokenKeyRequest::decode(&request().encode()).unwrap(), request());
        let moved = [
            TokenKeyDelivery { site: "A81002".parse().unwrap(), ..delivery.clone() },
            TokenKeyDelivery { domain: "other".parse().unwrap(), ..delivery.clone() },
            TokenKeyDelivery { epoch: 2, ..delivery.clone() },
        ];
        for moved in moved {
            assert_eq!(moved.open(&opening_key()), Err(SealedError::NotOpened), "{moved:?}");
        }
        let other = OpeningKey::from_seed(&Zeroizing::new([8; 32]));
        assert_eq!(delivery.open(&other), Err(SealedError::NotOpened));
        let shown = format!("{delivery:?}");
        assert_eq!(shown, "TokenKeyDelivery(A81001, care-planning epoch 1)");
    }

    #[test]
    fn the_example_of_the_document_is_one() {
        let document = include_str!("../../docs/FORMAT.md");
        let delivery = delivery();
        for bytes in [
            info(&delivery.site, &delivery.domain, delivery.epoch).as_slice(),
            delivery.opening_key.0.as_bytes(),
            &delivery.encapsulated,
            &delivery.sealed,
        ] {
            let hex = HEXLOWER.encode(bytes);
            assert!(document.contains(&hex), "{hex} is not in docs/FORMAT.md");
        }
    }
}
