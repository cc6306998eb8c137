//! What a site approves and refuses.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::ensure;
use lockgate_tests::SiteOptions;
use serde_json::Value;

use super::{Trial, after_refresh, bundles, listed, not_run};
use crate::TestResult;

/// Where an approval is killed, in its order, and what the module is afterwards.
pub(crate) const DIES_AT: [(&str, &str); 3] = [
    ("refresh.known", "control 1.0.0 waiting"),
    ("install.files-kept", "control 1.0.0 waiting"),
    ("install.in-ledger", "control 1.0.0 installed"),
];

/// Reads one column more, sends one category more.
pub(super) const WIDER: [(&str, &str); 2] = [
    ("\"recorded\", \"code\"]", "\"recorded\", \"code\", \"value\"]"),
    ("[\"female\",", "[\"other\", \"female\","),
];
/// Reads only what was recorded in a shorter window of the same kind, keeps no decimals.
const NARROWER: [(&str, &str); 1] = [("max = 100, decimals = 1", "max = 99, decimals = 1")];

#[test]
fn the_first_version_waits_and_says_everything_that_it_does() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.site("A81001", "within-scope")?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 waiting"]);
    let run = site.run()?;
    ensure!(bundles(&run) == 0 && not_run(&run) == "waiting", "{run}");
    // What would leave is seen before it is approved.
    let preview = site.command(&["preview", "control"])?.ok()?;
    ensure!(preview.stdout.contains("control 1.0.0 would send"), "{}", preview.stdout);
    let shown = site.command(&["modules"])?.ok()?.stdout;
    for words in [
        "purpose     test",
        "observation: patient, recorded, code",
        "the patient's token",
        "a code of snomed",
    ] {
        ensure!(shown.contains(words), "`{words}` is not in {shown}");
    }
    let status = site.command(&["status"])?.expect(6)?;
    ensure!(
        status.stdout.contains("control 1.0.0 waits for `lockgate-agent modules approve control`"),
        "{}",
        status.stdout
    );
    let approved = site.command(&["modules", "approve", "control"])?.ok()?;
    ensure!(approved.stdout.contains("input.observations: reads observation"), "{}", approved.stdout);
    ensure!(bundles(&site.run()?) == 4, "approved, it runs");
    site.command(&["status"])?.ok()?;
    Ok(())
}

