//! A module as a folder: what its author keeps.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::compile::{CompileError, compile};
use super::fixture::{Fixture, FixtureError};
use crate::module::{self, LoadedCodelist, ModuleError, PreparedModule};
use crate::published::{Published, PublishedError};

/// The largest file of a compiler that is read, bytes: debug information makes it larger than what is published.
pub const WASM_BYTES_MAX: u64 = 256 << 20;

/// A folder is no module.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Nothing is declared.
    #[error("{} has no module.toml, so it is no module; make one with `lockgate-publish module new NAME`", .0.display())]
    NoManifest(PathBuf),
    /// Nothing to run.
    #[error(
        "{} has neither a Cargo.toml nor a module.wasm; for a module in another language than Rust, name the file that its \
         compiler wrote with `--wasm`", .0.display()
    )]
    NoSource(PathBuf),
    /// A file.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Too large.
    #[error("{} has more than {WASM_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It does not build.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It cannot be published.
    #[error("{}: {error}", path.display())]
    Module {
        /// The manifest.
        path: PathBuf,
        /// Why.
        error: ModuleError,
    },
    /// Its codelists are somewhere else.
    #[error("{}: its codelists are published ones; name the repository that has them with `--repository`", .0.display())]
    NoRepository(PathBuf),
    /// A codelist that it names.
    #[error("{}: {error}", path.display())]
    Codelist {
        /// The manifest.
        path: PathBuf,
        /// Why.
        error: PublishedError,
    },
    /// Its fixture.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
}

/// A module's folder.
#[derive(Debug, Clone)]
pub struct ModuleFolder {
    dir: PathBuf,
    manifest: PathBuf,
    wasm: Option<PathBuf>,
}

impl ModuleFolder {
    /// The folder, or the manifest in it; and the file that a compiler wrote, where this program is not to build it.
    pub fn new(path: PathBuf, wasm: Option<PathBuf>) -> Self {
        if path.is_file() {
            // A file without a folder in its name lies here.
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Self { dir: dir.to_owned(), manifest: path, wasm };
        }
        Self { manifest: path.join("module.toml"), dir: path, wasm }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What makes the module: for messages.
    pub fn manifest(&self) -> &Path {
        &self.manifest
    }

    /// Builds the module, makes it a component, and checks both halves as they are published. `published` is where the
    /// codelists are that the manifest names; `codelists` are put into it.
    pub fn prepare(
        &self,
        published: Option<&Published>,
        codelists: &[LoadedCodelist],
        today: Date,
    ) -> Result<PreparedModule, FolderError> {
        let path = &self.manifest;
        if !path.is_file() {
            return Err(FolderError::NoManifest(self.dir.clone()));
        }
        let manifest = std::fs::read_to_string(path).map_err(at(path))?;
        let manifest = match published {
            Some(published) => published
                .with_codelists(&manifest)
                .map_err(|error| FolderError::Codelist { path: path.clone(), error })?,
            None if module::resolve_codelists(&manifest, |_, _| None)
                .is_err_and(|error| matches!(error, ModuleError::Codelist { .. })) =>
            {
                return Err(FolderError::NoRepository(path.clone()));
            }
            None => manifest,
        };
        let wrong = |error| FolderError::Module { path: path.clone(), error };
        let manifest = module::declared(&manifest, codelists, today).map_err(wrong)?;
        module::prepare(manifest, self.core_module()?, today).map_err(wrong)
    }

    /// The site that it runs on: its own, or the invented practice.
    pub fn fixture(&self) -> Result<Fixture, FixtureError> {
        let folder = self.dir.join("fixture");
        if folder.is_dir() { Fixture::read(&folder) } else { Fixture::invented_practice() }
    }

    fn core_module(&self) -> Result<Vec<u8>, FolderError> {
        let beside = self.dir.join("module.wasm");
        match &self.wasm {
            Some(file) => read_wasm(file),
            None if self.dir.join("Cargo.toml").is_file() => Ok(compile(&self.dir)?),
            None if beside.is_file() => read_wasm(&beside),
            None => Err(FolderError::NoSource(self.dir.clone())),
        }
    }
}

fn read_wasm(path: &Path) -> Result<Vec<u8>, FolderError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at(path))?;
    file.take(WASM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() as u64 > WASM_BYTES_MAX {
        return Err(FolderError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::File { path, error }
}
