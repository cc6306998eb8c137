//! The pairs of keys by which the warehouse is a recipient: one that opens what is sent to it, and one that it signs with.
//!
//! A pair has a name, which is the recipient's in the published list. A new pair is made when the old one's days come to an
//! end; old pairs stay as long as something may still have to be opened with them.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use lockgate_durable::key_file::{self, KeyFileError};
use lockgate_durable::{FileError, at};
use lockgate_signing::ids::Name;
use lockgate_signing::keys::SigningKey;
use lockgate_signing::recipients::{Recipient, RecipientSigningKey};
use lockgate_signing::sealed::{OpeningKey, SealingKeyId};
use zeroize::Zeroizing;

use crate::config::DataFolder;

/// Keys cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key that signs.
    #[error(transparent)]
    Signing(#[from] KeyFileError),
    /// The key that opens.
    #[error("{}: not an X25519 private key in PEM; restore it from a backup", .0.display())]
    Opening(PathBuf),
    /// No randomness, no key.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
    /// A name that is taken.
    #[error("there are keys named {0} already; nothing was changed")]
    Taken(Name),
    /// Nothing to open with.
    #[error("there are no keys yet; make them with `lockgate-warehouse key new NAME`")]
    None,
    /// Days that are none.
    #[error("the first day {0} is after the last day {1}")]
    Days(Date, Date),
}

/// A pair of keys.
#[derive(Debug)]
pub struct KeyPair {
    /// What it is called in the list of recipients.
    pub name: Name,
    /// Opens bundles.
    pub opening: OpeningKey,
    /// Signs requests and deletion statements.
    pub signing: SigningKey,
}

const OPENING: &str = "opening-key.pem";
const SIGNING: &str = "signing-key.pem";

impl KeyPair {
    /// Makes a pair and writes it to two private files.
    pub fn create(data: &DataFolder, name: &Name) -> Result<Self, KeysError> {
        let folder = data.key(name);
        if folder.join(OPENING).exists() {
            return Err(KeysError::Taken(name.clone()));
        }
        lockgate_durable::create_private_dir(&folder)?;
        // The key that opens is last: it is what makes the pair. One that signs and is there already has signed nothing yet.
        let path = folder.join(SIGNING);
        let signing = if path.exists() { key_file::load(&path)? } else { key_file::create(&path)? };
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(KeysError::Randomness)?;
        let opening = OpeningKey::from_seed(&seed);
        lockgate_durable::write_private(&folder.join(OPENING), opening.to_pem().as_bytes())?;
        Ok(Self { name: name.clone(), opening, signing })
    }

    fn load(name: Name, folder: &Path) -> Result<Self, KeysError> {
        let path = folder.join(OPENING);
        let pem = lockgate_durable::read_private(&path)?;
        let opening = OpeningKey::from_pem(std::str::from_utf8(&pem).unwrap_or_default());
        let opening = opening.map_err(|_| KeysError::Opening(path))?;
        Ok(Self { name, opening, signing: key_file::load(&folder.join(SIGNING))? })
    }

    /// What the publishing team puts into the list of recipients.
    pub fn recipient(&self, not_before: Date, not_after: Date) -> Result<Recipient, KeysError> {
        if not_before > not_after {
            return Err(KeysError::Days(not_before, not_after));
        }
        let public_key = self.opening.public();
        Ok(Recipient {
            name: self.name.clone(),
            public_key,
            key_id: public_key.id(),
            signing_key: RecipientSigningKey(self.signing.public()),
            not_before,
            not_after,
        })
    }
}

/// Every pair, in the order of their names.
#[derive(Debug)]
pub struct KeyPairs(Vec<KeyPair>);

impl KeyPairs {
    /// Reads all pairs; none is an error.
    pub fn load(data: &DataFolder) -> Result<Self, KeysError> {
        let folder = data.keys();
        let mut pairs = Vec::new();
        if folder.exists() {
            for entry in std::fs::read_dir(&folder).map_err(at("list", &folder))? {
                let path = entry.map_err(at("list", &folder))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                // A pair without the key that opens was never finished.
                if let Some(name) = name.filter(|_| path.join(OPENING).exists()) {
                    pairs.push(KeyPair::load(name, &path)?);
                }
            }
        }
        pairs.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        if pairs.is_empty() { Err(KeysError::None) } else { Ok(Self(pairs)) }
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &KeyPair> {
        self.0.iter()
    }

    /// The pair with this name; without one, the last by name.
    pub fn named(&self, name: Option<&Name>) -> Option<&KeyPair> {
        match name {
            Some(name) => self.0.iter().find(|pair| pair.name == *name),
            None => self.0.last(),
        }
    }

    /// The pairs to which something is sealed.
    pub fn of(&self, ids: &[SealingKeyId]) -> Vec<&KeyPair> {
        self.0.iter().filter(|pair| ids.contains(&pair.opening.public().id())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_pair_is_private_and_is_never_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::new(dir.path());
        assert!(matches!(KeyPairs::load(&data), Err(KeysError::None)));
        let name: Name = "warehouse-2026".parse().unwrap();
        let made = KeyPair::create(&data, &name).unwrap();
        assert!(matches!(KeyPair::create(&data, &name), Err(KeysError::Taken(_))));
        for file in [OPENING, SIGNING] {
            let mode = std::fs::metadata(data.key(&name).join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let loaded = KeyPairs::load(&data).unwrap();
        let again = loaded.named(None).unwrap();
        let (first, last) = (date(2026, 1, 1), date(2026, 12, 31));
        assert_eq!(again.recipient(first, last).unwrap(), made.recipient(first, last).unwrap());
        assert_eq!(loaded.of(&[made.opening.public().id()]).len(), 1);
        assert!(made.recipient(last, first).is_err());
    }

    /// A crash between the two files leaves no pair, and the next attempt makes it whole.
    #[test]
    fn a_pair_that_was_cut_off_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::new(dir.path());
        let name: Name = "warehouse".parse().unwrap();
        lockgate_durable::create_private_dir(&data.key(&name)).unwrap();
        let signing = key_file::create(&data.key(&name).join(SIGNING)).unwrap();
        assert!(matches!(KeyPairs::load(&data), Err(KeysError::None)));
        assert_eq!(KeyPair::create(&data, &name).unwrap().signing.public(), signing.public());
    }
}
