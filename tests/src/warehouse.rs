//! The warehouse's keys: the only ones that open a bundle.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lockgate_signing::keys::SigningKey;
use lockgate_signing::recipients::{Recipient, RecipientSigningKey, Recipients};
use lockgate_signing::sealed::OpeningKey;
use lockgate_signing::text_format::TextFormat as _;
use semver::Version;
use zeroize::Zeroizing;

/// The name of the list that sites are configured with.
pub const RECIPIENTS: &str = "warehouse-england";

/// A warehouse's keys, in a folder.
#[derive(Debug, Clone)]
pub struct WarehouseKeys {
    folder: PathBuf,
}

impl WarehouseKeys {
    /// The keys in `folder/warehouse`; they are made where there are none.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        Self::named(folder, "warehouse")
    }

    /// Other keys, in `folder/<name>`, for example those of the next year.
    pub fn named(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let keys = Self { folder: folder.join(name) };
        if !keys.folder.exists() {
            std::fs::create_dir(&keys.folder)?;
            let opening = OpeningKey::from_seed(&seed()?);
            lockgate_durable::write_private(&keys.opening_path(), opening.to_pem().as_bytes())?;
            let signing = SigningKey::from_seed(&seed()?);
            lockgate_durable::write_private(&keys.signing_path(), signing.to_pem()?.as_bytes())?;
        }
        Ok(keys)
    }

    /// The file of the key that opens.
    pub fn opening_path(&self) -> PathBuf {
        self.folder.join("opening-key.pem")
    }

    /// The file of the key that signs.
    pub fn signing_path(&self) -> PathBuf {
        self.folder.join("signing-key.pem")
    }

    /// The key that opens.
    pub fn opening(&self) -> anyhow::Result<OpeningKey> {
        let pem = std::fs::read_to_string(self.opening_path()).context("the warehouse has no key")?;
        Ok(OpeningKey::from_pem(&pem)?)
    }

    /// The recipient that these keys are, for these days.
    pub fn recipient(&self, not_before: &str, not_after: &str) -> anyhow::Result<Recipient> {
        let public_key = self.opening()?.public();
        let signing = SigningKey::from_pem(&std::fs::read_to_string(self.signing_path())?)?.public();
        let name = self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(Recipient {
            name: name.parse()?,
            public_key,
            key_id: public_key.id(),
            signing_key: RecipientSigningKey(signing),
            not_before: not_before.parse()?,
            not_after: not_after.parse()?,
        })
    }
}

/// Writes a list of recipients to a file and returns its path.
pub fn write_recipients(
    file: PathBuf,
    version: Version,
    recipients: Vec<Recipient>,
) -> anyhow::Result<PathBuf> {
    let list = Recipients { format: 1, id: RECIPIENTS.parse()?, version, recipients };
    std::fs::write(&file, list.encode()?)?;
    Ok(file)
}

fn seed() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())?;
    Ok(seed)
}
