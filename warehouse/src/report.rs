//! Listings for people. Programs use `--json`.

use std::fmt::Write as _;

use lockgate_service::report::{table, time};

use crate::collect::Collection;
use crate::store::{OutputRows, RetractionRow, SiteRow, TableRow, WaitingRow};

/// What collecting came to.
pub fn collection(done: &Collection) -> String {
    let mut text = format!("{} bundles applied, {} rows", done.bundles, done.rows);
    if done.rows_kept_out > 0 {
        let _ = write!(text, "; {} rows of retracted patients stayed out", done.rows_kept_out);
    }
    if done.renewed > 0 {
        let _ = write!(text, "; {} patients are known by the token of a new epoch", done.renewed);
    }
    if done.contradicted > 0 {
        let _ = write!(text, "; {} former tokens were told otherwise before, see the log", done.contradicted);
    }
    if done.retractions > 0 {
        let _ = write!(text, "; {} retractions deleted {} rows", done.retractions, done.rows_deleted);
    }
    if done.rows_deleted_late > 0 {
        let _ = write!(text, "; earlier ones deleted {} rows of former tokens", done.rows_deleted_late);
    }
    if done.statements > 0 {
        let _ = write!(text, "; the linker was told of {} deletions", done.statements);
    }
    if done.waiting > 0 {
        let _ = write!(text, "; {} bundles are set aside, see `status`", done.waiting);
    }
    text + "\n"
}

/// What is there.
pub fn status(tables: &[TableRow], retractions: &[RetractionRow], waiting: &[WaitingRow]) -> String {
    let mut text = String::new();
    if tables.is_empty() {
        text += "No rows yet. Collect some with `lockgate-warehouse collect --linker URL`.\n";
    } else {
        let mut lines = table(&["table", "rows", "patients", "sites"]);
        for it in tables {
            lines.add_row([
                it.table.clone(),
                it.rows.to_string(),
                it.patients.to_string(),
                it.sites.to_string(),
            ]);
        }
        let _ = writeln!(text, "{lines}");
    }
    for it in retractions {
        let _ = writeln!(
            text,
            "retraction {} of {}, {}: {} patients, {} rows deleted, {} of them of other sites; {}",
            it.sequence,
            it.site,
            it.module,
            it.patients,
            it.rows,
            it.rows_of_others,
            if it.stated { "the linker was told" } else { "the linker is not told yet" }
        );
    }
    for it in waiting {
        let _ = writeln!(text, "bundle {} is set aside since {}: {}", it.bundle, time(it.since_s), it.why);
    }
    text
}

/// The sites.
pub fn sites(sites: &[SiteRow]) -> String {
    if sites.is_empty() {
        return "No sites. Pin their keys with `lockgate-warehouse site import FILE`.\n".to_owned();
    }
    let mut lines = table(&["site", "keys", "extracts", "last month", "retractions", "others' rows deleted"]);
    for it in sites {
        lines.add_row([
            it.site.clone(),
            it.keys.to_string(),
            it.extracts.to_string(),
            it.last_period.clone().unwrap_or_default(),
            it.retractions.to_string(),
            it.rows_of_others.to_string(),
        ]);
    }
    format!("{lines}\n")
}

/// Rows.
pub fn rows(rows: &OutputRows) -> String {
    let head: Vec<&str> = rows.columns.iter().map(String::as_str).collect();
    let mut lines = table(&head);
    for row in &rows.rows {
        lines.add_row(row.iter().map(|value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    format!("{lines}\n")
}
