//! What the keyholder knows: sites, their keys, nonces, counts, alarms, who has which sealed key; in SQLite. Nothing in it is about a patient.
//!
//! The calls block; the service makes them on threads for blocking work.

mod delivered;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockgate_signing::evaluation::{ELEMENT_BYTES, EvaluationRequest};
use lockgate_signing::ids::SiteId;
use lockgate_signing::keys::{KeyId, PublicKey};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

pub use delivered::DeliveredRow;

use crate::config::Quota;
use crate::reason::Reason;

/// How long a command waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);
/// The version of [`SCHEMA`], in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE site (
    site TEXT PRIMARY KEY,
    patients INTEGER NOT NULL,
    added_at_s INTEGER NOT NULL,
    revoked_at_s INTEGER
) STRICT;
CREATE TABLE site_key (
    id BLOB PRIMARY KEY,
    site TEXT NOT NULL REFERENCES site,
    public BLOB NOT NULL,
    added_at_s INTEGER NOT NULL
) STRICT;
-- Requests taken: each counts once. Kept until their time alone refuses them.
CREATE TABLE nonce (
    site TEXT NOT NULL,
    nonce BLOB NOT NULL,
    expires_at_s INTEGER NOT NULL,
    PRIMARY KEY (site, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonce_expires ON nonce (expires_at_s);
CREATE TABLE usage (
    site TEXT NOT NULL,
    day INTEGER NOT NULL,
    domain TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    PRIMARY KEY (site, day, domain, epoch)
) STRICT, WITHOUT ROWID;
-- `site` is empty where nobody proved who is asking.
CREATE TABLE refusal (
    site TEXT NOT NULL,
    day INTEGER NOT NULL,
    code TEXT NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (site, day, code)
) STRICT, WITHOUT ROWID;
-- What the operator should look at.
CREATE TABLE alarm (
    site TEXT NOT NULL,
    day INTEGER NOT NULL,
    code TEXT NOT NULL,
    at_s INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    expected INTEGER NOT NULL,
    PRIMARY KEY (site, day, code)
) STRICT, WITHOUT ROWID;
-- Sealed keys that were given out.
CREATE TABLE delivered (
    site TEXT NOT NULL,
    domain TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    opening_key TEXT NOT NULL,
    at_s INTEGER NOT NULL,
    PRIMARY KEY (site, domain, epoch, opening_key)
) STRICT, WITHOUT ROWID;
";

/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Days that an alarm looks back, this one included.
const ALARM_DAYS: i64 = 30;
/// How much longer than needed a nonce is kept, for a clock that is corrected backwards.
const NONCE_MARGIN_S: i64 = 86_400;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No database there.
    #[error("{} is not there; run `lockgate-keyholder init` first", .0.display())]
    Missing(PathBuf),
    /// Made by another version.
    #[error(
        "the database has schema {found}, this program needs {SCHEMA_VERSION}; use the version that made it"
    )]
    Schema {
        /// What it has.
        found: i64,
    },
    /// SQLite refuses.
    #[error("the database fails: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this program did not write.
    #[error("the database holds a damaged {0}; restore it from a backup")]
    Damaged(&'static str),
    /// A command names what is not there.
    #[error("no site {0}; see `lockgate-keyholder sites`")]
    NoSuchSite(SiteId),
    /// A key is one site's.
    #[error("the key is entered for {0} already; a key belongs to one site")]
    KeyTaken(String),
}

impl DatabaseError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

type Result<T> = std::result::Result<T, DatabaseError>;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKey {
    /// The key.
    pub key: PublicKey,
    /// The one site that it signs for.
    pub site: SiteId,
    /// Whether the site was revoked.
    pub revoked: bool,
}

/// What became of a request.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Counted: it may be evaluated.
    Admitted {
        /// Whether this one raised an alarm.
        alarm: bool,
    },
    /// Refused.
    Refused(Reason),
}

/// A site, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteRow {
    /// The site.
    pub site: SiteId,
    /// The size of its patient list, as its operator entered it.
    pub patients: u64,
    /// Its keys.
    pub keys: u64,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Evaluations today.
    pub today: u64,
    /// What it may ask in a day.
    pub quota: u64,
    /// Evaluations of the last 30 days.
    pub month: u64,
}

/// One line of the audit: counts, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UsageRow {
    /// The day, UTC.
    pub day: jiff::civil::Date,
    /// The site; empty where nobody proved who was asking.
    pub site: String,
    /// The domain and epoch, or the code of a refusal.
    pub what: String,
    /// Requests.
    pub requests: u64,
    /// Evaluations; none of a refusal.
    pub evaluations: u64,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AlarmRow {
    /// The day, UTC.
    pub day: jiff::civil::Date,
    /// The site.
    pub site: String,
    /// `many-evaluations` or `quota-exceeded`.
    pub code: String,
    /// What was asked.
    pub evaluations: u64,
    /// What is expected at most.
    pub expected: u64,
}

