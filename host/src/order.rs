//! The canonical order of rows, in bounded memory.
//!
//! A module sees rows by patient, then by the other columns in the order of its manifest, so that the order of rows in the
//! source neither changes a result nor tells anything. Rows come in chunks; the chunks of all inputs of a run stay in memory up
//! to a limit, and beyond it go to an unlinked temporary file, encrypted under a key that exists only in this process, as
//! sorted runs that are merged on the way back.
//!
//! Memory: for each reader one chunk being filled (at most [`CHUNK_ROWS`] rows), [`MEMORY_BYTES_MAX`] of chunks, and a page
//! of [`PAGE_ROWS`] rows for each spilled run while it is merged.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use zeroize::Zeroizing;

/// Rows of a chunk.
const CHUNK_ROWS: usize = if cfg!(test) { 100 } else { 1 << 15 };
/// Chunk bytes that the inputs of a run keep in memory, those that are read ahead among them.
const MEMORY_BYTES_MAX: usize = if cfg!(test) { 10_000 } else { 8 << 20 };
/// Rows of a spilled page: what one run needs in memory while it is merged.
const PAGE_ROWS: usize = if cfg!(test) { 16 } else { 2_048 };

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

    fn write(&self, rows: std::ops::Range<usize>, bytes: &mut Vec<u8>) {
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
    fn read(&self, rows: usize, bytes: &mut &[u8]) -> Self {
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

    fn bytes(&self) -> usize {
        self.rows() * self.columns.iter().map(Cells::width).sum::<usize>()
    }

    fn key(&self, row: usize) -> u64 {
        let part = |column: usize| self.columns.get(column).map_or(0, |cells| cells.key(row));
        u64::from(part(0)) << 32 | u64::from(part(1))
    }

    fn sorted(mut self) -> Self {
        let mut order: Vec<(u64, u32)> = (0..self.rows()).map(|row| (self.key(row), row as u32)).collect();
        order.sort_unstable();
        self.columns.iter_mut().for_each(|cells| cells.permute(&order));
        self
    }
}

/// Rows could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The temporary file.
    #[error("cannot keep rows in a temporary file: {0}; free some space in the state folder and run again")]
    Spill(#[from] io::Error),
    /// Its content is not what was written.
    #[error("a temporary file was changed while it was in use; run again, and check the disk")]
    Changed,
}

/// The memory that the inputs of a run share for their rows.
#[derive(Clone)]
pub(crate) struct RowMemory {
    left: Arc<AtomicUsize>,
}

impl RowMemory {
    /// [`MEMORY_BYTES_MAX`], all of it free.
    pub(crate) fn of_a_run() -> Self {
        Self { left: Arc::new(AtomicUsize::new(MEMORY_BYTES_MAX)) }
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(atomic::Ordering::Relaxed, atomic::Ordering::Relaxed, less).is_ok()
    }
}

/// Chunks in memory; what they took is given back with them.
struct Kept {
    chunks: Vec<Chunk>,
    bytes: usize,
    memory: RowMemory,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.memory.left.fetch_add(self.bytes, atomic::Ordering::Relaxed);
    }
}

/// Takes chunks of one input in any order.
pub(crate) struct Collector<'a> {
    scratch: &'a std::path::Path,
    filling: Chunk,
    kept: Kept,
    spill: Option<Spill>,
}

/// All rows of one input, to be read any number of times in canonical order.
pub(crate) struct Collected {
    kept: Kept,
    spill: Option<Spill>,
}

impl<'a> Collector<'a> {
    /// `empty` has the columns; `scratch` is a folder for a temporary file.
    pub(crate) fn new(empty: Chunk, memory: RowMemory, scratch: &'a std::path::Path) -> Self {
        let kept = Kept { chunks: Vec::new(), bytes: 0, memory };
        Self { scratch, filling: empty, kept, spill: None }
    }

    /// The chunk that rows are added to.
    pub(crate) fn filling(&mut self) -> &mut Chunk {
        &mut self.filling
    }

    /// To be called after each row.
    pub(crate) fn row_added(&mut self) -> Result<(), OrderError> {
        if self.filling.rows() >= CHUNK_ROWS { self.keep() } else { Ok(()) }
    }

    fn keep(&mut self) -> Result<(), OrderError> {
        let empty =
            Chunk { columns: self.filling.columns.iter().map(|cells| cells.same_kind(CHUNK_ROWS)).collect() };
        let mut full = std::mem::replace(&mut self.filling, empty);
        full.columns.iter_mut().for_each(|cells| each_kind!(cells, values => values.shrink_to_fit()));
        let bytes = full.bytes();
        if self.kept.memory.take(bytes) {
            self.kept.bytes += bytes;
            self.kept.chunks.push(full);
            return Ok(());
        }
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new(self.scratch)?),
        };
        spill.write(&full.sorted())
    }

    pub(crate) fn finish(mut self) -> Result<Collected, OrderError> {
        if self.filling.rows() > 0 {
            self.keep()?;
        }
        Ok(Collected { kept: self.kept, spill: self.spill })
    }
}

