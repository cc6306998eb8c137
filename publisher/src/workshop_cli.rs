//! The commands of whoever writes a module.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::civil::Date;
use lockgate_publish::workshop::agent::AgentProgram;
use lockgate_publish::workshop::diff;
use lockgate_publish::workshop::extract::Extract;
use lockgate_publish::workshop::fixture::Fixture;
use lockgate_publish::workshop::folder::ModuleFolder;
use lockgate_publish::workshop::site::FixtureSite;
use lockgate_publish::workshop::{golden, scaffold};
use lockgate_signing::ids::Name;

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
    pub agent: AgentAt,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The version before: a folder with a module.
    pub before: PathBuf,
    /// The version after.
    pub after: PathBuf,
    #[command(flatten)]
    pub fixture: FixtureAt,
    /// Rows to show of those that came, and of those that went, for each output.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    pub rows: usize,
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
        let fixture = self.fixture.of(&folder)?;
        let module = folder.prepare(today)?;
        let extracts = FixtureSite::new(&fixture, &module)?.extracts(&self.agent.find())?;
        Ok(Answer::Checked(Checked::new(module, extracts, self.rows)))
    }
}

impl Test {
    pub(crate) fn run(self) -> anyhow::Result<Answer> {
        let folder = ModuleFolder::new(self.module.dir, self.module.wasm);
        let fixture = folder.fixture()?;
        // Not today: a golden test says the same on every day.
        let module = folder.prepare(fixture.as_of)?;
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
        let (before, after) = (folder(&self.before), folder(&self.after));
        let fixture = self.fixture.of(&after)?;
        let agent = self.agent.find();
        let run = |folder: &ModuleFolder| -> anyhow::Result<_> {
            let module = folder.prepare(today)?;
            let extracts: Vec<Extract> = FixtureSite::new(&fixture, &module)?.extracts(&agent)?;
            Ok((module.manifest, extracts))
        };
        let ((before, sent_before), (after, sent_after)) = (run(&before)?, run(&after)?);
        let diff = diff::diff((&before, &sent_before), (&after, &sent_after));
        Ok(Answer::Diff { diff, rows_max: self.rows })
    }
}

fn folder(dir: &Path) -> ModuleFolder {
    ModuleFolder::new(dir.to_owned(), None)
}

impl FixtureAt {
    fn of(&self, folder: &ModuleFolder) -> anyhow::Result<Fixture> {
        Ok(match &self.fixture {
            Some(named) => Fixture::read(named)?,
            None => folder.fixture()?,
        })
    }
}

impl AgentAt {
    fn find(self) -> AgentProgram {
        AgentProgram::find(self.program)
    }
}
