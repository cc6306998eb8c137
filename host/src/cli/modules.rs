//! What `modules`, `directions`, `refresh` and `status` print.

use lockgate_signing::scope::Widening;
use semver::Version;
use serde_json::json;

use super::show::{print, table};
use crate::modules::{Approved, View};
use crate::observed::Ended;
use crate::status::{DirectionLine, ModuleLine, Status};

const NO_MODULE: &str = "No module is installed or offered here.";

pub(super) fn modules(lines: &[ModuleLine], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print(&json!({ "modules": lines }).to_string());
    }
    if lines.is_empty() {
        return print(NO_MODULE);
    }
    for line in lines {
        print(&paragraph(line))?;
    }
    Ok(())
}

/// Everything that a practice needs to decide about a module.
fn paragraph(line: &ModuleLine) -> String {
    let mut text = format!("{} {}: {}\n  {}", line.module, line.version, line.state, line.detail);
    let mut add = |what: &str, value: &str| text.push_str(&format!("\n  {what:<12}{value}"));
    if let Some(title) = &line.title {
        add("title", title);
    }
    if let Some(purpose) = &line.purpose {
        add("purpose", purpose.as_str());
    }
    if let Some(legal_basis) = &line.legal_basis {
        add("legal basis", legal_basis);
    }
    if let Some(until) = line.until {
        add("until", &until.to_string());
    }
    line.reads.iter().for_each(|reads| add("reads", reads));
    line.sends.iter().for_each(|sends| add("sends", sends));
    if !line.links.is_empty() {
        add("links by", &line.links.join(", "));
    }
    if line.state == "waiting" {
        wider(&line.wider).lines().for_each(|line| add("beyond", line));
    }
    text.push('\n');
    text
}

/// What widened, a line each, and every code that came in.
fn wider(wider: &[Widening]) -> String {
    if wider.is_empty() {
        return "nothing: it reads and sends no more than what runs".to_owned();
    }
    let mut lines = Vec::new();
    for it in wider {
        lines.push(it.to_string());
        lines.extend(it.codes.iter().map(|code| format!("  {code}")));
    }
    lines.join("\n")
}

pub(super) fn approved(approved: &Approved, as_json: bool) -> anyhow::Result<()> {
    let manifest = approved.module.manifest();
    let (id, version) = (&manifest.value().id, manifest.version());
    if as_json {
        let before = approved.before.as_ref().map(Version::to_string);
        let shown = json!({ "module": id, "version": version.to_string(), "before": before, "wider": approved.wider });
        return print(&shown.to_string());
    }
    let beyond = match &approved.before {
        Some(before) => format!("Beyond {before}:"),
        None => "What it is for, reads and sends:".to_owned(),
    };
    let wider = wider(&approved.wider);
    let wider: Vec<_> = wider.lines().map(|line| format!("  {line}")).collect();
    print(&format!("{beyond}\n{}\n{id} {version} is approved and installed.", wider.join("\n")))
}

pub(super) fn refused(module: &str, version: Option<&Version>, as_json: bool) -> anyhow::Result<()> {
    let shown = version.map(Version::to_string);
    if as_json {
        return print(&json!({ "module": module, "version": shown, "refused": true }).to_string());
    }
    match shown {
        Some(version) => print(&format!("{module} {version} is refused: it does not run here.")),
        None => print(&format!("{module} is refused: no version of it runs here.")),
    }
}

pub(super) fn directions(lines: &[DirectionLine], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print(&json!({ "directions": lines }).to_string());
    }
    if lines.is_empty() {
        return print("No direction is published for this site.");
    }
    for line in lines {
        print(&format!(
            "{} {}: {}\n  title       {}\n  legal basis {}\n  module      {}\n  overrides   {}\n  in force    {} to {}\n",
            line.direction,
            line.version,
            line.state,
            line.title,
            line.legal_basis,
            line.module,
            line.overrides.join(", "),
            line.not_before,
            line.not_after,
        ))?;
    }
    Ok(())
}

