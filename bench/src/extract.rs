//! A whole extraction against `sqlite3 -csv`.
//!
//! Ours: `lockgate-agent run --no-push`, from the start of the process to sealed and signed bundles on stable storage, with
//! everything that a run does (registry, objections, identity, four periods of `gp-monthly`). The peer: `sqlite3 -csv` that
//! writes the same columns of the same rows to a file, one plain `SELECT` a table. Both read a warm file cache.

use std::process::Command;

use anyhow::ensure;

use crate::data::{Data, FreshSite, LARGE, TEN_TIMES};
use crate::process::{self, medians};

/// Turns of each side.
const TURNS: usize = 5;

/// The columns that `gp-monthly` reads, as the mapping `gp-extract` finds them, in the window of the first run.
const SAME_ROWS: &str = "
SELECT o.PatientId, o.EffectiveDate, o.EnteredDate, o.Code, o.CodeSystem, o.NumericValue, o.NumericUnit, o.EntryKind
FROM CareRecord_Observation AS o WHERE o.IsDeleted = 0 AND o.IsConfidential = 0
  AND o.EnteredDate >= '2026-07-01' AND o.EnteredDate < '2026-11-01';
SELECT i.PatientId, i.EffectiveDate, i.EnteredDate, i.Code, i.CodeSystem, i.Quantity, i.CourseDurationInDays
FROM Prescribing_IssueRecord AS i WHERE i.IsDeleted = 0 AND i.IsConfidential = 0
  AND i.EnteredDate >= '2026-07-01' AND i.EnteredDate < '2026-11-01';
SELECT p.PatientId, p.Sex, p.DateOfBirth, p.EthnicCategory, p.LsoaCode, p.RegistrationDate, p.DeductionDate
FROM Admin_Patient AS p WHERE p.IsDeleted = 0;
";

pub(crate) fn over_sqlite_csv(data: &Data) -> anyhow::Result<(f64, String)> {
    let database = data.practice(LARGE)?;
    let fresh = FreshSite::new(&database, &[])?;
    let csv = data.folder().join("rows.csv");
    let mut sqlite = Command::new("sqlite3");
    sqlite.args(["-readonly", "-csv"]).arg(&database).arg(SAME_ROWS);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // One turn first that does not count, so that the file cache is as warm for the first as for the last.
    for turn in 0..=TURNS {
        let them = process::run(&sqlite, Some(&csv))?;
        fresh.reset()?;
        let us = process::run(&fresh.run_without_push(), None)?;
        if turn > 0 {
            ours.push(us);
            theirs.push(them);
        }
    }
    let (ours, theirs) = (medians(&ours), medians(&theirs));
    let rows = std::fs::read(&csv)?.iter().filter(|&&byte| byte == b'\n').count();
    ensure!(fresh.bundles()?.len() == 4, "the first run makes four bundles");
    let detail = format!(
        "{:.2} s ({:.2} s on all cores, {:.0} MiB) ÷ {:.2} s ({:.2} s) for {rows} rows; CPU time alone {:.2}",
        ours.wall_s,
        ours.cpu_s,
        ours.peak_mib,
        theirs.wall_s,
        theirs.cpu_s,
        ours.cpu_s / theirs.cpu_s
    );
    Ok((ours.wall_s / theirs.wall_s, detail))
}

pub(crate) fn peak_memory(data: &Data) -> anyhow::Result<(f64, String)> {
    let once = FreshSite::new(&data.practice(LARGE)?, &[])?;
    let once = process::run(&once.run_without_push(), None)?;
    let database = data.practice(TEN_TIMES)?;
    let ten_times = FreshSite::new(&database, &[("initial = \"4 months\"", "initial = \"all\"")])?;
    let ten_times = process::run(&ten_times.run_without_push(), None)?;
    // Eight gigabytes that no other row needs.
    std::fs::remove_file(database)?;
    let detail = format!(
        "5 million events: {:.0} MiB in {:.1} s; 50 million: {:.0} MiB in {:.1} s",
        once.peak_mib, once.wall_s, ten_times.peak_mib, ten_times.wall_s
    );
    Ok((once.peak_mib.max(ten_times.peak_mib), detail))
}
