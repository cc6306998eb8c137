//! Old versions, versions that do not belong together, and versions from the future.

use lockgate_signing::keys::SigningKey;
use zeroize::Zeroizing;

use super::case::Case;
use crate::TestResult;

#[test]
fn rollback_of_the_timestamp() -> TestResult {
    let case = Case::new()?;
    let old = std::fs::read(case.forge.file("timestamp.json"))?;
    case.forge.revise("timestamp", |_| {})?;
    case.refreshes()?;
    std::fs::write(case.forge.file("timestamp.json"), old)?;
    case.is_refused("went back: timestamp is version")
}

#[test]
fn rollback_of_the_snapshot() -> TestResult {
    let case = Case::new()?;
    let old = case.forge.says("timestamp")?["meta"].clone();
    case.forge.revise("snapshot", |_| {})?;
    case.refreshes()?;
    case.forge.revise("timestamp", |it| it["meta"] = old)?;
    case.is_refused("went back: snapshot (via timestamp) is version")
}

#[test]
fn rollback_of_every_list() -> TestResult {
    for list in Case::new()?.forge.lists()? {
        let case = Case::new()?;
        let old = case.forge.says("snapshot")?["meta"].clone();
        case.forge.revise(&list, |_| {})?;
        case.refreshes()?;
        case.forge.revise("snapshot", |it| it["meta"] = old)?;
        case.is_refused(&format!("went back: {list}.json (via snapshot) is version"))?;
    }
    Ok(())
}

#[test]
fn rollback_of_the_root() -> TestResult {
    let mut case = Case::new()?;
    let old = std::fs::read(case.forge.file("timestamp.json"))?;
    rotate_online_key(&mut case, 7)?;
    case.refreshes()?;
    // As it was when the old key still counted, which somebody has got hold of.
    std::fs::remove_file(case.forge.file("2.root.json"))?;
    std::fs::write(case.forge.file("timestamp.json"), old)?;
    case.is_refused("not signed by the people it should be: signature threshold not met for role timestamp")?;
    // The same, where the site's copy of the new root is gone as well.
    super::store::COPIES.iter().try_for_each(|file| std::fs::remove_file(case.trust().join(file)))?;
    let refused = case.run(lockgate_tests::AS_OF, &["refresh"])?.expect(1)?;
    anyhow::ensure!(
        refused.stderr.contains("went back: root is version 1, and this site has seen 2"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn a_list_of_another_publication() -> TestResult {
    let case = Case::new()?;
    let old = case.forge.says("snapshot")?["meta"]["modules.json"]["version"].clone();
    case.forge.revise("modules", |_| {})?;
    let new = case.forge.says("snapshot")?["meta"]["modules.json"]["version"].clone();
    let file = |version| case.forge.file(&format!("{version}.modules.json"));
    std::fs::copy(file(old), file(new))?;
    case.is_refused("does not hold what was signed: integrity check failed: modules.json")
}

#[test]
fn a_snapshot_of_another_publication() -> TestResult {
    let case = Case::new()?;
    let version = |case: &Case| Ok::<_, anyhow::Error>(case.forge.says("snapshot")?["version"].clone());
    let old = version(&case)?;
    case.forge.revise("modules", |_| {})?;
    let file = |version| case.forge.file(&format!("{version}.snapshot.json"));
    std::fs::copy(file(old), file(version(&case)?))?;
    case.is_refused("does not hold what was signed: integrity check failed: snapshot.json")
}

#[test]
fn a_snapshot_without_the_list_of_holds() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("snapshot", |it| {
        it["meta"].as_object_mut().map(|pins| pins.remove("holds.json"));
    })?;
    case.is_refused("snapshot removes holds.json")
}

#[test]
fn fast_forward_and_its_recovery() -> TestResult {
    let mut case = Case::new()?;
    let honest = case.forge.says("timestamp")?["version"].as_u64().unwrap_or_default() + 1;
    // Somebody had the online key for a moment.
    case.forge.revise("timestamp", |it| it["version"] = 4_000_000_000_u64.into())?;
    case.refreshes()?;
    case.forge.revise("timestamp", |it| it["version"] = honest.into())?;
    case.is_refused("and this site has seen 4000000000")?;
    // A new root with a new online key; the versions of the old one do not count any more.
    rotate_online_key(&mut case, 8)?;
    case.forge.revise("timestamp", |it| it["version"] = (honest + 1).into())?;
    case.refreshes()?;
    case.still_runs()
}

/// A new root, signed as roots are, with this key for snapshot and timestamp, and both signed again.
pub(super) fn rotate_online_key(case: &mut Case, seed: u8) -> TestResult {
    let (id, key) = case.forge.own(SigningKey::from_seed(&Zeroizing::new([seed; 32])));
    case.forge.revise("root", |root| {
        root["keys"][&id] = key;
        for role in ["snapshot", "timestamp"] {
            root["roles"][role]["keyids"] = vec![id.clone()].into();
        }
    })?;
    case.forge.revise("snapshot", |_| {})
}
