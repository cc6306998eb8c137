//! Writing row by row: for what a module derives. A pass that keeps whole batches writes them as they are.

use crate::edit::bits_of;
use crate::{BATCH_ROWS_MAX, Batch, Column, Host, Result, Values};

/// A patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patient(pub u32);

/// A code: a position in the run's dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub u32);

/// A day, since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i32);

/// A finite number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Number(pub f64);

/// A position in the categories of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Category(pub u8);

/// A value of a row: one of the five types, or an `Option` of it.
pub trait Cell: Sized {
    /// The list of such values.
    type List: Default;

    /// Adds it to a list.
    fn push(self, list: &mut Self::List);

    /// The list as a column.
    fn column(list: Self::List) -> Column;

    /// The cell of a column; `None` when the column is of another type, or a needed value is missing.
    fn read(column: &Column, row: usize) -> Option<Self>;
}

macro_rules! cell {
    ($($cell:ident: $value:ty => $values:ident),*) => {$(
        impl Cell for $cell {
            type List = Vec<$value>;

            #[inline]
            fn push(self, list: &mut Self::List) {
                list.push(self.0);
            }

            fn column(list: Self::List) -> Column {
                Column { values: Values::$values(list), missing: None }
            }

            fn read(column: &Column, row: usize) -> Option<Self> {
                Option::<Self>::read(column, row).flatten()
            }
        }

        impl Cell for Option<$cell> {
            type List = (Vec<$value>, Vec<bool>);

            #[inline]
            fn push(self, list: &mut Self::List) {
                list.0.push(self.map_or_else(Default::default, |cell| cell.0));
                list.1.push(self.is_none());
            }

            fn column((values, missing): Self::List) -> Column {
                Column { values: Values::$values(values), missing: bits_of(missing.into_iter()) }
            }

            fn read(column: &Column, row: usize) -> Option<Self> {
                let Values::$values(values) = &column.values else { return None };
                let cells = crate::Cells { values, missing: column.missing.as_deref() };
                Some(cells.at(row).map($cell))
            }
        }
    )*};
}

cell!(
    Patient: u32 => Patients,
    Code: u32 => Codes,
    Day: i32 => Dates,
    Number: f64 => Numbers,
    Category: u8 => Categories
);

/// A row: a tuple of up to twelve [`Cell`]s.
pub trait Row: Sized {
    /// The lists of its columns.
    type Lists: Default;

    /// Adds it to the lists.
    fn push(self, lists: &mut Self::Lists);

    /// The lists as columns.
    fn columns(lists: Self::Lists) -> Vec<Column>;

    /// The row of a batch; `None` when the batch has other columns.
    fn read(batch: &Batch, row: usize) -> Option<Self>;
}

macro_rules! row {
    ($count:literal: $($cell:ident $at:tt),*) => {
        impl<$($cell: Cell),*> Row for ($($cell,)*) {
            type Lists = ($($cell::List,)*);

            #[inline]
            fn push(self, lists: &mut Self::Lists) {
                $(self.$at.push(&mut lists.$at);)*
            }

            fn columns(lists: Self::Lists) -> Vec<Column> {
                vec![$($cell::column(lists.$at)),*]
            }

            fn read(batch: &Batch, row: usize) -> Option<Self> {
                if batch.columns.len() != $count || row >= batch.row_count() {
                    return None;
                }
                Some(($($cell::read(&batch.columns[$at], row)?,)*))
            }
        }
    };
}

row!(1: A 0);
row!(2: A 0, B 1);
row!(3: A 0, B 1, C 2);
row!(4: A 0, B 1, C 2, D 3);
row!(5: A 0, B 1, C 2, D 3, E 4);
row!(6: A 0, B 1, C 2, D 3, E 4, F 5);
row!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
row!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
row!(9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
row!(10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
row!(11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
row!(12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

impl Batch {
    /// A batch of these rows.
    pub fn of<R: Row>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut lists = R::Lists::default();
        let mut count = 0;
        for row in rows {
            row.push(&mut lists);
            count += 1;
        }
        Self { rows: count, columns: R::columns(lists) }
    }
}

/// Collects rows and writes them in full batches. [`RowWriter::finish`] writes the last one.
#[must_use = "the last rows are written by `finish`"]
pub struct RowWriter<'h, H, R: Row> {
    host: &'h H,
    output: &'static str,
    lists: R::Lists,
    rows: usize,
}

impl<'h, H: Host, R: Row> RowWriter<'h, H, R> {
    /// A writer to an output of the manifest, whose columns are those of the rows.
    pub fn new(host: &'h H, output: &'static str) -> Self {
        Self { host, output, lists: R::Lists::default(), rows: 0 }
    }

    /// Adds a row.
    #[inline]
    pub fn push(&mut self, row: R) -> Result<()> {
        row.push(&mut self.lists);
        self.rows += 1;
        if self.rows == BATCH_ROWS_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<()> {
        if self.rows == 0 { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        let columns = R::columns(core::mem::take(&mut self.lists));
        let rows = core::mem::take(&mut self.rows) as u32;
        self.host.write(self.output, &Batch { rows, columns })
    }
}