/// The database.
#[derive(Debug)]
pub struct Database(Mutex<Connection>);

impl Database {
    /// Makes a new database.
    pub fn create(path: &Path) -> Result<()> {
        let connection = Connection::open(path)?;
        prepare(&connection)?;
        connection.execute_batch(&format!("BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"))?;
        Ok(())
    }

    /// Opens a database that [`Database::create`] made.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(DatabaseError::Missing(path.to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        prepare(&connection)?;
        let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found != SCHEMA_VERSION {
            return Err(DatabaseError::Schema { found });
        }
        Ok(Self(Mutex::new(connection)))
    }

    /// Enters a site and its key, or a further key, or the new size of its list. A revoked site is taken back by it.
    pub fn add_site(&self, site: &SiteId, key: &PublicKey, patients: u32, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            let owner: Option<String> = transaction
                .query_row("SELECT site FROM site_key WHERE id = ?1", [key.id().0.as_bytes()], |row| {
                    row.get(0)
                })
                .optional()?;
            if let Some(owner) = owner.filter(|owner| owner != site.as_str()) {
                return Err(DatabaseError::KeyTaken(owner));
            }
            transaction.execute(
                "INSERT INTO site (site, patients, added_at_s) VALUES (?1, ?2, ?3)
                 ON CONFLICT (site) DO UPDATE SET revoked_at_s = NULL, patients = excluded.patients",
                params![site.as_str(), patients, now_s],
            )?;
            transaction.execute(
                "INSERT OR IGNORE INTO site_key (id, site, public, added_at_s) VALUES (?1, ?2, ?3, ?4)",
                params![key.id().0.as_bytes(), site.as_str(), key.to_bytes(), now_s],
            )?;
            Ok(())
        })
    }

    /// Revokes a site: all its keys are forgotten.
    pub fn revoke_site(&self, site: &SiteId, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            let known = transaction.execute(
                "UPDATE site SET revoked_at_s = coalesce(revoked_at_s, ?2) WHERE site = ?1",
                params![site.as_str(), now_s],
            )?;
            if known == 0 {
                return Err(DatabaseError::NoSuchSite(site.clone()));
            }
            Ok(())
        })
    }

    /// Looks up a key.
    pub fn key(&self, id: KeyId) -> Result<Option<SiteKey>> {
        let connection = self.lock();
        let row = connection
            .prepare_cached(
                "SELECT site, public, revoked_at_s IS NOT NULL FROM site_key JOIN site USING (site) WHERE id = ?1",
            )?
            .query_row([id.0.as_bytes()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?, row.get(2)?))
            })
            .optional()?;
        row.map(|(site, key, revoked)| {
            let key = PublicKey::from_bytes(&key).map_err(|_| DatabaseError::Damaged("key"))?;
            let site = site.parse().map_err(|_| DatabaseError::Damaged("site"))?;
            Ok(SiteKey { key, site, revoked })
        })
        .transpose()
    }

    /// Takes a request: once, and within the site's quota. What is admitted is counted, on stable storage, before it is
    /// evaluated.
    pub fn admit(
        &self,
        request: &EvaluationRequest,
        quota: &Quota,
        keep_s: i64,
        now_s: i64,
    ) -> Result<Admission> {
        let count = (request.elements.len() / ELEMENT_BYTES) as i64;
        let (site, day) = (request.site.as_str(), now_s.div_euclid(DAY_S));
        self.write(|transaction| {
            // 1. Replay: a nonce counts once, also after a restart.
            transaction.execute("DELETE FROM nonce WHERE expires_at_s < ?1", [now_s - NONCE_MARGIN_S])?;
            let new = transaction.execute(
                "INSERT OR IGNORE INTO nonce (site, nonce, expires_at_s) VALUES (?1, ?2, ?3)",
                params![site, request.nonce, request.at_s.saturating_add(keep_s)],
            )?;
            if new == 0 {
                return refuse(transaction, site, day, Reason::Replayed);
            }
            // 2. The day's quota, by the size of the patient list: what a compromised site can learn is bounded.
            let patients: i64 =
                transaction.query_row("SELECT patients FROM site WHERE site = ?1", [site], |row| row.get(0))?;
            let daily = patients * i64::from(quota.daily_per_patient);
            let today = evaluations(transaction, site, day, day)?;
            if today + count > daily {
                raise(transaction, site, day, "quota-exceeded", (now_s, today + count, daily))?;
                return refuse(transaction, site, day, Reason::QuotaExceeded);
            }
            transaction.execute(
                "INSERT INTO usage (site, day, domain, epoch, requests, evaluations) VALUES (?1, ?2, ?3, ?4, 1, ?5)
                 ON CONFLICT DO UPDATE SET requests = requests + 1, evaluations = evaluations + excluded.evaluations",
                params![site, day, request.domain.as_str(), request.epoch, count],
            )?;
            // 3. Many times its list, slowly: within every day's quota and still not what a practice does.
            let month = evaluations(transaction, site, day - ALARM_DAYS + 1, day)?;
            let expected = patients * i64::from(quota.alarm_per_patient);
            let alarm = month > expected
                && raise(transaction, site, day, "many-evaluations", (now_s, month, expected))?;
            Ok(Admission::Admitted { alarm })
        })
    }

    /// Counts a refusal; the site where its key was proved to be its own.
    pub fn count_refusal(&self, site: Option<&SiteId>, reason: Reason, now_s: i64) -> Result<()> {
        let site = site.map_or("", SiteId::as_str);
        self.write(|transaction| refuse(transaction, site, now_s.div_euclid(DAY_S), reason).map(|_| ()))
    }

    /// The sites.
    pub fn sites(&self, quota: &Quota, now_s: i64) -> Result<Vec<SiteRow>> {
        let connection = self.lock();
        let day = now_s.div_euclid(DAY_S);
        let mut statement = connection.prepare(
            "SELECT site, patients, revoked_at_s IS NOT NULL,
                (SELECT count(*) FROM site_key WHERE site_key.site = site.site) FROM site ORDER BY site",
        )?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get::<_, i64>(3)?))
        })?;
        rows.map(|row| {
            let (name, patients, revoked, keys) = row?;
            Ok(SiteRow {
                today: unsigned(evaluations(&connection, &name, day, day)?),
                month: unsigned(evaluations(&connection, &name, day - ALARM_DAYS + 1, day)?),
                quota: unsigned(patients * i64::from(quota.daily_per_patient)),
                site: name.parse().map_err(|_| DatabaseError::Damaged("site"))?,
                patients: unsigned(patients),
                keys: unsigned(keys),
                revoked,
            })
        })
        .collect()
    }

    /// The counts, the latest day first.
    pub fn usage(&self) -> Result<Vec<UsageRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT day, site, domain || ' epoch ' || epoch, requests, evaluations FROM usage
             UNION ALL SELECT day, site, code, requests, 0 FROM refusal ORDER BY 1 DESC, 2, 3",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(UsageRow {
                day: date(row.get(0)?),
                site: row.get(1)?,
                what: row.get(2)?,
                requests: unsigned(row.get(3)?),
                evaluations: unsigned(row.get(4)?),
            })
        })?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// The alarms, the latest day first.
    pub fn alarms(&self) -> Result<Vec<AlarmRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT day, site, code, evaluations, expected FROM alarm ORDER BY day DESC, site, code",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(AlarmRow {
                day: date(row.get(0)?),
                site: row.get(1)?,
                code: row.get(2)?,
                evaluations: unsigned(row.get(3)?),
                expected: unsigned(row.get(4)?),
            })
        })?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A panic between two statements leaves nothing behind: what was not committed is rolled back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one transaction; it takes the write lock at once, so that what it reads holds until it commits.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

