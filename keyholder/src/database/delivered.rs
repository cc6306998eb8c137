//! Which sites have which sealed keys: whoever has one can make every token of it, so nobody may forget who does.

use lockgate_signing::delivery::TokenKeyDelivery;
use lockgate_signing::ids::SiteId;
use rusqlite::params;

use super::{DAY_S, Database, Result, date};

/// A sealed key that was given out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeliveredRow {
    /// The day, UTC.
    pub day: jiff::civil::Date,
    /// The site.
    pub site: String,
    /// The domain.
    pub domain: String,
    /// The epoch.
    pub epoch: u32,
    /// The site's key that opens it.
    pub opening_key: String,
}

impl Database {
    /// Writes down that a site is given a key.
    pub fn add_delivered(&self, delivery: &TokenKeyDelivery) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO delivered (site, domain, epoch, opening_key, at_s) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET at_s = excluded.at_s",
                params![
                    delivery.site.as_str(),
                    delivery.domain.as_str(),
                    delivery.epoch,
                    delivery.opening_key.to_string(),
                    delivery.at_s
                ],
            )?;
            Ok(())
        })
    }

    /// The sealed keys that were given out, to one site or to all, the latest first.
    pub fn delivered(&self, site: Option<&SiteId>) -> Result<Vec<DeliveredRow>> {
        let connection = self.lock();
        let mut statement = connection.prepare(
            "SELECT at_s, site, domain, epoch, opening_key FROM delivered
             WHERE ?1 IS NULL OR site = ?1 ORDER BY at_s DESC, site, domain, epoch",
        )?;
        let rows = statement.query_map([site.map(SiteId::as_str)], |row| {
            Ok(DeliveredRow {
                day: date(row.get::<_, i64>(0)?.div_euclid(DAY_S)),
                site: row.get(1)?,
                domain: row.get(2)?,
                epoch: row.get(3)?,
                opening_key: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }
}
