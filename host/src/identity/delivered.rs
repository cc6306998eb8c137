//! The keys of the `sealed-key` scheme at a site: asked for, checked, kept sealed, and open only in memory while a run lasts.
//!
//! ```text
//! opening-key.pem                       the site's X25519 key, made here, mode 0600
//! tokens/keys/<domain>-<epoch>.sealed   a key as the keyholder sealed and signed it, mode 0600
//! ```
//!
//! A file in `tokens/keys` is not trusted because it is there: each use checks it as it was checked when it was installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use lockgate_durable::{FileError, at, read_private, replace_private, write_private};
use lockgate_signing::delivery::{TokenKeyDelivery, TokenKeyRequest};
use lockgate_signing::envelope::{ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, sign};
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::{KeyId, SigningKey};
use lockgate_signing::sealed::{OpeningKey, SealedError, SealedKeyError, SealingKeyId};
use lockgate_signing::token_keys::TokenKeys;
use lockgate_trust::Trusted;
use zeroize::Zeroizing;

use super::sealed_key::TokenKey;
use crate::config::Config;

/// A sealed key cannot be asked for, installed or used.
#[derive(Debug, thiserror::Error)]
pub enum DeliveredKeyError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The site's opening key.
    #[error("{}: {why}; restore it from a backup, or remove it and ask for every token key again", path.display())]
    OpeningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: SealedKeyError,
    },
    /// None was ever asked for.
    #[error("this site has no opening key yet; run `lockgate-agent token-key request --out FILE` first")]
    NoOpeningKey,
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// Cut off, changed, or something else.
    #[error("it is not a whole token key ({0}); copy the file again, or ask the keyholder's operator for it")]
    NotAKey(EnvelopeError),
    /// Signed by somebody.
    #[error(
        "it is signed with key {0}, which the registry names as no keyholder's; nothing was installed, ask the publishing team \
         whose it is"
    )]
    WrongSigner(KeyId),
    /// For another site.
    #[error("it is for site {0}, and this is {1}; give it to that site")]
    WrongSite(SiteId, SiteId),
    /// For what nobody here asks.
    #[error(
        "it is for purpose `{0}`, for which the registry names no such keyholder; ask the publishing team"
    )]
    WrongPurpose(Name),
    /// Sealed to a key that this site had, or has not.
    #[error(
        "it is sealed to key {found}, and this site's is {own}; make a new request with `lockgate-agent token-key request`"
    )]
    WrongOpeningKey {
        /// The key that opens it.
        found: SealingKeyId,
        /// The key that is here.
        own: SealingKeyId,
    },
    /// Of an epoch that is not published.
    #[error("it is of epoch {epoch} of `{domain}`, which is not published, or not any more")]
    UnknownEpoch {
        /// The purpose.
        domain: Name,
        /// The epoch.
        epoch: u32,
    },
    /// Of an epoch that is over.
    #[error(
        "it is of epoch {epoch} of `{domain}`, which ended on {until}; ask for the key of the current one"
    )]
    Ended {
        /// The purpose.
        domain: Name,
        /// The epoch.
        epoch: u32,
        /// Its last day.
        until: Date,
    },
    /// An old file again.
    #[error(
        "it is of epoch {epoch} of `{domain}`, and epoch {installed} is installed; a site does not go back, nothing was changed"
    )]
    OlderEpoch {
        /// The purpose.
        domain: Name,
        /// The epoch.
        epoch: u32,
        /// The newest one that is here.
        installed: u32,
    },
    /// Signed by the keyholder, and not sealed for this.
    #[error("{0}; ask the keyholder's operator for another")]
    NotOpened(SealedError),
    /// A file that was installed, and is not what it was.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it is of no use.
        why: Box<Self>,
    },
    /// No key.
    #[error(
        "no key for `{domain}` epoch {epoch} is installed here; ask the keyholder's operator for it with the file of \
         `lockgate-agent token-key request`, then run `lockgate-agent token-key install FILE`"
    )]
    NotInstalled {
        /// The purpose.
        domain: Name,
        /// The epoch that stands today.
        epoch: u32,
    },
}

/// The published token keys of each purpose.
pub type PublishedKeys = BTreeMap<Name, Arc<Trusted<TokenKeys>>>;

