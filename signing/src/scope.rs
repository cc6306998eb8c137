//! The scope of a module: what its manifest lets it read and send, in words, and what one manifest has beyond another.
//!
//! A site that approved one version runs a later one of the same or a narrower scope without being asked again; the
//! publishing team reads the same list before it signs. So the comparison errs on one side: what it cannot show to be
//! covered counts as wider.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::code::{CodeShape, normalise_code};
use crate::ids::Name;
use crate::manifest::{Input, Manifest, Output, OutputColumn, OutputType, Span};

/// One thing that a manifest has beyond another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Widening {
    /// Where in the manifest, for example `input.observations`.
    pub place: String,
    /// What is wider, for people.
    pub what: String,
    /// Where codes came in: each of them, as `system code`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
}

impl std::fmt::Display for Widening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

fn widening(place: &str, what: String) -> Widening {
    Widening { place: place.to_owned(), what, codes: Vec::new() }
}

/// What `later` reads, sends or is for beyond `approved`; empty: it stays within what was approved.
///
/// Not compared: the title, the limits of a run, the last day, and the code of the component: none of them lets a module
/// see or send more of a patient.
pub fn widenings(approved: &Manifest, later: &Manifest) -> Vec<Widening> {
    let mut wider = Vec::new();
    // 1. What it is for. Another purpose is another token domain, so nothing that was said of the first carries over.
    for (place, before, after) in [
        ("purpose", approved.purpose.as_str(), later.purpose.as_str()),
        ("legal-basis", &approved.legal_basis, &later.legal_basis),
    ] {
        if before != after {
            wider.push(widening(place, format!("was `{before}`, is `{after}`")));
        }
    }
    if approved.id != later.id {
        wider.push(widening("id", format!("was `{}`, is `{}`", approved.id, later.id)));
    }
    if approved.sites != later.sites {
        wider.push(widening("sites", "runs at another kind of site".to_owned()));
    }
    // 2. How often and how far back.
    if later.window.look_back > approved.window.look_back {
        let (before, after) = (approved.window.look_back, later.window.look_back);
        wider.push(widening(
            "window.look-back",
            format!("extracts {after} earlier months again, was {before}"),
        ));
    }
    if reach(later.window.initial) > reach(approved.window.initial) {
        let what = format!(
            "the first run covers {}, was {}",
            String::from(later.window.initial),
            String::from(approved.window.initial)
        );
        wider.push(widening("window.initial", what));
    }
    // 3. By what patients can be linked.
    for link in later.tokens.link.iter().filter(|link| !approved.tokens.link.contains(link)) {
        wider.push(widening("tokens.link", format!("sends a link token made from {}", link.name())));
    }
    // 4. What it reads, whatever the inputs are called.
    for (name, input) in &later.inputs {
        wider.extend(input_widenings(approved, later, name, input));
    }
    // 5. What it sends.
    for (name, output) in &later.outputs {
        let place = format!("output.{name}");
        match approved.outputs.get(name) {
            None => wider.push(widening(&place, format!("is new: sends {}", columns_in_words(output)))),
            Some(before) => wider.extend(output_widenings(&place, before, output)),
        }
    }
    wider
}

/// All of it, as what a manifest has beyond nothing: for a module that nobody approved so far.
pub fn everything(manifest: &Manifest) -> Vec<Widening> {
    let mut all = vec![
        widening("purpose", format!("is `{}`", manifest.purpose)),
        widening("legal-basis", format!("is `{}`", manifest.legal_basis)),
    ];
    for link in &manifest.tokens.link {
        all.push(widening("tokens.link", format!("sends a link token made from {}", link.name())));
    }
    for (name, input) in &manifest.inputs {
        all.push(widening(&format!("input.{name}"), format!("reads {}", input_in_words(manifest, input))));
    }
    for (name, output) in &manifest.outputs {
        all.push(widening(&format!("output.{name}"), format!("sends {}", columns_in_words(output))));
    }
    all
}

/// What a module reads, a line for each input.
pub fn reads(manifest: &Manifest) -> Vec<String> {
    manifest.inputs.values().map(|input| input_in_words(manifest, input)).collect()
}

/// What a module sends, a line for each output.
pub fn sends(manifest: &Manifest) -> Vec<String> {
    manifest.outputs.iter().map(|(name, output)| format!("{name}: {}", columns_in_words(output))).collect()
}

