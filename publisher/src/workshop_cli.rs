//! The commands of whoever writes a module.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use jiff::civil::Date;
use lockgate_publish::module::PreparedModule;
use lockgate_publish::published::Published;
use lockgate_publish::repository::Repository;
use lockgate_publish::workshop::agent::AgentProgram;
use lockgate_publish::workshop::diff;
use lockgate_publish::workshop::extract::Extract;
use lockgate_publish::workshop::fixture::Fixture;
use lockgate_publish::workshop::folder::ModuleFolder;
use lockgate_publish::workshop::site::FixtureSite;
use lockgate_publish::workshop::{golden, scaffold};
use lockgate_signing::ids::Name;

use crate::cli;
use crate::workshop_report::{Answer, Checked, Tested};

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The module's id: small letters, digits and hyphens.
    pub name: Name,
    /// The folder to make; a folder of the module's name, here, when absent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub module: Module,
    #[command(flatten)]
    pub fixture: FixtureAt,
    /// Rows of each output to show.
    #[arg(long, value_name = "ROWS", default_value_t = 10)]
    pub rows: usize,
    #[command(flatten)]
    pub repository: RepositoryAt,
    #[command(flatten)]
    pub agent: AgentAt,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    pub module: Module,
    /// Keep what the module sends now as what it is to send.
    #[arg(long)]
    pub bless: bool,
    #[command(flatten)]
    pub repository: RepositoryAt,
    #[command(flatten)]
    pub agent: AgentAt,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The version before: a module's folder, or a published version such as asthma@1.0.0.
    pub before: String,
    /// The version after.
    pub after: String,
    #[command(flatten)]
    pub fixture: FixtureAt,
    /// Rows to show of those that came, and of those that went, for each output.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    pub rows: usize,
    #[command(flatten)]
    pub repository: RepositoryAt,
    #[command(flatten)]
    pub agent: AgentAt,
}

/// One module.
#[derive(Debug, Args)]
pub(crate) struct Module {
    /// The module's folder.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The component, or the core module that it is made from, where another compiler than Rust's wrote it.
    #[arg(long, value_name = "FILE")]
    pub wasm: Option<PathBuf>,
}

/// The invented site.
#[derive(Debug, Args)]
pub(crate) struct FixtureAt {
    /// The folder of the invented site, with its site.toml.
    ///
    /// The module's own folder `fixture` when absent, and an invented practice where it has none.
    #[arg(long, value_name = "DIR")]
    pub fixture: Option<PathBuf>,
}

/// What is published.
#[derive(Debug, Args)]
pub(crate) struct RepositoryAt {
    /// The repository that has the published versions and codelists that are named.
    #[arg(long, env = "LOCKGATE_REPOSITORY", hide_env_values = true, value_name = "DIR")]
    pub repository: Option<PathBuf>,
    /// The folder with its root.json; beside the repository (`DIR-keys`) when absent.
    #[arg(long, env = "LOCKGATE_KEYS", hide_env_values = true, value_name = "DIR")]
    pub keys: Option<PathBuf>,
}

/// The agent.
#[derive(Debug, Args)]
pub(crate) struct AgentAt {
    /// The agent that runs the module; the one beside this program, or on the PATH, when absent.
    #[arg(long = "agent", env = "LOCKGATE_AGENT", hide_env_values = true, value_name = "PROGRAM")]
    pub program: Option<PathBuf>,
}

impl New {
    pub(crate) fn run(self, today: Date) -> anyhow::Result<Answer> {
        let dir = self.dir.unwrap_or_else(|| self.name.as_str().into());
        let files = scaffold::scaffold(&self.name, &dir, today)?;
        Ok(Answer::New { dir, files })
    }
}

