//! What the rows are measured on: invented practices, real synthetic records, and sites that have not run yet.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use lockgate_tests::command::finish;
use lockgate_tests::{AS_OF, Binaries, Site, SiteOptions, Stage, copy_folder};

/// A folder for databases; gone when it is dropped.
pub(crate) struct Data {
    pub(crate) binaries: Binaries,
    folder: tempfile::TempDir,
}

/// An invented practice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Practice {
    pub(crate) name: &'static str,
    patients: u32,
    months: u32,
    events_per_patient_month: f64,
}

/// About five million coded entries and issues in four months.
pub(crate) const LARGE: Practice =
    Practice { name: "large", patients: 125_000, months: 4, events_per_patient_month: 10.0 };
/// Ten times as many: the same people over forty months.
pub(crate) const TEN_TIMES: Practice = Practice { name: "ten-times", months: 40, ..LARGE };
/// As many people as the largest practice has, and hardly an entry.
pub(crate) const LARGEST: Practice =
    Practice { name: "largest", patients: 125_000, months: 1, events_per_patient_month: 0.1 };
/// The size of most practices: 280,000 rows in four months.
pub(crate) const TYPICAL: Practice =
    Practice { name: "typical", patients: 10_400, months: 4, events_per_patient_month: 6.45 };

impl Data {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lockgate-bench-").tempdir()?;
        Ok(Self { binaries: Binaries::locate()?, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database of a practice; made on first use.
    pub(crate) fn practice(&self, of: Practice) -> anyhow::Result<PathBuf> {
        let path = self.folder().join(of.name).with_extension("sqlite");
        if !path.exists() {
            let mut make = Command::new(self.binaries.program("practice")?);
            make.args(["make", "practice", "--out"]).arg(&path);
            make.args(["--patients", &of.patients.to_string(), "--months", &of.months.to_string()]);
            make.args(["--events-per-patient-month", &of.events_per_patient_month.to_string()]);
            finish(make.args(["--as-of", AS_OF]))?.ok()?;
        }
        Ok(path)
    }

    /// The two practices of `synthea-300`; `None` where the archive is not there (`LOCKGATE_DATA` says where it is).
    pub(crate) fn synthea(&self) -> anyhow::Result<Option<[PathBuf; 2]>> {
        let root = self.binaries.root();
        let shared =
            std::env::var_os("LOCKGATE_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
        let archive = shared.join("synthea-300.tar.xz");
        if !archive.exists() {
            return Ok(None);
        }
        let imported = self.folder().join("synthea");
        if !imported.exists() {
            let mut tar = Command::new("tar");
            finish(tar.arg("xf").arg(&archive).arg("-C").arg(self.folder()))?.ok()?;
            let mut import = Command::new(self.binaries.program("practice")?);
            import.arg("import").arg(self.folder().join("synthea-300")).arg("--out").arg(&imported);
            finish(&mut import)?.ok()?;
        }
        Ok(Some(["practice-1.sqlite", "practice-2.sqlite"].map(|name| imported.join(name))))
    }
}

/// A site with `gp-monthly`, enrolled, that has not run yet.
pub(crate) struct FreshSite {
    pub(crate) site: Site,
    /// Its linker goes with it.
    _stage: Stage,
}

impl FreshSite {
    /// `changes` are made to the lines of the module's manifest that begin so.
    pub(crate) fn new(database: &Path, changes: &[(&str, &str)]) -> anyhow::Result<Self> {
        let stage = Stage::unpublished(AS_OF)?;
        stage.registry.add_examples()?;
        let original = stage.binaries.root().join("guest-modules/gp-monthly/module.toml");
        let mut text = std::fs::read_to_string(&original)?;
        for (from, to) in changes {
            ensure!(text.contains(from), "gp-monthly's manifest has no `{from}`");
            text = text.replace(from, to);
        }
        let manifest = stage.folder().join("module.toml");
        std::fs::write(&manifest, text)?;
        stage.registry.add_module(&manifest, &stage.binaries.guest("gp-monthly")?, &[])?;
        stage.registry.publish()?;
        let site = stage.site("site", SiteOptions::practice("A81001", database))?;
        let fresh = Self { site, _stage: stage };
        copy_folder(&fresh.site.state(), &fresh.enrolled())?;
        Ok(fresh)
    }

    fn enrolled(&self) -> PathBuf {
        self.site.folder.join("enrolled")
    }

    /// Forgets every run.
    pub(crate) fn reset(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(self.site.state())?;
        copy_folder(&self.enrolled(), &self.site.state())
    }

    /// The agent's `run`, ready to be measured; what is made stays in the outbox.
    pub(crate) fn run_without_push(&self) -> Command {
        let mut command = self.site.agent();
        command.args(["run", "--no-push"]);
        command
    }

    /// The folders of the bundles in the outbox, in their order.
    pub(crate) fn bundles(&self) -> anyhow::Result<Vec<PathBuf>> {
        let queued = self.site.state().join("outbox/queued");
        let entries = std::fs::read_dir(&queued).context("the agent has queued nothing")?;
        let mut folders: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        folders.sort();
        Ok(folders)
    }
}