/// An input is covered by one approved input of the same table, or it is wider than each of them; then it is compared
/// with the one that it is nearest to.
fn input_widenings(approved: &Manifest, later: &Manifest, name: &Name, input: &Input) -> Vec<Widening> {
    let place = format!("input.{name}");
    let beyond = |before: &Input| input_beyond(&place, (approved, before), (later, input));
    approved
        .inputs
        .values()
        .filter(|before| before.table == input.table)
        .map(beyond)
        .min_by_key(Vec::len)
        .unwrap_or_else(|| vec![widening(&place, format!("is new: reads {}", input_in_words(later, input)))])
}

fn input_beyond(
    place: &str,
    (approved, before): (&Manifest, &Input),
    (later, after): (&Manifest, &Input),
) -> Vec<Widening> {
    let mut wider = Vec::new();
    let columns: Vec<_> = after.columns.iter().filter(|column| !before.columns.contains(column)).collect();
    if !columns.is_empty() {
        wider.push(widening(place, format!("reads {} of {}", list(columns), after.table)));
    }
    if after.window_column() != before.window_column() {
        let name = |input: &Input| input.window_column().unwrap_or("none").to_owned();
        wider.push(widening(place, format!("selects by `{}`, was `{}`", name(after), name(before))));
    }
    if after.span.map(reach) > before.span.map(reach) {
        let words = |span: Option<Span>| span.map_or_else(|| "none".to_owned(), span_in_words);
        wider.push(widening(place, format!("reads {}, was {}", words(after.span), words(before.span))));
    }
    let (codes_before, codes_after) = (codes_of(approved, before), codes_of(later, after));
    match (codes_before, codes_after) {
        (None, _) => {}
        (Some(_), None) => {
            wider.push(widening(
                place,
                format!("reads every entry of {}, was only those of codelists", after.table),
            ));
        }
        (Some(before), Some(after)) => {
            let codes: Vec<_> = after.difference(&before).cloned().collect();
            if !codes.is_empty() {
                let more = if codes.len() == 1 { "more code" } else { "more codes" };
                let what = format!("selects by {} {more}: {}", codes.len(), some_of(&codes));
                wider.push(Widening { place: place.to_owned(), what, codes });
            }
        }
    }
    wider
}

/// Every code that an input selects by, as a site compares them; `None`: it selects by none, and reads every row.
fn codes_of(manifest: &Manifest, input: &Input) -> Option<BTreeSet<String>> {
    if input.codelists.is_empty() {
        return None;
    }
    let lists = input.codelists.iter().filter_map(|name| manifest.codelists.get(name)).flatten();
    let codes = lists.flat_map(|(system, texts)| {
        let shape = CodeShape::of_known_system(system.as_str());
        texts.iter().map(move |text| {
            let code = shape.map_or_else(|| text.clone(), |shape| normalise_code(shape, text));
            format!("{system} {code}")
        })
    });
    Some(codes.collect())
}

fn output_widenings(place: &str, before: &Output, after: &Output) -> Vec<Widening> {
    let mut wider = Vec::new();
    match (&before.aggregate, &after.aggregate) {
        (Some(_), None) => {
            wider.push(widening(place, "sends rows of patients, was counts of patients".to_owned()));
        }
        (Some(before), Some(after)) => {
            if after.smallest_cell < before.smallest_cell {
                let what = format!(
                    "sends counts from {} upwards, was from {}",
                    after.smallest_cell, before.smallest_cell
                );
                wider.push(widening(place, what));
            }
            if after.round_to < before.round_to {
                let what =
                    format!("rounds counts to multiples of {}, was of {}", after.round_to, before.round_to);
                wider.push(widening(place, what));
            }
            if let Some(column) = after.totals_by.as_ref().filter(|_| after.totals_by != before.totals_by) {
                wider.push(widening(place, format!("sends totals by `{column}`")));
            }
        }
        (None, _) => {}
    }
    for column in &after.columns {
        let place = format!("{place}.{}", column.name);
        match before.columns.iter().find(|before| before.name == column.name) {
            None => wider.push(widening(&place, format!("is new: sends {}", column_in_words(column)))),
            Some(before) => wider.extend(
                column_beyond(&before.kind, &column.kind).into_iter().map(|what| widening(&place, what)),
            ),
        }
    }
    wider
}

