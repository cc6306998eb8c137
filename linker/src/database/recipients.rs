//! Recipients: who may collect what was accepted, and what they say that they have deleted.

use lockgate_signing::deletion::DeletionStatement;
use lockgate_signing::envelope::Verified;
use lockgate_signing::ids::{BundleId, Name};
use lockgate_signing::keys::{KeyId, PublicKey};
use rusqlite::{OptionalExtension as _, params};

use super::{Database, DatabaseError, Result, digest, signed, unsigned};
use crate::failpoint;
use crate::reason::Reason;

/// A recipient, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecipientRow {
    /// What the operator calls it.
    pub name: String,
    /// The id of the key that it signs with.
    pub key: String,
    /// When it was entered, seconds since 1970-01-01 UTC.
    pub added_at_s: i64,
    /// When it was revoked.
    pub revoked_at_s: Option<i64>,
}

/// An accepted bundle, as recipients are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Accepted {
    /// Its place among all that was accepted, from 1.
    pub position: u64,
    /// Its id.
    pub bundle: BundleId,
}

impl Database {
    /// Enters a recipient by the key that it signs with; one that was revoked is taken back.
    pub fn add_recipient(&self, name: &Name, key: &PublicKey, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            let taken: Option<[u8; 32]> = transaction
                .query_row("SELECT key FROM recipient WHERE name = ?1", [name.as_str()], |row| row.get(0))
                .optional()?;
            if taken.is_some_and(|taken| taken != *key.id().0.as_bytes()) {
                return Err(DatabaseError::NotFound(format!(
                    "{name} has another key; give the new key a name of its own, as the list of recipients does"
                )));
            }
            transaction.execute(
                "INSERT INTO recipient (key, name, public, added_at_s) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET name = ?2, revoked_at_s = NULL",
                params![key.id().0.as_bytes(), name.as_str(), key.to_bytes(), now_s],
            )?;
            Ok(())
        })
    }

    /// Revokes a recipient: nothing is handed to it from now on. What it has said stays said.
    pub fn revoke_recipient(&self, name: &Name, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            let known = transaction.execute(
                "UPDATE recipient SET revoked_at_s = coalesce(revoked_at_s, ?2) WHERE name = ?1",
                params![name.as_str(), now_s],
            )?;
            match known {
                0 => Err(DatabaseError::NotFound(format!(
                    "no recipient {name}; see `lockgate-linker recipients`"
                ))),
                _ => Ok(()),
            }
        })
    }

    /// The recipients.
    pub fn recipients(&self) -> Result<Vec<RecipientRow>> {
        let connection = self.reader();
        let mut statement = connection
            .prepare_cached("SELECT name, key, added_at_s, revoked_at_s FROM recipient ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok(RecipientRow {
                name: row.get(0)?,
                key: digest(row.get(1)?).to_hex(),
                added_at_s: row.get(2)?,
                revoked_at_s: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The key of a recipient that was not revoked.
    pub fn recipient_key(&self, id: KeyId) -> Result<Option<PublicKey>> {
        let found: Option<[u8; 32]> = self
            .reader()
            .prepare_cached("SELECT public FROM recipient WHERE key = ?1 AND revoked_at_s IS NULL")?
            .query_row([id.0.as_bytes()], |row| row.get(0))
            .optional()?;
        let key = |bytes: [u8; 32]| {
            PublicKey::from_bytes(&bytes).map_err(|_| DatabaseError::Damaged("recipient's key"))
        };
        found.map(key).transpose()
    }

    /// What was accepted after a position, in the order of acceptance.
    pub fn accepted_after(&self, position: u64, rows_max: u32) -> Result<Vec<Accepted>> {
        let connection = self.reader();
        let mut statement = connection.prepare_cached(
            "SELECT position, id FROM bundle WHERE position > ?1 ORDER BY position LIMIT ?2",
        )?;
        // No position is beyond what SQLite can hold.
        let after = i64::try_from(position).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![after, rows_max], |row| {
            Ok(Accepted { position: unsigned(row.get(0)?), bundle: BundleId(digest(row.get(1)?)) })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Keeps a statement on a retraction; the first of each recipient stays. `Some`: it is refused.
    pub fn put_deletion(
        &self,
        statement: &Verified<DeletionStatement>,
        bytes: &[u8],
        now_s: i64,
    ) -> Result<Option<Reason>> {
        self.write(|transaction| {
            let message = statement.message();
            let is_so: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM bundle WHERE id = ?1 AND site = ?2 AND sequence = ?3 AND module = ?4
                    AND kind = 'retraction' AND accepted_at_s IS NOT NULL)",
                params![
                    message.bundle.0.as_bytes(),
                    message.site.as_str(),
                    // A number that SQLite cannot hold is no bundle's.
                    i64::try_from(message.sequence).unwrap_or(-1),
                    message.module.as_str()
                ],
                |row| row.get(0),
            )?;
            if !is_so {
                return Ok(Some(Reason::DeletionMismatch));
            }
            transaction.execute(
                "INSERT INTO deletion (bundle, key, statement, received_at_s) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO NOTHING",
                params![message.bundle.0.as_bytes(), statement.key().0.as_bytes(), bytes, now_s],
            )?;
            failpoint::reach(failpoint::DELETION_BEFORE_COMMIT);
            Ok(None)
        })
    }

    /// The statements on a retraction; `None`: no such bundle was accepted.
    pub fn deletions(&self, bundle: BundleId) -> Result<Option<Vec<Vec<u8>>>> {
        let connection = self.reader();
        let known: bool = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM bundle WHERE id = ?1 AND accepted_at_s IS NOT NULL)",
            )?
            .query_row([bundle.0.as_bytes()], |row| row.get(0))?;
        if !known {
            return Ok(None);
        }
        let mut statement = connection
            .prepare_cached("SELECT statement FROM deletion WHERE bundle = ?1 ORDER BY key LIMIT ?2")?;
        let most = signed(lockgate_signing::recipients::RECIPIENTS_MAX as u64);
        let rows = statement.query_map(params![bundle.0.as_bytes(), most], |row| row.get(0))?;
        Ok(Some(rows.collect::<rusqlite::Result<_>>()?))
    }
}
