//! The keys at rest: one file, sealed with a passphrase (Argon2id, RFC 9106; ChaCha20-Poly1305, RFC 8439).
//!
//! One seed a domain and epoch, so that tokens of two purposes, or of one purpose before and after a rotation, have nothing in
//! common. Two keys are derived from it: the one that evaluates blindly (RFC 9497, section 3.2.1) and stays here, and the one
//! of the scheme `sealed-key`, which is sealed to sites that cannot reach the keyholder. Neither tells anything of the other.
//! Beside the seeds is the key that signs what is sealed to sites.
//!
//! Whoever has the file and not the passphrase has nothing; whoever has neither cannot make a token.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hmac::{Hmac, KeyInit as _, Mac as _};
use lockgate_durable::{FileError, read_private, replace_private, write_private};
use lockgate_oprf::{OprfError, PublicKey, SecretKey};
use lockgate_signing::cbor::{CborError, Reader, Writer};
use lockgate_signing::delivery::TokenKeyBytes;
use lockgate_signing::ids::Name;
use lockgate_signing::keys::SigningKey;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The fewest bytes of a passphrase.
pub const PASSPHRASE_BYTES_MIN: usize = 16;

/// RFC 9106, section 4, second recommendation: 64 MiB, three passes; one lane, for a machine of any size.
const COST: Cost = Cost { memory_kib: 65_536, passes: 3, lanes: 1 };
const FORMAT: u64 = 2;
const LABEL: &[u8] = b"lockgate keyholder keys v2";

/// The key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Too easy to guess.
    #[error(
        "the passphrase has fewer than {PASSPHRASE_BYTES_MIN} bytes; take a longer one, for example six random words"
    )]
    Weak,
    /// Not a key file.
    #[error("{} is not a key file of this program: {why}; restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: CborError,
    },
    /// Another passphrase, or a changed file.
    #[error("{} cannot be opened: the passphrase is another one, or the file was changed", .0.display())]
    Passphrase(PathBuf),
    /// There is such a key.
    #[error("there is a key for {0} epoch {1} already; a new epoch has a number of its own")]
    Exists(Name, u32),
    /// There is no such key.
    #[error("there is no key for {0} epoch {1}; see `lockgate-keyholder keys`")]
    NoSuchKey(Name, u32),
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// The key derivation.
    #[error("the key derivation fails: {0}")]
    Derivation(argon2::Error),
    /// The curve.
    #[error("a key cannot be derived: {0}")]
    Oprf(#[from] OprfError),
}

/// A passphrase. Zeroised when dropped; cannot be printed.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Reads the first line of a file (mode 0600), a systemd credential, or a pipe (`/dev/fd/3`).
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let bytes = read_private(path)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() < PASSPHRASE_BYTES_MIN {
            return Err(KeysError::Weak);
        }
        Ok(Self(Zeroizing::new(line.to_vec())))
    }
}

/// The keys, open in memory. Zeroised when dropped; cannot be printed.
pub struct KeyRing {
    /// What signs sealed keys is made from this.
    signing: Zeroizing<[u8; 32]>,
    /// The seed of each domain and epoch; none where it was retired, so that its number is not used again.
    seeds: Seeds,
}

type Seeds = BTreeMap<(Name, u32), Option<Zeroizing<[u8; 32]>>>;

impl KeyRing {
    /// Makes a new, empty file.
    pub fn create(path: &Path, passphrase: &Passphrase) -> Result<(), KeysError> {
        let ring = Self { signing: random()?, seeds: BTreeMap::new() };
        Ok(write_private(path, &ring.seal(passphrase)?)?)
    }

