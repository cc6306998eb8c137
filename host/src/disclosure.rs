//! Disclosure control: what of a table of counts may be released.
//!
//! The host counts, not the module. A module writes a row for each patient and the cell that the patient is in; the host
//! counts the distinct patients of each cell. So no module can pass off one patient as five, and a cell for each patient is a
//! table of ones, of which nothing is released.
//!
//! 1. **Smallest cell.** A cell of fewer patients than `smallest-cell` is hidden, an empty one too. Hidden cells are not
//!    in what is sent, not even by name: which cells have a few patients would itself be a message.
//! 2. **Complementary suppression.** Whoever knows how many people there are in all can subtract. So a second cell is hidden
//!    where the sum of the hidden ones would say something of one of them, that is, unless each of them could still be
//!    anything from nobody to one less than the smallest cell (Willenborg and de Waal, Elements of Statistical Disclosure
//!    Control, 2001, chapter 4: the feasible interval of a suppressed cell).
//! 3. **Totals** by one dimension are a table of their own, and each line of the table below it is one whose total is known.
//!    Where a total is hidden, so is its whole line.
//! 4. **Rounding** to multiples of `round-to`, so that two releases that differ by one person seldom differ.
//!
//! The tests try every small table: whoever knows these rules, what was released and how many people there are can compute
//! no hidden cell.

use std::collections::HashMap;

use lockgate_signing::block::{Bitmap, Column, Values};
use lockgate_signing::manifest::{Aggregate, Output, OutputType};

use crate::check::Breach;

/// The most distinct pairs of a cell and a patient of one table: 8 bytes each.
const MEMBERS_MAX: usize = 4 << 20;

/// A category, code or day of a cell as one number.
type Key = Box<[u32]>;

/// The patients of a table's cells, while the module writes.
pub(crate) struct Table {
    rules: Aggregate,
    /// The position of the patient among the output's columns.
    patient_at: usize,
    /// By dimension: how many categories there are; `None`: codes or months, of which nobody knows how many there are.
    sizes: Vec<Option<u32>>,
    /// The position of the dimension that totals are by.
    totals_by: Option<usize>,
    numbers: HashMap<Key, u32>,
    keys: Vec<Key>,
    /// Cell and patient, the cell in the upper half; sorted and distinct up to `distinct`.
    members: Vec<u64>,
    distinct: usize,
}

impl Table {
    /// An empty table, for an output that its manifest declares as an aggregate.
    pub(crate) fn of(output: &Output) -> Option<Self> {
        let rules = output.aggregate.clone()?;
        let patient_at = output.columns.iter().position(|column| column.kind == OutputType::Patient)?;
        let dimensions = || output.columns.iter().filter(|column| column.kind != OutputType::Patient);
        let sizes = dimensions().map(|column| match &column.kind {
            OutputType::Category { categories } => Some(categories.len() as u32),
            _ => None,
        });
        let totals_by = rules.totals_by.as_ref();
        let totals_by = totals_by.and_then(|name| dimensions().position(|column| column.name == *name));
        Some(Self {
            patient_at,
            sizes: sizes.collect(),
            totals_by,
            rules,
            numbers: HashMap::new(),
            keys: Vec::new(),
            members: Vec::new(),
            distinct: 0,
        })
    }

    /// Takes checked rows.
    pub(crate) fn take(&mut self, columns: &[Column], rows: usize) -> Result<(), Breach> {
        let Values::Patients(patients) = &columns[self.patient_at].values else {
            return Err(Breach::Patient);
        };
        let dimensions = columns.iter().enumerate().filter(|(at, _)| *at != self.patient_at);
        let dimensions: Vec<&Values> = dimensions.map(|(_, column)| &column.values).collect();
        for (row, &patient) in patients.iter().enumerate().take(rows) {
            let key: Key = dimensions.iter().map(|values| key_part(values, row)).collect();
            let cell = match self.numbers.get(&key) {
                Some(&cell) => cell,
                None => {
                    let cell = self.keys.len() as u32;
                    self.keys.push(key.clone());
                    self.numbers.insert(key, cell);
                    cell
                }
            };
            self.members.push(u64::from(cell) << 32 | u64::from(patient));
        }
        // Doubling keeps the sorting cheap.
        if self.members.len() > 2 * self.distinct.max(1 << 16) {
            self.compact();
        }
        if self.distinct > MEMBERS_MAX { Err(Breach::Members(MEMBERS_MAX)) } else { Ok(()) }
    }

    fn compact(&mut self) {
        self.members.sort_unstable();
        self.members.dedup();
        self.distinct = self.members.len();
    }

