//! A registry, a linker and sites in one temporary folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::Binaries;
use crate::command::finish;
use crate::linker::Linker;
use crate::registry::Registry;
use crate::sealed_keys::SealedKeys;
use crate::site::{Site, SiteOptions};

/// Everything of one test or demonstration; gone when it is dropped, except in a folder that the caller names.
#[derive(Debug)]
pub struct Stage {
    /// The linker, running.
    pub linker: Linker,
    /// The registry.
    pub registry: Registry,
    /// The programs.
    pub binaries: Binaries,
    folder: PathBuf,
    /// Deletes the folder, unless it is to stay.
    _temporary: Option<tempfile::TempDir>,
}

impl Stage {
    /// A registry that publishes the examples and these modules (see [`Registry::add_guest`]), and a running linker.
    pub fn new(modules: &[&str]) -> anyhow::Result<Self> {
        let stage = Self::unpublished(crate::AS_OF)?;
        stage.registry.add_examples()?;
        modules.iter().try_for_each(|module| stage.registry.add_guest(module))?;
        stage.registry.publish()?;
        Ok(stage)
    }

    /// A registry that publishes nothing yet, and a running linker.
    pub fn unpublished(as_of: &str) -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("lockgate-").tempdir()?;
        let stage = Self::in_folder(temporary.path(), as_of)?;
        Ok(Self { _temporary: Some(temporary), ..stage })
    }

    /// The same in a folder that exists, is empty, and stays.
    pub fn in_folder(folder: &Path, as_of: &str) -> anyhow::Result<Self> {
        let binaries = Binaries::locate()?;
        let registry = Registry::new(&binaries, folder, as_of)?;
        let mut linker = Linker::new(&binaries, folder)?;
        linker.start()?;
        Ok(Self { linker, registry, binaries, folder: folder.to_owned(), _temporary: None })
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a synthetic practice of this many patients, in `folder/<name>.sqlite`.
    pub fn practice_database(&self, name: &str, patients: u32) -> anyhow::Result<PathBuf> {
        let database = self.folder().join(name).with_extension("sqlite");
        let mut command = Command::new(self.binaries.program("practice")?);
        command.args(["make", "practice", "--patients", &patients.to_string(), "--out"]).arg(&database);
        finish(&mut command)?.ok()?;
        Ok(database)
    }

    /// Adds a site in `folder/<name>` and enrols it.
    pub fn site(&self, name: &str, options: SiteOptions) -> anyhow::Result<Site> {
        let site = self.site_not_enrolled(name, options)?;
        self.enrol(&site)?;
        Ok(site)
    }

    /// Adds a site in `folder/<name>`.
    pub fn site_not_enrolled(&self, name: &str, options: SiteOptions) -> anyhow::Result<Site> {
        Site::new(
            self.binaries.program("lockgate-agent")?,
            self.folder().join(name),
            options,
            &self.registry.location(),
            &self.registry.root(),
            &self.linker.url(),
        )
    }

    /// Enrols a site with a new token, and gives it sealed token keys unless it has a keyholder.
    pub fn enrol(&self, site: &Site) -> anyhow::Result<()> {
        self.linker.enrol(site)?;
        if site.options.keyholder.is_none() {
            SealedKeys::in_folder(self.folder())?.install(site)?;
        }
        Ok(())
    }
}
