//! The header as deterministic CBOR, read strictly. The keys are those of `bundle.cddl`.

use std::collections::BTreeSet;

use super::{
    BLOCK_BYTES_MAX, BLOCKS_MAX, BlockRef, BundleHeader, BundleKind, ColumnInfo, ColumnKind, Counts,
    FormerTokens, ModuleRef, OutputInfo, TokenInfo, TokenScheme,
};
use crate::cbor::{CborError, Reader, Writer};
use crate::digest::Digest;
use crate::encryption::Encryption;
use crate::envelope::Message;
use crate::ids::BundleId;
use crate::manifest::LinkKind;

const LIST_MAX: usize = 256;
const PLACE: &str = "bundle header";
const FORMAT: u64 = 1;

impl Message for BundleHeader {
    const CONTENT_TYPE: &'static str = "application/vnd.lockgate.bundle+cbor";

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let w = &mut writer;
        w.versioned_record(23, FORMAT);
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
        write_optional_digest(w, self.rollout);
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
        self.encryption.write(w);
        w.unsigned(21);
        write_optional_digest(w, self.supersedes.map(|id| id.0));
        w.unsigned(22);
        w.array(self.directions.len());
        self.directions.iter().for_each(|direction| w.bytes(direction.as_bytes()));
        w.unsigned(23);
        w.text(self.kind.name());
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
        r.versioned_record(23, FORMAT, PLACE)?;
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
        let rollout = read_optional_digest(r)?;
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
        let encryption = Encryption::read(r)?;
        r.field(21, PLACE)?;
        let supersedes = read_optional_digest(r)?.map(BundleId);
        r.field(22, PLACE)?;
        let directions = read_list(r, LIST_MAX, read_digest)?;
        r.field(23, PLACE)?;
        let kind = match r.text(PLACE)? {
            "extract" => BundleKind::Extract,
            "retraction" => BundleKind::Retraction,
            _ => return Err(CborError::value(PLACE, "an unknown kind of bundle")),
        };
        Ok(Self {
            site,
            sequence,
            previous,
            module,
            policy,
            sensitive,
            mapping,
            rollout,
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
            encryption,
            supersedes,
            directions,
            kind,
        })
    }

    /// What the shape alone does not say.
    fn check(&self) -> Result<(), CborError> {
        let wrong = |why: &str| Err(CborError::value(PLACE, why));
        if self.sequence == 0 || (self.sequence == 1) != self.previous.is_none() {
            return wrong("the first bundle, and only it, has sequence 1 and nothing before it");
        }
        if !self.directions.is_sorted_by(|one, next| one < next) {
            return wrong("directions are not in order, or one is named twice");
        }
        if self.directions.is_empty() && self.counts.let_in > 0 {
            return wrong("somebody is let in by no direction");
        }
        // So that every database can hold it as a signed number.
        if i64::try_from(self.sequence).is_err() {
            return wrong("the sequence number is too large");
        }
        let names: BTreeSet<_> = self.outputs.iter().map(|output| &output.name).collect();
        if names.len() != self.outputs.len() {
            return wrong("an output is named twice");
        }
        if let Some(former) = &self.tokens.former {
            let rows = |blocks: &[BlockRef]| blocks.iter().map(|block| block.rows).collect::<Vec<_>>();
            if former.epoch >= self.tokens.epoch {
                return wrong("former tokens are not of an earlier epoch");
            }
            if former.blocks.is_empty() || rows(&former.blocks) != rows(&self.patients) {
                return wrong("former tokens do not stand beside the token table");
            }
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
        match self.kind {
            BundleKind::Extract => Ok(()),
            BundleKind::Retraction => self.check_retraction(),
        }
    }

    /// A retraction says whose rows go, and nothing else: no rows, no counts, no reason.
    fn check_retraction(&self) -> Result<(), CborError> {
        let wrong = |why: &str| Err(CborError::value(PLACE, why));
        if self.patients.is_empty() {
            return wrong("a retraction of nobody");
        }
        let TokenInfo { links, former, .. } = &self.tokens;
        if !(self.outputs.is_empty() && self.codes.is_empty() && links.is_empty() && former.is_none()) {
            return wrong("a retraction with rows, codes, link tokens or former tokens");
        }
        if self.supersedes.is_some() || !self.directions.is_empty() || self.fuel != 0 {
            return wrong("a retraction that replaces a bundle, names a direction, or has run a module");
        }
        if self.counts != Counts::default() {
            return wrong("a retraction with counts, which would tell its reasons");
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
        w.map(4);
        w.unsigned(1);
        w.text(self.scheme.name());
        w.unsigned(2);
        w.unsigned(self.epoch.into());
        w.unsigned(3);
        w.array(self.links.len());
        self.links.iter().for_each(|link| w.text(link.name()));
        w.unsigned(4);
        match &self.former {
            Some(former) => {
                w.array(2);
                w.unsigned(former.epoch.into());
                write_blocks(w, &former.blocks);
            }
            None => w.null(),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "tokens of a bundle header";
        r.record(4, PLACE)?;
        r.field(1, PLACE)?;
        let scheme = match r.text(PLACE)? {
            "sealed-key" => TokenScheme::SealedKey,
            "oprf" => TokenScheme::Oprf,
            _ => return Err(CborError::value(PLACE, "an unknown scheme")),
        };
        r.field(2, PLACE)?;
        let epoch = r.narrow(PLACE)?;
        r.field(3, PLACE)?;
        let links = read_list(r, 8, |r| {
            LinkKind::of_name(r.text(PLACE)?).ok_or_else(|| CborError::value(PLACE, "an unknown link token"))
        })?;
        if links.iter().enumerate().any(|(at, link)| links[..at].contains(link)) {
            return Err(CborError::value(PLACE, "a link token twice"));
        }
        r.field(4, PLACE)?;
        let former = if r.is_null() { None } else { Some(FormerTokens::read(r)?) };
        Ok(Self { scheme, epoch, links, former })
    }
}

impl FormerTokens {
    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        const PLACE: &str = "former tokens of a bundle header";
        if r.array(PLACE)? != 2 {
            return Err(CborError::value(PLACE, "not epoch and blocks"));
        }
        Ok(Self { epoch: r.narrow(PLACE)?, blocks: read_list(r, BLOCKS_MAX, BlockRef::read)? })
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

pub(super) fn read_text(r: &mut Reader<'_>, bytes_max: usize) -> Result<String, CborError> {
    let text = r.text(PLACE)?;
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        return Err(CborError::value(PLACE, "a text is empty, too long, or not printable"));
    }
    Ok(text.to_owned())
}

pub(super) fn read_list<'a, T>(
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
