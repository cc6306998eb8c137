//! The bundle header: everything the linker may know of a bundle, signed by the site.
//!
//! Written in CDDL in `bundle.cddl`. A bundle's id is the SHA-256 of the signed header, so the id names every block too.

use std::collections::BTreeSet;

use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::envelope::{Message, Verified};
use crate::ids::{BundleId, Name, Period, SiteId};

/// The most blocks of one bundle, all kinds together.
pub const BLOCKS_MAX: usize = 8_192;
/// The largest block, bytes, compressed.
pub const BLOCK_BYTES_MAX: u64 = 16 << 20;
const LIST_MAX: usize = 256;

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
    /// The cohorts that the site was in; comes with staged roll-out.
    pub cohorts: Option<Digest>,
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
    /// The wrapped content key; `None`: blocks are not encrypted.
    pub encryption: Option<Encryption>,
    /// The earlier bundle of the same module and period that this one replaces.
    pub supersedes: Option<BundleId>,
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
    /// The link tokens of the token table, in its order (see [`crate::manifest::LinkKind::name`]).
    pub links: Vec<String>,
}

/// How tokens are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenScheme {
    /// HMAC-SHA-256 with a key that the site holds.
    SealedKey,
}

impl TokenScheme {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SealedKey => "sealed-key",
        }
    }
}

/// The place of the wrapped content key (HPKE, RFC 9180). This version sends none and accepts none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {}

/// What the host counted while it read: signed, so that the centre can see a site that stops withholding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Persons in the snapshot, test patients not among them.
    pub patients: u64,
    /// Persons withheld by a Type 1 objection.
    pub withheld_type_1: u64,
    /// Persons whose rows carry the Type 2 flag.
    pub flagged_type_2: u64,
    /// Persons left out because the record marks them as sensitive.
    pub withheld_sensitive: u64,
    /// Test and dummy patients, left out.
    pub test_patients: u64,
    /// Persons without a valid NHS number: sent, but not linkable.
    pub invalid_nhs_numbers: u64,
    /// Objection evidence by code, deleted rows not among them.
    pub evidence: Vec<EvidenceCount>,
    /// Rows of declared inputs that the database held for the period.
    pub rows_read: u64,
    /// Rows left out because their patient is (objection, sensitive, test).
    pub rows_withheld: u64,
    /// Rows left out because no patient of the snapshot owns them.
    pub rows_without_patient: u64,
    /// Rows left out by a sensitive-code list.
    pub rows_sensitive: u64,
    /// Rows left out because a code does not have the shape of its system.
    pub rows_malformed: u64,
    /// Aggregate cells suppressed.
    pub cells_suppressed: u64,
}

/// How often one objection code occurs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvidenceCount {
    /// Its system.
    pub system: String,
    /// Its text.
    pub code: String,
    /// How many rows.
    pub rows: u64,
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
    /// Every block of the bundle: token table, dictionary, outputs.
    pub fn blocks(&self) -> impl Iterator<Item = &BlockRef> {
        let outputs = self.outputs.iter().flat_map(|output| &output.blocks);
        self.patients.iter().chain(&self.codes).chain(outputs)
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

const PLACE: &str = "bundle header";
const FORMAT: u64 = 1;

impl Message for BundleHeader {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.bundle+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let w = &mut writer;
        w.map(21);
        w.unsigned(1);
        w.unsigned(FORMAT);
        w.unsigned(2);
        w.text(self.site.as_str());
        w.unsigned(3);
        w.unsigned(self.sequence);
        w.unsigned(4);
        write_optional_digest(w, self.previous.map(|id| id.0));
        w.unsigned(5);
        self.module.write(w);
        w.unsigned(6);
        w.bytes(self.policy.as_bytes());
        w.unsigned(7);
        w.bytes(self.sensitive.as_bytes());
        w.unsigned(8);
        w.bytes(self.mapping.as_bytes());
        w.unsigned(9);
        write_optional_digest(w, self.cohorts);
        w.unsigned(10);
        w.text(self.purpose.as_str());
        w.unsigned(11);
        self.tokens.write(w);
        w.unsigned(12);
        w.text(&self.period.to_string());
        w.unsigned(13);
        w.integer(self.snapshot_at_s);
        w.unsigned(14);
        w.text(&self.agent_version);
        w.unsigned(15);
        w.unsigned(self.fuel);
        w.unsigned(16);
        self.counts.write(w);
        w.unsigned(17);
        w.array(self.outputs.len());
        self.outputs.iter().for_each(|output| output.write(w));
        w.unsigned(18);
        write_blocks(w, &self.patients);
        w.unsigned(19);
        write_blocks(w, &self.codes);
        w.unsigned(20);
        w.null();
        w.unsigned(21);
        write_optional_digest(w, self.supersedes.map(|id| id.0));
        writer.into_bytes()
    }

    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(payload);
        let header = Self::read(&mut reader)?;
        reader.finish()?;
        header.check()?;
        Ok(header)
    }
}

