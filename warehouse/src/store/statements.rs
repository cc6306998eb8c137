//! What is still to be said of retractions, and what waits.

use lockgate_signing::deletion::DeletionStatement;
use lockgate_signing::ids::BundleId;
use rusqlite::params;

use super::{Result, Store, StoreError, bundle_id, unsigned};

/// A statement that is not signed yet, or that the linker has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueStatement {
    /// The retraction's number here.
    pub number: i64,
    /// The name of the key pair that has to sign it.
    pub key: String,
    /// What it says.
    pub statement: DeletionStatement,
    /// The signed statement, once the log was emptied.
    pub signed: Option<Vec<u8>>,
}

/// A retraction, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RetractionRow {
    /// Its bundle.
    pub bundle: BundleId,
    /// Who asked.
    pub site: String,
    /// Its place in the site's chain.
    pub sequence: u64,
    /// The module.
    pub module: String,
    /// Patients that had rows here.
    pub patients: u64,
    /// Rows that were deleted.
    pub rows: u64,
    /// Those of them that other sites had sent.
    pub rows_of_others: u64,
    /// Whether the linker has taken every statement.
    pub stated: bool,
}

/// A bundle that could not be applied yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaitingRow {
    /// Its place in the linker's list.
    pub position: u64,
    /// Its id.
    pub bundle: BundleId,
    /// Why.
    pub why: String,
    /// Since when, seconds since 1970-01-01 UTC.
    pub since_s: i64,
}

impl Store {
    /// What is still to be said.
    pub fn due_statements(&self) -> Result<Vec<DueStatement>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.bundle, s.key, b.id, b.site, b.sequence, b.module, s.deleted_at_s, s.signed
             FROM statement s JOIN bundle b ON b.number = s.bundle WHERE s.sent_at_s IS NULL ORDER BY s.bundle, s.key",
        )?;
        let mut rows = statement.query([])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let text = |place| row.get::<_, String>(place);
            due.push(DueStatement {
                number: row.get(0)?,
                key: text(1)?,
                statement: DeletionStatement {
                    bundle: bundle_id(row.get(2)?),
                    site: text(3)?.parse().map_err(|_| StoreError::Damaged("site"))?,
                    sequence: unsigned(row.get(4)?),
                    module: text(5)?.parse().map_err(|_| StoreError::Damaged("module"))?,
                    deleted_at_s: row.get(6)?,
                },
                signed: row.get(7)?,
            });
        }
        Ok(due)
    }

    /// Keeps a signed statement.
    pub fn keep_statement(&mut self, due: &DueStatement, signed: &[u8]) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE statement SET signed = ?3 WHERE bundle = ?1 AND key = ?2",
                params![due.number, due.key, signed],
            )?;
            Ok(())
        })
    }

    /// Notes that the linker has taken a statement.
    pub fn statement_sent(&mut self, due: &DueStatement, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE statement SET sent_at_s = ?3 WHERE bundle = ?1 AND key = ?2",
                params![due.number, due.key, now_s],
            )?;
            Ok(())
        })
    }

    /// Every retraction, the last ones first.
    pub fn retractions(&self, rows_max: u32) -> Result<Vec<RetractionRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT b.id, b.site, b.sequence, b.module, r.patients, r.rows, r.rows_of_others,
                NOT EXISTS (SELECT 1 FROM statement s WHERE s.bundle = b.number AND s.sent_at_s IS NULL)
             FROM retraction r JOIN bundle b ON b.number = r.bundle ORDER BY b.number DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([rows_max], |row| {
            Ok(RetractionRow {
                bundle: bundle_id(row.get(0)?),
                site: row.get(1)?,
                sequence: unsigned(row.get(2)?),
                module: row.get(3)?,
                patients: unsigned(row.get(4)?),
                rows: unsigned(row.get(5)?),
                rows_of_others: unsigned(row.get(6)?),
                stated: row.get(7)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What could not be applied yet.
    pub fn waiting(&self) -> Result<Vec<WaitingRow>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT position, id, why, since_s FROM waiting ORDER BY position")?;
        let rows = statement.query_map([], |row| {
            Ok(WaitingRow {
                position: unsigned(row.get(0)?),
                bundle: bundle_id(row.get(1)?),
                why: row.get(2)?,
                since_s: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