pub(super) fn answered(
    direction: &str,
    version: &Version,
    accepted: bool,
    as_json: bool,
) -> anyhow::Result<()> {
    if as_json {
        let shown = json!({ "direction": direction, "version": version.to_string(), "accepted": accepted });
        return print(&shown.to_string());
    }
    let word = if accepted { "accepted" } else { "refused" };
    print(&format!("Direction {direction} {version} is {word}, and that is in the ledger."))
}

pub(super) fn refreshed(view: &View, as_json: bool) -> anyhow::Result<()> {
    let lines: Vec<_> = view.standings.iter().map(ModuleLine::of).collect();
    let problems = view.published.problems.iter().map(|problem| &problem.what);
    let problems: Vec<_> = view.noticed.iter().chain(problems).collect();
    let (at, expires) = (view.registry.as_of(), view.registry.expires());
    if as_json {
        let shown = json!({ "refreshed": at, "expires": expires, "modules": lines, "problems": problems });
        return print(&shown.to_string());
    }
    for problem in problems {
        print(&format!("attention: {problem}"))?;
    }
    for question in DirectionLine::all(view).iter().filter_map(DirectionLine::question) {
        print(&format!("attention: {question}"))?;
    }
    let expires = expires.map_or_else(String::new, |expires| format!(", good until {expires}"));
    print(&format!("Refreshed at {at}{expires}."))?;
    if lines.is_empty() {
        return print(NO_MODULE);
    }
    let mut shown = table(["module", "version", "state", "detail"]);
    for line in &lines {
        shown.add_row([line.module.as_str(), &line.version, line.state, &line.detail]);
    }
    print(&shown.to_string())
}

pub(super) fn status(status: &Status, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print(&serde_json::to_string(status)?);
    }
    let ended = |ended: &Option<Ended>| match ended {
        None => "never".to_owned(),
        Some(it) if it.failed.is_empty() => format!("{}, fine", it.at),
        Some(it) => format!("{}, {} failed", it.at, it.failed.len()),
    };
    let time = |at: Option<jiff::Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let mut text = format!("Site {}\n", status.site);
    let mut add = |what: &str, value: &str| text.push_str(&format!("  {what:<12}{value}\n"));
    match &status.enrolled {
        Some(enrolled) => add("enrolled", &format!("{}, key {}", enrolled.at, enrolled.key)),
        None => add("enrolled", "no"),
    }
    add("registry", &status.registry.location);
    add("refreshed", &time(status.registry.refreshed));
    if let Some(failed) = &status.registry.failed {
        let why: Vec<_> = failed.failed.iter().map(|it| it.why.as_str()).collect();
        add("", &format!("the attempt at {} failed: {}", failed.at, why.join("; ")));
    }
    add("good until", &time(status.registry.expires));
    add("last run", &ended(&status.last_run));
    let oldest = status.outbox.oldest.map_or_else(String::new, |at| format!(", the oldest of {at}"));
    add("outbox", &format!("{} bundles{oldest}", status.outbox.queued));
    print(&text)?;
    if !status.modules.is_empty() {
        let mut shown = table(["module", "version", "state", "detail"]);
        for line in &status.modules {
            shown.add_row([line.module.as_str(), &line.version, line.state, &line.detail]);
        }
        print(&shown.to_string())?;
    }
    if !status.directions.is_empty() {
        let mut shown = table(["direction", "version", "state", "module", "overrides"]);
        for line in &status.directions {
            shown.add_row([
                line.direction.as_str(),
                &line.version,
                line.state,
                line.module.as_str(),
                &line.overrides.join(", "),
            ]);
        }
        print(&shown.to_string())?;
    }
    if status.needs_person.is_empty() {
        return print("\nNothing needs a person.");
    }
    let lines: Vec<_> = status.needs_person.iter().map(|what| format!("- {what}")).collect();
    print(&format!("\nNeeds a person:\n{}", lines.join("\n")))
}