    /// What may be released, in the order of the cells: the dimensions, and the count after them.
    pub(crate) fn release(mut self) -> Result<Released, Breach> {
        self.compact();
        let mut counts = vec![0_u64; self.keys.len()];
        self.members.iter().for_each(|member| counts[(member >> 32) as usize] += 1);
        if self.totals_by.is_some() {
            // Totals add up only if nobody is in two cells.
            let mut patients: Vec<u32> = self.members.iter().map(|&member| member as u32).collect();
            patients.sort_unstable();
            if patients.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(Breach::TwoCells);
            }
        }
        let mut cells: Vec<(Key, u64)> = self.keys.into_iter().zip(counts).collect();
        cells.sort_unstable();
        let closed: Option<u64> = self.sizes.iter().map(|size| size.map(u64::from)).product();
        let rounding = Rounding { smallest: self.rules.smallest_cell.into(), to: self.rules.round_to.into() };
        // The lines of a table with totals: one for each category of the dimension, the others summed over.
        let lines =
            self.totals_by.filter(|_| self.sizes.len() > 1).and_then(|at| self.sizes[at]).unwrap_or(1);
        let line_of = |key: &Key| if lines > 1 { self.totals_by.map_or(0, |at| key[at] as usize) } else { 0 };
        let mut by_line = vec![Vec::new(); lines as usize];
        cells.iter().for_each(|(key, count)| by_line[line_of(key)].push(*count));
        let choice = choose_lines(&by_line, closed, rounding);

        let mut released = Released::new(self.sizes.len());
        let mut shown = choice.cells.iter().map(|line| line.iter()).collect::<Vec<_>>();
        for (key, count) in &cells {
            if shown[line_of(key)].next() == Some(&true) {
                released.push(key.iter().map(|&part| Some(part)), rounding.round(*count));
            }
        }
        let totals: Vec<u64> = by_line.iter().map(|counts| counts.iter().sum()).collect();
        for line in (0..lines).filter(|&line| lines > 1 && choice.totals[line as usize]) {
            let key = (0..self.sizes.len()).map(|at| (Some(at) == self.totals_by).then_some(line));
            released.push(key, rounding.round(totals[line as usize]));
        }
        let all = totals.iter().sum();
        if self.totals_by.is_some() && all >= rounding.smallest {
            released.push((0..self.sizes.len()).map(|_| None), rounding.round(all));
        }
        let shown = choice.cells.iter().flatten().filter(|shown| **shown).count() as u64;
        released.suppressed = match closed {
            // Of every cell that there could be, so that the number says nothing that the release does not.
            Some(closed) => closed - shown,
            None => (cells.len() as u64 - shown).next_multiple_of(self.rules.round_to.into()),
        };
        Ok(released)
    }
}

fn key_part(values: &Values, row: usize) -> u32 {
    match values {
        Values::Patients(values) | Values::Codes(values) => values[row],
        // Days in their order.
        Values::Dates(values) => values[row].cast_unsigned() ^ 1 << 31,
        Values::Categories(values) => values[row].into(),
        // A manifest with such a dimension is refused.
        Values::Numbers(_) => 0,
    }
}

/// Rows that may be released; a dimension is `None` in a total over it.
pub(crate) struct Released {
    pub(crate) dimensions: Vec<Vec<Option<u32>>>,
    pub(crate) counts: Vec<u64>,
    pub(crate) suppressed: u64,
}

impl Released {
    fn new(dimensions: usize) -> Self {
        Self { dimensions: vec![Vec::new(); dimensions], counts: Vec::new(), suppressed: 0 }
    }

    fn push(&mut self, key: impl Iterator<Item = Option<u32>>, count: u64) {
        self.dimensions.iter_mut().zip(key).for_each(|(column, part)| column.push(part));
        self.counts.push(count);
    }

    /// As columns: the dimensions in their declared order, then the count.
    pub(crate) fn into_columns(self, output: &Output) -> Vec<Column> {
        let kinds = output.columns.iter().map(|column| &column.kind);
        let kinds = kinds.filter(|kind| **kind != OutputType::Patient);
        let mut columns: Vec<Column> =
            self.dimensions.into_iter().zip(kinds).map(|(parts, kind)| column(parts, kind)).collect();
        let counts = self.counts.into_iter().map(|count| count as f64).collect();
        columns.push(Column { values: Values::Numbers(counts), missing: None });
        columns
    }
}

