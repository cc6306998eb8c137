//! A registry in a folder, made with `lockgate-publish`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::Binaries;
use crate::command::{Finished, finish};

/// A registry and the keys to it.
#[derive(Debug)]
pub struct Registry {
    binaries: Binaries,
    folder: PathBuf,
    as_of: String,
}

impl Registry {
    /// Makes an empty registry in `folder/registry`, its keys in `folder/registry-keys`.
    pub fn new(binaries: &Binaries, folder: &Path, as_of: &str) -> anyhow::Result<Self> {
        let registry =
            Self { binaries: binaries.clone(), folder: folder.to_owned(), as_of: as_of.to_owned() };
        let mut command = Command::new(registry.binaries.program("lockgate-publish")?);
        command.arg("init").arg(registry.location()).arg("--keys").arg(registry.keys());
        finish(command.args(["--as-of", as_of]))?.ok()?;
        Ok(registry)
    }

    /// Where agents read it.
    pub fn location(&self) -> PathBuf {
        self.folder.join("registry")
    }

    /// Where its keys are.
    pub fn keys(&self) -> PathBuf {
        self.folder.join("registry-keys")
    }

    /// The root that sites pin.
    pub fn root(&self) -> PathBuf {
        self.keys().join("root.json")
    }

    /// Runs `lockgate-publish` on it with these arguments.
    pub fn publish_command(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let mut command = Command::new(self.binaries.program("lockgate-publish")?);
        command.args(arguments).arg("--repository").arg(self.location()).arg("--keys").arg(self.keys());
        finish(command.args(["--as-of", &self.as_of]))
    }

    /// Stages a module: its manifest and its core module or component.
    pub fn add_module(&self, manifest: &Path, wasm: &Path, more: &[&str]) -> anyhow::Result<()> {
        let (manifest, wasm) = (manifest.display().to_string(), wasm.display().to_string());
        let mut arguments = vec!["module", "add", &manifest, &wasm];
        arguments.extend(more);
        self.publish_command(&arguments)?.ok().map(|_| ())
    }

    /// Stages one of the project's modules.
    pub fn add_guest(&self, name: &str) -> anyhow::Result<()> {
        let manifest = match name.strip_prefix("bad/").or(Some(name).filter(|name| *name == "control")) {
            // `control` is the good one among the bad.
            Some(bad) => format!("guest-modules/bad/manifests/{bad}.toml"),
            None => format!("guest-modules/{name}/module.toml"),
        };
        self.add_module(&self.binaries.root().join(manifest), &self.binaries.guest(name)?, &[])
    }

    /// Stages the example mappings, policy and sensitive-code list.
    pub fn add_examples(&self) -> anyhow::Result<()> {
        for (kind, file) in [
            ("mapping", "mappings/gp-extract.toml"),
            ("mapping", "mappings/hospital-extract.toml"),
            ("policy", "policies/objections.toml"),
            ("sensitive", "sensitive/england.toml"),
        ] {
            self.add_text(kind, &self.binaries.root().join("examples/registry").join(file))?;
        }
        Ok(())
    }

    /// Stages a mapping, policy or sensitive-code list.
    pub fn add_text(&self, kind: &str, file: &Path) -> anyhow::Result<()> {
        self.publish_command(&[kind, "add", &file.display().to_string()])?.ok().map(|_| ())
    }

    /// Makes what is staged live.
    pub fn publish(&self) -> anyhow::Result<()> {
        self.publish_command(&["publish"])?.ok().map(|_| ())
    }
}
