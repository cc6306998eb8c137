//! One SQL statement for each thing that is read: the mapping's expressions, its filter, and the window.
//!
//! Codelists are not part of the statement. A code may be written in more than one way (Read v2 with and without its
//! dots), so a comparison in SQL could miss rows without a word; the host compares normalised codes instead, each distinct
//! one once.

use jiff::civil::Date;
use lockgate_signing::canonical::CanonicalTable;
use lockgate_signing::mapping::{ColumnMapping, DateFormat, Mapping, TableMapping};
use rusqlite::types::Value;

use super::SourceError;

/// The days that rows are read of, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window<'a> {
    /// The canonical date column.
    pub(crate) column: &'a str,
    /// The first day; `None`: from the beginning.
    pub(crate) first: Option<Date>,
    /// The last day.
    pub(crate) last: Date,
}

/// An end of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    First,
    Last,
}

/// A statement that is ready to run, and where its columns come from.
pub(crate) struct Select<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) table: &'static CanonicalTable,
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Value>,
    /// One for each column that was asked for: its mapping (`None`: declared absent) and its position in the result.
    pub(crate) columns: Vec<Option<(&'a ColumnMapping, usize)>>,
    /// Whether the statement has a `WHERE`.
    filtered: bool,
}

/// The mapping of a table.
fn table_of<'a>(
    mapping: &'a Mapping,
    table: &'static CanonicalTable,
) -> Result<&'a TableMapping, SourceError> {
    let found = mapping.table.iter().find(|(name, _)| name.as_str() == table.name).map(|(_, table)| table);
    let absent = |reason: &str| SourceError::Absent {
        mapping: mapping.id.to_string(),
        table: table.name,
        reason: reason.to_owned(),
    };
    match found {
        Some(TableMapping { absent: Some(reason), .. }) => Err(absent(reason)),
        Some(table) => Ok(table),
        None => Err(absent("not mapped")),
    }
}

fn column_of<'a>(table: &'a TableMapping, column: &str) -> Option<&'a ColumnMapping> {
    table.column.iter().find(|(name, _)| name.as_str() == column).map(|(_, column)| column)
}

impl<'a> Select<'a> {
    /// The statement for these columns of a table.
    pub(crate) fn of(
        mapping: &'a Mapping,
        table: &'static CanonicalTable,
        columns: &[&str],
        window: Option<Window<'_>>,
    ) -> Result<Self, SourceError> {
        let mapped = table_of(mapping, table)?;
        let mut expressions = Vec::new();
        let mut places = Vec::with_capacity(columns.len());
        for name in columns {
            let column = column_of(mapped, name).filter(|column| column.absent.is_none());
            let required = table.column(name).is_none_or(|column| column.required);
            match column {
                Some(column) => {
                    places.push(Some((column, expressions.len())));
                    expressions.extend(column.sql.iter().map(|sql| format!("({sql})")));
                    // The system's local name follows its code.
                    expressions.extend(column.system_sql.iter().map(|sql| format!("({sql})")));
                }
                None if required => {
                    return Err(SourceError::AbsentColumn {
                        mapping: mapping.id.to_string(),
                        table: table.name,
                        column: (*name).to_owned(),
                    });
                }
                None => places.push(None),
            }
        }
        let from = mapped.from.as_deref().unwrap_or_default();
        let mut sql = format!("SELECT {} FROM {from}", expressions.join(", "));
        let mut conditions: Vec<String> = mapped.filter.iter().map(|filter| format!("({filter})")).collect();
        let mut parameters: Vec<Value> = Vec::new();
        if let Some(window) = window
            && let Some(ColumnMapping { sql: Some(date), date: Some(format), .. }) =
                column_of(mapped, window.column)
            && matches!(format, DateFormat::Iso | DateFormat::PartialIso)
        {
            // ISO dates sort as text, with or without a time after them; so do the months and years of partial ones.
            // The bare expression is compared, so that an index on it serves.
            let first = match format {
                DateFormat::PartialIso => window.first.map(|first| format!("{:04}", first.year())),
                _ => window.first.map(|first| first.to_string()),
            };
            if let Some(first) = first {
                parameters.push(first.into());
                conditions.push(format!("{date} >= ?{}", parameters.len()));
            }
            if let Ok(after) = window.last.tomorrow() {
                parameters.push(after.to_string().into());
                conditions.push(format!("{date} < ?{}", parameters.len()));
            }
        }
        if !conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&conditions.join(" AND "));
        }
        Ok(Self { mapping, table, sql, parameters, columns: places, filtered: !conditions.is_empty() })
    }

    /// The same statement for the rows that hold one of these values, as the database wrote them, in a column (its place among
    /// those that were asked for).
    pub(crate) fn only(mut self, column: usize, values: Vec<Value>) -> Self {
        let Some(sql) = self.columns[column].and_then(|(column, _)| column.sql.as_deref()) else {
            return self;
        };
        let first = self.parameters.len() + 1;
        let places: Vec<String> = (first..first + values.len()).map(|place| format!("?{place}")).collect();
        let and = if self.filtered { "AND" } else { "WHERE" };
        self.sql.push_str(&format!(" {and} ({sql}) IN ({})", places.join(", ")));
        self.filtered = true;
        self.parameters.extend(values);
        self
    }

    /// The statement for the first or the last value of a date column; `None` where its text does not sort.
    pub(crate) fn end(
        mapping: &'a Mapping,
        table: &'static CanonicalTable,
        column: &str,
        end: End,
    ) -> Result<Option<Self>, SourceError> {
        let mapped = table_of(mapping, table)?;
        let Some(found) = column_of(mapped, column).filter(|column| column.date == Some(DateFormat::Iso))
        else {
            return Ok(None);
        };
        let (date, from) =
            (found.sql.as_deref().unwrap_or_default(), mapped.from.as_deref().unwrap_or_default());
        let mut conditions = vec![format!("{date} <> ''")];
        conditions.extend(mapped.filter.iter().map(|filter| format!("({filter})")));
        conditions.extend((1..=found.missing.len()).map(|place| format!("{date} <> ?{place}")));
        // Rows that do not cross are not looked at, and may hold anything.
        let mut parameters = found.missing.clone();
        for mark in ["deleted", "confidential"] {
            let Some(ColumnMapping { sql: Some(sql), yes, .. }) = column_of(mapped, mark) else { continue };
            for text in yes {
                parameters.push(text.clone());
                conditions.push(format!("CAST(({sql}) AS TEXT) IS NOT ?{}", parameters.len()));
            }
        }
        let which = match end {
            End::First => "min",
            End::Last => "max",
        };
        let sql = format!("SELECT {which}({date}) FROM {from} WHERE {}", conditions.join(" AND "));
        Ok(Some(Self {
            mapping,
            table,
            sql,
            parameters: parameters.into_iter().map(Value::from).collect(),
            columns: vec![Some((found, 0))],
            filtered: true,
        }))
    }
}
