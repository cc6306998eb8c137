//! Blocks: up to 65,536 rows in columns, small.
//!
//! A column is a series of integers, as an RFC 8746 typed array of the narrowest width above its smallest value, with a
//! bitmap of the rows that have no value. Codes are positions in the bundle's dictionary, patients in its token table.
//! Numbers are scaled by a power of ten, which is exact because the host has rounded them to the decimals of the manifest.
//!
//! Numbers, further codes and categories say something *about* the row's code. So they are written in the order of the
//! code column (stable: rows of one code stay in row order), where a blood pressure stands beside blood pressures, and
//! each code's numbers have their own scale. On 328,102 real observations this halves the values (716 to 360 kB) and makes
//! the units free (29 to 2 kB), at the cost of one counting sort.
//!
//! Everything is decided by the rows alone, so the same rows give the same bytes.

use std::collections::HashMap;

use crate::bundle::{ColumnInfo, ColumnKind};
use crate::cbor::{CborError, Reader, Writer};
use crate::code::CODE_BYTES_MAX;

/// The most rows of a block.
pub const ROWS_MAX: u32 = 65_536;
/// The largest block before compression, bytes: 64 columns of 8 bytes a row.
pub const PLAIN_BYTES_MAX: usize = 36 << 20;
/// zstd's default: level 9 gains 3 % and costs six times as much.
const ZSTD_LEVEL: i32 = 3;
/// Bytes of a token.
pub const TOKEN_BYTES: usize = 16;

const FORMAT: u64 = 1;
const PLACE: &str = "block";
/// The largest dictionary that is indexed directly while rows are grouped: 4 MiB of counters.
const DENSE_MAX: usize = 1 << 20;

/// A patient's token: the keyed pseudonym, 128 bits of a PRF's output.
pub type Token = [u8; TOKEN_BYTES];

/// A set of rows: one bit a row, least significant first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bitmap {
    bytes: Vec<u8>,
    rows: usize,
}

impl Bitmap {
    /// No row of this many.
    pub fn none(rows: usize) -> Self {
        Self { bytes: vec![0; rows.div_ceil(8)], rows }
    }

