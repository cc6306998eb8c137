//! Changing a batch before it is written on: dropping rows, and blanking what the manifest does not allow.
//!
//! Each pass first looks whether there is anything to do, with a loop over one plain list: nearly always there is not.

use core::ops::RangeInclusive;

use crate::cells::{is_missing, unexpected};
use crate::{Batch, Bitmap, Column, Result, Values};

impl Batch {
    /// Keeps the rows for which `keep` is true, in order. Returns how many were dropped.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) -> usize {
        let rows = self.row_count();
        let Some(first_dropped) = (0..rows).position(|row| !keep(row)) else { return 0 };
        let kept = (0..first_dropped).chain((first_dropped + 1..rows).filter(|&row| keep(row)));
        let kept: Vec<usize> = kept.collect();
        for column in &mut self.columns {
            match &mut column.values {
                Values::Patients(values) | Values::Codes(values) => compact(values, &kept),
                Values::Dates(values) => compact(values, &kept),
                Values::Numbers(values) => compact(values, &kept),
                Values::Categories(values) => compact(values, &kept),
            }
            if let Some(bits) = column.missing.take() {
                column.missing = bits_of(kept.iter().map(|&row| is_missing(Some(&bits), row)));
            }
        }
        self.rows = kept.len() as u32;
        rows - kept.len()
    }

    /// Takes the value from every row whose day is not in this range. Returns how many.
    pub fn blank_days_outside(&mut self, column: usize, range: RangeInclusive<i32>) -> Result<usize> {
        let values = self.days(column)?.values;
        let (first, last) = (*range.start(), *range.end());
        if all_days(values, first, last) {
            return Ok(0);
        }
        let outside: Vec<bool> = values.iter().map(|day| !range.contains(day)).collect();
        Ok(self.columns[column].blank(&outside))
    }

    /// Takes the value from every row whose number is not in this range. Returns how many.
    pub fn blank_numbers_outside(&mut self, column: usize, range: RangeInclusive<f64>) -> Result<usize> {
        let values = self.numbers(column)?.values;
        let (least, greatest) = (*range.start(), *range.end());
        if all_numbers(values, least, greatest) {
            return Ok(0);
        }
        let outside: Vec<bool> = values.iter().map(|number| !range.contains(number)).collect();
        Ok(self.columns[column].blank(&outside))
    }

    /// Takes the value from every row whose code is in this set. Returns how many.
    pub fn blank_codes(&mut self, column: usize, codes: &Bitmap) -> Result<usize> {
        let cells = self.codes(column)?;
        if !cells.iter().flatten().any(|code| codes.contains(code)) {
            return Ok(0);
        }
        let blank: Vec<bool> = cells.values.iter().map(|&code| codes.contains(code)).collect();
        Ok(self.columns[column].blank(&blank))
    }

    /// Drops every row whose code is in this set. Returns how many.
    pub fn drop_codes(&mut self, column: usize, codes: &Bitmap) -> Result<usize> {
        let cells = self.codes(column)?;
        if !cells.iter().flatten().any(|code| codes.contains(code)) {
            return Ok(0);
        }
        let kept: Vec<bool> =
            cells.iter().map(|code| !code.is_some_and(|code| codes.contains(code))).collect();
        Ok(self.retain(|row| kept[row]))
    }

    /// Drops the columns from this one on, for an input that is read with more columns than are written.
    pub fn truncate_columns(&mut self, columns: usize) {
        self.columns.truncate(columns);
    }

    /// Adds the rows of a batch of the same input.
    pub(crate) fn append(&mut self, next: Batch) -> Result<()> {
        let (rows, added) = (self.row_count(), next.row_count());
        for (at, (column, next)) in self.columns.iter_mut().zip(next.columns).enumerate() {
            match (&mut column.values, next.values) {
                (Values::Patients(values), Values::Patients(more))
                | (Values::Codes(values), Values::Codes(more)) => values.extend(more),
                (Values::Dates(values), Values::Dates(more)) => values.extend(more),
                (Values::Numbers(values), Values::Numbers(more)) => values.extend(more),
                (Values::Categories(values), Values::Categories(more)) => values.extend(more),
                (_, other) => return Err(unexpected(at, "the type of the rows before", &other)),
            }
            let (bits, more) = (column.missing.take(), next.missing);
            if bits.is_some() || more.is_some() {
                let before = (0..rows).map(|row| is_missing(bits.as_deref(), row));
                column.missing =
                    bits_of(before.chain((0..added).map(|row| is_missing(more.as_deref(), row))));
            }
        }
        self.rows += next.rows;
        Ok(())
    }

    /// Takes the last row out, if there is one, as a batch of its own.
    pub(crate) fn split_off_last(&mut self) -> Option<Batch> {
        let last = self.row_count().checked_sub(1)?;
        let columns = self.columns.iter_mut().map(|column| {
            let missing = is_missing(column.missing.as_deref(), last).then(|| vec![1]);
            if let Some(bits) = column.missing.take() {
                column.missing = bits_of((0..last).map(|row| is_missing(Some(&bits), row)));
            }
            let values = match &mut column.values {
                Values::Patients(values) => Values::Patients(values.split_off(last)),
                Values::Codes(values) => Values::Codes(values.split_off(last)),
                Values::Dates(values) => Values::Dates(values.split_off(last)),
                Values::Numbers(values) => Values::Numbers(values.split_off(last)),
                Values::Categories(values) => Values::Categories(values.split_off(last)),
            };
            Column { values, missing }
        });
        let columns = columns.collect();
        self.rows -= 1;
        Some(Batch { rows: 1, columns })
    }

    /// Whether the lists fit the row count and the missing bits, and the values their columns.
    pub fn check(&self) -> Result<()> {
        for (at, column) in self.columns.iter().enumerate() {
            let (rows, zero_where_missing) = column.shape();
            let bits = column.missing.as_ref().is_none_or(|bits| bits.len() == rows.div_ceil(8));
            if rows != self.row_count() || !bits || !zero_where_missing {
                return Err(unexpected(at, "a list of the batch's length, 0 where missing", &column.values));
            }
        }
        Ok(())
    }
}

