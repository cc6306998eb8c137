//! The linker's disk is full, at each place where it writes; then there is space again.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::fixture::{Answer, Linker, Site, names_in, problem_of};

/// Writes until nothing more fits, but for this many bytes.
fn fill(ballast: &Path, but_bytes: u64) {
    let mut file = fs::File::create(ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length - but_bytes).unwrap();
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let Some((linker, token)) = Linker::start_on_small_disk(16) else {
        eprintln!("not tested: this machine does not let a user mount a file system");
        return;
    };
    let ballast = linker.data_inside().join("ballast");
    let blocks = linker.data_inside().join("objects/blocks");
    let site = Site::new("A81001", 1);
    linker.try_enrol(&site, &token).unwrap();
    let first = site.bundle(1, None, &[b"block"]);
    linker.send(&first);
    let (large, small) = (vec![2; 5_000_000], vec![3; 1_000]);
    let second = site.bundle(2, Some(first.id()), &[&large, &small]);

    // 1. The database.
    fill(&ballast, 0);
    assert_eq!(linker.refused(&second.signed), "disk-full");
    fs::remove_file(&ballast).unwrap();
    assert!(matches!(linker.post(&second.signed), Answer::Missing(_)));

    // 2. A block that does not fit, after a part of it was written.
    fill(&ballast, 2 << 20);
    assert_eq!(problem_of(linker.put(&large, &large)), "disk-full");
    assert_eq!(names_in(&blocks), 1, "what was written of it is gone");
    fs::remove_file(&ballast).unwrap();
    assert_eq!(linker.put(&large, &large).status(), 204);
    assert_eq!(linker.put(&small, &small).status(), 204);

    // 3. The header and the acceptance.
    fill(&ballast, 0);
    assert_eq!(linker.refused(&second.signed), "disk-full");
    fs::remove_file(&ballast).unwrap();
    assert!(matches!(linker.post(&second.signed), Answer::Receipt(_)));
    assert!(matches!(linker.post(&first.signed), Answer::Receipt(_)));
    assert_eq!(names_in(&blocks), 3);
}
