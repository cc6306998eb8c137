//! A secret of this site alone: made here, kept here, never sent. What the site keeps for itself is encrypted and named with
//! keys derived from it.

use std::path::Path;

use hmac::Mac as _;
use lockgate_durable::{FileError, read_private, write_private};
use zeroize::Zeroizing;

use super::sealed_key::keyed;

/// The site's own key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error(
        "{0} does not hold 32 bytes; restore it from a backup, or remove it: then every token is asked for again, and everybody who is withheld is retracted"
    )]
    Content(String),
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// The key. Zeroised when dropped; cannot be printed.
pub(super) struct LocalKey(Zeroizing<[u8; 32]>);

impl LocalKey {
    /// Reads it; makes it the first time.
    pub(super) fn open(path: &Path) -> Result<Self, LocalKeyError> {
        let mut key = Zeroizing::new([0; 32]);
        if !path.exists() {
            getrandom::fill(key.as_mut_slice()).map_err(LocalKeyError::Randomness)?;
            write_private(path, key.as_slice())?;
            return Ok(Self(key));
        }
        let bytes = read_private(path)?;
        if bytes.len() != key.len() {
            return Err(LocalKeyError::Content(path.display().to_string()));
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// A digest that only this site can make: what was sent is compared by it, and it tells nobody else anything.
    pub(super) fn private_digest(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = keyed(&self.derive("lockgate content v1"));
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// A key for one use.
    pub(super) fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = keyed(&self.0);
        mac.update(label.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}
