//! What a reviewer reads.

use anyhow::{Context as _, ensure};

use super::team::Team;
use crate::TestResult;

/// The review of a proposal has these lines.
fn says(team: &Team, proposal: &str, lines: &[&str]) -> TestResult {
    let text = team.review(proposal, "governance")?.ok()?.stdout;
    for line in lines {
        ensure!(text.lines().any(|said| said.trim() == *line), "no line `{line}` in\n{text}");
    }
    Ok(())
}

#[test]
fn a_new_module_a_cohort_and_a_rollout() -> TestResult {
    let team = Team::new()?;
    team.add_module("1.0.0", &[])?;
    let sites = ["--site", "A81002", "--site", "A81001"];
    let cohort = ["cohort", "set", "pathfinders", "--title", "Two that try first"];
    team.publish(&[&cohort[..], &sites].concat())?.ok()?;
    let rollout = ["rollout", "gp-monthly", "1.0.0", "--to", "pathfinders", "--not-before", "2026-11-08"];
    team.publish(&rollout)?.ok()?;
    team.propose("change")?;
    team.sign("change", "publishing")?.ok()?;
    says(
        &team,
        "change",
        &[
            "New module gp-monthly 1.0.0: Monthly extract of coded general practice records",
            "purpose: care-data",
            "New cohort pathfinders 1.0.0: Two that try first",
            "2 sites came: A81001, A81002",
            "now offered: 1.0.0 to cohort pathfinders (2 sites), from 2026-11-08",
            "modules: 1 of 2 signed: publishing; 1 more needed, of: governance",
        ],
    )?;

    team.sign("change", "governance")?.ok()?;
    team.publish(&["publish", &team.text("change")])?.ok()?;
    // Wider to read, another cohort, offered to all, and held.
    let manifest = std::fs::read_to_string(team.path("module.toml"))?;
    let span = manifest.lines().find(|line| line.starts_with("span = ")).context("no span")?.to_owned();
    team.add_module("1.1.0", &[(&span, "span = \"all\"")])?;
    team.publish(&["cohort", "set", "pathfinders", "--site", "A81002", "--site", "A81003"])?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all"])?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.1.0", "--to", "pathfinders"])?.ok()?;
    team.publish(&["hold", "--cohort", "pathfinders", "--reason", "A fault is being looked into."])?.ok()?;
    team.propose("wider")?;
    says(
        &team,
        "wider",
        &[
            "WIDER than 1.0.0, which is offered to cohort pathfinders (2 sites): a site that runs it is asked before \
             this version runs",
            "the program is the same, byte for byte",
            "1 site came: A81003",
            "1 site went: A81001",
            "now offered: 1.0.0 to all sites",
            "now offered: 1.1.0 to cohort pathfinders (2 sites)",
            "no longer: 1.0.0 to cohort pathfinders (2 sites), from 2026-11-08",
            "now held, since 2026-11-01: everything in cohort pathfinders: A fault is being looked into.",
        ],
    )
}

#[test]
fn codelists_and_policies_say_what_came_and_went() -> TestResult {
    let team = Team::new()?;
    team.add_example("policy", "policies/objections.toml")?;
    let codelist = |version: &str, codes: &str| -> TestResult {
        let text = format!(
            "format = 1\nid = \"diabetes\"\nversion = \"{version}\"\ntitle = \"Diabetes\"\n[codes]\nsnomed = [{codes}]\n"
        );
        std::fs::write(team.path("codelist.toml"), text)?;
        team.publish(&["codelist", "add", &team.text("codelist.toml")])?.ok().map(drop)
    };
    codelist("1.0.0", "\"44054006\", \"46635009\"")?;
    team.change("first", &["publishing", "governance"])?;
    codelist("1.1.0", "\"44054006\", \"73211009\"")?;
    let policy = team.binaries.root().join("examples/registry/policies/objections.toml");
    let policy = std::fs::read_to_string(policy)?.replacen("version = \"1.0.0\"", "version = \"1.1.0\"", 1);
    let (before, after) = policy.split_once("not-after = \"").context("no last day")?;
    let (was, rest) = after.split_at(10);
    std::fs::write(team.path("policy.toml"), format!("{before}not-after = \"2029-12-31{rest}"))?;
    team.publish(&["policy", "add", &team.text("policy.toml")])?.ok()?;
    team.propose("change")?;
    says(
        &team,
        "change",
        &[
            "Codelist diabetes: version 1.1.0 follows 1.0.0",
            "1 snomed code came: 73211009",
            "1 snomed code went: 46635009",
            "Policy: objections-england 1.1.0 follows 1.0.0",
            &format!("not-after: was {was}, is 2029-12-31"),
        ],
    )
}

