//! What practice IT does by mistake on the computer itself, or looks at, and what it is told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use lockgate_tests::exactly_once::files_below;
use lockgate_tests::{Site, SiteOptions, Stage};

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

/// All that a site keeps, but for what `status` says of its last attempts.
fn state(site: &Site) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let files = files_below(&site.state())?.into_iter().filter(|file| !file.ends_with("observed.json"));
    files.map(|file| Ok((file.clone(), std::fs::read(file)?))).collect()
}

#[test]
fn a_preview_of_a_later_day_changes_nothing() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.practice_database("practice", 60)?;
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let before = state(&site)?;
    let day = std::mem::replace(&mut site.options.as_of, "2026-11-05".to_owned());
    let preview = site.command(&["preview", "gp-monthly", "--period", "2026-10"])?.ok()?;
    ensure!(preview.stdout.contains("would send"), "{}", preview.stdout);
    ensure!(state(&site)? == before, "the preview left something behind");
    // The same question by `refresh` is one that the site keeps in mind, or the comparison would show nothing.
    site.command(&["refresh"])?.ok()?;
    ensure!(state(&site)? != before);
    site.options.as_of = day;
    site.command(&["preview", "gp-monthly"])?.ok()?;
    Ok(())
}

#[test]
fn a_site_that_is_renamed_over_the_state_of_another_is_told_before_anything_happens() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.practice_database("practice", 60)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    site.run()?;
    let before = state(&site)?;
    let good = std::fs::read_to_string(site.config_path())?;
    std::fs::write(site.config_path(), good.replace("\"A81001\"", "\"A81002\""))?;
    let token = site.folder.join("token");
    std::fs::write(&token, "not looked at")?;
    set_mode(&token, 0o600)?;
    let token = token.display().to_string();
    let commands: [&[&str]; 7] = [
        &["run"],
        &["push"],
        &["status"],
        &["refresh"],
        &["preview", "gp-monthly"],
        &["modules", "refuse", "gp-monthly"],
        &["enrol", "--token-file", &token],
    ];
    for command in commands {
        let told = site.command(command)?.expect(1)?.stderr;
        ensure!(told.contains("is the ledger of A81001, and the configuration is of A81002"), "{told}");
    }
    ensure!(state(&site)? == before, "a refused command left something behind");
    std::fs::write(site.config_path(), good)?;
    site.run()?;
    Ok(())
}

#[test]
fn config_show_says_what_is_not_there() -> TestResult {
    let stage = Stage::new(&[])?;
    let database = stage.practice_database("practice", 20)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    let absent = || -> anyhow::Result<_> {
        let shown = site.command(&["--json", "config", "show"])?.ok()?.json()?;
        Ok((shown["absent"].to_string(), site.command(&["config", "show"])?.ok()?.stdout))
    };
    ensure!(absent()?.0 == "[]");
    std::fs::remove_file(&database)?;
    let (keys, shown) = absent()?;
    ensure!(keys == "[\"database.path\"]", "{keys}");
    ensure!(shown.contains("# `database.path`: there is nothing at /"), "{shown}");
    ensure!(shown.parse::<toml::Table>().is_ok(), "what is printed is a configuration: {shown}");
    Ok(())
}

#[test]
fn a_database_that_is_not_there_is_one_error() -> TestResult {
    let stage = Stage::new(&["gp-monthly", "diabetes-register"])?;
    let database = stage.practice_database("practice", 20)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    let elsewhere = database.with_extension("moved");
    std::fs::rename(&database, &elsewhere)?;
    let told = site.command(&["run"])?.expect(1)?.stderr;
    ensure!(told.matches("cannot open the clinical database").count() == 1, "{told}");
    let status = site.command(&["status"])?.expect(6)?.stdout;
    ensure!(status.matches("cannot open the clinical database").count() == 1, "{status}");
    std::fs::rename(&elsewhere, &database)?;
    site.run()?;
    site.command(&["status"])?.ok()?;
    Ok(())
}
