//! The `oprf` scheme: tokens that the keyholder evaluates blindly (RFC 9497), so that no site holds the key and the keyholder
//! sees no input.
//!
//! While the identity table is read, an input is known by its *name*, a keyed hash that only this site can make. Whoever is
//! withheld is never asked for. What is not kept from earlier runs is asked in batches, on as many threads as there are cores,
//! each batch with its own proof; what was answered is kept, also when a later batch is not, so that nothing is asked twice.
//!
//! Memory: the inputs of a run (about 80 bytes each, four a patient) until the tokens are there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::DefaultHashBuilder;
use hmac::{Hmac, Mac as _};
use jiff::civil::Date;
use lockgate_oprf::PublicKey;
use lockgate_signing::block::Token;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::token_keys::TokenEpoch;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::cache::{Cache, Evaluation, InputName};
use super::inputs::Input;
use super::keyholder::{Keyholder, KeyholderError, Wanted};
use super::local_key::LocalKey;
use super::scheme::TokensError;
use super::sealed_key::{keyed, number};

/// Inputs of one question.
const BATCH: usize = 4_096;

/// What the scheme needs of the site.
pub(super) struct Oprf {
    url: String,
    local: LocalKey,
}

/// The tokens of one run: a domain and an epoch.
pub(crate) struct OprfDomain<'a> {
    keyholder: Keyholder<'a>,
    domain: &'a Name,
    pub(super) epoch: u32,
    public: PublicKey,
    names: Hmac<Sha256>,
    inputs: HashMap<InputName, Zeroizing<Vec<u8>>, DefaultHashBuilder>,
    cache: Cache,
}

impl Oprf {
    pub(super) fn open(url: &str, folder: &Path) -> Result<Self, TokensError> {
        lockgate_durable::create_private_dir(folder)?;
        lockgate_durable::sweep(folder)?;
        Ok(Self { url: url.to_owned(), local: LocalKey::open(&folder.join("local.key"))? })
    }

    /// A digest that only this site can make.
    pub(super) fn private_digest(&self, bytes: &[u8]) -> [u8; 32] {
        let mut mac = keyed(&self.local.derive("lockgate content v1"));
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// The tokens of a domain, under the epoch that is published for the day.
    pub(super) fn domain<'a>(
        &'a self,
        (site, key): (&'a SiteId, &'a SigningKey),
        domain: &'a Name,
        epoch: &TokenEpoch,
        folder: &Path,
        today: Date,
    ) -> Result<OprfDomain<'a>, TokensError> {
        let public = PublicKey::from_bytes(epoch.public_key.0)
            .map_err(|_| TokensError::PublishedKey { domain: domain.clone(), epoch: epoch.epoch })?;
        let file = folder.join(format!("{domain}-{}.cache", epoch.epoch));
        let mut context = b"lockgate kept tokens v1\0".to_vec();
        context.extend_from_slice(domain.as_str().as_bytes());
        context.push(0);
        context.extend_from_slice(&epoch.epoch.to_be_bytes());
        context.extend_from_slice(&public.to_bytes());
        let day = crate::crossing::day(today);
        Ok(OprfDomain {
            keyholder: Keyholder::new(&self.url, site, key)?,
            domain,
            epoch: epoch.epoch,
            public,
            names: keyed(&self.local.derive("lockgate input names v1")),
            inputs: HashMap::default(),
            cache: Cache::open(file, self.local.derive("lockgate kept tokens v1"), context, day)?,
        })
    }
}

impl OprfDomain<'_> {
    /// What stands for the token of an input until it is there.
    pub(super) fn name(&mut self, input: &Input<'_>) -> InputName {
        let bytes = input.bytes(self.domain.as_str(), self.epoch);
        let mut mac = self.names.clone();
        mac.update(&bytes);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut name = InputName::default();
        name.copy_from_slice(&full[..16]);
        if self.cache.get(&name).is_none() {
            self.inputs.entry(name).or_insert(bytes);
        }
        name
    }

    /// Has everybody's token, or says why not: a run over some of the patients would be wrong and look right.
    pub(super) fn ask(&mut self, wanted: impl Iterator<Item = InputName>) -> Result<(), TokensError> {
        let mut missing: Vec<(InputName, Zeroizing<Vec<u8>>)> =
            wanted.filter_map(|name| Some((name, self.inputs.remove(&name)?))).collect();
        // Those who are withheld are not asked for, blindly or not.
        self.inputs.clear();
        if missing.is_empty() {
            self.cache.save()?;
            return Ok(());
        }
        // The keyholder sees neither the local order nor who came when.
        missing.sort_unstable_by_key(|(name, _)| *name);
        let count = missing.len();
        let asked = self.ask_in_batches(missing);
        // What was answered is kept, whatever became of the rest.
        self.cache.save()?;
        match asked {
            Ok(()) => Ok(()),
            Err(error) if error.is_passing() => Err(TokensError::Deferred { missing: count, error }),
            Err(error) => Err(error.into()),
        }
    }

    fn ask_in_batches(
        &mut self,
        missing: Vec<(InputName, Zeroizing<Vec<u8>>)>,
    ) -> Result<(), KeyholderError> {
        let mut batches: Vec<Vec<Asked>> = Vec::new();
        let mut rest = missing.into_iter().map(|(name, input)| Asked { name, input }).peekable();
        while rest.peek().is_some() {
            batches.push(rest.by_ref().take(BATCH).collect());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(batches.len());
        let batches: Vec<Mutex<Option<Vec<Asked>>>> =
            batches.into_iter().map(|batch| Mutex::new(Some(batch))).collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let cache = Mutex::new(&mut self.cache);
        let wanted = Wanted { domain: self.domain, epoch: self.epoch, public: &self.public };
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let Some(batch) = batch.lock().unwrap_or_else(PoisonError::into_inner).take() else { break };
                let answered = self.keyholder.evaluate(wanted, batch).inspect_err(|_| {
                    stop.store(true, Ordering::Relaxed);
                })?;
                let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                for (asked, output) in answered {
                    let mut evaluation = Evaluation::default();
                    evaluation.copy_from_slice(&output[..32]);
                    cache.insert(asked.name, evaluation);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for other in others {
                let ended = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(ended);
            }
            result
        })
    }

    /// The token behind a name, and the patient's secret at this site. There once [`Self::ask`] has said so.
    pub(super) fn evaluation(&mut self, name: &InputName) -> Option<(Token, PatientSecret)> {
        let evaluation = self.cache.get(name)?;
        let (mut token, mut secret) = (Token::default(), [0; 16]);
        token.copy_from_slice(&evaluation[..16]);
        secret.copy_from_slice(&evaluation[16..]);
        Some((token, PatientSecret(secret)))
    }
}

/// What is numbered within a patient is numbered by this; it comes with the token and never leaves.
#[derive(Clone, Copy, Default)]
pub(super) struct PatientSecret([u8; 16]);

impl PatientSecret {
    /// A number for a local episode id: 53 bits, so that it is exact as a number.
    pub(super) fn episode(&self, local_id: &[u8]) -> f64 {
        let mut key = Zeroizing::new([0; 32]);
        key[..16].copy_from_slice(&self.0);
        let mut mac = keyed(&key);
        mac.update(b"lockgate episode v1\0");
        mac.update(local_id);
        number(&mac.finalize().into_bytes())
    }
}

struct Asked {
    name: InputName,
    input: Zeroizing<Vec<u8>>,
}

impl AsRef<[u8]> for Asked {
    fn as_ref(&self) -> &[u8] {
        &self.input
    }
}
