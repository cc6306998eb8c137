//! The `sealed-key` scheme: the site holds the key, and a token is HMAC-SHA-256 (RFC 2104) of its input, cut to 128 bits.
//!
//! For sites without a way to the keyholder; how the key gets there is in `delivered.rs`. Weaker, and named so in every header:
//! who takes the key from a site can make the token of anybody.

use std::collections::HashMap;
use std::fmt;

use hashbrown::DefaultHashBuilder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use lockgate_signing::block::Token;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::inputs::{Input, prefix};
use super::nhs_number::NhsNumber;

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

impl TokenKey {
    /// A key from what was sealed.
    pub fn from_bytes(key: Zeroizing<[u8; 32]>, epoch: u32) -> Self {
        Self { key, epoch }
    }

    /// The patient tokens of NHS numbers as people write them, for one purpose; none where a number is not valid. For the tools of
    /// those who hold a key.
    pub fn tokens_of_nhs_numbers<T: AsRef<[u8]>>(&self, purpose: &str, numbers: &[T]) -> Vec<Option<Token>> {
        let domain = self.domain(purpose);
        let token =
            |number: &T| Some(domain.token(&Input::of_nhs_number(&NhsNumber::parse(number.as_ref())?)));
        numbers.iter().map(token).collect()
    }

    /// The tokens of one purpose.
    pub(crate) fn domain(&self, purpose: &str) -> TokenDomain {
        // The part of the input that is the same for every patient is absorbed once.
        let mut mac = keyed(&self.key);
        prefix(purpose, self.epoch, |piece| mac.update(piece));
        TokenDomain { mac }
    }
}

/// HMAC with a key of 32 bytes.
pub(super) fn keyed(key: &Zeroizing<[u8; 32]>) -> Hmac<Sha256> {
    // HMAC takes a key of any length, so there is no error to hand on.
    #[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
    Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("a key of 32 bytes")
}

/// Makes the tokens of one purpose and epoch.
#[derive(Clone)]
pub(crate) struct TokenDomain {
    mac: Hmac<Sha256>,
}

impl TokenDomain {
    /// The token of an input.
    pub(crate) fn token(&self, input: &Input<'_>) -> Token {
        self.cut(input.kind, input.parts())
    }

    /// A number for a local episode id: 53 bits, so that it is exact as a number.
    pub(crate) fn episode(&self, patient: &Token, local_id: &[u8]) -> f64 {
        number(&self.cut("episode", &[patient, local_id]))
    }

    fn cut(&self, kind: &str, parts: &[&[u8]]) -> Token {
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
}

/// The tokens of one run: a domain and an epoch, and those of the epoch before while its key is in use.
pub(super) struct SealedTokens {
    pub(super) domain: TokenDomain,
    pub(super) epoch: u32,
    former: Option<Former>,
}

struct Former {
    epoch: u32,
    domain: TokenDomain,
    /// What each patient's token was.
    tokens: HashMap<Token, Token, DefaultHashBuilder>,
}

impl SealedTokens {
    pub(super) fn new(purpose: &str, key: &TokenKey, former: Option<&TokenKey>) -> Self {
        let former = former.map(|key| Former {
            epoch: key.epoch,
            domain: key.domain(purpose),
            tokens: HashMap::default(),
        });
        Self { domain: key.domain(purpose), epoch: key.epoch, former }
    }

    /// The token of an input.
    pub(super) fn token(&mut self, input: &Input<'_>) -> Token {
        let token = self.domain.token(input);
        if let Some(former) = self.former.as_mut().filter(|_| input.is_of_a_patient()) {
            former.tokens.entry(token).or_insert_with(|| former.domain.token(input));
        }
        token
    }

    /// What a token was in the epoch before.
    pub(super) fn former(&self, token: &Token) -> Option<Token> {
        self.former.as_ref()?.tokens.get(token).copied()
    }

    /// The epoch before, where its tokens are made too.
    pub(super) fn former_epoch(&self) -> Option<u32> {
        self.former.as_ref().map(|former| former.epoch)
    }
}

/// The first 53 bits.
pub(super) fn number(bytes: &[u8]) -> f64 {
    let bits = bytes[..8].iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64
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
        let token = |key: TokenKey, purpose, number| key.domain(purpose).token(&Input::of_nhs_number(number));
        let first = token(key(), "a", &number);
        assert_eq!(first, token(key(), "a", &same));
        assert_ne!(first, token(key(), "a", &other));
        assert_ne!(first, token(key(), "b", &number));
        assert_ne!(first, token(TokenKey::from_bytes(Zeroizing::new([7; 32]), 2), "a", &number));
    }

    #[test]
    fn what_is_absorbed_at_once_and_what_is_written_whole_agree() {
        let input = Input::of_local_id("A81001", b"17");
        let mut mac = keyed(&key().key);
        mac.update(&input.bytes("a", 1));
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        assert_eq!(key().domain("a").token(&input).as_slice(), &whole[..16]);
    }
}
