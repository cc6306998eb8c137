//! Time: metadata that is held back until it is old, roles that expired, and clocks that are wrong.

use anyhow::ensure;
use lockgate_tests::AS_OF;

use super::case::Case;
use crate::TestResult;

/// Days after [`AS_OF`]: within what the timestamp is good for (14 days), and after it.
const LATER: &str = "2026-11-08";
const TOO_LATE: &str = "2026-11-20";

#[test]
fn freeze() -> TestResult {
    Case::new()?.is_refused_on(TOO_LATE, "is out of date: its timestamp expired")
}

#[test]
fn every_role_expired() -> TestResult {
    let roles = ["root", "timestamp", "snapshot"].map(str::to_owned);
    for role in roles.into_iter().chain(Case::new()?.forge.lists()?) {
        let case = Case::new()?;
        case.forge.revise(&role, |it| it["expires"] = "2026-10-01T00:00:00Z".into())?;
        case.is_refused(&format!("is out of date: its {role} expired at 2026-10-01"))?;
    }
    Ok(())
}

#[test]
fn a_clock_before_what_was_signed() -> TestResult {
    let case = Case::new()?;
    let refused = case.run("2026-10-20", &["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("this computer's clock says 2026-10-20"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("set the clock right"), "{}", refused.stderr);
    // Set right, it goes on as if nothing had been.
    let refreshed = case.refreshes()?;
    ensure!(!refreshed.stderr.contains("clock"), "{}", refreshed.stderr);
    case.still_runs()
}

#[test]
fn a_clock_years_ahead() -> TestResult {
    let case = Case::new()?;
    let refused = case.run("2031-01-01", &["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("is out of date"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("check this computer's clock"), "{}", refused.stderr);
    // Set right, nothing is gone and nothing has to be thrown away.
    let refreshed = case.refreshes()?;
    ensure!(!refreshed.stderr.contains("clock"), "{}", refreshed.stderr);
    case.still_runs()
}

#[test]
fn a_clock_a_week_ahead_that_goes_back() -> TestResult {
    let case = Case::new()?;
    case.refreshes_on(LATER)?;
    // Said, and nothing stops: which of the two times is right, nobody knows yet.
    let back = case.refreshes()?;
    ensure!(back.stderr.contains("clock went back from 2026-11-08"), "{}", back.stderr);
    case.still_runs()?;
    let status = case.run(AS_OF, &["status"])?.expect(6)?;
    ensure!(status.stdout.contains("clock went back from 2026-11-08"), "{}", status.stdout);
    let again = case.run(AS_OF, &["--json", "refresh"])?.ok()?.json()?;
    ensure!(again["problems"].to_string().contains("clock went back from 2026-11-08"), "{again}");
    // What the registry signs next settles it.
    case.forge.revise("timestamp", |_| {})?;
    let settled = case.refreshes()?;
    ensure!(settled.stderr.contains("the clock was wrong then"), "{}", settled.stderr);
    ensure!(!case.refreshes()?.stderr.contains("clock"), "it is said again");
    let status = case.run(AS_OF, &["status"])?;
    ensure!(!status.stdout.contains("clock"), "{}", status.stdout);
    case.still_runs()
}

#[test]
fn a_timestamp_from_the_future_of_a_stolen_key() -> TestResult {
    let mut case = Case::new()?;
    case.forge.revise("timestamp", |it| {
        it["signed_at"] = "2031-01-01T00:00:00Z".into();
        it["expires"] = "2032-01-01T00:00:00Z".into();
    })?;
    let refused = case.run(AS_OF, &["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("was signed at 2031-01-01"), "{}", refused.stderr);
    // The remedy for a stolen online key is another one, and it takes the wrong time with it.
    super::versions::rotate_online_key(&mut case, 12)?;
    case.forge.revise("timestamp", |it| {
        it["signed_at"] = "2026-11-01T00:00:00Z".into();
        it["expires"] = "2026-11-14T00:00:00Z".into();
    })?;
    case.refreshes()?;
    case.still_runs()
}
