//! Sites, their enrolment tokens and their keys.

use lockgate_signing::digest::Digest;
use lockgate_signing::enrolment::{EnrolmentRequest, EnrolmentToken};
use lockgate_signing::envelope::Verified;
use lockgate_signing::ids::SiteId;
use lockgate_signing::keys::{KeyId, PublicKey};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{Database, DatabaseError, Result};
use crate::failpoint;
use crate::reason::Reason;
use crate::verify::SiteKey;

/// What became of an enrolment request.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// The key is enrolled now.
    Enrolled,
    /// The same key with the same token was enrolled before, and its answer was lost.
    Again,
    /// Refused.
    Refused(Reason),
}

/// A key, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyRow {
    /// Its id.
    pub id: String,
    /// Its site.
    pub site: SiteId,
    /// The public key, 64 hexadecimal digits: what a recipient pins.
    pub public_key: String,
    /// When it was enrolled, seconds since 1970-01-01 UTC.
    pub enrolled_at_s: i64,
    /// When it was revoked.
    pub revoked_at_s: Option<i64>,
}

impl Database {
    /// Adds a site, or takes it back after a revocation, and stores the digest of a new enrolment token.
    pub fn add_token(&self, site: &SiteId, secret: Digest, now_s: i64, expires_at_s: i64) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO site (site, added_at_s) VALUES (?1, ?2)
                 ON CONFLICT (site) DO UPDATE SET revoked_at_s = NULL",
                params![site.as_str(), now_s],
            )?;
            transaction.execute(
                "INSERT INTO token (secret_digest, site, expires_at_s) VALUES (?1, ?2, ?3)",
                params![secret.as_bytes(), site.as_str(), expires_at_s],
            )?;
            Ok(())
        })
    }

    /// Enrols a key.
    pub fn enrol(&self, request: &Verified<EnrolmentRequest>, now_s: i64) -> Result<Enrolment> {
        self.write(|transaction| {
            let enrolment = decide_enrolment(transaction, request, now_s)?;
            let message = request.message();
            if enrolment == Enrolment::Enrolled {
                let (key, secret) = (request.key(), EnrolmentToken::secret_digest(&message.secret));
                transaction.execute(
                    "INSERT INTO site_key (id, site, public, enrolled_at_s) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (id) DO NOTHING",
                    params![key.0.as_bytes(), message.site.as_str(), message.public_key.to_bytes(), now_s],
                )?;
                transaction.execute(
                    "UPDATE token SET used_by = ?2, used_at_s = ?3 WHERE secret_digest = ?1",
                    params![secret.as_bytes(), key.0.as_bytes(), now_s],
                )?;
            }
            failpoint::reach(failpoint::ENROLMENT_BEFORE_COMMIT);
            Ok(enrolment)
        })
    }

    /// An enrolled key.
    pub fn key(&self, id: KeyId) -> Result<Option<SiteKey>> {
        find_key(&self.reader(), id)
    }

    /// The keys of a site.
    pub fn keys(&self, site: Option<&SiteId>) -> Result<Vec<KeyRow>> {
        let connection = self.reader();
        let mut statement = connection.prepare_cached(
            "SELECT id, site, enrolled_at_s, revoked_at_s, public FROM site_key
             WHERE ?1 IS NULL OR site = ?1 ORDER BY site, enrolled_at_s, id",
        )?;
        let rows = statement.query_map([site.map(SiteId::as_str)], |row| {
            let public: [u8; 32] = row.get(4)?;
            Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, public))
        })?;
        rows.map(|row| {
            let (id, site, enrolled_at_s, revoked_at_s, public) = row?;
            let site = site.parse().map_err(|_| DatabaseError::Damaged("site"))?;
            let public_key = data_encoding::HEXLOWER.encode(&public);
            Ok(KeyRow { id: super::digest(id).to_hex(), site, public_key, enrolled_at_s, revoked_at_s })
        })
        .collect()
    }

    /// Revokes a site: all its keys, and its tokens that were not used.
    pub fn revoke_site(&self, site: &SiteId, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            let known = transaction.execute(
                "UPDATE site SET revoked_at_s = coalesce(revoked_at_s, ?2) WHERE site = ?1",
                params![site.as_str(), now_s],
            )?;
            if known == 0 {
                return Err(DatabaseError::NotFound(format!("no site {site}; see `lockgate-linker sites`")));
            }
            transaction.execute(
                "UPDATE site_key SET revoked_at_s = ?2 WHERE site = ?1 AND revoked_at_s IS NULL",
                params![site.as_str(), now_s],
            )?;
            transaction.execute("DELETE FROM token WHERE site = ?1 AND used_by IS NULL", [site.as_str()])?;
            Ok(())
        })
    }

    /// Revokes one key.
    pub fn revoke_key(&self, key: KeyId, now_s: i64) -> Result<()> {
        self.write(|transaction| {
            let known = transaction.execute(
                "UPDATE site_key SET revoked_at_s = coalesce(revoked_at_s, ?2) WHERE id = ?1",
                params![key.0.as_bytes(), now_s],
            )?;
            if known == 0 {
                return Err(DatabaseError::NotFound("no such key; see `lockgate-linker sites`".to_owned()));
            }
            Ok(())
        })
    }
}

