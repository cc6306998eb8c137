//! The SDK as a new module brings it along: the sources of `lockgate-guest` of this release, so that a module builds
//! wherever it lies and goes on building as it did.

use std::path::PathBuf;

use toml::{Table, Value};

use crate::contract::EXTRACT_WIT;

const PACKAGE: &str = include_str!("../../../guest-modules/sdk/Cargo.toml");
/// Where the package inherits versions from.
const WORKSPACE: &str = include_str!("../../../guest-modules/Cargo.toml");
/// The versions of its dependencies that this release was tested with.
const LOCK: &str = include_str!("../../../guest-modules/Cargo.lock");

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        /// Every file of `guest-modules/sdk/src`.
        const SOURCES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../guest-modules/sdk/src/", $name)))),*];
    };
}

sources![
    "bindings.rs",
    "bitmap.rs",
    "canonical.rs",
    "cells.rs",
    "codes.rs",
    "component.rs",
    "date.rs",
    "edit.rs",
    "error.rs",
    "host.rs",
    "lib.rs",
    "memory.rs",
    "patient_map.rs",
    "registrations.rs",
    "rows.rs",
    "testing.rs",
];

/// The files, relative to the module's folder.
pub(super) fn files() -> Result<Vec<(PathBuf, String)>, String> {
    let package = PathBuf::from("vendor/lockgate-guest");
    let mut files = vec![
        (package.join("Cargo.toml"), package_toml()?),
        ("Cargo.lock".into(), lock()?),
        // Where the SDK's bindings look for it.
        ("wit/extract.wit".into(), EXTRACT_WIT.to_owned()),
    ];
    files.extend(SOURCES.iter().map(|(name, text)| (package.join("src").join(name), (*text).to_owned())));
    Ok(files)
}

/// The package's Cargo.toml with what it inherits written out, as `cargo package` does it.
fn package_toml() -> Result<String, String> {
    let (mut package, workspace) = (table(PACKAGE)?, table(WORKSPACE)?);
    let inherited = workspace.get("workspace").and_then(Value::as_table).ok_or("no [workspace]")?;
    for part in ["package", "dependencies"] {
        let from = inherited.get(part).and_then(Value::as_table).ok_or(format!("no [workspace.{part}]"))?;
        let Some(keys) = package.get_mut(part).and_then(Value::as_table_mut) else { continue };
        for (key, value) in keys {
            if value.get("workspace").is_some() {
                *value = from.get(key).ok_or(format!("no workspace.{part}.{key}"))?.clone();
            }
        }
    }
    package.remove("lints");
    toml::to_string(&package).map_err(|error| error.to_string())
}

/// The locked versions of what comes from elsewhere; cargo adds the module itself, and drops what it does not need.
fn lock() -> Result<String, String> {
    let mut lock = table(LOCK)?;
    if let Some(packages) = lock.get_mut("package").and_then(Value::as_array_mut) {
        packages.retain(|package| package.get("source").is_some());
    }
    toml::to_string(&lock).map_err(|error| error.to_string())
}

fn table(text: &str) -> Result<Table, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_source_of_the_sdk_is_brought_along() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-modules/sdk/src");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let brought: BTreeSet<String> = SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(brought, there, "the list in workshop/sdk.rs");
    }

    #[test]
    fn nothing_is_left_to_inherit() {
        let package = package_toml().unwrap();
        assert!(!package.contains("workspace"), "{package}");
        assert!(package.contains("wit-bindgen"), "{package}");
    }
}
