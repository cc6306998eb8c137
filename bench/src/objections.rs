//! The objection register of the largest practice: 125,000 patients, 200,000 rows of evidence.
//!
//! The agent previews one month of a practice without any other entry, twice: with the evidence, and with one row of it. The
//! difference is what reading and deciding the evidence takes, the lookups of every patient in the register among it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use lockgate_tests::command::finish;

use crate::data::{Data, FreshSite, LARGEST};
use crate::process::{self, medians};

/// Turns of each side.
const TURNS: usize = 7;

const EVIDENCE_ROWS: u32 = 200_000;

/// Dissents and withdrawals of both types in three systems, one or two a patient, some undated, some deleted. Codes get ids that
/// no other has.
const EVIDENCE: &str = "
INSERT INTO Coding_ClinicalCode (CodeId, CodeSystem, Code, Term, EntryKind) VALUES
    (900000, 'SCT', '827241000000103', '', 'CONS'), (900001, 'RCT2', '9Nu0', '', 'CONS'),
    (900002, 'CTV3', 'XaZ89', '', 'CONS'), (900003, 'SCT', '827261000000102', '', 'CONS'),
    (900004, 'SCT', '881561000000100', '', 'CONS'), (900005, 'RCT2', '9Nu4.', '', 'CONS'),
    (900006, 'RCT2', '9Nu1.00', '', 'CONS'), (900007, 'CTV3', 'XaaVM', '', 'CONS');
WITH RECURSIVE row (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM row WHERE n + 1 < @rows),
patient AS (SELECT PatientId, row_number() OVER (ORDER BY PatientId) - 1 AS place FROM Admin_Patient),
many AS (SELECT count(*) AS patients FROM patient)
INSERT INTO CareRecord_Observation (PatientId, EnteredDate, EffectiveDate, CodeSystem, Code, EntryKind, IsDeleted,
    IsConfidential, CodeId, ObservationId)
SELECT p.PatientId, '2014-01-01', CASE WHEN n % 50 = 0 THEN '' ELSE date('2014-01-01', (n * 7919 % 4000) || ' days') END,
       c.CodeSystem, c.Code, 'CONS', n % 40 = 0, 0, c.CodeId, 1000000 + n
FROM row, many JOIN patient AS p ON p.place = n * 7919 % many.patients
JOIN Coding_ClinicalCode AS c ON c.CodeId = 900000 + n % 8;
";

pub(crate) fn register(data: &Data) -> anyhow::Result<(f64, String)> {
    let practice = data.practice(LARGEST)?;
    let with = stored(data, &practice, "with-evidence", EVIDENCE_ROWS)?;
    let without = stored(data, &practice, "without-evidence", 1)?;
    let sites = [FreshSite::new(&with, &[])?, FreshSite::new(&without, &[])?];
    let mut used = [Vec::new(), Vec::new()];
    // One turn first that does not count, so that the file cache is as warm for the first as for the last.
    for turn in 0..=TURNS {
        for (site, used) in sites.iter().zip(&mut used) {
            let mut preview = site.site.agent();
            preview.args(["preview", "gp-monthly"]);
            let one = process::run(&preview, None)?;
            if turn > 0 {
                used.push(one);
            }
        }
    }
    let [with, without] = used.map(|used| medians(&used));
    ensure!(with.wall_s > without.wall_s, "evidence takes no time: {} s, {} s", with.wall_s, without.wall_s);
    let detail = format!(
        "{:.2} s with {EVIDENCE_ROWS} rows, {:.2} s with one; peak {:.0} MiB",
        with.wall_s, without.wall_s, with.peak_mib
    );
    Ok((with.wall_s - without.wall_s, detail))
}

/// A copy of a practice whose only entries are so many rows of evidence.
fn stored(data: &Data, practice: &Path, name: &str, rows: u32) -> anyhow::Result<PathBuf> {
    let path = data.folder().join(name).with_extension("sqlite");
    std::fs::copy(practice, &path)?;
    let sql = format!(
        "DELETE FROM CareRecord_Observation; DELETE FROM Prescribing_IssueRecord; {} ANALYZE; VACUUM;",
        EVIDENCE.replace("@rows", &rows.to_string())
    );
    finish(Command::new("sqlite3").arg(&path).arg(sql))?.ok()?;
    Ok(path)
}
