//! Tokens of an earlier epoch. A bundle in the overlap of two epochs tells what its patients' tokens were in the one before, and
//! from then on a former token is the one that it has become: in every module of the purpose, because tokens are of a
//! purpose, and whichever site sends it.
//!
//! 1. What is stored under the former token moves: rows, patients, links, and who is kept out.
//! 2. The pair is remembered, so that bundles that come later with the former token, or retract it, mean the new one. Nothing
//!    is ever stored under a token that has become another one.
//! 3. Where two words about one patient meet, each under a token of its own, they are weighed as if both had been of one:
//!    whoever is kept out of a module goes from it, unless the site that retracted has sent the patient since.
//!
//! A remembered pair outlives a deletion, so that the former token brings nobody back. It is hidden (see `schema.rs`): the
//! patient's own token is in it only for who has the former one and the key.

use std::collections::BTreeMap;

use lockgate_signing::block::Token;
use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension as _, params};

use super::apply::{Applying, PatientColumn};
use super::{Result, quoted};
use crate::rekey::StoredToken;

/// How often a token can become another one, epochs. A chain that is longer was made up, and is not followed further.
const RENEWALS_MAX: usize = 64;

/// What followed from the former tokens that a bundle told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewals {
    /// Patients whose former token was told, and was not known before.
    pub patients: u64,
    /// Former tokens that had become another one already. The first word counts: a site cannot take back what another told.
    pub contradicted: u64,
    /// Rows of a former token whose patient is retracted under another.
    pub rows_deleted: u64,
}