impl Check {
    pub(crate) fn run(self, today: Date) -> anyhow::Result<Answer> {
        let folder = ModuleFolder::new(self.module.dir, self.module.wasm);
        let fixture = self.fixture.read()?.map_or_else(|| folder.fixture(), Ok)?;
        let module = folder.prepare(self.repository.read()?.as_ref(), &[], today)?;
        let extracts = FixtureSite::new(&fixture, &module)?.extracts(&self.agent.find())?;
        Ok(Answer::Checked(Checked::new(module, extracts, self.rows)))
    }
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<Answer> {
        let folder = ModuleFolder::new(self.module.dir, self.module.wasm);
        let fixture = folder.fixture()?;
        // Not today: a golden test says the same on every day.
        let module = folder.prepare(self.repository.read()?.as_ref(), &[], fixture.as_of)?;
        let extracts = FixtureSite::new(&fixture, &module)?.extracts(&self.agent.find())?;
        let golden = folder.dir().join("golden");
        Ok(Answer::Tested(if self.bless {
            Tested::Blessed { changed: golden::bless(&golden, &extracts)?, folder: golden }
        } else {
            let tables = extracts.iter().map(|extract| extract.outputs.len()).sum();
            Tested::Compared { tables, differences: golden::compare(&golden, &extracts)? }
        }))
    }
}

impl Diff {
    pub(crate) fn run(self, today: Date) -> anyhow::Result<Answer> {
        let published = self.repository.read()?;
        let (before, after) = (Version::of(&self.before)?, Version::of(&self.after)?);
        // The later version's site, where it has one: it has the cases that are new.
        let fixture = match (self.fixture.read()?, &before, &after) {
            (Some(named), ..) => named,
            (None, _, Version::Folder(folder)) | (None, Version::Folder(folder), _) => folder.fixture()?,
            (None, Version::Published(..), Version::Published(..)) => Fixture::invented_practice()?,
        };
        let agent = self.agent.find();
        let run = |version: &Version| -> anyhow::Result<_> {
            let module = version.prepare(published.as_ref(), today)?;
            let extracts: Vec<Extract> = FixtureSite::new(&fixture, &module)?.extracts(&agent)?;
            Ok((module.manifest, extracts))
        };
        let ((before, sent_before), (after, sent_after)) = (run(&before)?, run(&after)?);
        let diff = diff::diff((&before, &sent_before), (&after, &sent_after));
        Ok(Answer::Diff { diff, rows_max: self.rows })
    }
}

/// A version to compare.
enum Version {
    Folder(ModuleFolder),
    Published(Name, Option<semver::Version>),
}

impl Version {
    /// A folder where there is one; else `ID@VERSION`, or `ID` for the newest.
    fn of(text: &str) -> anyhow::Result<Self> {
        if Path::new(text).exists() {
            return Ok(Self::Folder(ModuleFolder::new(text.into(), None)));
        }
        let (id, version) = match text.split_once('@') {
            Some((id, version)) => (id, Some(version)),
            None => (text, None),
        };
        let wrong = || format!("`{text}` is neither a folder nor a published version such as asthma@1.0.0");
        let id = id.parse().with_context(wrong)?;
        Ok(Self::Published(id, version.map(str::parse).transpose().with_context(wrong)?))
    }

    fn prepare(&self, published: Option<&Published>, today: Date) -> anyhow::Result<PreparedModule> {
        match self {
            Self::Folder(folder) => Ok(folder.prepare(published, &[], today)?),
            Self::Published(id, version) => {
                let published = published
                    .context("a published version is read from a repository; name it with `--repository`")?;
                Ok(published.module(id, version.as_ref())?)
            }
        }
    }
}

impl FixtureAt {
    /// The site that was named, if one was.
    fn read(&self) -> anyhow::Result<Option<Fixture>> {
        Ok(self.fixture.as_deref().map(Fixture::read).transpose()?)
    }
}

impl RepositoryAt {
    /// What is published, where a repository was named.
    fn read(&self) -> anyhow::Result<Option<Published>> {
        let Some(dir) = &self.repository else { return Ok(None) };
        let repository = Repository::open(dir, &cli::keys_dir(dir, self.keys.clone()))?;
        Ok(Some(Published::read(&repository)?))
    }
}

impl AgentAt {
    fn find(self) -> AgentProgram {
        AgentProgram::find(self.program)
    }
}
