//! What should come of a site, counted in its own tables with plain SQL.
//!
//! Nothing here knows the agent, the mappings or the modules' code: the SQL files are written from the source tables and
//! from the rules that the domain has. Only the published lists of codes are shared, as data.

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags, params};

use super::codes;
use super::figures::{Figures, Place};
use super::lists::Lists;
use super::sources::{Kind, Source};

const PRACTICE_TABLES: &str = include_str!("truth/practice_tables.sql");
const HOSPITAL_TABLES: &str = include_str!("truth/hospital_tables.sql");
const OBJECTIONS: &str = include_str!("truth/objections.sql");
const PERSONS: &str = include_str!("truth/persons.sql");
const PRACTICE: &str = include_str!("truth/practice.sql");
const HOSPITAL: &str = include_str!("truth/hospital.sql");

/// Months that a first run covers.
const FIRST_MONTHS: u32 = 4;

/// Counts what a first run has to report. `whole_history`: the monthly modules cover everything ever recorded.
pub(super) fn of(source: &Source, as_of: &str, whole_history: bool, lists: &Lists) -> Result<Figures> {
    let database = Connection::open_with_flags(&source.database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    database.execute_batch("PRAGMA temp_store = MEMORY; CREATE TEMP TABLE run (as_of TEXT)")?;
    database.execute("INSERT INTO run VALUES (?1)", [as_of])?;
    let (tables, monthly, facts) = match source.kind {
        Kind::Practice => (PRACTICE_TABLES, "gp-monthly", PRACTICE),
        Kind::Hospital => (HOSPITAL_TABLES, "hospital-episodes", HOSPITAL),
    };
    for (name, sql) in [("tables", tables), ("objections", OBJECTIONS), ("persons", PERSONS)] {
        database.execute_batch(sql).with_context(|| format!("{name}.sql"))?;
    }
    add_codes(&database, lists)?;
    database.execute_batch(
        "CREATE TEMP TABLE period (module TEXT, period TEXT, first_day TEXT, last_day TEXT)",
    )?;
    add_periods(&database, monthly, whole_history)?;
    if source.kind == Kind::Practice {
        add_periods(&database, "diabetes-register", false)?;
    }
    database.execute_batch(facts).context("facts")?;
    figures(&database)
}

/// Every code of the tables: whether it may cross, and which lists it is on.
fn add_codes(database: &Connection, lists: &Lists) -> Result<()> {
    database.execute_batch(
        "CREATE TEMP TABLE known (system TEXT, code TEXT, fate TEXT, PRIMARY KEY (system, code));
         CREATE TEMP TABLE listed (system TEXT, code TEXT, list TEXT)",
    )?;
    let mut select = database.prepare("SELECT system, code FROM any_code")?;
    let mut insert_known = database.prepare("INSERT INTO known VALUES (?1, ?2, ?3)")?;
    let mut insert_listed = database.prepare("INSERT INTO listed VALUES (?1, ?2, ?3)")?;
    let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (system, text) in found.collect::<rusqlite::Result<Vec<(String, String)>>>()? {
        let code = codes::read(&system, &text).map(|(name, code)| (name.to_owned(), code));
        let fate = match &code {
            None => "rows-malformed",
            Some(code) if lists.sensitive.contains(code) => "rows-sensitive",
            Some(_) => "crosses",
        };
        insert_known.execute(params![system, text, fate])?;
        let on =
            lists.codelists.iter().filter(|(_, list)| code.as_ref().is_some_and(|code| list.contains(code)));
        for (list, _) in on {
            insert_listed.execute(params![system, text, list])?;
        }
    }
    Ok(())
}

/// The complete months before the day of the run that a module's first run covers.
fn add_periods(database: &Connection, module: &str, whole_history: bool) -> Result<()> {
    let first = if whole_history {
        "(SELECT min(month) || '-01' FROM any_month)".to_owned()
    } else {
        format!("date((SELECT as_of FROM run), 'start of month', '-{FIRST_MONTHS} months')")
    };
    let sql = format!(
        "INSERT INTO period
         WITH RECURSIVE month (day) AS (
             SELECT {first} UNION ALL SELECT date(day, '+1 month') FROM month)
         SELECT ?1, substr(day, 1, 7), day, date(day, '+1 month', '-1 day') FROM month
         -- The recursion ends with the last complete month.
         LIMIT (SELECT 12 * (substr(as_of, 1, 4) - substr({first}, 1, 4)) + substr(as_of, 6, 2) - substr({first}, 6, 2)
                FROM run)"
    );
    database.execute(&sql, [module])?;
    Ok(())
}

fn figures(database: &Connection) -> Result<Figures> {
    let mut select = database.prepare("SELECT module, period, name, value FROM fact WHERE value <> 0")?;
    let rows = select.query_map([], |row| {
        let place = Place { module: row.get(0)?, period: row.get(1)?, name: row.get(2)? };
        Ok((place, row.get(3)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
