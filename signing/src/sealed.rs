//! Short secrets sealed to a public key: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305. And the X25519 keys for it, as PKCS#8 and SPKI PEM (RFC 8410).
//!
//! The ephemeral key is made from bytes that the caller draws: this library has no randomness.

use std::convert::Infallible;
use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{
    Deserializable as _, HpkeError, Kem, OpModeR, OpModeS, Serializable as _, single_shot_open,
    single_shot_seal_with_rng,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::Digest;

/// Bytes by which a sealed secret is longer: the tag of ChaCha20-Poly1305.
pub const TAG_BYTES: usize = 16;

/// What names a sealing key: the SHA-256 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealingKeyId(pub Digest);

impl fmt::Display for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// A public key of small order: whoever made it, everybody could open what is sealed to it.
    #[error("not an X25519 public key that anything may be sealed to")]
    WeakKey,
    /// Sealed to another key, for another purpose, or changed.
    #[error("it was not sealed to this key for this purpose, or it was changed")]
    NotOpened,
}

/// A file or a text is not an X25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an X25519 {0} key")]
pub struct SealedKeyError(&'static str);

/// What is sealed: the ephemeral public key, and the secret's ciphertext with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The encapsulated key.
    pub encapsulated: [u8; 32],
    /// The ciphertext, [`TAG_BYTES`] longer than the secret.
    pub ciphertext: Vec<u8>,
}

/// A public X25519 key, to seal to. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealingKey([u8; 32]);

impl SealingKey {
    /// From its bytes. A key of small order is refused (RFC 9180, section 7.1.4).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, SealedError> {
        // Sealing anything shows it: the shared secret would be all zeros, whatever the ephemeral key.
        let key = Self(bytes);
        key.seal(b"", b"", b"", &Zeroizing::new([1; 32])).map(|_| key)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Its id.
    pub fn id(&self) -> SealingKeyId {
        SealingKeyId(Digest::of(&self.0))
    }

    /// Seals a secret for one purpose, which `info` and `associated` name. `ephemeral`: 32 bytes from the operating system's
    /// randomness, for this secret only.
    pub fn seal(
        &self,
        info: &[u8],
        associated: &[u8],
        secret: &[u8],
        ephemeral: &Zeroizing<[u8; 32]>,
    ) -> Result<Sealed, SealedError> {
        let key = Public::from_bytes(&self.0).map_err(|_| SealedError::WeakKey)?;
        let (mode, mut drawn) = (OpModeS::Base, Drawn(ephemeral));
        let (encapsulated, ciphertext) =
            single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &mode, &key, info, secret, associated, &mut drawn,
            )
            .map_err(|_: HpkeError| SealedError::WeakKey)?;
        Ok(Sealed { encapsulated: encapsulated.to_bytes().into(), ciphertext })
    }

    /// Reads SPKI PEM.
    pub fn from_pem(pem: &str) -> Result<Self, SealedKeyError> {
        let bytes = pem_bytes("PUBLIC KEY", &SPKI_PREFIX, pem).ok_or(SealedKeyError("public"))?;
        Self::from_bytes(*bytes).map_err(|_| SealedKeyError("public"))
    }

    /// Writes SPKI PEM.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &SPKI_PREFIX, &self.0).to_string()
    }
}

impl fmt::Display for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for SealingKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or("a public key is 64 lower-case hexadecimal digits")?;
        Self::from_bytes(bytes).map_err(|error| error.to_string())
    }
}

impl From<SealingKey> for String {
    fn from(key: SealingKey) -> Self {
        key.to_string()
    }
}

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A private X25519 key, to open with. Zeroised when dropped; cannot be printed.
pub struct OpeningKey(Private);

