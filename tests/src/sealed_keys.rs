//! The token keys of a stage whose sites have sealed keys, sealed and signed as the keyholder does it, by the same code.
//!
//! How a key gets to a site through the programs is tested in `end_to_end/sealed_keys.rs`; every other site has its keys from
//! here, without a keyholder's slow passphrase for each.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lockgate_signing::delivery::{TokenKeyDelivery, TokenKeyRequest};
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::sealed::OpeningKey;
use lockgate_signing::token_keys::TokenPublicKey;
use zeroize::Zeroizing;

use crate::site::Site;

/// The purposes of the modules that the examples and the tests publish.
pub const PURPOSES: [&str; 3] = ["care-data", "diabetes-audit", "test"];
const EPOCH: u32 = 1;

/// A keyholder's office for sealed keys: one secret in a file.
#[derive(Debug, Clone)]
pub struct SealedKeys {
    secret: PathBuf,
}

impl SealedKeys {
    /// That of a stage's folder; made where there is none.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let secret = folder.join("token-key-secret");
        if !secret.exists() {
            lockgate_durable::write_private(&secret, random()?.as_slice())?;
        }
        Ok(Self { secret })
    }

    /// That of the sample in `examples/registry/token-keys`, whose secret is no secret; `folder` is an empty one.
    pub fn of_the_sample(folder: &Path) -> anyhow::Result<Self> {
        lockgate_durable::write_private(&folder.join("token-key-secret"), &[3; 32])?;
        Self::in_folder(folder)
    }

    fn secret(&self) -> anyhow::Result<Zeroizing<[u8; 32]>> {
        let bytes = std::fs::read(&self.secret)?;
        Ok(Zeroizing::new(bytes.try_into().ok().context("the secret has 32 bytes")?))
    }

    /// What follows the head of the published document, for any purpose: one epoch for all days of all tests.
    pub fn document(&self) -> anyhow::Result<String> {
        let signing = TokenPublicKey(SigningKey::from_seed(&self.secret()?).public().to_bytes());
        // Nothing is evaluated with the public key, that of the sample: the sites have sealed keys.
        let public = "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76";
        Ok(format!(
            "signing-key = \"{signing}\"\n\n[[epoch]]\nepoch = {EPOCH}\npublic-key = \"{public}\"\nfrom = \"2020-01-01\"\n\
             until = \"2039-12-31\"\n"
        ))
    }

    /// Gives a site its opening key and a key for each purpose of [`PURPOSES`]; one that has them keeps them.
    pub fn install(&self, site: &Site) -> anyhow::Result<()> {
        self.install_for(site, &PURPOSES)
    }

    /// The same for other purposes.
    pub fn install_for(&self, site: &Site, purposes: &[&str]) -> anyhow::Result<()> {
        if site.state().join("opening-key.pem").exists() {
            return Ok(());
        }
        let (secret, opening) = (self.secret()?, OpeningKey::from_seed(&random()?));
        lockgate_durable::write_private(&site.state().join("opening-key.pem"), opening.to_pem().as_bytes())?;
        let (site_id, keys): (SiteId, _) = (site.options.id.parse()?, site.state().join("tokens/keys"));
        lockgate_durable::create_private_dir(&keys)?;
        let request = TokenKeyRequest { site: site_id, opening_key: opening.public(), at_s: 0 };
        for purpose in purposes {
            let domain: Name = purpose.parse()?;
            // One key for all purposes: tokens differ by what they are made of, too.
            let delivery = TokenKeyDelivery::seal(&request, (&domain, EPOCH), &secret, 0, &random()?)?;
            let signed = sign(&delivery, &SigningKey::from_seed(&secret));
            lockgate_durable::write_private(&keys.join(format!("{domain}-{EPOCH}.sealed")), &signed)?;
        }
        Ok(())
    }
}

fn random() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(bytes)
}
