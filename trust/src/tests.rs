//! One test a question. The attacks through the real agent are in `tests/end_to_end/attacks`.

use std::path::Path;

use lockgate_signing::cohort::Cohort;
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use lockgate_signing::manifest::Manifest;
use lockgate_signing::policy::SensitiveCodes;
use lockgate_signing::target::TargetKind;
use semver::Version;

use super::{Notice, RegistrySource, TrustError};

mod fixture;
use fixture::{Delegated, Fixture, answer, at, serve, serve_folder, today};

const COMPONENT: &[u8] = b"\0asm component";
const SENSITIVE: &[u8] =
    b"format = 1\nid = \"england\"\nversion = \"1.0.0\"\n[group.hiv]\nsnomed = [\"86406008\"]\n";
const SENSITIVE_PATH: &str = "sensitive/england/1.0.0.toml";

fn manifest(id: &str, version: &str, component: &[u8]) -> String {
    format!(
        r#"format = 1
id = "{id}"
version = "{version}"
title = "An example"
purpose = "example"
legal-basis = "None, for tests."
interface = "lockgate:extract@1.0.0"
sites = "practice"
not-after = "2027-12-31"
window = {{ initial = "4 months" }}
limits = {{ memory-mib = 1, fuel = 1, wall-clock-s = 1, output-rows = 1 }}
tokens = {{ link = [] }}
component = {{ digest = "{}", bytes = {} }}
[input.patients]
table = "patient"
columns = ["patient"]
[output.patients]
columns = [{{ name = "patient", type = "patient" }}]
"#,
        Digest::of(component),
        component.len()
    )
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn what_is_published_is_listed_and_fetched() {
    let fixture = Fixture::new();
    let (old, new) = (manifest("example", "1.0.0", COMPONENT), manifest("example", "1.10.0-rc.1", COMPONENT));
    fixture.publish(
        1,
        &[
            ("modules/example/1.0.0/manifest.toml", old.as_bytes()),
            ("modules/example/1.0.0/component.wasm", COMPONENT),
            ("modules/example/1.10.0-rc.1/manifest.toml", new.as_bytes()),
            ("modules/example/1.10.0-rc.1/component.wasm", COMPONENT),
            (SENSITIVE_PATH, SENSITIVE),
            ("elsewhere/readme.txt", b"not ours"),
        ],
    );
    let registry = fixture.trust().refresh(today()).unwrap();
    assert_eq!(registry.targets().count(), 5);
    assert_eq!(registry.versions(TargetKind::ModuleManifest, &name("example")).count(), 2);
    let latest = registry.latest_modules();
    assert_eq!(latest.into_iter().collect::<Vec<_>>(), [(&name("example"), &version("1.0.0"))]);
    let module = registry.fetch_module(&name("example"), &version("1.0.0")).unwrap();
    assert_eq!(module.component(), COMPONENT);
    assert_eq!(module.manifest().digest(), Digest::of(old.as_bytes()));
    let list = registry.fetch_latest::<SensitiveCodes>(&name("england")).unwrap().unwrap();
    assert_eq!(list.version(), &version("1.0.0"));
    assert!(registry.fetch_latest::<SensitiveCodes>(&name("wales")).unwrap().is_none());
    let missing = registry.fetch::<Manifest>(&name("example"), &version("2.0.0"));
    assert!(matches!(missing, Err(TrustError::Missing { .. })));
}

#[test]
fn an_older_repository_is_refused_by_a_later_process() {
    let fixture = Fixture::new();
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    fixture.trust().refresh(today()).unwrap();
    fixture.publish(1, &[]);
    match fixture.trust().refresh(today()) {
        Err(TrustError::Rollback { trusted: 2, offered: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.trust().last_known().unwrap().unwrap().targets().count(), 1);
}

#[test]
fn expired_metadata_is_refused_and_what_was_known_stays_usable() {
    let fixture = Fixture::new();
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    assert!(fixture.trust().last_known().unwrap().is_none());
    let registry = fixture.trust().refresh(today()).unwrap();
    registry.fetch_latest::<SensitiveCodes>(&name("england")).unwrap();
    let late = at("2027-01-01T00:00:00Z");
    assert!(matches!(fixture.trust().refresh(late), Err(TrustError::Expired { .. })));
    std::fs::remove_dir_all(fixture.repository().join("targets")).unwrap();
    let known = fixture.trust().last_known().unwrap().unwrap();
    assert!(known.is_offline());
    assert_eq!(known.as_of(), today());
    known.fetch_latest::<SensitiveCodes>(&name("england")).unwrap().unwrap();
}

#[test]
fn a_copy_that_was_changed_on_this_disk_is_not_believed() {
    let fixture = Fixture::new();
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    let registry = fixture.trust().refresh(today()).unwrap();
    let fetch = |registry: &super::Registry| registry.fetch_latest::<SensitiveCodes>(&name("england"));
    fetch(&registry).unwrap();
    std::fs::write(&fixture.stored("targets")[0], b"format = 1\n").unwrap();
    assert_eq!(fetch(&registry).unwrap().unwrap().digest(), Digest::of(SENSITIVE));
    std::fs::write(&fixture.stored("targets")[0], b"format = 1\n").unwrap();
    let known = fixture.trust().last_known().unwrap().unwrap();
    assert!(matches!(fetch(&known), Err(TrustError::NotHere { .. })));
}

#[test]
fn a_store_that_cannot_be_read_stops_the_refresh() {
    let fixture = Fixture::new();
    fixture.publish(1, &[]);
    fixture.trust().refresh(today()).unwrap();
    let floor = fixture.store().join("floor.json");
    std::fs::remove_file(&floor).unwrap();
    std::fs::create_dir(&floor).unwrap();
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Store(_))));
}

