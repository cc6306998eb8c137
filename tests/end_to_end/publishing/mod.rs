//! Publishing by several people: nothing goes live that too few have signed, that was made on an old base, or that no
//! agent would take; what is signed was said in words before.

mod review;
mod roots;
mod status;
mod team;
mod terminal;

use anyhow::{Context as _, ensure};
use lockgate_tests::{AS_OF, Site, SiteOptions, copy_folder};
use serde_json::Value;

use crate::TestResult;
use team::{ROLES, Team};

/// A finished command that was refused, and said so.
fn refused(finished: lockgate_tests::Finished, said: &str) -> TestResult {
    let finished = finished.expect(1)?;
    ensure!(finished.stderr.contains(said), "said: {}", finished.stderr);
    Ok(())
}

/// The module of the examples, offered to all, proposed in `change`.
fn proposed() -> anyhow::Result<Team> {
    let team = Team::new()?;
    team.add_module("1.0.0", &[])?;
    team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all"])?.ok()?;
    team.propose("change")?;
    Ok(team)
}

fn live(team: &Team) -> anyhow::Result<Vec<u8>> {
    Ok(std::fs::read(team.path("registry/metadata/timestamp.json"))?)
}

#[test]
fn the_first_documents_need_the_ceremony() -> TestResult {
    let team = Team::before_the_ceremony()?;
    let publish = || team.publish(&["publish", &team.text("registry-init")]);
    refused(publish()?, "lacks signatures: 0 of 2 signed: nobody")?;
    for name in ["root-2", "publishing", "governance", "duty"] {
        team.sign("registry-init", name)?.ok()?;
    }
    refused(publish()?, "1 of 2 signed: root-2; 1 more needed, of: root-1, root-3")?;
    // The same person once more is no second person.
    let again = team.sign("registry-init", "root-2")?.ok()?;
    ensure!(again.stdout.contains("You had signed already"), "{}", again.stdout);
    refused(publish()?, "1 of 2 signed")?;
    ensure!(!team.path("registry").exists(), "a repository that too few signed was made");
    team.sign("registry-init", "root-1")?.ok()?;
    publish()?.ok()?;
    // It says that nothing is held, so that a site need not take an absent list for an empty one.
    let listed = team.publish(&["list", "--json"])?.ok()?.json()?;
    ensure!(listed["published"][0]["path"] == "holds/standing/1.0.0.toml", "{listed}");
    refused(publish()?, "a repository is never overwritten")
}

