//! The recipients: signed data that says to whose keys bundles are encrypted, and on which days.
//!
//! A key is rotated by a new version of the list in which the new key begins before the old one ends. In between, bundles
//! can be opened with either.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use jiff::civil::Date;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::keys::PublicKey;
use crate::sealed::{SealingKey, SealingKeyId};
use crate::text_format::{Named, TextFormat, TextFormatError, check_days};

/// The most recipients of one list, and of one bundle.
pub const RECIPIENTS_MAX: usize = 16;

/// A list of recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipients {
    /// Always 1.
    pub format: u32,
    /// The list's id.
    pub id: Name,
    /// The list's version.
    pub version: Version,
    /// The recipients.
    #[serde(rename = "recipient")]
    pub recipients: Vec<Recipient>,
}

/// One recipient's keys and their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipient {
    /// What to call it; two keys of one recipient have two names.
    pub name: Name,
    /// The X25519 key that bundles are encrypted to: 64 hexadecimal digits.
    pub public_key: SealingKey,
    /// The key's id, as bundles name it: the SHA-256 of its 32 bytes.
    pub key_id: SealingKeyId,
    /// The Ed25519 key that the recipient signs with, as 64 hexadecimal digits.
    pub signing_key: RecipientSigningKey,
    /// The first day on which bundles are encrypted to it.
    pub not_before: Date,
    /// The last day.
    pub not_after: Date,
}

impl Recipients {
    /// The recipients of a day.
    pub fn on(&self, day: Date) -> impl Iterator<Item = &Recipient> {
        self.recipients.iter().filter(move |it| it.not_before <= day && day <= it.not_after)
    }

    /// The key that a recipient signs with, of any day: what was signed stays signed.
    pub fn signing_key(&self, id: crate::keys::KeyId) -> Option<&PublicKey> {
        self.recipients.iter().map(|it| &it.signing_key.0).find(|key| key.id() == id)
    }
}

impl TextFormat for Recipients {
    const WHAT: &'static str = "list of recipients";

    fn named(&self) -> Named<'_> {
        Named { format: self.format, id: &self.id, version: &self.version }
    }

    fn check(&self) -> Result<(), TextFormatError> {
        let wrong = |place: &str, why: &str| Err(TextFormatError::at(Self::WHAT, place, why));
        if self.recipients.is_empty() || self.recipients.len() > RECIPIENTS_MAX {
            return wrong("recipient", &format!("1 to {RECIPIENTS_MAX} recipients"));
        }
        for (position, it) in self.recipients.iter().enumerate() {
            let place = format!("recipient {}", it.name);
            check_days(Self::WHAT, &place, Some(it.not_before), Some(it.not_after))?;
            if it.key_id != it.public_key.id() {
                // Two digits swapped would otherwise make a key that nobody has.
                return wrong(&place, &format!("`key-id` is not the key's, which is {}", it.public_key.id()));
            }
            let before = &self.recipients[..position];
            if before.iter().any(|other| other.name == it.name || other.key_id == it.key_id) {
                return wrong(&place, "has the name or the key of an earlier one");
            }
        }
        Ok(())
    }
}

/// The key that a recipient signs with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecipientSigningKey(pub PublicKey);

impl fmt::Display for RecipientSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0.to_bytes()))
    }
}

impl fmt::Debug for RecipientSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for RecipientSigningKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for RecipientSigningKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "a signing key is 64 lower-case hexadecimal digits, those of an Ed25519 public key";
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| WRONG)?;
        let bytes = bytes.try_into().map_err(|_| WRONG)?;
        PublicKey::from_bytes(&bytes).map(Self).map_err(|_| WRONG)
    }
}

impl From<RecipientSigningKey> for String {
    fn from(key: RecipientSigningKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::civil::date;
    use zeroize::Zeroizing;

    use super::*;
    use crate::keys::SigningKey;
    use crate::sealed::OpeningKey;

    pub(crate) fn recipient(name: &str, seed: u8, not_before: Date, not_after: Date) -> Recipient {
        let public_key = OpeningKey::from_seed(&Zeroizing::new([seed; 32])).public();
        let signing_key = RecipientSigningKey(SigningKey::from_seed(&Zeroizing::new([seed; 32])).public());
        let name = name.parse().unwrap();
        Recipient { name, public_key, key_id: public_key.id(), signing_key, not_before, not_after }
    }

    fn list(recipients: Vec<Recipient>) -> Recipients {
        let (id, version) = ("warehouse-england".parse().unwrap(), Version::new(1, 0, 0));
        Recipients { format: 1, id, version, recipients }
    }

    fn read(list: &Recipients) -> Result<Recipients, TextFormatError> {
        Recipients::decode(list.encode().unwrap().as_bytes())
    }

    #[test]
    fn a_rotation_overlaps() {
        let rotation = list(vec![
            recipient("warehouse-2026", 1, date(2026, 1, 1), date(2026, 12, 31)),
            recipient("warehouse-2027", 2, date(2026, 12, 1), date(2027, 12, 31)),
        ]);
        assert_eq!(read(&rotation).unwrap(), rotation);
        let on = |day| rotation.on(day).map(|it| it.name.as_str()).collect::<Vec<_>>();
        assert!(on(date(2025, 12, 31)).is_empty());
        assert_eq!(on(date(2026, 11, 30)), ["warehouse-2026"]);
        assert_eq!(on(date(2026, 12, 1)), ["warehouse-2026", "warehouse-2027"]);
        assert_eq!(on(date(2027, 1, 1)), ["warehouse-2027"]);
        assert!(on(date(2028, 1, 1)).is_empty());
    }

    #[test]
    fn the_example_of_the_document_is_one() {
        let document = include_str!("../../docs/FORMAT.md");
        let start = document.find("format = 1\nid = \"warehouse-england\"").unwrap();
        let text = &document[start..start + document[start..].find("```").unwrap()];
        let example = Recipients::decode(text.as_bytes()).unwrap();
        let key = recipient("warehouse-2026", 3, date(2026, 1, 1), date(2026, 12, 31));
        assert_eq!(example.recipients, [key]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (first, last) = (date(2026, 1, 1), date(2026, 12, 31));
        let one = || recipient("one", 1, first, last);
        let error = |recipients| read(&list(recipients)).unwrap_err().to_string();
        assert!(error(vec![]).contains("1 to 16"));
        assert!(error(vec![recipient("one", 1, last, first)]).contains("`not-before` 2026-12-31"));
        let other_id = recipient("one", 2, first, last).key_id;
        assert!(error(vec![Recipient { key_id: other_id, ..one() }]).contains("`key-id` is not the key's"));
        assert!(error(vec![one(), recipient("two", 1, first, last)]).contains("recipient two"));
        assert!(error(vec![one(), recipient("one", 2, first, last)]).contains("recipient one"));
        // A key of small order would make what is sealed to it readable by everybody.
        let weak =
            list(vec![one()]).encode().unwrap().replace(&one().public_key.to_string(), &"00".repeat(32));
        assert!(Recipients::decode(weak.as_bytes()).is_err());
    }
}