fn rot(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The metadata and its second copy.
const BOTH_COPIES: [&str; 2] = ["known.json", "known.copy.json"];

#[test]
fn the_second_copy_takes_the_place_of_a_damaged_one() {
    let fixture = Fixture::new();
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    fixture.trust().refresh(today()).unwrap();
    for (damaged, said) in [("known.json", true), ("known.copy.json", false)] {
        rot(&fixture.store().join(damaged));
        // Even while the registry serves something old.
        let known = fixture.trust().last_known().unwrap().unwrap();
        assert_eq!(known.targets().count(), 1, "{damaged}");
        assert_eq!(matches!(known.notices(), [Notice::CopyUsed { .. }]), said, "{:?}", known.notices());
        fixture.publish(1, &[]);
        assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Rollback { trusted: 2, .. })));
        assert_eq!(fixture.trust().last_known().unwrap().unwrap().targets().count(), 1, "{damaged}");
        // The refresh wrote both anew.
        assert_eq!(fixture.stored_bytes("known.json"), fixture.stored_bytes("known.copy.json"), "{damaged}");
        fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
        fixture.trust().refresh(today()).unwrap();
    }
    // An old copy, under a floor that is newer: what is asked for is what the floor says.
    let old = fixture.stored_bytes("known.copy.json");
    fixture.publish(3, &[]);
    fixture.trust().refresh(today()).unwrap();
    std::fs::write(fixture.store().join("known.copy.json"), old).unwrap();
    rot(&fixture.store().join("known.json"));
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Rollback { trusted: 3, .. })));
}

#[test]
fn damaged_copies_are_built_again_and_their_floor_stays() {
    let fixture = Fixture::new();
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    fixture.trust().refresh(today()).unwrap();
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    let empty = |path: &Path| std::fs::write(path, b"").unwrap();
    for damage in [&rot as &dyn Fn(&Path), &remove, &empty] {
        let damage = || BOTH_COPIES.iter().for_each(|file| damage(&fixture.store().join(file)));
        damage();
        assert!(matches!(fixture.trust().last_known(), Err(TrustError::LastKnown { .. })));
        fixture.publish(1, &[]);
        assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Rollback { trusted: 2, .. })));
        fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
        // What the failed refresh kept is no registry, but a copy that is whole.
        let registry = fixture.trust().refresh(today()).unwrap();
        assert_eq!(registry.targets().count(), 1);
        damage();
        let registry = fixture.trust().refresh(today()).unwrap();
        assert!(matches!(registry.notices(), [Notice::Rebuilt { .. }]), "{:?}", registry.notices());
        assert!(fixture.trust().refresh(today()).unwrap().notices().is_empty());
    }
}

#[test]
fn a_damaged_floor_is_taken_from_the_copy() {
    let fixture = Fixture::new();
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    fixture.trust().refresh(today()).unwrap();
    rot(&fixture.store().join("floor.json"));
    fixture.publish(1, &[]);
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Rollback { trusted: 2, .. })));
    rot(&fixture.store().join("floor.json"));
    fixture.publish(3, &[]);
    let registry = fixture.trust().refresh(today()).unwrap();
    assert!(matches!(registry.notices(), [Notice::FloorRestored { .. }]), "{:?}", registry.notices());
}

