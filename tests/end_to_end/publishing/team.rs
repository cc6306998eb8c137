//! A publishing team whose keys are in different hands: each person has a folder with their own key, protected by a
//! passphrase, and the root that they were given; the online machine has the repository and the online key.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use lockgate_tests::command::{Finished, finish};
use lockgate_tests::warehouse::{WarehouseKeys, write_recipients};
use lockgate_tests::{AS_OF, Binaries};
use tempfile::TempDir;

/// Those who hold a key.
pub(crate) const PEOPLE: [&str; 6] = ["root-1", "root-2", "root-3", "publishing", "governance", "duty"];
/// Everybody's passphrase.
const PASSPHRASE: &str = "correct horse battery staple";

/// The team of [`PEOPLE`], as a roles file.
pub(crate) const ROLES: &str = r#"format = 1

[key]
root-1 = "people/root-1/key.pem.pub"
root-2 = "people/root-2/key.pem.pub"
root-3 = "people/root-3/key.pem.pub"
publishing = "people/publishing/key.pem.pub"
governance = "people/governance/key.pem.pub"
duty = "people/duty/key.pem.pub"
online = "online/online.pem.pub"

[role]
root = { keys = ["root-1", "root-2", "root-3"], threshold = 2 }
targets = { keys = ["root-1", "root-2", "root-3"], threshold = 2 }
snapshot = { keys = ["online"], threshold = 1 }
timestamp = { keys = ["online"], threshold = 1 }
modules = { keys = ["publishing", "governance"], threshold = 2 }
policies = { keys = ["publishing", "governance"], threshold = 2 }
mappings = { keys = ["publishing"], threshold = 1 }
rollout = { keys = ["publishing", "governance"], threshold = 2 }
holds = { keys = ["duty", "publishing"], threshold = 1 }
directions = { keys = ["governance", "duty"], threshold = 2 }
"#;

pub(crate) struct Team {
    pub(crate) binaries: Binaries,
    dir: TempDir,
}

impl Team {
    /// A team with keys and a proposal of a repository, which nobody has signed.
    pub(crate) fn before_the_ceremony() -> anyhow::Result<Self> {
        let team = Self { binaries: Binaries::locate()?, dir: tempfile::tempdir()? };
        for name in PEOPLE {
            team.make_key(name)?;
        }
        std::fs::create_dir(team.path("online"))?;
        let online = team.text("online/online.pem");
        team.run(&["key", "new", &online, "--no-passphrase"])?.ok()?;
        std::fs::write(team.path("roles.toml"), ROLES)?;
        let (registry, roles) = (team.text("registry"), team.text("roles.toml"));
        team.run(&["init", &registry, "--roles", &roles])?.ok()?;
        Ok(team)
    }

