//! Signatures: too few, of the wrong people, or of one who counts twice.

use anyhow::ensure;
use lockgate_signing::keys::SigningKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::case::Case;
use crate::TestResult;

fn stranger() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([9; 32]))
}

/// The delegation to a role in the top-level list.
fn delegation<'a>(targets: &'a mut Value, role: &str) -> &'a mut Value {
    let roles = targets["delegations"]["roles"].as_array_mut();
    roles.and_then(|roles| roles.iter_mut().find(|it| it["name"] == role)).expect("the role is delegated to")
}

#[test]
fn one_of_two_signers() -> TestResult {
    let case = Case::new()?;
    case.forge.forge("modules", |_| {}, |forge, document| forge.sign_as(document, "modules", 1))?;
    case.is_refused("signature threshold not met for role modules: 1/2 valid signatures")
}

#[test]
fn one_signer_twice() -> TestResult {
    let case = Case::new()?;
    case.forge.forge("modules", |_| {}, |forge, document| forge.sign_as(document, "modules", 2))?;
    case.is_refused("duplicate signature key id")
}

#[test]
fn one_signature_under_the_ids_of_two_signers() -> TestResult {
    let case = Case::new()?;
    case.forge.forge(
        "modules",
        |_| {},
        |forge, document| {
            let mut signatures = forge.sign_as(document, "modules", 2)?;
            signatures[1]["keyid"] = forge.signers("modules")?[1].0.clone().into();
            Ok(signatures)
        },
    )?;
    case.is_refused("signature threshold not met for role modules: 1/2 valid signatures")
}

#[test]
fn one_key_under_two_ids() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("targets", |targets| {
        let id = delegation(targets, "modules")["keyids"][0].as_str().unwrap_or_default().to_owned();
        let key = targets["delegations"]["keys"][&id].clone();
        targets["delegations"]["keys"]["another-id"] = key;
        delegation(targets, "modules")["keyids"] = json!([id, "another-id"]);
    })?;
    case.is_refused("the role modules names one key twice (another-id)")
}

#[test]
fn one_id_twice() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("targets", |targets| {
        let id = delegation(targets, "modules")["keyids"][0].clone();
        delegation(targets, "modules")["keyids"] = json!([id, id]);
    })?;
    case.is_refused("the role modules names one key twice")
}

#[test]
fn a_stranger() -> TestResult {
    let case = Case::new()?;
    case.forge.forge(
        "timestamp",
        |_| {},
        |forge, document| {
            let id = &forge.signers("timestamp")?[0].0;
            Ok(vec![forge.sign_with(document, id, &stranger())?])
        },
    )?;
    case.is_refused("signature threshold not met for role timestamp: 0/1 valid signatures")
}

#[test]
fn the_online_key_in_place_of_the_publishers() -> TestResult {
    let case = Case::new()?;
    case.forge.forge("modules", |_| {}, |forge, document| forge.sign_as(document, "snapshot", 1))?;
    case.is_refused("signature threshold not met for role modules: 0/2 valid signatures")
}

#[test]
fn a_threshold_of_none() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("targets", |targets| delegation(targets, "modules")["threshold"] = 0.into())?;
    case.is_refused("role modules declares signature threshold 0")
}

#[test]
fn a_threshold_that_nobody_can_meet() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("targets", |targets| delegation(targets, "modules")["threshold"] = 3.into())?;
    case.is_refused("signature threshold not met for role modules: 2/3 valid signatures")
}

#[test]
fn a_document_that_was_changed_after_it_was_signed() -> TestResult {
    let case = Case::new()?;
    case.forge.forge(
        "holds",
        |_| {},
        |forge, document| {
            let mut other = document.clone();
            other["expires"] = "2099-01-01T00:00:00Z".into();
            forge.sign_as(&other, "holds", 1)
        },
    )?;
    case.is_refused("signature threshold not met for role holds: 0/1 valid signatures")
}

#[test]
fn a_new_root_with_the_old_keys_and_the_new_ones() -> TestResult {
    let mut case = Case::new()?;
    let old = case.forge.signers("root")?;
    let new = rotate_root(&mut case, |forge, document, new| {
        Ok([forge.signatures(document, &old)?, forge.signatures(document, new)?].concat())
    })?;
    ensure!(case.forge.signers("root")? == new, "the root was not rotated");
    case.refreshes()?;
    case.still_runs()
}

#[test]
fn a_new_root_without_the_old_keys() -> TestResult {
    let mut case = Case::new()?;
    rotate_root(&mut case, |forge, document, new| forge.signatures(document, new))?;
    case.is_refused("signature threshold not met for role root: 0/2 valid signatures")
}

#[test]
fn a_new_root_without_the_new_keys() -> TestResult {
    let mut case = Case::new()?;
    let old = case.forge.signers("root")?;
    rotate_root(&mut case, |forge, document, _| forge.signatures(document, &old))?;
    case.is_refused("signature threshold not met for role root: 0/2 valid signatures")
}

#[test]
fn a_root_that_skips_a_version() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("root", |root| root["version"] = 3.into())?;
    std::fs::rename(case.forge.file("3.root.json"), case.forge.file("2.root.json"))?;
    case.is_refused("root version must increment by one")
}

#[test]
fn a_root_that_is_withheld() -> TestResult {
    let case = Case::new()?;
    case.forge.revise("root", |_| {})?;
    std::fs::remove_file(case.forge.file("2.root.json"))?;
    case.is_refused("its timestamp was signed under root 2, which it does not serve")
}

#[test]
fn a_role_that_speaks_for_the_modules_of_another() -> TestResult {
    let case = Case::new()?;
    let entry = case.forge.place("modules/control/9.0.0/manifest.toml", b"format = 1\n")?;
    case.forge.revise("mappings", |it| it["targets"]["modules/control/9.0.0/manifest.toml"] = entry)?;
    let refreshed = case.refreshes()?;
    let says = "list `mappings` names `modules/control/9.0.0/manifest.toml`, which it may not speak for";
    ensure!(refreshed.stderr.contains(says), "{}", refreshed.stderr);
    case.still_runs()
}

type Signers = [(String, String)];

/// A new root with two new keys for the root role; who they are.
fn rotate_root(
    case: &mut Case,
    sign: impl FnOnce(&super::forge::Forge, &Value, &Signers) -> anyhow::Result<Vec<Value>>,
) -> anyhow::Result<Vec<(String, String)>> {
    let keys = [10, 11].map(|seed| case.forge.own(SigningKey::from_seed(&Zeroizing::new([seed; 32]))));
    let public = |key: &Value| key["keyval"]["public"].as_str().unwrap_or_default().to_owned();
    let new: Vec<(String, String)> = keys.iter().map(|(id, key)| (id.clone(), public(key))).collect();
    case.forge.forge(
        "root",
        |root| {
            for (id, key) in &keys {
                root["keys"][id] = key.clone();
            }
            root["roles"]["root"] = json!({ "keyids": [keys[0].0, keys[1].0], "threshold": 2 });
        },
        |forge, document| sign(forge, document, &new),
    )?;
    Ok(new)
}