#[test]
fn two_people_sign_copies_in_separate_folders() -> TestResult {
    let team = proposed()?;
    for name in ["publishing", "governance"] {
        copy_folder(&team.path("change"), &team.path(&format!("copy-{name}")))?;
        team.sign(&format!("copy-{name}"), name)?.ok()?;
    }
    let (one, other) = (team.text("copy-publishing"), team.text("copy-governance"));
    let before = live(&team)?;
    refused(team.publish(&["publish", &one])?, "1 of 2 signed: publishing; 1 more needed, of: governance")?;
    // A copy twice is one signature, whatever the file says.
    refused(team.publish(&["publish", &one, &one])?, "1 of 2 signed")?;
    let file = team.path("copy-publishing/documents/rollout.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let twice = document["signatures"][0].clone();
    if let Some(all) = document["signatures"].as_array_mut() {
        all.push(twice);
    }
    std::fs::write(&file, document.to_string())?;
    refused(team.publish(&["publish", &one])?, "1 of 2 signed")?;
    ensure!(live(&team)? == before, "something went live");
    let published = team.publish(&["publish", &one, &other])?.ok()?.stdout;
    // What it says to do next can be done on this machine, which has the online key alone.
    ensure!(published.contains("`refresh` keeps it so, before 2026-11-15T00:00:00Z"), "{published}");
    team.publish(&["refresh"])?.ok()?;
    ensure!(live(&team)? != before, "nothing went live");
    team.publish(&["propose", &team.text("more")])?.expect(3).map(drop)
}

#[test]
fn a_key_that_may_not_sign_and_a_wrong_passphrase_are_refused() -> TestResult {
    let team = proposed()?;
    refused(team.sign("change", "duty")?, "may sign none of its documents")?;
    refused(team.sign_with("change", "governance", "correct horse")?, "the passphrase does not open")?;
    team.make_key("stranger")?;
    std::fs::copy(team.root(), team.person("stranger").join("root.json"))?;
    refused(team.sign("change", "stranger")?, "may sign none")?;
    // A signature of somebody's own making, under the name of one who may sign.
    team.sign("change", "publishing")?.ok()?;
    let file = team.path("change/documents/modules.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let root: Value = serde_json::from_slice(&std::fs::read(team.path("registry/metadata/1.targets.json"))?)?;
    let keys = &root["signed"]["delegations"]["roles"][0]["keyids"];
    let mine = document["signatures"][0].clone();
    let other = keys.as_array().into_iter().flatten().find(|id| **id != mine["keyid"]).cloned();
    let mut forged = mine;
    forged["keyid"] = other.unwrap_or_default();
    if let Some(all) = document["signatures"].as_array_mut() {
        all.push(forged);
    }
    std::fs::write(&file, document.to_string())?;
    refused(team.publish(&["publish", &team.text("change")])?, "modules document lacks signatures: 1 of 2")?;
    // A key file that others may read is none.
    let key = team.person("governance").join("key.pem");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    refused(team.sign("change", "governance")?, "chmod 600")
}

#[test]
fn what_was_changed_after_the_review_is_not_signed() -> TestResult {
    let team = proposed()?;
    let reviewed = team.review("change", "governance")?.ok()?;
    let digest =
        reviewed.stdout.lines().next().unwrap_or_default().trim_start_matches("Proposal ").to_owned();
    // Another rollout under the same name.
    let file = team.path("change/documents/rollout.json");
    let text = std::fs::read_to_string(&file)?;
    let expires =
        text.split("\"expires\": \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    std::fs::write(&file, text.replace(expires, "2099-01-01T00:00:00Z"))?;
    let key = team.person("governance").join("key.pem").display().to_string();
    let signed = team.run(&["sign", &team.text("change"), "--key", &key, "--digest", &digest])?;
    refused(signed, "not the one that you reviewed")?;
    // A new file other than the one that is listed.
    std::fs::write(&file, text)?;
    let file = team.path("change/files/rollouts/gp-monthly/1.0.0.toml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("\"all\"", "[\"everybody\"]"))?;
    refused(team.review("change", "governance")?, "the file is missing or another one")
}

#[test]
fn a_proposal_on_an_older_base_is_refused() -> TestResult {
    let team = Team::new()?;
    team.add_module("1.0.0", &[])?;
    team.propose("first")?;
    team.add_module("1.1.0", &[])?;
    team.propose("second")?;
    for proposal in ["first", "second"] {
        team.sign(proposal, "publishing")?.ok()?;
        team.sign(proposal, "governance")?.ok()?;
    }
    team.publish(&["publish", &team.text("second")])?.ok()?;
    refused(team.publish(&["publish", &team.text("first")])?, "made on version 1 of the modules list")?;
    // Two proposals that touch different lists do not hinder each other.
    team.add_example("policy", "policies/objections.toml")?;
    team.propose("policy")?;
    team.publish(&["hold", "--everything", "--reason", "A fault is being looked into."])?.ok()?;
    team.publish(&["propose", &team.text("hold"), "--role", "holds"])?.ok()?;
    team.sign("hold", "duty")?.ok()?;
    team.publish(&["publish", &team.text("hold")])?.ok()?;
    team.sign("policy", "publishing")?.ok()?;
    team.sign("policy", "governance")?.ok()?;
    team.publish(&["publish", &team.text("policy")])?.ok().map(drop)
}

#[test]
fn nothing_is_signed_on_top_of_a_repository_that_went_back() -> TestResult {
    let team = Team::new()?;
    copy_folder(&team.path("registry"), &team.path("old"))?;
    team.add_example("policy", "policies/objections.toml")?;
    team.change("policy", &["publishing", "governance"])?;
    std::fs::remove_dir_all(team.path("registry"))?;
    std::fs::rename(team.path("old"), team.path("registry"))?;
    for command in [&["refresh"][..], &["status"], &["propose", "again"], &["publish"]] {
        refused(team.publish(command)?, "the repository went back")?;
    }
    Ok(())
}

#[test]
fn an_agent_follows_other_signers_and_a_longer_root() -> TestResult {
    let team = Team::new()?;
    team.add_example("mapping", "mappings/gp-extract.toml")?;
    team.add_example("policy", "policies/objections.toml")?;
    team.add_example("sensitive", "sensitive/england.toml")?;
    team.add_recipients()?;
    team.change("examples", &["publishing", "governance"])?;
    let site = site(&team)?;
    site.command(&["refresh"])?.ok()?;

    // Governance leaves, and a root key is replaced.
    team.make_key("new-governance")?;
    team.make_key("root-4")?;
    let roles = ROLES
        .replace("people/governance/", "people/new-governance/")
        .replace("people/root-3/", "people/root-4/");
    let roles = roles.replace("root-3", "root-4").replace("governance = ", "new-governance = ");
    let roles = roles.replace("\"governance\"", "\"new-governance\"");
    std::fs::write(team.path("roles-2.toml"), roles)?;
    team.publish(&["root", "rotate", &team.text("rotation"), "--roles", &team.text("roles-2.toml")])?.ok()?;
    for name in ["new-governance", "root-4"] {
        std::fs::copy(team.root(), team.person(name).join("root.json"))?;
    }
    let publish = |proposal: &str| team.publish(&["publish", &team.text(proposal)]);
    // Two of the old keys are needed, and two of the new ones. root-1 is both.
    team.sign("rotation", "root-1")?.ok()?;
    team.sign("rotation", "root-4")?.ok()?;
    refused(
        publish("rotation")?,
        "root document lacks signatures: 1 of 2 signed: root-1; 1 more needed, of: root-2, root-3",
    )?;
    team.sign("rotation", "root-2")?.ok()?;
    // The lists that the old governance signed are signed again by the new one.
    refused(publish("rotation")?, "lacks signatures")?;
    for name in ["publishing", "new-governance", "duty"] {
        team.sign("rotation", name)?.ok()?;
    }
    publish("rotation")?.ok()?;
    site.command(&["refresh"])?.ok()?;

    // The one who left signs nothing any more; the new one does.
    team.publish(&["cohort", "set", "pathfinders", "--title", "Those that try first", "--site", "A81001"])?
        .ok()?;
    team.propose("cohort")?;
    refused(team.sign("cohort", "governance")?, "may sign none")?;
    team.sign("cohort", "new-governance")?.ok()?;
    team.sign("cohort", "publishing")?.ok()?;
    publish("cohort")?.ok()?;
    site.command(&["refresh"])?.ok()?;

    team.publish(&["root", "extend", &team.text("longer"), "--root-days", "1000"])?.ok()?;
    refused(team.sign("longer", "root-3")?, "may sign none")?;
    team.sign("longer", "root-2")?.ok()?;
    team.sign("longer", "root-4")?.ok()?;
    publish("longer")?.ok()?;
    site.command(&["refresh"])?.ok()?;
    // A site that pins the first root, and one that was installed today, find the same.
    let newcomer = Team::root(&team);
    ensure!(newcomer.exists(), "the pinned root is gone");
    let status = team.publish(&["status", "--json"])?.ok()?.json()?;
    let root = status["ends"].as_array().into_iter().flatten().find(|end| end["what"] == "the root document");
    ensure!(root.is_some_and(|end| end["days"] == 1_000), "{status}");
    Ok(())
}

/// A site that reads the team's repository.
fn site(team: &Team) -> anyhow::Result<Site> {
    Site::new(
        team.binaries.program("lockgate-agent")?,
        team.path("site"),
        SiteOptions::practice("A81001", &team.path("none.sqlite")),
        &team.path("registry"),
        &team.root(),
        "http://127.0.0.1:9",
    )
}

#[test]
fn holds_and_revocations_are_kept_whole() -> TestResult {
    let team = proposed()?;
    for name in ["publishing", "governance"] {
        team.sign("change", name)?.ok()?;
    }
    team.publish(&["publish", &team.text("change")])?.ok()?;
    refused(
        team.publish(&["hold", "--module", "gp-montly", "--reason", "A fault."])?,
        "the module gp-montly",
    )?;
    refused(team.publish(&["hold", "--cohort", "nowhere", "--reason", "A fault."])?, "the cohort nowhere")?;
    team.publish(&["hold", "--reason", "A fault."])?.expect(2)?;
    refused(team.publish(&["resume", "--everything"])?, "there is no such hold")?;
    refused(team.publish(&["revoke", "gp-monthly", "7.0.0", "--reason", "A fault."])?, "gp-monthly 7.0.0")?;

    team.add_token_keys()?;
    team.change("keys", &["publishing", "governance"])?;
    team.publish(&["hold", "--module", "gp-monthly", "--reason", "A fault."])?.ok()?;
    team.change("hold", &["duty"])?;
    let status = team.publish(&["status"])?.ok()?.stdout;
    ensure!(status.contains("held: gp-monthly, since 2026-11-01: A fault."), "{status}");
    team.publish(&["resume", "--module", "gp-monthly"])?.ok()?;
    team.publish(&["revoke", "gp-monthly", "1.0.0", "--reason", "A wrong code."])?.ok()?;
    team.change("revoke", &["publishing"])?;
    let status = team.publish(&["status"])?.ok()?.stdout;
    ensure!(!status.contains("held:") && status.contains("revoked: gp-monthly 1.0.0"), "{status}");

    // A list that forgets it is not published.
    let forgetful = team.path("registry/staged/holds/standing/1.0.9.toml");
    std::fs::create_dir_all(forgetful.parent().unwrap_or(&forgetful))?;
    std::fs::write(&forgetful, "format = 1\nid = \"standing\"\nversion = \"1.0.9\"\n")?;
    refused(team.publish(&["propose", &team.text("forgetful")])?, "drops the revocation of gp-monthly 1.0.0")
}

#[test]
fn the_refresh_needs_the_online_key_only_and_status_warns() -> TestResult {
    let team = Team::new()?;
    let status = |day: &str| team.publish_as_of(&["status"], day);
    status(AS_OF)?.ok()?;
    let soon = status("2026-11-12")?.expect(4)?;
    ensure!(soon.stdout.contains("SOON  2026-11-15 (3 days)  the timestamp document"), "{}", soon.stdout);
    let ended = status("2026-11-20")?.expect(4)?;
    ensure!(ended.stdout.contains("ENDED 2026-11-15"), "{}", ended.stdout);

    // A timer that failed for weeks is made good by its next run.
    let refreshed = team.publish_as_of(&["refresh", "--json"], "2026-11-10")?.ok()?.json()?;
    ensure!(refreshed["snapshot"] == false, "the snapshot was not due: {refreshed}");
    let refreshed = team.publish_as_of(&["refresh", "--json"], "2026-12-20")?.ok()?.json()?;
    ensure!(refreshed["snapshot"] == true, "the snapshot was due: {refreshed}");
    status("2026-12-20")?.ok()?;
    // It signs nothing else: what people signed ends, and they are told in time.
    let soon = status("2027-10-01")?.expect(4)?;
    ensure!(soon.stdout.contains("the modules document: `propose --renew`"), "{}", soon.stdout);
    refused(team.publish_as_of(&["refresh"], "2027-11-02")?, "expired")?;

    team.publish_as_of(&["propose", &team.text("renewal"), "--renew"], "2027-10-01")?.ok()?;
    for name in ["root-1", "root-2", "publishing", "governance", "duty"] {
        team.sign("renewal", name)?.ok()?;
    }
    team.publish_as_of(&["publish", &team.text("renewal")], "2027-10-01")?.ok()?;
    team.publish_as_of(&["refresh"], "2027-11-02")?.ok()?;
    // Without its key nothing is refreshed.
    std::fs::rename(team.path("online/online.pem"), team.path("online.pem"))?;
    refused(team.publish_as_of(&["refresh"], "2027-11-02")?, "key is not on this machine")
}

#[test]
fn documents_that_do_not_fit_together_are_refused_when_they_are_staged() -> TestResult {
    let team = Team::new()?;
    refused(team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all"])?, "gp-monthly 1.0.0")?;
    team.add_module("1.0.0", &[])?;
    refused(team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "nowhere"])?, "the cohort nowhere")?;
    let over = ["rollout", "gp-monthly", "1.0.0", "--to", "all", "--not-after", "2026-10-10"];
    refused(team.publish(&over)?, "the last day of the offer, 2026-10-10, is over on 2026-11-01")?;
    refused(
        team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all", "--to", "nowhere"])?,
        "name it alone",
    )?;
    refused(team.publish(&["cohort", "set", "pathfinders", "--site", "A81001"])?, "say with --title")?;
    std::fs::write(team.path("sites.txt"), "A81002\n\nA81001 # the first\n")?;
    let sites = team.text("sites.txt");
    team.publish(&["cohort", "set", "pathfinders", "--title", "Two", "--file", &sites])?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "pathfinders"])?.ok()?;
    team.change("first", &["publishing", "governance"])?;
    let same = team.publish(&["cohort", "set", "pathfinders", "--file", &sites])?.ok()?;
    ensure!(same.stdout.contains("live already"), "{}", same.stdout);
    refused(team.publish(&["rollout", "gp-monthly", "9.0.0", "--withdraw"])?, "not offered to anybody")
}

