//! Taking a bundle in: the one path, for the network and for a carried file.

use std::sync::Arc;

use bytes::Bytes;
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::enrolment;
use lockgate_signing::envelope::{Verified, sign};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::receipt::Receipt;

use crate::database::{Acceptance, Database, DatabaseError, Enrolment};
use crate::decide::Decision;
use crate::failpoint;
use crate::limits::Limits;
use crate::problem::Problem;
use crate::reason::Reason;
use crate::store::{Presence, Store};
use crate::verify::verify_header;

/// What the time is, seconds since 1970-01-01 UTC.
pub type Clock = fn() -> i64;

/// The linker, without its front door.
#[derive(Debug, Clone)]
pub struct Intake {
    pub(crate) database: Arc<Database>,
    pub(crate) store: Store,
    key: Arc<SigningKey>,
    pub(crate) clock: Clock,
    pending_max: u64,
}

/// The answer to a header.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The bundle is accepted: the signed receipt, the same bytes each time.
    Receipt(Vec<u8>),
    /// These blocks are to be sent.
    Missing(Vec<Digest>),
}

/// The answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enrolled {
    /// The key that receipts are signed with, SPKI PEM. Its id is in the enrolment token.
    pub linker_key: String,
    /// The site.
    pub site: String,
    /// The id of the site's key.
    pub key_id: String,
}

impl Intake {
    /// Puts it together.
    pub fn new(database: Database, store: Store, key: SigningKey, clock: Clock, limits: &Limits) -> Self {
        let pending_max = limits.pending_per_site_max.into();
        Self { database: Arc::new(database), store, key: Arc::new(key), clock, pending_max }
    }

    /// Takes a signed header; accepts the bundle if all its blocks are there.
    pub async fn submit(&self, signed_header: Bytes) -> Result<Answer, Problem> {
        failpoint::reach(failpoint::HEADER_RECEIVED);
        // 1. Verify, before anything is remembered.
        let (intake, bytes) = (self.clone(), signed_header.clone());
        let header = blocking(move || intake.verify(&bytes)).await?;
        // 2. Decide, and take the place in the chain, in one transaction: of two that race for a place, one wins.
        let (intake, admitted) = (self.clone(), header.clone());
        let decision = blocking(move || {
            let now_s = (intake.clock)();
            Ok(intake.database.admit(&admitted, intake.pending_max, now_s)?)
        })
        .await?;
        match decision {
            Decision::Reject(reason) => return Err(reason.into()),
            Decision::Duplicate => {
                let (intake, id) = (self.clone(), header.id());
                let acceptance = blocking(move || Ok(intake.database.acceptance(id)?)).await?;
                let acceptance = acceptance.ok_or(DatabaseError::Damaged("receipt"))?;
                tracing::info!(bundle = %header.id(), "bundle sent again");
                return Ok(Answer::Receipt(acceptance.receipt));
            }
            Decision::Accept => {}
        }
        failpoint::reach(failpoint::HEADER_ADMITTED);
        // 3. Every block on stable storage, and nothing else than the header says.
        match self.store.presence(header.message().blocks()).await? {
            Presence::Missing(missing) => return Ok(Answer::Missing(missing)),
            Presence::SizeMismatch => return Err(Reason::BlockSizeMismatch.into()),
            Presence::Complete => {}
        }
        // 4. The header on stable storage beside its blocks: the folder alone tells the whole story.
        self.store.put_header(header.id(), signed_header).await?;
        failpoint::reach(failpoint::HEADER_STORED);
        // 5. Commit, and only then let the receipt out: what is acknowledged is durable.
        let (intake, accepted) = (self.clone(), header.clone());
        let acceptance = blocking(move || intake.accept(&accepted)).await?;
        self.store.forget(header.message().blocks());
        failpoint::reach(failpoint::BEFORE_ANSWER);
        Ok(Answer::Receipt(acceptance.receipt))
    }

    fn verify(&self, signed_header: &[u8]) -> Result<Verified<BundleHeader>, Problem> {
        let mut fault = None;
        let header = verify_header(signed_header, |id| {
            self.database.key(id).unwrap_or_else(|error| {
                fault = Some(error);
                None
            })
        });
        match fault {
            Some(error) => Err(error.into()),
            None => Ok(header?),
        }
    }

    fn accept(&self, header: &Verified<BundleHeader>) -> Result<Acceptance, Problem> {
        let message = header.message();
        let accepted_at_s = (self.clock)();
        let receipt = Receipt {
            bundle: header.id(),
            site: message.site.clone(),
            sequence: message.sequence,
            accepted_at_s,
            bytes: message.bytes(),
        };
        // The receipt is committed with the acceptance, so that a repeat gets the same bytes; it is not given out before.
        let acceptance = Acceptance { receipt: sign(&receipt, &self.key), accepted_at_s };
        let acceptance = self.database.accept(header, &acceptance)?;
        failpoint::reach(failpoint::AFTER_COMMIT);
        tracing::info!(
            site = %message.site, sequence = message.sequence, bundle = %header.id(),
            blocks = message.blocks().count(), bytes = message.bytes(), "bundle accepted",
        );
        Ok(acceptance)
    }

    /// Enrols a site's key.
    pub async fn enrol(&self, signed_request: Bytes) -> Result<Enrolled, Problem> {
        let intake = self.clone();
        let enrolled = blocking(move || {
            // Signed with the key that it carries: whoever sends it has the private half.
            let request = enrolment::verify_request(&signed_request).map_err(Reason::from)?;
            let site = request.message().site.to_string();
            let key_id = request.key().to_string();
            match intake.database.enrol(&request, (intake.clock)())? {
                Enrolment::Refused(reason) => return Err(reason.into()),
                Enrolment::Enrolled => tracing::info!(%site, key = %key_id, "key enrolled"),
                Enrolment::Again => tracing::info!(%site, key = %key_id, "enrolment sent again"),
            }
            let linker_key = intake.key.public().to_pem().map_err(Problem::internal)?;
            Ok(Enrolled { linker_key, site, key_id })
        })
        .await?;
        failpoint::reach(failpoint::ENROLMENT_BEFORE_ANSWER);
        Ok(enrolled)
    }
}

/// Runs work that blocks (SQLite, signatures) where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?
}
