//! What the demonstration prints: tables for people, one object for scripts.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use lockgate_tests::Stage;
use serde_json::{Value, json};

use super::Ran;
use super::figures::{Difference, bundles};
use super::linker_side::LinkerSide;
use super::sources::Kind;

/// Months of a module that are shown one by one; of more, the last ones.
const MONTHS_SHOWN: usize = 4;

/// Differences that are printed; of more, how many.
const DIFFERENCES_SHOWN: usize = 40;

/// The numbers, as tables.
pub(super) fn tables(as_of: &str, ran: &[Ran], linker: &LinkerSide) {
    println!("\nLockgate on {as_of}: {} sites, one linker.", ran.len());
    println!("\nWho is in the databases, and whom no module saw:\n{}", people(ran));
    println!("\nWhat was read, held back, sent and acknowledged:\n{}", totals(ran));
    println!("\nBy month:\n{}", months(ran));
    println!(
        "\nThe linker holds {} bundles: {} blocks, {} bytes.",
        linker.bundles,
        grouped(linker.blocks),
        grouped(linker.bytes)
    );
}

fn table(head: &[&str], text_columns: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(head.iter().copied());
    for column in table.column_iter_mut().skip(text_columns) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn people(ran: &[Ran]) -> Table {
    let columns = [
        ("persons", "patients"),
        ("Type 1: withheld", "withheld-type-1"),
        ("Type 2: flagged", "flagged-type-2"),
        ("marked sensitive", "withheld-sensitive"),
        ("test patients", "test-patients"),
        ("no valid NHS number", "invalid-nhs-numbers"),
    ];
    let head: Vec<&str> = ["site", "kind"].into_iter().chain(columns.map(|(title, _)| title)).collect();
    let mut table = table(&head, 2);
    for ran in ran {
        let kind = match ran.source.kind {
            Kind::Practice => "practice",
            Kind::Hospital => "hospital",
        };
        let mut row = vec![ran.source.id.clone(), kind.to_owned()];
        // Every bundle of a run says the same of the people.
        let bundle = bundles(&ran.printed).next().map(|(_, bundle)| &bundle["counts"]);
        row.extend(columns.map(|(_, name)| bundle.map_or(0, |counts| number(&counts[name]))).map(grouped));
        table.add_row(row);
    }
    table
}

fn totals(ran: &[Ran]) -> Table {
    let head = [
        "site",
        "module",
        "months",
        "rows read",
        "of withheld",
        "no patient",
        "sensitive",
        "malformed",
        "rows sent",
        "bytes",
        "acknowledged",
    ];
    let mut table = table(&head, 2);
    for ran in ran {
        let acknowledged = ids(&ran.printed["acknowledged"]);
        let mut by_module: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        bundles(&ran.printed).for_each(|(module, bundle)| by_module.entry(module).or_default().push(bundle));
        for (module, bundles) in by_module {
            let counted = |name: &str| bundles.iter().map(|bundle| number(&bundle["counts"][name])).sum();
            let total = |name: &str| bundles.iter().map(|bundle| number(&bundle[name])).sum();
            let done = bundles.iter().filter(|bundle| acknowledged.contains(&&bundle["id"])).count();
            table.add_row([
                ran.source.id.clone(),
                module.to_owned(),
                bundles.len().to_string(),
                grouped(counted("rows-read")),
                grouped(counted("rows-withheld")),
                grouped(counted("rows-without-patient")),
                grouped(counted("rows-sensitive")),
                grouped(counted("rows-malformed")),
                grouped(total("rows")),
                grouped(total("bytes")),
                format!("{done} of {}", bundles.len()),
            ]);
        }
    }
    table
}

fn ids(receipts: &Value) -> Vec<&Value> {
    receipts.as_array().into_iter().flatten().map(|receipt| &receipt["id"]).collect()
}

fn months(ran: &[Ran]) -> Table {
    let mut table =
        table(&["site", "module", "month", "rows read", "rows sent", "patients", "what was sent"], 3);
    if let Some(column) = table.column_mut(6) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    for ran in ran {
        let mut by_module: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        bundles(&ran.printed).for_each(|(module, bundle)| by_module.entry(module).or_default().push(bundle));
        for (module, bundles) in by_module {
            let earlier = bundles.len().saturating_sub(MONTHS_SHOWN);
            if earlier > 0 {
                let before = format!("{earlier} earlier");
                table.add_row([ran.source.id.as_str(), module, before.as_str()]);
            }
            for bundle in &bundles[earlier..] {
                let outputs = bundle["outputs"].as_array().into_iter().flatten();
                let sent = outputs.map(|output| {
                    format!(
                        "{} {}",
                        output["name"].as_str().unwrap_or_default(),
                        grouped(number(&output["rows"]))
                    )
                });
                table.add_row([
                    ran.source.id.clone(),
                    module.to_owned(),
                    bundle["period"].as_str().unwrap_or_default().to_owned(),
                    grouped(number(&bundle["counts"]["rows-read"])),
                    grouped(number(&bundle["rows"])),
                    grouped(number(&bundle["patients-sent"])),
                    sent.collect::<Vec<_>>().join(", "),
                ]);
            }
        }
    }
    table
}

/// Whether the numbers agree, and where they do not.
pub(super) fn verdict(ran: &[Ran], linker: &LinkerSide, differences: &[Difference]) {
    let figures: usize = ran.iter().map(|ran| ran.truth.len()).sum();
    if differences.is_empty() {
        println!(
            "\n{figures} figures agree with plain SQL on the source databases; \
             {} bundles are at the linker exactly once, and their blocks on disk are whole.\n\
             The linker can open none of them; the warehouse's key opens all, to {} rows.",
            linker.bundles,
            grouped(linker.rows)
        );
        return;
    }
    println!("\n{} numbers differ:", differences.len());
    for Difference { what, reported, expected } in differences.iter().take(DIFFERENCES_SHOWN) {
        println!("  {what}: {reported}, expected {expected}");
    }
    if differences.len() > DIFFERENCES_SHOWN {
        println!("  and {} more", differences.len() - DIFFERENCES_SHOWN);
    }
}

/// What to try next.
pub(super) fn where_next(stage: &Stage, ran: &[Ran], kept: bool) {
    let Some(ran) = ran.first().filter(|_| kept) else {
        println!("\nTo look around in what this leaves behind: `cargo xtask demo --keep target/demo`");
        return;
    };
    let module = bundles(&ran.printed).next().map_or("gp-monthly", |(module, _)| module);
    let bundle =
        bundles(&ran.printed).next().and_then(|(_, bundle)| bundle["id"].as_str()).unwrap_or_default();
    let (site, as_of) = (ran.site.config_path(), &ran.site.options.as_of);
    let agent = format!("target/release/lockgate-agent --config {} --as-of {as_of}", site.display());
    let linker = format!("target/release/lockgate-linker --data {}", stage.linker.folder().display());
    println!("\nEverything is in {}. Look at it, from the practice's side:", stage.folder().display());
    println!("  {agent} preview {module} --rows 5");
    println!("  {agent} status");
    println!("  {agent} history");
    println!("and from the centre's:");
    println!("  {linker} sites");
    println!("  {linker} bundle show {bundle}");
}

/// One object with everything.
pub(super) fn json(as_of: &str, ran: &[Ran], linker: &LinkerSide, differences: &[Difference]) -> Value {
    let sites = ran.iter().map(|ran| {
        let figures = ran.truth.len();
        json!({
            "site": ran.source.id,
            "kind": match ran.source.kind { Kind::Practice => "practice", Kind::Hospital => "hospital" },
            "modules": ran.printed["modules"],
            "acknowledged": ran.printed["acknowledged"].as_array().map_or(0, Vec::len),
            "figures-checked": figures,
        })
    });
    let differences = differences.iter().map(|Difference { what, reported, expected }| {
        json!({ "what": what, "reported": reported, "expected": expected })
    });
    json!({
        "as-of": as_of,
        "sites": sites.collect::<Vec<_>>(),
        "linker": { "bundles": linker.bundles, "blocks": linker.blocks, "bytes": linker.bytes, "rows": linker.rows },
        "differences": differences.collect::<Vec<_>>(),
    })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
