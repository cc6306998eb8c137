//! Golden files: what a module sends from its fixture, as tables that a reviewer reads. `golden/<month>/<output>.csv`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use similar::TextDiff;

use super::extract::{Extract, OutputRows};

/// The golden files cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// There are none.
    #[error("{} holds nothing to compare with; look at what `module check` prints, and keep it with `--bless`", .0.display())]
    Nothing(PathBuf),
    /// A file.
    #[error("cannot read or write {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A table.
    #[error("a table cannot be written: {0}")]
    Table(String),
}

/// A file that is not as it was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// The file, relative to the folder of golden files.
    pub file: PathBuf,
    /// Unified: `-` is what was kept, `+` is what the module sends now.
    pub diff: String,
}

/// Compares what was extracted with the golden files.
pub fn compare(folder: &Path, extracts: &[Extract]) -> Result<Vec<Difference>, GoldenError> {
    let kept = read(folder)?;
    if kept.is_empty() {
        return Err(GoldenError::Nothing(folder.to_owned()));
    }
    let found = tables(extracts)?;
    let files: BTreeSet<&PathBuf> = kept.keys().chain(found.keys()).collect();
    let text = |tables: &BTreeMap<PathBuf, String>, file| tables.get(file).cloned().unwrap_or_default();
    let differences = files.into_iter().filter_map(|file| {
        let (before, after) = (text(&kept, file), text(&found, file));
        let diff = TextDiff::from_lines(&before, &after);
        let diff = diff.unified_diff().context_radius(2).header("kept", "now").to_string();
        (before != after).then(|| Difference { file: file.clone(), diff })
    });
    Ok(differences.collect())
}

/// Makes what was extracted the golden files: writes them, and removes what is of no output any more. Returns what changed.
pub fn bless(folder: &Path, extracts: &[Extract]) -> Result<Vec<PathBuf>, GoldenError> {
    let kept = read(folder)?;
    let found = tables(extracts)?;
    let mut changed = Vec::new();
    for (file, table) in &found {
        if kept.get(file) != Some(table) {
            let path = folder.join(file);
            if let Some(month) = path.parent() {
                std::fs::create_dir_all(month).map_err(at(month))?;
            }
            std::fs::write(&path, table).map_err(at(&path))?;
            changed.push(file.clone());
        }
    }
    for file in kept.keys().filter(|file| !found.contains_key(*file)) {
        let path = folder.join(file);
        std::fs::remove_file(&path).map_err(at(&path))?;
        changed.push(file.clone());
    }
    Ok(changed)
}

/// Every output as a file.
fn tables(extracts: &[Extract]) -> Result<BTreeMap<PathBuf, String>, GoldenError> {
    let mut tables = BTreeMap::new();
    for extract in extracts {
        for output in &extract.outputs {
            let file = PathBuf::from(extract.period.to_string()).join(format!("{}.csv", output.name));
            tables.insert(file, csv(output).map_err(GoldenError::Table)?);
        }
    }
    Ok(tables)
}

fn csv(output: &OutputRows) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&output.columns).map_err(|error| error.to_string())?;
    for row in &output.rows {
        writer.write_record(row).map_err(|error| error.to_string())?;
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// The files that are kept: those of `<month>/<output>.csv`.
fn read(folder: &Path) -> Result<BTreeMap<PathBuf, String>, GoldenError> {
    let mut kept = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(kept);
    }
    for month in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&month)?.into_iter().filter(|path| path.extension().is_some_and(|it| it == "csv"))
        {
            let text = std::fs::read_to_string(&path).map_err(at(&path))?;
            kept.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned(), text);
        }
    }
    Ok(kept)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, GoldenError> {
    let found = std::fs::read_dir(folder).map_err(at(folder))?;
    found.map(|entry| Ok(entry.map_err(at(folder))?.path())).collect()
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> GoldenError {
    let path = path.to_owned();
    move |error| GoldenError::File { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(rows: &[&str]) -> Extract {
        Extract {
            period: "2026-10".parse().unwrap(),
            rows: 0,
            bytes: 0,
            fuel: 0,
            patients_sent: 0,
            counts: BTreeMap::new(),
            outputs: vec![OutputRows {
                name: "register".parse().unwrap(),
                columns: vec!["patient".into(), "since".into()],
                rows: rows.iter().map(|row| row.split(' ').map(str::to_owned).collect()).collect(),
            }],
        }
    }

    #[test]
    fn what_is_blessed_is_what_is_compared_with() {
        let folder = tempfile::tempdir().unwrap();
        let kept = [extract(&["a 2011", "b 2012"])];
        assert!(matches!(compare(folder.path(), &kept), Err(GoldenError::Nothing(_))));
        assert_eq!(bless(folder.path(), &kept).unwrap(), [PathBuf::from("2026-10/register.csv")]);
        assert_eq!(compare(folder.path(), &kept).unwrap(), []);
        assert!(bless(folder.path(), &kept).unwrap().is_empty());

        let differences = compare(folder.path(), &[extract(&["a 2011", "b 2013"])]).unwrap();
        assert_eq!(differences.len(), 1);
        let diff = &differences[0].diff;
        assert!(diff.contains("-b,2012") && diff.contains("+b,2013") && !diff.contains("-a"), "{diff}");
        // An output that is gone is a difference, and goes when that is blessed.
        assert_eq!(compare(folder.path(), &[]).unwrap().len(), 1);
        assert_eq!(bless(folder.path(), &[]).unwrap().len(), 1);
        assert!(matches!(compare(folder.path(), &kept), Err(GoldenError::Nothing(_))));
    }
}