impl BundleHeader {
    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        r.record(21, PLACE)?;
        r.field(1, PLACE)?;
        if r.unsigned(PLACE)? != FORMAT {
            return Err(CborError::value(PLACE, "another format version"));
        }
        r.field(2, PLACE)?;
        let site = read_id(r)?;
        r.field(3, PLACE)?;
        let sequence = r.unsigned(PLACE)?;
        r.field(4, PLACE)?;
        let previous = read_optional_digest(r)?.map(BundleId);
        r.field(5, PLACE)?;
        let module = ModuleRef::read(r)?;
        r.field(6, PLACE)?;
        let policy = read_digest(r)?;
        r.field(7, PLACE)?;
        let sensitive = read_digest(r)?;
        r.field(8, PLACE)?;
        let mapping = read_digest(r)?;
        r.field(9, PLACE)?;
        let cohorts = read_optional_digest(r)?;
        r.field(10, PLACE)?;
        let purpose = read_id(r)?;
        r.field(11, PLACE)?;
        let tokens = TokenInfo::read(r)?;
        r.field(12, PLACE)?;
        let period = read_id(r)?;
        r.field(13, PLACE)?;
        let snapshot_at_s = r.integer(PLACE)?;
        r.field(14, PLACE)?;
        let agent_version = read_text(r, 40)?;
        r.field(15, PLACE)?;
        let fuel = r.unsigned(PLACE)?;
        r.field(16, PLACE)?;
        let counts = Counts::read(r)?;
        r.field(17, PLACE)?;
        let outputs = read_list(r, LIST_MAX, OutputInfo::read)?;
        r.field(18, PLACE)?;
        let patients = read_list(r, BLOCKS_MAX, BlockRef::read)?;
        r.field(19, PLACE)?;
        let codes = read_list(r, BLOCKS_MAX, BlockRef::read)?;
        r.field(20, PLACE)?;
        if !r.is_null() {
            return Err(CborError::value(PLACE, "this version takes no encrypted bundles"));
        }
        r.field(21, PLACE)?;
        let supersedes = read_optional_digest(r)?.map(BundleId);
        Ok(Self {
            site,
            sequence,
            previous,
            module,
            policy,
            sensitive,
            mapping,
            cohorts,
            purpose,
            tokens,
            period,
            snapshot_at_s,
            agent_version,
            fuel,
            counts,
            outputs,
            patients,
            codes,
            encryption: None,
            supersedes,
        })
    }

    /// What the shape alone does not say.
    fn check(&self) -> Result<(), CborError> {
        let wrong = |why: &str| Err(CborError::value(PLACE, why));
        if self.sequence == 0 || (self.sequence == 1) != self.previous.is_none() {
            return wrong("the first bundle, and only it, has sequence 1 and nothing before it");
        }
        // So that every database can hold it as a signed number.
        if i64::try_from(self.sequence).is_err() {
            return wrong("the sequence number is too large");
        }
        let names: BTreeSet<_> = self.outputs.iter().map(|output| &output.name).collect();
        if names.len() != self.outputs.len() {
            return wrong("an output is named twice");
        }
        if self.blocks().count() > BLOCKS_MAX {
            return wrong("too many blocks");
        }
        for block in self.blocks() {
            if block.bytes == 0
                || block.bytes > BLOCK_BYTES_MAX
                || !(1..=crate::block::ROWS_MAX).contains(&block.rows)
            {
                return wrong("a block is empty or too large");
            }
        }
        Ok(())
    }
}

