//! The clinical database: one consistent, read-only moment of it, read through a mapping.
//!
//! A value that comes out of here is read by its declared type or is an error. Errors name the mapping, table, column and
//! row number; they never hold the value, because a column that is mapped wrongly may hold a name.

mod cell;
mod statement;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use lockgate_signing::mapping::Mapping;
use rusqlite::{Connection, OpenFlags, Rows};

pub(crate) use cell::{CategoryReader, CellError, CodeReader, DateReader, FlagReader, number, text};
pub(crate) use statement::{End, Select, Window};

/// The database cannot be read as the mapping says.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("cannot open the clinical database {}: {source}; check `database.path` and that the agent's user may read it and its folder", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The mapping's SQL does not fit the database.
    #[error(
        "mapping `{mapping}`, table `{table}`: the database refuses its SQL: {source}; the mapping does not fit this system, ask the publishing team"
    )]
    Statement {
        /// The mapping.
        mapping: String,
        /// The canonical table.
        table: &'static str,
        /// What the database says.
        source: rusqlite::Error,
    },
    /// A row could not be fetched.
    #[error(
        "the clinical database stopped answering in table `{table}`: {why}; try again when it is back, and if it stays \
         so, ask the publishing team about the mapping"
    )]
    Fetch {
        /// The canonical table.
        table: &'static str,
        /// What the database says, without its own text: that may quote a value (of a JSON path, for example).
        why: rusqlite::ffi::Error,
    },
    /// A value is not of its declared type.
    #[error(
        "mapping `{mapping}`, table `{table}`, column `{column}`, row {row}: {why}; the mapping does not fit this system, ask the publishing team"
    )]
    Value {
        /// The mapping.
        mapping: String,
        /// The canonical table.
        table: &'static str,
        /// The canonical column.
        column: String,
        /// The first bad row of the statement's result, from 1.
        row: u64,
        /// What is wrong; never the value.
        why: CellError,
    },
    /// A dissent that the objection evidence does not hold.
    #[error(
        "mapping `{mapping}`, table `{table}`, row {row}: a dissent code of the objection policy, for a patient of whom the \
         `objection-evidence` holds no such dissent: the mapping does not read all of the evidence; ask the publishing team; \
         nothing was extracted"
    )]
    EvidenceMissed {
        /// The mapping.
        mapping: String,
        /// The canonical table.
        table: &'static str,
        /// The row of the statement's result, from 1.
        row: u64,
    },
    /// Two statements of one moment disagree.
    #[error(
        "mapping `{mapping}`, table `{table}`: the same rows were read twice and were not the same; the mapping's SQL does not \
         always give the same answer, ask the publishing team"
    )]
    Inconstant {
        /// The mapping.
        mapping: String,
        /// The canonical table.
        table: &'static str,
    },
    /// The run failed elsewhere.
    #[error("the run was stopped")]
    Cancelled,
    /// The mapping says that the table is not there.
    #[error("mapping `{mapping}` has no table `{table}` ({reason}); the module cannot run here")]
    Absent {
        /// The mapping.
        mapping: String,
        /// The canonical table.
        table: &'static str,
        /// The mapping's reason.
        reason: String,
    },
    /// The mapping says that the column is not there.
    #[error(
        "mapping `{mapping}`, table `{table}` has no column `{column}` and the module needs it; the module cannot run here"
    )]
    AbsentColumn {
        /// The mapping.
        mapping: String,
        /// The canonical table.
        table: &'static str,
        /// The canonical column.
        column: String,
    },
}

/// One moment of the database: everything that is read of it later is as it was when it was opened.
pub(crate) struct Snapshot {
    connection: Connection,
    path: PathBuf,
    /// `None`: another file came into its place meanwhile.
    file: Option<FileIdentity>,
}

/// Device and inode. A path can come to name another file, when a new copy of the database is put in the place of the old.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileIdentity(u64, u64);

impl FileIdentity {
    fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).map(|file| Self(file.dev(), file.ino())).ok()
    }
}

/// SQLite's page cache, KiB. Scans do not profit from more.
const CACHE_KIB: i64 = 4_096;