    /// A team whose repository is live.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let team = Self::before_the_ceremony()?;
        for name in ["root-1", "root-3", "publishing", "governance", "duty"] {
            team.sign("registry-init", name)?.ok()?;
        }
        // Those who sign for two people in the roles file sign once.
        team.publish(&["publish", &team.text("registry-init")])?.ok()?;
        for name in PEOPLE {
            std::fs::copy(team.root(), team.person(name).join("root.json"))?;
        }
        Ok(team)
    }

    /// Makes a person's folder and key.
    pub(crate) fn make_key(&self, name: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.person(name))?;
        let key = self.person(name).join("key.pem").display().to_string();
        self.with_passphrase(&["key", "new", &key, "--passphrase-fd", "0"], PASSPHRASE)?.ok()?;
        Ok(())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn person(&self, name: &str) -> PathBuf {
        self.path("people").join(name)
    }

    /// The root that sites pin.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("online/root.json")
    }

    /// Runs `lockgate-publish`.
    pub(crate) fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        finish(self.command().args(arguments))
    }

    /// Runs it on the repository, on the online machine.
    pub(crate) fn publish(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        self.publish_as_of(arguments, AS_OF)
    }

    /// The same on another day.
    pub(crate) fn publish_as_of(&self, arguments: &[&str], as_of: &str) -> anyhow::Result<Finished> {
        let mut command = Command::new(self.binaries.program("lockgate-publish")?);
        command.args(arguments).args(["--as-of", as_of]);
        command.arg("--repository").arg(self.path("registry")).arg("--keys").arg(self.path("online"));
        finish(&mut command)
    }

    /// A person signs a proposal, given by its folder's name.
    pub(crate) fn sign(&self, proposal: &str, name: &str) -> anyhow::Result<Finished> {
        self.sign_with(proposal, name, PASSPHRASE)
    }

    pub(crate) fn sign_with(&self, proposal: &str, name: &str, passphrase: &str) -> anyhow::Result<Finished> {
        self.sign_by(proposal, &self.person(name).join("key.pem").display().to_string(), passphrase)
    }

    /// Somebody signs with a key that lies here.
    pub(crate) fn sign_at(&self, proposal: &str, key: &str) -> anyhow::Result<Finished> {
        self.sign_by(proposal, &self.text(key), PASSPHRASE)
    }

    fn sign_by(&self, proposal: &str, key: &str, passphrase: &str) -> anyhow::Result<Finished> {
        self.with_passphrase(
            &["sign", &self.text(proposal), "--key", key, "--passphrase-fd", "0"],
            passphrase,
        )
    }

    /// A person reviews a proposal.
    pub(crate) fn review(&self, proposal: &str, name: &str) -> anyhow::Result<Finished> {
        let root = self.person(name).join("root.json").display().to_string();
        self.run(&["review", &self.text(proposal), "--root", &root])
    }

    /// Proposes what is staged.
    pub(crate) fn propose(&self, proposal: &str) -> anyhow::Result<()> {
        self.publish(&["propose", &self.text(proposal)])?.ok().map(drop)
    }

    /// Proposes what is staged, has it signed, and publishes it.
    pub(crate) fn change(&self, proposal: &str, people: &[&str]) -> anyhow::Result<()> {
        self.propose(proposal)?;
        people.iter().try_for_each(|name| self.sign(proposal, name)?.ok().map(drop))?;
        self.publish(&["publish", &self.text(proposal)])?.ok().map(drop)
    }

    /// Stages an example text.
    pub(crate) fn add_example(&self, kind: &str, file: &str) -> anyhow::Result<()> {
        let file = self.binaries.root().join("examples/registry").join(file).display().to_string();
        self.publish(&[kind, "add", &file])?.ok().map(drop)
    }

    /// Stages an example text with other values in it.
    pub(crate) fn add_edited(&self, kind: &str, file: &str, edits: &[(&str, &str)]) -> anyhow::Result<()> {
        let example = self.binaries.root().join("examples/registry").join(file);
        let mut text = std::fs::read_to_string(example)?;
        for (from, to) in edits {
            ensure!(text.contains(from), "{file} has no `{from}`");
            text = text.replacen(from, to, 1);
        }
        std::fs::write(self.path("edited.toml"), text)?;
        self.publish(&[kind, "add", &self.text("edited.toml")])?.ok().map(drop)
    }

    /// Stages token keys for the purpose of `gp-monthly`.
    pub(crate) fn add_token_keys(&self) -> anyhow::Result<()> {
        self.add_edited("token-keys", "token-keys/asthma.toml", &[("id = \"asthma\"", "id = \"care-data\"")])
    }

    /// Stages the list of recipients that sites are configured with.
    pub(crate) fn add_recipients(&self) -> anyhow::Result<()> {
        let folder = self.path("");
        let warehouse = WarehouseKeys::in_folder(&folder)?.recipient("2020-01-01", "2039-12-31")?;
        let file = self.path("recipients.toml");
        let file = write_recipients(file, semver::Version::new(1, 0, 0), vec![warehouse])?;
        self.publish(&["recipients", "add", &file.display().to_string()])?.ok().map(drop)
    }

    /// Stages the module `gp-monthly` in this version, its manifest edited.
    pub(crate) fn add_module(&self, version: &str, edits: &[(&str, &str)]) -> anyhow::Result<()> {
        let source = self.binaries.root().join("guest-modules/gp-monthly/module.toml");
        let mut manifest = std::fs::read_to_string(source)?.replace("\r\n", "\n");
        let stands =
            manifest.lines().find(|line| line.starts_with("version =")).context("no version")?.to_owned();
        manifest = manifest.replacen(&stands, &format!("version = \"{version}\""), 1);
        for (from, to) in edits {
            ensure!(manifest.contains(from), "the manifest of gp-monthly has no `{from}`");
            manifest = manifest.replacen(from, to, 1);
        }
        let file = self.path("module.toml");
        std::fs::write(&file, manifest)?;
        let wasm = self.binaries.guest("gp-monthly")?.display().to_string();
        self.publish(&["module", "add", &file.display().to_string(), &wasm])?.ok().map(drop)
    }

    fn command(&self) -> Command {
        let program = self.binaries.program("lockgate-publish").unwrap_or_default();
        let mut command = Command::new(program);
        command.args(["--as-of", AS_OF]).current_dir(self.dir.path());
        command
    }

    fn with_passphrase(&self, arguments: &[&str], passphrase: &str) -> anyhow::Result<Finished> {
        let file = self.path("passphrase");
        std::fs::write(&file, format!("{passphrase}\n"))?;
        let mut command = self.command();
        finish(command.args(arguments).stdin(File::open(&file)?))
    }
}
