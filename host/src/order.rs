//! The canonical order of rows, in bounded memory.
//!
//! A module sees rows by patient, then by the other columns in the order of its manifest, so that the order of rows in the
//! source neither changes a result nor tells anything. Rows come in chunks; the chunks of all inputs of a run stay in memory up
//! to a limit, and beyond it go to an unlinked temporary file, encrypted under a key that exists only in this process, as
//! sorted runs that are merged on the way back.
//!
//! Memory: for each reader one chunk being filled (at most [`CHUNK_ROWS`] rows), [`MEMORY_BYTES_MAX`] of chunks, and a page
//! of [`spill::PAGE_ROWS`] rows for each spilled run while it is merged.

mod chunk;
mod merge;
mod spill;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

pub(crate) use chunk::{Cells, Chunk, MISSING_CATEGORY, MISSING_CODE, MISSING_DATE};
pub(crate) use merge::Merge;
use spill::Spill;

/// Rows of a chunk.
const CHUNK_ROWS: usize = if cfg!(test) { 100 } else { 1 << 15 };
/// Chunk bytes that the inputs of a run keep in memory, those that are read ahead among them.
const MEMORY_BYTES_MAX: usize = if cfg!(test) { 10_000 } else { 8 << 20 };

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
        let empty = self.filling.empty(CHUNK_ROWS);
        let mut full = std::mem::replace(&mut self.filling, empty);
        full.shrink();
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

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
