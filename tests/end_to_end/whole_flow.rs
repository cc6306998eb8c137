//! The main job: what a practice holds reaches the linker once, and is acknowledged.

use lockgate_tests::{SiteOptions, Stage};

use crate::TestResult;

#[test]
fn a_first_run_sends_four_months_and_a_second_run_nothing() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    practice(&stage, &database)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    let first = site.run()?;
    assert_eq!(first["acknowledged"].as_array().map(Vec::len), Some(4));
    let second = site.run()?;
    assert_eq!(second["acknowledged"].as_array().map(Vec::len), Some(0));
    let stored = stage.linker.command(&["--json", "bundles"])?.ok()?.json()?;
    assert_eq!(stored["bundles"].as_array().map(Vec::len), Some(4), "{stored}");
    Ok(())
}

fn practice(stage: &Stage, database: &std::path::Path) -> TestResult {
    let mut command = std::process::Command::new(stage.binaries.program("practice")?);
    command.args(["make", "practice", "--patients", "300", "--out"]).arg(database);
    lockgate_tests::command::finish(&mut command)?.ok()?;
    Ok(())
}
