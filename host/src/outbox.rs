//! The outbox: bundles that are sealed and not yet acknowledged, one folder a state.
//!
//! ```text
//! outbox/sealing/<module>-<period>/  blocks of a bundle that is being made or held, encrypted; `<module>-retraction-<n>` of a
//!                                    retraction; swept at start
//! outbox/queued/<sequence>-<id>/   header.cbor, <digest>.block of each block, and content (see below)
//! outbox/removing/<sequence>-<id>/ an acknowledged bundle on its way out; swept at start
//! receipts/<sequence>-<id>.cbor    what the linker answered; the bundle's folder is then removed
//! ```
//!
//! Invariants. A folder in `queued` is whole: it got there by a rename, after its files were synchronised, and it goes by
//! one. It leaves only against a verified receipt, which is stored and entered in the ledger first. A crash between any two
//! steps leaves a state that the next start completes: a bundle that is queued but not in the ledger is entered there, and
//! one that has a receipt is pushed no further than to that receipt.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at, sync_dir, write_atomic};
use lockgate_signing::bundle::{BlockRef, BundleHeader};
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::{EnvelopeError, Verified, verify};
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::PublicKey;
use lockgate_signing::receipt::Receipt;

use crate::failpoint::failpoint;

/// The outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// A queued bundle was changed.
    #[error("the queued bundle in {} is damaged ({why}); restore the folder from a backup, nothing was removed", path.display())]
    Damaged {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A receipt for something else.
    #[error("the linker's receipt is for another bundle; nothing was removed from the outbox")]
    OtherBundle,
}

/// The outbox of a site.
#[derive(Debug)]
pub struct Outbox {
    sealing: PathBuf,
    queued: PathBuf,
    removing: PathBuf,
    receipts: PathBuf,
}

/// A verified receipt, and the bytes that it came in.
pub type ReceivedReceipt = (Verified<Receipt>, Vec<u8>);

/// A bundle on stable storage, waiting to be acknowledged.
#[derive(Debug)]
pub struct QueuedBundle {
    folder: PathBuf,
    header_bytes: Vec<u8>,
    header: Verified<BundleHeader>,
}

impl QueuedBundle {
    /// The header as it was signed.
    pub fn header_bytes(&self) -> &[u8] {
        &self.header_bytes
    }

    /// The header.
    pub fn header(&self) -> &BundleHeader {
        self.header.message()
    }

    /// The bundle's id.
    pub fn id(&self) -> BundleId {
        self.header.id()
    }

    /// The keyed digest of what is in it, for the ledger: the blocks themselves only the recipients can open.
    pub(crate) fn content(&self) -> Result<String, OutboxError> {
        let path = self.folder.join(CONTENT);
        let content = fs::read_to_string(&path).map_err(at("read", &path))?;
        match Digest::from_hex(&content) {
            Ok(_) => Ok(content),
            Err(_) => Err(self.damaged("`content` is not a digest")),
        }
    }

    /// Reads a block and checks that it is still the one that was sealed.
    pub fn block(&self, block: &BlockRef) -> Result<Vec<u8>, OutboxError> {
        let path = block_path(&self.folder, block.digest);
        let bytes = fs::read(&path).map_err(at("read", &path))?;
        if Digest::of(&bytes) == block.digest {
            Ok(bytes)
        } else {
            Err(self.damaged("a block has other bytes than its name says"))
        }
    }

    fn damaged(&self, why: &str) -> OutboxError {
        OutboxError::Damaged { path: self.folder.clone(), why: why.to_owned() }
    }
}

fn block_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{}.block", digest.to_hex()))
}

const HEADER: &str = "header.cbor";
/// The keyed digest of the content, which goes into the ledger: a crash may come in between.
const CONTENT: &str = "content";

impl Outbox {
    /// Opens the outbox below a state folder and sweeps what a crash left half-made.
    pub fn open(state: &Path) -> Result<Self, OutboxError> {
        let outbox = Self {
            sealing: state.join("outbox/sealing"),
            queued: state.join("outbox/queued"),
            removing: state.join("outbox/removing"),
            receipts: state.join("receipts"),
        };
        for folder in [&outbox.sealing, &outbox.queued, &outbox.removing, &outbox.receipts] {
            lockgate_durable::create_private_dir(folder)?;
        }
        outbox.sweep()?;
        Ok(outbox)
    }

    /// Removes what is half-made or half-removed. Not while a bundle is being made.
    pub fn sweep(&self) -> Result<(), OutboxError> {
        for folder in entries(&self.sealing)?.into_iter().chain(entries(&self.removing)?) {
            fs::remove_dir_all(&folder).map_err(at("remove", &folder))?;
        }
        Ok(())
    }