#[test]
fn a_token_key_that_no_agent_can_use_is_not_staged() -> TestResult {
    let team = Team::new()?;
    let sample = team.binaries.root().join("examples/registry/token-keys/asthma.toml");
    let sample = std::fs::read_to_string(sample)?;
    let key = sample.lines().find_map(|line| line.strip_prefix("public-key = \"")).context("no key")?;
    // No element of the group, and the one that says nothing.
    for wrong in ["f".repeat(64), "0".repeat(64)] {
        std::fs::write(team.path("keys.toml"), sample.replace(&key[..64], &wrong))?;
        let refused = team.publish(&["token-keys", "add", &team.text("keys.toml")])?.expect(1)?.stderr;
        ensure!(refused.contains("keys.toml") && refused.contains("epoch 1.public-key"), "{refused}");
    }
    // Epochs that are all over, under which no site could make a token.
    std::fs::write(
        team.path("keys.toml"),
        sample.replace("until = \"2028-12-31\"", "until = \"2026-10-31\""),
    )?;
    let over = team.publish(&["token-keys", "add", &team.text("keys.toml")])?;
    refused(over, "its last day is 2026-10-31, and it is 2026-11-01")?;
    // Nor is one that was put there by hand.
    std::fs::write(team.path("keys.toml"), &sample)?;
    team.publish(&["token-keys", "add", &team.text("keys.toml")])?.ok()?;
    let staged = team.path("registry/staged/token-keys/asthma/1.0.0.toml");
    std::fs::write(staged, sample.replace(&key[..64], &"0".repeat(64)))?;
    refused(team.publish(&["propose", &team.text("keys")])?, "epoch 1.public-key")
}