#[test]
fn a_wider_version_waits_while_the_approved_one_goes_on() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "within-scope")?;
    let mut later = trial.running_site("B82002", "within-scope")?;
    trial.add("1.1.0", &WIDER)?;
    trial.offer(&[("1.1.0", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 installed", "control 1.1.0 waiting"]);
    // A month later the old one still sends, and says that a newer one waits.
    ensure!(after_refresh(&later)?.len() == 2, "the other site is offered the same");
    later.options.as_of = "2026-12-01".to_owned();
    let run = later.run()?;
    ensure!(bundles(&run) == 1 && run["modules"][0]["waiting"] == "1.1.0", "{run}");
    let waiting = site.command(&["--json", "modules"])?.ok()?.json()?;
    assert_eq!(
        wider(&waiting["modules"][1]),
        ["input.observations: reads value of observation", "output.rows.sex: sends the categories other"]
    );
    let approved =
        site.command(&["--json", "modules", "approve", "control", "--version", "1.1.0"])?.ok()?.json()?;
    assert_eq!(
        wider(&approved),
        ["input.observations: reads value of observation", "output.rows.sex: sends the categories other"]
    );
    ensure!(approved["before"] == "1.0.0", "{approved}");
    assert_eq!(listed(&site)?, ["control 1.1.0 installed"]);
    Ok(())
}

fn wider(of: &Value) -> Vec<String> {
    let lines = of["wider"].as_array().cloned().unwrap_or_default();
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    lines.iter().map(|line| format!("{}: {}", text(line, "place"), text(line, "what"))).collect()
}

#[test]
fn a_version_of_the_same_or_a_narrower_scope_goes_on_at_once() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "within-scope")?;
    trial.add("1.0.1", &[])?;
    trial.offer(&[("1.0.1", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.1 installed"]);
    trial.add("1.0.2", &NARROWER)?;
    trial.offer(&[("1.0.2", "\"all\"", "")])?;
    // A run asks the registry itself.
    site.run()?;
    assert_eq!(listed(&site)?, ["control 1.0.2 installed"]);
    // What was narrowed is not widened again without a word.
    trial.add("1.0.3", &[])?;
    trial.offer(&[("1.0.3", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.2 installed", "control 1.0.3 waiting"]);
    let history = site.command(&["--json", "history"])?.ok()?.json()?;
    let how: Vec<_> =
        history["entries"].as_array().into_iter().flatten().filter_map(|it| it["how"].as_str()).collect();
    assert_eq!(how, ["person", "within-scope", "within-scope"]);
    Ok(())
}

#[test]
fn a_manual_site_is_asked_about_every_version() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "manual")?;
    trial.add("1.0.1", &NARROWER)?;
    trial.offer(&[("1.0.1", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 installed", "control 1.0.1 waiting"]);
    let shown = site.command(&["modules"])?.ok()?.stdout;
    ensure!(shown.contains("nothing: it reads and sends no more than what runs"), "{shown}");
    site.command(&["modules", "approve", "control"])?.ok()?;
    assert_eq!(listed(&site)?, ["control 1.0.1 installed"]);
    Ok(())
}

#[test]
fn a_first_refresh_that_installs_at_once_has_lost_nothing() -> TestResult {
    let trial = Trial::rolled_out()?;
    let options = SiteOptions { approve: "auto", ..SiteOptions::practice("A81001", &trial.database) };
    let site = trial.stage.site_not_enrolled("A81001", options)?;
    let refreshed = site.command(&["--json", "refresh"])?.ok()?.json()?;
    ensure!(refreshed["modules"][0]["state"] == "installed", "{refreshed}");
    ensure!(refreshed["problems"] == serde_json::json!([]), "{refreshed}");
    Ok(())
}

#[test]
fn what_a_site_refuses_does_not_run_there() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "within-scope")?;
    // One version: the approved one goes on.
    trial.add("1.1.0", &WIDER)?;
    trial.offer(&[("1.1.0", "\"all\"", ""), ("1.0.0", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 installed", "control 1.1.0 waiting"]);
    site.command(&["modules", "refuse", "control", "--version", "1.1.0"])?.ok()?;
    assert_eq!(listed(&site)?, ["control 1.0.0 installed", "control 1.1.0 refused"]);
    site.command(&["status"])?.ok()?;
    // A slip of the finger is no refusal.
    let unknown = site.command(&["modules", "refuse", "control", "--version", "8.8.8"])?.expect(1)?;
    ensure!(unknown.stderr.contains("control 8.8.8 is not offered to this site"), "{}", unknown.stderr);
    // The whole module: no version of it, whatever comes.
    site.command(&["modules", "refuse", "control"])?.ok()?;
    trial.add("1.2.0", &[])?;
    trial.offer(&[("1.2.0", "\"all\"", "")])?;
    assert_eq!(after_refresh(&site)?, ["control 1.2.0 refused"]);
    let run = site.run()?;
    ensure!(bundles(&run) == 0 && not_run(&run) == "refused", "{run}");
    // And back.
    site.command(&["modules", "approve", "control"])?.ok()?;
    assert_eq!(listed(&site)?, ["control 1.2.0 installed"]);
    Ok(())
}

#[test]
fn an_approval_survives_a_death_at_every_step() -> TestResult {
    let trial = Trial::rolled_out()?;
    let mut site = trial.site("A81001", "within-scope")?;
    site.command(&["refresh"])?.ok()?;
    let agent = trial.stage.binaries.program("lockgate-agent")?;
    for (point, after) in DIES_AT {
        site.use_agent(trial.stage.binaries.with_failpoints("lockgate-agent")?);
        let mut approve = site.agent();
        approve.env("FAILPOINTS", format!("{point}=return")).args(["modules", "approve", "control"]);
        let status = approve.output()?.status;
        ensure!(status.signal() == Some(6), "{point}: the agent ended with {status}");
        site.use_agent(agent.clone());
        assert_eq!(listed(&site)?, [after], "{point}");
    }
    ensure!(bundles(&site.run()?) == 4, "approved once, it runs");
    Ok(())
}

#[test]
fn a_changed_record_of_decisions_is_said_and_nothing_runs() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "within-scope")?;
    let ledger = site.state().join("ledger.jsonl");
    let text = std::fs::read_to_string(&ledger)?;
    std::fs::write(&ledger, text.replacen("\"how\":\"person\"", "\"how\":\"auto\"", 1))?;
    for command in
        [["modules"].as_slice(), &["status"], &["run"], &["refresh"], &["modules", "approve", "control"]]
    {
        let refused = site.command(command)?.expect(1)?;
        ensure!(refused.stderr.contains("was changed or does not follow"), "{command:?}: {}", refused.stderr);
    }
    // A line that a crash cut off is nothing that happened.
    std::fs::write(&ledger, format!("{text}{{\"previous\":\"sha"))?;
    assert_eq!(listed(&site)?, ["control 1.0.0 installed"]);
    site.run()?;
    Ok(())
}

#[test]
fn damaged_files_of_an_installed_module_are_fetched_again() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.running_site("A81001", "within-scope")?;
    for file in std::fs::read_dir(site.state().join("modules"))? {
        std::fs::write(file?.path(), "rotten")?;
    }
    assert_eq!(listed(&site)?, ["control 1.0.0 damaged"]);
    site.command(&["status"])?.expect(6)?;
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 installed"]);
    site.command(&["status"])?.ok()?;
    Ok(())
}
