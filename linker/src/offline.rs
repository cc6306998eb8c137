//! Bundles as files: checked, taken in, and given out, without a network.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lockgate_durable::FileError;
use lockgate_signing::bundle::{BlockRef, BundleHeader};
use lockgate_signing::carriage::{Carriage, CarriageError};
use lockgate_signing::envelope::{Verified, verify};
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::{KeyId, PublicKey};

use crate::database::DatabaseError;
use crate::intake::{Answer, Intake};
use crate::problem::Problem;
use crate::reason::Reason;
use crate::store::StoreError;
use crate::verify::{SiteKey, verify_header};

/// A carried bundle cannot be checked, taken in or given out.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The file is refused.
    #[error("{reason} ({}){}", reason.code(), detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Rejected {
        /// Why.
        reason: Reason,
        /// Which block, for example.
        detail: Option<String>,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that is written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Taking it in fails on this side.
    #[error(transparent)]
    Problem(Problem),
    /// Not complete here.
    #[error("the bundle is not complete here, so it cannot be given out")]
    Incomplete,
}

/// Checks a file: its signature with the key that `key` finds, and every block.
pub fn verify_file(
    path: &Path,
    key: impl FnOnce(KeyId) -> Option<SiteKey>,
) -> Result<Verified<BundleHeader>, OfflineError> {
    let carriage = open(path)?;
    let header = verify_header(carriage.signed_header(), key).map_err(rejected)?;
    carriage.blocks(&header, |_| Ok(io::sink()), |_, _| Ok(())).map_err(|error| refused(path, error))?;
    Ok(header)
}

/// Checks a file with one key, for whom no list of sites is at hand: the site is whatever the signed header says.
pub fn verify_file_with(path: &Path, key: &PublicKey) -> Result<Verified<BundleHeader>, OfflineError> {
    let carriage = open(path)?;
    let header = verify::<BundleHeader>(carriage.signed_header(), key).map_err(|e| rejected((&e).into()))?;
    carriage.blocks(&header, |_| Ok(io::sink()), |_, _| Ok(())).map_err(|error| refused(path, error))?;
    Ok(header)
}

/// Takes a file in, by the same path as the network; the receipt, and the bundle.
pub async fn ingest(path: &Path, intake: &Intake) -> Result<(BundleId, Vec<u8>), OfflineError> {
    // 1. The whole file is checked before anything of it is stored.
    let database = &intake.database;
    let mut fault = None;
    let checked = verify_file(path, |id| {
        database.key(id).unwrap_or_else(|error| {
            fault = Some(error);
            None
        })
    });
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    let header = checked?;
    // 2. The header, as if it had been sent.
    let carriage = open(path)?;
    let signed_header = Bytes::copy_from_slice(carriage.signed_header());
    let missing = match intake.submit(signed_header.clone()).await.map_err(problem)? {
        Answer::Receipt(receipt) => return Ok((header.id(), receipt)),
        Answer::Missing(missing) => missing,
    };
    // 3. The blocks that are not there yet: one in memory at a time.
    let (sender, mut blocks) = tokio::sync::mpsc::channel::<(BlockRef, Vec<u8>)>(1);
    let (reading, file) = (header.clone(), path.to_owned());
    let reader = tokio::task::spawn_blocking(move || {
        let hand_on = |named: &BlockRef, bytes: Vec<u8>| {
            sender.blocking_send((*named, bytes)).map_err(|_| io::Error::other("the store has failed"))
        };
        carriage.blocks(&reading, |_| Ok(Vec::new()), hand_on).map_err(|error| refused(&file, error))
    });
    while let Some((named, bytes)) = blocks.recv().await {
        if missing.contains(&named.digest) && intake.store.block_bytes(named.digest).await?.is_none() {
            let mut upload = intake.store.begin(named.digest).await?;
            match upload.write(vec![bytes.into()]).await {
                Ok(()) => upload.publish(()).await?,
                Err(error) => {
                    upload.abort().await;
                    return Err(error.into());
                }
            }
        }
    }
    reader.await.map_err(|error| OfflineError::Problem(Problem::internal(error)))??;
    // 4. The header again, now that all is there.
    match intake.submit(signed_header).await.map_err(problem)? {
        Answer::Receipt(receipt) => Ok((header.id(), receipt)),
        Answer::Missing(_) => Err(OfflineError::Incomplete),
    }
}