impl Column {
    /// Takes the value of these rows. Returns how many had one.
    fn blank(&mut self, rows: &[bool]) -> usize {
        let mut blanked = 0;
        let bits = self.missing.get_or_insert_with(|| vec![0; rows.len().div_ceil(8)]);
        for row in rows.iter().enumerate().filter(|(_, blank)| **blank).map(|(row, _)| row) {
            let Some(byte) = bits.get_mut(row / 8).filter(|byte| **byte >> (row % 8) & 1 == 0) else {
                continue;
            };
            *byte |= 1 << (row % 8);
            blanked += 1;
            match &mut self.values {
                Values::Patients(values) | Values::Codes(values) => values[row] = 0,
                Values::Dates(values) => values[row] = 0,
                Values::Numbers(values) => values[row] = 0.0,
                Values::Categories(values) => values[row] = 0,
            }
        }
        if blanked == 0 && bits.iter().all(|&byte| byte == 0) {
            self.missing = None;
        }
        blanked
    }

    fn shape(&self) -> (usize, bool) {
        let missing = |row: usize| is_missing(self.missing.as_deref(), row);
        fn zeroes<T: PartialEq + Default>(values: &[T], missing: impl Fn(usize) -> bool) -> (usize, bool) {
            let zero = T::default();
            (values.len(), values.iter().enumerate().all(|(row, value)| !missing(row) || *value == zero))
        }
        match &self.values {
            Values::Patients(values) | Values::Codes(values) => zeroes(values, missing),
            Values::Dates(values) => zeroes(values, missing),
            Values::Numbers(values) => zeroes(values, missing),
            Values::Categories(values) => zeroes(values, missing),
        }
    }
}

/// Rows that are looked at together: without a branch between them the loop becomes SIMD, and the sandbox's checks at
/// the head of every loop (fuel, epoch) are paid once for all of them.
const TOGETHER: usize = 64;

/// Whether all days are between these.
fn all_days(values: &[i32], first: i32, last: i32) -> bool {
    let (chunks, rest) = values.as_chunks::<TOGETHER>();
    let between = |values: &[i32]| {
        let (least, greatest) = values
            .iter()
            .fold((i32::MAX, i32::MIN), |(least, greatest), &day| (least.min(day), greatest.max(day)));
        values.is_empty() || (first <= least && greatest <= last)
    };
    chunks.iter().all(|chunk| between(chunk)) && between(rest)
}

/// Whether all numbers are between these; what is not a number is not.
fn all_numbers(values: &[f64], least: f64, greatest: f64) -> bool {
    let (chunks, rest) = values.as_chunks::<TOGETHER>();
    // Counted in words as wide as the number, where a `bool` would have to be narrowed from it lane by lane.
    let all_inside = |values: &[f64]| {
        let inside = |&number: &f64| u64::from((least <= number) & (number <= greatest));
        values.iter().map(inside).sum::<u64>() == values.len() as u64
    };
    chunks.iter().all(|chunk| all_inside(chunk)) && all_inside(rest)
}

fn compact<T: Copy>(values: &mut Vec<T>, kept: &[usize]) {
    for (to, &from) in kept.iter().enumerate() {
        values[to] = values[from];
    }
    values.truncate(kept.len());
}

