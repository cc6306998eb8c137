//! The plain path, and what may not come through it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

use crate::module::PreparedModule;
use crate::module::tests::{MANIFEST, prepared, today};
use crate::staging::StagedAs;

struct Team {
    dir: TempDir,
    keys: Keyring,
    repository: Repository,
}

fn now() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

impl Team {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (folder, keys_dir) = (dir.path().join("registry"), dir.path().join("keys"));
        let (repository, keys) =
            init_on_one_machine(&folder, &keys_dir, ExpiryDays::default(), now()).unwrap();
        Self { dir, keys, repository }
    }

    fn publish(&self) -> Result<Publication, PublishError> {
        publish(&self.repository, &self.keys, &Selection::default(), ExpiryDays::default(), now())
    }

    fn renew(&self, now: Timestamp) -> Result<Publication, PublishError> {
        let all = Selection { renew: true, ..Selection::default() };
        publish(&self.repository, &self.keys, &all, ExpiryDays::default(), now)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn published(&self) -> Vec<String> {
        let published = self.repository.live().unwrap().published().unwrap();
        let modules = published.keys().map(ToString::to_string).filter(|path| path.starts_with("modules/"));
        modules.collect()
    }
}

fn module(version: &str) -> PreparedModule {
    prepared(&MANIFEST.replace("1.0.0\"\ntitle", &format!("{version}\"\ntitle")), &[], today()).unwrap()
}

fn add(team: &Team, version: &str) -> Result<StagedAs, StagingError> {
    staging::add_module(&team.repository, &module(version)).map(|(_, staged)| staged)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn what_is_staged_goes_live_once() {
    let team = Team::new();
    assert_eq!(team.publish().unwrap(), Publication::NothingStaged);
    assert_eq!(add(&team, "1.0.0").unwrap(), StagedAs::New);
    assert_eq!(add(&team, "1.0.0").unwrap(), StagedAs::Unchanged);
    assert_eq!(team.published().len(), 0, "staging changes nothing");
    assert!(matches!(team.publish().unwrap(), Publication::Published { version: 2, .. }));
    assert_eq!(
        team.published(),
        ["modules/example/1.0.0/manifest.toml", "modules/example/1.0.0/component.wasm"]
    );
    assert_eq!(add(&team, "1.0.0").unwrap(), StagedAs::AlreadyPublished);
    assert_eq!(team.publish().unwrap(), Publication::NothingStaged);
    assert_eq!(add(&team, "1.1.0").unwrap(), StagedAs::New);
    assert!(matches!(team.publish().unwrap(), Publication::Published { version: 3, .. }));
    assert_eq!(team.published().len(), 4);
}

#[test]
fn a_published_version_never_changes() {
    let team = Team::new();
    let _ = add(&team, "1.0.0").unwrap();
    let _ = team.publish().unwrap();
    let changed = MANIFEST.replace("An example", "Another example");
    let changed = prepared(&changed, &[], today()).unwrap();
    let refused = staging::add_module(&team.repository, &changed);
    assert!(matches!(refused, Err(StagingError::VersionTaken { .. })), "{refused:?}");
}

#[test]
fn a_staged_file_that_was_changed_afterwards_is_refused() {
    let team = Team::new();
    let _ = add(&team, "1.0.0").unwrap();
    let staged = team.path("registry/staged/modules/example/1.0.0/component.wasm");
    let mut bytes = std::fs::read(&staged).unwrap();
    // An empty custom section: still a good component, and not the one that was checked.
    bytes.extend([0x00, 0x02, 0x01, b'x']);
    std::fs::write(&staged, bytes).unwrap();
    assert!(matches!(team.publish(), Err(PublishError::Staging(StagingError::Changed { .. }))));
    std::fs::remove_file(&staged).unwrap();
    assert!(matches!(team.publish(), Err(PublishError::Staging(StagingError::Changed { .. }))));
    std::fs::write(staged.with_file_name("notes.txt"), "x").unwrap();
    assert!(matches!(team.publish(), Err(PublishError::Staging(StagingError::Stranger(_)))));
    assert_eq!(team.published().len(), 0);
}

#[test]
fn nothing_is_signed_on_top_of_a_list_that_somebody_else_wrote() {
    let team = Team::new();
    let other = Team::new();
    let _ = add(&other, "1.0.0").unwrap();
    let keys_dir = other.path("others");
    let (foreign, _) =
        init_on_one_machine(&other.path("foreign"), &keys_dir, ExpiryDays::default(), now()).unwrap();
    copy(&foreign.dir().join("metadata"), &team.path("registry/metadata"));
    let refused = team.renew(now());
    assert!(
        matches!(refused, Err(PublishError::Repository(RepositoryError::Tampered { .. }))),
        "{refused:?}"
    );
}

#[test]
fn a_damaged_file_of_an_earlier_publication_stops_the_next() {
    let team = Team::new();
    let _ = add(&team, "1.0.0").unwrap();
    let _ = team.publish().unwrap();
    let folder = team.path("registry/targets/modules/example/1.0.0");
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::write(entry.unwrap().path(), b"x").unwrap();
    }
    let before = std::fs::read(team.path("registry/metadata/timestamp.json")).unwrap();
    assert!(matches!(team.renew(now()), Err(PublishError::Refused(_))));
    assert_eq!(std::fs::read(team.path("registry/metadata/timestamp.json")).unwrap(), before);
}

