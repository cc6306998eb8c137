//! The site's own record of the registry: torn, rotten, gone, and cut off by a crash.

use std::path::Path;

use anyhow::{Context as _, ensure};
use lockgate_tests::AS_OF;

use super::case::Case;
use crate::TestResult;

/// Where a refresh is killed, in its order.
pub(crate) const DIES_AT: [&str; 6] = [
    "trust.before-fetch",
    "trust.fetched",
    "trust.floor-saved",
    "trust.copy-saved",
    "trust.targets-fetched",
    "trust.saved",
];

/// What was verified, and the same again.
pub(super) const COPIES: [&str; 2] = ["known.json", "known.copy.json"];

type Damage = fn(&Path) -> std::io::Result<()>;

const DAMAGES: [(&str, Damage); 4] = [
    ("torn", |file| {
        let bytes = std::fs::read(file)?;
        std::fs::write(file, &bytes[..bytes.len() / 2])
    }),
    ("rotten", |file| {
        let mut bytes = std::fs::read(file)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes)
    }),
    ("empty", |file| std::fs::write(file, "")),
    ("gone", |file| std::fs::remove_file(file)),
];

impl Case {
    fn damage_copies(&self, damage: Damage) -> TestResult {
        COPIES.iter().try_for_each(|file| Ok(damage(&self.trust().join(file))?))
    }
}

#[test]
fn a_damaged_copy_is_made_good_from_the_second() -> TestResult {
    for (what, damage) in DAMAGES {
        let case = Case::new()?;
        damage(&case.trust().join("known.json"))?;
        let refreshed = case.refreshes()?;
        ensure!(refreshed.stderr.contains("its second copy is whole"), "{what}: {refreshed:?}");
        ensure!(!case.refreshes()?.stderr.contains("second copy"), "{what}: it is said again");
        // The other one: nothing is lost, and it is written again.
        damage(&case.trust().join("known.copy.json"))?;
        case.refreshes()?;
        let [first, second] = COPIES.map(|file| std::fs::read(case.trust().join(file)));
        ensure!(first? == second?, "{what}: the second copy was not written again");
        case.still_runs()?;
    }
    Ok(())
}

#[test]
fn a_damaged_copy_and_an_old_registry_or_none() -> TestResult {
    for (what, damage) in DAMAGES {
        let case = Case::new()?;
        let old = std::fs::read(case.forge.file("timestamp.json"))?;
        case.forge.revise("timestamp", |_| {})?;
        case.refreshes()?;
        std::fs::write(case.forge.file("timestamp.json"), old)?;
        damage(&case.trust().join("known.json"))?;
        case.is_refused("went back: timestamp").with_context(|| what)?;
        damage(&case.trust().join("known.json"))?;
        case.move_registry("http://127.0.0.1:1/")?;
        case.is_refused("cannot be read").with_context(|| what)?;
    }
    Ok(())
}

#[test]
fn damaged_copies_are_built_again() -> TestResult {
    for (what, damage) in DAMAGES {
        let case = Case::new()?;
        case.damage_copies(damage)?;
        let refreshed = case.refreshes()?;
        ensure!(refreshed.stderr.contains("it is built again from the pinned root"), "{what}: {refreshed:?}");
        ensure!(!case.refreshes()?.stderr.contains("built again"), "{what}: it is said again");
        case.still_runs()?;
    }
    Ok(())
}