#[test]
fn a_site_that_lost_all_does_not_begin_anew_by_itself() {
    let fixture = Fixture::new();
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    let registry = fixture.trust().refresh(today()).unwrap();
    registry.fetch_latest::<SensitiveCodes>(&name("england")).unwrap();
    let all = || BOTH_COPIES.into_iter().chain(["floor.json"]);
    for file in all() {
        rot(&fixture.store().join(file));
    }
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::FloorLost { .. })));
    for file in all() {
        std::fs::remove_file(fixture.store().join(file)).unwrap();
    }
    let lost = fixture.trust().refresh(today()).unwrap_err();
    assert!(lost.to_string().contains("remove the folder"), "{lost}");
    std::fs::remove_dir_all(fixture.store()).unwrap();
    fixture.trust().refresh(today()).unwrap();
}

#[test]
fn a_version_that_was_seen_in_a_refresh_that_failed_stays_seen() {
    let fixture = Fixture::new();
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    fixture.trust().refresh(today()).unwrap();
    fixture.publish(3, &[]);
    std::fs::remove_file(fixture.repository().join("metadata/3.targets.json")).unwrap();
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Unreachable { .. })));
    assert_eq!(fixture.trust().last_known().unwrap().unwrap().targets().count(), 1);
    fixture.publish(2, &[]);
    let refused = fixture.trust().refresh(today());
    assert!(matches!(refused, Err(TrustError::Rollback { trusted: 3, offered: 2, .. })), "{refused:?}");
}

#[test]
fn a_refresh_with_nothing_new_is_one_request() {
    let fixture = Fixture::new();
    let lists =
        [Delegated { name: "sensitive", paths: &["sensitive/*/*"], files: &[(SENSITIVE_PATH, SENSITIVE)] }];
    fixture.publish_delegated(1, &[], &lists);
    let (source, asked) = serve_folder(&fixture.repository());
    let refresh = |now| fixture.trust_in(&source).unwrap().refresh(now);
    assert_eq!(refresh(today()).unwrap().targets().count(), 1);
    assert_eq!(
        asked.take(),
        [
            "metadata/2.root.json",
            "metadata/timestamp.json",
            "metadata/1.snapshot.json",
            "metadata/1.targets.json",
            "metadata/1.sensitive.json",
        ]
    );
    assert_eq!(refresh(today()).unwrap().targets().count(), 1);
    assert_eq!(asked.take(), ["metadata/timestamp.json"]);
    // Expired: nobody says that there is nothing new.
    assert!(matches!(refresh(at("2026-12-02T00:00:00Z")), Err(TrustError::Expired { .. })));
    assert_eq!(asked.take(), ["metadata/2.root.json", "metadata/timestamp.json"]);
}

/// A large registry: 480 files of modules, and 20 cohorts with 310 sites each.
#[test]
fn a_first_refresh_fetches_lists_and_nothing_that_nobody_asked_for() {
    let fixture = Fixture::new();
    let manifests: Vec<_> =
        (0..240).map(|number| manifest("example", &format!("1.{number}.0"), COMPONENT)).collect();
    let mut modules: Vec<(String, &[u8])> = Vec::new();
    for (number, manifest) in manifests.iter().enumerate() {
        modules.push((format!("modules/example/1.{number}.0/manifest.toml"), manifest.as_bytes()));
        modules.push((format!("modules/example/1.{number}.0/component.wasm"), COMPONENT));
    }
    let cohort = |number: u32| {
        let sites: Vec<_> = (0..310).map(|site| format!("\"A{:05}\"", number * 310 + site)).collect();
        format!(
            "format = 1\nid = \"c{number}\"\nversion = \"1.0.0\"\ntitle = \"Sites\"\nsites = [{}]\n",
            sites.join(", ")
        )
    };
    let texts: Vec<_> =
        (0..20).map(|number| (format!("cohorts/c{number}/1.0.0.toml"), cohort(number))).collect();
    fn files(of: &[(String, impl AsRef<[u8]>)]) -> Vec<(&str, &[u8])> {
        of.iter().map(|(path, bytes)| (path.as_str(), bytes.as_ref())).collect()
    }
    fixture.publish_delegated(
        1,
        &[],
        &[
            Delegated { name: "modules", paths: &["modules/*/*/*"], files: &files(&modules) },
            Delegated { name: "rollout", paths: &["cohorts/*/*", "rollouts/*/*"], files: &files(&texts) },
        ],
    );
    let (source, asked) = serve_folder(&fixture.repository());
    let trust = fixture.trust_in(&source).unwrap();
    let registry = trust.refresh(today()).unwrap();
    assert_eq!(registry.targets().count(), 500);
    let sites = |number| {
        let id = name(&format!("c{number}"));
        registry.fetch_latest::<Cohort>(&id).unwrap().unwrap().value().sites.len()
    };
    assert_eq!((0..20).map(sites).sum::<usize>(), 6_200);
    assert_eq!(asked.take().len(), 6 + 20);
    let registry = trust.refresh(today()).unwrap();
    assert_eq!(registry.targets().count(), 500);
    assert_eq!(asked.take(), ["metadata/timestamp.json"]);
}