    /// From bytes; `None` if they are not exactly the bytes of this many rows (bits beyond the last row are 0).
    pub fn from_bytes(bytes: Vec<u8>, rows: usize) -> Option<Self> {
        let spare = bytes.len() * 8 - rows.min(bytes.len() * 8);
        let clean = spare == 0
            || spare < 8 && bytes.last().is_some_and(|last| last.leading_zeros() as usize >= spare);
        (bytes.len() == rows.div_ceil(8) && clean).then_some(Self { bytes, rows })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a row.
    pub fn set(&mut self, row: usize) {
        self.bytes[row / 8] |= 1 << (row % 8);
    }

    /// Whether a row is in it.
    pub fn contains(&self, row: usize) -> bool {
        self.bytes.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    /// How many rows are in it.
    pub fn count(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

/// The values of one column; a row without a value holds 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Row numbers of the token table.
    Patients(Vec<u32>),
    /// Row numbers of the code dictionary.
    Codes(Vec<u32>),
    /// Days since 1970-01-01.
    Dates(Vec<i32>),
    /// Numbers, already rounded to the column's decimals.
    Numbers(Vec<f64>),
    /// Positions in the column's categories.
    Categories(Vec<u8>),
}

impl Values {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Patients(values) | Self::Codes(values) => values.len(),
            Self::Dates(values) => values.len(),
            Self::Numbers(values) => values.len(),
            Self::Categories(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One column of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its values.
    pub values: Values,
    /// The rows without a value; `None`: every row has one.
    pub missing: Option<Bitmap>,
}

impl Column {
    /// Whether a row has a value.
    pub fn has(&self, row: usize) -> bool {
        self.missing.as_ref().is_none_or(|missing| !missing.contains(row))
    }
}

/// What the encoder was given does not fit its schema. The host checks rows before it encodes them, so this is a bug there.
#[derive(Debug, thiserror::Error)]
#[error("a block cannot be encoded: {0}")]
pub struct EncodeError(pub &'static str);

/// Makes blocks; keeps its buffers between them.
pub struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

/// 10 to the power of 0..=6.
const POWERS: [i64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

impl Encoder {
    /// An encoder.
    pub fn new() -> Result<Self, EncodeError> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(|zstd| Self { zstd }).map_err(|_| EncodeError("zstd"))
    }

    fn compress(&mut self, writer: Writer) -> Result<Vec<u8>, EncodeError> {
        let plain = writer.into_bytes();
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(EncodeError("too large"));
        }
        self.zstd.compress(&plain).map_err(|_| EncodeError("zstd"))
    }

    /// A block of an output's rows.
    pub fn rows(&mut self, schema: &[ColumnInfo], columns: &[Column]) -> Result<Vec<u8>, EncodeError> {
        let rows = columns.first().map_or(0, |column| column.values.len());
        if schema.len() != columns.len() || columns.iter().any(|column| column.values.len() != rows) {
            return Err(EncodeError("columns that do not fit their schema"));
        }
        let grouping = match grouping_column(schema, columns).map(|index| &columns[index].values) {
            Some(Values::Codes(codes)) => Some(Grouping::by(codes)),
            _ => None,
        };
        let mut writer = Writer::new();
        writer.map(3);
        writer.unsigned(1);
        writer.unsigned(FORMAT);
        writer.unsigned(2);
        writer.unsigned(rows as u64);
        writer.unsigned(3);
        writer.array(columns.len());
        let group_at = grouping_column(schema, columns);
        for (index, (info, column)) in schema.iter().zip(columns).enumerate() {
            let grouping = grouping.as_ref().filter(|_| follows_code(&info.kind) && group_at != Some(index));
            write_column(&mut writer, info, column, grouping)?;
        }
        self.compress(writer)
    }

    /// A block of the token table: a token a row, whether a Type 2 objection holds, and the link tokens.
    pub fn patients(&mut self, table: &PatientTable) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new();
        writer.map(5);
        writer.unsigned(1);
        writer.unsigned(FORMAT);
        writer.unsigned(2);
        writer.unsigned(table.tokens.len() as u64);
        writer.unsigned(3);
        writer.bytes(table.tokens.as_flattened());
        writer.unsigned(4);
        writer.bytes(table.type_2.as_bytes());
        writer.unsigned(5);
        writer.array(table.links.len());
        for links in &table.links {
            writer.array(2);
            writer.bytes(links.tokens.as_flattened());
            writer.bytes(links.missing.as_bytes());
        }
        self.compress(writer)
    }

    /// A block of the code dictionary.
    pub fn codes(&mut self, codes: &[(String, String)]) -> Result<Vec<u8>, EncodeError> {
        let mut systems: Vec<&str> = Vec::new();
        let mut positions = Vec::with_capacity(codes.len());
        let (mut text, mut lengths) = (Vec::new(), Vec::with_capacity(codes.len()));
        for (system, code) in codes {
            let position = systems.iter().position(|known| known == system).unwrap_or_else(|| {
                systems.push(system);
                systems.len() - 1
            });
            positions.push(u8::try_from(position).map_err(|_| EncodeError("more than 256 code systems"))?);
            lengths.push(u8::try_from(code.len()).map_err(|_| EncodeError("a code is too long"))?);
            text.extend_from_slice(code.as_bytes());
        }
        let mut writer = Writer::new();
        writer.map(6);
        writer.unsigned(1);
        writer.unsigned(FORMAT);
        writer.unsigned(2);
        writer.unsigned(codes.len() as u64);
        writer.unsigned(3);
        writer.array(systems.len());
        systems.iter().for_each(|system| writer.text(system));
        writer.unsigned(4);
        writer.bytes(&positions);
        writer.unsigned(5);
        writer.bytes(&lengths);
        writer.unsigned(6);
        writer.bytes(&text);
        self.compress(writer)
    }
}

/// A stretch of the token table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatientTable {
    /// The patients' tokens.
    pub tokens: Vec<Token>,
    /// Those with a Type 2 objection.
    pub type_2: Bitmap,
    /// The link tokens, in the order of the header's [`crate::bundle::TokenInfo::links`].
    pub links: Vec<LinkTokens>,
}

/// The link tokens of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkTokens {
    /// One a patient; zeros where there is none.
    pub tokens: Vec<Token>,
    /// The patients that have none, for example for want of a valid NHS number.
    pub missing: Bitmap,
}

/// The column that others are written in the order of: the first code column, if every row has a code.
fn grouping_column(schema: &[ColumnInfo], columns: &[Column]) -> Option<usize> {
    let first = schema.iter().position(|info| info.kind == ColumnKind::Code)?;
    columns[first].missing.is_none().then_some(first)
}

fn follows_code(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Number { .. } | ColumnKind::Code | ColumnKind::Category { .. })
}