fn refuse(transaction: &Transaction<'_>, site: &str, day: i64, reason: Reason) -> Result<Admission> {
    transaction.execute(
        "INSERT INTO refusal (site, day, code, requests) VALUES (?1, ?2, ?3, 1)
         ON CONFLICT DO UPDATE SET requests = requests + 1",
        params![site, day, reason.code()],
    )?;
    Ok(Admission::Refused(reason))
}

/// Raises an alarm; `false` if it is raised today already, and only its numbers are brought up to date.
fn raise(
    transaction: &Transaction<'_>,
    site: &str,
    day: i64,
    code: &str,
    (now_s, asked, expected): (i64, i64, i64),
) -> Result<bool> {
    let there = transaction.execute(
        "UPDATE alarm SET evaluations = ?4, expected = ?5 WHERE site = ?1 AND day = ?2 AND code = ?3",
        params![site, day, code, asked, expected],
    )?;
    if there > 0 {
        return Ok(false);
    }
    transaction.execute(
        "INSERT INTO alarm (site, day, code, at_s, evaluations, expected) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![site, day, code, now_s, asked, expected],
    )?;
    Ok(true)
}

fn evaluations(connection: &Connection, site: &str, first_day: i64, last_day: i64) -> Result<i64> {
    let sum = "SELECT coalesce(sum(evaluations), 0) FROM usage WHERE site = ?1 AND day BETWEEN ?2 AND ?3";
    Ok(connection.prepare_cached(sum)?.query_row(params![site, first_day, last_day], |row| row.get(0))?)
}

