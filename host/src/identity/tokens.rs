//! Tokens: keyed pseudonyms of patients, by the `sealed-key` scheme (HMAC-SHA-256, RFC 2104, cut to 128 bits).
//!
//! A token is `HMAC(key, label ‖ 0 ‖ domain ‖ 0 ‖ epoch ‖ 0 ‖ kind ‖ 0 ‖ parts)`, the parts normalised and ended by a zero
//! byte each, so that no two inputs have the same bytes. The same person has the same token at every site of the same
//! purpose and key epoch, and unrelated ones under another.

use std::fmt;
use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::civil::Date;
use lockgate_durable::FileError;
use lockgate_signing::block::Token;
use lockgate_signing::manifest::LinkKind;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::nhs_number::NhsNumber;

const LABEL: &[u8] = b"lockgate token v1";

/// The pseudonym key, and what its tokens are for.
#[derive(Clone)]
pub struct TokenKey {
    key: Zeroizing<[u8; 32]>,
    /// The key's epoch.
    pub epoch: u32,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey(epoch {})", self.epoch)
    }
}

/// The key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error("{0} does not hold a pseudonym key: 64 hexadecimal digits on one line")]
    Content(String),
}

impl TokenKey {
    /// Reads the key from its file (64 hexadecimal digits, mode 0600).
    pub fn load(path: &Path, epoch: u32) -> Result<Self, TokenKeyError> {
        let text = lockgate_durable::read_private(path)?;
        let wrong = || TokenKeyError::Content(path.display().to_string());
        let mut key = Zeroizing::new([0; 32]);
        let digits = text.trim_ascii();
        if digits.len() != 64 {
            return Err(wrong());
        }
        data_encoding::HEXLOWER.decode_mut(digits, key.as_mut_slice()).map_err(|_| wrong())?;
        Ok(Self { key, epoch })
    }

    /// A key for tests and for tools that make one.
    pub fn from_bytes(key: Zeroizing<[u8; 32]>, epoch: u32) -> Self {
        Self { key, epoch }
    }

    /// The tokens of one purpose.
    pub(crate) fn domain(&self, purpose: &str) -> TokenDomain {
        // The part of the message that is the same for every patient is absorbed once.
        let mut mac = self.keyed();
        mac.update(LABEL);
        mac.update(&[0]);
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(&self.epoch.to_be_bytes());
        mac.update(&[0]);
        TokenDomain { mac }
    }

    /// A digest that only this site can make: what was sent is compared by it, and it tells nobody else anything.
    pub(crate) fn private_digest(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = self.keyed();
        mac.update(b"lockgate content v1\0");
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    fn keyed(&self) -> Hmac<Sha256> {
        // HMAC takes a key of any length; this one is always 32 bytes, so there is no error to hand on.
        #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
        Hmac::<Sha256>::new_from_slice(self.key.as_slice()).expect("a key of 32 bytes")
    }
}

/// Makes the tokens of one purpose and epoch.
#[derive(Clone)]
pub(crate) struct TokenDomain {
    mac: Hmac<Sha256>,
}

/// The identifying parts of a person, normalised. Cannot be printed or serialised.
pub(crate) struct IdentityParts<'a> {
    pub(crate) nhs_number: Option<NhsNumber>,
    pub(crate) birth_date: Option<Date>,
    pub(crate) sex: &'static str,
    pub(crate) postcode: Option<&'a [u8]>,
}

impl TokenDomain {
    fn token(&self, kind: &str, parts: &[&[u8]]) -> Token {
        let mut mac = self.mac.clone();
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        for part in parts {
            mac.update(part);
            mac.update(&[0]);
        }
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut token = Token::default();
        token.copy_from_slice(&full[..16]);
        token
    }

    /// The patient token of somebody with a valid NHS number.
    pub(crate) fn of_nhs_number(&self, number: &NhsNumber) -> Token {
        self.token("patient", &[number.digits()])
    }

    /// The patient token of somebody without one: it means something at this site only.
    pub(crate) fn of_local_id(&self, site: &str, local_id: &[u8]) -> Token {
        self.token("local-patient", &[site.as_bytes(), local_id])
    }

