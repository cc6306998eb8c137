//! The keys of sites. The warehouse believes the operator, and not the linker, who signs for a site: whoever takes the linker
//! over could otherwise make up sites, and have rows deleted in their name.

use lockgate_signing::ids::SiteId;
use lockgate_signing::keys::{KeyId, PublicKey};
use rusqlite::{OptionalExtension as _, params};

use super::{Result, Store, StoreError, unsigned};

/// A key, and the one site that it signs for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedKey {
    /// The key.
    pub key: PublicKey,
    /// The site.
    pub site: SiteId,
}

/// A site, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteRow {
    /// The site.
    pub site: String,
    /// Its keys.
    pub keys: u64,
    /// Extracts that were applied and not replaced.
    pub extracts: u64,
    /// The last month of them.
    pub last_period: Option<String>,
    /// Retractions that were applied.
    pub retractions: u64,
    /// Rows of other sites that they deleted: of patients who moved, or of a site that should be looked at.
    pub rows_of_others: u64,
}

impl Store {
    /// Pins keys of sites, all or none of them. How many of them are new.
    pub fn pin(&mut self, keys: &[PinnedKey], now_s: i64) -> Result<usize> {
        self.write(|transaction| {
            let mut new = 0;
            for PinnedKey { key, site } in keys {
                let id = key.id();
                let taken: Option<String> = transaction
                    .query_row("SELECT site FROM site_key WHERE id = ?1", [id.0.as_bytes()], |row| row.get(0))
                    .optional()?;
                match taken {
                    Some(taken) if taken == site.as_str() => {}
                    Some(taken) => {
                        return Err(StoreError::NotFound(format!(
                            "key {id} is {taken}'s already; a key belongs to one site, and nothing was changed"
                        )));
                    }
                    None => {
                        transaction.execute(
                            "INSERT INTO site_key (id, site, public, added_at_s) VALUES (?1, ?2, ?3, ?4)",
                            params![id.0.as_bytes(), site.as_str(), key.to_bytes(), now_s],
                        )?;
                        new += 1;
                    }
                }
            }
            Ok(new)
        })
    }

    /// The key with this id.
    pub fn pinned(&self, id: KeyId) -> Result<Option<PinnedKey>> {
        let found: Option<(String, [u8; 32])> = self
            .connection
            .prepare_cached("SELECT site, public FROM site_key WHERE id = ?1")?
            .query_row([id.0.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let pinned = |(site, public): (String, [u8; 32])| {
            let key = PublicKey::from_bytes(&public).map_err(|_| StoreError::Damaged("site's key"))?;
            let site = site.parse().map_err(|_| StoreError::Damaged("site"))?;
            Ok(PinnedKey { key, site })
        };
        found.map(pinned).transpose()
    }

    /// Every site.
    pub fn sites(&self) -> Result<Vec<SiteRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.site, (SELECT count(*) FROM site_key k WHERE k.site = s.site),
                (SELECT count(*) FROM bundle b WHERE b.site = s.site AND b.kind = 'extract' AND b.replaced = 0),
                (SELECT max(period) FROM bundle b WHERE b.site = s.site AND b.kind = 'extract'),
                (SELECT count(*) FROM bundle b WHERE b.site = s.site AND b.kind = 'retraction'),
                (SELECT coalesce(sum(rows_of_others), 0) FROM retraction r JOIN bundle b ON b.number = r.bundle
                 WHERE b.site = s.site)
             FROM (SELECT DISTINCT site FROM site_key) s ORDER BY s.site",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(SiteRow {
                site: row.get(0)?,
                keys: unsigned(row.get(1)?),
                extracts: unsigned(row.get(2)?),
                last_period: row.get(3)?,
                retractions: unsigned(row.get(4)?),
                rows_of_others: unsigned(row.get(5)?),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
