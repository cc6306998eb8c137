//! Applying a bundle: all of it or nothing, once.
//!
//! Bundles may come in any order (a courier overtakes a network), so what is applied is decided by what bundles say of
//! themselves. Of two extracts of a site, module and period, the later in the chain stays. A retraction holds against
//! every extract of the module that was made before it, from whichever site and whenever it comes; and against those that are
//! made later, until the site that retracted sends the token again: then whoever it stands for no longer objects there.
//! A token of an earlier epoch is the token that it has become (`renewed.rs`), whenever that was told.

use std::fmt;

use lockgate_signing::block::{Column, PatientTable, Token, Values};
use lockgate_signing::bundle::{BundleHeader, BundleKind, ColumnKind, OutputInfo};
use lockgate_signing::envelope::Verified;
use lockgate_signing::ids::{BundleId, Name};
use lockgate_signing::opened::OpenedBundle;
use rusqlite::types::{ToSql, Value};
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::renewed::Renewals;
use super::rows::{BUNDLE, EPOCH, code_text};
use super::{Result, Store, bundle_id, quoted, signed, unsigned};
use crate::failpoint;
use crate::rekey::{Rekeying, StoredToken, TokenKey};

/// The kinds of stored tokens, beside those of links. Who is kept out is known by another one than who has rows: the list of
/// them cannot be joined with anything, and after a deletion the patient's own is nowhere.
const PATIENT: &str = "patient";
const KEPT_OUT: &str = "kept-out";
/// What a token of an earlier epoch is found by, and what hides what it has become.
const FORMER: &str = "former";
const RENEWED: &str = "renewed";

/// A bundle that was verified and opened.
#[derive(Debug)]
pub struct Opened<'a> {
    /// Its header.
    pub header: &'a Verified<BundleHeader>,
    /// What is in it.
    pub content: &'a OpenedBundle,
    /// The names of the key pairs that it was encrypted to: each has to say when it has deleted.
    pub keys: Vec<String>,
}

/// What became of a bundle.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Its rows are in the tables.
    Rows {
        /// How many.
        rows: u64,
        /// Rows that stayed out, because their patients are retracted.
        retracted: u64,
    },
    /// A later bundle of its site, module and period had come before it.
    Replaced,
    /// A retraction, and what it deleted.
    Deleted {
        /// Patients that had rows.
        patients: u64,
        /// Rows.
        rows: u64,
    },
    /// It was applied before.
    Again,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { rows, retracted } => write!(f, "rows taken in: {rows}, kept out: {retracted}"),
            Self::Replaced => f.write_str("a later bundle had come before it"),
            Self::Deleted { patients, rows } => {
                write!(f, "retraction: rows deleted: {rows}, of patients: {patients}")
            }
            Self::Again => f.write_str("was applied before"),
        }
    }
}

/// A bundle, and what it told of former tokens.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub applied: Applied,
    /// What followed from the former tokens that it told.
    pub renewals: Renewals,
}

impl Store {
    /// How far the linker's list was gone through.
    pub fn position(&self) -> Result<u64> {
        let position = self.connection.query_row("SELECT position FROM progress", [], |row| row.get(0))?;
        Ok(unsigned(position))
    }

    /// What could not be applied yet: position and bundle.
    pub fn to_retry(&self) -> Result<Vec<(u64, BundleId)>> {
        let mut statement =
            self.connection.prepare_cached("SELECT position, id FROM waiting ORDER BY position")?;
        let rows = statement.query_map([], |row| Ok((unsigned(row.get(0)?), bundle_id(row.get(1)?))))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Sets a bundle aside, and goes on after it.
    pub fn set_aside(&mut self, position: u64, id: BundleId, why: &str, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO waiting (position, id, why, since_s) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (position) DO UPDATE SET why = ?3",
                params![signed(position), id.0.as_bytes(), why, now_s],
            )?;
            go_on(transaction, position)
        })
    }

    /// Applies a bundle and goes on after it, in one transaction.
    pub fn apply(
        &mut self,
        position: u64,
        opened: &Opened<'_>,
        key: &TokenKey,
        now_s: i64,
    ) -> Result<Outcome> {
        self.write(|transaction| {
            let rekeyings = Rekeyings::of(key, &opened.header.message().purpose);
            let applying = Applying { transaction, opened, key, rekeyings };
            let outcome = applying.apply(now_s)?;
            transaction.execute("DELETE FROM waiting WHERE position = ?1", [signed(position)])?;
            go_on(transaction, position)?;
            failpoint::reach(failpoint::BEFORE_COMMIT);
            Ok(outcome)
        })
    }

    pub(super) fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

