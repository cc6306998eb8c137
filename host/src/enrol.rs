//! Enrolment: the agent makes its key on site and registers it with a one-time token.

use std::path::Path;

use lockgate_durable::key_file::{self, KeyFileError};
use lockgate_durable::{FileError, write_atomic};
use lockgate_signing::enrolment::{EnrolmentRequest, EnrolmentToken};
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::IdError;
use lockgate_signing::keys::{KeyError, KeyId, PublicKey};

use crate::config::Config;
use crate::linker_client::{LinkerClient, LinkerError};

/// A site cannot be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The site's key.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// What is in the token's file.
    #[error("{path}: {source}")]
    Token {
        /// The file.
        path: String,
        /// Why it is not a token.
        source: IdError,
    },
    /// The linker.
    #[error("{0}; nothing was enrolled here")]
    Linker(#[from] LinkerError),
    /// What the linker calls its key is not one.
    #[error("the linker's answer holds no key: {0}")]
    LinkerKey(#[from] KeyError),
    /// Somebody else answered.
    #[error(
        "the linker that answered is not the one that the token is from (key {found}, expected {expected}); nothing was enrolled here, check `linker.url`"
    )]
    OtherLinker {
        /// The key that answered.
        found: KeyId,
        /// The key that the token names.
        expected: KeyId,
    },
}

/// Makes the site's key if there is none, registers it, and pins the linker's key. Returns the site's key id.
pub fn enrol(config: &Config, client: &LinkerClient, token_file: &Path) -> Result<KeyId, EnrolError> {
    let text = lockgate_durable::read_private(token_file)?;
    let token: EnrolmentToken = std::str::from_utf8(&text)
        .unwrap_or_default()
        .parse()
        .map_err(|source| EnrolError::Token { path: token_file.display().to_string(), source })?;
    lockgate_durable::create_private_dir(&config.state_dir)?;
    // 1. The key is made here and never leaves. An attempt that was cut off goes on with the key that it made.
    let path = config.key_path();
    let key = if path.exists() { key_file::load(&path)? } else { key_file::create(&path)? };
    // 2. Signed with the key that it carries: proof of possession.
    let public_key = key.public();
    write_atomic(&config.public_key_path(), public_key.to_pem()?.as_bytes())?;
    let request = EnrolmentRequest { site: config.site.clone(), public_key, secret: token.secret };
    let answer = client.enrol(sign(&request, &key))?;
    // 3. The key that will sign receipts is the one that the operator's token names, whoever answered.
    let linker = PublicKey::from_pem(&answer.linker_key)?;
    if linker.id() != token.linker {
        return Err(EnrolError::OtherLinker { found: linker.id(), expected: token.linker });
    }
    write_atomic(&config.linker_key_path(), linker.to_pem()?.as_bytes())?;
    Ok(key.public().id())
}