/// Row numbers in the order of a code column, and where each code's rows end.
struct Grouping {
    order: Vec<u32>,
    ends: Vec<u32>,
}

impl Grouping {
    /// A stable counting sort; distinct codes in ascending order are the groups.
    fn by(codes: &[u32]) -> Self {
        let mut distinct: Vec<u32> = codes.to_vec();
        distinct.sort_unstable();
        let mut ends = Vec::new();
        let mut starts: Vec<(u32, u32)> = Vec::new();
        for (position, code) in (0_u32..).zip(&distinct) {
            if starts.last().is_none_or(|(last, _)| last != code) {
                if position > 0 {
                    ends.push(position);
                }
                starts.push((*code, position));
            }
        }
        if !codes.is_empty() {
            ends.push(distinct.len() as u32);
        }
        // A bundle's dictionary is dense, so positions are looked up directly; a hostile block may name any position, and
        // must not make us allocate for it.
        let top = distinct.last().map_or(0, |&code| code as usize + 1);
        let mut order = vec![0; codes.len()];
        if top <= DENSE_MAX {
            let mut next = vec![0_u32; top];
            starts.iter().for_each(|(code, start)| next[*code as usize] = *start);
            for (row, code) in (0_u32..).zip(codes) {
                order[advance(&mut next[*code as usize])] = row;
            }
        } else {
            let mut next: HashMap<u32, u32> = starts.into_iter().collect();
            for (row, code) in (0_u32..).zip(codes) {
                order[advance(next.entry(*code).or_default())] = row;
            }
        }
        Self { order, ends }
    }
}

fn advance(next: &mut u32) -> usize {
    *next += 1;
    *next as usize - 1
}

fn write_column(
    writer: &mut Writer,
    info: &ColumnInfo,
    column: &Column,
    grouping: Option<&Grouping>,
) -> Result<(), EncodeError> {
    let mut scales = Vec::new();
    let integers = match (&info.kind, &column.values) {
        (ColumnKind::Patient, Values::Patients(values)) | (ColumnKind::Code, Values::Codes(values)) => {
            ordered(column, grouping, |row| i64::from(values[row]))
        }
        (ColumnKind::Date, Values::Dates(values)) => ordered(column, grouping, |row| i64::from(values[row])),
        (ColumnKind::Category { .. }, Values::Categories(values)) => {
            ordered(column, grouping, |row| i64::from(values[row]))
        }
        (ColumnKind::Number { decimals }, Values::Numbers(values)) => {
            let power = POWERS.get(usize::from(*decimals)).ok_or(EncodeError("more than 6 decimals"))?;
            // The manifest keeps numbers below 2^53 after scaling, where the product is exact.
            let mut integers =
                ordered(column, grouping, |row| (values[row] * *power as f64).round_ties_even() as i64);
            scales = rescale(&mut integers, column, grouping, *decimals);
            integers
        }
        _ => return Err(EncodeError("a column of another type than its schema says")),
    };
    writer.map(5);
    writer.unsigned(1);
    writer.bool(grouping.is_some());
    writer.unsigned(2);
    writer.bytes(&scales);
    let base = integers.iter().copied().min().unwrap_or(0);
    writer.unsigned(3);
    writer.integer(base);
    writer.unsigned(4);
    write_narrow(writer, &integers, base);
    writer.unsigned(5);
    match &column.missing {
        Some(missing) => writer.bytes(missing.as_bytes()),
        None => writer.null(),
    }
    Ok(())
}

