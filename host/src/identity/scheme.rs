//! The two ways to make a token, behind one interface: ask for names, have them made, look tokens up.

use std::path::PathBuf;

use jiff::civil::Date;
use lockgate_durable::{FileError, at};
use lockgate_signing::block::Token;
use lockgate_signing::bundle::TokenScheme;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::token_keys::TokenKeys;

use super::cache::InputName;
use super::delivered::{DeliveredKeyError, DeliveredKeys};
use super::inputs::Input;
use super::kept_file::SaveError;
use super::keyholder::KeyholderError;
use super::local_key::{LocalKey, LocalKeyError};
use super::oprf::{Oprf, OprfDomain, PatientSecret};
use super::sealed_key::{SealedTokens, TokenDomain};
use super::sent::SentRecord;
use crate::config::{Config, TokensConfig};

/// Tokens cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The key of the sealed-key scheme.
    #[error(transparent)]
    Key(#[from] DeliveredKeyError),
    /// The site's own key.
    #[error(transparent)]
    LocalKey(#[from] LocalKeyError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kept tokens.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The keyholder is away, and somebody has no token yet.
    #[error(
        "{missing} tokens are not kept here, and {error}; the run is put off and nothing of it is sent: run again when the keyholder is back"
    )]
    Deferred {
        /// How many.
        missing: usize,
        /// Why the keyholder was of no use.
        error: KeyholderError,
    },
    /// The keyholder refuses, or is not to be believed.
    #[error("{0}; the run is put off and nothing of it is sent")]
    Keyholder(#[from] KeyholderError),
    /// A site with the scheme `sealed-key` and without a key.
    #[error(
        "no token key is installed here; ask the keyholder's operator for one with the file of `lockgate-agent token-key \
         request --out FILE`, then run `lockgate-agent token-key install FILE`"
    )]
    NothingInstalled,
    /// Nothing says which key is right.
    #[error("the registry publishes no token keys for `{0}`; ask the publishing team")]
    NotPublished(Name),
    /// No epoch stands on this day.
    #[error("no epoch of the token keys for `{domain}` stands on {today}; ask the publishing team")]
    NoEpoch {
        /// The domain.
        domain: Name,
        /// The day.
        today: Date,
    },
    /// More than are kept.
    #[error("the site has more tokens than the agent keeps; ask for help")]
    TooMany,
    /// What is published is no key.
    #[error("the published token key for `{domain}` epoch {epoch} is not a key; ask the publishing team")]
    PublishedKey {
        /// The domain.
        domain: Name,
        /// The epoch.
        epoch: u32,
    },
}

/// What a record is of: tokens of one purpose are no tokens of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recorded {
    /// The module.
    pub(crate) module: Name,
    /// The purpose of its manifest.
    pub(crate) purpose: Name,
}

/// The ending of a record of what was sent.
const RECORD: &str = ".record";

/// How this site makes tokens. Cannot be printed.
pub struct Tokens {
    scheme: Scheme,
    /// What this site keeps for itself is encrypted and named with keys derived from it.
    local: LocalKey,
    folder: PathBuf,
    /// The records of what was sent.
    sent: PathBuf,
}

enum Scheme {
    SealedKey(DeliveredKeys),
    /// The keyholder's address.
    Oprf(String),
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.scheme {
            Scheme::SealedKey(_) => "Tokens(sealed-key)",
            Scheme::Oprf(_) => "Tokens(oprf)",
        })
    }
}

/// Who makes tokens, and for what.
pub(crate) struct TokenRules<'a> {
    pub(crate) site: &'a SiteId,
    /// The site's key, which signs what the keyholder is asked.
    pub(crate) key: &'a SigningKey,
    pub(crate) domain: &'a Name,
    /// The published keys of the domain.
    pub(crate) published: Option<&'a TokenKeys>,
    pub(crate) today: Date,
}

impl Tokens {
    /// Opens what the configured scheme needs.
    pub fn open(config: &Config) -> Result<Self, TokensError> {
        let folder = config.state_dir.join("tokens");
        let scheme = match &config.tokens {
            TokensConfig::SealedKey {} => Scheme::SealedKey(DeliveredKeys::of(config)),
            TokensConfig::Oprf { keyholder } => Scheme::Oprf(keyholder.clone()),
        };
        let sent = config.state_dir.join("sent");
        for folder in [&folder, &sent] {
            lockgate_durable::create_private_dir(folder)?;
            lockgate_durable::sweep(folder)?;
        }
        let local = LocalKey::open(&folder.join("local.key"))?;
        Ok(Self { scheme, local, folder, sent })
    }

    /// Whether the configured scheme has what it needs on this computer. Changes nothing.
    pub fn check(config: &Config) -> Result<(), TokensError> {
        match &config.tokens {
            TokensConfig::SealedKey {} => {
                let keys = DeliveredKeys::of(config);
                keys.opening_key_id()?.ok_or(DeliveredKeyError::NoOpeningKey)?;
                if keys.installed()?.is_empty() {
                    return Err(TokensError::NothingInstalled);
                }
                Ok(())
            }
            TokensConfig::Oprf { .. } => Ok(()),
        }
    }

    /// A digest that only this site can make: what was sent is compared by it, and it tells nobody else anything.
    pub(crate) fn private_digest(&self, bytes: &[u8]) -> [u8; 32] {
        self.local.private_digest(bytes)
    }