fn column_beyond(before: &OutputType, after: &OutputType) -> Vec<String> {
    let mut wider = Vec::new();
    match (before, after) {
        (OutputType::Patient, OutputType::Patient) => {}
        (OutputType::Code { systems: before }, OutputType::Code { systems: after }) => {
            let systems: Vec<_> = after.iter().filter(|system| !before.contains(system)).collect();
            if !systems.is_empty() {
                wider.push(format!("sends codes of {}", list(systems)));
            }
        }
        (
            OutputType::Date { min: min_before, max: max_before, month: month_before },
            OutputType::Date { min, max, month },
        ) => {
            if min < min_before {
                wider.push(format!("sends days from {min}, was from {min_before}"));
            }
            match (max_before, max) {
                (Some(before), Some(after)) if after <= before => {}
                (None, None) => {}
                (before, after) => {
                    let words = |day: &Option<_>| {
                        day.map_or_else(
                            || "the end of the period".to_owned(),
                            |day: jiff::civil::Date| day.to_string(),
                        )
                    };
                    wider.push(format!("sends days up to {}, was up to {}", words(after), words(before)));
                }
            }
            if *month_before && !month {
                wider.push("sends days, was months".to_owned());
            }
        }
        (
            OutputType::Number { min: min_before, max: max_before, decimals: decimals_before },
            OutputType::Number { min, max, decimals },
        ) => {
            if min < min_before || max > max_before {
                wider.push(format!(
                    "sends numbers from {min} to {max}, was from {min_before} to {max_before}"
                ));
            }
            if decimals > decimals_before {
                wider.push(format!("keeps {decimals} decimals, was {decimals_before}"));
            }
        }
        (OutputType::Category { categories: before }, OutputType::Category { categories: after }) => {
            let categories: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
            if !categories.is_empty() {
                wider.push(format!("sends the categories {}", list(categories)));
            }
        }
        (before, after) => {
            wider.push(format!("sends a {}, was a {}", after.type_name(), before.type_name()));
        }
    }
    wider
}

/// Months that a span reaches back: more is wider.
fn reach(span: Span) -> u32 {
    match span {
        // A period is a calendar month.
        Span::Period => 1,
        Span::Months(months) => months,
        Span::All => u32::MAX,
    }
}

fn input_in_words(manifest: &Manifest, input: &Input) -> String {
    let mut words = format!("{}: {}", input.table, list(&input.columns));
    if let Some(span) = input.span {
        words.push_str(&format!("; {}", span_in_words(span)));
        if let Some(column) = input.window_column() {
            words.push_str(&format!(" by `{column}`"));
        }
    }
    if let Some(codes) = codes_of(manifest, input) {
        words.push_str(&format!("; only {} codes of {}", codes.len(), list(&input.codelists)));
    } else if manifest.table_of(input).is_some_and(|table| table.column("code").is_some()) {
        words.push_str("; every code");
    }
    words
}

fn span_in_words(span: Span) -> String {
    match span {
        Span::Period => "the month's entries".to_owned(),
        Span::Months(months) => format!("{months} months"),
        Span::All => "the whole record".to_owned(),
    }
}

fn columns_in_words(output: &Output) -> String {
    // Of an aggregate's patients only their number is sent.
    let sent = output
        .columns
        .iter()
        .filter(|column| output.aggregate.is_none() || column.kind != OutputType::Patient);
    let columns = sent.map(column_in_words).collect::<Vec<_>>().join(", ");
    match &output.aggregate {
        None => columns,
        Some(aggregate) => format!(
            "counts of patients, from {} upwards and rounded to {}, by {columns}",
            aggregate.smallest_cell, aggregate.round_to
        ),
    }
}

fn column_in_words(column: &OutputColumn) -> String {
    match &column.kind {
        OutputType::Patient => "the patient's token".to_owned(),
        OutputType::Code { systems } => format!("{} (a code of {})", column.name, list(systems)),
        OutputType::Date { month: true, .. } => format!("{} (a month)", column.name),
        OutputType::Date { .. } => format!("{} (a day)", column.name),
        OutputType::Number { min, max, decimals } => {
            format!("{} (a number from {min} to {max}, {decimals} decimals)", column.name)
        }
        OutputType::Category { categories } => {
            format!("{} ({})", column.name, categories_in_words(categories))
        }
    }
}