    /// Opens the file.
    pub fn open(path: &Path, passphrase: &Passphrase) -> Result<Self, KeysError> {
        let sealed = read_private(path)?;
        let damaged = |why| KeysError::Damaged { path: path.to_owned(), why };
        let sealed = Sealed::decode(&sealed).map_err(damaged)?;
        let mut plain = Zeroizing::new(sealed.ciphertext.clone());
        let cipher = sealed.cost.cipher(passphrase, &sealed.salt)?;
        let context = sealed.context();
        cipher
            .decrypt_in_place(&Nonce::from(sealed.nonce), &context, &mut *plain)
            .map_err(|_| KeysError::Passphrase(path.to_owned()))?;
        Self::decode(&plain).map_err(damaged)
    }

    /// Writes the file anew, whole or not at all, under a new salt.
    pub fn save(&self, path: &Path, passphrase: &Passphrase) -> Result<(), KeysError> {
        Ok(replace_private(path, &self.seal(passphrase)?)?)
    }

    /// Adds a key made from the operating system's randomness.
    pub fn add(&mut self, domain: &Name, epoch: u32) -> Result<PublicKey, KeysError> {
        let slot = (domain.clone(), epoch);
        if self.seeds.contains_key(&slot) {
            return Err(KeysError::Exists(domain.clone(), epoch));
        }
        let seed = random()?;
        let public = derive(&seed, domain, epoch)?.public();
        self.seeds.insert(slot, Some(seed));
        Ok(public)
    }

    /// Destroys a key: nobody can make or repeat a token of this epoch any more.
    pub fn retire(&mut self, domain: &Name, epoch: u32) -> Result<(), KeysError> {
        let seed = self.seeds.get_mut(&(domain.clone(), epoch)).and_then(Option::take);
        seed.map(drop).ok_or_else(|| KeysError::NoSuchKey(domain.clone(), epoch))
    }

    /// The epoch after the latest of a domain, retired ones included.
    pub fn next_epoch(&self, domain: &Name) -> u32 {
        self.seeds.keys().filter(|(of, _)| of == domain).map(|(_, epoch)| epoch + 1).max().unwrap_or(1)
    }

    /// The keys as they are used.
    pub fn secret_keys(&self) -> Result<BTreeMap<(Name, u32), SecretKey>, KeysError> {
        self.seeds
            .iter()
            .filter_map(|(slot, seed)| Some((slot, seed.as_ref()?)))
            .map(|((domain, epoch), seed)| Ok(((domain.clone(), *epoch), derive(seed, domain, *epoch)?)))
            .collect()
    }

    /// What signs sealed keys. Its public half is published with the epochs.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_seed(&self.signing)
    }

    /// The key of the scheme `sealed-key` for a domain and epoch.
    pub fn sealed_key(&self, domain: &Name, epoch: u32) -> Result<TokenKeyBytes, KeysError> {
        let seed = self.seeds.get(&(domain.clone(), epoch)).and_then(Option::as_ref);
        let seed = seed.ok_or_else(|| KeysError::NoSuchKey(domain.clone(), epoch))?;
        // HMAC takes a key of any length, so there is no error to hand on.
        #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(seed.as_slice()).expect("a seed of 32 bytes");
        mac.update(&info(b"lockgate sealed token key v1", domain, epoch));
        Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    fn seal(&self, passphrase: &Passphrase) -> Result<Vec<u8>, KeysError> {
        let (mut salt, mut nonce) = ([0; 16], [0; 12]);
        getrandom::fill(&mut salt).map_err(KeysError::Randomness)?;
        getrandom::fill(&mut nonce).map_err(KeysError::Randomness)?;
        let mut sealed = Sealed { cost: COST, salt, nonce, ciphertext: Vec::new() };
        let mut bytes = self.encode();
        // An error can only be a text that is too long for the cipher (256 GiB).
        let encrypted = COST.cipher(passphrase, &salt)?.encrypt_in_place(
            &Nonce::from(nonce),
            &sealed.context(),
            &mut *bytes,
        );
        encrypted.map_err(|_| KeysError::Weak)?;
        sealed.ciphertext = bytes.to_vec();
        Ok(sealed.encode())
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(KeysError::Randomness)?;
    Ok(bytes)
}

/// `label 0 domain 0 epoch`: what a seed is used for.
fn info(label: &[u8], domain: &Name, epoch: u32) -> Vec<u8> {
    [label, &[0], domain.as_str().as_bytes(), &[0], &epoch.to_be_bytes()].concat()
}

fn derive(seed: &Zeroizing<[u8; 32]>, domain: &Name, epoch: u32) -> Result<SecretKey, OprfError> {
    SecretKey::derive(seed, &info(b"lockgate token key v1", domain, epoch))
}

/// The price of one guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// The most that a file may ask of this machine.
    const MEMORY_KIB_MAX: u32 = 1 << 20;
    const PASSES_MAX: u32 = 16;

    fn cipher(self, passphrase: &Passphrase, salt: &[u8]) -> Result<ChaCha20Poly1305, KeysError> {
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(KeysError::Derivation)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&passphrase.0, salt, key.as_mut_slice())
            .map_err(KeysError::Derivation)?;
        Ok(ChaCha20Poly1305::new(&Key::from(*key)))
    }
}