fn column(parts: Vec<Option<u32>>, kind: &OutputType) -> Column {
    let mut missing = Bitmap::none(parts.len());
    parts.iter().enumerate().filter(|(_, part)| part.is_none()).for_each(|(row, _)| missing.set(row));
    let parts = parts.iter().map(|part| part.unwrap_or_default());
    let values = match kind {
        OutputType::Category { .. } => Values::Categories(parts.map(|part| part as u8).collect()),
        OutputType::Date { .. } => Values::Dates(parts.map(|part| (part ^ 1 << 31).cast_signed()).collect()),
        _ => Values::Codes(parts.collect()),
    };
    Column { values, missing: (missing.count() > 0).then_some(missing) }
}

/// How counts are rounded, and the smallest that is shown.
#[derive(Debug, Clone, Copy)]
struct Rounding {
    smallest: u64,
    to: u64,
}

impl Rounding {
    /// The nearest multiple; halves go up.
    fn round(self, count: u64) -> u64 {
        (count + self.to / 2) / self.to * self.to
    }

    /// What a shown count may be, for whoever sees it rounded.
    fn interval(self, count: u64) -> (u64, u64) {
        let first = self.round(count) - self.to / 2;
        (first.max(self.smallest), first + self.to - 1)
    }
}

/// What is shown: cells by line, and the lines' totals.
struct Choice {
    cells: Vec<Vec<bool>>,
    totals: Vec<bool>,
}

/// Chooses what is shown of lines that have a total each. `closed` is the number of cells that there could be in all, if
/// somebody can know it.
fn choose_lines(lines: &[Vec<u64>], closed: Option<u64>, rounding: Rounding) -> Choice {
    let closed = closed.map(|closed| closed / lines.len() as u64);
    let one = |line: &Vec<u64>| choose(line, closed, rounding);
    if let [line] = lines {
        return Choice { cells: vec![one(line)], totals: vec![false] };
    }
    // 3. The totals first, and as if they were not rounded: what is shown of a line may tell its total exactly.
    let totals: Vec<u64> = lines.iter().map(|line| line.iter().sum()).collect();
    let there: Vec<u64> = totals.iter().copied().filter(|&total| total > 0).collect();
    let mut shown = choose(&there, Some(lines.len() as u64), Rounding { to: 1, ..rounding }).into_iter();
    let totals: Vec<bool> = totals.iter().map(|&total| total > 0 && shown.next() == Some(true)).collect();
    let cells = lines
        .iter()
        .zip(&totals)
        .map(|(line, &shown)| if shown { one(line) } else { vec![false; line.len()] });
    Choice { cells: cells.collect(), totals }
}

/// Chooses what is shown of cells that have patients, for whoever knows how many patients they have together.
fn choose(counts: &[u64], closed: Option<u64>, rounding: Rounding) -> Vec<bool> {
    // 1. Smallest cell.
    let mut shown: Vec<bool> = counts.iter().map(|&count| count >= rounding.smallest).collect();
    let empty = closed.map_or(0, |closed| closed - counts.len() as u64);
    // 2. Complementary suppression: once, and where nothing is left to hide there is nothing to subtract.
    if !is_open(counts, &shown, empty, rounding) {
        // The smallest that are shown: all that look the same, so that nobody can tell them by their order.
        let rounded = |(_, &count): (&bool, &u64)| rounding.round(count);
        let smallest = shown.iter().zip(counts).filter(|(shown, _)| **shown).map(rounded).min();
        let second =
            shown.iter_mut().zip(counts).filter(|(_, count)| Some(rounding.round(**count)) == smallest);
        second.for_each(|(shown, _)| *shown = false);
    }
    shown
}

/// Whether the sum of the hidden cells leaves each of them open. What is shown is rounded, which leaves their sum open too.
fn is_open(counts: &[u64], shown: &[bool], empty: u64, rounding: Rounding) -> bool {
    let (mut hidden, mut least, mut most) = (empty, 0_u64, 0_u64);
    for (&count, _) in counts.iter().zip(shown).filter(|(_, shown)| !**shown) {
        (hidden, least, most) = (hidden + 1, least + count, most + count);
    }
    for (&count, _) in counts.iter().zip(shown).filter(|(_, shown)| **shown) {
        let (low, high) = rounding.interval(count);
        least = least.saturating_sub(high - count);
        most += count - low;
    }
    hidden == 0 || could_be_anything(hidden, least, most, rounding.smallest)
}

/// Whether each of some hidden cells could be anything from 0 to one less than the smallest cell, if their sum lies between
/// `least` and `most`.
fn could_be_anything(number: u64, least: u64, most: u64, smallest: u64) -> bool {
    most >= smallest - 1 && least <= (number - 1) * (smallest - 1)
}

#[cfg(test)]
mod tests;
