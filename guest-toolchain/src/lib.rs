//! The Rust toolchain that builds modules for WebAssembly: found in one way, by whoever writes a module
//! (`lockgate-publish module check`) and by whoever works on Lockgate (`cargo xtask guests`).
//!
//! Modules need the standard library for `wasm32-unknown-unknown`. In this order:
//! 1. rustup's target, if it is there;
//! 2. Debian's packages with the standard library's source, if they are there (`-Zbuild-std`);
//! 3. rustup's target, if rustup can fetch it;
//! 4. Debian's packages, where the caller allows it, and if this is root on a Debian that has them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The target that modules are built for: it has no WASI.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's Rust for the web, and what it links with.
const DEBIAN_PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld-22"];
/// Debian's own programs, named in full because a rustup earlier in the path would shadow them.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// How long rustup may try to fetch the target, and apt the packages.
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(60);
const APT_TIMEOUT: Duration = Duration::from_secs(600);

/// Where the standard library for the modules comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toolchain {
    /// rustup's target.
    Rustup,
    /// Debian's compiler, which brings the library as source.
    Debian,
}

/// What may be done where there is no toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// rustup may fetch its target, into the user's own folder.
    Target,
    /// The same, and root may install Debian's packages.
    TargetOrPackages,
}

/// Nothing here builds modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a module in Rust needs Rust's standard library for {TARGET}. Install it with `rustup target add {TARGET}` \
     (https://rustup.rs), or on Debian 12 and newer with `apt-get install {}`, and run this again", DEBIAN_PACKAGES.join(" ")
)]
pub struct NoToolchain;

impl Toolchain {
    /// Finds one, or makes one. `say` is told what takes long.
    pub fn find(install: Install, say: impl Fn(&str)) -> Result<Self, NoToolchain> {
        if rustup_has_target() {
            return Ok(Self::Rustup);
        }
        if debian_is_complete() {
            return Ok(Self::Debian);
        }
        say(&format!("fetching rustup's {TARGET}"));
        if run_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_TIMEOUT)
            && rustup_has_target()
        {
            return Ok(Self::Rustup);
        }
        if install == Install::TargetOrPackages && is_root() && Path::new("/usr/bin/apt-get").exists() {
            say(&format!("installing {}", DEBIAN_PACKAGES.join(" ")));
            let apt = |arguments: &[&str]| {
                let mut command = Command::new("/usr/bin/apt-get");
                command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--yes"]).args(arguments);
                run_within(&mut command, APT_TIMEOUT)
            };
            let packages = [&["install", "--no-install-recommends"], &DEBIAN_PACKAGES[..]].concat();
            // The package lists of a fresh machine are empty, those of an old one are old.
            if (apt(&packages) || (apt(&["update"]) && apt(&packages))) && debian_is_complete() {
                return Ok(Self::Debian);
            }
        }
        Err(NoToolchain)
    }

    /// `cargo build` for WebAssembly in a folder, ready to be told what to build.
    pub fn build(self, folder: &Path) -> Command {
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
            .current_dir(folder)
            // The caller may run inside a cargo of another toolchain, whose settings are not the modules'.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .args(["build", "--release", "--target", TARGET]);
        match self {
            Self::Rustup => command.env_remove("RUSTC"),
            Self::Debian => command.env_remove("RUSTUP_TOOLCHAIN").arg("-Zbuild-std=std,panic_abort"),
        };
        command
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