/// The sealed keys of a site. Cannot print one.
#[derive(Debug, Clone)]
pub struct DeliveredKeys {
    site: SiteId,
    opening: PathBuf,
    folder: PathBuf,
}

const ENDING: &str = "sealed";

impl DeliveredKeys {
    /// Those of the configured site. Nothing is opened yet.
    pub fn of(config: &Config) -> Self {
        Self {
            site: config.site.clone(),
            opening: config.opening_key_path(),
            folder: config.state_dir.join("tokens/keys"),
        }
    }

    /// Asks for keys: makes the site's opening key if there is none, and signs its public half.
    pub fn request(
        &self,
        key: &SigningKey,
        at_s: i64,
    ) -> Result<(TokenKeyRequest, Vec<u8>), DeliveredKeyError> {
        let opening = if self.opening.exists() { self.opening_key()? } else { self.make_opening_key()? };
        let request = TokenKeyRequest { site: self.site.clone(), opening_key: opening.public(), at_s };
        let signed = sign(&request, key);
        Ok((request, signed))
    }

    /// Installs a key that the keyholder sealed for this site.
    pub fn install(
        &self,
        file: &Path,
        published: &PublishedKeys,
        today: Date,
    ) -> Result<TokenKeyDelivery, DeliveredKeyError> {
        let bytes = read_bounded(file)?;
        // 1. Whole, of this role; signed by a keyholder that the registry names.
        let envelope = Envelope::<TokenKeyDelivery>::read(&bytes).map_err(DeliveredKeyError::NotAKey)?;
        let mut signers = published.values().filter_map(|keys| keys.value().signing_key());
        let signer = signers.find(|key| key.id() == envelope.key());
        let signer = signer.ok_or_else(|| DeliveredKeyError::WrongSigner(envelope.key()))?;
        let delivery = envelope.verify(&signer).map_err(DeliveredKeyError::NotAKey)?.into_message();
        // 2. For this site, for a purpose of that keyholder's, for an epoch that stands or will.
        let keys = published.get(&delivery.domain).map(|keys| keys.value());
        let keys = keys.filter(|keys| keys.signing_key() == Some(signer));
        let domain = || delivery.domain.clone();
        let keys = keys.ok_or_else(|| DeliveredKeyError::WrongPurpose(domain()))?;
        self.check(&delivery)?;
        let epoch = delivery.epoch;
        let named = keys.epoch(epoch);
        let named = named.ok_or_else(|| DeliveredKeyError::UnknownEpoch { domain: domain(), epoch })?;
        if named.until < today {
            return Err(DeliveredKeyError::Ended { domain: domain(), epoch, until: named.until });
        }
        // 3. Not an old file that somebody sends again.
        let installed = self.installed()?;
        let of_domain = || installed.iter().filter(|(domain, _)| *domain == delivery.domain);
        if let Some(&(_, installed)) = of_domain().max().filter(|(_, installed)| *installed > epoch) {
            return Err(DeliveredKeyError::OlderEpoch { domain: domain(), epoch, installed });
        }
        // 4. It opens. It is kept as it came.
        drop(delivery.open(&self.opening_key()?).map_err(DeliveredKeyError::NotOpened)?);
        lockgate_durable::create_private_dir(&self.folder)?;
        replace_private(&self.path(&delivery.domain, epoch), &bytes)?;
        // 5. What the keyholder has retired is of no use to anybody.
        for (domain, epoch) in of_domain().filter(|(_, epoch)| keys.epoch(*epoch).is_none()) {
            let path = self.path(domain, *epoch);
            std::fs::remove_file(&path).map_err(at("remove", &path))?;
        }
        Ok(delivery)
    }

