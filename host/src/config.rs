//! The configuration file: TOML, every key named, no secrets in it.

use std::path::{Path, PathBuf};

use lockgate_durable::{FileError, at};
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::manifest::SiteKind;
use serde::{Deserialize, Serialize};

/// The configuration of an agent. `lockgate-agent config show` prints the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The site's ODS code.
    pub site: SiteId,
    /// Practice or hospital.
    pub kind: SiteKind,
    /// `"production"`, or `"demo"` for a database of invented people.
    #[serde(default)]
    pub mode: Mode,
    /// Where the agent keeps its key, outbox, receipts and ledger. Relative paths are relative to this file.
    pub state_dir: PathBuf,
    /// The clinical database.
    pub database: DatabaseConfig,
    /// Where modules, policies and mappings come from.
    pub registry: RegistryConfig,
    /// Where bundles go.
    pub linker: LinkerConfig,
    /// How tokens are made.
    pub tokens: TokensConfig,
    /// Which modules may be installed without anybody at the site being asked.
    #[serde(default)]
    pub approve: Approve,
    /// The modules to run, of those that are offered to this site; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<Name>>,
}

/// Which modules may be installed without anybody at the site being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approve {
    /// None: each version waits for `modules approve`.
    Manual,
    /// A version that reads and sends no more than the one that runs. The first version of a module waits.
    #[default]
    WithinScope,
    /// Every version that is offered to this site.
    Auto,
}

/// What kind of people are in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Real people: patients with NHS numbers that are never issued are test patients and left out.
    #[default]
    Production,
    /// Invented people: an NHS number that may be issued stops the run.
    Demo,
}

/// The clinical database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatabaseConfig {
    /// A SQLite file. It is opened read-only.
    pub path: PathBuf,
    /// The mapping that presents it, by its published name.
    pub mapping: Name,
}

/// Where modules, policies and mappings come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegistryConfig {
    /// A folder, or the address of a web server.
    pub location: String,
    /// The `root.json` that the publishing team handed out.
    pub root: PathBuf,
    /// The objection policy, by its published name.
    pub policy: Name,
    /// The sensitive-code list, by its published name.
    pub sensitive: Name,
    /// The list of those who can open what is sent, by its published name.
    pub recipients: Name,
    /// Seconds between two refreshes of `serve`, at most; each pause is a random half to whole of it.
    #[serde(default = "default_refresh_s")]
    pub refresh_s: u64,
    /// Seconds after which an answer of the web server is given up that is not there in full.
    #[serde(default = "default_registry_give_up_s")]
    pub give_up_s: u64,
}

impl RegistryConfig {
    /// Where it is, if that is a folder.
    fn folder(&self) -> Option<&Path> {
        (!self.location.contains("://")).then(|| Path::new(&self.location))
    }
}

/// The most that a pause or an answer of the registry may take: a day.
const SECONDS_MAX: u64 = 86_400;

/// A hold takes effect within the hour.
fn default_refresh_s() -> u64 {
    3_600
}

/// A component of 16 MiB over a line of 1 Mbit/s takes as long.
fn default_registry_give_up_s() -> u64 {
    120
}

/// Where bundles go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinkerConfig {
    /// `https://…`; plain `http://` to this machine only.
    pub url: String,
    /// Seconds after which `run` leaves the rest in the outbox for the next time.
    #[serde(default = "default_give_up_s")]
    pub give_up_s: u64,
}

fn default_give_up_s() -> u64 {
    60
}

/// How tokens are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum TokensConfig {
    /// With keys that the keyholder sealed for the site: for sites without a way to it. They are asked for and installed with
    /// `token-key`; which epoch stands is published with the registry.
    SealedKey {},
    /// By the keyholder, who sees no input. Which key is right is published with the registry.
    Oprf {
        /// `https://…`; plain `http://` to this machine only.
        keyholder: String,
    },
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in it.
    #[error("{}: {source}{hint}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What would be right, where the cause does not say it.
        hint: &'static str,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A time in which nothing can be done, or that would let a hold wait for days.
    #[error("{}: `{key}` is {seconds}; use 1 to {SECONDS_MAX} seconds", path.display())]
    Seconds {
        /// The file.
        path: PathBuf,
        /// Which one.
        key: &'static str,
        /// The value.
        seconds: u64,
    },
    /// An address that would send data in the open.
    #[error("{}: `{key}` is `{url}`; it has to start with https:// (http:// only to this machine)", path.display())]
    Address {
        /// The file.
        path: PathBuf,
        /// Which one.
        key: &'static str,
        /// The value.
        url: String,
    },
    /// A module named twice.
    #[error("{}: `modules` names `{name}` twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The module.
        name: Name,
    },
}

