//! Which crate may import which. The arrows are what keeps the linker from ever reading what the agent reads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::TestResult;

/// Every crate of the workspace and all that it may import of ours. A new crate has to be entered here, with its arrows.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("lockgate-signing", &[]),
    ("lockgate-durable", &["lockgate-signing"]),
    ("lockgate-trust", &["lockgate-durable", "lockgate-signing"]),
    (
        "lockgate-agent",
        &["lockgate-dial", "lockgate-durable", "lockgate-oprf", "lockgate-signing", "lockgate-trust"],
    ),
    // The publisher looks at what it is about to publish through the agent's own client, and at keys as the agent does.
    (
        "lockgate-publish",
        &["guest-toolchain", "lockgate-durable", "lockgate-oprf", "lockgate-signing", "lockgate-trust"],
    ),
    ("lockgate-linker", &["lockgate-durable", "lockgate-service", "lockgate-signing"]),
    // It evaluates blindly: nothing of the agent, of the linker or of the registry is in it.
    ("lockgate-keyholder", &["lockgate-durable", "lockgate-oprf", "lockgate-service", "lockgate-signing"]),
    // It reads what nobody on the way could, and has no way back to a site but through the linker.
    ("lockgate-warehouse", &["lockgate-dial", "lockgate-durable", "lockgate-service", "lockgate-signing"]),
    ("lockgate-dial", &[]),
    ("lockgate-oprf", &[]),
    ("lockgate-service", &["lockgate-durable"]),
    // Finding a compiler needs nothing of ours.
    ("guest-toolchain", &[]),
    // A practice is what is there before Lockgate comes.
    ("practice", &[]),
    // The tests and the tasks drive the programs from outside, as an operator does.
    ("lockgate-tests", &["lockgate-durable", "lockgate-signing", "practice"]),
    ("xtask", &["guest-toolchain", "lockgate-signing", "lockgate-tests", "practice"]),
    // The bench measures the agent from inside too.
    (
        "lockgate-bench",
        &["lockgate-agent", "lockgate-durable", "lockgate-oprf", "lockgate-signing", "lockgate-tests"],
    ),
];

/// What the agent is not to carry to 6,000 practices, however it would get there.
const NOT_IN_THE_AGENT: [&str; 10] = [
    "axum",
    "datafusion",
    "object_store",
    "practice",
    "lockgate-keyholder",
    "lockgate-linker",
    "lockgate-publish",
    "lockgate-service",
    "lockgate-tests",
    "lockgate-warehouse",
];

#[test]
fn no_crate_imports_another_than_it_may() -> TestResult {
    let metadata = crates()?;
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let known: BTreeSet<String> = allowed.keys().map(ToString::to_string).collect();
    assert_eq!(members, known, "the crates of the workspace are those of the table");
    for package in metadata.workspace_packages() {
        let may = allowed.get(package.name.as_str()).context("a crate of the table")?;
        for dependency in &package.dependencies {
            // Tests may use what the program may not: the other side of what they test.
            let counts = dependency.kind != DependencyKind::Development;
            let ours = members.contains(&dependency.name);
            assert!(
                !(ours && counts) || may.contains(&dependency.name.as_str()),
                "{} imports {}, which ARCHITECTURE.md does not allow",
                package.name,
                dependency.name
            );
        }
    }
    Ok(())
}

#[test]
fn even_the_tests_of_agent_and_linker_do_not_import_each_other() -> TestResult {
    for package in crates()?.workspace_packages() {
        let other = match package.name.as_str() {
            "lockgate-agent" | "lockgate-publish" => "lockgate-linker",
            "lockgate-linker" => "lockgate-agent",
            _ => continue,
        };
        let found = package.dependencies.iter().find(|dependency| dependency.name == other);
        assert!(found.is_none(), "{} imports {other}", package.name);
    }
    Ok(())
}

#[test]
fn the_agent_carries_nothing_of_the_centre() -> TestResult {
    let metadata = resolved()?;
    let tree = tree_of(&metadata, "lockgate-agent")?;
    for expected in ["wasmtime", "rusqlite", "lockgate-signing"] {
        assert!(tree.contains(expected), "the tree is not the agent's: {expected} is missing");
    }
    let found: Vec<_> = NOT_IN_THE_AGENT.iter().filter(|name| tree.contains(**name)).collect();
    assert!(found.is_empty(), "the agent's dependencies hold {found:?}");
    let linker = tree_of(&metadata, "lockgate-linker")?;
    assert!(linker.contains("axum"), "axum is known by another name now");
    assert!(!linker.contains("wasmtime"), "the linker runs no modules");
    Ok(())
}

/// The crates of the workspace, with what they say they import.
fn crates() -> anyhow::Result<Metadata> {
    Ok(command()?.no_deps().exec()?)
}

/// The same, and everything that is built for them on this platform.
fn resolved() -> anyhow::Result<Metadata> {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(command()?.other_options(["--locked".to_owned(), "--filter-platform".to_owned(), platform]).exec()?)
}

fn command() -> anyhow::Result<MetadataCommand> {
    let mut command = MetadataCommand::new();
    command.manifest_path(lockgate_tests::Binaries::locate()?.root().join("Cargo.toml"));
    Ok(command)
}

/// The names of everything that is built into a crate, or to build it; not what only its tests need.
fn tree_of(metadata: &Metadata, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let resolve = metadata.resolve.as_ref().context("cargo resolved nothing")?;
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let root = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
    let mut waiting = vec![&root.with_context(|| format!("no crate {name}"))?.id];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = nodes.get(id).context("a package that was not resolved")?;
        let needed = node.deps.iter().filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development)
        });
        waiting.extend(needed.map(|dependency| &dependency.pkg));
    }
    Ok(seen.into_iter().map(|id| metadata[id].name.to_string()).collect())
}
