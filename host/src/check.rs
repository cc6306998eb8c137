//! Check: what a module wrote against what its manifest declares, before anything else touches it.
//!
//! Names, types, number of columns and rows, code systems, categories, ranges, decimals. There is no lenient case: rows that do
//! not fit end the run. Rows of an aggregate are counted (see `disclosure.rs`) and go no further themselves.

use std::sync::Arc;

use lockgate_signing::block::{Bitmap, Column, Values};
use lockgate_signing::manifest::{Manifest, OutputType};

use crate::crossing::day;
use crate::disclosure::Table;
use crate::guest::{BATCH_ROWS, Emitted, EmittedColumn, Inputs};

/// How rows break their manifest. Names outputs and columns, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}`{}: {why}", column.as_ref().map(|name| format!(", column `{name}`")).unwrap_or_default())]
pub struct CheckError {
    output: String,
    column: Option<String>,
    why: Breach,
}

/// What is wrong with rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    /// More or fewer columns than declared.
    #[error("{found} columns in place of {declared}")]
    Columns {
        /// Written.
        found: usize,
        /// Declared.
        declared: usize,
    },
    /// A batch that is too long.
    #[error("a batch of more than 65,536 rows")]
    BatchRows,
    /// All rows together.
    #[error("more rows than the {0} that the manifest allows")]
    Rows(u64),
    /// Lists of different lengths.
    #[error("its list has {found} values for {rows} rows")]
    Ragged {
        /// Values in the list.
        found: usize,
        /// Rows of the batch.
        rows: u32,
    },
    /// A list of another type.
    #[error("its list is of {found}, and the manifest declares a {declared}")]
    Type {
        /// Written.
        found: &'static str,
        /// Declared.
        declared: &'static str,
    },
    /// A bitmap of another length, or with bits beyond the last row.
    #[error("a missing-value bitmap that does not fit the rows")]
    Bitmap,
    /// A missing value where there must be one.
    #[error("a missing value in a column that is not optional")]
    Missing,
    /// A patient that the run does not have.
    #[error("a patient that this run does not have")]
    Patient,
    /// A code that the run does not have.
    #[error("a code that this run does not have")]
    Code,
    /// A code of another system.
    #[error("a code of a system that the manifest does not declare for it; declared: {0}")]
    System(String),
    /// A day out of range.
    #[error("a date outside of the declared range, {0}: leave the value out, or declare a wider range")]
    Date(String),
    /// Not the first of a month.
    #[error("a date that is not the first of a month")]
    Month,
    /// A number out of range or not finite.
    #[error("a number outside of the declared range, {0}: leave the value out, or declare a wider range")]
    Number(String),
    /// More patients and cells than the host counts.
    #[error("more than {0} pairs of a patient and a cell")]
    Members(usize),
    /// A table with totals that do not add up.
    #[error("a patient in two cells of a table with totals")]
    TwoCells,
    /// A category out of range.
    #[error("a category beyond the {0} that are declared")]
    Category(usize),
}

/// Rows that are what the manifest says, rounded to their decimals.
pub(crate) struct Checked {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: usize,
    /// Cells of an aggregate that are not among them.
    pub(crate) suppressed: u64,
}

/// Checks the rows of one run.
pub(crate) struct Checker {
    manifest: Arc<Manifest>,
    patients: u32,
    last_day: i32,
    rows_left: u64,
    /// By output: the table that it fills, if it is an aggregate.
    tables: Vec<Option<Table>>,
}

impl Checker {
    /// A checker for a run with this many patients, over a window that ends on `last_day`.
    pub(crate) fn new(manifest: Arc<Manifest>, patients: u32, last_day: i32) -> Self {
        let rows_left = manifest.limits.output_rows;
        let tables = manifest.outputs.values().map(Table::of).collect();
        Self { manifest, patients, last_day, rows_left, tables }
    }

    /// Checks rows of an output (its position in the manifest); `None`: they are counted, and what is released of them comes
    /// at the end of the run.
    pub(crate) fn check(
        &mut self,
        output: usize,
        emitted: Emitted,
        inputs: &Inputs,
    ) -> Result<Option<Checked>, CheckError> {
        let manifest = Arc::clone(&self.manifest);
        let Some((name, declared)) = manifest.outputs.iter().nth(output) else {
            // The caller found the position in the same manifest.
            let why = Breach::Columns { found: 0, declared: 0 };
            return Err(CheckError { output: output.to_string(), column: None, why });
        };
        let wrong = |why| CheckError { output: name.to_string(), column: None, why };
        if emitted.columns.len() != declared.columns.len() {
            let (found, declared) = (emitted.columns.len(), declared.columns.len());
            return Err(wrong(Breach::Columns { found, declared }));
        }
        if emitted.rows as usize > BATCH_ROWS {
            return Err(wrong(Breach::BatchRows));
        }
        let rows_max = manifest.limits.output_rows;
        self.rows_left =
            self.rows_left.checked_sub(emitted.rows.into()).ok_or_else(|| wrong(Breach::Rows(rows_max)))?;
        let rows = emitted.rows;
        let mut columns = Vec::with_capacity(emitted.columns.len());
        for (column, declared) in emitted.columns.into_iter().zip(&declared.columns) {
            let checked = self.check_column(rows, column, &declared.kind, declared.optional, inputs);
            columns.push(checked.map_err(|why| CheckError {
                output: name.to_string(),
                column: Some(declared.name.to_string()),
                why,
            })?);
        }
        let rows = rows as usize;
        match &mut self.tables[output] {
            Some(table) => table.take(&columns, rows).map(|()| None).map_err(wrong),
            None => Ok(Some(Checked { columns, rows, suppressed: 0 })),
        }
    }

