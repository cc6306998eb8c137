//! Bundles: begun, accepted, superseded; what is missing; what an operator should look at.

use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::Verified;
use lockgate_signing::ids::{BundleId, SiteId};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::{Database, DatabaseError, Result, digest, signed, unsigned};
use crate::decide::{Decision, Link, SiteState, decide};
use crate::failpoint;
use crate::reason::Reason;

/// Incidents that are kept of one site: a site that makes them by the thousand makes its point sooner.
const INCIDENTS_PER_SITE_MAX: i64 = 1_000;
/// Missing ranges that are listed of one site.
const GAPS_MAX: usize = 100;

/// What is done with a bundle whose blocks and header are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The signed receipt.
    pub receipt: Vec<u8>,
    /// When it was accepted first, seconds since 1970-01-01 UTC.
    pub accepted_at_s: i64,
}

/// The sizes that verified headers give a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The sizes, bytes; nearly always one.
    pub sizes: Vec<u64>,
}

/// A bundle, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BundleRow {
    /// Its id.
    pub id: BundleId,
    /// Its site.
    pub site: SiteId,
    /// Its place in the site's chain.
    pub sequence: u64,
    /// The module that made it.
    pub module: String,
    /// The module's version.
    pub module_version: String,
    /// The month.
    pub period: String,
    /// Rows of all outputs.
    pub rows: u64,
    /// Bytes of all blocks.
    pub bytes: u64,
    /// When its header came, seconds since 1970-01-01 UTC.
    pub received_at_s: i64,
    /// When it was complete; none: it waits for blocks.
    pub accepted_at_s: Option<i64>,
    /// The bundle that replaces it.
    pub superseded_by: Option<BundleId>,
    /// `extract` or `retraction`.
    pub kind: String,
    /// For a retraction: the recipients who have said that they have deleted.
    pub deleted_by: Vec<String>,
}

/// A site, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteRow {
    /// The site.
    pub site: SiteId,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Keys that may sign.
    pub keys: u64,
    /// Bundles accepted.
    pub accepted: u64,
    /// Bundles that wait for blocks.
    pub pending: u64,
    /// Block bytes accepted.
    pub bytes: u64,
    /// When the last one was accepted, seconds since 1970-01-01 UTC.
    pub last_accepted_at_s: Option<i64>,
    /// The lowest sequence number that is not accepted yet.
    pub expected: u64,
    /// The highest one that is accepted; 0: none.
    pub highest: u64,
    /// Sequence numbers that are missing below the highest, from and to; at most 100 ranges.
    pub missing: Vec<(u64, u64)>,
    /// Things to look at.
    pub incidents: Vec<Incident>,
}

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Incident {
    /// When, seconds since 1970-01-01 UTC.
    pub at_s: i64,
    /// What, for example `chain-fork`.
    pub code: String,
    /// The bundle that showed it.
    pub bundle: BundleId,
}

impl Database {
    /// Decides about a verified header, and takes its place in the chain if it is to be accepted.
    pub fn admit(&self, header: &Verified<BundleHeader>, pending_max: u64, now_s: i64) -> Result<Decision> {
        self.write(|transaction| {
            let state = site_state(transaction, header, pending_max)?;
            let decision = decide(header, &state);
            match decision {
                Decision::Accept if state.chain.iter().all(|link| link.id != header.id()) => {
                    insert_pending(transaction, header, now_s)?;
                }
                Decision::Reject(Reason::ChainFork) => {
                    record_incident(transaction, header, Reason::ChainFork.code(), now_s)?;
                }
                Decision::Accept | Decision::Duplicate | Decision::Reject(_) => {}
            }
            Ok(decision)
        })
    }

