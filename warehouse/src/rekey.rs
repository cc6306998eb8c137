//! Tokens of sites become tokens of the warehouse on arrival, so that what a site can compute is not what analysts see, and
//! a copy of the tables is worth nothing to somebody who has a site's tokens.

use std::fmt;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use lockgate_durable::{FileError, read_private, write_private};
use lockgate_signing::block::Token;
use lockgate_signing::ids::Name;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error(
        "{0} does not hold 32 bytes; restore it from a backup: with another key no patient would be found again"
    )]
    Content(String),
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// The warehouse's key. Zeroised when dropped; cannot be printed.
pub struct TokenKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

/// A token as the warehouse stores it: HMAC-SHA-256 of what a site sent, cut to 128 bits.
pub type StoredToken = [u8; 16];

impl TokenKey {
    /// Makes the key in a new private file; one that is there is kept.
    pub fn create(path: &Path) -> Result<(), TokenKeyError> {
        if path.exists() {
            return Self::load(path).map(drop);
        }
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(TokenKeyError::Randomness)?;
        Ok(write_private(path, key.as_slice())?)
    }

    /// Reads it.
    pub fn load(path: &Path) -> Result<Self, TokenKeyError> {
        let bytes = read_private(path)?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(TokenKeyError::Content(path.display().to_string()));
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// The tokens of a purpose: of one kind, so that a patient's token and a link token never meet by chance.
    pub fn purpose(&self, purpose: &Name, kind: &str) -> Rekeying {
        // HMAC takes a key of any length, so there is no error to hand on.
        #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("a key of 32 bytes");
        for part in [b"lockgate stored token v1".as_slice(), purpose.as_str().as_bytes(), kind.as_bytes()] {
            mac.update(part);
            mac.update(&[0]);
        }
        Rekeying(mac)
    }
}

/// Makes stored tokens of one purpose and kind.
#[derive(Clone)]
pub struct Rekeying(Hmac<Sha256>);

impl fmt::Debug for Rekeying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rekeying")
    }
}

impl Rekeying {
    /// The stored token of a site's token.
    pub fn token(&self, token: &Token) -> StoredToken {
        let mut mac = self.0.clone();
        mac.update(token);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut stored = StoredToken::default();
        stored.copy_from_slice(&full[..16]);
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_token_depends_on_key_purpose_kind_and_token() {
        let dir = tempfile::tempdir().unwrap();
        let key = |name: &str| {
            let path = dir.path().join(name);
            TokenKey::create(&path).unwrap();
            TokenKey::load(&path).unwrap()
        };
        let stored = |key: &TokenKey, purpose: &str, kind: &str, token: Token| {
            key.purpose(&purpose.parse().unwrap(), kind).token(&token)
        };
        let first = stored(&key("one"), "care", "patient", [1; 16]);
        assert_eq!(first, stored(&key("one"), "care", "patient", [1; 16]), "the key is kept");
        for other in [
            stored(&key("two"), "care", "patient", [1; 16]),
            stored(&key("one"), "other", "patient", [1; 16]),
            stored(&key("one"), "care", "nhs-number", [1; 16]),
            stored(&key("one"), "care", "patient", [2; 16]),
            [1; 16],
        ] {
            assert_ne!(first, other);
        }
    }
}
