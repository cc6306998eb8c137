//! `cargo xtask guests`: builds every guest module as a core WebAssembly module into `target/guests`.
//!
//! Where the compiler comes from is in `guest-toolchain`, which whoever writes a module uses too.
//! Making components of the modules is the publisher's work.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use guest_toolchain::{Install, TARGET, Toolchain};

use crate::cargo::{call, cargo};

/// The modules that are published.
const MODULES: [&str; 3] = ["gp-monthly", "diabetes-register", "hospital-episodes"];

/// The one example in `bad` that behaves.
const CONTROL: &str = "control";

/// Every guest, built.
#[derive(Debug)]
pub(crate) struct Guests {
    /// The modules that are published.
    pub(crate) modules: Vec<Guest>,
    /// The modules that misbehave on purpose.
    pub(crate) bad: Vec<Guest>,
    /// What the modules that misbehave start from: it must run without an error.
    pub(crate) control: Guest,
}

/// One guest.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The module's id.
    pub(crate) name: String,
    /// The core module, with the component type in a custom section.
    pub(crate) wasm: PathBuf,
    /// The manifest that its author wrote.
    pub(crate) manifest: PathBuf,
    /// Whether it is an example of the crate `bad`.
    is_example: bool,
}

impl Guests {
    /// Every guest.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Guest> {
        self.modules.iter().chain([&self.control]).chain(&self.bad)
    }
}

/// Builds every guest that is older than its source.
pub(crate) fn build(workspace_root: &Path) -> Result<Guests> {
    let guests = list(workspace_root)?;
    if is_up_to_date(workspace_root, &guests)? {
        return Ok(guests);
    }
    let built = workspace_root.join("target/guest-build").join(TARGET).join("release");
    compile(workspace_root)?;
    for guest in guests.all() {
        let file = Path::new(&guest.name.replace('-', "_")).with_extension("wasm");
        let from = built.join(if guest.is_example { "examples" } else { "" }).join(file);
        if let Some(parent) = guest.wasm.parent() {
            fs::create_dir_all(parent)?;
        }
        // Renamed into place, so that whoever reads it at this moment reads all of it.
        let partial = guest.wasm.with_extension("partial");
        fs::copy(&from, &partial).with_context(|| format!("{} was not built", from.display()))?;
        fs::rename(&partial, &guest.wasm)?;
    }
    Ok(guests)
}

/// Runs the modules' own tests on this machine, and their lints: neither needs WebAssembly, nor the time that a
/// release build of each takes.
pub(crate) fn check(workspace_root: &Path) -> Result<()> {
    let cargo = |arguments: &[&str]| {
        let mut command = cargo(&workspace_root.join("guest-modules"));
        command.args(arguments).args(["--locked", "--workspace"]);
        command
    };
    call(&mut cargo(&["test", "--lib"]))?;
    call(&mut cargo(&["test", "--doc"]))?;
    call(cargo(&["clippy", "--all-targets"]).args(["--", "--deny", "warnings"]))
}

/// What there is to build, from the folders.
fn list(workspace_root: &Path) -> Result<Guests> {
    let source = workspace_root.join("guest-modules");
    let output = workspace_root.join("target/guests");
    let modules = MODULES
        .iter()
        .map(|name| Guest {
            name: (*name).to_owned(),
            wasm: output.join(name).with_extension("wasm"),
            manifest: source.join(name).join("module.toml"),
            is_example: false,
        })
        .collect();
    let example = |name: &str, folder: &Path| Guest {
        name: name.to_owned(),
        wasm: folder.join(name).with_extension("wasm"),
        manifest: source.join("bad/manifests").join(name).with_extension("toml"),
        is_example: true,
    };
    let mut bad = Vec::new();
    for file in files(&source.join("bad/examples"))? {
        if let Some(name) = file.file_stem().and_then(|stem| stem.to_str()).filter(|name| *name != CONTROL) {
            bad.push(example(name, &output.join("bad")));
        }
    }
    bad.sort_by(|one, next| one.name.cmp(&next.name));
    Ok(Guests { modules, bad, control: example(CONTROL, &output) })
}

/// Whether every guest is younger than every file that it could be made from.
fn is_up_to_date(workspace_root: &Path, guests: &Guests) -> Result<bool> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for folder in ["guest-modules", "wit"] {
        for file in files(&workspace_root.join(folder))? {
            newest = newest.max(fs::metadata(&file)?.modified()?);
        }
    }
    let current = |guest: &Guest| {
        fs::metadata(&guest.wasm).and_then(|found| found.modified()).is_ok_and(|built| built >= newest)
    };
    Ok(guests.all().all(current))
}

/// Every file below a folder; none when there is no such folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

fn compile(workspace_root: &Path) -> Result<()> {
    let toolchain = Toolchain::find(Install::TargetOrPackages, |what| eprintln!("guests: {what}"))?;
    let mut command = toolchain.build(&workspace_root.join("guest-modules"));
    command.env("CARGO_TARGET_DIR", workspace_root.join("target/guest-build")).args([
        "--quiet",
        "--locked",
        "--workspace",
        "--lib",
        "--examples",
    ]);
    let status = command.status().context("cargo could not be started")?;
    ensure!(status.success(), "the guests do not build: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockgate_signing::manifest::Manifest;
    use lockgate_signing::text_format::TextFormat;

    use super::*;

    #[test]
    fn every_guest_has_a_manifest_that_decodes_and_bears_its_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let guests = list(&root).unwrap();
        for guest in guests.all() {
            let bytes = fs::read(&guest.manifest).unwrap();
            let manifest = Manifest::decode(&bytes).unwrap_or_else(|error| panic!("{}: {error}", guest.name));
            assert_eq!(manifest.id.as_str(), guest.name);
        }
    }
}