fn categories_in_words(categories: &[Name]) -> String {
    if categories.len() <= 4 {
        return list(categories).replace(", ", " or ");
    }
    format!("one of {} categories", categories.len())
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Codes that a line names before it only counts them.
const CODES_NAMED_MAX: usize = 8;

fn some_of(codes: &[String]) -> String {
    let named = list(&codes[..codes.len().min(CODES_NAMED_MAX)]);
    match codes.len().saturating_sub(CODES_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_format::TextFormat as _;

    const MANIFEST: &str = r#"
format = 1
id = "hba1c"
version = "1.0.0"
title = "HbA1c"
purpose = "care-data"
legal-basis = "Section 254"
interface = "lockgate:extract@1.0.0"
sites = "practice"
not-after = "2028-03-31"
window = { look-back = 1, initial = "4 months" }
limits = { memory-mib = 16, fuel = 1000, wall-clock-s = 10, output-rows = 1000 }
tokens = { link = ["nhs-number"] }
[codelist.diabetes]
snomed = ["44054006"]
read2 = ["C10F."]
[input.entries]
table = "observation"
columns = ["patient", "recorded", "code"]
span = "15 months"
codelists = ["diabetes"]
[input.people]
table = "patient"
columns = ["patient", "sex"]
[output.rows]
columns = [
    { name = "patient", type = "patient" },
    { name = "month", type = "date", min = "2000-01-01", month = true },
    { name = "code", type = "code", systems = ["snomed"] },
    { name = "value", type = "number", min = 0, max = 100, decimals = 1, optional = true },
    { name = "sex", type = "category", categories = ["female", "male"] },
]
[output.counts]
columns = [
    { name = "patient", type = "patient" },
    { name = "sex", type = "category", categories = ["female", "male"] },
]
aggregate = { count = "patients", smallest-cell = 20, round-to = 10 }
"#;

    fn manifest(edits: &[(&str, &str)]) -> Manifest {
        let mut text = MANIFEST.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        Manifest::decode(text.as_bytes()).unwrap()
    }

    fn wider(from: &str, to: &str) -> Vec<String> {
        let wider = widenings(&manifest(&[]), &manifest(&[(from, to)]));
        wider.iter().map(Widening::to_string).collect()
    }

    #[test]
    fn each_way_to_widen_is_found_and_its_reverse_is_none() {
        for (from, to, says) in [
            ("purpose = \"care-data\"", "purpose = \"research\"", "purpose: was `care-data`, is `research`"),
            ("\"Section 254\"", "\"Regulation 3\"", "legal-basis: was `Section 254`, is `Regulation 3`"),
            ("look-back = 1", "look-back = 3", "window.look-back: extracts 3 earlier months again, was 1"),
            ("\"4 months\"", "\"all\"", "window.initial: the first run covers all, was 4 months"),
            (
                "[\"nhs-number\"]",
                "[\"birth-date+sex+postcode\", \"nhs-number\"]",
                "tokens.link: sends a link token made from birth-date+sex+postcode",
            ),
            ("\"15 months\"", "\"16 months\"", "input.entries: reads 16 months, was 15 months"),
            ("\"15 months\"", "\"all\"", "input.entries: reads the whole record, was 15 months"),
            (
                "\"recorded\", \"code\"]",
                "\"recorded\", \"code\", \"value\"]",
                "input.entries: reads value of observation",
            ),
            (
                "codelists = [\"diabetes\"]",
                "",
                "input.entries: reads every entry of observation, was only those of codelists",
            ),
            (
                "[\"44054006\"]",
                "[\"44054006\", \"46635009\"]",
                "input.entries: selects by 1 more code: snomed 46635009",
            ),
            (
                "\"2000-01-01\"",
                "\"1999-01-01\"",
                "output.rows.month: sends days from 1999-01-01, was from 2000-01-01",
            ),
            ("month = true", "month = false", "output.rows.month: sends days, was months"),
            (
                "systems = [\"snomed\"]",
                "systems = [\"snomed\", \"icd10\"]",
                "output.rows.code: sends codes of icd10",
            ),
            ("max = 100,", "max = 101,", "output.rows.value: sends numbers from 0 to 101, was from 0 to 100"),
            ("decimals = 1", "decimals = 2", "output.rows.value: keeps 2 decimals, was 1"),
            (
                "[\"female\", \"male\"] },\n]\n[output.counts]",
                "[\"female\", \"male\", \"unknown\"] },\n]\n[output.counts]",
                "output.rows.sex: sends the categories unknown",
            ),
            (
                "smallest-cell = 20",
                "smallest-cell = 10",
                "output.counts: sends counts from 10 upwards, was from 20",
            ),
            ("round-to = 10", "round-to = 5", "output.counts: rounds counts to multiples of 5, was of 10"),
        ] {
            assert_eq!(wider(from, to), [says], "{from} -> {to}");
            let back = widenings(&manifest(&[(from, to)]), &manifest(&[]));
            // Words have no order: a purpose that changes back is another one again.
            assert_eq!(
                back.is_empty(),
                !says.starts_with("purpose") && !says.starts_with("legal"),
                "{back:?}"
            );
        }
    }

    #[test]
    fn what_a_patient_does_not_feel_is_no_widening() {
        for (from, to) in [
            ("version = \"1.0.0\"", "version = \"9.0.0\""),
            ("title = \"HbA1c\"", "title = \"Better HbA1c\""),
            ("memory-mib = 16", "memory-mib = 64"),
            ("\"2028-03-31\"", "\"2029-03-31\""),
            ("optional = true", "optional = false"),
            ("[input.entries]", "[input.events]"),
            // The same Read code, written without its dot.
            ("\"C10F.\"", "\"C10F\""),
            ("span = \"15 months\"", "span = \"period\""),
        ] {
            assert_eq!(wider(from, to), [""; 0], "{from} -> {to}");
        }
    }

    #[test]
    fn new_inputs_outputs_and_columns_say_what_they_are() {
        let medication = "[input.drugs]\ntable = \"medication\"\ncolumns = [\"patient\", \"code\"]\nspan = \"period\"\n[input.people]";
        assert_eq!(
            wider("[input.people]", medication),
            [
                "input.drugs: is new: reads medication: patient, code; the month's entries by `recorded`; every code"
            ]
        );
        assert_eq!(
            wider(
                "[output.counts]",
                "[output.more]\ncolumns = [{ name = \"patient\", type = \"patient\" }]\n[output.counts]"
            ),
            ["output.more: is new: sends the patient's token"]
        );
        assert_eq!(
            wider("{ name = \"sex\", type", "{ name = \"gender\", type"),
            ["output.rows.gender: is new: sends gender (female or male)"]
        );
    }

    #[test]
    fn a_second_input_of_a_table_is_held_to_one_approved_input() {
        let more = "[input.more]\ntable = \"observation\"\ncolumns = [\"patient\", \"recorded\"]\nspan = \"period\"\n\
                    codelists = [\"diabetes\"]\n[input.people]";
        assert_eq!(wider("[input.people]", more), [""; 0]);
        let every = more.replace("codelists = [\"diabetes\"]\n", "");
        assert_eq!(
            wider("[input.people]", &every),
            ["input.more: reads every entry of observation, was only those of codelists"]
        );
    }

    #[test]
    fn every_new_code_is_listed() {
        let codes: Vec<_> = (100..150).map(|number| format!("\"{number}-1\"")).collect();
        let edit = format!("loinc = [{}]\nsnomed = [", codes.join(", "));
        let wider = widenings(&manifest(&[]), &manifest(&[("snomed = [", &edit)]));
        assert_eq!(wider[0].codes.len(), 50);
        assert!(wider[0].what.ends_with("and 42 more"), "{}", wider[0]);
    }

    #[test]
    fn a_scope_is_told_in_words() {
        let manifest = manifest(&[]);
        assert_eq!(
            reads(&manifest),
            [
                "observation: patient, recorded, code; 15 months by `recorded`; only 2 codes of diabetes",
                "patient: patient, sex"
            ]
        );
        assert_eq!(
            sends(&manifest),
            [
                "counts: counts of patients, from 20 upwards and rounded to 10, by sex (female or male)",
                "rows: the patient's token, month (a month), code (a code of snomed), value (a number from 0 to 100, 1 decimals), sex (female or male)"
            ]
        );
    }
}
