//! Listings for people. Programs use `--json`.

use std::fmt::Write as _;

use lockgate_service::report::{right, table, time};
use lockgate_signing::bundle::{BlockRef, BundleHeader, ColumnKind};
use lockgate_signing::envelope::Verified;

use crate::database::{BundleRow, KeyRow, RecipientRow, SiteRow};
use crate::objections::{Alarm, Change, SiteObjections};

/// The sites, their keys, gaps and incidents.
pub fn sites(sites: &[SiteRow], keys: &[KeyRow]) -> String {
    if sites.is_empty() {
        return "No sites. Add one with `lockgate-linker site add SITE --token-file FILE`.\n".to_owned();
    }
    let mut table =
        table(&["site", "state", "keys", "bundles", "pending", "bytes", "last accepted", "chain"]);
    for site in sites {
        let state = match (site.revoked, site.keys) {
            (true, _) => "revoked",
            (false, 0) => "not enrolled",
            (false, _) => "enrolled",
        };
        table.add_row([
            site.site.to_string(),
            state.to_owned(),
            site.keys.to_string(),
            site.accepted.to_string(),
            site.pending.to_string(),
            site.bytes.to_string(),
            site.last_accepted_at_s.map_or_else(|| "never".to_owned(), time),
            chain(site),
        ]);
    }
    right(&mut table, &[2, 3, 4, 5]);
    let mut text = format!("{table}\n");
    for site in sites {
        for incident in &site.incidents {
            let _ = writeln!(
                text,
                "{}: {} at {}, shown by bundle {}",
                site.site,
                incident.code,
                time(incident.at_s),
                incident.bundle
            );
        }
        for key in keys.iter().filter(|key| key.site == site.site) {
            let state = key.revoked_at_s.map_or_else(String::new, |at| format!(", revoked {}", time(at)));
            let _ =
                writeln!(text, "{}: key {} enrolled {}{state}", site.site, key.id, time(key.enrolled_at_s));
        }
    }
    text
}

/// For example `expected 4, have up to 6, missing 4-5`.
fn chain(site: &SiteRow) -> String {
    if site.missing.is_empty() {
        return format!("whole up to {}", site.highest);
    }
    let range = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let missing: Vec<String> = site.missing.iter().map(range).collect();
    format!("expected {}, have up to {}, missing {}", site.expected, site.highest, missing.join(", "))
}

/// The recipients.
pub fn recipients(recipients: &[RecipientRow]) -> String {
    if recipients.is_empty() {
        return "No recipients. Enter one with `lockgate-linker recipient add NAME SIGNING-KEY`.\n"
            .to_owned();
    }
    let mut table = table(&["recipient", "key", "added", "state"]);
    for it in recipients {
        let state =
            it.revoked_at_s.map_or_else(|| "may collect".to_owned(), |at| format!("revoked {}", time(at)));
        table.add_row([it.name.clone(), it.key.clone(), time(it.added_at_s), state]);
    }
    format!("{table}\n")
}

/// The bundles.
pub fn bundles(bundles: &[BundleRow]) -> String {
    if bundles.is_empty() {
        return "No bundles.\n".to_owned();
    }
    let mut table = table(&["bundle", "site", "sequence", "module", "period", "rows", "bytes", "state"]);
    for bundle in bundles {
        table.add_row([
            bundle.id.to_string()[..16].to_owned(),
            bundle.site.to_string(),
            bundle.sequence.to_string(),
            format!("{} {}", bundle.module, bundle.module_version),
            if bundle.kind == "retraction" { bundle.kind.clone() } else { bundle.period.clone() },
            bundle.rows.to_string(),
            bundle.bytes.to_string(),
            state(bundle),
        ]);
    }
    right(&mut table, &[2, 5, 6]);
    format!("{table}\n")
}

fn state(bundle: &BundleRow) -> String {
    match (bundle.accepted_at_s, bundle.superseded_by) {
        (None, _) => "waits for blocks".to_owned(),
        (Some(at), None) if bundle.deleted_by.is_empty() => format!("accepted {}", time(at)),
        (Some(_), None) => format!("deleted by {}", bundle.deleted_by.join(", ")),
        (Some(_), Some(by)) => format!("superseded by {}", &by.to_string()[..16]),
    }
}

