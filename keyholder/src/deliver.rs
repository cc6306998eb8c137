//! The key of a domain and epoch for a site that cannot reach the service, sealed to a key that the site made for it.
//!
//! Whoever has such a key makes tokens without the keyholder, uncounted. So it is sealed only for a site that is entered here,
//! on a request that the site signed, and who has which key is written down first.

use lockgate_signing::delivery::{TokenKeyDelivery, TokenKeyRequest};
use lockgate_signing::envelope::{Envelope, EnvelopeError, sign};
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::KeyId;
use lockgate_signing::sealed::SealedError;
use zeroize::Zeroizing;

use crate::database::{Database, DatabaseError};
use crate::keys::{KeyRing, KeysError};

/// A key is not sealed.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Not a request, or changed on its way.
    #[error("it is not a whole request of a site ({0}); ask the site for the file again")]
    NotARequest(#[from] EnvelopeError),
    /// Nobody knows whose it is.
    #[error("it is signed with a key that is not entered here ({0}); if you know whose it is, `site add` it")]
    UnknownKey(KeyId),
    /// A site that was revoked.
    #[error("{0} is revoked; nothing is sealed for it")]
    Revoked(SiteId),
    /// In another site's name.
    #[error("it asks for {named} and is signed by {signer}; nothing is sealed for either")]
    WrongSite {
        /// The site in the request.
        named: SiteId,
        /// The site whose key signed it.
        signer: SiteId,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The list of who has what.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The site's key to seal to.
    #[error("the site's key: {0}")]
    Sealing(#[from] SealedError),
    /// No randomness, no sealing.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// A delivery as it is signed, and what is in it.
#[derive(Debug)]
pub struct Delivered {
    /// What it says.
    pub delivery: TokenKeyDelivery,
    /// The signed bytes: the file for the site.
    pub signed: Vec<u8>,
}

/// Seals the key of a domain and epoch for the site that signed a request.
pub fn deliver(
    database: &Database,
    keys: &KeyRing,
    request: &[u8],
    (domain, epoch): (&Name, u32),
    now_s: i64,
) -> Result<Delivered, DeliverError> {
    // 1. Size, structure, determinism, role.
    let envelope = Envelope::<TokenKeyRequest>::read(request)?;
    // 2. The key is entered here, and its site is not revoked.
    let known = database.key(envelope.key())?.ok_or_else(|| DeliverError::UnknownKey(envelope.key()))?;
    if known.revoked {
        return Err(DeliverError::Revoked(known.site));
    }
    // 3. The signature, over the received bytes; then the content, strictly.
    let request = envelope.verify(&known.key)?.into_message();
    // 4. A site asks for itself: no site has a key sealed to itself in another's name.
    if request.site != known.site {
        return Err(DeliverError::WrongSite { named: request.site, signer: known.site });
    }
    // 5. The key is there, and not retired.
    let key = keys.sealed_key(domain, epoch)?;
    let mut ephemeral = Zeroizing::new([0; 32]);
    getrandom::fill(ephemeral.as_mut_slice()).map_err(DeliverError::Randomness)?;
    let delivery = TokenKeyDelivery::seal(&request, (domain, epoch), &key, now_s, &ephemeral)?;
    // 6. Written down before anybody has it.
    database.add_delivered(&delivery)?;
    Ok(Delivered { signed: sign(&delivery, &keys.signing_key()), delivery })
}
