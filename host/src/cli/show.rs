//! What commands print, as tables for people and as JSON for scripts.

use std::io::{self, Write as _};

use anyhow::Context as _;
use comfy_table::{Table, presets};
use jiff::civil::Date;
use lockgate_signing::block::{self, Column, Values};
use lockgate_signing::bundle::{BundleHeader, BundleKind, ColumnKind, OutputInfo};
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::Name;
use lockgate_signing::keys::KeyId;
use lockgate_signing::receipt::Receipt;
use serde_json::{Value, json};

use crate::agent::{Agent, ModuleOutcome, Ran};
use crate::config::Config;
use crate::ledger::{Approval, Event};
use crate::run::PreviewedBundle;

pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        // Output into `head` is no error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to the output"),
    }
}

pub(super) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(head);
    table
}

pub(super) fn config(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let absent = config.absent();
    if as_json {
        let mut shown = serde_json::to_value(config)?;
        shown["absent"] = absent.iter().map(|(key, _)| *key).collect();
        return print(&serde_json::to_string_pretty(&shown)?);
    }
    let mut shown = toml::to_string(config)?;
    for (key, path) in absent {
        shown += &format!("\n# `{key}`: there is nothing at {}", path.display());
    }
    print(&shown)
}

pub(super) fn enrolled(config: &Config, key: KeyId, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        print(&json!({ "site": config.site, "key": key.to_string() }).to_string())
    } else {
        print(&format!("Site {} is enrolled at {}.\nIts key is {key}.", config.site, config.linker.url))
    }
}

/// Counts and outputs of a header, for scripts. An allow-list: what is not named here is not printed.
fn header_json(header: &BundleHeader) -> Value {
    json!({
        "module": header.module.id, "version": header.module.version.to_string(), "kind": header.kind.name(),
        "period": header.period, "sequence": header.sequence,
        "rows": header.rows(), "bytes": header.bytes(), "fuel": header.fuel,
        "outputs": header.outputs.iter().map(|output| json!({ "name": output.name, "rows": output.rows() })).collect::<Vec<_>>(),
        "patients-sent": header.patients.iter().map(|block| u64::from(block.rows)).sum::<u64>(),
        "directions": header.directions,
        "counts": header.counts,
    })
}

/// What became of a run's modules; `retracted`: of whose rows the centre is asked to delete some.
pub(super) fn run(
    outcomes: &[ModuleOutcome],
    retracted: &[Name],
    pushed: &Pushed,
    as_json: bool,
) -> anyhow::Result<()> {
    if as_json {
        let mut shown = pushed.json();
        shown["modules"] = outcomes.iter().map(outcome_json).collect();
        shown["retracted"] = json!(retracted);
        return print(&shown.to_string());
    }
    for outcome in outcomes {
        if let Some(version) = &outcome.waiting {
            print(&format!("{0} {version} waits for `lockgate-agent modules approve {0}`", outcome.module))?;
        }
        match &outcome.result {
            Ok(Ran::Not(standing)) => print(&format!(
                "{} {}: did not run: it {}",
                outcome.module,
                outcome.version,
                standing.sentence(&outcome.module)
            ))?,
            Ok(Ran::Whole) if outcome.made.is_empty() => {
                print(&format!("{}: nothing is due", outcome.module))?;
            }
            Ok(Ran::Whole) => print(&made(outcome))?,
            Err(error) if outcome.made.is_empty() => print(&format!("{}: failed: {error}", outcome.module))?,
            Err(error) => print(&format!(
                "{}\n{}: failed after these months, which stay good: {error}",
                made(outcome),
                outcome.module
            ))?,
        }
    }
    for module in retracted {
        print(&format!(
            "{module}: somebody may not be seen any more; a retraction tells the centre to delete their rows"
        ))?;
    }
    print(&pushed.text())
}

/// What a push came to.
pub(super) fn push(pushed: &Pushed, as_json: bool) -> anyhow::Result<()> {
    print(&if as_json { pushed.json().to_string() } else { pushed.text() })
}

/// What a push came to.
pub(super) struct Pushed {
    /// What the linker has acknowledged.
    pub(super) receipts: Vec<Receipt>,
    /// Bundles that are still in the outbox.
    pub(super) waiting: usize,
}