/// The file.
struct Sealed {
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 12],
    ciphertext: Vec<u8>,
}

const PLACE: &str = "key file";

impl Sealed {
    /// Everything but the ciphertext, bound to it.
    fn context(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(5);
        writer.bytes(LABEL);
        self.parameters(&mut writer);
        writer.into_bytes()
    }

    fn parameters(&self, writer: &mut Writer) {
        writer.unsigned(self.cost.memory_kib.into());
        writer.unsigned(self.cost.passes.into());
        writer.unsigned(self.cost.lanes.into());
        writer.bytes(&self.salt);
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.array(7);
        writer.unsigned(FORMAT);
        self.parameters(&mut writer);
        writer.bytes(&self.nonce);
        writer.bytes(&self.ciphertext);
        writer.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(bytes);
        if reader.array(PLACE)? != 7 || reader.unsigned(PLACE)? != FORMAT {
            return Err(CborError::value(PLACE, "another format version"));
        }
        let cost = Cost {
            memory_kib: reader.narrow(PLACE)?,
            passes: reader.narrow(PLACE)?,
            lanes: reader.narrow(PLACE)?,
        };
        if cost.memory_kib > Cost::MEMORY_KIB_MAX || cost.passes > Cost::PASSES_MAX {
            return Err(CborError::value(PLACE, "the key derivation asks for too much"));
        }
        let (salt, nonce) = (reader.fixed(PLACE)?, reader.fixed(PLACE)?);
        let ciphertext = reader.bytes(PLACE)?.to_vec();
        reader.finish()?;
        Ok(Self { cost, salt, nonce, ciphertext })
    }
}

impl KeyRing {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new();
        writer.array(2);
        writer.bytes(self.signing.as_slice());
        writer.array(self.seeds.len());
        for ((domain, epoch), seed) in &self.seeds {
            writer.array(3);
            writer.text(domain.as_str());
            writer.unsigned((*epoch).into());
            writer.bytes(seed.as_ref().map_or(&[], |seed| seed.as_slice()));
        }
        Zeroizing::new(writer.into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(bytes);
        if reader.array(PLACE)? != 2 {
            return Err(CborError::value(PLACE, "not a signing key and seeds"));
        }
        let signing = seed(reader.bytes(PLACE)?)?;
        let mut seeds = BTreeMap::new();
        for _ in 0..reader.array(PLACE)? {
            if reader.array(PLACE)? != 3 {
                return Err(CborError::value(PLACE, "a key has three parts"));
            }
            let domain = reader.text(PLACE)?.parse().map_err(|error| CborError::value(PLACE, error))?;
            let epoch = reader.narrow(PLACE)?;
            let seed = match reader.bytes(PLACE)? {
                [] => None,
                bytes => Some(seed(bytes)?),
            };
            seeds.insert((domain, epoch), seed);
        }
        reader.finish()?;
        Ok(Self { signing, seeds })
    }
}

