//! Whose registry a proposal belongs to: what lies in the shared folder says nothing of it.

use anyhow::ensure;

use super::refused;
use super::team::Team;
use crate::TestResult;

/// Two keys of somebody's own for everything, and publishing's beside them.
const ROLES: &str = r#"format = 1

[key]
one = "other-keys/one.pem.pub"
two = "other-keys/two.pem.pub"
online = "other-keys/online.pem.pub"
publishing = "people/publishing/key.pem.pub"

[role]
root = { keys = ["one", "two"], threshold = 2 }
targets = { keys = ["one", "two"], threshold = 2 }
snapshot = { keys = ["online"], threshold = 1 }
timestamp = { keys = ["online"], threshold = 1 }
modules = { keys = ["one", "two", "publishing"], threshold = 2 }
policies = { keys = ["one", "two"], threshold = 2 }
mappings = { keys = ["one"], threshold = 1 }
rollout = { keys = ["one", "two"], threshold = 2 }
holds = { keys = ["one"], threshold = 1 }
directions = { keys = ["one", "two"], threshold = 2 }
"#;

/// A registry of somebody's own, in which publishing may sign for modules and `evil` is live already; and in the folder
/// `shared` a proposal of something harmless, with that registry's root beside it.
fn a_registry_of_somebody_else(team: &Team) -> TestResult {
    std::fs::create_dir_all(team.path("other-keys"))?;
    for name in ["one", "two", "online"] {
        team.run(&["key", "new", &team.text(&format!("other-keys/{name}.pem")), "--no-passphrase"])?.ok()?;
    }
    std::fs::write(team.path("other.toml"), ROLES)?;
    team.run(&["init", &team.text("other"), "--roles", &team.text("other.toml")])?.ok()?;
    for name in ["one", "two"] {
        let key = team.text(&format!("other-keys/{name}.pem"));
        team.run(&["sign", &team.text("other-init"), "--key", &key])?.ok()?;
    }
    let (registry, keys) = (team.text("other"), team.text("other-keys"));
    let other = |arguments: &[&str]| -> TestResult {
        let place = ["--repository", &registry, "--keys", &keys];
        team.run(&[arguments, &place].concat())?.ok().map(drop)
    };
    other(&["publish", &team.text("other-init")])?;
    // The manifest of `gp-monthly`, which is staged in the team's own registry, too.
    team.add_module("1.0.0", &[])?;
    let harmless = team.path("module.toml");
    let manifest = std::fs::read_to_string(&harmless)?;
    let evil = team.path("evil.toml");
    std::fs::write(&evil, manifest.replacen("id = \"gp-monthly\"", "id = \"evil\"", 1))?;
    let wasm = team.binaries.guest("gp-monthly")?.display().to_string();
    other(&["module", "add", &evil.display().to_string(), &wasm])?;
    other(&["publish"])?;
    other(&["module", "add", &harmless.display().to_string(), &wasm])?;
    std::fs::create_dir(team.path("shared"))?;
    other(&["propose", &team.text("shared/change")])?;
    std::fs::copy(team.path("other-keys/root.json"), team.path("shared/root.json"))?;
    Ok(())
}

#[test]
fn a_root_beside_the_proposal_is_never_believed() -> TestResult {
    let team = Team::new()?;
    a_registry_of_somebody_else(&team)?;
    let change = team.text("shared/change");
    let document = || std::fs::read_to_string(team.path("shared/change/documents/modules.json"));
    let before = document()?;
    // The key on a stick, and nothing else.
    std::fs::create_dir(team.path("stick"))?;
    std::fs::copy(team.person("publishing").join("key.pem"), team.path("stick/key.pem"))?;
    refused(team.run(&["review", &change])?, "name the root.json that you were given with --root")?;
    refused(team.sign_at("shared/change", "stick/key.pem")?, "beside the proposal is never believed")?;
    // With the team's own root it is not a proposal of theirs.
    refused(team.review("shared/change", "publishing")?, "does not verify from your root")?;
    refused(team.sign("shared/change", "publishing")?, "does not verify from your root")?;
    ensure!(document()? == before, "a list of somebody else was signed");
    Ok(())
}

#[test]
fn the_beginning_of_another_registry_is_not_signed() -> TestResult {
    let team = Team::new()?;
    a_registry_of_somebody_else(&team)?;
    refused(team.sign("other-init", "publishing")?, "begins a registry, and you go by the root")?;
    refused(team.review("other-init", "publishing")?, "begins a registry, and you go by the root")
}

#[test]
fn a_review_says_which_root_it_went_by() -> TestResult {
    let team = Team::new()?;
    team.add_module("1.0.0", &[])?;
    team.propose("change")?;
    let root = team.person("governance").join("root.json");
    let sha256 = lockgate_signing::digest::Digest::of(&std::fs::read(&root)?).to_hex();
    let said = format!("Verified from {} (sha256 {sha256}), root version 1", root.display());
    let review = team.review("change", "governance")?.ok()?.stdout;
    ensure!(review.lines().nth(1) == Some(&said), "no line `{said}` in\n{review}");
    // Whoever types a passphrase sees it before.
    let signed = team.sign("change", "governance")?.ok()?;
    ensure!(signed.stderr.contains(&said), "{}", signed.stderr);
    let beginning = team.run(&["review", &team.text("registry-init")]);
    ensure!(beginning?.ok()?.stdout.contains("It begins a registry"), "the beginning is not said");
    let newcomers = Team::before_the_ceremony()?;
    let signed = newcomers.sign("registry-init", "duty")?.ok()?;
    ensure!(signed.stderr.contains("It begins a registry"), "{}", signed.stderr);
    Ok(())
}