    /// The purposes and epochs of the keys that are installed, in order.
    pub fn installed(&self) -> Result<Vec<(Name, u32)>, FileError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at("read", &self.folder)(error)),
        };
        let mut installed = Vec::new();
        for entry in entries {
            let path = entry.map_err(at("read", &self.folder))?.path();
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .filter(|_| path.extension().is_some_and(|it| it == ENDING));
            let parts = stem.and_then(|stem| stem.rsplit_once('-'));
            installed
                .extend(parts.and_then(|(domain, epoch)| Some((domain.parse().ok()?, epoch.parse().ok()?))));
        }
        installed.sort_unstable();
        Ok(installed)
    }

    /// The id of the key that opens what is sealed for this site; none before the first request.
    pub fn opening_key_id(&self) -> Result<Option<SealingKeyId>, DeliveredKeyError> {
        if self.opening.exists() { self.opening_key().map(|key| Some(key.public().id())) } else { Ok(None) }
    }

    /// The key to make tokens with on a day, and the one of the epoch before while that one is still open: the newest that is
    /// installed and stands. A site whose new key has not come yet goes on with the old one to its last day.
    pub(super) fn usable(
        &self,
        keys: &TokenKeys,
        today: Date,
    ) -> Result<Option<(TokenKey, Option<TokenKey>)>, DeliveredKeyError> {
        let installed = self.installed()?;
        let here = |epoch: u32| installed.binary_search(&(keys.id.clone(), epoch)).is_ok();
        let mut open = keys
            .epochs
            .iter()
            .rev()
            .filter(|epoch| epoch.from <= today && today <= epoch.until && here(epoch.epoch))
            .map(|epoch| epoch.epoch);
        let Some(epoch) = open.next() else { return Ok(None) };
        if keys.current(today).is_some_and(|current| current.epoch > epoch) {
            tracing::warn!(domain = %keys.id, epoch, "a newer token key is published and not installed here yet");
        }
        let former = open.next().map(|epoch| self.open(keys, epoch)).transpose()?;
        Ok(Some((self.open(keys, epoch)?, former)))
    }

    fn open(&self, keys: &TokenKeys, epoch: u32) -> Result<TokenKey, DeliveredKeyError> {
        let path = self.path(&keys.id, epoch);
        let open = || {
            let bytes = read_private(&path)?;
            let envelope = Envelope::<TokenKeyDelivery>::read(&bytes).map_err(DeliveredKeyError::NotAKey)?;
            let signer = keys.signing_key().filter(|key| key.id() == envelope.key());
            let signer = signer.ok_or_else(|| DeliveredKeyError::WrongSigner(envelope.key()))?;
            let delivery = envelope.verify(&signer).map_err(DeliveredKeyError::NotAKey)?.into_message();
            self.check(&delivery)?;
            if (&delivery.domain, delivery.epoch) != (&keys.id, epoch) {
                return Err(DeliveredKeyError::WrongPurpose(delivery.domain));
            }
            let key = delivery.open(&self.opening_key()?).map_err(DeliveredKeyError::NotOpened)?;
            Ok(TokenKey::from_bytes(key, epoch))
        };
        open().map_err(|why| DeliveredKeyError::Damaged { path: path.clone(), why: Box::new(why) })
    }

    /// For this site, and sealed to the key that it has.
    fn check(&self, delivery: &TokenKeyDelivery) -> Result<(), DeliveredKeyError> {
        if delivery.site != self.site {
            return Err(DeliveredKeyError::WrongSite(delivery.site.clone(), self.site.clone()));
        }
        let own = self.opening_key_id()?.ok_or(DeliveredKeyError::NoOpeningKey)?;
        if delivery.opening_key != own {
            return Err(DeliveredKeyError::WrongOpeningKey { found: delivery.opening_key, own });
        }
        Ok(())
    }

    fn opening_key(&self) -> Result<OpeningKey, DeliveredKeyError> {
        if !self.opening.exists() {
            return Err(DeliveredKeyError::NoOpeningKey);
        }
        let pem = read_private(&self.opening)?;
        let key = OpeningKey::from_pem(std::str::from_utf8(&pem).unwrap_or_default());
        key.map_err(|why| DeliveredKeyError::OpeningKey { path: self.opening.clone(), why })
    }

    fn make_opening_key(&self) -> Result<OpeningKey, DeliveredKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(DeliveredKeyError::Randomness)?;
        let key = OpeningKey::from_seed(&seed);
        write_private(&self.opening, key.to_pem().as_bytes())?;
        Ok(key)
    }

    fn path(&self, domain: &Name, epoch: u32) -> PathBuf {
        self.folder.join(format!("{domain}-{epoch}.{ENDING}"))
    }
}

/// Reads a file that somebody sent, up to more than any envelope has.
fn read_bounded(path: &Path) -> Result<Vec<u8>, FileError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(at("read", path))?;
    file.take(ENVELOPE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(bytes)
}
