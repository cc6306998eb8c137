//! Private keys as files: PKCS#8 PEM, protected by a passphrase (RFC 5958; PBES2 of RFC 8018 with scrypt and AES-256-CBC),
//! and the public half beside it, which goes to whoever writes the roles file.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at, read_private, write_atomic, write_private};
use lockgate_signing::keys::{KeyError, PublicKey, SigningKey};
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

/// The fewest characters of a passphrase.
const PASSPHRASE_CHARACTERS_MIN: usize = 10;
/// The most bytes of a passphrase that are read from a file descriptor.
const PASSPHRASE_BYTES_MAX: u64 = 1 << 10;
/// scrypt's cost for new keys (RFC 7914): 2^17 blocks of 1 KiB, some 128 MiB and a third of a second, so that guessing
/// is dear.
const SCRYPT_LOG_N: u8 = 17;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;
/// What the first line of a protected key says (RFC 7468, section 11).
const PROTECTED: &str = "ENCRYPTED PRIVATE KEY";
/// The ending of the public half.
pub const PUBLIC_ENDING: &str = "pub";

/// A key file cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is no key.
    #[error("{}: {error}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KeyError,
    },
    /// The passphrase opens nothing.
    #[error("the passphrase does not open {}; try again (capitals, keyboard layout)", .0.display())]
    WrongPassphrase(PathBuf),
    /// There is none.
    #[error(
        "{} is protected by a passphrase; run this at a terminal, which asks for it, or name a file descriptor with \
         --passphrase-fd", .0.display()
    )]
    NoPassphrase(PathBuf),
    /// It is too short.
    #[error("a passphrase has at least {PASSPHRASE_CHARACTERS_MIN} characters; four random words are good")]
    ShortPassphrase,
    /// The two entries differ.
    #[error("the two passphrases differ; nothing was made: try again")]
    Different,
    /// It could not be read.
    #[error("the passphrase cannot be read: {0}")]
    Passphrase(std::io::Error),
    /// It could not be read from where it was to come.
    #[error(
        "the passphrase cannot be read from file descriptor {number}: {error}; open it for this command: `{number}< FILE`"
    )]
    Descriptor {
        /// The file descriptor.
        number: u32,
        /// Why.
        error: std::io::Error,
    },
    /// A new key would take the place of another.
    #[error("{} is there already, and a key is never overwritten: choose another name", .0.display())]
    Exists(PathBuf),
    /// The system gave no randomness.
    #[error("the operating system gives no randomness for a new key: {0}")]
    NoRandomness(getrandom::Error),
    /// The key could not be protected.
    #[error("the key cannot be protected: {0}; this is a fault of lockgate-publish, please report it")]
    Protection(String),
}

/// Where a passphrase comes from. Never from the command line or the environment, which others can see.
#[derive(Debug, Clone, Copy)]
pub enum PassphraseSource {
    /// From the terminal, without showing it.
    Prompt,
    /// The first line of this open file descriptor.
    Descriptor(u32),
}

impl PassphraseSource {
    /// Asks for the passphrase of an existing key.
    fn for_existing(self, path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
        match self {
            Self::Prompt => rpassword::prompt_password(format!("Passphrase of {}: ", path.display()))
                .map(Zeroizing::new)
                .map_err(|_| KeyFileError::NoPassphrase(path.to_owned())),
            Self::Descriptor(number) => read_descriptor(number),
        }
    }

    /// Asks for the passphrase of a new key, at a terminal twice.
    fn for_new(self, path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
        let passphrase = self.for_existing(path)?;
        if passphrase.chars().count() < PASSPHRASE_CHARACTERS_MIN {
            return Err(KeyFileError::ShortPassphrase);
        }
        if let Self::Prompt = self {
            let again = rpassword::prompt_password("Again: ").map(Zeroizing::new);
            if again.map_err(KeyFileError::Passphrase)? != passphrase {
                return Err(KeyFileError::Different);
            }
        }
        Ok(passphrase)
    }
}

