//! One pass over an input in canonical order: a merge of its sorted runs.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use super::chunk::{Cells, Chunk};
use super::{OrderError, Sorted};

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
type Ranks = [u32];

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