/// What sites count of objections, and what is alarming about it.
pub fn objections(sites: &[SiteObjections]) -> String {
    if sites.is_empty() {
        return "No sites.\n".to_owned();
    }
    let mut table =
        table(&["site", "snapshot", "persons", "withheld", "flagged", "dissents", "the one before"]);
    for it in sites {
        let Some(last) = &it.last else {
            table.add_row([it.site.as_str(), "none", "", "", "", "", ""]);
            continue;
        };
        let counts = &last.counts;
        table.add_row([
            it.site.to_string(),
            time(last.snapshot_at_s),
            counts.patients.to_string(),
            (counts.withheld_type_1 + counts.let_in).to_string(),
            counts.flagged_type_2.to_string(),
            counts.evidence.dissents().to_string(),
            it.before
                .as_ref()
                .map_or_else(|| "none, it is the first".to_owned(), |it| time(it.snapshot_at_s)),
        ]);
    }
    right(&mut table, &[2, 3, 4, 5]);
    let mut text = format!("{table}\n");
    for it in sites {
        for Alarm { what, change, before, now, before_at_s, policy_changed } in &it.alarms {
            let change = match change {
                Change::Zero => "none is left",
                Change::Fell => "fell",
                Change::Rose => "rose",
            };
            let (site, at) = (&it.site, time(*before_at_s));
            let policy = if *policy_changed { ", under another policy" } else { "" };
            let _ =
                writeln!(text, "ALARM {site}: {what}: {change}, {before} before ({at}{policy}), {now} now");
        }
    }
    text
}

/// A bundle, as its header says.
pub fn bundle(row: &BundleRow, header: Option<&Verified<BundleHeader>>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<22} {value}");
    };
    line("bundle", row.id.to_string());
    line("state", state(row));
    line("site", row.site.to_string());
    line("sequence", row.sequence.to_string());
    line("kind", row.kind.clone());
    let Some(verified) = header else {
        line("module", format!("{} {}", row.module, row.module_version));
        line("period", row.period.clone());
        return text;
    };
    let header = verified.message();
    line("previous", header.previous.map_or_else(|| "none, the first".to_owned(), |id| id.to_string()));
    line("replaces", header.supersedes.map_or_else(|| "nothing".to_owned(), |id| id.to_string()));
    line("signed with key", verified.key().to_string());
    line("period", header.period.to_string());
    line("snapshot", time(header.snapshot_at_s));
    line("purpose", header.purpose.to_string());
    line("module", format!("{} {}", header.module.id, header.module.version));
    line("  manifest", header.module.manifest.to_string());
    line("  component", header.module.component.to_string());
    line("policy", header.policy.to_string());
    line("sensitive codes", header.sensitive.to_string());
    line("mapping", header.mapping.to_string());
    for direction in &header.directions {
        line("direction", direction.to_string());
    }
    line("tokens", format!("{}, epoch {}", header.tokens.scheme.name(), header.tokens.epoch));
    line("link tokens", header.tokens.links.iter().map(|link| link.name()).collect::<Vec<_>>().join(", "));
    line("agent", format!("{}, fuel {}", header.agent_version, header.fuel));
    let counts = &header.counts;
    line("persons", counts.patients.to_string());
    for (name, count) in [
        ("  withheld, Type 1", counts.withheld_type_1),
        ("  flagged, Type 2", counts.flagged_type_2),
        ("  withheld, sensitive", counts.withheld_sensitive),
        ("  test patients", counts.test_patients),
        ("  no NHS number", counts.invalid_nhs_numbers),
        ("  let in by direction", counts.let_in),
    ] {
        line(name, count.to_string());
    }
    line("rows read", counts.rows_read.to_string());
    for (name, count) in [
        ("  withheld", counts.rows_withheld),
        ("  without patient", counts.rows_without_patient),
        ("  sensitive", counts.rows_sensitive),
        ("  malformed", counts.rows_malformed),
        ("  deleted", counts.rows_deleted),
        ("  confidential", counts.rows_confidential),
    ] {
        line(name, count.to_string());
    }
    line("values malformed", counts.values_malformed.to_string());
    line("cells suppressed", counts.cells_suppressed.to_string());
    let evidence = &counts.evidence;
    line("objection evidence", format!("{} rows", evidence.rows));
    for (name, count) in [
        ("  deleted", evidence.deleted),
        ("  undated", evidence.undated),
        ("  unreadable", evidence.unreadable),
        ("  future-dated", evidence.future_dated),
        ("  lapsed", evidence.lapsed),
        ("  not honoured", evidence.not_honoured),
        ("  ties", evidence.ties),
        ("  unknown patients", evidence.unknown_patients),
    ] {
        line(name, count.to_string());
    }
    for count in &evidence.by_code {
        let year = count.year.map_or_else(|| "no year".to_owned(), |year| year.to_string());
        let code = format!("{} {}, {year}: {}", count.system, count.code, count.entries);
        line(&format!("  {}", count.kind.name()), code);
    }
    for output in &header.outputs {
        let kind = if output.aggregate { "counts" } else { "rows" };
        line("output", format!("{}: {} {kind}, {}", output.name, output.rows(), size(&output.blocks)));
        for column in &output.columns {
            line(&format!("  {}", column.name), column_kind(&column.kind));
        }
    }
    line("token table", size(&header.patients));
    line("code dictionary", size(&header.codes));
    for recipient in &header.encryption.recipients {
        line("encrypted for key", recipient.key.to_string());
    }
    text
}

