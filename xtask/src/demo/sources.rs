//! The databases of the demonstration: invented ones, or Synthea's CSV in the same tables.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lockgate_tests::Binaries;
use lockgate_tests::command::finish;

use super::say;

/// Registered patients of each invented practice.
const PATIENTS: &str = "2000";

/// The day of a run on `synthea-300`, whose last month is December 2025.
const DATA_AS_OF: &str = "2026-01-01";

/// The published codelists that are loaded when they are there: codelist of the module, code system, file.
const PUBLISHED_CODELISTS: [(&str, &str, &str); 3] = [
    ("diabetes", "snomed", "nhsd-primary-care-domain-refsets-dm_cod.csv"),
    ("diabetes-resolved", "snomed", "nhsd-primary-care-domain-refsets-dmres_cod.csv"),
    ("hba1c", "snomed", "nhsd-primary-care-domain-refsets-ifcchbam_cod.csv"),
];

/// What kind of site a database is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A general practice.
    Practice,
    /// A hospital.
    Hospital,
}

/// The database of one site.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Its ODS code.
    pub(super) id: String,
    /// The name of its folder.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: Kind,
    /// Where it is.
    pub(super) database: PathBuf,
}

/// A published codelist, as a file.
#[derive(Debug)]
pub(super) struct CodelistFile {
    /// The codelist of the module whose codes it replaces.
    pub(super) name: &'static str,
    /// The code system.
    pub(super) system: &'static str,
    /// CSV whose first column is the code.
    pub(super) file: PathBuf,
}

impl CodelistFile {
    /// As `lockgate-publish module add --codelist` takes it.
    pub(super) fn argument(&self) -> String {
        format!("{}={}:{}", self.name, self.system, self.file.display())
    }
}

/// All of them, and how to run on them.
#[derive(Debug)]
pub(super) struct Sources {
    /// The sites, practices first.
    pub(super) sites: Vec<Source>,
    /// The day of the run.
    pub(super) as_of: String,
    /// Whether the first run covers everything that was ever recorded, and not four months.
    pub(super) whole_history: bool,
    /// Published codelists.
    pub(super) codelists: Vec<CodelistFile>,
}

impl Sources {
    /// Invents databases in a folder, or imports those of `data`.
    pub(super) fn make(folder: &Path, data: Option<&Path>) -> Result<Self> {
        let databases = folder.join("databases");
        let practice = Binaries::locate()?.program("practice")?;
        let Some(data) = data else {
            say(&format!("making two practices of {PATIENTS} patients and a hospital"));
            let mut make = Command::new(practice);
            make.args(["make", "pair", "--practices", "2", "--patients", PATIENTS, "--out"]).arg(&databases);
            make.args(["--as-of", lockgate_tests::AS_OF]);
            finish(&mut make)?.ok()?;
            return Ok(Self {
                sites: sites(&databases, ["A81001", "A81002", "RX101"]),
                as_of: lockgate_tests::AS_OF.to_owned(),
                whole_history: false,
                codelists: Vec::new(),
            });
        };
        let csv = unpacked(data, "synthea-300", folder)?.with_context(|| {
            format!("--data {}: neither synthea-300 nor synthea-300.tar.xz is there", data.display())
        })?;
        say("importing synthea-300 into two practices and a hospital");
        let mut import = Command::new(practice);
        import.arg("import").arg(&csv).arg("--out").arg(&databases).args(["--as-of", DATA_AS_OF]);
        finish(&mut import)?.ok()?;
        Ok(Self {
            sites: sites(&databases, ["A82001", "A82002", "RX101"]),
            as_of: DATA_AS_OF.to_owned(),
            whole_history: true,
            codelists: published_codelists(data, folder)?,
        })
    }

    /// The manifest that a module is published with.
    pub(super) fn manifest(&self, root: &Path, folder: &Path, module: &str) -> Result<PathBuf> {
        let manifest = root.join("guest-modules").join(module).join("module.toml");
        // The register reads a whole history for each month of it: four months of it show as much as a thousand.
        if !self.whole_history || module == "diabetes-register" {
            return Ok(manifest);
        }
        let (months, all) = ("initial = \"4 months\"", "initial = \"all\"");
        let text = std::fs::read_to_string(&manifest)?;
        ensure!(text.contains(months), "{} does not say {months}", manifest.display());
        let changed = folder.join(format!("{module}.toml"));
        std::fs::write(&changed, text.replace(months, all))?;
        Ok(changed)
    }
}

/// A folder that goes when the demonstration ends.
pub(super) fn temporary_folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("lockgate-demo-").tempdir()?)
}

fn sites(databases: &Path, ids: [&str; 3]) -> Vec<Source> {
    let kinds =
        [("practice-1", Kind::Practice), ("practice-2", Kind::Practice), ("hospital", Kind::Hospital)];
    let site = |(id, (name, kind)): (&str, (&str, Kind))| Source {
        id: id.to_owned(),
        name: name.to_owned(),
        kind,
        database: databases.join(name).with_extension("sqlite"),
    };
    ids.into_iter().zip(kinds).map(site).collect()
}

fn published_codelists(data: &Path, folder: &Path) -> Result<Vec<CodelistFile>> {
    let Some(codelists) = unpacked(data, "codelists", folder)? else { return Ok(Vec::new()) };
    let file = |(name, system, file): (&'static str, &'static str, &str)| CodelistFile {
        name,
        system,
        file: codelists.join(file),
    };
    Ok(PUBLISHED_CODELISTS.into_iter().map(file).collect())
}

/// The folder `name` in `data`, unpacked into `folder` if `data` holds it as an archive; `None` if it holds neither.
fn unpacked(data: &Path, name: &str, folder: &Path) -> Result<Option<PathBuf>> {
    if data.join(name).is_dir() {
        return Ok(Some(data.join(name)));
    }
    if data.ends_with(name) && data.is_dir() {
        return Ok(Some(data.to_owned()));
    }
    let archive = data.join(format!("{name}.tar.xz"));
    if !archive.exists() {
        return Ok(None);
    }
    let out = folder.join("data");
    std::fs::create_dir_all(&out)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&out);
    finish(&mut tar)?.ok().context("tar and xz are needed to unpack it")?;
    let folder = out.join(name);
    if !folder.is_dir() {
        bail!("{} holds no folder `{name}`", archive.display());
    }
    Ok(Some(folder))
}