    /// Accepts a bundle that was admitted, and whose blocks and header are on stable storage. The first acceptance stays.
    pub fn accept(&self, header: &Verified<BundleHeader>, acceptance: &Acceptance) -> Result<Acceptance> {
        self.write(|transaction| {
            if let Some(first) = acceptance_of(transaction, header.id())? {
                return Ok(first);
            }
            let changed = transaction.execute(
                "UPDATE bundle SET accepted_at_s = ?2, receipt = ?3,
                    position = (SELECT coalesce(max(position), 0) + 1 FROM bundle) WHERE id = ?1",
                params![header.id().0.as_bytes(), acceptance.accepted_at_s, acceptance.receipt],
            )?;
            if changed != 1 {
                return Err(DatabaseError::Damaged("chain"));
            }
            supersede(transaction, header, acceptance.accepted_at_s)?;
            failpoint::reach(failpoint::BEFORE_COMMIT);
            Ok(acceptance.clone())
        })
    }

    /// The stored acceptance of a bundle.
    pub fn acceptance(&self, id: BundleId) -> Result<Option<Acceptance>> {
        acceptance_of(&self.reader(), id)
    }

    /// What headers say of a block; none: no verified header names it.
    pub fn wanted(&self, block: Digest) -> Result<Option<Wanted>> {
        let connection = self.reader();
        let mut statement =
            connection.prepare_cached("SELECT DISTINCT bytes FROM bundle_block WHERE digest = ?1")?;
        let sizes = statement
            .query_map([block.as_bytes()], |row| row.get(0).map(unsigned))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok((!sizes.is_empty()).then_some(Wanted { sizes }))
    }

    /// Bundles, of one site or of all, in the order of their chains.
    pub fn bundles(&self, site: Option<&SiteId>) -> Result<Vec<BundleRow>> {
        let connection = self.reader();
        let mut statement = connection.prepare_cached(&format!(
            "{BUNDLE_COLUMNS} WHERE ?1 IS NULL OR site = ?1 ORDER BY site, sequence"
        ))?;
        let mut rows = statement.query([site.map(SiteId::as_str)])?;
        let mut bundles = Vec::new();
        while let Some(row) = rows.next()? {
            bundles.push(bundle_row(row)?);
        }
        Ok(bundles)
    }

    /// The bundle whose id begins with these hexadecimal digits, if there is exactly one.
    pub fn bundle(&self, prefix: &str) -> Result<BundleRow> {
        let connection = self.reader();
        let mut statement = connection
            .prepare_cached(&format!("{BUNDLE_COLUMNS} WHERE lower(hex(id)) LIKE ?1 || '%' LIMIT 2"))?;
        let mut rows = statement.query([prefix])?;
        let hex = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        let first = match rows.next()? {
            Some(row) if hex => bundle_row(row)?,
            _ => {
                return Err(DatabaseError::NotFound(
                    "no such bundle; see `lockgate-linker bundles`".to_owned(),
                ));
            }
        };
        if rows.next()?.is_some() {
            return Err(DatabaseError::NotFound(
                "more than one bundle begins like this; write more digits".to_owned(),
            ));
        }
        Ok(first)
    }

    /// Every site, with the gaps in its chain and its incidents.
    pub fn sites(&self) -> Result<Vec<SiteRow>> {
        let connection = self.reader();
        let mut statement = connection.prepare_cached(
            "SELECT site, revoked_at_s IS NOT NULL,
                (SELECT count(*) FROM site_key k WHERE k.site = s.site AND k.revoked_at_s IS NULL),
                (SELECT count(*) FROM bundle b WHERE b.site = s.site AND b.accepted_at_s IS NOT NULL),
                (SELECT count(*) FROM bundle b WHERE b.site = s.site AND b.accepted_at_s IS NULL),
                (SELECT coalesce(sum(bytes), 0) FROM bundle b WHERE b.site = s.site AND b.accepted_at_s IS NOT NULL),
                (SELECT max(accepted_at_s) FROM bundle b WHERE b.site = s.site)
             FROM site s ORDER BY site",
        )?;
        let mut rows = statement.query([])?;
        let mut sites = Vec::new();
        while let Some(row) = rows.next()? {
            let site: SiteId =
                row.get::<_, String>(0)?.parse().map_err(|_| DatabaseError::Damaged("site"))?;
            let Gaps { expected, highest, missing } = gaps(&connection, &site)?;
            sites.push(SiteRow {
                revoked: row.get(1)?,
                keys: unsigned(row.get(2)?),
                accepted: unsigned(row.get(3)?),
                pending: unsigned(row.get(4)?),
                bytes: unsigned(row.get(5)?),
                last_accepted_at_s: row.get(6)?,
                expected,
                highest,
                missing,
                incidents: incidents(&connection, &site)?,
                site,
            });
        }
        Ok(sites)
    }
}

