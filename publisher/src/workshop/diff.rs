//! What one version of a module sends differently from another, from the same invented site.

use std::collections::BTreeMap;

use lockgate_signing::ids::{Name, Period};
use lockgate_signing::manifest::{Manifest, OutputType};
use lockgate_signing::scope::{self, Widening};
use serde::Serialize;

use super::extract::{Extract, OutputRows};

/// What differs between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModuleDiff {
    /// The version before.
    pub before: String,
    /// The version after.
    pub after: String,
    /// What the later manifest lets the module read and send beyond the earlier one: a site approves it first.
    pub widens: Vec<Widening>,
    /// What the earlier manifest has beyond the later one.
    pub narrows: Vec<Widening>,
    /// Whether the patients of both can be told to be the same: tokens of two purposes cannot be joined.
    pub patients_compared: bool,
    /// Month by month.
    pub months: Vec<MonthDiff>,
}

/// What differs in one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MonthDiff {
    /// The month.
    pub period: Period,
    /// Patients who are sent.
    pub patients: Change,
    /// Bytes of the sealed blocks.
    pub bytes: Change,
    /// The outputs of either version.
    pub outputs: Vec<OutputDiff>,
}

/// A number before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of the version before.
    pub before: u64,
    /// Of the version after.
    pub after: u64,
}

/// What differs in one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutputDiff {
    /// The output.
    pub name: Name,
    /// Its rows.
    pub rows: Change,
    /// Columns that only the later version has.
    pub columns_added: Vec<String>,
    /// Columns that only the earlier version has.
    pub columns_removed: Vec<String>,
    /// The columns by which rows are compared: those that both have.
    pub columns: Vec<String>,
    /// Rows that only the later version sends, and how often.
    pub added: Vec<Vec<String>>,
    /// Rows that only the earlier version sends.
    pub removed: Vec<Vec<String>>,
}

impl ModuleDiff {
    /// Whether both versions send the same.
    pub fn sends_the_same(&self) -> bool {
        self.months.iter().flat_map(|month| &month.outputs).all(OutputDiff::is_empty)
    }
}

impl OutputDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        [&self.columns_added, &self.columns_removed].iter().all(|columns| columns.is_empty())
            && [&self.added, &self.removed].iter().all(|rows| rows.is_empty())
    }
}

/// Compares two versions by what each sends from the same site.
pub fn diff(before: (&Manifest, &[Extract]), after: (&Manifest, &[Extract])) -> ModuleDiff {
    let ((manifest_before, before), (manifest_after, after)) = (before, after);
    let patients_compared = manifest_before.purpose == manifest_after.purpose;
    let months = before.iter().zip(after).map(|(before, after)| MonthDiff {
        period: after.period,
        patients: Change { before: before.patients_sent, after: after.patients_sent },
        bytes: Change { before: before.bytes, after: after.bytes },
        outputs: names(before, after)
            .map(|name| {
                // Labels of two purposes are of two token domains.
                let left_out =
                    if patients_compared { Vec::new() } else { patients_of(manifest_after, &name) };
                output_diff(name, before, after, &left_out)
            })
            .collect(),
    });
    let version = |manifest: &Manifest| format!("{} {}", manifest.id, manifest.version);
    ModuleDiff {
        before: version(manifest_before),
        after: version(manifest_after),
        widens: scope::widenings(manifest_before, manifest_after),
        narrows: scope::widenings(manifest_after, manifest_before),
        patients_compared,
        months: months.collect(),
    }
}

/// The outputs of either version: the later one's first.
fn names(before: &Extract, after: &Extract) -> impl Iterator<Item = Name> {
    let mut names: Vec<Name> = after.outputs.iter().map(|output| output.name.clone()).collect();
    for output in &before.outputs {
        if !names.contains(&output.name) {
            names.push(output.name.clone());
        }
    }
    names.into_iter()
}

fn patients_of(manifest: &Manifest, output: &Name) -> Vec<String> {
    let columns = manifest.outputs.get(output).map_or(&[][..], |output| &output.columns);
    let patients = columns.iter().filter(|column| column.kind == OutputType::Patient);
    patients.map(|column| column.name.to_string()).collect()
}