impl Applying<'_> {
    /// The token that a site's token is by now.
    pub(super) fn current(&self, token: &Token) -> Result<Token> {
        let mut find = self.transaction.prepare_cached("SELECT later FROM renewed WHERE former = ?1")?;
        let mut current = *token;
        for _ in 0..RENEWALS_MAX {
            let former = self.rekeyings.former.token(&current);
            let hidden: Option<Token> = find.query_row([former], |row| row.get(0)).optional()?;
            let Some(hidden) = hidden else { break };
            current = masked(&hidden, &self.rekeyings.renewed.token(&current));
        }
        Ok(current)
    }

    /// Takes in what a bundle tells of former tokens.
    pub(super) fn renew(&self, number: i64) -> Result<Renewals> {
        let content = self.opened.content;
        let mut done = Renewals::default();
        let mut columns = Columns::default();
        for (table, former) in content.patients.iter().zip(&content.former) {
            let told = table.tokens.iter().zip(&former.tokens).enumerate();
            for (_, (token, former)) in told.filter(|(row, _)| !former.missing.contains(*row)) {
                self.renew_one(former, token, &mut columns, &mut done)?;
            }
        }
        if done.rows_deleted > 0 {
            self.transaction.execute("UPDATE progress SET erase_due = ?1", [number])?;
        }
        Ok(done)
    }

    fn renew_one(
        &self,
        former: &Token,
        token: &Token,
        columns: &mut Columns,
        done: &mut Renewals,
    ) -> Result<()> {
        let (before, after) = (self.current(former)?, self.current(token)?);
        if before == after {
            return Ok(());
        }
        if before != *former {
            done.contradicted += 1;
            return Ok(());
        }
        let hidden = masked(&after, &self.rekeyings.renewed.token(former));
        self.transaction
            .prepare_cached("INSERT INTO renewed (former, later) VALUES (?1, ?2)")?
            .execute(params![self.rekeyings.former.token(former), hidden])?;
        done.patients += 1;
        let ((former, former_kept_out), (token, kept_out)) = (self.stored(former), self.stored(&after));
        let moved = self.move_rows(&former, &token, columns)?;
        let moved_kept_out = self.move_kept_out(&former_kept_out, &kept_out)?;
        if moved || moved_kept_out {
            done.rows_deleted += self.weigh(&token, &kept_out, columns)?;
        }
        Ok(())
    }

    /// Moves rows, patients and links to another token. `false`: there were none.
    fn move_rows(&self, from: &StoredToken, to: &StoredToken, columns: &mut Columns) -> Result<bool> {
        let modules = {
            let mut statement = self.transaction.prepare_cached(
                "SELECT DISTINCT b.module FROM patient p JOIN bundle b ON b.number = p.bundle WHERE p.token = ?1",
            )?;
            let modules = statement.query_map([from], |row| row.get(0))?;
            modules.collect::<rusqlite::Result<Vec<String>>>()?
        };
        for module in &modules {
            for PatientColumn { table, column } in columns.of(self, module)? {
                let (table, column) = (quoted(table), quoted(column));
                let sql = format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1");
                self.transaction.prepare_cached(&sql)?.execute([from, to])?;
            }
        }
        if modules.is_empty() {
            return Ok(false);
        }
        // A bundle that has both is of a site that lies: they become one.
        for sql in [
            "INSERT INTO patient SELECT bundle, ?2, type_2 FROM patient WHERE token = ?1
             ON CONFLICT DO UPDATE SET type_2 = max(type_2, excluded.type_2)",
            "INSERT INTO link SELECT bundle, ?2, kind, link FROM link WHERE token = ?1 ON CONFLICT DO NOTHING",
        ] {
            self.transaction.prepare_cached(sql)?.execute([from, to])?;
        }
        for sql in ["DELETE FROM patient WHERE token = ?1", "DELETE FROM link WHERE token = ?1"] {
            self.transaction.prepare_cached(sql)?.execute([from])?;
        }
        Ok(true)
    }

    /// Who is kept out under one token is so under another; of two words on one module, the later one stays. `false`: nobody was.
    fn move_kept_out(&self, from: &StoredToken, to: &StoredToken) -> Result<bool> {
        self.transaction
            .prepare_cached(
                "INSERT INTO retracted SELECT module, ?2, site, snapshot_at_s FROM retracted WHERE token = ?1
                 ON CONFLICT (module, token) DO UPDATE SET site = excluded.site, snapshot_at_s = excluded.snapshot_at_s
                 WHERE snapshot_at_s < excluded.snapshot_at_s",
            )?
            .execute([from, to])?;
        Ok(self.transaction.prepare_cached("DELETE FROM retracted WHERE token = ?1")?.execute([from])? > 0)
    }

    /// Deletes what is kept out by now; or lets it in, where the site that retracted has sent the patient since. Returns the rows
    /// that were deleted.
    fn weigh(&self, token: &StoredToken, kept_out: &StoredToken, columns: &mut Columns) -> Result<u64> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT module, site, snapshot_at_s FROM retracted WHERE token = ?1")?;
        let entries = statement.query_map([kept_out], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let entries: Vec<(String, String, i64)> = entries.collect::<rusqlite::Result<_>>()?;
        let mut withdrawn = self.transaction.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM patient p JOIN bundle b ON b.number = p.bundle
             WHERE p.token = ?1 AND b.module = ?2 AND b.site = ?3 AND b.snapshot_at_s > ?4)",
        )?;
        let mut rows = 0;
        for (module, site, at_s) in &entries {
            let values: [&dyn ToSql; 4] = [token, module, site, at_s];
            if withdrawn.query_row(values, |row| row.get(0))? {
                self.transaction
                    .prepare_cached("DELETE FROM retracted WHERE module = ?1 AND token = ?2")?
                    .execute(params![module, kept_out])?;
            } else {
                rows += self.delete(module, columns.of(self, module)?, token)?.rows;
            }
        }
        Ok(rows)
    }
}

/// The columns that name patients, by module; looked up once for many patients.
#[derive(Default)]
struct Columns {
    known: BTreeMap<String, Vec<PatientColumn>>,
}

impl Columns {
    fn of(&mut self, applying: &Applying<'_>, module: &str) -> Result<&[PatientColumn]> {
        if !self.known.contains_key(module) {
            self.known.insert(module.to_owned(), applying.patient_columns(module)?);
        }
        Ok(self.known.get(module).map_or(&[], Vec::as_slice))
    }
}

/// Hides a token, or shows it again.
fn masked(token: &Token, mask: &Token) -> Token {
    let mut masked = *token;
    masked.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    masked
}
