//! A registry in a folder, made with `lockgate-publish`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::Context as _;

use crate::binaries::Binaries;
use crate::command::{Finished, finish};
use crate::sealed_keys::{PURPOSES, SealedKeys};
use crate::warehouse::{WarehouseKeys, write_recipients};

/// A registry and the keys to it.
#[derive(Debug)]
pub struct Registry {
    binaries: Binaries,
    folder: PathBuf,
    as_of: String,
    /// Documents that were staged by path, to number the next version.
    documents: Mutex<BTreeMap<String, u32>>,
}

impl Registry {
    /// Makes an empty registry in `folder/registry`, its keys in `folder/registry-keys`.
    pub fn new(binaries: &Binaries, folder: &Path, as_of: &str) -> anyhow::Result<Self> {
        let registry = Self {
            binaries: binaries.clone(),
            folder: folder.to_owned(),
            as_of: as_of.to_owned(),
            // `init` publishes the first list of holds.
            documents: Mutex::new(BTreeMap::from([("holds/standing".to_owned(), 1)])),
        };
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

    /// Stages a module, its manifest and its core module or component, and offers it to every site.
    pub fn add_module(&self, manifest: &Path, wasm: &Path, more: &[&str]) -> anyhow::Result<()> {
        let (id, version) = self.stage_module(manifest, wasm, more)?;
        self.publish_command(&["rollout", &id, &version, "--to", "all"])?.ok().map(|_| ())
    }

    /// Stages a module and offers it to nobody; its id and version.
    pub fn stage_module(
        &self,
        manifest: &Path,
        wasm: &Path,
        more: &[&str],
    ) -> anyhow::Result<(String, String)> {
        let (manifest, wasm) = (manifest.display().to_string(), wasm.display().to_string());
        let mut arguments = vec!["--json", "module", "add", &manifest, &wasm];
        arguments.extend(more);
        let added = self.publish_command(&arguments)?.ok()?.json()?;
        let path = added["path"].as_str().context("the publisher names no path")?;
        let mut parts = path.split('/').skip(1);
        let mut next = || parts.next().map(str::to_owned).context("a module's path has an id and a version");
        Ok((next()?, next()?))
    }

    /// Stages who a module is offered to from now on: for each version its `to` and further lines of the step, as TOML.
    pub fn offer(&self, module: &str, steps: &[(&str, &str, &str)]) -> anyhow::Result<()> {
        let steps = steps.iter().map(|(version, to, more)| {
            format!("[[step]]\nmodule-version = \"{version}\"\nto = {to}\n{more}\n")
        });
        self.stage_document("rollouts", module, &steps.collect::<String>())
    }

    /// Stages the next version of a document, given what comes after its head.
    pub fn stage_document(&self, folder: &str, id: &str, text: &str) -> anyhow::Result<()> {
        let path = format!("{folder}/{id}");
        let mut documents = self.documents.lock().map_err(|_| anyhow::anyhow!("a test's thread panicked"))?;
        let next = documents.entry(path.clone()).or_default();
        let folder = self.location().join("staged").join(&path);
        std::fs::create_dir_all(&folder)?;
        let head = format!("format = 1\nid = \"{id}\"\nversion = \"1.0.{next}\"\n");
        std::fs::write(folder.join(format!("1.0.{next}.toml")), head + text)?;
        *next += 1;
        Ok(())
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

    /// Stages the example mappings, policy and sensitive-code list, and the keys ([`Self::add_keys`]).
    pub fn add_examples(&self) -> anyhow::Result<()> {
        for (kind, file) in [
            ("mapping", "mappings/gp-extract.toml"),
            ("mapping", "mappings/hospital-extract.toml"),
            ("policy", "policies/objections.toml"),
            ("sensitive", "sensitive/england.toml"),
        ] {
            self.add_text(kind, &self.binaries.root().join("examples/registry").join(file))?;
        }
        self.add_keys()
    }

    /// Stages what a site needs to make tokens and to encrypt: the token keys of each purpose, and the list of recipients.
    pub fn add_keys(&self) -> anyhow::Result<()> {
        let document = SealedKeys::in_folder(&self.folder)?.document()?;
        for purpose in PURPOSES {
            self.stage_document("token-keys", purpose, &document)?;
        }
        self.add_recipients()
    }

    /// Stages the list of recipients: the warehouse, whose keys are beside the registry.
    fn add_recipients(&self) -> anyhow::Result<()> {
        let warehouse = WarehouseKeys::in_folder(&self.folder)?.recipient("2020-01-01", "2039-12-31")?;
        let file = self.folder.join("recipients.toml");
        let file = write_recipients(file, semver::Version::new(1, 0, 0), vec![warehouse])?;
        self.add_text("recipients", &file)
    }

    /// Stages a mapping, policy, sensitive-code list or list of recipients.
    pub fn add_text(&self, kind: &str, file: &Path) -> anyhow::Result<()> {
        self.publish_command(&[kind, "add", &file.display().to_string()])?.ok().map(|_| ())
    }

    /// Makes what is staged live.
    pub fn publish(&self) -> anyhow::Result<()> {
        self.publish_command(&["publish"])?.ok().map(|_| ())
    }

    /// Goes on to a later day. What was signed before may be too old by then: sites go on with what they know.
    pub fn go_on_to(&mut self, as_of: &str) {
        as_of.clone_into(&mut self.as_of);
    }
}
