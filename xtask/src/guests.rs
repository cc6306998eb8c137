//! `cargo xtask guests`: builds every guest module as a core WebAssembly module into `target/guests`.
//!
//! Guests need the standard library for `wasm32-unknown-unknown`. In this order:
//! 1. rustup's target, if it is there;
//! 2. Debian's packages with the standard library's source, if they are there (`-Zbuild-std`);
//! 3. rustup's target, if rustup can fetch it;
//! 4. Debian's packages, if this is root on a Debian that has them.
//!
//! Making components of the modules is the publisher's work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::cargo::{call, cargo};

const TARGET: &str = "wasm32-unknown-unknown";

/// The modules that are published.
const MODULES: [&str; 3] = ["gp-monthly", "diabetes-register", "hospital-episodes"];

/// The one example in `bad` that behaves.
const CONTROL: &str = "control";

/// Debian's Rust for the web, and what it links with.
const DEBIAN_PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld-22"];
/// Debian's own programs, named in full because a rustup earlier in the path would shadow them.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// How long rustup may try to fetch the target, and apt the packages.
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(60);
const APT_TIMEOUT: Duration = Duration::from_secs(600);

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
    let toolchain = Toolchain::find()?;
    let built = workspace_root.join("target/guest-build").join(TARGET).join("release");
    toolchain.build(workspace_root)?;
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

/// Where the standard library for the guests comes from.
enum Toolchain {
    /// rustup's target.
    Rustup,
    /// Debian's compiler, which brings the library as source.
    Debian,
}

impl Toolchain {
    fn find() -> Result<Self> {
        if rustup_has_target() {
            return Ok(Self::Rustup);
        }
        if debian_is_complete() {
            return Ok(Self::Debian);
        }
        eprintln!("guests: fetching rustup's {TARGET}");
        if run_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_TIMEOUT)
            && rustup_has_target()
        {
            return Ok(Self::Rustup);
        }
        if is_root() && Path::new("/usr/bin/apt-get").exists() {
            eprintln!("guests: installing {}", DEBIAN_PACKAGES.join(" "));
            let apt = |arguments: &[&str]| {
                let mut command = Command::new("/usr/bin/apt-get");
                command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--yes"]).args(arguments);
                run_within(&mut command, APT_TIMEOUT)
            };
            let install = [&["install", "--no-install-recommends"], &DEBIAN_PACKAGES[..]].concat();
            // The package lists of a fresh machine are empty, those of an old one are old.
            if (apt(&install) || (apt(&["update"]) && apt(&install))) && debian_is_complete() {
                return Ok(Self::Debian);
            }
        }
        bail!(
            "the guests need Rust's standard library for {TARGET}. Install it with `rustup target add {TARGET}`, \
             or on Debian 12 and newer with `apt-get install {}`, and run this again",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    fn build(&self, workspace_root: &Path) -> Result<()> {
        let mut command = match self {
            Self::Rustup => Command::new("cargo"),
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                // Debian's compiler is a stable one; building its library from source is not a stable option.
                command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", DEBIAN_RUSTC);
                command
            }
        };
        command
            .current_dir(workspace_root.join("guest-modules"))
            .env("CARGO_TARGET_DIR", workspace_root.join("target/guest-build"))
            // This program runs inside a cargo of another toolchain, whose settings are not the guests'.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .args(["build", "--quiet", "--locked", "--release", "--target", TARGET])
            .args(["--workspace", "--lib", "--examples"]);
        match self {
            Self::Rustup => command.env_remove("RUSTC"),
            Self::Debian => command.env_remove("RUSTUP_TOOLCHAIN").arg("-Zbuild-std=std,panic_abort"),
        };
        let status = command.status().context("cargo could not be started")?;
        if !status.success() {
            bail!("the guests do not build: {status}");
        }
        Ok(())
    }
}

fn rustup_has_target() -> bool {
    Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|folder| fs::read_dir(folder.trim()).ok())
        .is_some_and(|mut libraries| {
            libraries.any(|library| {
                library.is_ok_and(|it| it.file_name().to_string_lossy().starts_with("libstd-"))
            })
        })
}

fn debian_is_complete() -> bool {
    Path::new(DEBIAN_CARGO).exists()
        && Command::new("/usr/bin/dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}\n"])
            .args(DEBIAN_PACKAGES)
            .stderr(Stdio::null())
            .output()
            .is_ok_and(|output| {
                let states = String::from_utf8_lossy(&output.stdout).into_owned();
                output.status.success() && states.lines().all(|state| state == "installed")
            })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Whether the command succeeds within this time. What it says is not shown: there is another way to try.
fn run_within(command: &mut Command, timeout: Duration) -> bool {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if started.elapsed() < timeout => std::thread::sleep(Duration::from_millis(100)),
            _ => {
                // Whether it could still be stopped makes no difference to the caller.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
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
