//! Listings for people. Programs use `--json`.

use std::fmt::Write as _;

use lockgate_oprf::PublicKey;
use lockgate_service::report::{right, table};
use lockgate_signing::ids::Name;
use lockgate_signing::token_keys::TokenPublicKey;

use crate::database::{AlarmRow, DeliveredRow, SiteRow, UsageRow};

/// The sites and what they asked.
pub fn sites(sites: &[SiteRow]) -> String {
    if sites.is_empty() {
        return "No sites. Enter one with `lockgate-keyholder site add SITE KEYFILE --patients N`.\n"
            .to_owned();
    }
    let mut table = table(&["site", "state", "keys", "patients", "today", "of", "30 days"]);
    for site in sites {
        table.add_row([
            site.site.to_string(),
            if site.revoked { "revoked" } else { "entered" }.to_owned(),
            site.keys.to_string(),
            site.patients.to_string(),
            site.today.to_string(),
            site.quota.to_string(),
            site.month.to_string(),
        ]);
    }
    right(&mut table, &[2, 3, 4, 5, 6]);
    format!("{table}\n")
}

/// The counts, the alarms, and who has a sealed key.
pub fn audit(usage: &[UsageRow], alarms: &[AlarmRow], delivered: &[DeliveredRow]) -> String {
    let mut text = String::new();
    for alarm in alarms {
        let _ = writeln!(
            text,
            "ALARM {} {}: {}, {} evaluations where at most {} are expected",
            alarm.day, alarm.site, alarm.code, alarm.evaluations, alarm.expected
        );
    }
    for row in delivered {
        let _ = writeln!(
            text,
            "{} {} was given the sealed key of {} epoch {}",
            row.day, row.site, row.domain, row.epoch
        );
    }
    if usage.is_empty() {
        return text + "Nothing was asked yet.\n";
    }
    let mut table = table(&["day", "site", "what", "requests", "evaluations"]);
    for row in usage {
        let site = if row.site.is_empty() { "(unknown)" } else { &row.site };
        let counts = [row.requests.to_string(), row.evaluations.to_string()];
        let [requests, evaluations] = counts;
        table.add_row([row.day.to_string(), site.to_owned(), row.what.clone(), requests, evaluations]);
    }
    right(&mut table, &[3, 4]);
    let _ = writeln!(text, "{table}");
    text
}

/// The keys, as the publishing team needs them.
pub fn keys(keys: &[(Name, u32, PublicKey)], signing_key: TokenPublicKey) -> String {
    if keys.is_empty() {
        return "No keys. Make one with `lockgate-keyholder key new DOMAIN`.\n".to_owned();
    }
    let mut table = table(&["domain", "epoch", "public key"]);
    for (domain, epoch, key) in keys {
        table.add_row([domain.to_string(), epoch.to_string(), key.to_string()]);
    }
    right(&mut table, &[1]);
    format!("{table}\nSealed keys are signed with {signing_key}.\n")
}
