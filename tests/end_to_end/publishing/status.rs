//! What stops every site one day is said in time.

use anyhow::ensure;
use lockgate_tests::AS_OF;

use super::team::Team;
use crate::TestResult;

/// The status on this day has these lines, and says by its exit code that somebody has to act.
fn says(team: &Team, day: &str, lines: &[&str]) -> anyhow::Result<String> {
    let text = team.publish_as_of(&["status"], day)?.expect(4)?.stdout;
    for line in lines {
        ensure!(text.lines().any(|said| said.starts_with(line)), "no line `{line}` in\n{text}");
    }
    Ok(text)
}

#[test]
fn every_offer_and_every_key_is_watched() -> TestResult {
    let team = Team::new()?;
    team.add_module("1.0.0", &[("not-after = \"2028-03-31\"", "not-after = \"2026-12-31\"")])?;
    team.add_module("1.1.0", &[])?;
    let cohort = ["cohort", "set", "pathfinders", "--title", "Those that try first", "--site", "A81001"];
    team.publish(&cohort)?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all"])?.ok()?;
    team.publish(&["rollout", "gp-monthly", "1.1.0", "--to", "pathfinders"])?.ok()?;
    team.add_edited("recipients", "recipients/warehouse.toml", &[("2027-12-31", "2026-12-20")])?;
    let purpose = ("id = \"asthma\"", "id = \"care-data\"");
    team.add_edited("token-keys", "token-keys/asthma.toml", &[purpose, ("2028-12-31", "2026-12-15")])?;
    team.change("basics", &["publishing", "governance"])?;
    let purpose = ("module = \"asthma\"", "module = \"gp-monthly\"");
    team.add_edited("direction", "directions/asthma-review.toml", &[purpose])?;
    team.change("direction", &["governance", "duty"])?;

    let text = says(
        &team,
        "2026-11-01",
        &[
            "SOON  2026-12-15 (44 days)  the token keys care-data 1.0.0: ",
            "SOON  2026-12-20 (49 days)  the list of recipients warehouse-england 1.0.0: ",
            // What most sites run, though a newer one is at the pathfinders.
            "SOON  2026-12-31 (60 days)  the module gp-monthly 1.0.0, offered to all sites: ",
            "      2027-01-31 (91 days)  the direction asthma-review 1.0.0",
            "      2028-03-31 (516 days)  the module gp-monthly 1.1.0, offered to cohort pathfinders (1 site)",
        ],
    )?;
    ensure!(!text.contains("ENDED"), "{text}");
    // No site runs what was revoked, and its end concerns nobody.
    team.publish(&["revoke", "gp-monthly", "1.0.0", "--reason", "A wrong code."])?.ok()?;
    team.change("revoke", &["duty"])?;
    let text = says(&team, "2026-11-01", &["SOON  2026-12-15"])?;
    ensure!(!text.contains("the module gp-monthly 1.0.0"), "{text}");

    team.publish_as_of(&["refresh"], "2026-12-25")?.ok()?;
    let ended = "ENDED 2026-12-20 (-5 days)  the list of recipients";
    says(&team, "2026-12-25", &[ended, "ENDED 2026-12-15 (-10 days)  the token keys"])?;
    // That a direction ends is meant.
    team.publish_as_of(&["refresh"], "2027-01-25")?.ok()?;
    says(&team, "2027-01-25", &["      2027-01-31 (6 days)  the direction asthma-review 1.0.0"])?;
    Ok(())
}

#[test]
fn a_module_without_token_keys_draws_a_warning_until_they_are_there() -> TestResult {
    let team = Team::new()?;
    let warning =
        "gp-monthly 1.0.0`: its purpose care-data has no token keys, and no site can run it without";
    team.add_module("1.0.0", &[])?;
    let rollout = team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all"])?.ok()?.stdout;
    ensure!(rollout.contains(warning), "{rollout}");
    let proposed = team.publish(&["propose", &team.text("change")])?.ok()?.stdout;
    ensure!(proposed.contains(warning), "{proposed}");
    let review = team.review("change", "governance")?.ok()?.stdout;
    ensure!(review.contains(warning), "{review}");
    for name in ["publishing", "governance"] {
        team.sign("change", name)?.ok()?;
    }
    team.publish(&["publish", &team.text("change")])?.ok()?;
    says(&team, AS_OF, &["MISSING `gp-monthly 1.0.0`: its purpose care-data has no token keys"])?;

    team.add_token_keys()?;
    team.change("keys", &["publishing", "governance"])?;
    team.publish(&["status"])?.ok()?;
    let rollout =
        team.publish(&["rollout", "gp-monthly", "1.0.0", "--to", "all", "--not-after", "2027-12-31"])?;
    ensure!(!rollout.ok()?.stdout.contains("warning"), "there are token keys");
    Ok(())
}