fn go_on(transaction: &Transaction<'_>, position: u64) -> Result<()> {
    transaction.execute("UPDATE progress SET position = max(position, ?1)", [signed(position)])?;
    Ok(())
}

pub(super) struct Applying<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) opened: &'a Opened<'a>,
    key: &'a TokenKey,
    pub(super) rekeyings: Rekeyings,
}

/// What patients' tokens of one purpose are stored under.
pub(super) struct Rekeyings {
    pub(super) patient: Rekeying,
    pub(super) kept_out: Rekeying,
    pub(super) former: Rekeying,
    pub(super) renewed: Rekeying,
}

impl Rekeyings {
    fn of(key: &TokenKey, purpose: &Name) -> Self {
        let of = |kind| key.purpose(purpose, kind);
        Self { patient: of(PATIENT), kept_out: of(KEPT_OUT), former: of(FORMER), renewed: of(RENEWED) }
    }
}

/// What was deleted of one patient and module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deleted {
    /// Whether any bundle of the module had the patient.
    pub(super) known: bool,
    pub(super) rows: u64,
    /// Those of them that other sites had sent.
    pub(super) rows_of_others: u64,
}

impl Applying<'_> {
    pub(super) fn header(&self) -> &BundleHeader {
        self.opened.header.message()
    }

    fn apply(&self, now_s: i64) -> Result<Outcome> {
        let id = self.opened.header.id();
        let before: Option<i64> = self
            .transaction
            .query_row("SELECT number FROM bundle WHERE id = ?1", [id.0.as_bytes()], |row| row.get(0))
            .optional()?;
        if before.is_some() {
            return Ok(Outcome { applied: Applied::Again, renewals: Renewals::default() });
        }
        let header = self.header();
        self.transaction.execute(
            "INSERT INTO bundle (id, site, sequence, kind, module, module_version, purpose, period, snapshot_at_s, applied_at_s)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                id.0.as_bytes(),
                header.site.as_str(),
                signed(header.sequence),
                header.kind.name(),
                header.module.id.as_str(),
                header.module.version.to_string(),
                header.purpose.as_str(),
                header.period.to_string(),
                header.snapshot_at_s,
                now_s,
            ],
        )?;
        let number = self.transaction.last_insert_rowid();
        // Also where the bundle itself comes too late: what it tells stays true.
        let renewals = self.renew(number)?;
        let applied = match header.kind {
            BundleKind::Extract => self.apply_extract(number),
            BundleKind::Retraction => self.apply_retraction(number, now_s),
        }?;
        Ok(Outcome { applied, renewals })
    }

    /// Replaces what the site sent for the module and period before, or stays out for what it sent later.
    fn apply_extract(&self, number: i64) -> Result<Applied> {
        let header = self.header();
        let mut statement = self.transaction.prepare_cached(
            "SELECT number, sequence FROM bundle WHERE site = ?1 AND module = ?2 AND period = ?3 AND kind = 'extract'
                AND replaced = 0 AND number <> ?4",
        )?;
        let (site, module, period) =
            (header.site.as_str(), header.module.id.as_str(), header.period.to_string());
        let others = statement.query_map(params![site, module, period, number], |row| {
            Ok((row.get::<_, i64>(0)?, unsigned(row.get(1)?)))
        })?;
        let others: Vec<(i64, u64)> = others.collect::<rusqlite::Result<_>>()?;
        let mark = |bundle: i64| {
            self.transaction.execute("UPDATE bundle SET replaced = 1 WHERE number = ?1", [bundle])
        };
        if others.iter().any(|(_, sequence)| *sequence > header.sequence) {
            mark(number)?;
            return Ok(Applied::Replaced);
        }
        for (earlier, _) in others {
            for table in self.tables(module)? {
                let sql = format!("DELETE FROM {} WHERE {BUNDLE} = ?1", quoted(&table));
                self.transaction.execute(&sql, [earlier])?;
            }
            for table in ["patient", "link"] {
                self.transaction.execute(&format!("DELETE FROM {table} WHERE bundle = ?1"), [earlier])?;
            }
            mark(earlier)?;
        }
        self.insert(number)
    }

    /// The tables of a module's outputs, in every shape that they have had.
    fn tables(&self, module: &str) -> Result<Vec<String>> {
        let mut statement =
            self.transaction.prepare_cached("SELECT table_name FROM output WHERE module = ?1")?;
        let names = statement.query_map([module], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    }

    fn insert(&self, number: i64) -> Result<Applied> {
        let tokens = self.tokens(number)?;
        let (mut inserted, mut retracted) = (0, 0);
        for (output, blocks) in self.header().outputs.iter().zip(&self.opened.content.outputs) {
            let table = self.table(output)?;
            let places = (1..=output.columns.len() + 1).map(|place| format!("?{place}"));
            let sql =
                format!("INSERT INTO {} VALUES ({})", quoted(&table), places.collect::<Vec<_>>().join(", "));
            let mut insert = self.transaction.prepare_cached(&sql)?;
            for block in blocks {
                for row in 0..block.rows {
                    let cells = output.columns.iter().zip(&block.columns);
                    let cells: Option<Vec<Value>> =
                        cells.map(|(info, column)| self.cell(&info.kind, column, row, &tokens)).collect();
                    let Some(cells) = cells else {
                        retracted += 1;
                        continue;
                    };
                    let values = [Value::Integer(number)].into_iter().chain(cells);
                    insert.execute(rusqlite::params_from_iter(values))?;
                    inserted += 1;
                }
            }
        }
        Ok(Applied::Rows { rows: inserted, retracted })
    }

    /// The stored token of each patient of the bundle, in the order of its table; `None`: retracted.
    fn tokens(&self, number: i64) -> Result<Vec<Option<StoredToken>>> {
        let header = self.header();
        let of_links = |kind: &str| self.key.purpose(&header.purpose, &format!("link {kind}"));
        let links = header.tokens.links.iter().map(|link| (link.name(), of_links(link.name())));
        let links: Vec<_> = links.collect();
        let module = header.module.id.as_str();
        let mut find = self
            .transaction
            .prepare_cached("SELECT site, snapshot_at_s FROM retracted WHERE module = ?1 AND token = ?2")?;
        let mut lift =
            self.transaction.prepare_cached("DELETE FROM retracted WHERE module = ?1 AND token = ?2")?;
        // Two of a bundle may be one by now: only a site that lies has both, and it must not stop the others.
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO patient VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET type_2 = max(type_2, excluded.type_2)",
        )?;
        let mut insert_link = self
            .transaction
            .prepare_cached("INSERT INTO link VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
        let mut tokens = Vec::new();
        for PatientTable { tokens: sent, type_2, links: sent_links } in &self.opened.content.patients {
            for (row, token) in sent.iter().enumerate() {
                let (token, kept_out) = self.stored(&self.current(token)?);
                let found: Option<(String, i64)> = find
                    .query_row(params![module, kept_out], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                if let Some((site, at_s)) = found {
                    // The site that retracted sends the token again: the objection was withdrawn there.
                    if site != header.site.as_str() || header.snapshot_at_s <= at_s {
                        tokens.push(None);
                        continue;
                    }
                    lift.execute(params![module, kept_out])?;
                }
                insert.execute(params![number, token, type_2.contains(row)])?;
                for ((kind, rekey), sent) in links.iter().zip(sent_links) {
                    if !sent.missing.contains(row) {
                        insert_link.execute(params![number, token, kind, rekey.token(&sent.tokens[row])])?;
                    }
                }
                tokens.push(Some(token));
            }
        }
        Ok(tokens)
    }

    /// A value as it is stored; `None`: it names a patient who is retracted.
    fn cell(
        &self,
        kind: &ColumnKind,
        column: &Column,
        row: usize,
        tokens: &[Option<StoredToken>],
    ) -> Option<Value> {
        if !column.has(row) {
            return Some(Value::Null);
        }
        // Blocks were checked against the token table and the dictionary when they were opened.
        Some(match (&column.values, kind) {
            (Values::Patients(values), _) => {
                Value::Blob(tokens.get(values[row] as usize).copied().flatten()?.to_vec())
            }
            (Values::Codes(values), _) => {
                let code = self.opened.content.codes.get(values[row] as usize);
                code.map_or(Value::Null, |code| Value::Text(code_text(code)))
            }
            (Values::Dates(values), _) => {
                let day = EPOCH.checked_add(jiff::Span::new().days(values[row]));
                day.map_or(Value::Null, |day| Value::Text(day.to_string()))
            }
            (Values::Numbers(values), _) => Value::Real(values[row]),
            (Values::Categories(values), ColumnKind::Category { categories }) => {
                let name = categories.get(usize::from(values[row]));
                name.map_or(Value::Null, |name| Value::Text(name.to_string()))
            }
            (Values::Categories(values), _) => Value::Integer(values[row].into()),
        })
    }

    /// The table of an output; it is made where there is none.
    fn table(&self, output: &OutputInfo) -> Result<String> {
        let (module, name) = (self.header().module.id.as_str(), output.name.as_str());
        let described: Vec<String> = output
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, described_kind(&column.kind)))
            .collect();
        let described = described.join("\n");
        let found: Option<String> = self
            .transaction
            .query_row(
                "SELECT table_name FROM output WHERE module = ?1 AND name = ?2 AND columns = ?3",
                params![module, name, described],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(table) = found {
            return Ok(table);
        }
        let shapes: i64 = self.transaction.query_row(
            "SELECT count(*) FROM output WHERE module = ?1 AND name = ?2",
            [module, name],
            |row| row.get(0),
        )?;
        // A module that changes the columns of an output begins another table.
        let table = match shapes {
            0 => format!("{module}/{name}"),
            shapes => format!("{module}/{name}#{}", shapes + 1),
        };
        self.transaction.execute(
            "INSERT INTO output (module, name, columns, table_name) VALUES (?1, ?2, ?3, ?4)",
            params![module, name, described, table],
        )?;
        let columns: String = output
            .columns
            .iter()
            .map(|column| format!(", {} {}", quoted(column.name.as_str()), sql_type(&column.kind)))
            .collect();
        self.transaction.execute_batch(&format!(
            "CREATE TABLE {} ({BUNDLE} INTEGER NOT NULL REFERENCES bundle{columns}) STRICT",
            quoted(&table)
        ))?;
        let patients = output.columns.iter().filter(|column| column.kind == ColumnKind::Patient);
        for column in [BUNDLE].into_iter().chain(patients.map(|column| column.name.as_str())) {
            self.transaction.execute_batch(&format!(
                "CREATE INDEX {} ON {} ({})",
                quoted(&format!("{table}:{column}")),
                quoted(&table),
                quoted(column)
            ))?;
        }
        Ok(table)
    }

    /// What a patient is stored under: where there are rows, and where rows are kept out.
    pub(super) fn stored(&self, token: &Token) -> (StoredToken, StoredToken) {
        (self.rekeyings.patient.token(token), self.rekeyings.kept_out.token(token))
    }

    /// Deletes the rows of the retraction's tokens from every site's bundles of the module, and keeps them out.
    fn apply_retraction(&self, number: i64, now_s: i64) -> Result<Applied> {
        let header = self.header();
        let module = header.module.id.as_str();
        let columns = self.patient_columns(module)?;
        let mut keep_out = self.transaction.prepare_cached(
            "INSERT INTO retracted (module, token, site, snapshot_at_s) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (module, token) DO UPDATE SET site = ?3, snapshot_at_s = ?4 WHERE snapshot_at_s < ?4",
        )?;
        let (mut patients, mut rows, mut rows_of_others) = (0_u64, 0_u64, 0_u64);
        for token in self.opened.content.patients.iter().flat_map(|table| &table.tokens) {
            let (token, kept_out) = self.stored(&self.current(token)?);
            if self.withdrawn_since(module, &token)? {
                continue;
            }
            let deleted = self.delete(module, &columns, &token)?;
            patients += u64::from(deleted.known);
            rows += deleted.rows;
            rows_of_others += deleted.rows_of_others;
            keep_out.execute(params![module, kept_out, header.site.as_str(), header.snapshot_at_s])?;
        }
        self.transaction.execute(
            "INSERT INTO retraction (bundle, patients, rows, rows_of_others) VALUES (?1, ?2, ?3, ?4)",
            [number, signed(patients), signed(rows), signed(rows_of_others)],
        )?;
        for key in &self.opened.keys {
            self.transaction.execute(
                "INSERT INTO statement (bundle, key, deleted_at_s) VALUES (?1, ?2, ?3)",
                params![number, key, now_s],
            )?;
        }
        Ok(Applied::Deleted { patients, rows })
    }

    /// Deletes what every site has sent of a patient for a module. Whose rows they were is counted, so that a site that has
    /// others' rows deleted by the thousand is seen.
    pub(super) fn delete(
        &self,
        module: &str,
        columns: &[PatientColumn],
        token: &StoredToken,
    ) -> Result<Deleted> {
        let site = self.header().site.as_str();
        let mut deleted = Deleted::default();
        for PatientColumn { table, column } in columns {
            let (table, column) = (quoted(table), quoted(column));
            let count = format!(
                "SELECT count(*), coalesce(sum(b.site <> ?2), 0) FROM {table} t JOIN bundle b ON b.number = t.{BUNDLE}
                 WHERE t.{column} = ?1"
            );
            let counts = |row: &rusqlite::Row<'_>| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)));
            let (of_all, of_others) =
                self.transaction.prepare_cached(&count)?.query_row(params![token, site], counts)?;
            if of_all > 0 {
                let delete = format!("DELETE FROM {table} WHERE {column} = ?1");
                self.transaction.prepare_cached(&delete)?.execute([token])?;
            }
            deleted.rows += of_all;
            deleted.rows_of_others += of_others;
        }
        for table in ["link", "patient"] {
            let sql = format!(
                "DELETE FROM {table} WHERE token = ?1 AND bundle IN (SELECT number FROM bundle WHERE module = ?2)"
            );
            deleted.known = self.transaction.prepare_cached(&sql)?.execute(params![token, module])? > 0;
        }
        Ok(deleted)
    }

    /// Whether the site itself has sent the token again since: a retraction that a courier held back undoes no withdrawal.
    fn withdrawn_since(&self, module: &str, token: &StoredToken) -> Result<bool> {
        let header = self.header();
        let mut statement = self.transaction.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM patient p JOIN bundle b ON b.number = p.bundle
             WHERE p.token = ?1 AND b.module = ?2 AND b.site = ?3 AND b.sequence > ?4)",
        )?;
        let values: [&dyn ToSql; 4] = [token, &module, &header.site.as_str(), &signed(header.sequence)];
        Ok(statement.query_row(values, |row| row.get(0))?)
    }

    /// The columns of a module's tables that name patients.
    pub(super) fn patient_columns(&self, module: &str) -> Result<Vec<PatientColumn>> {
        let mut statement =
            self.transaction.prepare_cached("SELECT table_name, columns FROM output WHERE module = ?1")?;
        let outputs = statement.query_map([module], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let outputs: Vec<(String, String)> = outputs.collect::<rusqlite::Result<_>>()?;
        let columns = outputs.iter().flat_map(|(table, columns)| {
            let named = columns.lines().filter_map(|line| line.strip_suffix(" patient"));
            named.map(|column| PatientColumn { table: table.clone(), column: column.to_owned() })
        });
        Ok(columns.collect())
    }
}

/// A column that names patients.
#[derive(Debug)]
pub(super) struct PatientColumn {
    pub(super) table: String,
    pub(super) column: String,
}

/// What a column holds, as the catalogue of tables tells it: what is the same goes into one table.
fn described_kind(kind: &ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Patient => "patient",
        ColumnKind::Code => "code",
        ColumnKind::Date => "date",
        ColumnKind::Number { .. } => "number",
        ColumnKind::Category { .. } => "category",
    }
}

fn sql_type(kind: &ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Patient => "BLOB",
        ColumnKind::Code | ColumnKind::Date | ColumnKind::Category { .. } => "TEXT",
        ColumnKind::Number { .. } => "REAL",
    }
}