    /// The link token of one kind; `None` where a part is missing.
    pub(crate) fn link(&self, kind: LinkKind, parts: &IdentityParts<'_>) -> Option<Token> {
        let birth_date =
            parts.birth_date.filter(|date| date.year() >= EARLIEST_BIRTH_YEAR).map(|date| date.to_string());
        let birth_date = birth_date.as_deref().map(str::as_bytes);
        let sex = parts.sex.as_bytes();
        let nhs_number = parts.nhs_number.as_ref().map(|number| number.digits().as_slice());
        Some(match kind {
            LinkKind::NhsNumber => self.token(kind.name(), &[nhs_number?]),
            LinkKind::NhsNumberBirthDateSex => self.token(kind.name(), &[nhs_number?, birth_date?, sex]),
            LinkKind::BirthDateSexPostcode => {
                let postcode = normalise_postcode(parts.postcode?)?;
                self.token(kind.name(), &[birth_date?, sex, postcode.as_bytes()])
            }
        })
    }

    /// A number for a local episode id: 53 bits, so that it is exact as a number.
    pub(crate) fn episode(&self, patient: &Token, local_id: &[u8]) -> f64 {
        let token = self.token("episode", &[patient, local_id]);
        let bits = token[..8].iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        (bits >> 11) as f64
    }
}

/// Earlier birth years are not used for linkage (HES linkage rules).
const EARLIEST_BIRTH_YEAR: i16 = 1895;

/// Upper case without spaces; `None` where it has not the shape of a postcode or is a pseudo-postcode (`ZZ99 …`).
fn normalise_postcode(text: &[u8]) -> Option<String> {
    let text: String = std::str::from_utf8(text).ok()?.chars().filter(|letter| *letter != ' ').collect();
    let text = text.to_ascii_uppercase();
    let bytes = text.as_bytes();
    let inward = bytes.len().checked_sub(3).map(|at| &bytes[at..])?;
    let shaped = (5..=7).contains(&bytes.len())
        && bytes[0].is_ascii_uppercase()
        && bytes.iter().all(u8::is_ascii_alphanumeric)
        && inward[0].is_ascii_digit()
        && inward[1..].iter().all(u8::is_ascii_uppercase);
    (shaped && !text.starts_with("ZZ99")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TokenKey {
        TokenKey::from_bytes(Zeroizing::new([7; 32]), 1)
    }

    #[test]
    fn a_token_depends_on_purpose_epoch_and_person_and_on_nothing_else() {
        let number = NhsNumber::parse(b"9434765919").unwrap();
        let same = NhsNumber::parse(b"943 476 5919").unwrap();
        let other = NhsNumber::parse(b"4010232137").unwrap();
        let token = key().domain("a").of_nhs_number(&number);
        assert_eq!(token, key().domain("a").of_nhs_number(&same));
        assert_ne!(token, key().domain("a").of_nhs_number(&other));
        assert_ne!(token, key().domain("b").of_nhs_number(&number));
        let later = TokenKey::from_bytes(Zeroizing::new([7; 32]), 2);
        assert_ne!(token, later.domain("a").of_nhs_number(&number));
        assert_ne!(
            key().domain("a").of_local_id("A81001", b"1"),
            key().domain("a").of_local_id("A8100", b"11")
        );
    }

    #[test]
    fn link_tokens_need_all_their_parts() {
        let domain = key().domain("a");
        let parts = |postcode: &'static [u8]| IdentityParts {
            nhs_number: None,
            birth_date: Some(jiff::civil::date(1970, 1, 1)),
            sex: "female",
            postcode: Some(postcode),
        };
        let link = |postcode| domain.link(LinkKind::BirthDateSexPostcode, &parts(postcode));
        assert_eq!(link(b"sw1a 2aa"), link(b"SW1A2AA"));
        assert!(link(b"SW1A 2AA").is_some());
        for unusable in [b"ZZ99 3VZ".as_slice(), b"", b"unknown", b"SW1A"] {
            assert!(link(unusable).is_none());
        }
        assert!(domain.link(LinkKind::NhsNumber, &parts(b"SW1A 2AA")).is_none());
    }
}
