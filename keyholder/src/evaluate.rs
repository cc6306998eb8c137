//! From a request's bytes to its answer's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use lockgate_oprf::{NoRandomness, OprfError, SecretKey};
use lockgate_signing::envelope::{Envelope, Verified};
use lockgate_signing::evaluation::{ELEMENT_BYTES, EvaluationAnswer, EvaluationRequest};
use lockgate_signing::ids::{Name, SiteId};

use crate::config::Config;
use crate::database::{Admission, Database};
use crate::problem::Problem;
use crate::reason::Reason;

/// The keyholder at work. Cheap to clone.
#[derive(Clone)]
pub struct Keyholder(Arc<Inner>);

struct Inner {
    database: Database,
    keys: BTreeMap<(Name, u32), SecretKey>,
    config: Config,
    now_s: fn() -> i64,
    minutes: Mutex<Minutes>,
}

/// Requests of each site in the minute that is running.
#[derive(Default)]
struct Minutes {
    minute: i64,
    requests: HashMap<SiteId, u32>,
}

impl Keyholder {
    /// A keyholder with these keys.
    pub fn new(
        database: Database,
        keys: BTreeMap<(Name, u32), SecretKey>,
        config: Config,
        now_s: fn() -> i64,
    ) -> Self {
        Self(Arc::new(Inner { database, keys, config, now_s, minutes: Mutex::default() }))
    }

    /// Verifies, counts and evaluates a request. Blocks, for the curve's work.
    pub fn evaluate(&self, bytes: &[u8]) -> Result<Vec<u8>, Problem> {
        let now_s = (self.0.now_s)();
        let request = self.verify(bytes, now_s)?;
        let message = request.message();
        let refused = |reason: Reason| {
            self.0.database.count_refusal(Some(&message.site), reason, now_s)?;
            Err::<Vec<u8>, Problem>(reason.into())
        };
        // 7. A key of this domain and epoch is here and not retired.
        let Some(key) = self.0.keys.get(&(message.domain.clone(), message.epoch)) else {
            return refused(Reason::NoSuchKey);
        };
        // 8. Not too often.
        if !self.has_turn(&message.site, now_s) {
            return refused(Reason::TooManyRequests);
        }
        // 9. Once, and within the quota. Counted before it is evaluated: a crash costs the site, not the quota.
        let keep_s = self.0.config.limits.clock_apart_s;
        match self.0.database.admit(message, &self.0.config.quota, keep_s, now_s)? {
            Admission::Refused(reason) => return Err(reason.into()),
            Admission::Admitted { alarm: true } => {
                tracing::warn!(site = %message.site, "ALARM: many times its patient list; see `audit`");
            }
            Admission::Admitted { alarm: false } => {}
        }
        // 10. The key meets nothing but canonical elements of the group.
        let mut randomness = |buffer: &mut [u8]| getrandom::fill(buffer).map_err(|_| NoRandomness);
        let evaluated = match key.evaluate(&message.elements, &mut randomness) {
            Ok(evaluated) => evaluated,
            Err(OprfError::Element) => return refused(Reason::NotAnElement),
            Err(error) => return Err(Problem::Internal(error.into())),
        };
        let evaluations = message.elements.len() / ELEMENT_BYTES;
        tracing::info!(site = %message.site, domain = %message.domain, epoch = message.epoch, evaluations, "evaluated");
        Ok(EvaluationAnswer { elements: evaluated.elements, proof: evaluated.proof }.encode())
    }

    fn verify(&self, bytes: &[u8], now_s: i64) -> Result<Verified<EvaluationRequest>, Problem> {
        let nobody = |reason: Reason| {
            self.0.database.count_refusal(None, reason, now_s)?;
            Err(Problem::from(reason))
        };
        // 1. Size, structure, determinism, role. Nothing of the content is looked at.
        let envelope = match Envelope::<EvaluationRequest>::read(bytes) {
            Ok(envelope) => envelope,
            Err(error) => return nobody(error.into()),
        };
        // 2. The key is entered here.
        let Some(known) = self.0.database.key(envelope.key())? else { return nobody(Reason::UnknownKey) };
        // 3. The signature, over the received bytes; then the content is decoded, strictly. From here on it is known who asks.
        let request = match envelope.verify(&known.key) {
            Ok(request) => request,
            Err(error) => return nobody(error.into()),
        };
        let refused = |reason: Reason| {
            self.0.database.count_refusal(Some(&known.site), reason, now_s)?;
            Err(Problem::from(reason))
        };
        // 4. Its site is not revoked.
        if known.revoked {
            return refused(Reason::RevokedKey);
        }
        // 5. A key asks for one site: nobody uses up another site's quota.
        if request.message().site != known.site {
            return refused(Reason::WrongSite);
        }
        // 6. Made just now: an old request is refused by its time alone, a young one by its nonce.
        let apart_s = request.message().at_s.saturating_sub(now_s).saturating_abs();
        if apart_s > self.0.config.limits.clock_apart_s {
            return refused(Reason::ClockApart);
        }
        Ok(request)
    }

    fn has_turn(&self, site: &SiteId, now_s: i64) -> bool {
        let mut minutes = self.0.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now_s.div_euclid(60);
        if minutes.minute != minute {
            *minutes = Minutes { minute, requests: HashMap::new() };
        }
        // As many entries as there are sites: only who is verified gets here.
        let requests = minutes.requests.entry(site.clone()).or_default();
        *requests = requests.saturating_add(1);
        *requests <= self.0.config.quota.requests_per_minute
    }
}