fn decide_enrolment(
    transaction: &Transaction<'_>,
    request: &Verified<EnrolmentRequest>,
    now_s: i64,
) -> Result<Enrolment> {
    let message = request.message();
    // 1. The operator has named the site.
    let site = transaction
        .query_row("SELECT 1 FROM site WHERE site = ?1", [message.site.as_str()], |_| Ok(()))
        .optional()?;
    if site.is_none() {
        return Ok(Enrolment::Refused(Reason::UnknownSite));
    }
    // 2. The token is one of this site: nobody enrols for another site with it. Looked up by its digest, so the time that a
    //    comparison takes tells nothing.
    let secret = EnrolmentToken::secret_digest(&message.secret);
    let token = transaction
        .query_row(
            "SELECT expires_at_s, used_by FROM token WHERE secret_digest = ?1 AND site = ?2",
            params![secret.as_bytes(), message.site.as_str()],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<[u8; 32]>>(1)?)),
        )
        .optional()?;
    let Some((expires_at_s, used_by)) = token else {
        return Ok(Enrolment::Refused(Reason::TokenUnknown));
    };
    // 3. A revoked key does not come back, and a key is one site's.
    let known = find_key(transaction, request.key())?;
    match &known {
        Some(known) if known.revoked => return Ok(Enrolment::Refused(Reason::RevokedKey)),
        Some(known) if known.site != message.site => return Ok(Enrolment::Refused(Reason::WrongSite)),
        _ => {}
    }
    // 4. It works once; but for the key that it worked for, whose owner may not have had the answer.
    match used_by {
        Some(used_by) if used_by == *request.key().0.as_bytes() => Ok(Enrolment::Again),
        Some(_) => Ok(Enrolment::Refused(Reason::TokenUsed)),
        None if now_s >= expires_at_s => Ok(Enrolment::Refused(Reason::TokenExpired)),
        None => Ok(Enrolment::Enrolled),
    }
}

fn find_key(connection: &Connection, id: KeyId) -> Result<Option<SiteKey>> {
    let row = connection
        .prepare_cached("SELECT site, public, revoked_at_s IS NOT NULL FROM site_key WHERE id = ?1")?
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

#[cfg(test)]
mod tests {
    use lockgate_signing::enrolment::verify_request;
    use lockgate_signing::envelope::sign;
    use lockgate_signing::keys::SigningKey;

    use super::*;

    #[test]
    fn a_token_expires_but_not_for_the_key_that_it_has_enrolled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("linker.db");
        Database::create(&path).unwrap();
        let database = Database::open(&path).unwrap();
        let site: SiteId = "A81001".parse().unwrap();
        let request = |secret: [u8; 32]| {
            let key = SigningKey::from_seed(&[1; 32].into());
            let request = EnrolmentRequest { site: site.clone(), public_key: key.public(), secret };
            verify_request(&sign(&request, &key)).unwrap()
        };
        for secret in [[1; 32], [2; 32]] {
            database.add_token(&site, EnrolmentToken::secret_digest(&secret), 0, 100).unwrap();
        }
        assert_eq!(database.enrol(&request([1; 32]), 100).unwrap(), Enrolment::Refused(Reason::TokenExpired));
        assert_eq!(database.enrol(&request([2; 32]), 99).unwrap(), Enrolment::Enrolled);
        assert_eq!(database.enrol(&request([2; 32]), 1_000).unwrap(), Enrolment::Again);
    }
}
