//! The command line.

pub(crate) mod edits;
pub(crate) mod signing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lockgate_publish::codelist::CodelistFile;
use lockgate_publish::documents::ExpiryDays;

use crate::workshop_cli::{Check, Diff, New, Test};

/// What follows the options; kept within 80 columns, because it is not wrapped.
const AFTER_HELP: &str = "\
Trying it out, everything on one machine:
  lockgate-publish init registry
  lockgate-publish module add module.toml module.wasm --repository registry
  lockgate-publish rollout ID 1.0.0 --to all --repository registry
  lockgate-publish publish --repository registry

With keys in different hands:
  lockgate-publish propose change --repository registry
  lockgate-publish review change                  (each who signs)
  lockgate-publish sign change --key my.pem       (each who signs)
  lockgate-publish publish change --repository registry

Exit codes:
  0  done
  1  refused or failed; nothing went live
  2  wrong use
  3  `publish` or `propose` found nothing to do
  4  `status`: something ends soon, has ended or is missing";

/// Checks extraction modules, mappings, policies and lists, and publishes them to every site.
///
/// Publishing takes steps. `module add`, `cohort set`, `rollout` and the like check a change and stage it; nothing
/// changes for any site. `propose` makes a folder of what is staged, which two people review and sign, each with their
/// own key on their own computer. `publish` counts the signatures, looks at the result with the same client that the
/// sites use, and makes it live in one step.
///
/// The repository is a folder of plain files: serve its `metadata` and `targets` with any web server, or give sites the
/// folder itself. The keys stay in another folder; `root.json` beside them is what every site pins at installation.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print one JSON object in place of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Act as on this day (2026-11-01) or at this moment (2026-11-01T12:00:00Z), for tests and demonstrations.
    #[arg(long, global = true, value_name = "DATE", value_parser = parse_time)]
    pub as_of: Option<Timestamp>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Signing keys.
    #[command(subcommand)]
    Key(signing::KeyCommand),
    /// Make a new, empty repository.
    ///
    /// With --roles: a proposal of its first documents, which the people named there sign, and which `publish` makes the
    /// repository. Without: the repository at once, with the keys of every role beside it, for trying out.
    Init(Init),
    /// Change or extend who may sign.
    #[command(subcommand)]
    Root(signing::RootCommand),
    /// Extraction modules.
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Mappings: SQL that presents a clinical system's database as the canonical tables.
    #[command(subcommand)]
    Mapping(FileCommand),
    /// Objection policies: which coded entries are objections.
    #[command(subcommand)]
    Policy(FileCommand),
    /// Lists of sensitive codes, whose rows no module sees.
    #[command(subcommand)]
    Sensitive(FileCommand),
    /// Lists of recipients: to whose keys sites encrypt what they send.
    #[command(subcommand)]
    Recipients(FileCommand),
    /// Codelists that several modules use.
    #[command(subcommand)]
    Codelist(FileCommand),
    /// Public keys of the keyholder: under which key and epoch the tokens of a purpose are made.
    #[command(subcommand, name = "token-keys")]
    TokenKeys(FileCommand),
    /// Directions that override an objection for one module; each site must accept them.
    #[command(subcommand)]
    Direction(FileCommand),
    /// Cohorts: named sets of sites.
    #[command(subcommand)]
    Cohort(edits::CohortCommand),
    /// Stage to whom a version of a module is offered: first a cohort, then all.
    ///
    /// Takes the place of how that version was offered before; other versions stay offered as they are.
    Rollout(edits::Rollout),
    /// Stage a pause: what is held does not run from each site's next refresh on.
    ///
    /// One signature of a duty key is enough: `propose OUT --role holds`, `sign`, `publish`.
    Hold(edits::Hold),
    /// Stage the end of a pause.
    Resume(edits::Resume),
    /// Stage the end of a version of a module, for ever.
    Revoke(edits::Revoke),
    /// Take back what is staged; without a name, show what is.
    ///
    /// Nothing of it was live. What was proposed already stays in the proposal: do not sign or publish that.
    Unstage(edits::Unstage),
    /// Make a folder of what is staged, for others to review and sign.
    Propose(signing::Propose),
    /// Say in words what a proposal would change, and who has signed it.
    Review(signing::Review),
    /// Add your signature to a proposal.
    Sign(signing::Sign),
    /// Make a signed proposal live, or, with every key here, what is staged.
    Publish(signing::Publish),
    /// Sign the timestamp again, and the snapshot when it is due. Needs the online key only; run it every day.
    Refresh(edits::Refresh),
    /// Say what ends when, and what is held. Exits with 4 where somebody has to act.
    Status(Place),
    /// Show what is published, and what is staged.
    List(Place),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make; it must not exist, or be empty.
    pub dir: PathBuf,
    /// Who signs for which role (see docs/PUBLISHING.md): makes a proposal to be signed, and no keys.
    #[arg(long, value_name = "FILE")]
    pub roles: Option<PathBuf>,
    /// The folder of that proposal; beside the repository (`DIR-init`) when absent.
    #[arg(long, value_name = "DIR", requires = "roles")]
    pub out: Option<PathBuf>,
    /// The folder for the keys; beside the repository (`DIR-keys`) when absent. Never serve it. Not used with --roles.
    #[arg(long, env = "LOCKGATE_KEYS", hide_env_values = true, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    #[command(flatten)]
    pub expiry: Expiry,
    /// Days until the root must be renewed.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().root, value_parser = days())]
    pub root_days: u32,
}

