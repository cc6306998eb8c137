//! A registry that is away, or old, or wrong.

use anyhow::ensure;

use super::approval::WIDER;
use super::{Trial, after_refresh, bundles, listed, not_run};
use crate::TestResult;

#[test]
fn without_a_registry_the_installed_goes_on_to_its_own_last_day_and_nothing_new_comes() -> TestResult {
    let trial = Trial::new()?;
    trial.add("1.0.1", &[("not-after = \"2099-12-31\"", "not-after = \"2027-01-15\"")])?;
    trial.offer(&[("1.0.1", "\"all\"", "")])?;
    let mut site = trial.running_site("A81001", "auto")?;
    // A newer version is offered, and the site could see it in nothing but the registry that is gone.
    trial.add("1.0.2", &[])?;
    trial.offer(&[("1.0.2", "\"all\"", "")])?;
    let registry = trial.stage.registry.location();
    std::fs::rename(&registry, registry.with_extension("away"))?;
    let refused = site.command(&["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("cannot be read"), "{}", refused.stderr);
    let refused = site.command(&["modules", "approve", "control"])?.expect(1)?;
    ensure!(refused.stderr.contains("nothing was approved"), "{}", refused.stderr);
    for (day, made) in [("2026-12-01", 1), ("2027-01-15", 1)] {
        site.options.as_of = day.to_owned();
        ensure!(bundles(&site.run()?) == made, "{day}");
    }
    site.options.as_of = "2027-01-16".to_owned();
    let run = site.command(&["run"])?.expect(3)?;
    for words in ["control 1.0.1: did not run", "was valid until 2027-01-15"] {
        ensure!(run.stdout.contains(words), "`{words}` is not in {}", run.stdout);
    }
    let status = site.command(&["status"])?.expect(6)?;
    ensure!(status.stdout.contains("nothing new is installed until it answers again"), "{}", status.stdout);
    ensure!(status.stdout.contains("was valid until 2027-01-15"), "{}", status.stdout);
    Ok(())
}

#[test]
fn a_site_that_was_away_is_asked_about_what_widened_in_between() -> TestResult {
    let trial = Trial::rolled_out()?;
    let mut site = trial.running_site("A81001", "within-scope")?;
    let registry = trial.stage.registry.location();
    std::fs::rename(&registry, registry.with_extension("away"))?;
    site.options.as_of = "2026-11-02".to_owned();
    ensure!(not_run(&site.run()?) == "it ran", "what is installed goes on");
    std::fs::rename(registry.with_extension("away"), &registry)?;
    // While it was away: one version that reads and sends no more, and one that does.
    trial.add("1.0.1", &[])?;
    trial.offer(&[("1.0.1", "\"all\"", "")])?;
    trial.add("1.1.0", &WIDER)?;
    trial.offer(&[("1.1.0", "\"all\"", "")])?;
    site.options.as_of = "2026-11-08".to_owned();
    // Back, the first thing that it does is to ask: what widened waits, and the version that it has goes on.
    let run = site.run()?;
    ensure!(not_run(&run) == "it ran" && run["modules"][0]["waiting"] == "1.1.0", "{run}");
    assert_eq!(listed(&site)?, ["control 1.0.0 installed", "control 1.1.0 waiting"]);
    site.command(&["modules", "approve", "control"])?.ok()?;
    assert_eq!(listed(&site)?, ["control 1.1.0 installed"]);
    Ok(())
}

#[test]
fn from_a_stale_registry_nothing_is_installed() -> TestResult {
    let trial = Trial::rolled_out()?;
    let mut site = trial.running_site("A81001", "auto")?;
    trial.add("1.0.1", &[])?;
    trial.offer(&[("1.0.1", "\"all\"", "")])?;
    // Nobody signed it again for months.
    site.options.as_of = "2027-06-01".to_owned();
    let refused = site.command(&["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("out of date"), "{}", refused.stderr);
    assert_eq!(listed(&site)?, ["control 1.0.0 installed"]);
    Ok(())
}

#[test]
fn a_delisted_module_goes_on_and_a_new_site_does_not_get_it() -> TestResult {
    let trial = Trial::rolled_out()?;
    let mut site = trial.running_site("A81001", "auto")?;
    trial.offer(&[])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 installed"]);
    let new = trial.site("B82002", "auto")?;
    ensure!(after_refresh(&new)?.is_empty(), "offered to nobody");
    site.options.as_of = "2026-11-02".to_owned();
    ensure!(not_run(&site.run()?) == "it ran", "an installed module goes on");
    Ok(())
}

#[test]
fn a_registry_that_lists_what_it_does_not_hold_changes_nothing() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "auto")?;
    trial.holds("[[hold]]\nsince = \"2026-11-01\"\nreason = \"Counts fell\"\n")?;
    let folder = trial.stage.registry.location().join("targets/holds");
    std::fs::rename(&folder, folder.with_extension("away"))?;
    site.command(&["refresh"])?.expect(1)?;
    assert_eq!(listed(&site)?, ["control 1.0.0 installed"]);
    let run = site.command(&["run"])?.ok()?;
    ensure!(run.stderr.contains("going on with what was published on"), "{}", run.stderr);
    // It may be half uploaded, and passes: nobody's task before two days.
    let status = site.command(&["status"])?.ok()?;
    ensure!(status.stdout.contains("failed"), "{}", status.stdout);
    std::fs::rename(folder.with_extension("away"), &folder)?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 held"]);
    Ok(())
}

#[test]
fn a_site_that_was_never_told_anything_says_so() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.site("A81001", "auto")?;
    let refused = site.command(&["modules"])?.expect(1)?;
    ensure!(refused.stderr.contains("run `lockgate-agent refresh`"), "{}", refused.stderr);
    let status = site.command(&["status"])?.expect(6)?;
    ensure!(status.stdout.contains("never reached its registry"), "{}", status.stdout);
    Ok(())
}