    /// The record of what a module has sent for a purpose; `sent_before`: whether the ledger says that it has sent anything.
    pub(crate) fn record(
        &self,
        of: &Recorded,
        today: Date,
        sent_before: bool,
    ) -> Result<SentRecord, FileError> {
        let path = self.sent.join(format!("{}.{}{RECORD}", of.purpose, of.module));
        let context = format!("lockgate sent record v1\0{}\0{}", of.purpose, of.module).into_bytes();
        SentRecord::open(path, &self.local, context, crate::crossing::day(today), sent_before)
    }

    /// Every record that there is.
    pub(crate) fn recorded(&self) -> Result<Vec<Recorded>, FileError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.sent).map_err(at("list", &self.sent))? {
            let name = entry.map_err(at("list", &self.sent))?.file_name();
            let parts = name.to_str().and_then(|name| name.strip_suffix(RECORD)?.split_once('.'));
            let recorded = parts.and_then(|(purpose, module)| {
                Some(Recorded { module: module.parse().ok()?, purpose: purpose.parse().ok()? })
            });
            found.extend(recorded);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The tokens of one domain on one day.
    pub(super) fn maker<'a>(&'a self, rules: &TokenRules<'a>) -> Result<TokenMaker<'a>, TokensError> {
        // No key but a published one: a keyholder could otherwise mark a site by a key of its own.
        let published = rules.published.ok_or_else(|| TokensError::NotPublished(rules.domain.clone()))?;
        let current = published
            .current(rules.today)
            .ok_or_else(|| TokensError::NoEpoch { domain: rules.domain.clone(), today: rules.today })?;
        match &self.scheme {
            Scheme::SealedKey(keys) => {
                let missing =
                    || DeliveredKeyError::NotInstalled { domain: rules.domain.clone(), epoch: current.epoch };
                let (key, former) = keys.usable(published, rules.today)?.ok_or_else(missing)?;
                let tokens = SealedTokens::new(rules.domain.as_str(), &key, former.as_ref());
                Ok(TokenMaker::SealedKey(Box::new(tokens)))
            }
            Scheme::Oprf(url) => {
                let former = published.previous(rules.today);
                let oprf = Oprf {
                    url,
                    site: rules.site,
                    key: rules.key,
                    local: &self.local,
                    folder: &self.folder,
                    today: rules.today,
                };
                Ok(TokenMaker::Oprf(Box::new(oprf.domain(rules.domain, current, former)?)))
            }
        }
    }
}

/// Makes the tokens of one run.
pub(super) enum TokenMaker<'a> {
    SealedKey(Box<SealedTokens>),
    Oprf(Box<OprfDomain<'a>>),
}

impl TokenMaker<'_> {
    /// What stands for a token until it is made: equal for equal inputs, and for no others.
    pub(super) fn name(&mut self, input: &Input<'_>) -> InputName {
        match self {
            Self::SealedKey(tokens) => tokens.token(input),
            Self::Oprf(domain) => domain.name(input),
        }
    }

    /// Makes the tokens of these names, all of them or none.
    pub(super) fn make(&mut self, names: impl Iterator<Item = InputName>) -> Result<(), TokensError> {
        match self {
            Self::SealedKey(..) => Ok(()),
            Self::Oprf(domain) => domain.ask(names),
        }
    }

    /// A token that was made, and what episodes of its patient are numbered by.
    pub(super) fn token(&mut self, name: &InputName) -> Result<(Token, PatientSecret), TokensError> {
        match self {
            Self::SealedKey(..) => Ok((*name, PatientSecret::default())),
            Self::Oprf(domain) => domain.token(name).ok_or(TokensError::TooMany),
        }
    }

    /// What a patient's token was, or would have been, in the epoch before, while its key is still in use.
    pub(super) fn former(&mut self, name: &InputName) -> Option<Token> {
        match self {
            Self::SealedKey(tokens) => tokens.former(name),
            Self::Oprf(domain) => domain.former(name),
        }
    }

    /// The scheme and the epoch of what is made.
    pub(super) fn made_under(&self) -> (TokenScheme, u32) {
        match self {
            Self::SealedKey(tokens) => (TokenScheme::SealedKey, tokens.epoch),
            Self::Oprf(domain) => (TokenScheme::Oprf, domain.epoch()),
        }
    }

    /// The epoch before, while its key is still in use.
    pub(super) fn former_epoch(&self) -> Option<u32> {
        match self {
            Self::SealedKey(tokens) => tokens.former_epoch(),
            Self::Oprf(domain) => domain.former_epoch(),
        }
    }

    /// What stays when the tokens are made.
    pub(super) fn finish(self) -> Made {
        let ((scheme, epoch), former_epoch) = (self.made_under(), self.former_epoch());
        let domain = match self {
            Self::SealedKey(tokens) => Some(tokens.domain),
            Self::Oprf(_) => None,
        };
        Made { scheme, epoch, former_epoch, domain }
    }
}

/// How the tokens of a run were made.
pub(super) struct Made {
    pub(super) scheme: TokenScheme,
    pub(super) epoch: u32,
    pub(super) former_epoch: Option<u32>,
    domain: Option<TokenDomain>,
}

impl Made {
    /// The number of an episode of a patient.
    pub(super) fn episode(&self, patient: &Token, secret: &PatientSecret, local_id: &[u8]) -> f64 {
        match &self.domain {
            Some(domain) => domain.episode(patient, local_id),
            None => secret.episode(local_id),
        }
    }
}