/// Where the repository and its keys are.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The repository.
    #[arg(long, env = "LOCKGATE_REPOSITORY", hide_env_values = true, value_name = "DIR")]
    pub repository: PathBuf,
    /// The folder of the keys and of root.json; beside the repository (`DIR-keys`) when absent.
    #[arg(long, env = "LOCKGATE_KEYS", hide_env_values = true, value_name = "DIR")]
    pub keys: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModuleCommand {
    /// Lay out a new module that builds, with an invented practice to run it on.
    New(New),
    /// Build a module, check it as a publisher does, and show what it would send from an invented site.
    ///
    /// The site is made for the run and goes with it: a registry of its own, a database of invented people, and the real
    /// agent (`lockgate-agent preview`). Nothing is sent. In Rust the module is built first; in another language its file
    /// is given by `--wasm`, or lies in the folder as module.wasm.
    Check(Check),
    /// Compare what a module sends from its invented site with what was kept in its folder `golden`.
    ///
    /// Exits with 1 where it differs, and shows how.
    Test(Test),
    /// Show what one version of a module sends differently from another, from the same invented site.
    Diff(Diff),
    /// Check a module and stage it.
    ///
    /// A core module (what the Rust compiler writes for `wasm32-unknown-unknown`) is made a component first. The
    /// component may import nothing but lockgate:extract. Its digest is written into the manifest that is published.
    Add(ModuleAdd),
}

#[derive(Debug, Args)]
pub(crate) struct ModuleAdd {
    /// The module's folder, which is built; or its manifest (TOML).
    pub module: PathBuf,
    /// The component, or the core module that it is made from (.wasm), where it is not to be built.
    pub wasm: Option<PathBuf>,
    /// Load a published codelist (CSV) into the manifest: its codes replace those of the same codelist and system.
    ///
    /// The column of the codes is guessed from its name; name it where that fails. May be given several times; lists of
    /// the same name and system are joined.
    #[arg(long = "codelist", value_name = "NAME=SYSTEM:FILE.csv[:COLUMN]")]
    pub codelists: Vec<CodelistFile>,
    /// Refuse a module that draws a warning.
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// Check a file and stage it.
    Add(FileAdd),
}

impl FileCommand {
    pub(crate) fn add(self) -> FileAdd {
        let Self::Add(add) = self;
        add
    }
}

#[derive(Debug, Args)]
pub(crate) struct FileAdd {
    /// The file (TOML).
    pub file: PathBuf,
    #[command(flatten)]
    pub place: Place,
}

/// How long signatures are good for.
#[derive(Debug, Args)]
pub(crate) struct Expiry {
    /// Days until the list of what is published must be signed again.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().targets, value_parser = days())]
    pub targets_days: u32,
    /// Days until the snapshot must be signed again.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().snapshot, value_parser = days())]
    pub snapshot_days: u32,
    /// Days until the timestamp must be signed again: the longest that somebody can hide a new publication from a site.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().timestamp, value_parser = days())]
    pub timestamp_days: u32,
}

impl Expiry {
    /// With the root's, which only `init` signs.
    pub(crate) fn with_root(&self, root: u32) -> ExpiryDays {
        ExpiryDays {
            root,
            targets: self.targets_days,
            snapshot: self.snapshot_days,
            timestamp: self.timestamp_days,
        }
    }
}

/// The folder of the keys: the one that was named, or the one beside the repository.
pub(crate) fn keys_dir(repository: &std::path::Path, keys: Option<PathBuf>) -> PathBuf {
    keys.unwrap_or_else(|| beside(repository, "-keys"))
}

/// The folder beside the repository with this ending.
pub(crate) fn beside(repository: &std::path::Path, ending: &str) -> PathBuf {
    let mut name = repository.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    repository.with_file_name(name)
}

/// From a day to twenty years.
pub(crate) fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=7_305)
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    text.parse::<Date>()
        .and_then(|day| day.to_zoned(TimeZone::UTC))
        .map(|day| day.timestamp())
        .map_err(|_| "write a day (2026-11-01) or a moment (2026-11-01T12:00:00Z)".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The help of every command, as a reader at a terminal of 80 columns sees it.
    #[test]
    fn help() {
        let mut command = Cli::command().term_width(80);
        command.build();
        command.clone().debug_assert();
        let mut text = String::new();
        let mut commands = vec![command];
        while let Some(mut command) = commands.pop() {
            let help = command.render_long_help();
            text.push_str(&format!(
                "$ {} --help\n{help}\n",
                command.get_bin_name().unwrap_or("lockgate-publish")
            ));
            let below: Vec<_> =
                command.get_subcommands().filter(|below| below.get_name() != "help").cloned().collect();
            commands.extend(below.into_iter().rev().map(|below| below.term_width(80)));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_day_is_its_first_moment() {
        assert_eq!(parse_time("2026-11-01").unwrap(), parse_time("2026-11-01T00:00:00Z").unwrap());
        assert!(parse_time("1 November").is_err());
    }
}
