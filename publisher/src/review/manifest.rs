//! A module: what it is for, what it reads and sends, and what of that is new.

use lockgate_signing::manifest::Manifest;
use lockgate_signing::scope::{self, Widening};

use super::lists::codes_lines;
use super::{Section, some_of};

/// A version before the one that is reviewed, which sites run or may have run.
pub(super) struct Earlier {
    pub(super) manifest: Manifest,
    pub(super) now: Now,
}

/// How a version stands when the next one is reviewed.
pub(super) enum Now {
    /// To whom, in words.
    OfferedTo(String),
    OfferedToNobody,
    Revoked,
}

/// The version before, and every earlier one that somebody is offered: sites compare with what they run.
pub(super) fn section(before: Option<&Manifest>, run: &[Earlier], after: &Manifest) -> Section {
    match before {
        Some(before) => following(before, run, after),
        None => new(after),
    }
}

fn new(manifest: &Manifest) -> Section {
    let mut lines = vec![
        format!("purpose: {}", manifest.purpose),
        format!("legal basis: {}", manifest.legal_basis),
        format!("may run until {}", manifest.not_after),
    ];
    lines.extend(scope::reads(manifest).into_iter().map(|line| format!("reads {line}")));
    lines.extend(scope::sends(manifest).into_iter().map(|line| format!("sends {line}")));
    for link in &manifest.tokens.link {
        lines.push(format!("sends a link token made from {}", link.name()));
    }
    for (name, codes) in &manifest.codelists {
        let counts: Vec<_> =
            codes.iter().map(|(system, codes)| format!("{} {system}", codes.len())).collect();
        lines.push(format!("codelist {name}: {} codes", counts.join(", ")));
    }
    lines.extend(component(manifest));
    Section { title: format!("New module {} {}: {}", manifest.id, manifest.version, manifest.title), lines }
}

fn following(before: &Manifest, run: &[Earlier], after: &Manifest) -> Section {
    let mut lines = asked(run, after);
    let narrower = scope::widenings(after, before);
    lines.extend(
        narrower.iter().filter(|it| !is_change_both_ways(it)).flat_map(|it| in_words("no longer", it)),
    );
    for (name, codes) in &after.codelists {
        let changed = codes_lines(before.codelists.get(name), codes);
        lines.extend(changed.into_iter().map(|line| format!("codelist {name}: {line}")));
    }
    for name in before.codelists.keys().filter(|name| !after.codelists.contains_key(*name)) {
        lines.push(format!("codelist {name} went"));
    }
    if before.title != after.title {
        lines.push(format!("title: was “{}”, is “{}”", before.title, after.title));
    }
    if before.not_after != after.not_after {
        lines.push(format!("may run until {} (was {})", after.not_after, before.not_after));
    }
    if before.limits != after.limits {
        let (was, is) = (before.limits, after.limits);
        lines.push(format!(
            "limits: memory {} → {} MiB, fuel {} → {}, time {} → {} s, rows {} → {}",
            was.memory_mib,
            is.memory_mib,
            was.fuel,
            is.fuel,
            was.wall_clock_s,
            is.wall_clock_s,
            was.output_rows,
            is.output_rows
        ));
    }
    if before.component == after.component {
        lines.push("the program is the same, byte for byte".to_owned());
    } else {
        lines.extend(component(after));
    }
    Section {
        title: format!(
            "Module {}: version {} follows {}: {}",
            after.id, after.version, before.version, after.title
        ),
        lines,
    }
}

/// Which sites are asked before a version runs, by what they run.
pub(super) fn asked(run: &[Earlier], after: &Manifest) -> Vec<String> {
    let mut lines: Vec<_> = run.iter().flat_map(|earlier| who_is_asked(earlier, after)).collect();
    let others =
        if run.is_empty() { "every site is asked" } else { "a site that runs none of these is asked" };
    lines.push(others.to_owned());
    lines
}

fn who_is_asked(earlier: &Earlier, after: &Manifest) -> Vec<String> {
    let (now, site) = match &earlier.now {
        Now::OfferedTo(whom) => (format!("is offered to {whom}"), "a site that runs it"),
        Now::OfferedToNobody => ("is offered to nobody".to_owned(), "a site that runs it all the same"),
        Now::Revoked => ("was revoked".to_owned(), "a site that ran it"),
    };
    let version = &earlier.manifest.version;
    let wider = scope::widenings(&earlier.manifest, after);
    if wider.is_empty() {
        let takes = "takes this version without asking";
        return vec![format!("reads and sends no more than {version}, which {now}: {site} {takes}")];
    }
    let asked = format!("WIDER than {version}, which {now}: {site} is asked before this version runs");
    let wider = wider.iter().flat_map(|wider| in_words("wider", wider));
    [asked].into_iter().chain(wider).collect()
}

/// Purpose and legal basis are said once, as was and is.
fn is_change_both_ways(widening: &Widening) -> bool {
    matches!(widening.place.as_str(), "purpose" | "legal-basis" | "id" | "sites")
}

fn in_words(standing: &str, widening: &Widening) -> Vec<String> {
    let mut lines = vec![format!("{standing}: {widening}")];
    if !widening.codes.is_empty() {
        lines.push(format!("  codes: {}", some_of(&widening.codes)));
    }
    lines
}

fn component(manifest: &Manifest) -> Option<String> {
    let component = manifest.component.as_ref()?;
    Some(format!("program: {} bytes, sha256 {}", component.bytes, component.digest.to_hex()))
}