fn site_state(
    transaction: &Transaction<'_>,
    header: &Verified<BundleHeader>,
    pending_max: u64,
) -> Result<SiteState> {
    let (id, message) = (header.id(), header.message());
    let mut statement = transaction.prepare_cached(
        "SELECT id, sequence, previous, accepted_at_s IS NOT NULL FROM bundle WHERE site = ?1 AND sequence BETWEEN ?2 AND ?3
         UNION SELECT id, sequence, previous, accepted_at_s IS NOT NULL FROM bundle WHERE site = ?1 AND id IN (?4, ?5)
         UNION SELECT id, sequence, previous, accepted_at_s IS NOT NULL FROM bundle WHERE site = ?1 AND previous IN (?4, ?5)",
    )?;
    let sequence = signed(message.sequence);
    let bounds = (sequence.saturating_sub(1), sequence.saturating_add(1));
    let previous = message.previous.map(|id| *id.0.as_bytes());
    let rows = statement.query_map(
        params![message.site.as_str(), bounds.0, bounds.1, id.0.as_bytes(), previous],
        |row| {
            Ok(Link {
                id: BundleId(digest(row.get(0)?)),
                sequence: unsigned(row.get(1)?),
                previous: row.get::<_, Option<[u8; 32]>>(2)?.map(|id| BundleId(digest(id))),
                accepted: row.get(3)?,
            })
        },
    )?;
    let chain = rows.collect::<rusqlite::Result<_>>()?;
    let pending = transaction
        .prepare_cached("SELECT count(*) FROM bundle WHERE site = ?1 AND accepted_at_s IS NULL")?
        .query_row([message.site.as_str()], |row| row.get(0).map(unsigned))?;
    Ok(SiteState { chain, pending, pending_max })
}

fn insert_pending(transaction: &Transaction<'_>, header: &Verified<BundleHeader>, now_s: i64) -> Result<()> {
    let (id, message) = (header.id(), header.message());
    transaction
        .prepare_cached(
            "INSERT INTO bundle (id, site, sequence, previous, key, module, module_version, period, rows, bytes,
                received_at_s, supersedes, kind)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            id.0.as_bytes(),
            message.site.as_str(),
            signed(message.sequence),
            message.previous.map(|id| *id.0.as_bytes()),
            header.key().0.as_bytes(),
            message.module.id.as_str(),
            message.module.version.to_string(),
            message.period.to_string(),
            signed(message.rows()),
            signed(message.bytes()),
            now_s,
            message.supersedes.map(|id| *id.0.as_bytes()),
            message.kind.name(),
        ])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO bundle_block (bundle, position, digest, bytes) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (position, block) in (0_i64..).zip(message.blocks()) {
        insert.execute(params![id.0.as_bytes(), position, block.digest.as_bytes(), signed(block.bytes)])?;
    }
    Ok(())
}

/// Marks the earlier bundle as replaced; also when the later one came first.
fn supersede(transaction: &Transaction<'_>, header: &Verified<BundleHeader>, now_s: i64) -> Result<()> {
    let (id, message) = (header.id(), header.message());
    let same = "site = ?2 AND module = ?3 AND period = ?4";
    let (site, module, period) =
        (message.site.as_str(), message.module.id.as_str(), message.period.to_string());
    if let Some(earlier) = message.supersedes {
        let marked = transaction.execute(
            &format!("UPDATE bundle SET superseded_by = ?1 WHERE {same} AND id = ?5"),
            params![id.0.as_bytes(), site, module, period, earlier.0.as_bytes()],
        )?;
        let known: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM bundle WHERE id = ?1)",
            [earlier.0.as_bytes()],
            |row| row.get(0),
        )?;
        if marked == 0 && known {
            record_incident(transaction, header, "supersede-mismatch", now_s)?;
        }
    }
    transaction.execute(
        &format!(
            "UPDATE bundle SET superseded_by =
                (SELECT later.id FROM bundle later WHERE later.supersedes = ?1 AND later.accepted_at_s IS NOT NULL
                 AND later.site = ?2 AND later.module = ?3 AND later.period = ?4 ORDER BY later.sequence DESC LIMIT 1)
             WHERE id = ?1 AND superseded_by IS NULL AND {same}"
        ),
        params![id.0.as_bytes(), site, module, period],
    )?;
    Ok(())
}

