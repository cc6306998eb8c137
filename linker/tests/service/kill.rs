//! The linker dies, is started again, and everything is sent again: one copy, and nothing acknowledged is lost.

use std::process::Command;
use std::time::Duration;

use crate::fixture::{Answer, Bundle, Linker, names_in};

/// What must hold after any crash, once everything was sent again.
fn check(linker: &Linker, bundles: &[Bundle], receipts: &[Vec<u8>]) {
    for (bundle, receipt) in bundles.iter().zip(receipts) {
        assert_eq!(linker.post(&bundle.signed), Answer::Receipt(receipt.clone()));
    }
    let stored = linker.json(&["bundles"]);
    let stored = stored["bundles"].as_array().unwrap();
    assert_eq!(stored.len(), bundles.len(), "exactly one of each");
    assert!(stored.iter().all(|bundle| bundle["accepted-at-s"].is_i64()));
    let blocks: usize = bundles.iter().map(|bundle| bundle.blocks.len()).sum();
    assert_eq!(names_in(&linker.objects().join("blocks")), blocks, "exactly one of each, nothing unfinished");
    assert_eq!(names_in(&linker.objects().join("headers")), bundles.len());
    for bundle in bundles {
        let file = linker.path("out.lockgate");
        let file = file.to_str().unwrap();
        linker.run(&["export", &bundle.id().to_string(), file]);
        assert_eq!(linker.code(&["verify", file]), 0, "what is stored verifies");
        assert_eq!(std::fs::read(file).unwrap(), bundle.carried());
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn it_may_die_at_every_stage() {
    for point in lockgate_linker::failpoint::ALL {
        let mut linker = Linker::start();
        let token = linker.add_site("A81001");
        let site = crate::fixture::Site::new("A81001", 1);
        let bundle = site.bundle(1, None, &[&[1; 3_000_000], b"small"]);
        let attempt = |linker: &Linker| {
            linker.try_enrol(&site, &token)?;
            linker.try_send(&bundle)
        };
        linker.restart_with(&format!("{point}=return"));
        assert!(attempt(&linker).is_err(), "{point} was not reached");
        linker.restart();
        let receipt = attempt(&linker).unwrap();
        check(&linker, &[bundle], &[receipt]);
    }
}

#[test]
fn it_may_die_at_any_time() {
    let mut linker = Linker::start();
    let site = linker.enrol("A81001", 1);
    let mut bundles: Vec<Bundle> = Vec::new();
    for sequence in 1..=12 {
        let block = vec![sequence as u8; 2_000_000];
        let previous = bundles.last().map(Bundle::id);
        bundles.push(site.bundle(sequence, previous, &[&block, format!("small {sequence}").as_bytes()]));
    }
    let mut receipts = Vec::new();
    for (bundle, delay_ms) in bundles.iter().zip([0, 1, 2, 3, 5, 7, 9, 12, 15, 20, 30, 40]) {
        let process = linker.process().to_string();
        let first = std::thread::scope(|scope| {
            scope.spawn(move || {
                // No moment is the right one: this is the moment.
                std::thread::sleep(Duration::from_millis(delay_ms));
                Command::new("kill").args(["-9", &process]).status().unwrap();
            });
            linker.try_send(bundle)
        });
        linker.restart();
        let receipt = linker.try_send(bundle).unwrap();
        if let Ok(first) = first {
            assert_eq!(first, receipt, "what was acknowledged is not lost");
        }
        receipts.push(receipt);
    }
    check(&linker, &bundles, &receipts);
}
