//! Whether a mapping's expressions are SQL, before every site finds out.
//!
//! The tables are the sites', so nothing can be looked up here: SQLite parses a statement before it looks for its tables,
//! and what it says tells the two apart. Each expression is tried in a place of its own, as the agent composes them
//! (`host/src/source/statement.rs`), so that one cannot lean on another's parentheses.

use lockgate_signing::mapping::{ColumnMapping, Database, DateFormat, Mapping, TableMapping};
use lockgate_signing::text_format::{TextFormat as _, TextFormatError};
use rusqlite::Connection;

/// Refuses a mapping with an expression that no site's database would read.
pub(crate) fn check(mapping: &Mapping) -> Result<(), TextFormatError> {
    let Database::Sqlite = mapping.database;
    let wrong = |place: &str, why: &str| TextFormatError::at(Mapping::WHAT, place, why);
    let empty = Connection::open_in_memory().map_err(|error| wrong("database", &error.to_string()))?;
    for (name, table) in &mapping.table {
        for (place, sql) in statements(table) {
            if let Some(why) = mistake(&empty, &sql) {
                return Err(wrong(&format!("table.{name}.{place}"), &format!("is not SQL: {why}")));
            }
        }
    }
    Ok(())
}

/// A statement for each expression of a table, and the expression's place.
fn statements(table: &TableMapping) -> Vec<(String, String)> {
    let Some(from) = &table.from else { return Vec::new() };
    let mut statements = vec![("from".to_owned(), format!("SELECT 1 FROM {from} WHERE 1"))];
    let filter = table.filter.iter().map(|filter| ("where".to_owned(), one(filter, from)));
    statements.extend(filter);
    for (name, column) in &table.column {
        let ColumnMapping { sql, system_sql, date, .. } = column;
        let place = |key: &str| format!("column.{name}.{key}");
        statements.extend(sql.iter().map(|sql| (place("sql"), one(sql, from))));
        statements.extend(system_sql.iter().map(|sql| (place("system-sql"), one(sql, from))));
        // A date stands in a window without parentheses, so that an index on it serves.
        if let (Some(sql), Some(DateFormat::Iso | DateFormat::PartialIso)) = (sql, date) {
            let window = format!("SELECT 1 FROM {from} WHERE {sql} >= ?1 AND {sql} < ?2");
            statements.push((place("sql"), window));
        }
    }
    statements
}

/// The expression as the agent writes it, and where nothing but one expression can stand: `a) , (b` is none.
fn one(sql: &str, from: &str) -> String {
    format!("SELECT ({sql}), CAST({sql} AS TEXT) FROM {from}")
}

/// What is wrong with a statement, other than that its names are not known here.
fn mistake(empty: &Connection, sql: &str) -> Option<String> {
    const NOT_KNOWN_HERE: [&str; 4] =
        ["no such table: ", "no such column: ", "no such function: ", "no such collation sequence: "];
    let said = match empty.prepare(sql) {
        Ok(_) => return None,
        Err(rusqlite::Error::SqlInputError { msg, .. } | rusqlite::Error::SqliteFailure(_, Some(msg))) => msg,
        Err(error) => error.to_string(),
    };
    (!NOT_KNOWN_HERE.iter().any(|known| said.starts_with(known))).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../examples/registry/mappings/gp-extract.toml");

    fn verdict(text: &str) -> Result<(), String> {
        check(&Mapping::decode(text.as_bytes()).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_sample_is_sql() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/registry/mappings");
        for file in std::fs::read_dir(folder).unwrap() {
            verdict(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_is_no_sql_is_named() {
        let sex = SAMPLE.lines().find(|line| line.contains("p.Sex")).unwrap();
        let (before, after) = sex.split_once("p.Sex").unwrap();
        for wrong in
            ["p.Sexx((", "p.Sex) , (p.Sex", "p.Sex AS", "p.Sex, p.Sex", "'p.Sex", "a AS TEXT) + CAST(b"]
        {
            let text = SAMPLE.replacen(sex, &format!("{before}{wrong}{after}"), 1);
            let refused = verdict(&text).unwrap_err();
            assert!(refused.contains("table.patient.column.sex.sql`: is not SQL: "), "{wrong}: {refused}");
        }
        let from = SAMPLE.lines().find(|line| line.starts_with("from = ")).unwrap();
        let refused = verdict(&SAMPLE.replacen(from, "from = \"patient p WHERE\"", 1)).unwrap_err();
        assert!(refused.contains(".from`: is not SQL: "), "{refused}");
        // A name that only a site's database has, and a function that it may have.
        let other = SAMPLE.replacen(sex, &format!("{before}lower_case(q.Geschlecht){after}"), 1);
        assert_eq!(verdict(&other), Ok(()));
    }
}