fn seed(bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, CborError> {
    let mut seed = Zeroizing::new([0; 32]);
    if bytes.len() != seed.len() {
        return Err(CborError::value(PLACE, "a seed has 32 bytes"));
    }
    seed.copy_from_slice(bytes);
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn keys_are_sealed_and_come_back_and_a_retired_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let right = passphrase("six random words of mine");
        KeyRing::create(&path, &right).unwrap();
        assert!(KeyRing::create(&path, &right).is_err(), "a key file is never overwritten by a new one");
        let mut ring = KeyRing::open(&path, &right).unwrap();
        let domain: Name = "care-planning".parse().unwrap();
        let first = ring.add(&domain, ring.next_epoch(&domain)).unwrap();
        let second = ring.add(&domain, ring.next_epoch(&domain)).unwrap();
        assert_ne!(first, second);
        assert!(matches!(ring.add(&domain, 2), Err(KeysError::Exists(..))));
        ring.save(&path, &right).unwrap();

        let mut ring = KeyRing::open(&path, &right).unwrap();
        let public: Vec<_> = ring.secret_keys().unwrap().into_values().map(|key| key.public()).collect();
        assert_eq!(public, [first, second]);
        // What sites get is another key, one for each domain and epoch, and always the same.
        let sealed = [1, 2].map(|epoch| *ring.sealed_key(&domain, epoch).unwrap());
        assert_ne!(sealed[0], sealed[1]);
        assert_eq!(*KeyRing::open(&path, &right).unwrap().sealed_key(&domain, 2).unwrap(), sealed[1]);
        assert!(ring.seeds.values().flatten().all(|seed| !sealed.contains(seed)));
        let signing = ring.signing_key().public();
        ring.retire(&domain, 2).unwrap();
        assert!(matches!(ring.sealed_key(&domain, 2), Err(KeysError::NoSuchKey(..))));
        assert!(matches!(ring.retire(&domain, 2), Err(KeysError::NoSuchKey(..))));
        ring.save(&path, &right).unwrap();
        let ring = KeyRing::open(&path, &right).unwrap();
        assert_eq!(ring.secret_keys().unwrap().len(), 1);
        assert_eq!(ring.next_epoch(&domain), 3, "a number is not used again");
        assert_eq!(ring.signing_key().public(), signing);

        let wrong = passphrase("six random words of hers");
        assert!(matches!(KeyRing::open(&path, &wrong), Err(KeysError::Passphrase(_))));
        // The salt, the nonce and the last byte: what is changed is not opened.
        let sealed = std::fs::read(&path).unwrap();
        for position in [12, 30, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(Sealed::decode(&changed).is_ok_and(|changed| changed.cost == COST));
            std::fs::write(&path, &changed).unwrap();
            assert!(matches!(KeyRing::open(&path, &right), Err(KeysError::Passphrase(_))), "byte {position}");
        }
    }

    #[test]
    fn a_file_cannot_ask_for_more_memory_than_is_allowed() {
        let cost = Cost { memory_kib: Cost::MEMORY_KIB_MAX + 1, ..COST };
        let sealed = Sealed { cost, salt: [0; 16], nonce: [0; 12], ciphertext: vec![0; 16] };
        assert!(Sealed::decode(&sealed.encode()).is_err());
    }

    #[test]
    fn a_passphrase_is_private_and_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        write_private(&path, b"six random words\r\nsecond line\n").unwrap();
        assert_eq!(Passphrase::read(&path).unwrap().0.as_slice(), b"six random words");
        replace_private(&path, b"short\n").unwrap();
        assert!(matches!(Passphrase::read(&path), Err(KeysError::Weak)));
        lockgate_durable::write_atomic(&path, b"six random words\n").unwrap();
        assert!(matches!(Passphrase::read(&path), Err(KeysError::File(_))), "others may read it");
    }
}