    /// Starts a bundle. Those of a run lie side by side until they are queued, so each has a folder of its own: its module, and
    /// its month or what it is.
    pub(crate) fn begin(&self, name: &str) -> Result<SealingFolder, OutboxError> {
        let folder = self.sealing.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(at("remove", &folder))?;
        }
        lockgate_durable::create_private_dir(&folder)?;
        Ok(SealingFolder { folder, blocks: Vec::new() })
    }

    /// Puts a whole bundle on stable storage. From here on it is sent until it is acknowledged.
    pub(crate) fn queue(
        &self,
        sealing: &SealingFolder,
        header_bytes: Vec<u8>,
        content: &str,
        key: &PublicKey,
    ) -> Result<QueuedBundle, OutboxError> {
        let header = verify::<BundleHeader>(&header_bytes, key)
            .map_err(|error| OutboxError::Damaged { path: sealing.folder.clone(), why: error.to_string() })?;
        // 1. Every file of the bundle, then the folder that names them.
        for block in &sealing.blocks {
            let path = block_path(&sealing.folder, block.digest);
            File::open(&path).and_then(|file| file.sync_all()).map_err(at("synchronise", &path))?;
        }
        failpoint("outbox.blocks-synchronised");
        write_atomic(&sealing.folder.join(CONTENT), content.as_bytes())?;
        write_atomic(&sealing.folder.join(HEADER), &header_bytes)?;
        failpoint("outbox.header-written");
        sync_dir(&sealing.folder)?;
        // 2. One rename, then the folder that it went to.
        let folder = self.queued.join(format!("{:010}-{}", header.message().sequence, header.id()));
        fs::rename(&sealing.folder, &folder).map_err(at("move", &sealing.folder))?;
        failpoint("outbox.renamed");
        sync_dir(&self.queued)?;
        sync_dir(&self.sealing)?;
        failpoint("outbox.queued");
        Ok(QueuedBundle { folder, header_bytes, header })
    }

    /// Gives up a bundle that is not to be sent.
    pub(crate) fn discard(sealing: &SealingFolder) -> Result<(), OutboxError> {
        Ok(fs::remove_dir_all(&sealing.folder).map_err(at("remove", &sealing.folder))?)
    }

    /// Every queued bundle, in the order of the chain; each header's signature is checked.
    pub fn queued(&self, key: &PublicKey) -> Result<Vec<QueuedBundle>, OutboxError> {
        let folders = entries(&self.queued)?;
        let open = |folder: PathBuf| {
            let path = folder.join(HEADER);
            let header_bytes = fs::read(&path).map_err(at("read", &path))?;
            let header = verify::<BundleHeader>(&header_bytes, key).map_err(|error: EnvelopeError| {
                OutboxError::Damaged { path: folder.clone(), why: error.to_string() }
            })?;
            Ok(QueuedBundle { folder, header_bytes, header })
        };
        folders.into_iter().map(open).collect()
    }

    /// Stores the receipt of a bundle. Only a receipt whose signature was verified gets here.
    pub fn store_receipt(
        &self,
        bundle: &QueuedBundle,
        receipt: &Verified<Receipt>,
        receipt_bytes: &[u8],
    ) -> Result<(), OutboxError> {
        if !answers(receipt, bundle) || receipt.digest() != Digest::of(receipt_bytes) {
            return Err(OutboxError::OtherBundle);
        }
        write_atomic(&self.receipt_path(&bundle.folder), receipt_bytes)?;
        failpoint("outbox.receipt-stored");
        Ok(())
    }

    /// The receipt of a bundle that a crash kept here after it was acknowledged.
    pub fn stored_receipt(
        &self,
        bundle: &QueuedBundle,
        linker_key: &PublicKey,
    ) -> Result<Option<ReceivedReceipt>, OutboxError> {
        let path = self.receipt_path(&bundle.folder);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("read", &path)(error).into()),
        };
        // A file is not trusted because it is there. One that does not verify is no receipt, and the bundle is sent again.
        let receipt = verify::<Receipt>(&bytes, linker_key).ok();
        Ok(receipt.filter(|receipt| answers(receipt, bundle)).map(|receipt| (receipt, bytes)))
    }

    /// Removes a bundle whose receipt is stored.
    pub fn remove(&self, bundle: QueuedBundle) -> Result<(), OutboxError> {
        if !self.receipt_path(&bundle.folder).exists() {
            return Err(OutboxError::OtherBundle);
        }
        // A folder goes file by file; renamed first, it is whole or gone to whoever looks for bundles.
        let folder = self.removing.join(bundle.folder.file_name().unwrap_or_default());
        fs::rename(&bundle.folder, &folder).map_err(at("move", &bundle.folder))?;
        failpoint("outbox.removing");
        sync_dir(&self.queued)?;
        fs::remove_dir_all(&folder).map_err(at("remove", &folder))?;
        failpoint("outbox.removed");
        Ok(())
    }

    fn receipt_path(&self, folder: &Path) -> PathBuf {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.receipts.join(format!("{name}.cbor"))
    }
}

/// Whether a receipt is for this bundle.
fn answers(receipt: &Verified<Receipt>, bundle: &QueuedBundle) -> bool {
    let (message, header) = (receipt.message(), bundle.header());
    message.bundle == bundle.id()
        && message.site == header.site
        && message.sequence == header.sequence
        && message.bytes == header.bytes()
}

/// The entries of a folder, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let read = fs::read_dir(folder).map_err(at("read", folder))?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.map_err(at("read", folder))?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

/// A bundle's folder while it is made.
#[derive(Debug, Clone)]
pub(crate) struct SealingFolder {
    folder: PathBuf,
    blocks: Vec<BlockRef>,
}

impl SealingFolder {
    /// Writes a block; it is synchronised with the others when the bundle is queued.
    pub(crate) fn put(&mut self, block: &BlockRef, bytes: &[u8]) -> Result<(), FileError> {
        let path = block_path(&self.folder, block.digest);
        let written = File::create(&path).and_then(|mut file| file.write_all(bytes));
        written.map_err(at("write", &path))?;
        failpoint("outbox.block-written");
        self.blocks.push(*block);
        Ok(())
    }
}