#[test]
fn damaged_copies_while_nobody_answers() -> TestResult {
    let case = Case::new()?;
    let answers = case.forge.repository().display().to_string();
    case.damage_copies(|file| std::fs::write(file, "torn"))?;
    case.move_registry("http://127.0.0.1:1/")?;
    let told = "what this site knew of its registry is lost";
    let refused = case.run(AS_OF, &["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("cannot be read") && refused.stderr.contains(told), "{}", refused.stderr);
    let refused = case.run(AS_OF, &["modules"])?.expect(1)?;
    ensure!(refused.stderr.contains(told) && !refused.stderr.contains("never"), "{}", refused.stderr);
    case.move_registry(&answers)?;
    case.refreshes()?;
    case.still_runs()
}

#[test]
fn damaged_copies_do_not_let_an_old_registry_in() -> TestResult {
    for (what, damage) in DAMAGES {
        let case = Case::new()?;
        let timestamp = case.forge.file("timestamp.json");
        let old = std::fs::read(&timestamp)?;
        case.forge.revise("timestamp", |_| {})?;
        case.refreshes()?;
        let current = std::fs::read(&timestamp)?;
        std::fs::write(&timestamp, old)?;
        case.damage_copies(damage)?;
        let refused = case.run(AS_OF, &["refresh"])?.expect(1)?;
        ensure!(refused.stderr.contains("went back: timestamp"), "{what}: {refused:?}");
        std::fs::write(&timestamp, current)?;
        case.refreshes()?;
        case.still_runs()?;
    }
    Ok(())
}

#[test]
fn a_damaged_floor_is_taken_from_the_copy() -> TestResult {
    for (what, damage) in DAMAGES {
        let case = Case::new()?;
        let old = std::fs::read(case.forge.file("timestamp.json"))?;
        case.forge.revise("timestamp", |_| {})?;
        case.refreshes()?;
        damage(&case.trust().join("floor.json"))?;
        let refreshed = case.refreshes()?;
        ensure!(
            refreshed.stderr.contains("record of the versions that it has seen was damaged"),
            "{what}: {refreshed:?}"
        );
        damage(&case.trust().join("floor.json"))?;
        std::fs::write(case.forge.file("timestamp.json"), old)?;
        case.is_refused("went back: timestamp")?;
    }
    Ok(())
}

#[test]
fn a_site_that_lost_all_says_so_and_does_not_begin_anew_by_itself() -> TestResult {
    let case = Case::new()?;
    for file in COPIES.into_iter().chain(["floor.json"]) {
        std::fs::write(case.trust().join(file), "torn")?;
    }
    let refused = case.run(AS_OF, &["refresh"])?.expect(1)?;
    ensure!(
        refused.stderr.contains("record of what it has seen of the registry is lost"),
        "{}",
        refused.stderr
    );
    // The remedy that it names. It is told, for whoever did not do it.
    std::fs::remove_dir_all(case.trust())?;
    let told = "nothing of the registry was known here";
    ensure!(case.refreshes()?.stderr.contains(told), "it is not told");
    let status = case.run(AS_OF, &["status"])?.expect(6)?;
    ensure!(status.stdout.contains(told), "{}", status.stdout);
    ensure!(!case.refreshes()?.stderr.contains(told), "it is told again");
    case.still_runs()
}

#[test]
fn targets_that_rot_on_the_disk_are_fetched_again() -> TestResult {
    let case = Case::new()?;
    for file in std::fs::read_dir(case.trust().join("targets"))? {
        std::fs::write(file?.path(), "rotten")?;
    }
    case.refreshes()?;
    case.still_runs()
}

#[test]
fn a_kill_at_every_place_of_a_refresh() -> TestResult {
    for place in DIES_AT {
        let case = Case::new()?;
        case.forge.revise("modules", |_| {})?;
        case.refresh_dies_at(place)?;
        case.still_runs()?;
        let refreshed = case.refreshes()?;
        ensure!(!refreshed.stderr.contains("damaged"), "{place}: {refreshed:?}");
        let old = std::fs::read(case.forge.file("timestamp.json"))?;
        case.forge.revise("timestamp", |_| {})?;
        case.refresh_dies_at(place)?;
        if !matches!(place, "trust.before-fetch" | "trust.fetched") {
            // The floor is what it is written first for: the metadata is still the old one where it was killed then.
            let current = std::fs::read(case.forge.file("timestamp.json"))?;
            std::fs::write(case.forge.file("timestamp.json"), &old)?;
            case.is_refused("went back: timestamp").with_context(|| place)?;
            std::fs::write(case.forge.file("timestamp.json"), current)?;
        }
        // Whether the killed one saw the new version or not, the one before it is not let in after it was seen.
        case.refreshes()?;
        std::fs::write(case.forge.file("timestamp.json"), old)?;
        case.is_refused("went back: timestamp")?;
    }
    Ok(())
}

#[test]
fn a_kill_at_every_place_of_the_first_refresh() -> TestResult {
    let case = Case::new()?;
    for place in DIES_AT {
        std::fs::remove_dir_all(case.trust())?;
        case.refresh_dies_at(place)?;
        case.refreshes().with_context(|| format!("after a first refresh that was killed at {place}"))?;
    }
    case.still_runs()
}
