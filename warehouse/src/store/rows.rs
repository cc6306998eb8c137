//! Looking at what is there.

use jiff::civil::Date;
use rusqlite::types::ValueRef;

use super::{Result, Store, StoreError, quoted, unsigned};

/// Dates are stored as text; in bundles they are days after this one.
pub(super) const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// The column of every output's table that says which bundle a row came with. No name of ours begins like this.
pub(super) const BUNDLE: &str = "_bundle";

/// A code as it is stored: its system, a space, its text.
pub(super) fn code_text((system, text): &(String, String)) -> String {
    format!("{system} {text}")
}

/// A table of an output, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableRow {
    /// The table.
    pub table: String,
    /// The module.
    pub module: String,
    /// Its rows.
    pub rows: u64,
    /// Different patients in it, of all sites.
    pub patients: u64,
    /// Sites that have rows in it.
    pub sites: u64,
}

/// Rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutputRows {
    /// What the columns are called: the site, the month, then those of the output.
    pub columns: Vec<String>,
    /// Values, in that order; tokens as hexadecimal digits.
    pub rows: Vec<Vec<serde_json::Value>>,
}

impl Store {
    /// The tables and how much is in them.
    pub fn tables(&self) -> Result<Vec<TableRow>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT table_name, module, columns FROM output ORDER BY table_name")?;
        let outputs = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let outputs: Vec<(String, String, String)> = outputs.collect::<rusqlite::Result<_>>()?;
        let mut tables = Vec::new();
        for (table, module, columns) in outputs {
            let patient = columns.lines().find_map(|line| line.strip_suffix(" patient"));
            let patients = patient
                .map_or_else(|| "0".to_owned(), |column| format!("count(DISTINCT {})", quoted(column)));
            let sql = format!(
                "SELECT count(*), {patients}, count(DISTINCT b.site) FROM {} t JOIN bundle b ON b.number = t.{BUNDLE}",
                quoted(&table)
            );
            let (rows, patients, sites) = self.connection.query_row(&sql, [], |row| {
                Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), unsigned(row.get(2)?)))
            })?;
            tables.push(TableRow { table, module, rows, patients, sites });
        }
        Ok(tables)
    }

    /// Rows of a table, in no particular order: of one month, of one site, or of all.
    pub fn rows(
        &self,
        table: &str,
        site: Option<&str>,
        period: Option<&str>,
        rows_max: u32,
    ) -> Result<OutputRows> {
        let known: bool = self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM output WHERE table_name = ?1)",
            [table],
            |row| row.get(0),
        )?;
        if !known {
            return Err(StoreError::NotFound(format!("no table `{table}`; see `lockgate-warehouse status`")));
        }
        let mut statement = self.connection.prepare(&format!(
            "SELECT b.site AS \"site\", b.period AS \"month\", t.* FROM {} t JOIN bundle b ON b.number = t.{BUNDLE}
             WHERE (?1 IS NULL OR b.site = ?1) AND (?2 IS NULL OR b.period = ?2) LIMIT ?3",
            quoted(table)
        ))?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let shown: Vec<usize> = (0..names.len()).filter(|&place| names[place] != BUNDLE).collect();
        let mut rows = statement.query(rusqlite::params![site, period, rows_max])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = shown.iter().map(|&place| Ok(value(row.get_ref(place)?)));
            found.push(cells.collect::<Result<_>>()?);
        }
        Ok(OutputRows { columns: shown.iter().map(|&place| names[place].clone()).collect(), rows: found })
    }
}

fn value(value: ValueRef<'_>) -> serde_json::Value {
    match value {
        ValueRef::Null => serde_json::Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}