impl OpeningKey {
    /// A key from 32 bytes that the caller drew from the operating system's randomness.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(X25519HkdfSha256::derive_keypair(seed.as_slice()).0)
    }

    /// The public half.
    pub fn public(&self) -> SealingKey {
        SealingKey(X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().into())
    }

    /// Opens what was sealed to the public half, for the same purpose.
    pub fn open(
        &self,
        info: &[u8],
        associated: &[u8],
        encapsulated: &[u8; 32],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealedError> {
        let encapsulated = Encapsulated::from_bytes(encapsulated).map_err(|_| SealedError::NotOpened)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            info,
            ciphertext,
            associated,
        )
        .map(Zeroizing::new)
        .map_err(|_| SealedError::NotOpened)
    }

    /// Reads PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, SealedKeyError> {
        let bytes = pem_bytes("PRIVATE KEY", &PKCS8_PREFIX, pem).ok_or(SealedKeyError("private"))?;
        Private::from_bytes(bytes.as_slice()).map(Self).map_err(|_| SealedKeyError("private"))
    }

    /// Writes PKCS#8 PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.0.write_exact(bytes.as_mut_slice());
        pem("PRIVATE KEY", &PKCS8_PREFIX, &bytes)
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({})", self.public().id())
    }
}

/// The caller's bytes, as what the library draws its ephemeral key's seed from: it draws exactly 32 bytes, once.
struct Drawn<'a>(&'a Zeroizing<[u8; 32]>);

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        to.iter_mut().zip(self.0.iter().cycle()).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

/// RFC 8410, section 4: the SubjectPublicKeyInfo of an X25519 key is this prefix and the 32 bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];
/// RFC 8410, section 7: the same for PKCS#8, version 1.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20];

/// One PEM block (RFC 7468); its content fits one line.
fn pem(label: &str, prefix: &[u8], key: &[u8; 32]) -> Zeroizing<String> {
    let der = Zeroizing::new([prefix, key.as_slice()].concat());
    let text = Zeroizing::new(BASE64.encode(&der));
    Zeroizing::new(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", text.as_str()))
}

fn pem_bytes(label: &str, prefix: &[u8], pem: &str) -> Option<Zeroizing<[u8; 32]>> {
    let body = pem.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?.trim();
    let der = Zeroizing::new(BASE64.decode(body.as_bytes()).ok()?);
    let key: [u8; 32] = der.strip_prefix(prefix)?.try_into().ok()?;
    Some(Zeroizing::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    #[test]
    fn rfc_9180_appendix_a_2_1() {
        let recipient = OpeningKey::from_seed(&Zeroizing::new(hex(
            "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df",
        )));
        let public = hex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        assert_eq!(recipient.public().to_bytes(), public);
        let ephemeral =
            Zeroizing::new(hex("909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b"));
        let info = hex::<20>("4f6465206f6e2061204772656369616e2055726e");
        let secret = b"Beauty is truth, truth beauty";
        let sealed = recipient.public().seal(&info, b"Count-0", secret, &ephemeral).unwrap();
        assert_eq!(
            sealed.encapsulated,
            hex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a")
        );
        let ciphertext =
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28";
        assert_eq!(HEXLOWER.encode(&sealed.ciphertext), ciphertext);
        let open = |key: &OpeningKey, info: &[u8], associated: &[u8]| {
            key.open(info, associated, &sealed.encapsulated, &sealed.ciphertext)
        };
        assert_eq!(open(&recipient, &info, b"Count-0").unwrap().as_slice(), secret);
        assert_eq!(open(&recipient, b"other", b"Count-0"), Err(SealedError::NotOpened));
        assert_eq!(open(&recipient, &info, b"Count-1"), Err(SealedError::NotOpened));
        let other = OpeningKey::from_seed(&Zeroizing::new([9; 32]));
        assert_eq!(open(&other, &info, b"Count-0"), Err(SealedError::NotOpened));
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = OpeningKey::from_seed(&Zeroizing::new([3; 32]));
        let again = OpeningKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(SealingKey::from_pem(&key.public().to_pem()).unwrap(), key.public());
        assert_eq!(SealingKey::try_from(key.public().to_string()).unwrap(), key.public());
        // RFC 8410, section 10.3 is of Ed25519: a key for signatures is none to seal to.
        let signing = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----";
        assert!(SealingKey::from_pem(signing).is_err());
        assert!(OpeningKey::from_pem(&key.public().to_pem()).is_err());
        assert!(SealingKey::try_from("00".repeat(31)).is_err());
    }

    #[test]
    fn a_public_key_of_small_order_is_refused() {
        // RFC 7748, section 6.1; the points of order 1, 2 and 8.
        let mut one = [0; 32];
        one[0] = 1;
        let eight = hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        for weak in [[0; 32], one, eight] {
            assert_eq!(SealingKey::from_bytes(weak), Err(SealedError::WeakKey));
        }
    }
}