/// Gives an accepted bundle out as a file.
pub async fn export(intake: &Intake, id: BundleId, path: &Path) -> Result<u64, OfflineError> {
    let signed_header = intake.store.header(id).await?.ok_or(OfflineError::Incomplete)?;
    let header = header_of(intake, &signed_header)?;
    let store = intake.store.clone();
    let runtime = tokio::runtime::Handle::current();
    let target = path.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let file = File::create(&target).map_err(lockgate_durable::at("create", &target))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let block = |named: &BlockRef| {
            runtime.block_on(store.block(named.digest)).map(Cursor::new).map_err(io::Error::other)
        };
        lockgate_signing::carriage::write(&mut file, &signed_header, header.message(), block)
            .map_err(|error| refused(&target, error))?;
        file.flush().map_err(lockgate_durable::at("write", &target))?;
        file.get_ref().sync_all().map_err(lockgate_durable::at("write", &target))?;
        Ok::<_, OfflineError>(file.get_ref().metadata().map_err(lockgate_durable::at("read", &target))?.len())
    });
    written.await.map_err(|error| OfflineError::Problem(Problem::internal(error)))?
}

/// A stored header, verified again: a file of the store that was changed is found, whoever changed it. A key that was revoked
/// since is no reason to refuse what was accepted before.
pub fn header_of(intake: &Intake, signed_header: &[u8]) -> Result<Verified<BundleHeader>, OfflineError> {
    let mut fault = None;
    let header = verify_header(signed_header, |id| match intake.database.key(id) {
        Ok(key) => key.map(|key| SiteKey { revoked: false, ..key }),
        Err(error) => {
            fault = Some(error);
            None
        }
    });
    match fault {
        Some(error) => Err(error.into()),
        None => header.map_err(rejected),
    }
}

fn open(path: &Path) -> Result<Carriage<BufReader<File>>, OfflineError> {
    let file =
        File::open(path).map_err(|source| OfflineError::Unreadable { path: path.to_owned(), source })?;
    Carriage::open(BufReader::with_capacity(1 << 20, file)).map_err(|error| refused(path, error))
}

fn rejected(reason: Reason) -> OfflineError {
    OfflineError::Rejected { reason, detail: None }
}

fn problem(problem: Problem) -> OfflineError {
    match problem {
        Problem::Rejected(reason) => rejected(reason),
        problem => OfflineError::Problem(problem),
    }
}

fn refused(path: &Path, error: CarriageError) -> OfflineError {
    use lockgate_signing::cbor::CborError;
    let reason = match &error {
        CarriageError::Io(_) => None,
        CarriageError::Header(error) => Some(Reason::from(error)),
        CarriageError::Encoding { source: CborError::NotDeterministic(_), .. } => {
            Some(Reason::NotDeterministic)
        }
        CarriageError::Encoding { .. } | CarriageError::BlockSize { .. } => Some(Reason::BlockSizeMismatch),
        CarriageError::BlockDigest { .. } => Some(Reason::BlockDigestMismatch),
        CarriageError::Leftover => Some(Reason::TrailingBytes),
        CarriageError::OtherHeader => Some(Reason::ContentInvalid),
    };
    match (reason, error) {
        (None, CarriageError::Io(source)) => OfflineError::Unreadable { path: path.to_owned(), source },
        (reason, error) => OfflineError::Rejected {
            reason: reason.unwrap_or(Reason::NotAnEnvelope),
            detail: Some(error.to_string()),
        },
    }
}
