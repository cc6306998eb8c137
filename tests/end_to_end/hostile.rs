//! Modules that misbehave: each ends in one clear error within its limits, nothing of it is sent, and the next one runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lockgate_tests::watched::finish_watched;
use lockgate_tests::{Site, SiteOptions, Stage};
use serde_json::Value;

use crate::TestResult;

/// Every module of `guest-modules/bad`, and how its run ends (the table of its README).
const BAD: [(&str, &str); 28] = [
    ("allocate-forever", "the module needs more than the 64 MiB of memory that its manifest allows"),
    (
        "bad-missing-bitmap",
        "the module broke its manifest: output `rows`, column `number`: a missing-value bitmap that does not fit the rows",
    ),
    ("batch-too-long", "the module broke its manifest: output `rows`: a batch of more than 65,536 rows"),
    (
        "category-out-of-range",
        "the module broke its manifest: output `rows`, column `sex`: a category beyond the 4 that are declared",
    ),
    (
        "date-out-of-range",
        "the module broke its manifest: output `rows`, column `day`: a date outside of the declared range, 1895-01-01 to the run's last day: leave the value out, or declare a wider range",
    ),
    ("deep-recursion", "the module crashed: wasm trap: call stack exhausted"),
    ("error-with-long-text", "the module gave up:  [2J   all is well   [2J   all is well "),
    (
        "hands-over-too-much",
        "the module hands the host more than 5 MiB in one call, which is more than any of its outputs takes",
    ),
    ("ignores-refusal", "the module asks for `names`, which its manifest does not declare"),
    ("log-flood", "the module calls the host more than 200000 times"),
    ("loop-forever", "the module uses more than the 500000000 units of fuel that its manifest allows"),
    ("many-scans", "the module opens more than 16 scans at once"),
    ("missing-column", "the module broke its manifest: output `rows`: 4 columns in place of 5"),
    (
        "missing-required",
        "the module broke its manifest: output `rows`, column `day`: a missing value in a column that is not optional",
    ),
    (
        "not-a-number",
        "the module broke its manifest: output `rows`, column `number`: a number outside of the declared range, 0 to 100: leave the value out, or declare a wider range",
    ),
    (
        "number-out-of-range",
        "the module broke its manifest: output `rows`, column `number`: a number outside of the declared range, 0 to 100: leave the value out, or declare a wider range",
    ),
    (
        "patient-out-of-range",
        "the module broke its manifest: output `rows`, column `patient`: a patient that this run does not have",
    ),
    (
        "ragged-columns",
        "the module broke its manifest: output `rows`, column `number`: its list has 9 values for 10 rows",
    ),
    ("returns-error", "the module gave up: the register is not open on Sundays"),
    (
        "too-many-rows",
        "the module broke its manifest: output `rows`: more rows than the 100000 that the manifest allows",
    ),
    ("traps", "the module crashed: wasm trap: wasm `unreachable` instruction executed"),
    (
        "undeclared-code-system",
        "the module broke its manifest: output `rows`, column `code`: a code of a system that the manifest does not declare for it; declared: icd11",
    ),
    ("undeclared-codelist", "the module asks for `hiv`, which its manifest does not declare"),
    ("undeclared-column", "the module broke its manifest: output `rows`: 6 columns in place of 5"),
    ("undeclared-input", "the module asks for `patients`, which its manifest does not declare"),
    ("undeclared-output", "the module asks for `names`, which its manifest does not declare"),
    (
        "unknown-code",
        "the module broke its manifest: output `rows`, column `code`: a code that this run does not have",
    ),
    (
        "wrong-type",
        "the module broke its manifest: output `rows`, column `number`: its list is of dates, and the manifest declares a number",
    ),
];

/// Of a text that a module chose, this is repeated at most, bytes.
const GUEST_TEXT_MAX: usize = 256;

/// The agent's memory while it runs a module of 64 MiB, bytes.
const MEMORY_BYTES_MAX: u64 = 128 << 20;

/// All of them together; one alone may take 10 s by its manifest, and a program that never ends would take for ever.
const TIME_MAX: Duration = Duration::from_secs(90);

