//! Decoding, strictly: what an encoder would not have written is refused.

use super::grouping::{Grouping, follows_code};
use super::{
    Bitmap, Column, FORMAT, FormerTable, LinkTokens, PLAIN_BYTES_MAX, POWERS, PatientTable, ROWS_MAX, TAGS,
    Values, narrowest,
};
use crate::bundle::{ColumnInfo, ColumnKind};
use crate::cbor::{CborError, Reader};
use crate::code::CODE_BYTES_MAX;

const PLACE: &str = "block";

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
    reader.versioned_record(fields, FORMAT, PLACE)?;
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

/// Decodes a block of former tokens.
pub fn decode_former(bytes: &[u8]) -> Result<FormerTable, CborError> {
    const PLACE: &str = "former tokens";
    let plain = decompress(bytes)?;
    let mut reader = Reader::new(&plain);
    let rows = read_head(&mut reader, 4)?;
    reader.field(3, PLACE)?;
    let tokens = match reader.bytes(PLACE)?.as_chunks() {
        (tokens, []) if tokens.len() == rows => tokens.to_vec(),
        _ => return Err(CborError::value(PLACE, "another number of tokens than rows")),
    };
    reader.field(4, PLACE)?;
    let missing = Bitmap::from_bytes(reader.bytes(PLACE)?.to_vec(), rows)
        .ok_or_else(|| CborError::value(PLACE, "a bitmap of another number of rows"))?;
    reader.finish()?;
    if (0..rows).any(|row| missing.contains(row) && tokens[row] != [0; 16]) {
        return Err(CborError::NotDeterministic("a token where there is none"));
    }
    Ok(FormerTable { tokens, missing })
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
