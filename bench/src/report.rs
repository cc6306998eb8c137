//! The rows and their bars.

use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;

/// What a row is measured against.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Good enough.
    pub(crate) bar: f64,
    /// Where we want to be.
    pub(crate) goal: f64,
    pub(crate) higher_is_better: bool,
}

const fn lower(name: &'static str, unit: &'static str, bar: f64, goal: f64) -> Bar {
    Bar { name, unit, bar, goal, higher_is_better: false }
}

const fn higher(name: &'static str, unit: &'static str, bar: f64, goal: f64) -> Bar {
    Bar { name, unit, bar, goal, higher_is_better: true }
}

/// Every row, in the order of the table.
pub(crate) const BARS: &[Bar] = &[
    lower("module-over-native", "ratio", 1.10, 1.0),
    lower("extract-over-sqlite-csv", "ratio", 1.0, 0.7),
    lower("extract-peak-memory", "MiB", 128.0, 64.0),
    lower("bundle-over-parquet", "ratio", 0.9, 0.65),
    higher("linker-over-sha256sum", "ratio", 0.4, 0.8),
    lower("objection-register", "s", 1.0, 0.5),
    lower("first-run", "s", 5.0, 2.0),
    lower("agent-binary", "MB", 30.0, 20.0),
    lower("agent-idle-memory", "MB", 40.0, 20.0),
    lower("publish-500-targets", "s", 5.0, 1.0),
    lower("first-refresh-500-targets", "s", 2.0, 0.5),
    lower("refresh-nothing-new-requests", "requests", 1.0, 1.0),
    lower("refresh-nothing-new-cpu", "ms", 50.0, 20.0),
    lower("refresh-nothing-new-bytes", "bytes", 5_000.0, 2_000.0),
    higher("oprf-tokens", "tokens/s/core", 3_000.0, 6_000.0),
    lower("oprf-over-curve", "ratio", 1.5, 1.2),
    higher("sealed-key-tokens", "tokens/s", 500_000.0, 500_000.0),
    lower("encryption-and-signing-share", "%", 10.0, 10.0),
];

/// One row that was measured.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) bar: &'static Bar,
    pub(crate) value: f64,
    /// The absolute figures.
    pub(crate) detail: String,
}

impl Row {
    fn verdict(&self) -> &'static str {
        let within = |limit: f64| match self.bar.higher_is_better {
            true => self.value >= limit,
            false => self.value <= limit,
        };
        match (within(self.bar.goal), within(self.bar.bar)) {
            (true, _) => "goal",
            (false, true) => "bar",
            (false, false) => "MISSED",
        }
    }
}

/// A row in one line.
pub(crate) fn line(row: &Row) -> String {
    format!("{} = {:.3} {} ({}): {}", row.bar.name, row.value, row.bar.unit, row.verdict(), row.detail)
}

/// Prints the table.
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
pub(crate) fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["row", "value", "bar", "goal", "", "figures"]);
    for row in rows {
        let sign = if row.bar.higher_is_better { "≥" } else { "≤" };
        table.add_row([
            row.bar.name.to_owned(),
            format!("{:.3} {}", row.value, row.bar.unit),
            format!("{sign} {}", row.bar.bar),
            format!("{sign} {}", row.bar.goal),
            row.verdict().to_owned(),
            row.detail.clone(),
        ]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// Writes the rows for programs.
pub(crate) fn write_json(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.bar.name,
                "value": row.value,
                "unit": row.bar.unit,
                "bar": row.bar.bar,
                "goal": row.bar.goal,
                "better": if row.bar.higher_is_better { "higher" } else { "lower" },
                "detail": row.detail,
            })
        })
        .collect();
    Ok(std::fs::write(path, serde_json::to_vec_pretty(&json!({ "rows": rows }))?)?)
}

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
