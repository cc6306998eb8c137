//! From a folder with a Rust package to a core WebAssembly module, by the cargo that is there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use guest_toolchain::{Install, NoToolchain, Toolchain};
use serde::Deserialize;

/// A module does not build.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// No toolchain.
    #[error(transparent)]
    Toolchain(#[from] NoToolchain),
    /// Cargo could not be run.
    #[error("cargo could not be started: {0}")]
    Cargo(std::io::Error),
    /// It does not compile; the compiler has said why.
    #[error("{} does not build: see what the compiler says above", .0.display())]
    Failed(PathBuf),
    /// It compiles to something else.
    #[error(
        "{} builds no WebAssembly library; its Cargo.toml needs `crate-type = [\"cdylib\", \"rlib\"]` under [lib]",
        .0.display()
    )]
    NoLibrary(PathBuf),
    /// What was built cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Builds the package of a folder. What the compiler says goes to standard error.
pub fn compile(folder: &Path) -> Result<Vec<u8>, CompileError> {
    let toolchain = Toolchain::find(Install::Target, |what| eprintln!("{what}"))?;
    let output = toolchain
        .build(folder)
        .args(["--lib", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(CompileError::Cargo)?;
    if !output.status.success() {
        return Err(CompileError::Failed(folder.to_owned()));
    }
    let package = folder.join("Cargo.toml");
    let package = package.canonicalize().map_err(|error| CompileError::File { path: package, error })?;
    let wasm = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact" && message.manifest_path == package)
        .flat_map(|message| message.filenames)
        .find(|file| file.extension().is_some_and(|ending| ending == "wasm"));
    let path = wasm.ok_or_else(|| CompileError::NoLibrary(folder.to_owned()))?;
    std::fs::read(&path).map_err(|error| CompileError::File { path, error })
}

/// A line of cargo's, of which there are many kinds: <https://doc.rust-lang.org/cargo/reference/external-tools.html>.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}
