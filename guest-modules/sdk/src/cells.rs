//! Reading the columns of a batch.

use crate::bitmap::SIEVE;
use crate::{Batch, Bitmap, Column, Error, Result, Values};

/// The cells of one column. `values` holds 0 where a row has no value, so a hot loop may look at the slice first.
#[derive(Debug, Clone, Copy)]
pub struct Cells<'b, T> {
    /// A value a row.
    pub values: &'b [T],
    /// A bit a row, set where there is no value; `None`: every row has one.
    pub missing: Option<&'b [u8]>,
}

impl<T: Copy> Cells<'_, T> {
    /// The value of a row, if it has one.
    #[inline]
    pub fn at(&self, row: usize) -> Option<T> {
        if is_missing(self.missing, row) { None } else { self.values.get(row).copied() }
    }

    /// The values of all rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<T>> {
        (0..self.values.len()).map(|row| self.at(row))
    }
}

#[inline]
pub(crate) fn is_missing(missing: Option<&[u8]>, row: usize) -> bool {
    missing.is_some_and(|bits| bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1))
}

impl Batch {
    /// How many rows it has.
    #[inline]
    pub fn row_count(&self) -> usize {
        self.rows as usize
    }

    /// A patient column. Patients are never missing.
    pub fn patients(&self, column: usize) -> Result<&[u32]> {
        match &self.column(column)?.values {
            Values::Patients(values) => Ok(values),
            other => Err(unexpected(column, "patients", other)),
        }
    }

    /// A code column: positions in the run's dictionary.
    pub fn codes(&self, column: usize) -> Result<Cells<'_, u32>> {
        let found = self.column(column)?;
        match &found.values {
            Values::Codes(values) => Ok(Cells { values, missing: found.missing.as_deref() }),
            other => Err(unexpected(column, "codes", other)),
        }
    }

    /// A date column: days since 1970-01-01.
    pub fn days(&self, column: usize) -> Result<Cells<'_, i32>> {
        let found = self.column(column)?;
        match &found.values {
            Values::Dates(values) => Ok(Cells { values, missing: found.missing.as_deref() }),
            other => Err(unexpected(column, "dates", other)),
        }
    }

    /// A number column.
    pub fn numbers(&self, column: usize) -> Result<Cells<'_, f64>> {
        let found = self.column(column)?;
        match &found.values {
            Values::Numbers(values) => Ok(Cells { values, missing: found.missing.as_deref() }),
            other => Err(unexpected(column, "numbers", other)),
        }
    }

    /// A category column: positions in the canonical table's categories (see [`crate::canonical`]).
    pub fn categories(&self, column: usize) -> Result<Cells<'_, u8>> {
        let found = self.column(column)?;
        match &found.values {
            Values::Categories(values) => Ok(Cells { values, missing: found.missing.as_deref() }),
            other => Err(unexpected(column, "categories", other)),
        }
    }

    /// The rows whose code is in this set, in order: what a module that looks for a few codes loops over.
    pub fn rows_with_codes(&self, column: usize, codes: &Bitmap) -> Result<Vec<usize>> {
        let Cells { values, missing } = self.codes(column)?;
        let sieve = codes.sieve();
        let mut rows = Vec::new();
        let mut add = |row: usize, code| {
            if codes.contains(code) && !is_missing(missing, row) {
                rows.push(row);
            }
        };
        // Sixteen rows without a branch between them: most often none of them is looked for.
        let (chunks, rest) = values.as_chunks::<16>();
        for (at, chunk) in chunks.iter().enumerate() {
            let hit = |&code: &u32| u32::from(sieve[code as usize % SIEVE]);
            let mut hits = chunk.iter().rev().fold(0, |hits, code| hits << 1 | hit(code));
            while hits != 0 {
                let row = hits.trailing_zeros() as usize;
                add(at * 16 + row, chunk[row]);
                hits &= hits - 1;
            }
        }
        (chunks.len() * 16..).zip(rest).for_each(|(row, &code)| add(row, code));
        Ok(rows)
    }

    fn column(&self, column: usize) -> Result<&Column> {
        self.columns.get(column).ok_or(Error::Column { column, wanted: "a column", found: "none" })
    }
}

pub(crate) fn unexpected(column: usize, wanted: &'static str, found: &Values) -> Error {
    let found = match found {
        Values::Patients(_) => "patients",
        Values::Codes(_) => "codes",
        Values::Dates(_) => "dates",
        Values::Numbers(_) => "numbers",
        Values::Categories(_) => "categories",
    };
    Error::Column { column, wanted, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn rows_with_codes_are_those_whose_code_is_there_and_in_the_set() {
        let set: Bitmap = [0, 7, 8, 70].into_iter().collect();
        // No code at all is 0 in the list, and 0 is in the set.
        let codes: Vec<Option<Code>> = (0..77)
            .map(|row| (row % 5 != 0).then_some(Code(if row == 33 { u32::MAX } else { row })))
            .collect();
        for rows in [0, 1, 8, 9, 15, 16, 17, 32, 77] {
            let batch = Batch::of(codes[..rows].iter().map(|&code| (code,)));
            let expected: Vec<usize> = [7, 8].into_iter().filter(|&row| row < rows).collect();
            assert_eq!(batch.rows_with_codes(0, &set).unwrap(), expected);
            assert_eq!(batch.rows_with_codes(0, &Bitmap::default()).unwrap(), []);
        }
    }
}
