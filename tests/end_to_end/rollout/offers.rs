//! Who is offered a version.

use anyhow::ensure;
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::verify;
use lockgate_signing::keys::SigningKey;
use lockgate_tests::AS_OF;

use super::{Trial, after_refresh, bundles};
use crate::TestResult;

const NOTHING: [&str; 0] = [];

#[test]
fn a_module_without_a_rollout_is_offered_to_nobody() -> TestResult {
    let trial = Trial::new()?;
    let site = trial.site("A81001", "auto")?;
    assert_eq!(after_refresh(&site)?, NOTHING);
    let run = site.run()?;
    ensure!(bundles(&run) == 0 && run["modules"] == serde_json::json!([]), "{run}");
    let refused = site.command(&["modules", "approve", "control"])?.expect(1)?;
    ensure!(
        refused.stderr.contains("no module `control` is installed or offered here"),
        "{}",
        refused.stderr
    );
    // The control: offered, it runs.
    trial.offer(&[("1.0.0", "\"all\"", "")])?;
    ensure!(bundles(&site.run()?) == 4, "offered to all, it runs");
    Ok(())
}

#[test]
fn only_the_cohort_is_offered_it_until_it_is_widened_to_all() -> TestResult {
    let trial = Trial::new()?;
    trial.cohort("pathfinders", &["A81001"])?;
    trial.offer(&[("1.0.0", "[\"pathfinders\"]", "")])?;
    let (inside, outside) = (trial.site("A81001", "auto")?, trial.site("A810011", "auto")?);
    assert_eq!(after_refresh(&inside)?, ["control 1.0.0 installed"]);
    assert_eq!(after_refresh(&outside)?, NOTHING);
    trial.offer(&[("1.0.0", "\"all\"", "")])?;
    assert_eq!(after_refresh(&outside)?, ["control 1.0.0 installed"]);
    // The next version, to the cohort first: the newest that is offered to a site is its.
    trial.add("1.1.0", &[])?;
    trial.offer(&[("1.1.0", "[\"pathfinders\"]", ""), ("1.0.0", "\"all\"", "")])?;
    assert_eq!(after_refresh(&inside)?, ["control 1.1.0 installed"]);
    assert_eq!(after_refresh(&outside)?, ["control 1.0.0 installed"]);
    // The newest version of the cohort counts.
    trial.cohort("pathfinders", &["A810011", "A82000"])?;
    assert_eq!(after_refresh(&outside)?, ["control 1.1.0 installed"]);
    // A rollout can lead back; the site follows.
    assert_eq!(after_refresh(&inside)?, ["control 1.0.0 installed"]);
    Ok(())
}

#[test]
fn an_offer_has_a_first_and_a_last_day() -> TestResult {
    let mut trial = Trial::new()?;
    trial.offer(&[("1.0.0", "\"all\"", "not-before = \"2026-11-02\"\nnot-after = \"2026-11-03\"")])?;
    let mut site = trial.site("A81001", "auto")?;
    assert_eq!(after_refresh(&site)?, NOTHING);
    // A clock that is ahead begins nothing early: the registry was signed the day before.
    site.options.as_of = "2026-11-02".to_owned();
    assert_eq!(after_refresh(&site)?, NOTHING);
    trial.stage.registry.go_on_to("2026-11-02");
    trial.stage.registry.publish_command(&["refresh"])?.ok()?;
    site.options.as_of = AS_OF.to_owned();
    assert_eq!(after_refresh(&site)?, NOTHING);
    site.options.as_of = "2026-11-02".to_owned();
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 installed"]);
    site.options.as_of = "2026-11-03".to_owned();
    ensure!(bundles(&site.run()?) == 4, "it runs on its last day");
    site.options.as_of = "2026-11-04".to_owned();
    assert_eq!(after_refresh(&site)?, ["control 1.0.0 expired"]);
    let run = site.command(&["run"])?.expect(3)?;
    ensure!(run.stdout.contains("was valid until 2026-11-03"), "{}", run.stdout);
    Ok(())
}

#[test]
fn a_bundle_names_the_rollout_by_which_its_module_came() -> TestResult {
    let trial = Trial::rolled_out()?;
    let site = trial.site("A81001", "auto")?;
    site.command(&["run", "--no-push"])?.ok()?;
    let key = SigningKey::from_pem(&std::fs::read_to_string(site.state().join("site-key.pem"))?)?;
    let mut headers = 0;
    for bundle in std::fs::read_dir(site.state().join("outbox/queued"))? {
        let bytes = std::fs::read(bundle?.path().join("header.cbor"))?;
        let header = verify::<BundleHeader>(&bytes, &key.public())?.into_message();
        let rollout = header.rollout.map(Digest::to_hex).unwrap_or_default();
        let file = trial.stage.registry.location().join("targets/rollouts/control");
        let published =
            std::fs::read_dir(file)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        ensure!(published.into_iter().any(|name| name.starts_with(&rollout)), "{rollout}");
        headers += 1;
    }
    ensure!(headers == 4, "{headers} bundles");
    Ok(())
}