impl Snapshot {
    /// Opens the database read-only and fixes the moment.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let wrong = |source| SourceError::Open { path: path.to_owned(), source };
        let before = FileIdentity::of(path);
        let connection = connect(path).map_err(wrong)?;
        begin(&connection).map_err(wrong)?;
        let file = before.filter(|_| FileIdentity::of(path) == before);
        Ok(Self { connection, path: path.to_owned(), file })
    }

    /// Another connection to the same moment, for a second reader. `None`: the database promises none.
    ///
    /// While this connection holds its read lock, nothing can be written to a database with a rollback journal, so that a
    /// second connection sees the same. With a WAL writers go on, and it could see a later moment.
    pub(crate) fn twin(&self) -> Option<Self> {
        let mode = self.connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
        if mode.is_ok_and(|mode| mode == "wal") {
            return None;
        }
        let connection = connect(&self.path).ok()?;
        // A writer that waits for this connection's lock lets nobody else in: do without rather than wait for it.
        connection.busy_timeout(std::time::Duration::ZERO).ok()?;
        begin(&connection).ok()?;
        let file = FileIdentity::of(&self.path).filter(|file| Some(*file) == self.file)?;
        Some(Self { connection, path: self.path.clone(), file: Some(file) })
    }

    /// Runs a statement and hands each row, with its number from 1, to `each`.
    pub(crate) fn read(
        &self,
        select: &Select<'_>,
        mut each: impl FnMut(u64, &rusqlite::Row<'_>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let table = select.table.name;
        let refused =
            |source| SourceError::Statement { mapping: select.mapping.id.to_string(), table, source };
        let mut statement = self.connection.prepare(&select.sql).map_err(refused)?;
        let parameters = rusqlite::params_from_iter(&select.parameters);
        let mut rows: Rows<'_> = statement.query(parameters).map_err(refused)?;
        let mut number = 0;
        while let Some(row) = rows.next().map_err(|error| fetch_error(table, &error))? {
            number += 1;
            each(number, row)?;
        }
        Ok(())
    }
}

impl Snapshot {
    /// The day that [`Select::end`] finds; an error where it is not a day.
    pub(crate) fn end(
        &self,
        select: &Select<'_>,
        column: &str,
    ) -> Result<Option<jiff::civil::Date>, SourceError> {
        let mut found = None;
        self.read(select, |row_number, row| {
            let place = Place { mapping: select.mapping, table: select.table.name, row: row_number };
            let reader = select.columns[0].map(|(mapped, _)| DateReader::of(mapped));
            let value = row.get_ref(0).map_err(|_| CellError::Missing);
            let interval = match reader {
                Some(reader) => value.and_then(|value| reader.interval(value)),
                None => Ok(None),
            };
            let interval = interval.map_err(place.column(column))?;
            found = interval.map(|interval| interval.first);
            Ok(())
        })?;
        Ok(found)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Never `immutable`: the clinical system goes on writing, and a WAL database needs its locks.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Begins the one read transaction of a connection.
fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "query_only", true)?;
    // Sorting in temporary files would leave plaintext on the disk.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // A deferred transaction takes its snapshot at the first read.
    connection.execute_batch("BEGIN DEFERRED")?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

fn fetch_error(table: &'static str, error: &rusqlite::Error) -> SourceError {
    // Fetching a row fails in SQLite or not at all; 1 is its general error.
    let why = error.sqlite_error().copied().unwrap_or_else(|| rusqlite::ffi::Error::new(1));
    SourceError::Fetch { table, why }
}

/// Where a cell is, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) table: &'static str,
    /// The row of the statement's result, from 1.
    pub(crate) row: u64,
}

impl<'a> Place<'a> {
    /// Turns the error of a column's cell into one that names the place.
    pub(crate) fn column<'c>(self, column: &'c str) -> impl FnOnce(CellError) -> SourceError + use<'a, 'c> {
        move |why| SourceError::Value {
            mapping: self.mapping.id.to_string(),
            table: self.table,
            column: column.to_owned(),
            row: self.row,
            why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(folder: &Path, mode: &str) -> (PathBuf, Connection) {
        let path = folder.join(mode);
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", mode).unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)").unwrap();
        (path, writer)
    }

    fn rows(snapshot: &Snapshot) -> i64 {
        snapshot.connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_twin_sees_the_same_moment_or_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, writer) = database(folder.path(), "delete");
        writer.busy_timeout(std::time::Duration::ZERO).unwrap();
        let snapshot = Snapshot::open(&path).unwrap();
        let twin = snapshot.twin().unwrap();
        assert!(writer.execute_batch("INSERT INTO t VALUES (2)").is_err(), "a reader holds its lock");
        assert_eq!((rows(&snapshot), rows(&twin)), (1, 1));

        // Another copy of the database in its place.
        let (other, _) = database(folder.path(), "truncate");
        std::fs::rename(other, &path).unwrap();
        assert!(snapshot.twin().is_none());

        let (path, writer) = database(folder.path(), "wal");
        let snapshot = Snapshot::open(&path).unwrap();
        writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        assert!(snapshot.twin().is_none());
        assert_eq!(rows(&snapshot), 1);
    }
}