impl ModuleRef {
    fn write(&self, w: &mut Writer) {
        w.map(4);
        w.unsigned(1);
        w.text(self.id.as_str());
        w.unsigned(2);
        w.text(&self.version.to_string());
        w.unsigned(3);
        w.bytes(self.manifest.as_bytes());
        w.unsigned(4);
        w.bytes(self.component.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "module of a bundle header";
        r.record(4, PLACE)?;
        r.field(1, PLACE)?;
        let id = read_id(r)?;
        r.field(2, PLACE)?;
        let version = read_id(r)?;
        r.field(3, PLACE)?;
        let manifest = read_digest(r)?;
        r.field(4, PLACE)?;
        let component = read_digest(r)?;
        Ok(Self { id, version, manifest, component })
    }
}

impl TokenInfo {
    fn write(&self, w: &mut Writer) {
        w.map(3);
        w.unsigned(1);
        w.text(self.scheme.name());
        w.unsigned(2);
        w.unsigned(self.epoch.into());
        w.unsigned(3);
        w.array(self.links.len());
        self.links.iter().for_each(|link| w.text(link));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "tokens of a bundle header";
        r.record(3, PLACE)?;
        r.field(1, PLACE)?;
        let scheme = match r.text(PLACE)? {
            "sealed-key" => TokenScheme::SealedKey,
            _ => return Err(CborError::value(PLACE, "an unknown scheme")),
        };
        r.field(2, PLACE)?;
        let epoch = r.narrow(PLACE)?;
        r.field(3, PLACE)?;
        let links = read_list(r, 8, |r| read_text(r, 40))?;
        Ok(Self { scheme, epoch, links })
    }
}

impl Counts {
    fn write(&self, w: &mut Writer) {
        w.map(13);
        let before = [
            self.patients,
            self.withheld_type_1,
            self.flagged_type_2,
            self.withheld_sensitive,
            self.test_patients,
            self.invalid_nhs_numbers,
        ];
        let after = [
            self.rows_read,
            self.rows_withheld,
            self.rows_without_patient,
            self.rows_sensitive,
            self.rows_malformed,
            self.cells_suppressed,
        ];
        for (key, count) in (1..).zip(before) {
            w.unsigned(key);
            w.unsigned(count);
        }
        w.unsigned(7);
        w.array(self.evidence.len());
        for evidence in &self.evidence {
            w.array(3);
            w.text(&evidence.system);
            w.text(&evidence.code);
            w.unsigned(evidence.rows);
        }
        for (key, count) in (8..).zip(after) {
            w.unsigned(key);
            w.unsigned(count);
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "counts of a bundle header";
        fn count(r: &mut Reader<'_>, key: u64) -> Result<u64, CborError> {
            r.field(key, PLACE)?;
            r.unsigned(PLACE)
        }
        r.record(13, PLACE)?;
        Ok(Self {
            patients: count(r, 1)?,
            withheld_type_1: count(r, 2)?,
            flagged_type_2: count(r, 3)?,
            withheld_sensitive: count(r, 4)?,
            test_patients: count(r, 5)?,
            invalid_nhs_numbers: count(r, 6)?,
            evidence: {
                r.field(7, PLACE)?;
                read_list(r, LIST_MAX, EvidenceCount::read)?
            },
            rows_read: count(r, 8)?,
            rows_withheld: count(r, 9)?,
            rows_without_patient: count(r, 10)?,
            rows_sensitive: count(r, 11)?,
            rows_malformed: count(r, 12)?,
            cells_suppressed: count(r, 13)?,
        })
    }
}

impl EvidenceCount {
    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "evidence count";
        if r.array(PLACE)? != 3 {
            return Err(CborError::value(PLACE, "not system, code and rows"));
        }
        Ok(Self { system: read_text(r, 24)?, code: read_text(r, 24)?, rows: r.unsigned(PLACE)? })
    }
}

impl OutputInfo {
    fn write(&self, w: &mut Writer) {
        w.map(4);
        w.unsigned(1);
        w.text(self.name.as_str());
        w.unsigned(2);
        w.bool(self.aggregate);
        w.unsigned(3);
        w.array(self.columns.len());
        self.columns.iter().for_each(|column| column.write(w));
        w.unsigned(4);
        write_blocks(w, &self.blocks);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "output of a bundle header";
        r.record(4, PLACE)?;
        r.field(1, PLACE)?;
        let name = read_id(r)?;
        r.field(2, PLACE)?;
        let aggregate = r.bool(PLACE)?;
        r.field(3, PLACE)?;
        let columns = read_list(r, LIST_MAX, ColumnInfo::read)?;
        r.field(4, PLACE)?;
        let blocks = read_list(r, BLOCKS_MAX, BlockRef::read)?;
        Ok(Self { name, aggregate, columns, blocks })
    }
}

impl ColumnInfo {
    fn write(&self, w: &mut Writer) {
        w.array(3);
        w.text(self.name.as_str());
        match &self.kind {
            ColumnKind::Patient => {
                w.text("patient");
                w.null();
            }
            ColumnKind::Code => {
                w.text("code");
                w.null();
            }
            ColumnKind::Date => {
                w.text("date");
                w.null();
            }
            ColumnKind::Number { decimals } => {
                w.text("number");
                w.unsigned((*decimals).into());
            }
            ColumnKind::Category { categories } => {
                w.text("category");
                w.array(categories.len());
                categories.iter().for_each(|name| w.text(name.as_str()));
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "column of a bundle header";
        if r.array(PLACE)? != 3 {
            return Err(CborError::value(PLACE, "not name, type and detail"));
        }
        let name = read_id(r)?;
        let no_detail = |r: &mut Reader<'_>, kind| {
            if r.is_null() { Ok(kind) } else { Err(CborError::value(PLACE, "a detail where there is none")) }
        };
        let kind = match r.text(PLACE)? {
            "patient" => no_detail(r, ColumnKind::Patient)?,
            "code" => no_detail(r, ColumnKind::Code)?,
            "date" => no_detail(r, ColumnKind::Date)?,
            "number" => match r.narrow(PLACE)? {
                decimals @ 0..=6 => ColumnKind::Number { decimals },
                _ => return Err(CborError::value(PLACE, "more than 6 decimals")),
            },
            "category" => ColumnKind::Category { categories: read_list(r, LIST_MAX, read_id)? },
            _ => return Err(CborError::value(PLACE, "an unknown type")),
        };
        Ok(Self { name, kind })
    }
}

impl BlockRef {
    fn write(&self, w: &mut Writer) {
        w.array(3);
        w.bytes(self.digest.as_bytes());
        w.unsigned(self.bytes);
        w.unsigned(self.rows.into());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "block of a bundle header";
        if r.array(PLACE)? != 3 {
            return Err(CborError::value(PLACE, "not digest, bytes and rows"));
        }
        Ok(Self { digest: read_digest(r)?, bytes: r.unsigned(PLACE)?, rows: r.narrow(PLACE)? })
    }
}

fn write_blocks(w: &mut Writer, blocks: &[BlockRef]) {
    w.array(blocks.len());
    blocks.iter().for_each(|block| block.write(w));
}

fn write_optional_digest(w: &mut Writer, digest: Option<Digest>) {
    match digest {
        Some(digest) => w.bytes(digest.as_bytes()),
        None => w.null(),
    }
}

fn read_digest(r: &mut Reader<'_>) -> Result<Digest, CborError> {
    r.fixed(PLACE).map(Digest::from_bytes)
}

fn read_optional_digest(r: &mut Reader<'_>) -> Result<Option<Digest>, CborError> {
    if r.is_null() { Ok(None) } else { read_digest(r).map(Some) }
}

fn read_id<T: std::str::FromStr<Err: std::fmt::Display>>(r: &mut Reader<'_>) -> Result<T, CborError> {
    r.text(PLACE)?.parse().map_err(|error| CborError::value(PLACE, error))
}

fn read_text(r: &mut Reader<'_>, bytes_max: usize) -> Result<String, CborError> {
    let text = r.text(PLACE)?;
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        return Err(CborError::value(PLACE, "a text is empty, too long, or not printable"));
    }
    Ok(text.to_owned())
}

fn read_list<'a, T>(
    r: &mut Reader<'a>,
    items_max: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, CborError>,
) -> Result<Vec<T>, CborError> {
    let items = r.array(PLACE)?;
    if items > items_max {
        return Err(CborError::value(PLACE, format_args!("a list of more than {items_max}")));
    }
    (0..items).map(|_| read(r)).collect()
}
