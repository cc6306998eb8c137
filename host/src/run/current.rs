//! What must hold before a run: the clock, and that everything signed is current and meant for this site.

use jiff::civil::Date;
use lockgate_signing::digest::Digest;
use lockgate_signing::direction::{Direction, Override};
use lockgate_signing::manifest::Manifest;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::recipients::{Recipient, Recipients};
use lockgate_trust::Trusted;

use super::{Now, RunError, Signed};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::source::{End, Select, Snapshot};

/// The clock was set at some time, and what it says against the ledger is said.
///
/// A clock that is set back makes expired modules and policies valid again (a freeze attack from within), so a refresh
/// refuses one that is before what the registry has signed, and installs nothing new while one that went back is not
/// settled. The ledger's days are this clock's own, and one that was once wrong in the future must not stop every run
/// after it.
pub(super) fn check_clock(ledger: &Ledger, now: Now) -> Result<(), RunError> {
    if now.today < CLOCK_EARLIEST {
        return Err(RunError::ClockNotSet(now.today));
    }
    let latest = ledger.entries().iter().map(|entry| entry.at).max();
    let latest = latest.map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    if let Some(latest) =
        latest.filter(|latest| now.today.tomorrow().is_ok_and(|tomorrow| tomorrow < *latest))
    {
        tracing::warn!(
            "this computer's clock says {}, and the ledger has an entry of {latest}: the clock is wrong, or was wrong then",
            now.today
        );
    }
    Ok(())
}

/// No agent ran before this day.
const CLOCK_EARLIEST: Date = jiff::civil::date(2025, 1, 1);

/// Whether a direction overrides something.
pub(super) fn overrides(directions: &[Trusted<Direction>], what: Override) -> bool {
    directions.iter().any(|direction| direction.value().overrides.contains(&what))
}

/// The directions, as a header names them.
pub(super) fn applied(signed: &Signed) -> Vec<Digest> {
    let mut digests: Vec<Digest> = signed.directions.iter().map(|direction| direction.digest()).collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// Who can open what is sent today. Nobody: nothing is sent, rather than in the clear or to a key that was retired.
pub(super) fn recipients(list: &Recipients, today: Date) -> Result<Vec<Recipient>, RunError> {
    let recipients: Vec<_> = list.on(today).cloned().collect();
    if recipients.is_empty() {
        return Err(RunError::NoRecipient { list: list.id.clone(), today });
    }
    Ok(recipients)
}

/// What is signed is current, and meant for this kind of site.
pub(super) fn check_current(
    config: &Config,
    manifest: &Manifest,
    signed: &Signed,
    today: Date,
) -> Result<(), RunError> {
    let (mapping, policy) = (signed.mapping.value(), signed.policy.value());
    let valid = |what: String, until: Date| {
        if today > until { Err(RunError::Expired { what, until }) } else { Ok(()) }
    };
    valid(format!("module `{}` {}", manifest.id, manifest.version), manifest.not_after)?;
    valid(format!("objection policy `{}` {}", policy.id, policy.version), policy.not_after)?;
    if manifest.sites != config.kind {
        return Err(RunError::OtherSites(format!("module `{}`", manifest.id)));
    }
    for direction in &signed.directions {
        let direction = direction.value();
        if direction.module != manifest.id || !direction.stands_on(today) {
            return Err(RunError::Direction { direction: direction.id.clone(), module: manifest.id.clone() });
        }
    }
    if mapping.sites != config.kind {
        return Err(RunError::OtherSites(format!("mapping `{}`", mapping.id)));
    }
    Ok(())
}

/// Both ends of every window column are dates.
///
/// A window is a comparison of texts in the database, which passes over a text of another form without a word; dates of
/// another form lie at an end. With an index this reads two rows.
pub(super) fn check_windows(
    snapshot: &Snapshot,
    mapping: &Mapping,
    manifest: &Manifest,
) -> Result<(), RunError> {
    let mut checked = Vec::new();
    for input in manifest.inputs.values() {
        let (Some(table), Some(column)) = (manifest.table_of(input), input.window_column()) else { continue };
        if checked.contains(&(table.name, column)) {
            continue;
        }
        checked.push((table.name, column));
        for end in [End::First, End::Last] {
            if let Some(select) = Select::end(mapping, table, column, end)? {
                snapshot.end(&select, column)?;
            }
        }
    }
    Ok(())
}