/// Missing bits, least significant first; `None` when no row is missing.
pub(crate) fn bits_of(missing: impl Iterator<Item = bool>) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    let mut any = false;
    for (row, missing) in missing.enumerate() {
        if row % 8 == 0 {
            bits.push(0);
        }
        if missing {
            any = true;
            bits[row / 8] |= 1 << (row % 8);
        }
    }
    any.then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, Day, Error, Number, Patient};

    type Row = (Patient, Option<Day>, Option<Number>, Code);

    fn batch() -> Batch {
        Batch::of((0..20).map(|row| {
            let day = (row % 3 != 0).then_some(Day(100 + row));
            let number = (row % 4 != 0).then_some(Number(f64::from(row)));
            (Patient(row as u32), day, number, Code(row as u32 % 5))
        }))
    }

    fn rows(batch: &Batch) -> Vec<Row> {
        batch.check().unwrap();
        (0..batch.row_count()).map(|row| crate::Row::read(batch, row).unwrap()).collect()
    }

    #[test]
    fn retain_keeps_values_and_missing_bits_together() {
        let mut kept = batch();
        assert_eq!(kept.retain(|row| row % 2 == 1), 10);
        let expected: Vec<Row> = rows(&batch()).into_iter().skip(1).step_by(2).collect();
        assert_eq!(rows(&kept), expected);
        assert_eq!(kept.retain(|_| true), 0);
        assert_eq!(kept.retain(|_| false), 10);
        assert_eq!(rows(&kept), []);
    }

    #[test]
    fn what_is_out_of_range_loses_its_value_and_nothing_else() {
        let mut blanked = batch();
        assert_eq!(blanked.blank_days_outside(1, 0..=110).unwrap(), 6);
        assert_eq!(blanked.blank_numbers_outside(2, 5.0..=1e9).unwrap(), 3);
        let expected: Vec<Row> = rows(&batch())
            .into_iter()
            .map(|(patient, day, number, code)| {
                (patient, day.filter(|day| day.0 <= 110), number.filter(|number| number.0 >= 5.0), code)
            })
            .collect();
        assert_eq!(rows(&blanked), expected);
    }

    #[test]
    fn a_column_without_missing_bits_gets_them_when_needed() {
        let mut one = Batch::of([(Patient(1), Day(5)), (Patient(2), Day(500))]);
        assert_eq!(one.blank_days_outside(1, 0..=10).unwrap(), 1);
        assert_eq!(one.columns[1].missing, Some(vec![0b10]));
        assert_eq!(one.days(1).unwrap().at(1), None);
        one.check().unwrap();
    }

    #[test]
    fn a_value_out_of_range_is_found_wherever_it_is() {
        for at in [0, 1, 62, 63, 64, 127, 128, 129] {
            let row = |row: usize, odd: i32| {
                (Day(if row == at { odd } else { 5 }), Number(if row == at { f64::from(odd) } else { 5.0 }))
            };
            for odd in [-1, 11] {
                let mut odd_one = Batch::of((0..130).map(|number| row(number, odd)));
                assert_eq!(odd_one.blank_days_outside(0, 0..=10).unwrap(), 1);
                assert_eq!(odd_one.blank_numbers_outside(1, 0.0..=10.0).unwrap(), 1);
                assert_eq!(
                    (odd_one.days(0).unwrap().at(at), odd_one.numbers(1).unwrap().at(at)),
                    (None, None)
                );
            }
        }
    }

    #[test]
    fn not_a_number_is_out_of_range() {
        let mut one = Batch::of([(Patient(1), Number(f64::NAN))]);
        assert_eq!(one.blank_numbers_outside(1, -1e9..=1e9).unwrap(), 1);
        one.check().unwrap();
    }

    #[test]
    fn codes_of_a_set_go_with_their_row_or_without_it() {
        let set: Bitmap = [1, 4].into_iter().collect();
        let mut dropped = batch();
        assert_eq!(dropped.drop_codes(3, &set).unwrap(), 8);
        assert!(dropped.codes(3).unwrap().values.iter().all(|&code| !set.contains(code)));
        let mut blanked = batch();
        assert_eq!(blanked.blank_codes(3, &set).unwrap(), 8);
        assert_eq!(blanked.row_count(), 20);
        blanked.check().unwrap();
    }

    #[test]
    fn a_column_of_another_type_is_an_error_that_says_which() {
        let error = batch().numbers(3).unwrap_err();
        assert_eq!(error, Error::Column { column: 3, wanted: "numbers", found: "codes" });
        assert!(batch().patients(9).is_err());
    }

    #[test]
    fn a_batch_whose_lists_differ_in_length_does_not_pass() {
        let mut ragged = batch();
        ragged.rows = 19;
        assert!(ragged.check().is_err());
    }
}