#[test]
fn a_timestamp_that_does_not_name_its_root_is_no_answer() {
    let mut fixture = Fixture::new();
    fixture.timestamp_says = serde_json::json!({});
    fixture.publish(1, &[]);
    let (source, asked) = serve_folder(&fixture.repository());
    fixture.trust_in(&source).unwrap().refresh(today()).unwrap();
    asked.take();
    fixture.trust_in(&source).unwrap().refresh(today()).unwrap();
    assert_eq!(asked.take(), ["metadata/2.root.json", "metadata/timestamp.json"]);
}

#[test]
fn a_root_that_the_timestamp_knows_cannot_be_withheld() {
    let mut fixture = Fixture::new();
    fixture.publish(1, &[]);
    fixture.trust().refresh(today()).unwrap();
    fixture.timestamp_says = serde_json::json!({ "root_version": 2 });
    fixture.publish(2, &[]);
    let refused = fixture.trust().refresh(today()).unwrap_err();
    assert!(refused.to_string().contains("root 2, which it does not serve"), "{refused}");
}

#[test]
fn keys_that_are_rotated_take_their_versions_with_them() {
    let mut fixture = Fixture::new();
    fixture.publish(4_000_000_000, &[]);
    fixture.trust().refresh(today()).unwrap();
    fixture.rotate(2);
    fixture.timestamp_says = serde_json::json!({ "root_version": 2 });
    fixture.publish(2, &[(SENSITIVE_PATH, SENSITIVE)]);
    assert_eq!(fixture.trust().refresh(today()).unwrap().targets().count(), 1);
    // Not without the new root: the old versions count under the old keys.
    std::fs::remove_file(fixture.repository().join("metadata/2.root.json")).unwrap();
    fixture.trust().refresh(today()).unwrap();
    BOTH_COPIES.iter().for_each(|file| std::fs::remove_file(fixture.store().join(file)).unwrap());
    let refused = fixture.trust().refresh(today());
    assert!(
        matches!(refused, Err(TrustError::Rollback { ref role, trusted: 2, offered: 1, .. }) if role == "root"),
        "{refused:?}"
    );
}

#[test]
fn a_path_is_spoken_for_by_the_role_that_may() {
    let fixture = Fixture::new();
    let forged: &[u8] = b"format = 1\nid = \"england\"\nversion = \"9.0.0\"\n[group.hiv]\nsnomed = []\n";
    fixture.publish_delegated(
        1,
        &[],
        &[
            Delegated {
                name: "mappings",
                paths: &["mappings/*/*"],
                files: &[("sensitive/england/9.0.0.toml", forged), (SENSITIVE_PATH, forged)],
            },
            Delegated { name: "sensitive", paths: &["sensitive/*/*"], files: &[(SENSITIVE_PATH, SENSITIVE)] },
        ],
    );
    let registry = fixture.trust().refresh(today()).unwrap();
    let list = registry.fetch_latest::<SensitiveCodes>(&name("england")).unwrap().unwrap();
    assert_eq!(list.digest(), Digest::of(SENSITIVE));
    let not_theirs = registry.notices().iter().filter(|notice| matches!(notice, Notice::NotTheirs { .. }));
    assert_eq!(not_theirs.count(), 2, "{:?}", registry.notices());
}

#[test]
fn a_list_below_a_snapshot_that_leaves_it_out_is_not_taken_for_empty() {
    let fixture = Fixture::new();
    let lists = |name| [Delegated { name, paths: &["sensitive/*/*"], files: &[(SENSITIVE_PATH, SENSITIVE)] }];
    fixture.publish_delegated(1, &[], &lists("sensitive"));
    fixture.trust().refresh(today()).unwrap();
    fixture.publish_delegated(2, &[], &lists("other"));
    let refused = fixture.trust().refresh(today());
    assert!(matches!(refused, Err(TrustError::Damaged { .. })), "{refused:?}");
    assert_eq!(fixture.trust().last_known().unwrap().unwrap().targets().count(), 1);
}

