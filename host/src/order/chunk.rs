//! Rows in columns, as they wait to be ordered.

/// The cells of one column of a chunk. A cell without a value holds the type's `MISSING_…`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cells {
    /// Run-local handles.
    Patients(Vec<u32>),
    /// Code numbers of the source's dictionary.
    Codes(Vec<u32>),
    Dates(Vec<i32>),
    Numbers(Vec<f64>),
    Categories(Vec<u8>),
}

pub(crate) const MISSING_CODE: u32 = u32::MAX;
pub(crate) const MISSING_DATE: i32 = i32::MIN;
pub(crate) const MISSING_CATEGORY: u8 = u8::MAX;

macro_rules! each_kind {
    ($cells:expr, $values:ident => $body:expr) => {
        match $cells {
            Cells::Patients($values) | Cells::Codes($values) => $body,
            Cells::Dates($values) => $body,
            Cells::Numbers($values) => $body,
            Cells::Categories($values) => $body,
        }
    };
}

impl Cells {
    pub(crate) fn len(&self) -> usize {
        each_kind!(self, values => values.len())
    }

    pub(crate) fn width(&self) -> usize {
        match self {
            Self::Patients(_) | Self::Codes(_) | Self::Dates(_) => 4,
            Self::Numbers(_) => 8,
            Self::Categories(_) => 1,
        }
    }

    fn same_kind(&self, rows: usize) -> Self {
        match self {
            Self::Patients(_) => Self::Patients(Vec::with_capacity(rows)),
            Self::Codes(_) => Self::Codes(Vec::with_capacity(rows)),
            Self::Dates(_) => Self::Dates(Vec::with_capacity(rows)),
            Self::Numbers(_) => Self::Numbers(Vec::with_capacity(rows)),
            Self::Categories(_) => Self::Categories(Vec::with_capacity(rows)),
        }
    }

    /// Puts the values in this order, in their own memory: rows are read on one thread and sorted on another, and an
    /// allocator would keep the memory of both.
    fn permute(&mut self, order: &[(u64, u32)]) {
        fn pick<T: Copy>(values: &mut [T], order: &[(u64, u32)]) {
            let picked: Vec<T> = order.iter().map(|&(_, row)| values[row as usize]).collect();
            values.copy_from_slice(&picked);
        }
        each_kind!(self, values => pick(values, order));
    }

    /// A part of the sort key: order-preserving, or 0 where the order is not known yet (codes).
    fn key(&self, row: usize) -> u32 {
        match self {
            Self::Patients(values) => values[row],
            Self::Dates(values) => (values[row] ^ i32::MIN).cast_unsigned(),
            Self::Categories(values) => values[row].into(),
            Self::Codes(_) | Self::Numbers(_) => 0,
        }
    }

    pub(super) fn write(&self, rows: std::ops::Range<usize>, bytes: &mut Vec<u8>) {
        match self {
            Self::Patients(values) | Self::Codes(values) => {
                values[rows].iter().for_each(|value| bytes.extend(value.to_le_bytes()));
            }
            Self::Dates(values) => values[rows].iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::Numbers(values) => values[rows].iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Self::Categories(values) => bytes.extend_from_slice(&values[rows]),
        }
    }

    /// Reads back what [`Cells::write`] wrote, from the front of `bytes`.
    pub(super) fn read(&self, rows: usize, bytes: &mut &[u8]) -> Self {
        let (mine, rest) = bytes.split_at(rows * self.width());
        *bytes = rest;
        fn all<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks().0.iter().map(|chunk| from(*chunk)).collect()
        }
        match self {
            Self::Patients(_) => Self::Patients(all(mine, u32::from_le_bytes)),
            Self::Codes(_) => Self::Codes(all(mine, u32::from_le_bytes)),
            Self::Dates(_) => Self::Dates(all(mine, i32::from_le_bytes)),
            Self::Numbers(_) => Self::Numbers(all(mine, f64::from_le_bytes)),
            Self::Categories(_) => Self::Categories(mine.to_vec()),
        }
    }
}

/// Rows in columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) columns: Vec<Cells>,
}

impl Chunk {
    pub(crate) fn rows(&self) -> usize {
        self.columns.first().map_or(0, Cells::len)
    }

    /// Takes rows back from the end.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|cells| each_kind!(cells, values => values.truncate(rows)));
    }

    /// Gives back the memory that no row is in.
    pub(super) fn shrink(&mut self) {
        self.columns.iter_mut().for_each(|cells| each_kind!(cells, values => values.shrink_to_fit()));
    }

    /// One without rows, with the same columns and room for this many.
    pub(super) fn empty(&self, rows: usize) -> Self {
        Self { columns: self.columns.iter().map(|cells| cells.same_kind(rows)).collect() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows() * self.columns.iter().map(Cells::width).sum::<usize>()
    }

    pub(super) fn key(&self, row: usize) -> u64 {
        let part = |column: usize| self.columns.get(column).map_or(0, |cells| cells.key(row));
        u64::from(part(0)) << 32 | u64::from(part(1))
    }

    pub(super) fn sorted(mut self) -> Self {
        let mut order: Vec<(u64, u32)> = (0..self.rows()).map(|row| (self.key(row), row as u32)).collect();
        order.sort_unstable();
        self.columns.iter_mut().for_each(|cells| cells.permute(&order));
        self
    }
}