fn read_descriptor(number: u32) -> Result<Zeroizing<String>, KeyFileError> {
    let mut text = Zeroizing::new(String::new());
    File::open(format!("/dev/fd/{number}"))
        .and_then(|file| file.take(PASSPHRASE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| KeyFileError::Descriptor { number, error })?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Makes a key: the private half in a new file, the public half beside it. With no passphrase only for a key that a
/// machine uses unattended.
pub fn create(path: &Path, passphrase: Option<PassphraseSource>) -> Result<PublicKey, KeyFileError> {
    // Before somebody thinks of a passphrase. `write_private` replaces nothing either.
    if let Some(there) = [path.to_owned(), public_path(path)].into_iter().find(|file| file.exists()) {
        return Err(KeyFileError::Exists(there));
    }
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(KeyFileError::NoRandomness)?;
    let key = SigningKey::from_seed(&seed);
    let not_a_key = |error| KeyFileError::NotAKey { path: path.to_owned(), error };
    let plain = key.to_pem().map_err(not_a_key)?;
    let pem = match passphrase {
        Some(source) => protect(&plain, &source.for_new(path)?)?,
        None => plain,
    };
    write_private(path, pem.as_bytes())?;
    let public = key.public();
    write_atomic(&public_path(path), public.to_pem().map_err(not_a_key)?.as_bytes())?;
    Ok(public)
}

/// The file of the public half.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(PUBLIC_ENDING);
    path.with_file_name(name)
}

/// Reads a key, with its passphrase where it is protected.
pub fn load(path: &Path, passphrase: PassphraseSource) -> Result<SigningKey, KeyFileError> {
    let pem = read_pem(path)?;
    if !is_protected(&pem) {
        return key_of_pem(path, &pem);
    }
    open(path, &pem, &passphrase.for_existing(path)?)
}

/// Reads a key that no passphrase protects; `None` for one that is protected.
pub fn load_unprotected(path: &Path) -> Result<Option<SigningKey>, KeyFileError> {
    let pem = read_pem(path)?;
    if is_protected(&pem) { Ok(None) } else { key_of_pem(path, &pem).map(Some) }
}

/// Reads a public key.
pub fn load_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let text = std::fs::read_to_string(path).map_err(at("read", path))?;
    PublicKey::from_pem(&text).map_err(|error| KeyFileError::NotAKey { path: path.to_owned(), error })
}

fn is_protected(pem: &str) -> bool {
    pem.lines().next().is_some_and(|line| line.contains(PROTECTED))
}

fn read_pem(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let bytes = read_private(path)?;
    // Bytes that are not text are no PEM; the empty text is none either.
    Ok(Zeroizing::new(std::str::from_utf8(&bytes).unwrap_or_default().to_owned()))
}

fn key_of_pem(path: &Path, pem: &str) -> Result<SigningKey, KeyFileError> {
    SigningKey::from_pem(pem).map_err(|error| KeyFileError::NotAKey { path: path.to_owned(), error })
}

fn protect(pem: &str, passphrase: &str) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |error: &dyn std::fmt::Display| KeyFileError::Protection(error.to_string());
    let (_, plain) = SecretDocument::from_pem(pem).map_err(|error| failed(&error))?;
    let info = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(|error| failed(&error))?;
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).map_err(KeyFileError::NoRandomness)?;
    getrandom::fill(&mut iv).map_err(KeyFileError::NoRandomness)?;
    let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).map_err(|error| failed(&error))?;
    let parameters =
        pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(|error| failed(&error))?;
    let protected = info.encrypt_with_params(parameters, passphrase).map_err(|error| failed(&error))?;
    protected.to_pem(PROTECTED, LineEnding::LF).map_err(|error| failed(&error))
}

fn open(path: &Path, pem: &str, passphrase: &str) -> Result<SigningKey, KeyFileError> {
    // A file that is damaged and a passphrase that is wrong look the same after the first line.
    let wrong = || KeyFileError::WrongPassphrase(path.to_owned());
    let (_, protected) = SecretDocument::from_pem(pem).map_err(|_| wrong())?;
    let info = EncryptedPrivateKeyInfoRef::try_from(protected.as_bytes()).map_err(|_| wrong())?;
    let plain = info.decrypt(passphrase).map_err(|_| wrong())?;
    let pem = plain.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| wrong())?;
    SigningKey::from_pem(&pem).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protected_key_opens_with_its_passphrase_only() {
        let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
        let pem = protect(&key.to_pem().unwrap(), "correct horse battery").unwrap();
        assert!(is_protected(&pem));
        let path = Path::new("key.pem");
        assert_eq!(open(path, &pem, "correct horse battery").unwrap().public(), key.public());
        assert!(matches!(open(path, &pem, "Correct horse battery"), Err(KeyFileError::WrongPassphrase(_))));
    }
}
