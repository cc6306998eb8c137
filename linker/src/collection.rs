//! Handing out what was accepted: to recipients, and to nobody else; and their deletion statements to the sites that asked.

use std::sync::Arc;

use bytes::Bytes;
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::cbor::Writer;
use lockgate_signing::collection::{CollectionRequest, TIME_TOLERANCE_S, Wanted};
use lockgate_signing::deletion::{DeletionStatement, encode_statements};
use lockgate_signing::envelope::{Envelope, Message, Verified};
use lockgate_signing::ids::BundleId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, channel};

use crate::database::Accepted;
use crate::failpoint;
use crate::intake::{Intake, blocking};
use crate::limits::Limits;
use crate::offline::header_of;
use crate::problem::Problem;
use crate::reason::Reason;

/// Bundles that one answer lists.
const LISTED_MAX: u32 = 1_000;

/// The answer to a recipient.
#[derive(Debug)]
pub enum Collected {
    /// What was accepted, in the order of acceptance; more may follow.
    List(Vec<Accepted>),
    /// A bundle, in the pieces of a carried file.
    Bundle(Receiver<std::io::Result<Bytes>>),
}

impl Intake {
    /// Answers a recipient. `permit` is held until the last byte of a bundle is handed out.
    pub async fn collect(
        &self,
        signed_request: Bytes,
        limits: &Arc<Limits>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Collected, Problem> {
        let intake = self.clone();
        let request: Verified<CollectionRequest> =
            blocking(move || intake.of_recipient(&signed_request)).await?;
        // A request that somebody recorded is soon worth nothing.
        if (request.message().at_s - (self.clock)()).abs() > TIME_TOLERANCE_S {
            return Err(Reason::StaleRequest.into());
        }
        let intake = self.clone();
        match request.message().wanted {
            Wanted::After(position) => {
                let listed = move || Ok(intake.database.accepted_after(position, LISTED_MAX)?);
                Ok(Collected::List(blocking(listed).await?))
            }
            Wanted::Bundle(id) => {
                let known = move || Ok(intake.database.acceptance(id)?.is_some());
                if !blocking(known).await? {
                    return Err(Reason::UnknownBundle.into());
                }
                let signed_header = self.store.header(id).await?.ok_or(Reason::UnknownBundle)?;
                let (intake, bytes) = (self.clone(), signed_header.clone());
                let header = blocking(move || header_of(&intake, &bytes).map_err(Problem::internal)).await?;
                tracing::info!(bundle = %id, recipient = %request.key(), "bundle handed out");
                Ok(Collected::Bundle(self.hand_out(signed_header, header, limits, permit)))
            }
        }
    }

    /// Hands out a bundle piece by piece: at most three blocks are in memory.
    fn hand_out(
        &self,
        signed_header: Bytes,
        header: Verified<BundleHeader>,
        limits: &Arc<Limits>,
        permit: OwnedSemaphorePermit,
    ) -> Receiver<std::io::Result<Bytes>> {
        let (sender, receiver) = channel(1);
        let (store, limits) = (self.store.clone(), Arc::clone(limits));
        tokio::spawn(async move {
            let _permit = permit;
            // Who does not read on is given up; who went away is gone.
            let send = async |piece| {
                matches!(tokio::time::timeout(limits.idle(), sender.send(piece)).await, Ok(Ok(())))
            };
            if !send(Ok(signed_header)).await {
                return;
            }
            for named in header.message().blocks() {
                let mut head = Writer::new();
                head.bytes_head(named.bytes);
                let block = store.block(named.digest).await.map_err(std::io::Error::other);
                let failed = block.is_err();
                if !send(Ok(head.into_bytes().into())).await || !send(block).await || failed {
                    return;
                }
                failpoint::reach(failpoint::COLLECTION_BLOCK_SENT);
            }
        });
        receiver
    }

    /// Takes a recipient's statement that it has deleted.
    pub async fn take_deletion(&self, signed_statement: Bytes) -> Result<(), Problem> {
        let intake = self.clone();
        blocking(move || {
            let statement: Verified<DeletionStatement> = intake.of_recipient(&signed_statement)?;
            let now_s = (intake.clock)();
            if let Some(reason) = intake.database.put_deletion(&statement, &signed_statement, now_s)? {
                return Err(reason.into());
            }
            let message = statement.message();
            tracing::info!(
                site = %message.site, sequence = message.sequence, recipient = %statement.key(), "deletion stated"
            );
            Ok(())
        })
        .await?;
        failpoint::reach(failpoint::DELETION_BEFORE_ANSWER);
        Ok(())
    }

    /// The statements on a bundle, for its site.
    pub async fn deletions(&self, bundle: BundleId) -> Result<Vec<u8>, Problem> {
        let intake = self.clone();
        let statements = blocking(move || Ok(intake.database.deletions(bundle)?)).await?;
        Ok(encode_statements(&statements.ok_or(Reason::UnknownBundle)?))
    }

    /// Verifies what only a recipient may sign.
    fn of_recipient<T: Message>(&self, signed: &[u8]) -> Result<Verified<T>, Problem> {
        let envelope = Envelope::<T>::read(signed).map_err(Reason::from)?;
        let key = self.database.recipient_key(envelope.key())?.ok_or(Reason::UnknownRecipient)?;
        Ok(envelope.verify(&key).map_err(Reason::from)?)
    }
}
