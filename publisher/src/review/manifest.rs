//! A module: what it is for, what it reads and sends, and what of that is new.

use lockgate_signing::manifest::Manifest;
use lockgate_signing::scope::{self, Widening};

use super::lists::codes_lines;
use super::{Section, some_of};

pub(super) fn section(before: Option<&Manifest>, after: &Manifest) -> Section {
    match before {
        Some(before) => following(before, after),
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

fn following(before: &Manifest, after: &Manifest) -> Section {
    let mut lines = Vec::new();
    let wider = scope::widenings(before, after);
    if wider.is_empty() {
        lines.push(format!("reads and sends no more than {}: sites take it without asking", before.version));
    } else {
        lines.push(format!("WIDER than {}: each site is asked before it runs", before.version));
        lines.extend(wider.iter().flat_map(|wider| in_words("wider", wider)));
    }
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
