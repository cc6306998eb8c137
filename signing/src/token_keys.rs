//! The published keys of the keyholder: signed data that says under which epoch a domain's tokens are made on a day, and
//! with which key an evaluation has to be proved.
//!
//! A new epoch is announced by adding it with a later first day. While the epoch before it is still open, sites tell the
//! warehouse, sealed, which of its tokens became which. The same epochs hold for sites that have a sealed key in place of a way
//! to the keyholder.

use std::fmt;

use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::keys::PublicKey;
use crate::text_format::{Named, TextFormat, TextFormatError};

/// The most epochs of one document.
pub const EPOCHS_MAX: usize = 16;

/// The keys of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenKeys {
    /// Always 1.
    pub format: u32,
    /// The domain: the purpose of the manifests whose tokens these are.
    pub id: Name,
    /// The document's version.
    pub version: Version,
    /// The Ed25519 key that the keyholder signs sealed keys with (see [`crate::delivery`]): 64 hexadecimal digits. Absent: no
    /// site has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<TokenPublicKey>,
    /// The epochs, the earliest first.
    #[serde(rename = "epoch")]
    pub epochs: Vec<TokenEpoch>,
}

/// One key and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenEpoch {
    /// The epoch's number.
    pub epoch: u32,
    /// The public key: an element of ristretto255, 64 hexadecimal digits.
    pub public_key: TokenPublicKey,
    /// The first day on which tokens are made under it.
    pub from: Date,
    /// The last day on which the keyholder evaluates with it.
    pub until: Date,
}

impl TokenKeys {
    /// The epoch that tokens are made under on a day: the latest that has begun and not ended.
    pub fn current(&self, day: Date) -> Option<&TokenEpoch> {
        self.epochs.iter().rev().find(|epoch| epoch.from <= day && day <= epoch.until)
    }

    /// An epoch by its number.
    pub fn epoch(&self, number: u32) -> Option<&TokenEpoch> {
        self.epochs.iter().find(|epoch| epoch.epoch == number)
    }

    /// The key that the keyholder signs sealed keys with.
    pub fn signing_key(&self) -> Option<PublicKey> {
        // What is not a key was refused when the document was read.
        self.signing_key.and_then(|key| PublicKey::from_bytes(&key.0).ok())
    }

    /// The epoch before the current one, while it is still open: the overlap in which old tokens are mapped to new ones.
    pub fn previous(&self, day: Date) -> Option<&TokenEpoch> {
        let current = self.current(day)?;
        self.epochs.iter().rev().find(|epoch| epoch.epoch < current.epoch && day <= epoch.until)
    }
}

impl TextFormat for TokenKeys {
    const WHAT: &'static str = "list of token keys";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        let wrong = |place: &str, why: &str| Err(TextFormatError::at(Self::WHAT, place, why));
        if self.epochs.is_empty() || self.epochs.len() > EPOCHS_MAX {
            return wrong("epoch", &format!("1 to {EPOCHS_MAX} epochs"));
        }
        if self.signing_key.is_some_and(|key| PublicKey::from_bytes(&key.0).is_err()) {
            return wrong("signing-key", "not an Ed25519 public key");
        }
        for epoch in &self.epochs {
            if epoch.until < epoch.from {
                return wrong(&format!("epoch {}", epoch.epoch), "`until` is before `from`");
            }
        }
        for pair in self.epochs.windows(2) {
            let [before, after] = pair else { continue };
            let place = format!("epoch {}", after.epoch);
            if after.epoch <= before.epoch || after.from <= before.from {
                return wrong(&place, "epochs are in order: a larger number and a later first day");
            }
        }
        for (position, epoch) in self.epochs.iter().enumerate() {
            // The old key under a new number would look like a rotation and be none.
            if self.epochs[..position].iter().any(|other| other.public_key == epoch.public_key) {
                return wrong(&format!("epoch {}", epoch.epoch), "has the key of an earlier epoch");
            }
        }
        Ok(())
    }
}