/// The values that are there, in row order or in the order of the groups.
fn ordered(column: &Column, grouping: Option<&Grouping>, value: impl Fn(usize) -> i64) -> Vec<i64> {
    let rows = column.values.len();
    match (grouping, &column.missing) {
        (None, None) => (0..rows).map(value).collect(),
        (None, Some(missing)) => (0..rows).filter(|&row| !missing.contains(row)).map(value).collect(),
        (Some(grouping), None) => grouping.order.iter().map(|&row| value(row as usize)).collect(),
        (Some(grouping), Some(missing)) => {
            let order = grouping.order.iter().map(|&row| row as usize);
            order.filter(|&row| !missing.contains(row)).map(value).collect()
        }
    }
}

/// Divides each group by the greatest power of ten that leaves integers; returns how many decimals each one keeps.
fn rescale(integers: &mut [i64], column: &Column, grouping: Option<&Grouping>, decimals: u8) -> Vec<u8> {
    let mut scales = Vec::new();
    let mut rest = integers;
    for count in group_counts(column, grouping) {
        let (group, after) = rest.split_at_mut(count);
        rest = after;
        // Start from "divide by everything" and give back decimals until every value is whole.
        let mut dropped = decimals;
        for value in group.iter() {
            while dropped > 0 && value % POWERS[usize::from(dropped)] != 0 {
                dropped -= 1;
            }
            if dropped == 0 {
                break;
            }
        }
        if dropped > 0 {
            let power = POWERS[usize::from(dropped)];
            group.iter_mut().for_each(|value| *value /= power);
        }
        scales.push(decimals - dropped);
    }
    scales
}

/// How many values of a column each group holds; without groups, one group of all.
fn group_counts(column: &Column, grouping: Option<&Grouping>) -> Vec<usize> {
    let Some(grouping) = grouping else {
        let missing = column.missing.as_ref().map_or(0, Bitmap::count);
        return vec![column.values.len() - missing];
    };
    let mut start = 0;
    let mut counts = Vec::with_capacity(grouping.ends.len());
    for &end in &grouping.ends {
        let rows = &grouping.order[start..end as usize];
        start = end as usize;
        counts.push(rows.iter().filter(|&&row| column.has(row as usize)).count());
    }
    counts
}

/// RFC 8746, section 2.1: unsigned little-endian arrays of 8, 16, 32 and 64 bits.
const TAGS: [(u64, usize); 4] = [(64, 1), (69, 2), (70, 4), (71, 8)];

fn write_narrow(writer: &mut Writer, integers: &[i64], base: i64) {
    let above = |value: i64| value.abs_diff(base);
    let widest = integers.iter().map(|&value| above(value)).max().unwrap_or(0);
    let (tag, width) = narrowest(widest);
    writer.tag(tag);
    let mut bytes = Vec::with_capacity(integers.len() * width);
    match width {
        1 => bytes.extend(integers.iter().map(|&value| above(value) as u8)),
        2 => integers.iter().for_each(|&value| bytes.extend((above(value) as u16).to_le_bytes())),
        4 => integers.iter().for_each(|&value| bytes.extend((above(value) as u32).to_le_bytes())),
        _ => integers.iter().for_each(|&value| bytes.extend(above(value).to_le_bytes())),
    }
    writer.bytes(&bytes);
}

fn narrowest(widest: u64) -> (u64, usize) {
    match widest {
        0..=0xff => TAGS[0],
        0x100..=0xffff => TAGS[1],
        0x1_0000..=0xffff_ffff => TAGS[2],
        _ => TAGS[3],
    }
}

