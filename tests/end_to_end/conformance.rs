//! The entry point for the public TUF conformance suite, driven through a registry of our own. The suite itself is run
//! beside the project: `trust/examples/tuf_conformance_client/README.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use lockgate_tests::command::{Finished, finish};
use serde_json::Value;

use crate::TestResult;
use crate::attacks::case::{Case, MODULE};

#[test]
fn the_entry_point_trusts_what_the_agent_trusts() -> TestResult {
    let case = Case::new()?;
    let client = Client::new(&case)?;
    client.run(&["refresh"])?.ok()?;
    // No request more than the top-level roles need, and each in a file of its own.
    for role in ["root", "timestamp", "snapshot", "targets"] {
        ensure!(client.version(role)? == case.forge.says(role)?["version"], "{role}");
    }
    ensure!(client.version("modules").is_err(), "a list was fetched that nobody asked for");

    let path = format!("modules/{MODULE}/1.0.0/manifest.toml");
    client.download(&path)?.ok()?;
    ensure!(client.version("modules")? == case.forge.says("modules")?["version"], "modules");
    let published = std::fs::read(case.forge.target("modules", &path)?)?;
    let downloaded: Vec<_> = std::fs::read_dir(client.folder.join("targets"))?.collect::<Result<_, _>>()?;
    ensure!(downloaded.len() == 1 && std::fs::read(downloaded[0].path())? == published, "another file");
    client.download("modules/nothing/1.0.0/manifest.toml")?.expect(1)?;
    Ok(())
}

#[test]
fn the_entry_point_refuses_what_the_agent_refuses() -> TestResult {
    let case = Case::new()?;
    let client = Client::new(&case)?;
    client.run(&["refresh"])?.ok()?;
    let before = client.version("timestamp")?;
    let old = std::fs::read(case.forge.file("timestamp.json"))?;
    case.forge.revise("timestamp", |_| {})?;
    client.run(&["refresh"])?.ok()?;
    ensure!(client.version("timestamp")? != before, "the timestamp was not taken");
    std::fs::write(case.forge.file("timestamp.json"), old)?;
    let refused = client.run(&["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("went back: timestamp"), "{}", refused.stderr);
    ensure!(client.version("timestamp")? != before, "the old timestamp was taken");
    case.forge.revise("timestamp", |it| it["version"] = 1_000.into())?;
    case.forge.revise("snapshot", |it| it["expires"] = "2020-01-01T00:00:00Z".into())?;
    let refused = client.run(&["refresh"])?.expect(1)?;
    ensure!(refused.stderr.contains("its snapshot expired"), "{}", refused.stderr);
    Ok(())
}

struct Client {
    program: PathBuf,
    folder: PathBuf,
    url: String,
}

impl Client {
    /// Initialised with the case's first root, and pointed at a web server that serves the case's registry.
    fn new(case: &Case) -> anyhow::Result<Self> {
        // The suite's client acts on today's date; the registry was published on another day.
        for role in ["root".to_owned()].into_iter().chain(case.forge.lists()?) {
            case.forge.revise(&role, |it| it["expires"] = "2100-01-01T00:00:00Z".into())?;
        }
        case.forge.revise("snapshot", |it| it["expires"] = "2100-01-01T00:00:00Z".into())?;
        case.forge.revise("timestamp", |it| {
            it["expires"] = "2100-01-01T00:00:00Z".into();
            it["signed_at"] = Value::Null;
        })?;
        let folder = case.folder().join("conformance");
        std::fs::create_dir_all(folder.join("targets"))?;
        std::fs::create_dir_all(folder.join("metadata"))?;
        let program = case.program("examples/tuf_conformance_client")?;
        let client = Self { program, folder, url: case.served(|_| None)? };
        let root = case.forge.file("1.root.json");
        client.run(&["init", &root.display().to_string()])?.ok()?;
        Ok(client)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        let mut command = Command::new(&self.program);
        command.arg("--metadata-dir").arg(self.folder.join("metadata"));
        command.arg("--metadata-url").arg(format!("{}/metadata/", self.url));
        finish(command.args(arguments))
    }

    fn download(&self, name: &str) -> anyhow::Result<Finished> {
        let (targets, folder) = (format!("{}/targets/", self.url), self.folder.join("targets"));
        let folder: &Path = &folder;
        let folder = folder.display().to_string();
        self.run(&["--target-base-url", &targets, "--target-dir", &folder, "--target-name", name, "download"])
    }

    fn version(&self, role: &str) -> anyhow::Result<Value> {
        let bytes = std::fs::read(self.folder.join("metadata").join(format!("{role}.json")))?;
        Ok(serde_json::from_slice::<Value>(&bytes)?["signed"]["version"].clone())
    }
}
