//! What the workshop answers: text for people, one JSON object for scripts.

use std::fmt;
use std::path::PathBuf;

use comfy_table::{Table, presets};
use lockgate_publish::lint::Warning;
use lockgate_publish::module::PreparedModule;
use lockgate_publish::workshop::diff::{Change, ModuleDiff, OutputDiff};
use lockgate_publish::workshop::extract::Extract;
use lockgate_publish::workshop::golden::Difference;
use lockgate_signing::digest::Digest;
use lockgate_signing::manifest::Limits;
use lockgate_signing::scope::{self, Widening};
use serde::Serialize;

/// The answer of one command of the workshop.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    New {
        dir: PathBuf,
        files: Vec<PathBuf>,
    },
    Checked(Checked),
    Tested(Tested),
    Diff {
        #[serde(flatten)]
        diff: ModuleDiff,
        #[serde(skip)]
        rows_max: usize,
    },
}

/// A module that a publisher would take.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Checked {
    module: String,
    version: String,
    interface: String,
    component_bytes: usize,
    component_digest: Digest,
    limits: Limits,
    reads: Vec<String>,
    sends: Vec<String>,
    warnings: Vec<Warning>,
    extracts: Vec<Extract>,
    #[serde(skip)]
    rows_max: usize,
}

/// What became of a comparison with the golden files.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Tested {
    Compared { tables: usize, differences: Vec<Difference> },
    Blessed { folder: PathBuf, changed: Vec<PathBuf> },
}

impl Checked {
    pub(crate) fn new(module: PreparedModule, extracts: Vec<Extract>, rows_max: usize) -> Self {
        let manifest = &module.manifest;
        Self {
            module: manifest.id.to_string(),
            version: manifest.version.to_string(),
            interface: manifest.interface.clone(),
            component_bytes: module.component.len(),
            component_digest: Digest::of(&module.component),
            limits: manifest.limits,
            reads: scope::reads(manifest),
            sends: scope::sends(manifest),
            warnings: module.warnings,
            extracts,
            rows_max,
        }
    }
}

impl Answer {
    /// 1 where a golden test found a difference.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Tested(Tested::Compared { differences, .. }) => u8::from(!differences.is_empty()),
            _ => 0,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New { dir, files } => {
                writeln!(
                    f,
                    "Made {} with {} files; README.md says what they are. Next:",
                    dir.display(),
                    files.len()
                )?;
                writeln!(f, "  cd {}\n  lockgate-publish module check", dir.display())
            }
            Self::Checked(checked) => checked.fmt(f),
            Self::Tested(tested) => tested.fmt(f),
            Self::Diff { diff, rows_max } => write_diff(f, diff, *rows_max),
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, version, interface, component_bytes, limits, .. } = self;
        writeln!(
            f,
            "{module} {version}: a component of {component_bytes} bytes that needs nothing but {interface}."
        )?;
        write_list(f, "It reads:", &self.reads)?;
        write_list(f, "It sends:", &self.sends)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for extract in &self.extracts {
            writeln!(
                f,
                "\nFor {} it would send {} rows of {} patients ({} bytes) from the invented site.",
                extract.period, extract.rows, extract.patients_sent, extract.bytes
            )?;
            writeln!(f, "The host counted: {}.", extract.counts_in_words().join(", "))?;
            writeln!(f, "The run used {} of {} units of fuel.", extract.fuel, limits.fuel)?;
            for output in &extract.outputs {
                let shown = output.rows.len().min(self.rows_max);
                writeln!(f, "\n{}: {} rows, the first {shown}", output.name, output.rows.len())?;
                writeln!(f, "{}", table(&output.columns, output.rows.iter().take(shown)))?;
            }
        }
        writeln!(f, "\nA publisher would take it. Nothing was sent.")
    }
}

impl fmt::Display for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compared { tables, differences } if differences.is_empty() => {
                writeln!(f, "It sends what it is to send: {tables} tables are as they were kept.")
            }
            Self::Compared { differences, .. } => {
                for Difference { file, diff } in differences {
                    writeln!(f, "{}\n{}", file.display(), diff.trim_end())?;
                }
                writeln!(
                    f,
                    "\nIt sends something else than was kept. If that is meant, keep it with `--bless`."
                )
            }
            Self::Blessed { folder, changed } if changed.is_empty() => {
                writeln!(f, "{} is what the module sends already.", folder.display())
            }
            Self::Blessed { folder, changed } => {
                for file in changed {
                    writeln!(f, "{}", folder.join(file).display())?;
                }
                writeln!(f, "Kept what the module sends now. Look at it, and commit it with the module.")
            }
        }
    }
}

fn write_diff(f: &mut fmt::Formatter<'_>, diff: &ModuleDiff, rows_max: usize) -> fmt::Result {
    writeln!(f, "From {} to {}:", diff.before, diff.after)?;
    let words = |wider: &[Widening]| wider.iter().map(Widening::to_string).collect::<Vec<_>>();
    match diff.widens.as_slice() {
        [] => writeln!(f, "The manifest stays within what a site has approved.")?,
        wider => write_list(f, "The manifest widens, so each site has to approve it:", &words(wider))?,
    }
    if !diff.narrows.is_empty() {
        write_list(f, "What only the manifest before has:", &words(&diff.narrows))?;
    }
    if !diff.patients_compared {
        writeln!(
            f,
            "The purposes differ, so the patients of both cannot be compared: rows are compared without them."
        )?;
    }
    for month in &diff.months {
        writeln!(
            f,
            "\n{}: {} patients, {} bytes",
            month.period,
            change(month.patients),
            change(month.bytes)
        )?;
        for output in &month.outputs {
            write_output(f, output, rows_max)?;
        }
    }
    if diff.sends_the_same() {
        writeln!(f, "\nBoth send the same rows from the invented site.")
    } else {
        Ok(())
    }
}

fn write_output(f: &mut fmt::Formatter<'_>, output: &OutputDiff, rows_max: usize) -> fmt::Result {
    let (added, removed) = (output.added.len(), output.removed.len());
    writeln!(f, "\n{}: {} rows; {added} came, {removed} went", output.name, change(output.rows))?;
    for (what, columns) in [("new", &output.columns_added), ("gone", &output.columns_removed)] {
        if !columns.is_empty() {
            writeln!(f, "  columns that are {what}: {}", columns.join(", "))?;
        }
    }
    if added + removed == 0 {
        return Ok(());
    }
    let signed = |sign: &str, rows: &[Vec<String>]| -> Vec<Vec<String>> {
        let rows = rows.iter().take(rows_max);
        rows.map(|row| [&[sign.to_owned()], row.as_slice()].concat()).collect()
    };
    let rows = [signed("-", &output.removed), signed("+", &output.added)].concat();
    let columns = [&[String::new()], output.columns.as_slice()].concat();
    writeln!(f, "{}", table(&columns, &rows))?;
    match (added + removed) - rows.len() {
        0 => Ok(()),
        left => writeln!(f, "and {left} more; `--rows` shows them"),
    }
}

fn change(change: Change) -> String {
    let Change { before, after } = change;
    if before == after { after.to_string() } else { format!("{before} → {after}") }
}

fn write_list(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    writeln!(f, "{title}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
}

fn table<'a>(columns: &[String], rows: impl IntoIterator<Item = &'a Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(columns);
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    table.trim_fmt()
}
