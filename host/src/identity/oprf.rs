//! The `oprf` scheme: tokens that the keyholder evaluates blindly (RFC 9497), so that no site holds the key and the keyholder
//! sees no input.
//!
//! While the identity table is read, an input is known by its *name*, a keyed hash that only this site can make. Whoever is
//! withheld is not asked for, but where a retraction needs the token. What is not kept from earlier runs is asked in batches, on as many threads as there are cores,
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
pub(super) struct Oprf<'a> {
    pub(super) url: &'a str,
    pub(super) site: &'a SiteId,
    /// Signs the questions.
    pub(super) key: &'a SigningKey,
    pub(super) local: &'a LocalKey,
    /// Where evaluations are kept.
    pub(super) folder: &'a Path,
    pub(super) today: Date,
}

/// The tokens of one run: a domain and an epoch, and those of the epoch before while it is still answered for.
pub(crate) struct OprfDomain<'a> {
    domain: &'a Name,
    names: Hmac<Sha256>,
    current: OprfEpoch<'a>,
    former: Option<OprfEpoch<'a>>,
}

/// The evaluations of a domain and epoch.
struct OprfEpoch<'a> {
    keyholder: Keyholder<'a>,
    domain: &'a Name,
    epoch: u32,
    public: PublicKey,
    inputs: HashMap<InputName, Zeroizing<Vec<u8>>, DefaultHashBuilder>,
    cache: Cache,
}

impl<'a> Oprf<'a> {
    /// The tokens of a domain under an epoch, and what they were under one before it.
    pub(super) fn domain(
        &self,
        domain: &'a Name,
        epoch: &TokenEpoch,
        former: Option<&TokenEpoch>,
    ) -> Result<OprfDomain<'a>, TokensError> {
        Ok(OprfDomain {
            domain,
            names: keyed(&self.local.derive("lockgate input names v1")),
            current: self.epoch(domain, epoch)?,
            former: former.map(|former| self.epoch(domain, former)).transpose()?,
        })
    }

    fn epoch(&self, domain: &'a Name, epoch: &TokenEpoch) -> Result<OprfEpoch<'a>, TokensError> {
        let public = PublicKey::from_bytes(epoch.public_key.0)
            .map_err(|_| TokensError::PublishedKey { domain: domain.clone(), epoch: epoch.epoch })?;
        let file = self.folder.join(format!("{domain}-{}.cache", epoch.epoch));
        let mut context = b"lockgate kept tokens v1\0".to_vec();
        context.extend_from_slice(domain.as_str().as_bytes());
        context.push(0);
        context.extend_from_slice(&epoch.epoch.to_be_bytes());
        context.extend_from_slice(&public.to_bytes());
        let day = crate::crossing::day(self.today);
        Ok(OprfEpoch {
            keyholder: Keyholder::new(self.url, self.site, self.key)?,
            domain,
            epoch: epoch.epoch,
            public,
            inputs: HashMap::default(),
            cache: Cache::open(file, self.local.derive("lockgate kept tokens v1"), context, day)?,
        })
    }
}

impl OprfDomain<'_> {
    /// The epoch of [`Self::token`].
    pub(super) fn epoch(&self) -> u32 {
        self.current.epoch
    }

    /// The epoch of [`Self::former`].
    pub(super) fn former_epoch(&self) -> Option<u32> {
        self.former.as_ref().map(|former| former.epoch)
    }

    /// What stands for the token of an input until it is there: the same in every epoch.
    pub(super) fn name(&mut self, input: &Input<'_>) -> InputName {
        let mut mac = self.names.clone();
        mac.update(&input.bytes(self.domain.as_str(), 0));
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut name = InputName::default();
        name.copy_from_slice(&full[..16]);
        self.current.want(name, input);
        // Also of who is new here: another site may have sent the former token.
        if let Some(former) = self.former.as_mut().filter(|_| input.is_of_a_patient()) {
            former.want(name, input);
        }
        name
    }

    /// Has everybody's token, or says why not: a run over some of the patients would be wrong and look right.
    pub(super) fn ask(&mut self, wanted: impl Iterator<Item = InputName>) -> Result<(), TokensError> {
        let wanted: Vec<InputName> = wanted.collect();
        self.current.ask(wanted.iter().copied())?;
        self.former.as_mut().map_or(Ok(()), |former| former.ask(wanted.into_iter()))
    }

    /// The token behind a name, and the patient's secret at this site. There once [`Self::ask`] has said so.
    pub(super) fn token(&mut self, name: &InputName) -> Option<(Token, PatientSecret)> {
        self.current.evaluation(name)
    }

    /// What the token was in the epoch before, if there was one.
    pub(super) fn former(&mut self, name: &InputName) -> Option<Token> {
        Some(self.former.as_mut()?.evaluation(name)?.0)
    }
}

impl OprfEpoch<'_> {
    /// Notes an input that has no evaluation here.
    fn want(&mut self, name: InputName, input: &Input<'_>) {
        if self.cache.get(&name).is_none() {
            let bytes = || input.bytes(self.domain.as_str(), self.epoch);
            self.inputs.entry(name).or_insert_with(bytes);
        }
    }

    /// Asks for what is not kept.
    fn ask(&mut self, wanted: impl Iterator<Item = InputName>) -> Result<(), TokensError> {
        let mut missing: Vec<(InputName, Zeroizing<Vec<u8>>)> =
            wanted.filter_map(|name| Some((name, self.inputs.remove(&name)?))).collect();
        // Others who are withheld are not asked for, blindly or not.
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

    /// What is kept of a name: token and secret.
    fn evaluation(&mut self, name: &InputName) -> Option<(Token, PatientSecret)> {
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
