//! The import of `synthea-300`, where it is there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use indicatif::ProgressBar;
use practice::draft::{Finish, Journal};
use practice::facts::facts;
use practice::synthea::{self, ImportRequest};
use rusqlite::Connection;

/// The folder of an archive of the shared data, unpacked once into the build's own folder; `None` where there is none.
fn shared(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("LOCKGATE_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let archive = folder.join(format!("{name}.tar.xz"));
    if !archive.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", archive.display());
        println!("skipped: no shared data");
        return None;
    }
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../data");
    let unpacked = data.join(name);
    if !unpacked.exists() {
        // Unpacked under another name first: a test that was interrupted must not leave half of it.
        let half = data.join(format!("{name}.{}.tmp", std::process::id()));
        std::fs::create_dir_all(&half).unwrap();
        let tar = Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(&half).status().unwrap();
        assert!(tar.success());
        // Another test may have been faster.
        let _ = std::fs::rename(half.join(name), &unpacked);
        let _ = std::fs::remove_dir_all(&half);
    }
    Some(unpacked)
}

#[test]
fn every_row_of_the_csv_is_somewhere_or_counted() {
    let Some(csv) = shared("synthea-300") else { return };
    let folder = tempfile::tempdir().unwrap();
    let request = ImportRequest {
        seed: 1,
        as_of: jiff::civil::date(2026, 1, 1),
        objections_per_mille: 50,
        replace: false,
        finish: Finish { journal: Journal::Rollback, shuffle: None },
    };
    let made = synthea::import(&request, &csv, folder.path(), &ProgressBar::hidden()).unwrap();
    assert_eq!(made.patients, 300);
    assert_eq!(made.spells, 3_088 + 643);
    let mut consent = 0;
    for (practice, file) in ["practice-1.sqlite", "practice-2.sqlite"].into_iter().enumerate() {
        let database = Connection::open(folder.path().join(file)).unwrap();
        let one = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(one("SELECT count(*) FROM CareRecord_Observation") as u64, made.observations[practice]);
        let patients = one("SELECT count(*) FROM Admin_Patient");
        assert!((120..180).contains(&patients), "{patients}");
        assert_eq!(
            one(
                "SELECT count(*) FROM CareRecord_Observation WHERE CodeId NOT IN (SELECT CodeId FROM Coding_ClinicalCode)"
            ),
            0
        );
        consent += one("SELECT count(*) FROM CareRecord_Observation WHERE EntryKind = 'CONS'");
        let decided = facts(&folder.path().join(file), request.as_of, 12).unwrap();
        assert!(decided.type_1 > 0 && decided.nhs_numbers_shared == 0, "{decided:?}");
    }
    // Observations, conditions, procedures, medicines and immunisations of the archive.
    let rows = 328_102 + 32_291 + 65_976 + 8_648 + 17_557;
    let kept = made.observations.iter().sum::<u64>() + made.issues.iter().sum::<u64>() + made.codes;
    assert_eq!(kept + made.left_out - consent as u64, rows);
    let hospital = Connection::open(folder.path().join("hospital.sqlite")).unwrap();
    let one = |sql: &str| hospital.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(one("SELECT count(*) FROM Pas_Consent") > 0);
    assert_eq!(one("SELECT count(*) FROM Apc_Coding") as u64, made.codes);
}

#[test]
fn a_folder_that_is_not_of_synthea_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("patients.csv"), "id,birthdate\n1,2000-01-01\n").unwrap();
    let request = ImportRequest {
        seed: 1,
        as_of: jiff::civil::date(2026, 1, 1),
        objections_per_mille: 50,
        replace: false,
        finish: Finish { journal: Journal::Rollback, shuffle: None },
    };
    let out = folder.path().join("out");
    let error = synthea::import(&request, folder.path(), &out, &ProgressBar::hidden()).unwrap_err();
    assert!(error.to_string().contains("patients.csv"), "{error}");
    assert!(!out.exists());
}