/// Sorted runs in an unlinked file, encrypted page by page.
struct Spill {
    file: File,
    cipher: ChaCha20Poly1305,
    /// (offset, bytes) of each page of each run.
    runs: Vec<Vec<Page>>,
    end: u64,
    pages: u64,
    empty: Chunk,
}

#[derive(Clone, Copy)]
struct Page {
    number: u64,
    offset: u64,
    bytes: usize,
    rows: usize,
}

fn nonce(page: u64) -> Nonce {
    // A page number is used once for a key, and the key once for a file.
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&page.to_be_bytes());
    nonce.into()
}

impl Spill {
    fn new(scratch: &std::path::Path) -> Result<Self, OrderError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        Ok(Self {
            file: tempfile::tempfile_in(scratch)?,
            cipher: ChaCha20Poly1305::new(&Key::from(*key)),
            runs: Vec::new(),
            end: 0,
            pages: 0,
            empty: Chunk { columns: Vec::new() },
        })
    }

    fn write(&mut self, sorted: &Chunk) -> Result<(), OrderError> {
        self.empty = Chunk { columns: sorted.columns.iter().map(|cells| cells.same_kind(0)).collect() };
        let mut run = Vec::new();
        let mut start = 0;
        while start < sorted.rows() {
            let rows = start..(start + PAGE_ROWS).min(sorted.rows());
            let mut bytes = Vec::new();
            sorted.columns.iter().for_each(|cells| cells.write(rows.clone(), &mut bytes));
            let sealed = self.cipher.encrypt_in_place(&nonce(self.pages), b"", &mut bytes);
            sealed.map_err(|_| OrderError::Changed)?;
            self.file.write_all_at(&bytes, self.end)?;
            run.push(Page { number: self.pages, offset: self.end, bytes: bytes.len(), rows: rows.len() });
            self.end += bytes.len() as u64;
            self.pages += 1;
            start = rows.end;
        }
        self.runs.push(run);
        Ok(())
    }

    fn read(&self, page: Page) -> Result<Chunk, OrderError> {
        let mut bytes = vec![0; page.bytes];
        self.file.read_exact_at(&mut bytes, page.offset)?;
        let opened = self.cipher.decrypt_in_place(&nonce(page.number), b"", &mut bytes);
        opened.map_err(|_| OrderError::Changed)?;
        let mut rest = bytes.as_slice();
        let columns = self.empty.columns.iter().map(|cells| cells.read(page.rows, &mut rest)).collect();
        Ok(Chunk { columns })
    }
}

/// An input whose chunks are sorted, ready to be merged. Shared by every scan of the input.
pub(crate) struct Sorted {
    chunks: Vec<Arc<Chunk>>,
    /// Emptied: it stands for the memory of the chunks.
    _kept: Kept,
    spill: Option<Spill>,
}

impl Collected {
    /// Sorts what is in memory; spilled runs are sorted already.
    pub(crate) fn sort(mut self) -> Sorted {
        let chunks = self.kept.chunks.drain(..).map(|chunk| Arc::new(chunk.sorted())).collect();
        Sorted { chunks, _kept: self.kept, spill: self.spill }
    }
}

/// A place in one sorted run.
struct Cursor {
    /// Position in [`Merge::pages`].
    page: u32,
    row: u32,
    /// For a spilled run: its number and its next page.
    spilled: Option<(usize, usize)>,
}

/// One pass over an input in canonical order.
pub(crate) struct Merge {
    input: Arc<Sorted>,
    /// The pages that cursors and pending rows are in.
    pages: Vec<Arc<Chunk>>,
    cursors: Vec<Cursor>,
    heap: BinaryHeap<Reverse<(u64, usize)>>,
    /// Rows of one key that did not fit into the last batch, in order.
    pending: Vec<Place>,
}

/// A row: page and row in it.
type Place = (u32, u32);

/// Where a code stands in the canonical order: its position in the run's dictionary, by code number.
pub(crate) type Ranks = [u32];