fn record_incident(
    transaction: &Transaction<'_>,
    header: &Verified<BundleHeader>,
    code: &str,
    now_s: i64,
) -> Result<()> {
    transaction.execute(
        "INSERT INTO incident (at_s, site, code, bundle) SELECT ?1, ?2, ?3, ?4
         WHERE (SELECT count(*) FROM incident WHERE site = ?2) < ?5 ON CONFLICT DO NOTHING",
        params![
            now_s,
            header.message().site.as_str(),
            code,
            header.id().0.as_bytes(),
            INCIDENTS_PER_SITE_MAX
        ],
    )?;
    Ok(())
}

fn acceptance_of(connection: &Connection, id: BundleId) -> Result<Option<Acceptance>> {
    let found = connection
        .prepare_cached(
            "SELECT receipt, accepted_at_s FROM bundle WHERE id = ?1 AND accepted_at_s IS NOT NULL",
        )?
        .query_row([id.0.as_bytes()], |row| {
            Ok(Acceptance { receipt: row.get(0)?, accepted_at_s: row.get(1)? })
        })
        .optional()?;
    Ok(found)
}

const BUNDLE_COLUMNS: &str =
    "SELECT id, site, sequence, module, module_version, period, rows, bytes, received_at_s,
    accepted_at_s, superseded_by, kind,
    (SELECT group_concat(name) FROM deletion d JOIN recipient r ON r.key = d.key WHERE d.bundle = bundle.id)
    FROM bundle";

fn bundle_row(row: &Row<'_>) -> Result<BundleRow> {
    Ok(BundleRow {
        id: BundleId(digest(row.get(0)?)),
        site: row.get::<_, String>(1)?.parse().map_err(|_| DatabaseError::Damaged("site"))?,
        sequence: unsigned(row.get(2)?),
        module: row.get(3)?,
        module_version: row.get(4)?,
        period: row.get(5)?,
        rows: unsigned(row.get(6)?),
        bytes: unsigned(row.get(7)?),
        received_at_s: row.get(8)?,
        accepted_at_s: row.get(9)?,
        superseded_by: row.get::<_, Option<[u8; 32]>>(10)?.map(|id| BundleId(digest(id))),
        kind: row.get(11)?,
        deleted_by: row
            .get::<_, Option<String>>(12)?
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
    })
}

/// What is missing of a chain; see [`SiteRow`].
struct Gaps {
    expected: u64,
    highest: u64,
    missing: Vec<(u64, u64)>,
}

fn gaps(connection: &Connection, site: &SiteId) -> Result<Gaps> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence FROM bundle WHERE site = ?1 AND accepted_at_s IS NOT NULL ORDER BY sequence",
    )?;
    let mut rows = statement.query([site.as_str()])?;
    let (mut highest, mut missing) = (0_u64, Vec::new());
    while let Some(row) = rows.next()? {
        let sequence = unsigned(row.get(0)?);
        if sequence > highest + 1 && missing.len() < GAPS_MAX {
            missing.push((highest + 1, sequence - 1));
        }
        highest = sequence;
    }
    let expected = missing.first().map_or(highest + 1, |(from, _)| *from);
    Ok(Gaps { expected, highest, missing })
}

fn incidents(connection: &Connection, site: &SiteId) -> Result<Vec<Incident>> {
    let mut statement =
        connection.prepare_cached("SELECT at_s, code, bundle FROM incident WHERE site = ?1 ORDER BY id")?;
    let rows = statement.query_map([site.as_str()], |row| {
        Ok(Incident { at_s: row.get(0)?, code: row.get(1)?, bundle: BundleId(digest(row.get(2)?)) })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