#[test]
fn every_bad_module_ends_in_one_clear_error_and_the_others_run() -> TestResult {
    let bad: Vec<String> = BAD.iter().map(|(name, _)| format!("bad/{name}")).collect();
    let mut modules = vec!["control", "gp-monthly"];
    modules.extend(bad.iter().map(String::as_str));
    let stage = Stage::new(&modules)?;
    let site = site(&stage)?;
    let (run, used) = finish_watched(site.agent().args(["--json", "run"]))?;
    let run = run.expect(3)?;

    let told = run.json()?;
    for (name, why) in BAD {
        let error = told["modules"].as_array().and_then(|all| all.iter().find(|one| one["module"] == name));
        let error = error.and_then(|module| module["error"].as_str()).unwrap_or_default();
        let fits = if name == "error-with-long-text" { error.starts_with(why) } else { error == why };
        assert!(fits, "{name} ended with `{error}`");
        assert!(error.len() < GUEST_TEXT_MAX + 30 && !error.contains(char::is_control), "{name}: {error:?}");
    }
    assert!(used.memory_bytes > 64 << 20, "one of them takes 64 MiB, and that was not seen: {used:?}");
    assert!(used.memory_bytes < MEMORY_BYTES_MAX && used.time < TIME_MAX, "{used:?}");

    // The others ran, before the bad ones, between them and after them.
    assert_eq!(told["acknowledged"].as_array().map(Vec::len), Some(8));
    let stored = stage.linker.command(&["--json", "bundles"])?.ok()?.json()?;
    assert_eq!(counted(&stored["bundles"], "module"), [("control".into(), 4), ("gp-monthly".into(), 4)]);

    // Nothing half-done stays, and the ledger has told each failure once.
    for folder in ["sealing", "queued", "removing"] {
        assert_eq!(std::fs::read_dir(site.state().join("outbox").join(folder))?.count(), 0, "{folder}");
    }
    let history = site.command(&["--json", "history"])?.ok()?.json()?;
    let entries = history["entries"].as_array().cloned().unwrap_or_default();
    let failed = Value::from_iter(entries.into_iter().filter(|entry| entry["event"] == "failed"));
    assert_eq!(counted(&failed, "module"), BAD.map(|(name, _)| (name.to_owned(), 1)));
    Ok(())
}

#[test]
fn the_table_of_bad_modules_is_complete() -> TestResult {
    let stage = lockgate_tests::Binaries::locate()?;
    let mut there = BTreeSet::new();
    for file in std::fs::read_dir(stage.root().join("guest-modules/bad/manifests"))? {
        let file = file?.path();
        there.insert(file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    }
    let quiet = ["cell-a-patient", "counts-one-as-many", "hides-in-floats", "remembers", "tells-order"];
    let tested = BAD.iter().map(|(name, _)| *name).chain(["control", "foreign-import"]).chain(quiet);
    assert_eq!(there, tested.map(str::to_owned).collect());
    Ok(())
}

#[test]
fn a_module_that_imports_more_than_our_world_is_not_published() -> TestResult {
    let stage = Stage::unpublished(lockgate_tests::AS_OF)?;
    let error = stage.registry.add_guest("bad/foreign-import").err().map(|error| error.to_string());
    let error = error.unwrap_or_default();
    assert!(error.contains("the component imports wasi:clocks/monotonic-clock@0.2.0"), "{error}");
    Ok(())
}

#[test]
fn a_module_with_fuel_without_end_is_stopped_by_the_clock() -> TestResult {
    let stage = Stage::unpublished(lockgate_tests::AS_OF)?;
    let manifest =
        std::fs::read_to_string(stage.binaries.root().join("guest-modules/bad/manifests/loop-forever.toml"))?;
    let endless = manifest.replace("fuel = 500_000_000", "fuel = 9_000_000_000_000_000_000");
    let endless = endless.replace("wall-clock-s = 10", "wall-clock-s = 1");
    assert_ne!(manifest, endless);
    let file = stage.folder().join("endless.toml");
    std::fs::write(&file, endless)?;
    stage.registry.add_module(&file, &stage.binaries.guest("bad/loop-forever")?, &[])?;
    stage.registry.add_examples()?;
    stage.registry.publish()?;
    let site = site(&stage)?;
    let (run, used) = finish_watched(site.agent().args(["--json", "run"]))?;
    let told = run.expect(3)?.json()?;
    assert_eq!(
        told["modules"][0]["error"], "the module runs for longer than the 1 s that its manifest allows",
        "{told}"
    );
    assert!((1..8).contains(&used.time.as_secs()), "{used:?}");
    Ok(())
}

#[test]
fn a_flood_of_log_lines_is_cut() -> TestResult {
    let stage = Stage::new(&["bad/log-flood"])?;
    let site = site(&stage)?;
    let run = site.command(&["--log", "info", "run"])?.expect(3)?;
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("flood flood")).collect();
    assert!((1..=1_000).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.len() < GUEST_TEXT_MAX + 100), "{}", lines[0]);
    Ok(())
}

#[test]
fn a_module_cannot_draw_on_the_operators_terminal() -> TestResult {
    let stage = Stage::new(&["bad/error-with-long-text"])?;
    let site = site(&stage)?;
    for arguments in [&["--log", "trace", "run"][..], &["history"], &["preview", "error-with-long-text"]] {
        let shown = site.command(arguments)?;
        let text = shown.stdout + &shown.stderr;
        assert!(text.contains("all is well"), "the text was not shown at all: {text}");
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    }
    Ok(())
}

fn site(stage: &Stage) -> anyhow::Result<Site> {
    let database = stage.practice_database("practice", 200)?;
    stage.site("practice", SiteOptions::practice("A81001", Path::new(&database)))
}

/// How often each value of a field is there, by value.
fn counted(entries: &Value, field: &str) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for entry in entries.as_array().into_iter().flatten() {
        *counts.entry(entry[field].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts.into_iter().collect()
}