impl Pushed {
    fn text(&self) -> String {
        let bundles = |count: usize| format!("{count} bundle{}", if count == 1 { "" } else { "s" });
        let acknowledged = format!("{} acknowledged by the linker", bundles(self.receipts.len()));
        match self.waiting {
            0 => acknowledged,
            waiting => format!("{acknowledged}, {} waiting in the outbox", bundles(waiting)),
        }
    }

    fn json(&self) -> Value {
        let acknowledged = self.receipts.iter().map(|receipt| {
            json!({ "id": receipt.bundle.to_string(), "sequence": receipt.sequence, "bytes": receipt.bytes })
        });
        json!({ "acknowledged": acknowledged.collect::<Vec<_>>(), "waiting": self.waiting })
    }
}

fn outcome_json(outcome: &ModuleOutcome) -> Value {
    let bundles = outcome.made.iter().map(|made| {
        let mut bundle = header_json(&made.header);
        bundle["id"] = json!(made.id.map(|id| id.to_string()));
        bundle
    });
    let mut shown = json!({ "module": outcome.module, "version": outcome.version.to_string() });
    match &outcome.result {
        Ok(Ran::Whole) => {
            shown["waiting"] = json!(outcome.waiting.as_ref().map(|version| version.to_string()));
            shown["bundles"] = bundles.collect();
        }
        Ok(Ran::Not(standing)) => {
            shown["not-run"] = json!(standing.word());
            shown["detail"] = json!(standing.sentence(&outcome.module));
        }
        Err(error) => {
            shown["error"] = json!(error.to_string());
            shown["bundles"] = bundles.collect();
        }
    }
    shown
}

/// The months that a module has made, as a table.
fn made(outcome: &ModuleOutcome) -> String {
    let mut bundles = table(["month", "rows read", "withheld", "rows made", "bytes", "bundle"]);
    for made in &outcome.made {
        let counts = &made.header.counts;
        let id = made.id.map(|id| id.to_string()[..12].to_owned());
        bundles.add_row([
            made.header.period.to_string(),
            counts.rows_read.to_string(),
            (counts.rows_withheld + counts.rows_sensitive).to_string(),
            made.header.rows().to_string(),
            made.header.bytes().to_string(),
            id.unwrap_or_else(|| "as before, not sent".to_owned()),
        ]);
    }
    format!("{}\n{bundles}", outcome.module)
}

pub(super) fn outbox(agent: &Agent, as_json: bool) -> anyhow::Result<()> {
    let queued = agent.outbox.queued(&agent.key.public())?;
    if as_json {
        let each = queued.iter().map(|bundle| {
            let mut shown = header_json(bundle.header());
            shown["id"] = json!(bundle.id().to_string());
            shown
        });
        return print(&json!({ "queued": each.collect::<Vec<_>>() }).to_string());
    }
    let mut bundles = table(["sequence", "module", "month", "rows", "bytes", "bundle"]);
    for bundle in &queued {
        let header = bundle.header();
        bundles.add_row([
            header.sequence.to_string(),
            header.module.id.to_string(),
            match header.kind {
                BundleKind::Extract => header.period.to_string(),
                BundleKind::Retraction => header.kind.name().to_owned(),
            },
            header.rows().to_string(),
            header.bytes().to_string(),
            bundle.id().to_string()[..12].to_owned(),
        ]);
    }
    if queued.is_empty() { print("The outbox is empty.") } else { print(&bundles.to_string()) }
}

