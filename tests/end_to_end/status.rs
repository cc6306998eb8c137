//! `status` says what is wrong on the computer itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::ensure;
use lockgate_tests::{SiteOptions, Stage};

use crate::TestResult;

fn set_mode(file: &Path, mode: u32) -> TestResult {
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode))?)
}

#[test]
fn a_run_that_came_to_nothing_and_a_key_that_others_may_read_need_a_person() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.practice_database("practice", 60)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    site.command(&["status"])?.ok()?;
    for (file, is_enrolled) in [("tokens/local.key", true), ("site-key.pem", false)] {
        let key = site.state().join(file);
        set_mode(&key, 0o644)?;
        let told = site.command(&["run"])?.expect(1)?.stderr;
        ensure!(told.contains(&format!("{file} may be read by others")), "{told}");
        ensure!(!told.contains("enrol"), "it sends whoever reads it the wrong way: {told}");
        let status = site.command(&["--json", "status"])?.expect(6)?.json()?;
        ensure!(status["enrolled"].is_object() == is_enrolled, "{status}");
        let needs = status["needs-person"].to_string();
        ensure!(needs.contains("may be read by others") && !needs.contains("not enrolled"), "{needs}");
        set_mode(&key, 0o600)?;
        site.run()?;
        site.command(&["status"])?.ok()?;
    }
    // A name that nobody knows is no run.
    site.command(&["run", "--module", "nobody"])?.expect(1)?;
    site.command(&["status"])?.ok()?;
    Ok(())
}