#[test]
fn a_clock_before_what_was_signed_is_wrong() {
    let mut fixture = Fixture::new();
    fixture.timestamp_says = serde_json::json!({ "root_version": 1, "signed_at": "2026-10-31T00:00:00Z" });
    fixture.publish(1, &[]);
    let early = at("2026-10-29T00:00:00Z");
    assert!(matches!(fixture.trust().refresh(early), Err(TrustError::ClockBehind { .. })));
    // Also where nobody can be asked, and it keeps nothing from going on when it is set right.
    let nobody = fixture.trust_in(&"http://127.0.0.1:1/".parse().unwrap()).unwrap();
    assert!(matches!(nobody.refresh(early), Err(TrustError::ClockBehind { .. })));
    assert_eq!(fixture.trust().refresh(today()).unwrap().signed_at(), Some(at("2026-10-31T00:00:00Z")));
}

#[test]
fn a_time_that_a_stolen_key_signed_goes_with_the_key() {
    let mut fixture = Fixture::new();
    fixture.timestamp_says = serde_json::json!({ "root_version": 1, "signed_at": "2026-11-30T00:00:00Z" });
    fixture.publish(1, &[]);
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::ClockBehind { .. })));
    fixture.rotate(2);
    fixture.timestamp_says = serde_json::json!({ "root_version": 2, "signed_at": "2026-10-31T00:00:00Z" });
    fixture.publish(1, &[]);
    fixture.trust().refresh(today()).unwrap();
}

#[test]
fn a_clock_that_was_once_in_the_future_stops_nothing_for_ever() {
    let fixture = Fixture::new();
    fixture.publish(1, &[]);
    fixture.trust().refresh(at("2026-11-28T00:00:00Z")).unwrap();
    let registry = fixture.trust().refresh(today()).unwrap();
    assert!(registry.is_offline());
    assert!(matches!(registry.notices(), [Notice::ClockWentBack { .. }]));
    fixture.publish(2, &[]);
    let registry = fixture.trust().refresh(today()).unwrap();
    assert!(!registry.is_offline());
    assert!(matches!(registry.notices(), [Notice::ClockWasWrong { .. }]));
    assert!(fixture.trust().refresh(today()).unwrap().notices().is_empty());
    // One beyond the end of everything leaves no trace.
    assert!(matches!(fixture.trust().refresh(at("2036-01-01T00:00:00Z")), Err(TrustError::Expired { .. })));
    let registry = fixture.trust().refresh(today()).unwrap();
    assert!(!registry.is_offline() && registry.notices().is_empty());
}

#[test]
fn a_repository_that_somebody_else_signed_is_refused() {
    let fixture = Fixture::new();
    fixture.publish_as_stranger(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Signature { .. })));
}

#[test]
fn a_component_swapped_under_a_valid_manifest_is_refused() {
    let fixture = Fixture::new();
    let manifest = manifest("example", "1.0.0", COMPONENT);
    fixture.publish(
        1,
        &[
            ("modules/example/1.0.0/manifest.toml", manifest.as_bytes()),
            ("modules/example/1.0.0/component.wasm", b"\0asm another thing"),
        ],
    );
    let registry = fixture.trust().refresh(today()).unwrap();
    let module = registry.fetch_module(&name("example"), &version("1.0.0"));
    assert!(matches!(module, Err(TrustError::OtherComponent { .. })), "{module:?}");
}

#[test]
fn a_manifest_under_the_path_of_another_module_is_refused() {
    let fixture = Fixture::new();
    let manifest = manifest("example", "1.0.0", COMPONENT);
    fixture.publish(1, &[("modules/other/1.0.0/manifest.toml", manifest.as_bytes())]);
    let registry = fixture.trust().refresh(today()).unwrap();
    let fetched = registry.fetch::<Manifest>(&name("other"), &version("1.0.0"));
    assert!(matches!(fetched, Err(TrustError::OtherName { .. })), "{fetched:?}");
}

