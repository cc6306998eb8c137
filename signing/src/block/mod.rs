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

mod decode;
mod encode;
mod grouping;

pub use decode::{Rows, decode_codes, decode_former, decode_patients, decode_rows};
pub use encode::{EncodeError, Encoder};

/// The most rows of a block.
pub const ROWS_MAX: u32 = 65_536;
/// The largest block before compression, bytes: 64 columns of 8 bytes a row.
pub const PLAIN_BYTES_MAX: usize = 36 << 20;
/// Bytes of a token.
pub const TOKEN_BYTES: usize = 16;

const FORMAT: u64 = 1;

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

/// What the tokens of a stretch of the token table were in the epoch before, row by row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FormerTable {
    /// One a patient; zeros where there is none.
    pub tokens: Vec<Token>,
    /// The patients that had none.
    pub missing: Bitmap,
}

/// 10 to the power of 0..=6.
const POWERS: [i64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// RFC 8746, section 2.1: unsigned little-endian arrays of 8, 16, 32 and 64 bits.
const TAGS: [(u64, usize); 4] = [(64, 1), (69, 2), (70, 4), (71, 8)];

fn narrowest(widest: u64) -> (u64, usize) {
    match widest {
        0..=0xff => TAGS[0],
        0x100..=0xffff => TAGS[1],
        0x1_0000..=0xffff_ffff => TAGS[2],
        _ => TAGS[3],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::{ColumnInfo, ColumnKind};

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
                let _ = decode_former(bytes);
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
    fn former_tokens_are_read_back_and_say_nothing_of_who_had_none() {
        let mut encoder = Encoder::new().unwrap();
        let mut missing = Bitmap::none(3);
        missing.set(1);
        let table = FormerTable { tokens: vec![[1; 16], [0; 16], [3; 16]], missing };
        assert_eq!(decode_former(&encoder.former(&table).unwrap()).unwrap(), table);
        let hidden = FormerTable { tokens: vec![[1; 16], [2; 16], [3; 16]], ..table.clone() };
        assert!(decode_former(&encoder.former(&hidden).unwrap()).is_err(), "a token where there is none");
        let short = FormerTable { tokens: vec![[1; 16]], ..table };
        assert!(decode_former(&encoder.former(&short).unwrap()).is_err(), "fewer tokens than rows");
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