fn output_diff(name: Name, before: &Extract, after: &Extract, left_out: &[String]) -> OutputDiff {
    let none = OutputRows { name: name.clone(), columns: Vec::new(), rows: Vec::new() };
    let of = |extract: &Extract| extract.outputs.iter().find(|output| output.name == name).cloned();
    let (before, after) = (of(before), of(after));
    // An output that only one version has is compared by all of its columns.
    let both = before.as_ref().zip(after.as_ref());
    let columns: Vec<String> = match both {
        Some((before, after)) => {
            let shared = after.columns.iter().filter(|column| before.columns.contains(column));
            shared.filter(|column| !left_out.contains(column)).cloned().collect()
        }
        None => before.as_ref().or(after.as_ref()).map(|output| output.columns.clone()).unwrap_or_default(),
    };
    let (before, after) = (before.unwrap_or_else(|| none.clone()), after.unwrap_or(none));
    let only = |these: &OutputRows, others: &OutputRows| -> Vec<String> {
        these.columns.iter().filter(|column| !others.columns.contains(column)).cloned().collect()
    };
    let (rows_before, rows_after) = (counted(&before, &columns), counted(&after, &columns));
    OutputDiff {
        rows: Change { before: before.rows.len() as u64, after: after.rows.len() as u64 },
        columns_added: only(&after, &before),
        columns_removed: only(&before, &after),
        added: beyond(&rows_after, &rows_before),
        removed: beyond(&rows_before, &rows_after),
        name,
        columns,
    }
}

/// How often each row comes, by these columns.
fn counted(output: &OutputRows, columns: &[String]) -> BTreeMap<Vec<String>, usize> {
    let places: Vec<usize> =
        columns.iter().filter_map(|column| output.columns.iter().position(|other| other == column)).collect();
    let mut rows = BTreeMap::new();
    for row in &output.rows {
        let cells = places.iter().map(|place| row.get(*place).cloned().unwrap_or_default());
        *rows.entry(cells.collect()).or_default() += 1;
    }
    rows
}

/// The rows that come more often in `these`, each as often as it does so.
fn beyond(these: &BTreeMap<Vec<String>, usize>, others: &BTreeMap<Vec<String>, usize>) -> Vec<Vec<String>> {
    let more = these.iter().map(|(row, count)| {
        let others = others.get(row).copied().unwrap_or_default();
        std::iter::repeat_n(row.clone(), count.saturating_sub(others))
    });
    more.flatten().collect()
}

#[cfg(test)]
mod tests {
    use lockgate_signing::text_format::TextFormat as _;

    use super::*;
    use crate::module::tests::MANIFEST;

    fn extract(columns: &[&str], rows: &[&str]) -> Vec<Extract> {
        vec![Extract {
            period: "2026-10".parse().unwrap(),
            rows: rows.len() as u64,
            bytes: 0,
            fuel: 0,
            patients_sent: rows.len() as u64,
            counts: BTreeMap::new(),
            outputs: vec![OutputRows {
                name: "events".parse().unwrap(),
                columns: columns.iter().map(|&column| column.to_owned()).collect(),
                rows: rows.iter().map(|row| row.split(' ').map(str::to_owned).collect()).collect(),
            }],
        }]
    }

    fn manifest(text: &str) -> Manifest {
        Manifest::decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn rows_are_compared_by_the_columns_that_both_versions_have() {
        let manifest = manifest(MANIFEST);
        let before = extract(&["patient", "code"], &["a x", "a x", "b y"]);
        let after = extract(&["code", "day", "patient"], &["x 1 a", "z 2 b"]);
        let diff = diff((&manifest, &before), (&manifest, &after));
        let output = &diff.months[0].outputs[0];
        assert_eq!(output.columns, ["code", "patient"]);
        assert_eq!(output.columns_added, ["day"]);
        assert_eq!(output.added, [["z", "b"]]);
        // One of two equal rows is gone.
        assert_eq!(output.removed, [["x", "a"], ["y", "b"]]);
        assert!(!diff.sends_the_same());
        assert!(super::diff((&manifest, &before), (&manifest, &before)).sends_the_same());
    }

    #[test]
    fn patients_of_two_purposes_are_not_compared() {
        let (one, other) =
            (manifest(MANIFEST), manifest(&MANIFEST.replace("purpose = \"example\"", "purpose = \"other\"")));
        let before = extract(&["patient", "code"], &["a x"]);
        let after = extract(&["patient", "code"], &["q x"]);
        let diff = diff((&one, &before), (&other, &after));
        assert!(!diff.patients_compared && diff.sends_the_same());
        assert_eq!(diff.widens[0].place, "purpose");
    }
}