#[test]
fn an_expired_repository_can_be_renewed_until_its_root_ends() {
    let team = Team::new();
    let _ = add(&team, "1.0.0").unwrap();
    let _ = team.publish().unwrap();
    let next_year = "2027-12-01T00:00:00Z".parse().unwrap();
    assert!(matches!(team.renew(next_year).unwrap(), Publication::Published { version: 3, .. }));
    let after_the_root = "2030-01-01T00:00:00Z".parse().unwrap();
    assert!(matches!(team.renew(after_the_root), Err(PublishError::Refused(_))));
}

#[test]
fn an_interrupted_publication_is_invisible_and_does_not_hinder_the_next() {
    let team = Team::new();
    let _ = add(&team, "1.0.0").unwrap();
    let last_writes = ["registry/metadata/timestamp.json", "keys/published.json"].map(|name| team.path(name));
    let before = last_writes.clone().map(|file| std::fs::read(file).unwrap());
    let _ = team.publish().unwrap();
    // Everything but the last writes happened.
    for (file, bytes) in last_writes.iter().zip(before) {
        std::fs::write(file, bytes).unwrap();
    }
    assert_eq!(team.published().len(), 0);
    let _ = add(&team, "2.0.0").unwrap();
    let _ = team.publish().unwrap();
    assert_eq!(team.published().len(), 2);
}

#[test]
fn a_repository_that_went_back_is_not_signed_on() {
    let team = Team::new();
    let _ = add(&team, "1.0.0").unwrap();
    let timestamp = team.path("registry/metadata/timestamp.json");
    let before = std::fs::read(&timestamp).unwrap();
    let _ = team.publish().unwrap();
    std::fs::write(&timestamp, before).unwrap();
    assert!(matches!(team.renew(now()), Err(PublishError::Floor(FloorError::WentBack { .. }))));
}

#[test]
fn a_second_process_waits_its_turn() {
    let team = Team::new();
    let _lock = team.repository.lock().unwrap();
    assert!(matches!(team.publish(), Err(PublishError::Repository(RepositoryError::Busy(_)))));
}

#[test]
fn a_repository_and_its_keys_are_never_overwritten() {
    let team = Team::new();
    let refused = |dir: &str, keys: &str| Repository::check_places(&team.path(dir), &team.path(keys));
    assert!(matches!(refused("registry", "new-keys"), Err(RepositoryError::NotEmpty(_))));
    assert!(matches!(refused("new", "keys"), Err(RepositoryError::KeysInUse(_))));
    assert!(matches!(refused("new", "new/keys"), Err(RepositoryError::KeysInRepository(_))));
    let pem = std::fs::read(team.path("keys/root-1.pem")).unwrap();
    Keyring::create(&team.path("keys")).unwrap();
    assert_eq!(std::fs::read(team.path("keys/root-1.pem")).unwrap(), pem);
}
