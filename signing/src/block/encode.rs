//! Encoding: rows, token tables and dictionaries to blocks.

use super::grouping::{Grouping, follows_code, grouping_column};
use super::{Bitmap, Column, FORMAT, FormerTable, PLAIN_BYTES_MAX, POWERS, PatientTable, Values, narrowest};
use crate::bundle::{ColumnInfo, ColumnKind};
use crate::cbor::Writer;

/// zstd's default: level 9 gains 3 % and costs six times as much.
const ZSTD_LEVEL: i32 = 3;

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
        writer.versioned_record(3, FORMAT);
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
        writer.versioned_record(5, FORMAT);
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

    /// A block of former tokens: one a row of the block of the token table in the same position, and who had none.
    pub fn former(&mut self, table: &FormerTable) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new();
        writer.versioned_record(4, FORMAT);
        writer.unsigned(2);
        writer.unsigned(table.tokens.len() as u64);
        writer.unsigned(3);
        writer.bytes(table.tokens.as_flattened());
        writer.unsigned(4);
        writer.bytes(table.missing.as_bytes());
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
        writer.versioned_record(6, FORMAT);
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