/// WAL with `synchronous = FULL`: a commit has returned only when it is on stable storage.
fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(())
}

fn date(day: i64) -> jiff::civil::Date {
    let at = jiff::Timestamp::from_second(day.saturating_mul(DAY_S)).unwrap_or_default();
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use lockgate_signing::keys::SigningKey;

    use super::*;

    const NOW: i64 = 1_793_500_000;
    const QUOTA: Quota = Quota { daily_per_patient: 2, alarm_per_patient: 3, requests_per_minute: 1_000 };

    fn database(patients: u32) -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyholder.db");
        Database::create(&path).unwrap();
        let database = Database::open(&path).unwrap();
        let key = SigningKey::from_seed(&[1; 32].into()).public();
        database.add_site(&"A81001".parse().unwrap(), &key, patients, NOW).unwrap();
        (dir, database)
    }

    fn request(nonce: u8, count: usize) -> EvaluationRequest {
        EvaluationRequest {
            site: "A81001".parse().unwrap(),
            at_s: NOW,
            nonce: [nonce; 16],
            domain: "care-planning".parse().unwrap(),
            epoch: 1,
            elements: vec![0; count * ELEMENT_BYTES],
        }
    }

    #[test]
    fn a_request_counts_once_even_after_a_restart() {
        let (dir, database) = database(100);
        let admit = |database: &Database, nonce, now_s| {
            database.admit(&request(nonce, 1), &QUOTA, 600, now_s).unwrap()
        };
        assert_eq!(admit(&database, 1, NOW), Admission::Admitted { alarm: false });
        assert_eq!(admit(&database, 1, NOW), Admission::Refused(Reason::Replayed));
        assert_eq!(admit(&database, 2, NOW), Admission::Admitted { alarm: false });
        drop(database);
        let database = Database::open(&dir.path().join("keyholder.db")).unwrap();
        assert_eq!(admit(&database, 1, NOW + 600), Admission::Refused(Reason::Replayed));
        assert_eq!(database.usage().unwrap().iter().map(|row| row.evaluations).sum::<u64>(), 2);
    }

    #[test]
    fn a_site_gets_a_days_quota_and_no_more() {
        let (_dir, database) = database(100);
        let admit = |nonce, count, now_s| database.admit(&request(nonce, count), &QUOTA, 600, now_s).unwrap();
        assert_eq!(admit(1, 150, NOW), Admission::Admitted { alarm: false });
        assert_eq!(admit(2, 51, NOW), Admission::Refused(Reason::QuotaExceeded));
        assert_eq!(admit(3, 50, NOW), Admission::Admitted { alarm: false });
        assert_eq!(admit(4, 1, NOW), Admission::Refused(Reason::QuotaExceeded));
        // The next day there is a new quota, and a month of such days is not what a practice does.
        assert_eq!(admit(5, 100, NOW + DAY_S), Admission::Admitted { alarm: false });
        assert_eq!(admit(6, 1, NOW + DAY_S), Admission::Admitted { alarm: true });
        assert_eq!(admit(7, 1, NOW + DAY_S), Admission::Admitted { alarm: false });
        let alarms = database.alarms().unwrap();
        let codes: Vec<_> = alarms.iter().map(|alarm| (alarm.code.as_str(), alarm.evaluations)).collect();
        assert_eq!(codes, [("many-evaluations", 302), ("quota-exceeded", 201)]);
        let sites = database.sites(&QUOTA, NOW + DAY_S).unwrap();
        assert_eq!((sites[0].today, sites[0].month, sites[0].quota), (102, 302, 200));
    }

    #[test]
    fn a_key_is_one_sites_and_ends_with_it() {
        let (_dir, database) = database(100);
        let key = SigningKey::from_seed(&[1; 32].into()).public();
        let other: SiteId = "A81002".parse().unwrap();
        assert!(matches!(database.add_site(&other, &key, 1, NOW), Err(DatabaseError::KeyTaken(_))));
        let site: SiteId = "A81001".parse().unwrap();
        assert!(database.key(key.id()).unwrap().is_some_and(|known| !known.revoked && known.site == site));
        database.revoke_site(&site, NOW).unwrap();
        assert!(database.key(key.id()).unwrap().is_some_and(|known| known.revoked));
        assert!(matches!(database.revoke_site(&other, NOW), Err(DatabaseError::NoSuchSite(_))));
        database.add_site(&site, &key, 7, NOW).unwrap();
        assert!(database.key(key.id()).unwrap().is_some_and(|known| !known.revoked));
    }
}
