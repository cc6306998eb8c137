//! Directions: nothing happens until the site says yes, and both answers are written down.

use anyhow::ensure;
use lockgate_tests::Site;

use super::Trial;
use crate::TestResult;

fn direction(to: &str, title: &str) -> String {
    format!(
        "title = \"{title}\"\nlegal-basis = \"Regulation 3(4)\"\nmodule = \"control\"\noverrides = [\"type-1\"]\n\
         not-before = \"2026-11-01\"\nnot-after = \"2027-01-31\"\nto = {to}\n"
    )
}

fn states(site: &Site) -> anyhow::Result<Vec<String>> {
    site.command(&["refresh"])?.ok()?;
    let listed = site.command(&["--json", "directions"])?.ok()?.json()?;
    let lines = listed["directions"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(lines.iter().map(|line| format!("{} {}", text(&line["direction"]), text(&line["state"]))).collect())
}

#[test]
fn a_direction_waits_for_the_site_and_a_new_version_is_asked_about_again() -> TestResult {
    let trial = Trial::rolled_out()?;
    trial.cohort("others", &["Z99999"])?;
    let publish = |id: &str, text: &str| {
        trial.stage.registry.stage_document("directions", id, text)?;
        trial.publish()
    };
    let site = trial.running_site("A81001", "auto")?;
    ensure!(states(&site)?.is_empty(), "none is published");
    publish("flu-2026", &direction("\"all\"", "Influenza"))?;
    publish("elsewhere", &direction("[\"others\"]", "Not for this site"))?;
    assert_eq!(states(&site)?, ["flu-2026 open"]);
    let status = site.command(&["status"])?.expect(6)?;
    ensure!(status.stdout.contains("direction flu-2026 waits"), "{}", status.stdout);
    let withheld = |site: &Site| -> anyhow::Result<u64> {
        let preview = site.command(&["--json", "preview", "control"])?.ok()?.json()?;
        Ok(preview["counts"]["withheld-type-1"].as_u64().unwrap_or_default())
    };
    let before = withheld(&site)?;
    site.command(&["directions", "accept", "flu-2026"])?.ok()?;
    assert_eq!(states(&site)?, ["flu-2026 accepted"]);
    site.command(&["status"])?.ok()?;
    ensure!(before > 0 && withheld(&site)? == 0, "{before} were withheld before");
    publish("flu-2026", &direction("\"all\"", "Influenza, and measles"))?;
    assert_eq!(states(&site)?, ["flu-2026 open"]);
    // What was accepted is another document: it does nothing any more.
    ensure!(withheld(&site)? == before, "a version that nobody accepted is applied");
    site.command(&["directions", "refuse", "flu-2026"])?.ok()?;
    assert_eq!(states(&site)?, ["flu-2026 refused"]);
    let history = site.command(&["history"])?.ok()?.stdout;
    ensure!(history.contains("1.0.0 accepted") && history.contains("1.0.1 refused"), "{history}");
    let refused = site.command(&["directions", "accept", "elsewhere"])?.expect(1)?;
    ensure!(
        refused.stderr.contains("no direction `elsewhere` is published for this site"),
        "{}",
        refused.stderr
    );
    Ok(())
}