/// A header for programs.
pub fn bundle_json(row: &BundleRow, header: Option<&Verified<BundleHeader>>) -> serde_json::Value {
    let mut value = serde_json::json!({ "bundle": row });
    let Some(verified) = header else { return value };
    let header = verified.message();
    let blocks = |blocks: &[BlockRef]| {
        let block = |block: &BlockRef| serde_json::json!({ "digest": block.digest, "bytes": block.bytes, "rows": block.rows });
        blocks.iter().map(block).collect::<Vec<_>>()
    };
    value["header"] = serde_json::json!({
        "site": header.site, "sequence": header.sequence, "previous": header.previous,
        "key": verified.key().to_string(),
        "module": {
            "id": header.module.id, "version": header.module.version,
            "manifest": header.module.manifest, "component": header.module.component,
        },
        "policy": header.policy, "sensitive": header.sensitive, "mapping": header.mapping, "rollout": header.rollout,
        "purpose": header.purpose, "period": header.period, "snapshot-at-s": header.snapshot_at_s,
        "tokens": {
            "scheme": header.tokens.scheme.name(), "epoch": header.tokens.epoch, "links": header.tokens.links,
        },
        "agent-version": header.agent_version, "fuel": header.fuel, "supersedes": header.supersedes,
        "encrypted-for": header.encryption.recipients.iter().map(|it| it.key.to_string()).collect::<Vec<_>>(),
        "directions": header.directions,
        "counts": header.counts,
        "outputs": header.outputs.iter().map(|output| serde_json::json!({
            "name": output.name, "aggregate": output.aggregate, "rows": output.rows(),
            "columns": output.columns.iter().map(|column| serde_json::json!({
                "name": column.name, "kind": column_kind(&column.kind),
            })).collect::<Vec<_>>(),
            "blocks": blocks(&output.blocks),
        })).collect::<Vec<_>>(),
        "patients": blocks(&header.patients), "codes": blocks(&header.codes),
    });
    value
}

fn column_kind(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Patient => "patient".to_owned(),
        ColumnKind::Code => "code".to_owned(),
        ColumnKind::Date => "date".to_owned(),
        ColumnKind::Number { decimals } => format!("number, {decimals} decimals"),
        ColumnKind::Category { categories } => {
            let names: Vec<_> = categories.iter().map(|name| name.as_str()).collect();
            format!("category: {}", names.join(", "))
        }
    }
}

fn size(blocks: &[BlockRef]) -> String {
    let bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
    let rows: u64 = blocks.iter().map(|block| u64::from(block.rows)).sum();
    format!("{rows} rows in {} blocks, {bytes} bytes", blocks.len())
}