#[test]
fn a_file_swapped_on_the_server_is_refused() {
    let fixture = Fixture::new();
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    let served = format!("targets/sensitive/england/{}.1.0.0.toml", Digest::of(SENSITIVE).to_hex());
    fixture.write(&served, &SENSITIVE.to_ascii_uppercase());
    let registry = fixture.trust().refresh(today()).unwrap();
    let fetched = registry.fetch_latest::<SensitiveCodes>(&name("england"));
    assert!(matches!(fetched, Err(TrustError::Damaged { .. })), "{fetched:?}");
}

#[test]
fn a_target_larger_than_the_limit_is_not_fetched() {
    let mut fixture = Fixture::new();
    fixture.limits.text_bytes_max = 10;
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    let registry = fixture.trust().refresh(today()).unwrap();
    let fetched = registry.fetch_latest::<SensitiveCodes>(&name("england"));
    assert!(matches!(fetched, Err(TrustError::TooLarge { bytes_max: 10, .. })), "{fetched:?}");
}

#[test]
fn an_unknown_file_in_our_folders_is_refused() {
    let fixture = Fixture::new();
    fixture.publish(1, &[("modules/example/1.0.0/../../../../passwd", b"x")]);
    assert!(matches!(fixture.trust().refresh(today()), Err(TrustError::Path(_))));
}

#[test]
fn targets_that_are_not_listed_any_more_leave_the_disk() {
    let fixture = Fixture::new();
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    let registry = fixture.trust().refresh(today()).unwrap();
    registry.fetch_latest::<SensitiveCodes>(&name("england")).unwrap();
    assert_eq!(fixture.stored("targets").len(), 1);
    fixture.publish(2, &[]);
    fixture.trust().refresh(today()).unwrap();
    assert_eq!(fixture.stored("targets").len(), 0);
}

#[test]
fn a_web_server_serves_the_same_registry() {
    let fixture = Fixture::new();
    fixture.publish(1, &[(SENSITIVE_PATH, SENSITIVE)]);
    let trust = fixture.trust_in(&serve_folder(&fixture.repository()).0).unwrap();
    let registry = trust.refresh(today()).unwrap();
    registry.fetch_latest::<SensitiveCodes>(&name("england")).unwrap().unwrap();
}

#[test]
fn a_hostile_web_server_ends_in_one_clear_error() {
    let mut fixture = Fixture::new();
    fixture.limits.read_timeout_s = 1;
    fixture.limits.answer_timeout_s = 1;
    fixture.publish(1, &[]);
    let refresh = |source: RegistrySource| fixture.trust_in(&source).unwrap().refresh(today()).unwrap_err();
    // A server that answers everything with its start page.
    let page = serve(|_| answer("200 OK", b"<!doctype html><title>Welcome</title>"), false);
    assert!(matches!(refresh(page), TrustError::Damaged { .. }));
    // A redirect, which could lead anywhere.
    let redirect = serve(|_| answer("302 Found\r\nlocation: http://127.0.0.1:1/", b""), false);
    assert!(refresh(redirect).to_string().contains("configure the address that it redirects to"));
    // More than a root may have, announced.
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    assert!(refresh(serve(move |_| announced.clone(), true)).to_string().contains("longer than"));
    // The same, not announced.
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b' '; 600_000]].concat();
    assert!(refresh(serve(move |_| endless.clone(), true)).to_string().contains("longer than"));
    // A server that goes silent in the middle.
    let silent = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec();
    assert!(matches!(refresh(serve(move |_| silent.clone(), true)), TrustError::Unreachable { .. }));
    // Nobody there.
    let nobody = "http://127.0.0.1:1/".parse().unwrap();
    assert!(matches!(refresh(nobody), TrustError::Unreachable { .. }));
}

#[test]
fn an_address_is_https_or_this_computer() {
    for text in [
        "https://registry.example.org/lockgate",
        "http://127.0.0.1:8080",
        "http://[::1]/",
        "http://localhost/",
    ] {
        assert!(
            matches!(text.parse(), Ok(RegistrySource::Web(url)) if url.as_str().ends_with('/')),
            "{text}"
        );
    }
    for text in ["/srv/registry", "registry", "file:///srv/registry"] {
        assert!(matches!(text.parse(), Ok(RegistrySource::Folder(_))), "{text}");
    }
    for text in [
        "",
        "http://registry.example.org/",
        "http://127.0.0.1.example.org/",
        "https://user:secret@example.org/",
        "https://example.org/?a=b",
        "ftp://example.org/",
    ] {
        assert!(text.parse::<RegistrySource>().is_err(), "{text}");
    }
}
