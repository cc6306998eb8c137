//! `module new`: a folder with a module in it that builds, runs and teaches. Nothing is fetched to make it.

use std::path::{Path, PathBuf};

use jiff::civil::{Date, date};
use lockgate_signing::ids::Name;

use super::sdk;

/// The invented practice, and how it is presented.
pub(super) const SITE: &str = include_str!("template/fixture/site.toml");
pub(super) const PRACTICE: &str = include_str!("template/fixture/practice.sql");
pub(super) const MAPPING: &str = include_str!("../../../examples/registry/mappings/gp-extract.toml");
pub(super) const POLICY: &str = include_str!("../../../examples/registry/policies/objections.toml");
pub(super) const SENSITIVE: &str = include_str!("../../../examples/registry/sensitive/england.toml");

/// What a new module is made of; what is in double braces is written in.
const FILES: [(&str, &str); 10] = [
    ("module.toml", include_str!("template/module.toml")),
    ("src/lib.rs", include_str!("template/lib.rs")),
    // Not named Cargo.toml in this repository: cargo would take its folder for a package.
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", include_str!("template/gitignore")),
    ("fixture/site.toml", SITE),
    ("fixture/practice.sql", PRACTICE),
    ("fixture/mapping.toml", MAPPING),
    ("fixture/objections.toml", POLICY),
    ("fixture/sensitive.toml", SENSITIVE),
];

/// No module could be laid out.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The name is no package's.
    #[error("`{0}` cannot be the name of a Rust package, which begins with a letter; choose another")]
    Name(Name),
    /// There is something already.
    #[error("{} is there already; nothing is overwritten: choose another name, or another folder with `--dir`", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The SDK that this program carries is broken: a fault of this program.
    #[error("the SDK that this program carries cannot be written: {0}; please report it")]
    Sdk(String),
}

/// Lays out a module in a folder that is not there yet; it appears whole or not at all. Returns its files.
pub fn scaffold(name: &Name, dir: &Path, today: Date) -> Result<Vec<PathBuf>, ScaffoldError> {
    if !name.as_str().starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(ScaffoldError::Name(name.clone()));
    }
    if dir.exists() {
        return Err(ScaffoldError::Exists(dir.to_owned()));
    }
    // Longer than a year and shorter than the two that draw a remark of the reviewer.
    let not_after = date(today.year() + 1, 12, 31).to_string();
    let render = |text: &str| {
        text.replace("{{name}}", name.as_str())
            .replace("{{not-after}}", &not_after)
            .replace("{{program-version}}", env!("CARGO_PKG_VERSION"))
    };
    let mut files: Vec<(PathBuf, String)> =
        FILES.iter().map(|(path, text)| (PathBuf::from(path), render(text))).collect();
    files.extend(sdk::files().map_err(ScaffoldError::Sdk)?);

    let mut unfinished = dir.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ScaffoldError::File { path, error }
    };
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
    }
    for (path, text) in &files {
        let file = unfinished.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        std::fs::write(&file, text).map_err(failed(&file))?;
    }
    std::fs::rename(&unfinished, dir).map_err(failed(dir))?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    use lockgate_signing::manifest::Manifest;
    use lockgate_signing::text_format::TextFormat as _;

    use super::*;
    use crate::lint;

    #[test]
    fn what_is_laid_out_has_its_name_and_lacks_only_a_legal_basis() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("asthma");
        let name: Name = "asthma".parse().unwrap();
        let files = scaffold(&name, &dir, date(2026, 11, 1)).unwrap();
        for file in &files {
            let text = std::fs::read_to_string(dir.join(file)).unwrap();
            assert!(!text.contains("{{name}}") && !text.contains("{{not-after}}"), "{}", file.display());
        }
        let manifest = Manifest::decode(&std::fs::read(dir.join("module.toml")).unwrap()).unwrap();
        assert_eq!((manifest.id.as_str(), manifest.not_after), ("asthma", date(2027, 12, 31)));
        let remarks = lint::warnings(&manifest, date(2026, 11, 1));
        assert!(matches!(&remarks[..], [one] if one.place == "legal-basis"), "{remarks:?}");
        assert!(matches!(scaffold(&name, &dir, date(2026, 11, 1)), Err(ScaffoldError::Exists(_))));
    }

    #[test]
    fn nobody_in_the_invented_practice_has_a_number_that_could_be_issued() {
        let numbers: Vec<&str> = PRACTICE
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|digits| digits.len() == 10)
            .collect();
        assert_eq!(numbers.len(), 10);
        assert!(numbers.iter().all(|number| number.starts_with("999")), "{numbers:?}");
    }
}