pub(super) fn history(agent: &Agent, module: Option<&Name>, as_json: bool) -> anyhow::Result<()> {
    let about = |event: &Event| match event {
        Event::Sealed { module, .. }
        | Event::Failed { module, .. }
        | Event::Installed { module, .. }
        | Event::Refused { module, .. }
        | Event::Revoked { module, .. }
        | Event::Retracted { module, .. }
        | Event::Deleted { module, .. } => Some(module.clone()),
        Event::Enrolled { .. }
        | Event::Acknowledged { .. }
        | Event::TokenKeyInstalled { .. }
        | Event::DirectionAnswered { .. } => None,
    };
    let entries = agent.ledger.entries().iter();
    let entries: Vec<_> = entries
        .filter(|entry| module.is_none_or(|wanted| about(&entry.event).as_ref() == Some(wanted)))
        .collect();
    if as_json {
        return print(&serde_json::to_string(&json!({ "entries": entries }))?);
    }
    let mut lines = Table::new();
    // Without rules, which would be as long as the longest reason of a failure.
    lines
        .load_preset(presets::NOTHING)
        .set_header(["when", "what", "sequence", "module", "month", "rows", "detail"]);
    for entry in &entries {
        let when = entry.at.round(jiff::Unit::Second).unwrap_or(entry.at).to_string();
        let row = match &entry.event {
            Event::Enrolled { key, .. } => [
                when,
                "enrolled".into(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                key[..12].to_owned(),
            ],
            Event::Sealed { bundle, sequence, module, period, rows, directions, .. } => [
                when,
                if directions.is_empty() { "sealed" } else { "sealed, by direction" }.into(),
                sequence.to_string(),
                module.to_string(),
                period.to_string(),
                rows.to_string(),
                bundle[..12].to_owned(),
            ],
            Event::Acknowledged { bundle, sequence, .. } => [
                when,
                "acknowledged".into(),
                sequence.to_string(),
                String::new(),
                String::new(),
                String::new(),
                bundle[..12].to_owned(),
            ],
            Event::Retracted { bundle, sequence, module, .. } => [
                when,
                "retracted".into(),
                sequence.to_string(),
                module.to_string(),
                String::new(),
                String::new(),
                bundle[..12].to_owned(),
            ],
            Event::Deleted { sequence, module, recipient, .. } => [
                when,
                "deleted at the centre".into(),
                sequence.to_string(),
                module.to_string(),
                String::new(),
                String::new(),
                format!("says {recipient}"),
            ],
            Event::Failed { module, why, .. } => [
                when,
                "failed".into(),
                String::new(),
                module.to_string(),
                String::new(),
                String::new(),
                why.clone(),
            ],
            Event::Installed { module, version, how, .. } => {
                let how = match how {
                    Approval::Person => "approved by a person",
                    Approval::WithinScope => "within what was approved",
                    Approval::Auto => "approved by the configuration",
                    Approval::Renewed => "the same under another rollout",
                };
                decision(when, "installed", module, format!("{version}, {how}"))
            }
            Event::Refused { module, version } => {
                let version =
                    version.as_ref().map_or_else(|| "every version".to_owned(), |it| it.to_string());
                decision(when, "refused", module, version)
            }
            Event::Revoked { module, version, reason, .. } => {
                decision(when, "revoked", module, format!("{version}: {reason}"))
            }
            Event::TokenKeyInstalled { domain, epoch } => {
                decision(when, "token key", domain, format!("epoch {epoch}"))
            }
            Event::DirectionAnswered { direction, version, accepted, .. } => {
                let word = if *accepted { "accepted" } else { "refused" };
                decision(when, "direction", direction, format!("{version} {word}"))
            }
        };
        lines.add_row(row);
    }
    print(&lines.trim_fmt())
}

/// A line of the history that is about no bundle.
fn decision(when: String, what: &str, about: &Name, detail: String) -> [String; 7] {
    let [sequence, month, rows] = [String::new(), String::new(), String::new()];
    [when, what.to_owned(), sequence, about.to_string(), month, rows, detail]
}

pub(super) fn preview(
    shown: &PreviewedBundle,
    rows_max: usize,
    today: Date,
    as_json: bool,
) -> anyhow::Result<()> {
    let header = &shown.header;
    let codes = dictionary(shown)?;
    let patients = patients(shown)?;
    let mut outputs = Vec::new();
    for output in &header.outputs {
        outputs.push((output, first_rows(shown, output, &codes, &patients, rows_max)?));
    }
    if as_json {
        let mut all = header_json(header);
        for (at, (output, rows)) in outputs.iter().enumerate() {
            let names: Vec<_> = output.columns.iter().map(|column| column.name.as_str()).collect();
            all["outputs"][at]["columns"] = json!(names);
            all["outputs"][at]["first-rows"] = json!(rows);
        }
        return print(&all.to_string());
    }
    let counts = &header.counts;
    print(&format!(
        "{} {} would send {} rows ({} bytes) for {}.\n{} patients; withheld: {} by Type 1 objection, {} marked sensitive, {} test patients; {} carry the Type 2 flag.\n{} rows read; left out: {} of withheld patients, {} sensitive, {} malformed, {} without a patient.",
        header.module.id,
        header.module.version,
        header.rows(),
        header.bytes(),
        header.period,
        counts.patients,
        counts.withheld_type_1,
        counts.withheld_sensitive,
        counts.test_patients,
        counts.flagged_type_2,
        counts.rows_read,
        counts.rows_withheld,
        counts.rows_sensitive,
        counts.rows_malformed,
        counts.rows_without_patient,
    ))?;
    for direction in &shown.directions {
        print(&format!(
            "Direction `{direction}` is applied: {} patients with a Type 1 objection are let in.",
            counts.let_in
        ))?;
    }
    if header.outputs.iter().any(|output| output.aggregate) {
        print(&format!(
            "{} cells of counts are suppressed: too few patients, or they would give away one of too few.",
            counts.cells_suppressed
        ))?;
    }
    print(&format!(
        "{} rows are marked deleted, {} confidential; {} units or other optional codes are malformed and left out of their rows.",
        counts.rows_deleted, counts.rows_confidential, counts.values_malformed,
    ))?;
    for (output, rows) in outputs {
        let mut lines = Table::new();
        lines.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        lines.set_header(output.columns.iter().map(|column| column.name.as_str()));
        rows.iter().for_each(|row| {
            lines.add_row(row);
        });
        print(&format!("\n{}: {} rows, the first {}\n{lines}", output.name, output.rows(), rows.len()))?;
    }
    let last = header.period.last_day();
    if last >= today {
        print(&format!("\n{} is not over: a run does not send it before it is.", header.period))?;
    }
    print("\nNothing was sent.")
}

fn dictionary(shown: &PreviewedBundle) -> anyhow::Result<Vec<(String, String)>> {
    let mut codes = Vec::new();
    for block in &shown.header.codes {
        if let Some(bytes) = shown.blocks.get(&block.digest) {
            codes.extend(block::decode_codes(bytes)?);
        }
    }
    Ok(codes)
}

/// A label for each patient, in place of the token: tokens are for the linker alone.
fn patients(shown: &PreviewedBundle) -> anyhow::Result<Vec<String>> {
    let mut labels = Vec::new();
    for block in &shown.header.patients {
        if let Some(bytes) = shown.blocks.get(&block.digest) {
            let tokens = block::decode_patients(bytes, shown.header.tokens.links.len())?.tokens;
            labels.extend(tokens.iter().map(|token| label(token)));
        }
    }
    Ok(labels)
}

/// Eight characters that are the same for one patient in every preview of one purpose, so that two previews can be compared,
/// and that lead neither to the token nor to the person.
fn label(token: &[u8]) -> String {
    let digest = Digest::of(&[b"lockgate preview: ", token].concat());
    let text = data_encoding::BASE32_NOPAD.encode(&digest.as_bytes()[..5]);
    text.to_ascii_lowercase()
}

/// The first rows of an output, block by block.
fn first_rows(
    shown: &PreviewedBundle,
    output: &OutputInfo,
    codes: &[(String, String)],
    patients: &[String],
    rows_max: usize,
) -> anyhow::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for block in &output.blocks {
        let wanted = rows_max - rows.len();
        let Some(bytes) = shown.blocks.get(&block.digest).filter(|_| wanted > 0) else { break };
        let decoded = block::decode_rows(bytes, &output.columns)?;
        rows.extend((0..decoded.rows.min(wanted)).map(|row| {
            let columns = decoded.columns.iter().zip(&output.columns);
            columns.map(|(column, info)| cell(column, row, &info.kind, codes, patients)).collect::<Vec<_>>()
        }));
    }
    Ok(rows)
}

fn cell(
    column: &Column,
    row: usize,
    kind: &ColumnKind,
    codes: &[(String, String)],
    patients: &[String],
) -> String {
    if !column.has(row) {
        return String::new();
    }
    match (&column.values, kind) {
        (Values::Patients(values), _) => patients.get(values[row] as usize).cloned().unwrap_or_default(),
        (Values::Codes(values), _) => codes
            .get(values[row] as usize)
            .map(|(system, code)| format!("{system} {code}"))
            .unwrap_or_default(),
        (Values::Dates(values), _) => jiff::civil::date(1970, 1, 1)
            .checked_add(jiff::Span::new().days(values[row]))
            .map(|date| date.to_string())
            .unwrap_or_default(),
        (Values::Numbers(values), _) => values[row].to_string(),
        (Values::Categories(values), ColumnKind::Category { categories }) => {
            categories.get(usize::from(values[row])).map(Name::to_string).unwrap_or_default()
        }
        (Values::Categories(values), _) => values[row].to_string(),
    }
}
