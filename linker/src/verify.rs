//! Verifying a bundle: all that a service needs which takes in bundles some other way.
//!
//! `examples/verify.rs` is a whole program that does it.

use std::io::{self, Read};

use lockgate_signing::bundle::{BlockRef, BundleHeader};
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::{Envelope, Verified};
use lockgate_signing::ids::SiteId;
use lockgate_signing::keys::{KeyId, PublicKey};
use sha2::{Digest as _, Sha256};

use crate::reason::Reason;

/// What is known of an enrolled key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKey {
    /// The key.
    pub key: PublicKey,
    /// The one site that it signs for.
    pub site: SiteId,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A bundle is refused, or one of its blocks cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Refused.
    #[error("{reason} ({code})", reason = .0, code = .0.code())]
    Rejected(#[from] Reason),
    /// Not readable.
    #[error("a block cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// Verifies a whole bundle: its signed header, and every block that the header names.
///
/// `key` looks up an enrolled key; `block` opens a block, whose bytes are read once and not kept.
pub fn verify_bundle<R: Read>(
    signed_header: &[u8],
    key: impl FnOnce(KeyId) -> Option<SiteKey>,
    mut block: impl FnMut(&BlockRef) -> io::Result<R>,
) -> Result<Verified<BundleHeader>, VerifyError> {
    let header = verify_header(signed_header, key)?;
    for named in header.message().blocks() {
        verify_block(named, block(named)?)?;
    }
    Ok(header)
}

/// Verifies a signed header.
pub fn verify_header(
    signed_header: &[u8],
    key: impl FnOnce(KeyId) -> Option<SiteKey>,
) -> Result<Verified<BundleHeader>, Reason> {
    // 1. Size, structure, determinism, role. Nothing of the content is looked at.
    let envelope = Envelope::<BundleHeader>::read(signed_header)?;
    // 2. The key must be enrolled, and must not be revoked: a stolen key ends with its revocation.
    let known = key(envelope.key()).ok_or(Reason::UnknownKey)?;
    if known.revoked {
        return Err(Reason::RevokedKey);
    }
    // 3. The signature, over the received bytes; then the content is decoded, strictly.
    let header = envelope.verify(&known.key)?;
    // 4. A key signs for one site: nobody sends in another site's name.
    if header.message().site != known.site {
        return Err(Reason::WrongSite);
    }
    Ok(header)
}

/// Verifies a block: exactly the bytes that the header names.
pub fn verify_block(named: &BlockRef, mut bytes: impl Read) -> Result<(), VerifyError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut left = named.bytes;
    loop {
        let count = match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        left = left.checked_sub(count as u64).ok_or(Reason::BlockSizeMismatch)?;
        hash.update(&buffer[..count]);
    }
    if left > 0 {
        return Err(Reason::BlockSizeMismatch.into());
    }
    if Digest::from_bytes(hash.finalize().into()) != named.digest {
        return Err(Reason::BlockDigestMismatch.into());
    }
    Ok(())
}
