//! A file that only this site can read: `nonce ‖ ChaCha20-Poly1305(content)`, written whole or not at all. What it is for is
//! bound to it, so that one file cannot pass for another.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use lockgate_durable::{FileError, at, replace_private};
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Such a file. Cannot be printed.
pub(super) struct KeptFile {
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// What the content is bound to.
    context: Vec<u8>,
    /// The most that is read, bytes of content.
    bytes_max: usize,
}

/// What is in the file.
#[must_use]
pub(super) enum KeptContent {
    /// There is no file.
    Absent,
    /// Not of this site, not for this, too large, or changed.
    Damaged,
    /// The content.
    Plain(Zeroizing<Vec<u8>>),
}

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// No randomness, no encryption.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// Beyond what the cipher takes.
    #[error("there are too many kept tokens")]
    TooLarge,
}

impl KeptFile {
    /// A file; nothing is read yet.
    pub(super) fn new(path: PathBuf, key: Zeroizing<[u8; 32]>, context: Vec<u8>, bytes_max: usize) -> Self {
        Self { path, key, context, bytes_max }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and decrypts it.
    pub(super) fn read(&self) -> Result<KeptContent, FileError> {
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(KeptContent::Absent),
            Err(error) => return Err(at("open", &self.path)(error)),
        };
        let mut bytes = Vec::new();
        let limit = (self.bytes_max + NONCE_BYTES + TAG_BYTES) as u64;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(at("read", &self.path))?;
        if bytes.len() as u64 > limit {
            return Ok(KeptContent::Damaged);
        }
        Ok(self.decrypt(bytes).map_or(KeptContent::Damaged, KeptContent::Plain))
    }

    fn decrypt(&self, mut bytes: Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
        if bytes.len() < NONCE_BYTES {
            return None;
        }
        let mut plain = Zeroizing::new(bytes.split_off(NONCE_BYTES));
        let nonce: [u8; NONCE_BYTES] = bytes.try_into().ok()?;
        self.cipher().decrypt_in_place(&Nonce::from(nonce), &self.context, &mut *plain).ok()?;
        Some(plain)
    }

    /// Encrypts and writes it.
    pub(super) fn write(&self, plain: Zeroizing<Vec<u8>>) -> Result<(), SaveError> {
        Ok(self.seal(plain)?.write()?)
    }

    /// Encrypts what is to be written later.
    pub(super) fn seal(&self, mut plain: Zeroizing<Vec<u8>>) -> Result<SealedFile, SaveError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SaveError::Randomness)?;
        self.cipher()
            .encrypt_in_place(&Nonce::from(nonce), &self.context, &mut *plain)
            .map_err(|_| SaveError::TooLarge)?;
        Ok(SealedFile { path: self.path.clone(), bytes: [&nonce, plain.as_slice()].concat() })
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(*self.key))
    }
}

/// A file that is encrypted and not yet written.
pub(crate) struct SealedFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl SealedFile {
    /// Writes it whole or not at all, replacing an older one.
    pub(crate) fn write(&self) -> Result<(), FileError> {
        replace_private(&self.path, &self.bytes)
    }
}