#[test]
fn a_mapping_that_is_not_sql_is_not_staged() -> TestResult {
    let team = Team::new()?;
    let sample = team.binaries.root().join("examples/registry/mappings/gp-extract.toml");
    let sample = std::fs::read_to_string(sample)?;
    ensure!(sample.contains("\"p.Sex\""), "the sample has another sex");
    std::fs::write(team.path("mapping.toml"), sample.replacen("p.Sex", "p.Sexx((", 1))?;
    let refused = team.publish(&["mapping", "add", &team.text("mapping.toml")])?.expect(1)?.stderr;
    ensure!(
        refused.contains("mapping.toml") && refused.contains(".column.sex.sql`: is not SQL"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn what_is_staged_can_be_taken_back() -> TestResult {
    let team = Team::new()?;
    team.add_module("1.0.0", &[])?;
    team.add_module("1.1.0", &[])?;
    team.publish(&["rollout", "gp-monthly", "1.1.0", "--to", "all"])?.ok()?;
    // It names a module that there is not, and stands in the way of every direction.
    team.add_example("direction", "directions/asthma-review.toml")?;
    let propose = || team.publish(&["propose", &team.text("change"), "--role", "directions"]);
    refused(propose()?, "names the module asthma")?;

    let staged = team.publish(&["unstage"])?.ok()?.stdout;
    let all = "Staged:\n  direction asthma-review 1.0.0\n  module gp-monthly 1.0.0\n  module gp-monthly 1.1.0\n  rollout \
               gp-monthly 1.0.0\n";
    ensure!(staged == all, "{staged}");
    refused(team.publish(&["unstage", "direction", "asthma-review", "7.0.0"])?, "7.0.0 is not staged")?;
    refused(team.publish(&["unstage", "mapping", "asthma-review"])?, "is not staged")?;
    team.publish(&["unstage", "direction"])?.expect(2)?;
    let taken = team.publish(&["unstage", "direction", "asthma-review"])?.ok()?.stdout;
    ensure!(taken.starts_with("Took back direction asthma-review 1.0.0.\nStaged:\n"), "{taken}");
    propose()?.expect(3)?;

    // Both files of one version, and nothing of another; also where somebody changed one of them.
    let manifest = team.path("registry/staged/modules/gp-monthly/1.0.0/manifest.toml");
    std::fs::write(&manifest, "no manifest")?;
    team.publish(&["unstage", "module", "gp-monthly", "1.0.0"])?.ok()?;
    ensure!(!team.path("registry/staged/modules/gp-monthly/1.0.0").exists(), "a file is left");
    team.publish(&["unstage", "rollout", "gp-monthly"])?.ok()?;
    let left = team.publish(&["unstage", "--json"])?.ok()?.json()?;
    ensure!(left["staged"] == serde_json::json!(["module gp-monthly 1.1.0"]), "{left}");
    team.propose("change")
}

#[test]
fn a_new_key_takes_nobody_s_place_and_a_closed_descriptor_is_named() -> TestResult {
    let team = Team::before_the_ceremony()?;
    let key = team.person("duty").join("key.pem").display().to_string();
    // Nobody is asked for a passphrase first: there is no terminal here, and nothing is open.
    refused(team.run(&["key", "new", &key, "--passphrase-fd", "9"])?, "a key is never overwritten")?;
    let signed = team.run(&["sign", &team.text("registry-init"), "--key", &key, "--passphrase-fd", "9"])?;
    refused(
        signed,
        "from file descriptor 9: No such file or directory (os error 2); open it for this command",
    )
}