impl Config {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let path = &std::path::absolute(path).map_err(at("read", path))?;
        let text = std::fs::read_to_string(path).map_err(at("read", path))?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            hint: match source.message().contains("unknown field `keyholder`") {
                true => "; `keyholder` goes with scheme = \"oprf\"",
                false => "",
            },
            source: Box::new(source),
        })?;
        let modules = config.modules.as_deref().unwrap_or_default();
        if let Some((_, name)) = modules.iter().enumerate().find(|(at, name)| modules[..*at].contains(name)) {
            return Err(ConfigError::Twice { path: path.to_owned(), name: name.clone() });
        }
        let RegistryConfig { refresh_s, give_up_s, .. } = config.registry;
        for (key, seconds) in [("registry.refresh-s", refresh_s), ("registry.give-up-s", give_up_s)] {
            if !(1..=SECONDS_MAX).contains(&seconds) {
                return Err(ConfigError::Seconds { path: path.to_owned(), key, seconds });
            }
        }
        if let Some((key, url)) = config.addresses().find(|(_, url)| !lockgate_dial::is_private(url)) {
            return Err(ConfigError::Address { path: path.to_owned(), key, url: url.to_owned() });
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        for relative in [&mut config.state_dir, &mut config.database.path, &mut config.registry.root] {
            *relative = folder.join(&*relative);
        }
        if let Some(registry) = config.registry.folder() {
            config.registry.location = folder.join(registry).display().to_string();
        }
        Ok(config)
    }

    /// What is dialled and is sent something, by its place in the configuration.
    fn addresses(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let keyholder = match &self.tokens {
            TokensConfig::Oprf { keyholder } => Some(("tokens.keyholder", keyholder.as_str())),
            TokensConfig::SealedKey {} => None,
        };
        [("linker.url", self.linker.url.as_str())].into_iter().chain(keyholder)
    }

    /// What it names on this computer that is not there, by its place in the configuration.
    pub fn absent(&self) -> Vec<(&'static str, &Path)> {
        let files = [
            ("database.path", self.database.path.as_path()),
            ("registry.root", self.registry.root.as_path()),
        ];
        let registry = self.registry.folder().map(|folder| ("registry.location", folder));
        files.into_iter().chain(registry).filter(|(_, path)| !path.exists()).collect()
    }

    /// What was sent, acknowledged and decided.
    pub fn ledger_path(&self) -> PathBuf {
        self.state_dir.join("ledger.jsonl")
    }

    /// The site's signing key.
    pub fn key_path(&self) -> PathBuf {
        self.state_dir.join("site-key.pem")
    }

    /// The key that opens what the keyholder seals for the site.
    pub fn opening_key_path(&self) -> PathBuf {
        self.state_dir.join("opening-key.pem")
    }

    /// The public half of the site's key, for the keyholder's operator.
    pub fn public_key_path(&self) -> PathBuf {
        self.state_dir.join("site-key.pub.pem")
    }

    /// The linker's public key, as pinned when the site was enrolled.
    pub fn linker_key_path(&self) -> PathBuf {
        self.state_dir.join("linker-key.pem")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
site = "A81001"
kind = "practice"
state-dir = "state"
[database]
path = "mirror.sqlite"
mapping = "gp-extract"
[registry]
location = "https://registry.example.org"
root = "root.json"
policy = "objections-england"
sensitive = "sensitive-england"
recipients = "warehouse-england"
[linker]
url = "https://linker.example.org"
[tokens]
scheme = "oprf"
keyholder = "https://keyholder.example.org"
"#;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn each_mistake_is_named() {
        let good = load(GOOD).unwrap();
        assert_eq!((good.registry.refresh_s, good.registry.give_up_s), (3_600, 120));
        for (from, to, said) in [
            ("[registry]", "[registry]\ngive-up-s = 0", "`registry.give-up-s` is 0; use 1 to 86400 seconds"),
            ("[registry]", "[registry]\ngive-up-s = 86401", "`registry.give-up-s` is 86401"),
            ("[registry]", "[registry]\nrefresh-s = 0", "`registry.refresh-s` is 0"),
            ("[registry]", "[registry]\nrefresh = 1", "unknown field `refresh`"),
            ("kind =", "modules = [\"a\", \"b\", \"a\"]\nkind =", "names `a` twice"),
            ("A81001", "a81001", "site"),
            ("\"oprf\"", "\"sealed-key\"", "`keyholder` goes with scheme = \"oprf\""),
            (
                "https://linker",
                "http://linker",
                "`linker.url` is `http://linker.example.org`; it has to start with https://",
            ),
            ("https://keyholder", "ftp://keyholder", "`tokens.keyholder` is `ftp://"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let why = load(&text).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