impl Merge {
    pub(crate) fn new(input: Arc<Sorted>) -> Result<Self, OrderError> {
        let mut pages: Vec<Arc<Chunk>> = input.chunks.clone();
        let mut spilled: Vec<Option<(usize, usize)>> = vec![None; pages.len()];
        if let Some(spill) = &input.spill {
            for (run, run_pages) in spill.runs.iter().enumerate() {
                let Some(&first) = run_pages.first() else { continue };
                pages.push(Arc::new(spill.read(first)?));
                spilled.push(Some((run, 1)));
            }
        }
        let cursors = (0..).zip(spilled).map(|(page, spilled)| Cursor { page, row: 0, spilled }).collect();
        let heap = pages.iter().enumerate().filter(|(_, page)| page.rows() > 0);
        let heap = heap.map(|(number, page)| Reverse((page.key(0), number))).collect();
        Ok(Self { input, pages, cursors, heap, pending: Vec::new() })
    }

    /// The next rows, at most `rows_max`; columns in the input's order, codes still as source numbers. `None` at the end.
    pub(crate) fn next(&mut self, rows_max: usize, ranks: &Ranks) -> Result<Option<Chunk>, OrderError> {
        let mut places = std::mem::take(&mut self.pending);
        while places.len() < rows_max {
            let Some(Reverse((key, _))) = self.heap.peek().copied() else { break };
            let group = places.len();
            self.take_group(key, &mut places)?;
            if places.len() - group > 1 {
                let pages = &self.pages;
                places[group..].sort_unstable_by(|&a, &b| compare(pages, a, b, ranks));
            }
        }
        if places.is_empty() {
            return Ok(None);
        }
        if places.len() > rows_max {
            self.pending = places.split_off(rows_max);
        }
        let batch = gather(&self.pages, &places);
        self.drop_pages();
        Ok(Some(batch))
    }

    /// All rows of the smallest key.
    fn take_group(&mut self, key: u64, places: &mut Vec<Place>) -> Result<(), OrderError> {
        while let Some(mut top) = self.heap.peek_mut() {
            let Reverse((found, number)) = *top;
            if found != key {
                break;
            }
            let cursor = &mut self.cursors[number];
            let next = loop {
                places.push((cursor.page, cursor.row));
                cursor.row += 1;
                if cursor.row as usize >= self.pages[cursor.page as usize].rows() {
                    match cursor.turn(&self.input)? {
                        None => break None,
                        Some(page) => {
                            cursor.page = self.pages.len() as u32;
                            cursor.row = 0;
                            self.pages.push(Arc::new(page));
                        }
                    }
                }
                let next = self.pages[cursor.page as usize].key(cursor.row as usize);
                if next != key {
                    break Some(next);
                }
            };
            match next {
                Some(next) => *top = Reverse((next, number)),
                None => {
                    PeekMut::pop(top);
                }
            }
        }
        Ok(())
    }

    /// Forgets the pages that were read to their end, once there are any.
    fn drop_pages(&mut self) {
        if self.pages.len() <= 2 * self.cursors.len() {
            return;
        }
        let mut kept = Vec::new();
        let mut moved = vec![None; self.pages.len()];
        let pages = &self.pages;
        let mut place = |page: &mut u32| {
            *page = *moved[*page as usize].get_or_insert_with(|| {
                kept.push(Arc::clone(&pages[*page as usize]));
                kept.len() as u32 - 1
            });
        };
        self.cursors.iter_mut().for_each(|cursor| place(&mut cursor.page));
        self.pending.iter_mut().for_each(|(page, _)| place(page));
        self.pages = kept;
    }
}

impl Cursor {
    /// The next page of a spilled run; `None` at its end.
    fn turn(&mut self, input: &Sorted) -> Result<Option<Chunk>, OrderError> {
        let (Some((run, next)), Some(spill)) = (self.spilled, &input.spill) else { return Ok(None) };
        let Some(&page) = spill.runs[run].get(next) else { return Ok(None) };
        self.spilled = Some((run, next + 1));
        spill.read(page).map(Some)
    }
}

