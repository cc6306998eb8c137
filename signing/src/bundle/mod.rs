//! The bundle header: everything the linker may know of a bundle, signed by the site.
//!
//! Written in CDDL in `bundle.cddl`. A bundle's id is the SHA-256 of the signed header, so the id names every block too.

mod codec;
mod counts;

pub use counts::{Counts, EVIDENCE_YEARS, EvidenceCount, EvidenceCounts, EvidenceKind};

use crate::digest::Digest;
use crate::encryption::{BlockList, BlockPlace, BundleContext, Encryption};
use crate::envelope::Verified;
use crate::ids::{BundleId, Name, Period, SiteId};
use crate::manifest::LinkKind;

/// The most blocks of one bundle, all kinds together.
pub const BLOCKS_MAX: usize = 8_192;
/// The largest block, bytes, compressed and encrypted.
pub const BLOCK_BYTES_MAX: u64 = 16 << 20;

/// What a site says about one bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleHeader {
    /// Who sends it.
    pub site: SiteId,
    /// Its place in the site's chain, from 1.
    pub sequence: u64,
    /// The bundle before it; `None` for the first.
    pub previous: Option<BundleId>,
    /// The module that made it.
    pub module: ModuleRef,
    /// The objection policy that was applied.
    pub policy: Digest,
    /// The sensitive-code list that was applied.
    pub sensitive: Digest,
    /// The mapping that presented the database.
    pub mapping: Digest,
    /// The rollout by which the module was offered to the site.
    pub rollout: Option<Digest>,
    /// Why the data is collected.
    pub purpose: Name,
    /// How tokens were made.
    pub tokens: TokenInfo,
    /// The month that it covers.
    pub period: Period,
    /// When the snapshot was taken, seconds since 1970-01-01 UTC.
    pub snapshot_at_s: i64,
    /// The agent's version.
    pub agent_version: String,
    /// wasmtime fuel that the module used.
    pub fuel: u64,
    /// What was withheld and why.
    pub counts: Counts,
    /// What is sent.
    pub outputs: Vec<OutputInfo>,
    /// The token table: one row for each patient that the outputs name.
    pub patients: Vec<BlockRef>,
    /// The code dictionary of the outputs.
    pub codes: Vec<BlockRef>,
    /// How the blocks are encrypted, and for whom.
    pub encryption: Encryption,
    /// The earlier bundle of the same module and period that this one replaces.
    pub supersedes: Option<BundleId>,
    /// The directions that the site accepted and that were applied, in the order of their digests.
    pub directions: Vec<Digest>,
    /// What it is for.
    pub kind: BundleKind,
}

/// What a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleKind {
    /// What a module made of a month.
    Extract,
    /// A request to delete: the rows of this module that belong to the tokens of its token table, whichever site sent them.
    /// It has no rows, no counts and no reason. Among the tokens are some that are nobody's, so that their number tells
    /// little.
    Retraction,
}

impl BundleKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Extract => "extract",
            Self::Retraction => "retraction",
        }
    }
}

/// A module, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleRef {
    /// Its id.
    pub id: Name,
    /// Its version.
    pub version: semver::Version,
    /// SHA-256 of its manifest.
    pub manifest: Digest,
    /// SHA-256 of its component.
    pub component: Digest,
}

/// How tokens were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// How they are made.
    pub scheme: TokenScheme,
    /// The key's epoch.
    pub epoch: u32,
    /// The link tokens of the token table, in its order; each once.
    pub links: Vec<LinkKind>,
    /// In the overlap of two epochs: what the patients' tokens were in the epoch before.
    pub former: Option<FormerTokens>,
}

/// The tokens of an earlier epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerTokens {
    /// The epoch.
    pub epoch: u32,
    /// One block for each block of the token table, with as many rows.
    pub blocks: Vec<BlockRef>,
}

/// How tokens are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenScheme {
    /// HMAC-SHA-256 with a key that the site holds.
    SealedKey,
    /// RFC 9497, evaluated by the keyholder, who sees no input; the site holds no key.
    Oprf,
}

impl TokenScheme {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SealedKey => "sealed-key",
            Self::Oprf => "oprf",
        }
    }
}

/// One output of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputInfo {
    /// Its name.
    pub name: Name,
    /// Whether its rows are counts of patients rather than patients.
    pub aggregate: bool,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// Its rows, in blocks.
    pub blocks: Vec<BlockRef>,
}

impl OutputInfo {
    /// All its rows.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.rows)).sum()
    }
}

/// One column of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column of a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// Row numbers of the token table.
    Patient,
    /// Row numbers of the code dictionary.
    Code,
    /// Days since 1970-01-01.
    Date,
    /// Numbers of at most this many decimals.
    Number {
        /// The decimals.
        decimals: u8,
    },
    /// Positions in these names.
    Category {
        /// The names.
        categories: Vec<Name>,
    },
}

/// A block, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// SHA-256 of the block's bytes as they are sent.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// Its rows, at most [`crate::block::ROWS_MAX`].
    pub rows: u32,
}

impl BundleHeader {
    /// What was known before the blocks were: what they are encrypted for.
    pub fn context(&self) -> BundleContext {
        BundleContext {
            site: self.site.clone(),
            sequence: self.sequence,
            previous: self.previous,
            module: self.module.id.clone(),
            version: self.module.version.clone(),
            period: self.period,
        }
    }

    /// Every block of the bundle: token table, dictionary, former tokens, outputs.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockRef> {
        let outputs = self.outputs.iter().flat_map(|output| &output.blocks);
        self.patients.iter().chain(&self.codes).chain(self.former_blocks()).chain(outputs)
    }

    fn former_blocks(&self) -> &[BlockRef] {
        self.tokens.former.as_ref().map_or(&[], |former| &former.blocks)
    }

    /// Every block with its place, in the same order.
    pub fn placed_blocks(&self) -> impl Iterator<Item = (BlockPlace, &BlockRef)> {
        let outputs =
            (0..).zip(&self.outputs).map(|(number, output)| (BlockList::Output(number), &*output.blocks));
        let lists = [
            (BlockList::Patients, &*self.patients),
            (BlockList::Codes, &*self.codes),
            (BlockList::Former, self.former_blocks()),
        ];
        lists.into_iter().chain(outputs).flat_map(|(list, blocks)| {
            (0..).zip(blocks).map(move |(position, block)| (BlockPlace { list, position }, block))
        })
    }

    /// The block of a place.
    pub fn block(&self, place: BlockPlace) -> Option<&BlockRef> {
        let blocks = match place.list {
            BlockList::Patients => &*self.patients,
            BlockList::Codes => &*self.codes,
            BlockList::Former => self.former_blocks(),
            BlockList::Output(number) => &*self.outputs.get(number as usize)?.blocks,
        };
        blocks.get(place.position as usize)
    }

    /// The size of all blocks.
    pub fn bytes(&self) -> u64 {
        self.blocks().map(|block| block.bytes).sum()
    }

    /// The rows of all outputs.
    pub fn rows(&self) -> u64 {
        self.outputs.iter().map(OutputInfo::rows).sum()
    }
}

impl Verified<BundleHeader> {
    /// The bundle's id.
    pub fn id(&self) -> BundleId {
        BundleId(self.digest())
    }
}
