//! What must not run: holds, and revocations, which are for ever.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use lockgate_tests::{Site, copy_folder};

use super::{Trial, after_refresh, bundles, listed, not_run};
use crate::TestResult;
use crate::service::Service;

const HELD: &str = "[[hold]]\nsince = \"2026-11-01\"\nreason = \"Counts fell\"\n";
const REVOKED: &str = "[[revoked]]\nmodule = \"control\"\nmodule-version = \"1.0.0\"\nsince = \"2026-11-01\"\nreason = \"It is wrong\"\n";

#[test]
fn a_hold_stops_what_it_names_at_the_next_refresh_and_is_lifted() -> TestResult {
    let trial = Trial::rolled_out()?;
    trial.cohort("pathfinders", &["A81001"])?;
    let (inside, outside) = (trial.running_site("A81001", "auto")?, trial.running_site("B82002", "auto")?);
    let (held, runs) = (["control 1.0.0 held"], ["control 1.0.0 installed"]);
    for (hold, stops_outside) in [
        (format!("{HELD}module = \"control\"\n"), true),
        (HELD.to_owned(), true),
        (format!("{HELD}cohort = \"pathfinders\"\n"), false),
        (format!("{HELD}cohort = \"pathfinders\"\nmodule = \"control\"\n"), false),
    ] {
        trial.holds(&hold)?;
        assert_eq!(listed(&inside)?, runs, "before the refresh: {hold}");
        assert_eq!(after_refresh(&inside)?, held, "{hold}");
        assert_eq!(after_refresh(&outside)?, if stops_outside { held } else { runs }, "{hold}");
        let run = inside.run()?;
        ensure!(not_run(&run) == "held", "{run}");
        ensure!(run["modules"][0]["detail"].as_str().is_some_and(|it| it.contains("Counts fell")), "{run}");
        trial.holds("")?;
        assert_eq!(after_refresh(&inside)?, runs, "after {hold}");
    }
    trial.stage.registry.add_guest("gp-monthly")?;
    trial.holds(&format!("{HELD}module = \"gp-monthly\"\n"))?;
    assert_eq!(after_refresh(&inside)?, ["control 1.0.0 installed", "gp-monthly 1.0.0 held"]);
    Ok(())
}

#[test]
fn what_was_made_before_a_hold_is_still_sent() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.site("A81001", "auto")?;
    site.command(&["run", "--no-push"])?.ok()?;
    trial.holds(HELD)?;
    let run = site.run()?;
    ensure!(not_run(&run) == "held" && bundles(&run) == 4, "{run}");
    Ok(())
}

#[test]
fn a_revoked_version_never_runs_again_even_if_the_list_forgets_it() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "auto")?;
    // The same registry, by the same signers, in which nothing was ever revoked. (The publisher refuses to drop one.)
    let folders = [trial.stage.registry.location(), trial.stage.registry.keys()];
    for folder in &folders {
        copy_folder(folder, &folder.with_extension("before"))?;
    }
    trial.holds(REVOKED)?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 revoked"]);
    ensure!(not_run(&site.run()?) == "revoked", "it ran");
    for folder in &folders {
        std::fs::remove_dir_all(folder)?;
        std::fs::rename(folder.with_extension("before"), folder)?;
    }
    // Newer than what the site has seen, so it is no rollback.
    for _ in 0..3 {
        trial.holds("")?;
    }
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 revoked"]);
    let refused = site.command(&["modules", "approve", "control"])?.expect(1)?;
    ensure!(refused.stderr.contains("revoked on 2026-11-01: It is wrong"), "{}", refused.stderr);
    // A site that was never told runs it: the memory is the site's.
    let new = trial.site("B82002", "auto")?;
    assert_eq!(after_refresh(&new)?, ["control 1.0.0 installed"]);
    // The next version takes its place.
    trial.add("1.0.1", &[])?;
    trial.offer(&[("1.0.1", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.1 installed"]);
    Ok(())
}

#[test]
fn a_site_that_was_away_runs_nothing_that_was_held_or_revoked_in_between() -> TestResult {
    let trial = Trial::rolled_out()?;
    let (held, revoked) = (trial.running_site("A81001", "auto")?, trial.running_site("B82002", "auto")?);
    let registry = trial.stage.registry.location();
    let away = registry.with_extension("away");
    let without_registry = |action: &dyn Fn() -> TestResult| {
        std::fs::rename(&registry, &away)?;
        let done = action();
        std::fs::rename(&away, &registry)?;
        done
    };
    // Away, they go on with what they knew.
    without_registry(&|| {
        for site in [&held, &revoked] {
            assert_eq!(listed(site)?, ["control 1.0.0 installed"]);
            site.run()?;
        }
        Ok(())
    })?;
    trial.holds(&format!("{HELD}module = \"control\"\n"))?;
    // Back, the first thing that each does is to ask.
    let run = held.run()?;
    ensure!(not_run(&run) == "held", "{run}");
    // Held, away, and back: still held.
    without_registry(&|| {
        ensure!(not_run(&held.run()?) == "held", "a hold does not end because the registry is away");
        Ok(())
    })?;
    trial.holds(REVOKED)?;
    let run = revoked.run()?;
    ensure!(not_run(&run) == "revoked", "{run}");
    without_registry(&|| {
        ensure!(
            not_run(&revoked.run()?) == "revoked",
            "a revocation does not end because the registry is away"
        );
        Ok(())
    })
}

#[test]
fn a_service_asks_between_its_runs() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "auto")?;
    let config = std::fs::read_to_string(site.config_path())?;
    std::fs::write(site.config_path(), config.replace("[registry]\n", "[registry]\nrefresh-s = 1\n"))?;
    // It runs once, and then not for an hour.
    let service = Service::start(&site, 3_600)?;
    wait_until(&site, "control 1.0.0 installed")?;
    trial.holds(HELD)?;
    wait_until(&site, "control 1.0.0 held")?;
    trial.holds("")?;
    wait_until(&site, "control 1.0.0 installed")?;
    drop(service);
    Ok(())
}

fn wait_until(site: &Site, state: &str) -> TestResult {
    let started = Instant::now();
    while listed(site)? != [state] {
        if started.elapsed() > Duration::from_secs(60) {
            bail!("the service did not come to `{state}`: {:?}", listed(site)?);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
