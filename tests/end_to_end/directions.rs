//! A direction lets in who objects by Type 1: for its module, on its days, at sites that accepted it, and for nothing else.

use std::path::Path;

use anyhow::ensure;
use lockgate_tests::opened::{Cell, OpenedBundle};
use lockgate_tests::{Site, SiteOptions, Stage};

use crate::TestResult;
use crate::record::{DISSENT, Entry, PLAIN, Record};

/// Somebody without an objection, an objector, and objectors who are a test patient or marked as sensitive.
fn practice(path: &Path) -> anyhow::Result<Record> {
    let record = Record::create(path)?;
    for (id, person) in [("1000001", 1), ("1000002", 2), ("1000003", 3), ("1000004", 4)] {
        record.patient(id, person, "E01990001")?;
        for entered in ["2026-10-10", "2026-11-10"] {
            record.entry(&Entry { patient: id, entered, ..PLAIN })?;
            // On the sensitive list.
            record.entry(&Entry {
                patient: id,
                entered,
                code: "86406008",
                value: None,
                unit: None,
                ..PLAIN
            })?;
        }
        if person > 1 {
            record.entry(&Entry { patient: id, ..DISSENT })?;
        }
    }
    // The module `control` gives up on a month without an observation, and a first run makes four months.
    for entered in ["2026-07-10", "2026-08-10", "2026-09-10"] {
        record.entry(&Entry { patient: "1000001", entered, effective: Some(entered), ..PLAIN })?;
    }
    record.connection.execute_batch(
        "UPDATE Admin_Patient SET PatientKind = 'test' WHERE PatientId = '1000003';
         UPDATE Admin_Patient SET IsSensitive = 'true' WHERE PatientId = '1000004'",
    )?;
    Ok(record)
}

fn publish(stage: &Stage, overrides: &str) -> TestResult {
    let text = format!(
        "format = 1\nid = \"influenza\"\nversion = \"1.0.0\"\ntitle = \"Influenza\"\nlegal-basis = \"Regulation 3(4)\"\n\
         module = \"gp-monthly\"\noverrides = [{overrides}]\nnot-before = \"2026-11-01\"\nnot-after = \"2026-11-30\"\nto = \"all\"\n"
    );
    let file = stage.folder().join("influenza.toml");
    std::fs::write(&file, text)?;
    stage.registry.add_text("direction", &file)?;
    stage.registry.publish()
}

/// The preview of October as JSON: withheld, let in, and how many directions are applied.
fn previewed(site: &Site, module: &str) -> anyhow::Result<(u64, u64, usize)> {
    let shown = site.command(&["--json", "preview", module, "--period", "2026-10"])?.ok()?.json()?;
    let count = |name: &str| shown["counts"][name].as_u64().unwrap_or_default();
    let directions = shown["directions"].as_array().map_or(0, Vec::len);
    Ok((count("withheld-type-1"), count("let-in"), directions))
}

fn of_module<'b>(
    bundles: &'b [OpenedBundle],
    module: &str,
    period: &str,
) -> anyhow::Result<&'b OpenedBundle> {
    let of = |bundle: &&OpenedBundle| {
        bundle.header.module.id.as_str() == module && bundle.header.period.to_string() == period
    };
    bundles.iter().rev().find(of).ok_or_else(|| anyhow::anyhow!("no bundle of {module} for {period}"))
}

#[test]
fn an_accepted_direction_lets_in_who_objects_for_its_module_and_its_days() -> TestResult {
    let stage = Stage::new(&["gp-monthly", "control"])?;
    let database = stage.folder().join("practice.sqlite");
    let _record = practice(&database)?;
    let mut site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    publish(&stage, "\"type-1\"")?;

    // Published is not accepted, and refused is not accepted; a preview is no question to the site.
    site.command(&["refresh"])?.ok()?;
    ensure!(previewed(&site, "gp-monthly")? == (2, 0, 0), "{:?}", previewed(&site, "gp-monthly")?);
    site.command(&["directions", "refuse", "influenza"])?.ok()?;
    ensure!(previewed(&site, "gp-monthly")? == (2, 0, 0), "{:?}", previewed(&site, "gp-monthly")?);
    site.command(&["directions", "accept", "influenza"])?.ok()?;
    // One of the two: who is marked as sensitive stays out, and test patients are in no count.
    ensure!(previewed(&site, "gp-monthly")? == (0, 1, 1), "{:?}", previewed(&site, "gp-monthly")?);
    ensure!(previewed(&site, "control")? == (2, 0, 0), "{:?}", previewed(&site, "control")?);
    let shown = site.command(&["preview", "gp-monthly", "--period", "2026-10"])?.ok()?.stdout;
    ensure!(shown.contains("1 patients with a Type 1 objection are let in"), "{shown}");

    site.run()?;
    let november = OpenedBundle::stored(&stage.linker, &site)?;
    let let_in = of_module(&november, "gp-monthly", "2026-10")?;
    ensure!(let_in.patients.len() == 2 && let_in.header.counts.let_in == 1, "{:?}", let_in.header.counts);
    ensure!(let_in.header.directions.len() == 1, "the header names no direction");
    let codes = let_in.rows("events").iter().filter_map(|row| row.get("code"));
    ensure!(codes.eq([&Cell::Code("snomed".into(), "60621009".into()); 2]), "a sensitive code was let in");
    let other = of_module(&november, "control", "2026-10")?;
    ensure!(
        other.header.directions.is_empty() && other.header.counts.withheld_type_1 == 2,
        "{:?}",
        other.header.counts
    );
    for command in [&["history"][..], &["status"]] {
        let shown = site.command(command)?.ok()?.stdout;
        ensure!(shown.contains("influenza"), "{command:?} does not show the direction: {shown}");
    }
    ensure!(
        site.command(&["history"])?.ok()?.stdout.contains("by direction"),
        "the history shows no override"
    );

    // On the day after its last day it is as if it had not been, for the month before too.
    site.options.as_of = "2026-12-01".to_owned();
    site.run()?;
    let december = OpenedBundle::stored(&stage.linker, &site)?;
    for period in ["2026-10", "2026-11"] {
        let bundle = of_module(&december, "gp-monthly", period)?;
        ensure!(
            bundle.header.directions.is_empty() && bundle.header.counts.let_in == 0,
            "{period}: still let in"
        );
        ensure!(bundle.patients.len() == 1, "{period}: {} patients", bundle.patients.len());
    }
    ensure!(
        of_module(&december, "gp-monthly", "2026-10")?.header.supersedes == Some(let_in.id),
        "October is not replaced"
    );
    Ok(())
}

#[test]
fn sensitive_codes_are_let_in_only_by_a_direction_that_says_so() -> TestResult {
    let stage = Stage::new(&["gp-monthly"])?;
    let database = stage.folder().join("practice.sqlite");
    let _record = practice(&database)?;
    let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
    publish(&stage, "\"sensitive\"")?;
    site.command(&["refresh"])?.ok()?;
    site.command(&["directions", "accept", "influenza"])?.ok()?;
    site.run()?;
    let bundles = OpenedBundle::stored(&stage.linker, &site)?;
    let october = of_module(&bundles, "gp-monthly", "2026-10")?;
    let counts = &october.header.counts;
    ensure!((counts.withheld_type_1, counts.let_in, counts.rows_sensitive) == (2, 0, 0), "{counts:?}");
    ensure!(october.rows("events").len() == 2 && october.patients.len() == 1, "{:?}", october.rows("events"));
    Ok(())
}
