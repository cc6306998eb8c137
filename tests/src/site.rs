//! A site: a folder with a database, a configuration and an agent's state.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::command::{Finished, finish};
use crate::warehouse::RECIPIENTS;

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// Its ODS code.
    pub id: String,
    /// `practice` or `hospital`.
    pub kind: &'static str,
    /// Its database.
    pub database: PathBuf,
    /// The mapping's published name.
    pub mapping: &'static str,
    /// The day that it acts on.
    pub as_of: String,
    /// Seconds after which it stops trying to reach the linker; 0: one attempt.
    pub give_up_s: u64,
    /// The keyholder that evaluates its tokens; absent: it has sealed keys.
    pub keyholder: Option<String>,
    /// What it installs without asking: `auto` (so that a test that is not about approval needs none), `within-scope`,
    /// `manual`.
    pub approve: &'static str,
}

impl SiteOptions {
    /// A practice with the example mapping.
    pub fn practice(id: &str, database: &Path) -> Self {
        Self {
            id: id.to_owned(),
            kind: "practice",
            database: database.to_owned(),
            mapping: "gp-extract",
            as_of: crate::AS_OF.to_owned(),
            give_up_s: 20,
            keyholder: None,
            approve: "auto",
        }
    }

    /// A hospital with the example mapping.
    pub fn hospital(id: &str, database: &Path) -> Self {
        Self { kind: "hospital", mapping: "hospital-extract", ..Self::practice(id, database) }
    }
}

/// A site and its agent.
#[derive(Debug)]
pub struct Site {
    /// What it is made of.
    pub options: SiteOptions,
    /// Its folder.
    pub folder: PathBuf,
    agent: PathBuf,
}

impl Site {
    /// Writes a site's folder. `registry` and `root` are the registry's.
    pub fn new(
        agent: PathBuf,
        folder: PathBuf,
        options: SiteOptions,
        registry: &Path,
        root: &Path,
        linker_url: &str,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let site = Self { options, folder, agent };
        site.write_config(registry, root, linker_url)?;
        Ok(site)
    }

    /// Writes `agent.toml`.
    pub fn write_config(&self, registry: &Path, root: &Path, linker_url: &str) -> anyhow::Result<()> {
        let SiteOptions { id, kind, database, mapping, give_up_s, approve, .. } = &self.options;
        let tokens = match &self.options.keyholder {
            Some(url) => format!("scheme = \"oprf\"\nkeyholder = \"{url}\"\n"),
            None => "scheme = \"sealed-key\"\n".to_owned(),
        };
        let config = format!(
            "site = \"{id}\"\nkind = \"{kind}\"\nmode = \"demo\"\nstate-dir = \"state\"\napprove = \"{approve}\"\n\n\
             [database]\npath = {database:?}\nmapping = \"{mapping}\"\n\n\
             [registry]\nlocation = {registry:?}\nroot = {root:?}\npolicy = \"objections-england\"\n\
             sensitive = \"sensitive-england\"\nrecipients = \"{RECIPIENTS}\"\n\n[linker]\nurl = \"{linker_url}\"\ngive-up-s = {give_up_s}\n\n\
             [tokens]\n{tokens}"
        );
        std::fs::write(self.config_path(), config).context("cannot write the site's configuration")
    }

    /// Its `agent.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    /// Its agent's state.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Uses another build of the agent from now on.
    pub fn use_agent(&mut self, agent: PathBuf) {
        self.agent = agent;
    }

    /// The agent, ready to be given a command.
    pub fn agent(&self) -> Command {
        let mut command = Command::new(&self.agent);
        command.arg("--config").arg(self.config_path()).args(["--as-of", &self.options.as_of]);
        command
    }

    /// Runs a command of the agent.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        finish(self.agent().args(arguments))
    }

    /// Asks the registry, and approves every module that waits.
    pub fn approve_all(&self) -> anyhow::Result<()> {
        let refreshed = self.command(&["--json", "refresh"])?.ok()?.json()?;
        for line in refreshed["modules"].as_array().context("`refresh` lists no modules")? {
            if line["state"] == "waiting" {
                let module = line["module"].as_str().context("a module has no id")?;
                self.command(&["modules", "approve", module])?.ok()?;
            }
        }
        Ok(())
    }

    /// Runs what is due and sends it; returns what the agent printed as JSON.
    pub fn run(&self) -> anyhow::Result<serde_json::Value> {
        self.command(&["--json", "run"])?.ok()?.json()
    }
}