    /// What may be released of the tables that the module filled: the output's position in the manifest, and its rows.
    pub(crate) fn release(&mut self) -> Result<Vec<(usize, Checked)>, CheckError> {
        let manifest = Arc::clone(&self.manifest);
        let mut released = Vec::new();
        for (position, (name, output)) in manifest.outputs.iter().enumerate() {
            let Some(table) = self.tables[position].take() else { continue };
            let wrong = |why| CheckError { output: name.to_string(), column: None, why };
            let table = table.release().map_err(wrong)?;
            let (rows, suppressed) = (table.counts.len(), table.suppressed);
            released.push((position, Checked { columns: table.into_columns(output), rows, suppressed }));
        }
        Ok(released)
    }

    fn check_column(
        &mut self,
        rows: u32,
        column: EmittedColumn,
        declared: &OutputType,
        optional: bool,
        inputs: &Inputs,
    ) -> Result<Column, Breach> {
        let EmittedColumn { mut values, missing } = column;
        if values.len() != rows as usize {
            return Err(Breach::Ragged { found: values.len(), rows });
        }
        let missing = match missing {
            None => None,
            Some(bytes) => {
                let bitmap = Bitmap::from_bytes(bytes, rows as usize).ok_or(Breach::Bitmap)?;
                (bitmap.count() > 0).then_some(bitmap)
            }
        };
        if missing.is_some() && !optional {
            return Err(Breach::Missing);
        }
        // What stands in the place of a missing value could carry something, so it is cleared.
        if let Some(missing) = &missing {
            clear(&mut values, missing);
        }
        let has = |row: usize| missing.as_ref().is_none_or(|missing| !missing.contains(row));
        match (&mut values, declared) {
            (Values::Patients(values), OutputType::Patient) => {
                all(values, |&patient| patient < self.patients, Breach::Patient)?;
            }
            (Values::Dates(values), OutputType::Date { min, max, month }) => {
                let range = day(*min)..=max.map_or(self.last_day, day);
                for (row, &value) in values.iter().enumerate() {
                    if !range.contains(&value) && has(row) {
                        let last = max.map_or_else(|| "the run's last day".to_owned(), |max| max.to_string());
                        return Err(Breach::Date(format!("{min} to {last}")));
                    }
                    if *month && has(row) && !is_first_of_month(value) {
                        return Err(Breach::Month);
                    }
                }
            }
            (Values::Numbers(values), OutputType::Number { min, max, decimals }) => {
                let power = 10_f64.powi((*decimals).into());
                for (row, value) in values.iter_mut().enumerate() {
                    // A comparison with a not-a-number is false, so it is refused here too.
                    if !(*min..=*max).contains(value) && has(row) {
                        return Err(Breach::Number(format!("{min} to {max}")));
                    }
                    *value = (*value * power).round_ties_even() / power;
                }
            }
            (Values::Categories(values), OutputType::Category { categories }) => {
                let declared = categories.len();
                all(values, |&category| usize::from(category) < declared, Breach::Category(declared))?;
            }
            (Values::Codes(values), OutputType::Code { systems }) => {
                let allowed: Vec<bool> = inputs
                    .systems()
                    .iter()
                    .map(|name| systems.iter().any(|system| system.as_str() == name))
                    .collect();
                for (row, &value) in values.iter().enumerate() {
                    if !has(row) {
                        continue;
                    }
                    let (system, _) = inputs.code(value).ok_or(Breach::Code)?;
                    if !allowed.get(usize::from(system)).is_some_and(|allowed| *allowed) {
                        let names: Vec<_> = systems.iter().map(|system| system.as_str()).collect();
                        return Err(Breach::System(names.join(", ")));
                    }
                }
            }
            (values, declared) => {
                let found = match values {
                    Values::Patients(_) => "patients",
                    Values::Codes(_) => "codes",
                    Values::Dates(_) => "dates",
                    Values::Numbers(_) => "numbers",
                    Values::Categories(_) => "categories",
                };
                return Err(Breach::Type { found, declared: declared.type_name() });
            }
        }
        Ok(Column { values, missing })
    }
}

fn all<T>(values: &[T], fits: impl Fn(&T) -> bool, breach: Breach) -> Result<(), Breach> {
    if values.iter().all(fits) { Ok(()) } else { Err(breach) }
}

fn clear(values: &mut Values, missing: &Bitmap) {
    fn zero<T: Default>(values: &mut [T], missing: &Bitmap) {
        for (row, value) in values.iter_mut().enumerate() {
            if missing.contains(row) {
                *value = T::default();
            }
        }
    }
    match values {
        Values::Patients(values) | Values::Codes(values) => zero(values, missing),
        Values::Dates(values) => zero(values, missing),
        Values::Numbers(values) => zero(values, missing),
        Values::Categories(values) => zero(values, missing),
    }
}

fn is_first_of_month(day: i32) -> bool {
    let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(day));
    date.is_ok_and(|date| date.day() == 1)
}