/// A block of rows, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// How many.
    pub rows: usize,
    /// The columns, as the header's schema names them.
    pub columns: Vec<Column>,
}

/// Decompresses a block; never more than [`PLAIN_BYTES_MAX`].
fn decompress(bytes: &[u8]) -> Result<Vec<u8>, CborError> {
    zstd::bulk::decompress(bytes, PLAIN_BYTES_MAX)
        .map_err(|_| CborError::value(PLACE, "not one zstd frame of at most 36 MiB"))
}

fn read_head(reader: &mut Reader<'_>, fields: u64) -> Result<usize, CborError> {
    reader.record(fields, PLACE)?;
    reader.field(1, PLACE)?;
    if reader.unsigned(PLACE)? != FORMAT {
        return Err(CborError::value(PLACE, "another format version"));
    }
    reader.field(2, PLACE)?;
    match reader.unsigned(PLACE)? {
        rows if rows <= u64::from(ROWS_MAX) => Ok(rows as usize),
        _ => Err(CborError::value(PLACE, "more than 65,536 rows")),
    }
}

/// Decodes a block of rows.
pub fn decode_rows(bytes: &[u8], schema: &[ColumnInfo]) -> Result<Rows, CborError> {
    let plain = decompress(bytes)?;
    let mut reader = Reader::new(&plain);
    let rows = read_head(&mut reader, 3)?;
    reader.field(3, PLACE)?;
    if reader.array(PLACE)? != schema.len() {
        return Err(CborError::value(PLACE, "another number of columns than the header's schema"));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(schema.len());
    let first_code = schema.iter().position(|info| info.kind == ColumnKind::Code);
    let mut grouping = None;
    let mut pending = Vec::new();
    for (index, info) in schema.iter().enumerate() {
        let series = Series::read(&mut reader, rows, info)?;
        if Some(index) == first_code && series.missing.is_none() && !series.grouped {
            grouping =
                Some(Grouping::by(&series.integers.iter().map(|&code| code as u32).collect::<Vec<_>>()));
        }
        pending.push(series);
    }
    reader.finish()?;
    for (index, (series, info)) in pending.into_iter().zip(schema).enumerate() {
        let expected = grouping.is_some() && follows_code(&info.kind) && Some(index) != first_code;
        if series.grouped != expected {
            return Err(CborError::value(PLACE, "a column is in another order than it should be"));
        }
        columns.push(series.into_column(rows, info, grouping.as_ref().filter(|_| expected))?);
    }
    Ok(Rows { rows, columns })
}

/// A column as it is written.
struct Series {
    grouped: bool,
    scales: Vec<u8>,
    integers: Vec<i64>,
    missing: Option<Bitmap>,
}

impl Series {
    fn read(reader: &mut Reader<'_>, rows: usize, info: &ColumnInfo) -> Result<Self, CborError> {
        const PLACE: &str = "column of a block";
        reader.record(5, PLACE)?;
        reader.field(1, PLACE)?;
        let grouped = reader.bool(PLACE)?;
        reader.field(2, PLACE)?;
        let scales = reader.bytes(PLACE)?.to_vec();
        reader.field(3, PLACE)?;
        let base = reader.integer(PLACE)?;
        reader.field(4, PLACE)?;
        let tag = reader.any_tag(PLACE)?;
        let Some((_, width)) = TAGS.into_iter().find(|(known, _)| *known == tag) else {
            return Err(CborError::value(PLACE, "not an unsigned typed array"));
        };
        let bytes = reader.bytes(PLACE)?;
        reader.field(5, PLACE)?;
        let missing = if reader.is_null() {
            None
        } else {
            let bitmap = Bitmap::from_bytes(reader.bytes(PLACE)?.to_vec(), rows);
            Some(bitmap.ok_or_else(|| CborError::value(PLACE, "a bitmap of another number of rows"))?)
        };
        if missing.as_ref().is_some_and(|missing| missing.count() == 0) {
            return Err(CborError::NotDeterministic("an empty bitmap"));
        }
        let count = rows - missing.as_ref().map_or(0, Bitmap::count);
        if bytes.len() != count * width {
            return Err(CborError::value(PLACE, "another number of values than rows"));
        }
        let above =
            |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let values: Vec<u64> = bytes.chunks_exact(width).map(above).collect();
        let lowest = values.iter().copied().min().unwrap_or(0);
        let widest = values.iter().copied().max().unwrap_or(0);
        if lowest != 0 || narrowest(widest).0 != tag || (count == 0 && base != 0) {
            return Err(CborError::NotDeterministic("an array is not in its narrowest form"));
        }
        let integers: Option<Vec<i64>> =
            values.into_iter().map(|above| base.checked_add_unsigned(above)).collect();
        let integers = integers.ok_or_else(|| CborError::value(PLACE, "a number is too large"))?;
        let range = match &info.kind {
            ColumnKind::Patient | ColumnKind::Code => 0..=i64::from(u32::MAX),
            ColumnKind::Date => i64::from(i32::MIN)..=i64::from(i32::MAX),
            ColumnKind::Category { categories } => 0..=(categories.len() as i64 - 1).min(255),
            ColumnKind::Number { .. } => -(1 << 53)..=1 << 53,
        };
        if integers.iter().any(|value| !range.contains(value)) {
            return Err(CborError::value(PLACE, "a value is out of range"));
        }
        Ok(Self { grouped, scales, integers, missing })
    }

    fn into_column(
        self,
        rows: usize,
        info: &ColumnInfo,
        grouping: Option<&Grouping>,
    ) -> Result<Column, CborError> {
        const PLACE: &str = "column of a block";
        let Self { scales, integers, missing, .. } = self;
        let has = |row: usize| missing.as_ref().is_none_or(|missing| !missing.contains(row));
        let present: Vec<usize> = match grouping {
            None => (0..rows).filter(|&row| has(row)).collect(),
            Some(grouping) => {
                grouping.order.iter().map(|&row| row as usize).filter(|&row| has(row)).collect()
            }
        };
        fn place<T: Copy + Default>(
            rows: usize,
            present: &[usize],
            integers: &[i64],
            value: impl Fn(i64) -> T,
        ) -> Vec<T> {
            let mut placed = vec![T::default(); rows];
            present.iter().zip(integers).for_each(|(&row, &integer)| placed[row] = value(integer));
            placed
        }
        if !matches!(info.kind, ColumnKind::Number { .. }) && !scales.is_empty() {
            return Err(CborError::value(PLACE, "scales for a column without numbers"));
        }
        let values = match info.kind {
            ColumnKind::Patient => Values::Patients(place(rows, &present, &integers, |value| value as u32)),
            ColumnKind::Code => Values::Codes(place(rows, &present, &integers, |value| value as u32)),
            ColumnKind::Date => Values::Dates(place(rows, &present, &integers, |value| value as i32)),
            ColumnKind::Category { .. } => {
                Values::Categories(place(rows, &present, &integers, |value| value as u8))
            }
            ColumnKind::Number { decimals } => {
                let counts = match grouping {
                    None => vec![present.len()],
                    Some(grouping) => {
                        let mut start = 0;
                        let count = |&end: &u32| {
                            let rows = &grouping.order[start..end as usize];
                            start = end as usize;
                            rows.iter().filter(|&&row| has(row as usize)).count()
                        };
                        grouping.ends.iter().map(count).collect()
                    }
                };
                if scales.len() != counts.len() || scales.iter().any(|&scale| scale > decimals) {
                    return Err(CborError::value(PLACE, "scales that do not fit the groups"));
                }
                let powers: Vec<f64> = counts
                    .iter()
                    .zip(&scales)
                    .flat_map(|(&count, &scale)| {
                        std::iter::repeat_n(POWERS[usize::from(scale)] as f64, count)
                    })
                    .collect();
                let mut numbers = vec![0.0; rows];
                for ((&row, &integer), power) in present.iter().zip(&integers).zip(powers) {
                    numbers[row] = integer as f64 / power;
                }
                Values::Numbers(numbers)
            }
        };
        Ok(Column { values, missing })
    }
}

/// Decodes a block of the token table.
pub fn decode_patients(bytes: &[u8], links: usize) -> Result<PatientTable, CborError> {
    const PLACE: &str = "token table";
    let plain = decompress(bytes)?;
    let mut reader = Reader::new(&plain);
    let rows = read_head(&mut reader, 5)?;
    let tokens = |bytes: &[u8]| match bytes.as_chunks() {
        (tokens, []) if tokens.len() == rows => Ok(tokens.to_vec()),
        _ => Err(CborError::value(PLACE, "another number of tokens than rows")),
    };
    let bitmap = |bytes: &[u8]| {
        Bitmap::from_bytes(bytes.to_vec(), rows)
            .ok_or_else(|| CborError::value(PLACE, "a bitmap of another number of rows"))
    };
    reader.field(3, PLACE)?;
    let patients = tokens(reader.bytes(PLACE)?)?;
    reader.field(4, PLACE)?;
    let type_2 = bitmap(reader.bytes(PLACE)?)?;
    reader.field(5, PLACE)?;
    if reader.array(PLACE)? != links {
        return Err(CborError::value(PLACE, "another number of link tokens than the header names"));
    }
    let mut tables = Vec::with_capacity(links);
    for _ in 0..links {
        if reader.array(PLACE)? != 2 {
            return Err(CborError::value(PLACE, "not tokens and a bitmap"));
        }
        tables.push(LinkTokens {
            tokens: tokens(reader.bytes(PLACE)?)?,
            missing: bitmap(reader.bytes(PLACE)?)?,
        });
    }
    reader.finish()?;
    Ok(PatientTable { tokens: patients, type_2, links: tables })
}

/// Decodes a block of the code dictionary: (system, text) of each code.
pub fn decode_codes(bytes: &[u8]) -> Result<Vec<(String, String)>, CborError> {
    const PLACE: &str = "code dictionary";
    let plain = decompress(bytes)?;
    let mut reader = Reader::new(&plain);
    let rows = read_head(&mut reader, 6)?;
    reader.field(3, PLACE)?;
    let count = reader.array(PLACE)?;
    let systems = (0..count).map(|_| reader.text(PLACE)).collect::<Result<Vec<_>, _>>()?;
    reader.field(4, PLACE)?;
    let positions = reader.bytes(PLACE)?;
    reader.field(5, PLACE)?;
    let lengths = reader.bytes(PLACE)?;
    reader.field(6, PLACE)?;
    let mut text = reader.bytes(PLACE)?;
    reader.finish()?;
    if positions.len() != rows || lengths.len() != rows {
        return Err(CborError::value(PLACE, "another number of codes than rows"));
    }
    let mut codes = Vec::with_capacity(rows);
    for (&position, &length) in positions.iter().zip(lengths) {
        let system = systems.get(usize::from(position));
        let split =
            text.split_at_checked(usize::from(length)).filter(|_| usize::from(length) <= CODE_BYTES_MAX);
        let (Some(system), Some((code, rest))) = (system, split) else {
            return Err(CborError::value(PLACE, "a code outside of the text or of the systems"));
        };
        let code = std::str::from_utf8(code).map_err(|_| CborError::Malformed("a text that is not UTF-8"))?;
        codes.push(((*system).to_owned(), code.to_owned()));
        text = rest;
    }
    if text.is_empty() { Ok(codes) } else { Err(CborError::Leftover(text.len())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schema() -> Vec<ColumnInfo> {
        let info = |name: &str, kind| ColumnInfo { name: name.parse().unwrap(), kind };
        vec![
            info("patient", ColumnKind::Patient),
            info("date", ColumnKind::Date),
            info("code", ColumnKind::Code),
            info("value", ColumnKind::Number { decimals: 3 }),
            info("unit", ColumnKind::Code),
            info(
                "kind",
                ColumnKind::Category {
                    categories: ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec(),
                },
            ),
        ]
    }

    type Row = (u32, Option<i32>, u32, Option<i32>, Option<u16>, u8);

    fn columns(rows: &[Row]) -> Vec<Column> {
        fn column<T: Copy + Default>(cells: Vec<Option<T>>, values: impl Fn(Vec<T>) -> Values) -> Column {
            let mut missing = Bitmap::none(cells.len());
            cells.iter().enumerate().filter(|(_, cell)| cell.is_none()).for_each(|(row, _)| missing.set(row));
            Column {
                values: values(cells.iter().map(|cell| cell.unwrap_or_default()).collect()),
                missing: (missing.count() > 0).then_some(missing),
            }
        }
        vec![
            column(rows.iter().map(|row| Some(row.0)).collect(), Values::Patients),
            column(rows.iter().map(|row| row.1).collect(), Values::Dates),
            column(rows.iter().map(|row| Some(row.2)).collect(), Values::Codes),
            column(
                rows.iter().map(|row| row.3.map(|value| f64::from(value) / 1000.0)).collect(),
                Values::Numbers,
            ),
            column(rows.iter().map(|row| row.4.map(u32::from)).collect(), Values::Codes),
            column(rows.iter().map(|row| Some(row.5)).collect(), Values::Categories),
        ]
    }

    proptest! {
        #[test]
        fn rows_are_read_back(rows in prop::collection::vec(
            (any::<u32>(), any::<Option<i32>>(), 0_u32..500, any::<Option<i32>>(), any::<Option<u16>>(), 0_u8..3), 0..300,
        )) {
            let columns = columns(&rows);
            let bytes = Encoder::new().unwrap().rows(&schema(), &columns).unwrap();
            let decoded = decode_rows(&bytes, &schema()).unwrap();
            prop_assert_eq!(decoded.rows, rows.len());
            prop_assert_eq!(decoded.columns, columns);
        }

        #[test]
        fn any_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>) {
            let framed = zstd::bulk::compress(&bytes, 1).unwrap();
            for bytes in [&bytes, &framed] {
                let _ = decode_rows(bytes, &schema());
                let _ = decode_patients(bytes, 2);
                let _ = decode_codes(bytes);
            }
        }

        #[test]
        fn a_changed_block_never_panics(position: prop::sample::Index, byte: u8) {
            let rows: Vec<Row> = (0..50).map(|n| (n, Some(1), n % 7, Some(12), None, 1)).collect();
            let bytes = Encoder::new().unwrap().rows(&schema(), &columns(&rows)).unwrap();
            let mut plain = zstd::bulk::decompress(&bytes, PLAIN_BYTES_MAX).unwrap();
            let position = position.index(plain.len());
            plain[position] = byte;
            let _ = decode_rows(&zstd::bulk::compress(&plain, 1).unwrap(), &schema());
        }
    }

    #[test]
    fn tokens_and_codes_are_read_back() {
        let mut encoder = Encoder::new().unwrap();
        let mut type_2 = Bitmap::none(3);
        type_2.set(2);
        let links = LinkTokens {
            tokens: vec![[4; 16], [0; 16], [6; 16]],
            missing: {
                let mut missing = Bitmap::none(3);
                missing.set(1);
                missing
            },
        };
        let table = PatientTable { tokens: vec![[1; 16], [2; 16], [3; 16]], type_2, links: vec![links] };
        let bytes = encoder.patients(&table).unwrap();
        assert_eq!(decode_patients(&bytes, 1).unwrap(), table);
        assert!(decode_patients(&bytes, 2).is_err());
        let codes = [("snomed", "44054006"), ("loinc", "4548-4"), ("snomed", "827241000000103")];
        let codes: Vec<_> = codes.map(|(system, code)| (system.to_owned(), code.to_owned())).to_vec();
        assert_eq!(decode_codes(&encoder.codes(&codes).unwrap()).unwrap(), codes);
    }
}
