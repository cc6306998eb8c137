//! Receiving one block: hashed and counted while it is written, never whole in memory.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use lockgate_signing::digest::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use crate::failpoint;
use crate::intake::{Intake, blocking};
use crate::limits::{DRAIN_BYTES_MAX, Limits, PART_BYTES};
use crate::problem::Problem;
use crate::reason::Reason;
use crate::store::BlockUpload;

/// Receives a block. `Ok`: its bytes are verified, and will be on stable storage before a receipt names them.
pub(crate) async fn receive(
    intake: &Intake,
    limits: &Arc<Limits>,
    permit: OwnedSemaphorePermit,
    digest: Digest,
    body: &mut Body,
) -> Result<(), Problem> {
    // 1. Nothing is stored that no verified header names: the store is nobody's file share.
    let asked = intake.clone();
    let wanted = blocking(move || Ok(asked.database.wanted(digest)?)).await?;
    let wanted = wanted.ok_or(Reason::BlockNotNamed)?;
    // 2. A block that is there is not written again; what was sent is checked all the same.
    let mut target = match intake.store.block_bytes(digest).await? {
        Some(_) => None,
        None => Some(intake.store.begin(digest).await?),
    };
    // 3. Never more than the header says, and exactly the bytes that it names.
    let bytes_max = wanted.sizes.iter().copied().max().unwrap_or(0);
    let received = copy(body, limits, bytes_max, target.as_mut()).await;
    let verified = received.and_then(|(bytes, found)| {
        if !wanted.sizes.contains(&bytes) {
            Err(Reason::BlockSizeMismatch.into())
        } else if found != digest {
            Err(Reason::BlockDigestMismatch.into())
        } else {
            Ok(())
        }
    });
    match (verified, target) {
        (Ok(()), Some(target)) => Ok(target.publish(permit).await?),
        (Err(problem), Some(target)) => {
            // 4. What is not verified does not stay.
            target.abort().await;
            Err(problem)
        }
        (verified, None) => verified,
    }
}

/// Copies the body into the store; its size and digest.
async fn copy(
    body: &mut Body,
    limits: &Limits,
    bytes_max: u64,
    mut target: Option<&mut BlockUpload>,
) -> Result<(u64, Digest), Problem> {
    let mut hash = Sha256::new();
    let mut bytes = 0_u64;
    let mut part = Part::default();
    while let Some(data) = next_data(body, limits).await? {
        if bytes == 0 {
            failpoint::reach(failpoint::BLOCK_RECEIVED);
        }
        bytes += data.len() as u64;
        if bytes > bytes_max {
            return Err(Reason::BlockSizeMismatch.into());
        }
        hash.update(&data);
        part.push(data);
        if let Some(target) = target.as_deref_mut().filter(|_| part.bytes >= PART_BYTES) {
            target.write(part.take()).await?;
        } else if target.is_none() {
            part.take();
        }
    }
    if let Some(target) = target.filter(|_| part.bytes > 0) {
        target.write(part.take()).await?;
    }
    Ok((bytes, Digest::from_bytes(hash.finalize().into())))
}

#[derive(Default)]
struct Part {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Part {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }
}

/// Receives a small body whole.
pub(crate) async fn receive_whole(
    body: &mut Body,
    limits: &Limits,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let mut whole = Vec::new();
    while let Some(data) = next_data(body, limits).await? {
        if data.len() > bytes_max - whole.len() {
            return Err(Reason::TooLarge.into());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// Reads and drops what is left of a refused body, within a limit: a sender that is still writing would otherwise see a broken
/// connection and not the answer.
pub(crate) async fn drain(body: &mut Body, limits: &Limits) {
    let mut left = DRAIN_BYTES_MAX;
    while let Ok(Some(data)) = next_data(body, limits).await {
        match left.checked_sub(data.len() as u64) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

async fn next_data(body: &mut Body, limits: &Limits) -> Result<Option<Bytes>, Problem> {
    loop {
        let frame = tokio::time::timeout(limits.idle(), body.frame()).await.map_err(|_| Problem::Timeout)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Problem::Interrupted),
            // Trailers say nothing to us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