/// A public key as it is published; what uses it checks that it is an element.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenPublicKey(pub [u8; 32]);

impl fmt::Display for TokenPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for TokenPublicKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str =
            "a public key is 64 lower-case hexadecimal digits, as `lockgate-keyholder keys` prints it";
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| WRONG)?;
        Ok(Self(bytes.try_into().map_err(|_| WRONG)?))
    }
}

impl From<TokenPublicKey> for String {
    fn from(key: TokenPublicKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn keys(epochs: &[(u32, u8, &str, &str)]) -> Result<TokenKeys, TextFormatError> {
        let mut text = "format = 1\nid = \"care-planning\"\nversion = \"1.0.0\"\n".to_owned();
        for (epoch, key, from, until) in epochs {
            let key = TokenPublicKey([*key; 32]);
            text += &format!(
                "[[epoch]]\nepoch = {epoch}\npublic-key = \"{key}\"\nfrom = \"{from}\"\nuntil = \"{until}\"\n"
            );
        }
        TokenKeys::decode(text.as_bytes())
    }

    #[test]
    fn a_day_has_one_epoch_and_an_overlap_has_two() {
        let keys = keys(&[(1, 1, "2026-01-01", "2026-06-30"), (2, 2, "2026-06-01", "2027-06-30")]).unwrap();
        let on = |day| {
            let number = |epoch: Option<&TokenEpoch>| epoch.map(|epoch| epoch.epoch);
            (number(keys.current(day)), number(keys.previous(day)))
        };
        assert_eq!(on(date(2025, 12, 31)), (None, None));
        assert_eq!(on(date(2026, 1, 1)), (Some(1), None));
        assert_eq!(on(date(2026, 5, 31)), (Some(1), None));
        assert_eq!(on(date(2026, 6, 1)), (Some(2), Some(1)));
        assert_eq!(on(date(2026, 6, 30)), (Some(2), Some(1)));
        assert_eq!(on(date(2026, 7, 1)), (Some(2), None));
        assert_eq!(on(date(2027, 7, 1)), (None, None));
        assert_eq!(TokenKeys::decode(keys.encode().unwrap().as_bytes()).unwrap(), keys);
    }

    #[test]
    fn the_key_that_signs_sealed_keys_is_a_key() {
        let with = |key: &str| {
            let text = format!(
                "format = 1\nid = \"care-planning\"\nversion = \"1.0.0\"\nsigning-key = \"{key}\"\n\
                 [[epoch]]\nepoch = 1\npublic-key = \"{}\"\nfrom = \"2026-01-01\"\nuntil = \"2026-06-30\"\n",
                "01".repeat(32)
            );
            TokenKeys::decode(text.as_bytes())
        };
        let key = crate::keys::SigningKey::from_seed(&zeroize::Zeroizing::new([1; 32])).public();
        let read = with(&data_encoding::HEXLOWER.encode(&key.to_bytes())).unwrap();
        assert_eq!(read.signing_key(), Some(key));
        assert_eq!(TokenKeys::decode(read.encode().unwrap().as_bytes()).unwrap(), read);
        // No point of the curve has this y.
        assert!(with(&format!("02{}", "00".repeat(31))).unwrap_err().to_string().contains("signing-key"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let first = (1, 1, "2026-01-01", "2026-06-30");
        let error = |epochs: &[_]| keys(epochs).unwrap_err().to_string();
        assert!(error(&[]).contains("epoch"));
        assert!(error(&[(1, 1, "2026-01-02", "2026-01-01")]).contains("before `from`"));
        assert!(error(&[first, (1, 2, "2026-06-01", "2026-07-01")]).contains("in order"));
        assert!(error(&[first, (2, 2, "2026-01-01", "2026-07-01")]).contains("in order"));
        assert!(error(&[first, (2, 1, "2026-06-01", "2026-07-01")]).contains("key of an earlier epoch"));
    }
}