/// A module of which everybody is offered 1.0.0, and one site 1.1.0, which reads more: with what makes it wider.
fn wider_at_pathfinders() -> anyhow::Result<(Team, String)> {
    let team = Team::new()?;
    team.add_token_keys()?;
    let manifest = team.binaries.root().join("guest-modules/gp-monthly/module.toml");
    let manifest = std::fs::read_to_string(manifest)?;
    let span = manifest.lines().find(|line| line.starts_with("span = ")).context("no span")?.to_owned();
    team.publish(&["cohort", "set", "pathfinders", "--title", "One that tries first", "--site", "A81001"])?
        .ok()?;
    team.add_module("1.0.0", &[])?;
    team.add_module("1.1.0", &[(&span, "span = \"all\"")])?;
    team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all"])?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.1.0", "--to", "pathfinders"])?.ok()?;
    team.change("first", &["publishing", "governance"])?;
    Ok((team, span))
}

#[test]
fn a_rollout_that_only_widens_says_who_is_asked() -> TestResult {
    let (team, _) = wider_at_pathfinders()?;
    team.publish(&["rollout", "gp-monthly", "1.1.0", "--to", "all"])?.ok()?;
    team.propose("widened")?;
    says(
        &team,
        "widened",
        &[
            "now offered: 1.1.0 to all sites",
            "WIDER than 1.0.0, which is offered to all sites: a site that runs it is asked before this version runs",
            "wider: input.observations: reads the whole record, was the month's entries",
            "a site that runs none of these is asked",
        ],
    )
}

#[test]
fn who_is_asked_depends_on_what_a_site_runs() -> TestResult {
    let (team, span) = wider_at_pathfinders()?;
    let wider = (&*span, "span = \"all\"");

    // The version before went to the pathfinders only.
    team.add_module("1.2.0", &[wider])?;
    team.publish(&["propose", &team.text("second"), "--role", "modules"])?.ok()?;
    says(
        &team,
        "second",
        &[
            "WIDER than 1.0.0, which is offered to all sites: a site that runs it is asked before this version runs",
            "reads and sends no more than 1.1.0, which is offered to cohort pathfinders (1 site): a site that runs it \
             takes this version without asking",
            "a site that runs none of these is asked",
        ],
    )?;

    // It was revoked, and sites run the one before it.
    team.publish(&["revoke", "gp-monthly", "1.1.0", "--reason", "A wrong code."])?.ok()?;
    team.publish(&["propose", &team.text("never"), "--role", "holds"])?.ok()?;
    team.sign("never", "duty")?.ok()?;
    team.publish(&["publish", &team.text("never")])?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.2.0", "--to", "all"])?.ok()?;
    team.propose("third")?;
    says(
        &team,
        "third",
        &[
            "WIDER than 1.0.0, which is offered to all sites: a site that runs it is asked before this version runs",
            "reads and sends no more than 1.1.0, which was revoked: a site that ran it takes this version without asking",
            "still offered: 1.0.0 to all sites",
            "revoked, and run nowhere: 1.1.0 to cohort pathfinders (1 site)",
            "now offered: 1.2.0 to all sites",
        ],
    )
}
