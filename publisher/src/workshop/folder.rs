//! A module as a folder: what its author keeps.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::compile::{CompileError, compile};
use super::fixture::{Fixture, FixtureError};
use crate::module::{self, ModuleError, PreparedModule};

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
    /// Its fixture.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
}

/// A module's folder.
#[derive(Debug, Clone)]
pub struct ModuleFolder {
    dir: PathBuf,
    wasm: Option<PathBuf>,
}

impl ModuleFolder {
    /// The folder, and the file that a compiler wrote, where this program cannot make it itself.
    pub fn new(dir: PathBuf, wasm: Option<PathBuf>) -> Self {
        Self { dir, wasm }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Builds the module, makes it a component, and checks both halves as `module add` does.
    pub fn prepare(&self, today: Date) -> Result<PreparedModule, FolderError> {
        let path = self.dir.join("module.toml");
        if !path.is_file() {
            return Err(FolderError::NoManifest(self.dir.clone()));
        }
        let manifest = std::fs::read_to_string(&path).map_err(at(&path))?;
        let wasm = self.core_module()?;
        module::prepare(&manifest, wasm, &[], today).map_err(|error| FolderError::Module { path, error })
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
