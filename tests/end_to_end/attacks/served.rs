//! What a web server can do to bytes: foreign, endless, slow, too many, swapped, out of place.

use anyhow::{Context as _, ensure};
use lockgate_signing::digest::Digest;
use lockgate_tests::AS_OF;
use lockgate_tests::http::answer;

use super::case::{Case, MODULE};
use crate::TestResult;

const LIST: &str = "sensitive/sensitive-england/9.0.0.toml";

#[test]
fn a_page_in_place_of_everything() -> TestResult {
    let case = Case::new()?;
    case.serve(|_| Some(answer("HTTP/1.1 200 OK", b"<!doctype html><title>Sign in to the network</title>")))?;
    case.is_refused("perhaps it is half uploaded, or the address is not a registry's")
}

#[test]
fn nobody_there() -> TestResult {
    let case = Case::new()?;
    case.move_registry("http://127.0.0.1:1/")?;
    case.is_refused("cannot be read: transport error: GET http://127.0.0.1:1/metadata/2.root.json")
}

#[test]
fn endless_data_that_is_announced() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("timestamp", |_| {})?;
    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{".to_vec();
    case.serve(move |path| (path == "metadata/timestamp.json").then(|| endless.clone()))?;
    case.is_refused("timestamp.json is longer than 16384 bytes")
}

#[test]
fn endless_data_that_is_not_announced() -> TestResult {
    let case = Case::new()?;
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b' '; 8 << 20]].concat();
    case.serve(move |path| path.ends_with("2.root.json").then(|| endless.clone()))?;
    case.forge.revise("timestamp", |_| {})?;
    case.is_refused("2.root.json is longer than 524288 bytes")
}

#[test]
fn data_so_slow_that_it_never_ends() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("timestamp", |_| {})?;
    case.give_up_after_s(1)?;
    case.move_registry(&super::case::drip()?)?;
    case.is_refused("cannot be read: transport error: GET")
}

#[test]
fn a_redirect() -> TestResult {
    let case = Case::new()?;
    case.serve(|_| Some(answer("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/", b"")))?;
    case.is_refused("configure the address that it redirects to")
}

#[test]
fn a_target_that_is_swapped_on_the_server() -> TestResult {
    let case = Case::new()?;
    let list = std::fs::read_to_string(case.forge.target("policies", OLD_LIST)?)?;
    let list = list.replace("version = \"1.0.0\"", "version = \"9.0.0\"");
    let entry = case.forge.place(LIST, list.as_bytes())?;
    case.forge.revise("policies", |it| it["targets"][LIST] = entry)?;
    std::fs::write(case.forge.target("policies", LIST)?, list.to_ascii_uppercase())?;
    case.is_refused(&format!("does not hold what was signed: integrity check failed: {LIST}"))
}

#[test]
fn a_target_that_is_not_there() -> TestResult {
    let case = Case::new()?;
    let entry = case.forge.place(LIST, b"format = 1\n")?;
    case.forge.revise("policies", |it| it["targets"][LIST] = entry)?;
    std::fs::remove_file(case.forge.target("policies", LIST)?)?;
    case.is_refused("9.0.0.toml not found")
}

#[test]
fn a_target_that_is_larger_than_anything() -> TestResult {
    let case = Case::new()?;
    let mut entry = case.forge.place(LIST, b"format = 1\n")?;
    entry["length"] = (1_u64 << 40).into();
    case.forge.revise("policies", |it| it["targets"][LIST] = entry)?;
    case.is_refused("has 1099511627776 bytes, and the agent takes 16777216")
}

#[test]
fn a_target_that_says_of_itself_that_it_is_another() -> TestResult {
    let case = Case::new()?;
    let bytes = std::fs::read(case.forge.target("policies", OLD_LIST)?)?;
    let entry = case.forge.place(LIST, &bytes)?;
    case.forge.revise("policies", |it| it["targets"][LIST] = entry)?;
    case.is_refused("says of itself that it is sensitive-england 1.0.0")
}

#[test]
fn paths_that_leave_their_folder() -> TestResult {
    for path in [
        "modules/control/../../../../etc/passwd/manifest.toml",
        "modules/control/1.0.0/../../x.toml",
        "modules//1.0.0/manifest.toml",
        "modules/control/1.0.0%2f..%2fmanifest.toml",
        "modules/control/1.0.0/component.wasm/",
    ] {
        let case = Case::new()?;
        let digest = Digest::of(b"x").to_hex();
        let entry = serde_json::json!({ "length": 1, "hashes": { "sha256": digest } });
        case.forge.revise("modules", |it| it["targets"][path] = entry)?;
        case.is_refused("is not the path of a target")?;
    }
    Ok(())
}

#[test]
fn a_component_swapped_under_a_valid_manifest() -> TestResult {
    let case = Case::new()?;
    let path = |version: &str, file: &str| format!("modules/{MODULE}/{version}/{file}");
    let manifest = std::fs::read_to_string(case.forge.target("modules", &path("1.0.0", "manifest.toml"))?)?;
    let manifest = manifest.replace("version = \"1.0.0\"", "version = \"1.1.0\"");
    let manifest_entry = case.forge.place(&path("1.1.0", "manifest.toml"), manifest.as_bytes())?;
    let component_entry = case.forge.place(&path("1.1.0", "component.wasm"), b"\0asm another thing")?;
    case.forge.revise("modules", |it| {
        it["targets"][path("1.1.0", "manifest.toml")] = manifest_entry;
        it["targets"][path("1.1.0", "component.wasm")] = component_entry;
    })?;
    let rollout = format!(
        "format = 1\nid = \"{MODULE}\"\nversion = \"9.0.0\"\n[[step]]\nmodule-version = \"1.1.0\"\nto = \"all\"\n\
         [[step]]\nmodule-version = \"1.0.0\"\nto = \"all\"\n"
    );
    let rollout_path = format!("rollouts/{MODULE}/9.0.0.toml");
    let entry = case.forge.place(&rollout_path, rollout.as_bytes())?;
    case.forge.revise("rollout", |it| it["targets"][&rollout_path] = entry)?;
    // The rest of the registry is in order, so the refresh is; this version is not installed.
    let refreshed = case.refreshes()?;
    let says = "1.1.0/component.wasm` is not the component that its manifest names";
    ensure!(refreshed.stderr.contains(says), "{}", refreshed.stderr);
    // `modules` asks nobody, and knows it all the same.
    let listed = case.run(AS_OF, &["--json", "modules"])?.ok()?.json()?;
    let version = |version: &str| listed["modules"].as_array()?.iter().find(|it| it["version"] == version);
    let refused = version("1.1.0").context("version 1.1.0 is not listed")?;
    let why = refused["detail"].as_str().unwrap_or_default();
    ensure!(refused["state"] == "refused" && why.contains(says), "{listed}");
    ensure!(version("1.0.0").is_some_and(|it| it["state"] == "installed"), "{listed}");
    let approved = case.run(AS_OF, &["modules", "approve", MODULE, "--version", "1.1.0"])?.expect(1)?;
    ensure!(approved.stderr.contains(says), "{}", approved.stderr);
    let status = case.run(AS_OF, &["status"])?.expect(6)?;
    ensure!(status.stdout.matches(says).count() == 2, "once in the table, once as a task: {}", status.stdout);
    case.still_runs()
}

const OLD_LIST: &str = "sensitive/sensitive-england/1.0.0.toml";
