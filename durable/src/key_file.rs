//! Private keys as files: PKCS#8 PEM, mode 0600, made from the operating system's randomness.

use std::path::Path;

use lockgate_signing::keys::{KeyError, SigningKey};
use zeroize::Zeroizing;

use crate::FileError;

/// A key file cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error("{path}: {source}")]
    Key {
        /// The file.
        path: String,
        /// Why it is not a key.
        source: KeyError,
    },
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// Makes a key and writes it to a new file.
pub fn create(path: &Path) -> Result<SigningKey, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(KeyFileError::Randomness)?;
    let key = SigningKey::from_seed(&seed);
    let pem = key.to_pem().map_err(in_file(path))?;
    crate::write_private(path, pem.as_bytes())?;
    Ok(key)
}

/// Reads a key from its file.
pub fn load(path: &Path) -> Result<SigningKey, KeyFileError> {
    let bytes = crate::read_private(path)?;
    SigningKey::from_pem(std::str::from_utf8(&bytes).unwrap_or_default()).map_err(in_file(path))
}

fn in_file(path: &Path) -> impl FnOnce(KeyError) -> KeyFileError {
    let path = path.display().to_string();
    move |source| KeyFileError::Key { path, source }
}