/// The order of two rows by all their columns.
fn compare(pages: &[Arc<Chunk>], a: Place, b: Place, ranks: &Ranks) -> Ordering {
    let (a_page, b_page) = (&pages[a.0 as usize], &pages[b.0 as usize]);
    let (a_row, b_row) = (a.1 as usize, b.1 as usize);
    let rank = |code: u32| ranks.get(code as usize).copied().unwrap_or(u32::MAX);
    for (a, b) in a_page.columns.iter().zip(&b_page.columns) {
        let order = match (a, b) {
            (Cells::Patients(a), Cells::Patients(b)) => a[a_row].cmp(&b[b_row]),
            (Cells::Codes(a), Cells::Codes(b)) => rank(a[a_row]).cmp(&rank(b[b_row])),
            (Cells::Dates(a), Cells::Dates(b)) => a[a_row].cmp(&b[b_row]),
            (Cells::Numbers(a), Cells::Numbers(b)) => a[a_row].total_cmp(&b[b_row]),
            (Cells::Categories(a), Cells::Categories(b)) => a[a_row].cmp(&b[b_row]),
            _ => Ordering::Equal,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Copies rows out of their pages, column by column.
fn gather(pages: &[Arc<Chunk>], places: &[Place]) -> Chunk {
    macro_rules! pick {
        ($kind:ident, $column:expr) => {
            Cells::$kind(
                places
                    .iter()
                    .map(|&(page, row)| match &pages[page as usize].columns[$column] {
                        Cells::$kind(values) => values[row as usize],
                        // Every page of an input has the same columns.
                        _ => Default::default(),
                    })
                    .collect(),
            )
        };
    }
    let Some(&(first, _)) = places.first() else { return Chunk { columns: Vec::new() } };
    let column = |(column, cells): (usize, &Cells)| match cells {
        Cells::Patients(_) => pick!(Patients, column),
        Cells::Codes(_) => pick!(Codes, column),
        Cells::Dates(_) => pick!(Dates, column),
        Cells::Numbers(_) => pick!(Numbers, column),
        Cells::Categories(_) => pick!(Categories, column),
    };
    Chunk { columns: pages[first as usize].columns.iter().enumerate().map(column).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u32, i32, u32, u8);

    /// All rows in the order in which a scan gives them, codes as their ranks.
    fn scanned(rows: &[Row], batch_rows: usize) -> Vec<Row> {
        let folder = tempfile::tempdir().unwrap();
        let empty = Chunk {
            columns: vec![
                Cells::Patients(Vec::new()),
                Cells::Dates(Vec::new()),
                Cells::Codes(Vec::new()),
                Cells::Categories(Vec::new()),
            ],
        };
        let mut collector = Collector::new(empty, RowMemory::of_a_run(), folder.path());
        for (patient, date, code, category) in rows {
            let columns = &mut collector.filling().columns;
            let [Cells::Patients(a), Cells::Dates(b), Cells::Codes(c), Cells::Categories(d)] =
                &mut columns[..]
            else {
                panic!("other columns")
            };
            a.push(*patient);
            b.push(*date);
            c.push(*code);
            d.push(*category);
            collector.row_added().unwrap();
        }
        let sorted = Arc::new(collector.finish().unwrap().sort());
        assert_eq!(sorted.spill.is_some(), rows.len() > 800, "{} rows", rows.len());
        // Ranks are not the numbers: code 0 comes last.
        let ranks: Vec<u32> = (0..50).rev().collect();
        let mut merge = Merge::new(sorted).unwrap();
        let mut all = Vec::new();
        while let Some(batch) = merge.next(batch_rows, &ranks).unwrap() {
            assert!(batch.rows() <= batch_rows);
            let [Cells::Patients(a), Cells::Dates(b), Cells::Codes(c), Cells::Categories(d)] =
                &batch.columns[..]
            else {
                panic!("other columns")
            };
            all.extend((0..batch.rows()).map(|row| (a[row], b[row], ranks[c[row] as usize], d[row])));
        }
        all
    }

    #[test]
    fn the_order_is_that_of_all_columns_however_the_rows_came_and_wherever_they_were_kept() {
        // A multiplicative sequence: spread, and the same every time.
        let row = |n: u32| {
            let spread = n.wrapping_mul(2_654_435_761) >> 8;
            (spread % 17, (spread % 29).cast_signed() - 14, spread % 50, (spread % 3) as u8)
        };
        for count in [0, 1, 99, 100, 101, 700, 5_000] {
            let rows: Vec<Row> = (0..count).map(row).collect();
            let mut expected: Vec<Row> = rows
                .iter()
                .map(|&(patient, date, code, category)| (patient, date, 49 - code, category))
                .collect();
            expected.sort_unstable();
            let mut backwards = rows.clone();
            backwards.reverse();
            for batch_rows in [7, 64, 1_000] {
                assert_eq!(scanned(&rows, batch_rows), expected, "{count} rows");
                assert_eq!(scanned(&backwards, batch_rows), expected, "{count} rows, backwards");
            }
        }
    }

    #[test]
    fn a_changed_temporary_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(folder.path()).unwrap();
        spill.write(&Chunk { columns: vec![Cells::Dates((0..40).collect())] }).unwrap();
        let page = spill.runs[0][1];
        assert!(spill.read(page).is_ok());
        spill.file.write_all_at(b"x", page.offset + 3).unwrap();
        assert!(matches!(spill.read(page), Err(OrderError::Changed)));
    }
}
