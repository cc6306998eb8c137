//! The two ways to make a token, behind one interface: ask for names, have them made, look tokens up.

use std::path::PathBuf;

use jiff::civil::Date;
use lockgate_durable::FileError;
use lockgate_signing::block::Token;
use lockgate_signing::bundle::TokenScheme;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::token_keys::TokenKeys;

use super::cache::{InputName, SaveError};
use super::inputs::Input;
use super::keyholder::KeyholderError;
use super::local_key::LocalKeyError;
use super::oprf::{Oprf, OprfDomain, PatientSecret};
use super::sealed_key::{TokenDomain, TokenKey, TokenKeyError};
use crate::config::{Config, TokensConfig};

/// Tokens cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The key of the sealed-key scheme.
    #[error(transparent)]
    Key(#[from] TokenKeyError),
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

/// How this site makes tokens. Cannot be printed.
pub struct Tokens {
    scheme: Scheme,
    folder: PathBuf,
}

enum Scheme {
    SealedKey(TokenKey),
    Oprf(Box<Oprf>),
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.scheme {
            Scheme::SealedKey(key) => write!(f, "Tokens({key:?})"),
            Scheme::Oprf(_) => f.write_str("Tokens(oprf)"),
        }
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
            TokensConfig::SealedKey { key_file, epoch } => {
                Scheme::SealedKey(TokenKey::load(key_file, *epoch)?)
            }
            TokensConfig::Oprf { keyholder } => Scheme::Oprf(Box::new(Oprf::open(keyholder, &folder)?)),
        };
        Ok(Self { scheme, folder })
    }

    /// Whether the configured scheme has what it needs on this computer. Changes nothing.
    pub fn check(config: &Config) -> Result<(), TokensError> {
        match &config.tokens {
            TokensConfig::SealedKey { key_file, epoch } => Ok(TokenKey::load(key_file, *epoch).map(drop)?),
            TokensConfig::Oprf { .. } => Ok(()),
        }
    }

    /// A digest that only this site can make: what was sent is compared by it, and it tells nobody else anything.
    pub(crate) fn private_digest(&self, bytes: &[u8]) -> [u8; 32] {
        match &self.scheme {
            Scheme::SealedKey(key) => key.private_digest(bytes),
            Scheme::Oprf(oprf) => oprf.private_digest(bytes),
        }
    }

    /// The tokens of one domain on one day.
    pub(super) fn maker<'a>(&'a self, rules: &TokenRules<'a>) -> Result<TokenMaker<'a>, TokensError> {
        match &self.scheme {
            Scheme::SealedKey(key) => Ok(TokenMaker::SealedKey(key.domain(rules.domain.as_str()), key.epoch)),
            Scheme::Oprf(oprf) => {
                // No key but a published one: a keyholder could otherwise mark a site by a key of its own.
                let published =
                    rules.published.ok_or_else(|| TokensError::NotPublished(rules.domain.clone()))?;
                let epoch = published.current(rules.today).ok_or_else(|| TokensError::NoEpoch {
                    domain: rules.domain.clone(),
                    today: rules.today,
                })?;
                let asker = (rules.site, rules.key);
                let domain = oprf.domain(asker, rules.domain, epoch, &self.folder, rules.today)?;
                Ok(TokenMaker::Oprf(Box::new(domain)))
            }
        }
    }
}

/// Makes the tokens of one run.
pub(super) enum TokenMaker<'a> {
    SealedKey(TokenDomain, u32),
    Oprf(Box<OprfDomain<'a>>),
}

impl TokenMaker<'_> {
    /// What stands for a token until it is made: equal for equal inputs, and for no others.
    pub(super) fn name(&mut self, input: &Input<'_>) -> InputName {
        match self {
            Self::SealedKey(domain, _) => domain.token(input),
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
            Self::Oprf(domain) => domain.evaluation(name).ok_or(TokensError::TooMany),
        }
    }

    /// What stays when the tokens are made.
    pub(super) fn finish(self) -> Made {
        match self {
            Self::SealedKey(domain, epoch) => {
                Made { scheme: TokenScheme::SealedKey, epoch, domain: Some(domain) }
            }
            Self::Oprf(domain) => Made { scheme: TokenScheme::Oprf, epoch: domain.epoch, domain: None },
        }
    }
}

/// How the tokens of a run were made.
pub(super) struct Made {
    pub(super) scheme: TokenScheme,
    pub(super) epoch: u32,
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
