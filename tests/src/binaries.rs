//! Where the built programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// The folder of the built programs, and the root of the project.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
    root: PathBuf,
}

impl Binaries {
    /// Beside the program that asks: `target/release` for xtask, `target/release/deps/..` for a test.
    pub fn locate() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where is this program?")?;
        let folder = program.parent().context("this program is in no folder")?;
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        let root = folder
            .ancestors()
            .find(|folder| folder.join("wit/extract.wit").exists())
            .context("the project's root is not above its target folder")?;
        Ok(Self { folder: folder.to_owned(), root: root.to_owned() })
    }

    /// A program by its name, for example `lockgate-agent`.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.existing(self.folder.join(name))
    }

    /// A program that was built with the feature `failpoints`.
    pub fn with_failpoints(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.existing(self.folder.join("failpoints").join(name))
    }

    /// A guest's core module, for example `gp-monthly` or `bad/traps`.
    pub fn guest(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.existing(self.root.join("target/guests").join(format!("{name}.wasm")))
    }

    /// The project's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn existing(&self, path: PathBuf) -> anyhow::Result<PathBuf> {
        ensure!(path.exists(), "{} is not built; run `cargo xtask test`, which builds it", path.display());
        Ok(path)
    }
}
