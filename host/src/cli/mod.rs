//! The command line. Its help is documentation: `tests` keep a snapshot of it.

mod modules;
mod serve;
mod show;
mod token_key;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jiff::civil::Date;
use lockgate_signing::ids::{Name, Period};
use lockgate_signing::receipt::Receipt;
use semver::Version;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::agent::{self, Agent, AgentError, ModuleOutcome};
use crate::config::Config;
use crate::enrol::enrol;
use crate::ledger::{Event, Ledger};
use crate::linker_client::LinkerClient;
use crate::modules::{Modules, ModulesError};
use crate::outbox::OutboxError;
use crate::progress::Progress;
use crate::push::PushError;
use crate::run::Now;
use crate::status::{DirectionLine, ModuleLine, Status};
use show::Pushed;
use token_key::TokenKeyCommand;

/// Extracts pseudonymised data from a clinical database with centrally signed modules.
///
/// The agent opens the database read-only, removes everybody who objects, replaces identities by tokens, runs the modules
/// that the publishing team has signed, and pushes signed bundles to the linker. It only dials out.
///
/// Exit codes: 0 everything is done; 1 an error, nothing was done; 2 wrong usage; 3 a module failed or has expired, the others
/// ran; 4 bundles are left in the outbox and will be sent next time; 5 the linker refuses a bundle, or its receipt or a deletion
/// statement is not valid;
/// 6 `status` found something that needs a person. A module that is held, waiting or refused is no error.
#[derive(Debug, Parser)]
#[command(name = "lockgate-agent", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/lockgate/agent.toml")]
    config: PathBuf,
    /// Act as on this day (for tests, demonstrations and repeats); today when absent. At a site in use a day ahead is only for
    /// `preview`, which changes nothing: whatever else asks the registry takes that day for passed.
    #[arg(long, global = true, value_name = "YYYY-MM-DD")]
    as_of: Option<Date>,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// What is logged to standard error, for example `info` or `lockgate_agent=trace`. Logs hold counts, never identities.
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    log: String,
    /// End when standard input ends: how `serve` starts its turns.
    #[arg(long, hide = true)]
    end_with_input: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Register this site at the linker with a one-time token from its operator.
    ///
    /// The site's key is made here and never leaves.
    Enrol {
        /// The file with the token (mode 0600).
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Refresh, run every installed module that is due, then send what is in the outbox.
    Run {
        /// Only this module.
        #[arg(long, value_name = "ID")]
        module: Option<Name>,
        /// Leave the bundles in the outbox.
        #[arg(long)]
        no_push: bool,
    },
    /// Show what a module would send for a month. The registry is asked first, and what it answers is forgotten: nothing is
    /// kept, installed or sent.
    Preview {
        /// The module.
        module: Name,
        /// This version, which is offered to this site; the installed one when absent, or the newest that is offered.
        #[arg(long, value_name = "VERSION")]
        version: Option<Version>,
        /// The month; the last complete one when absent.
        #[arg(long, value_name = "YYYY-MM")]
        period: Option<Period>,
        /// Rows of each output to show.
        #[arg(long, default_value_t = 10)]
        rows: usize,
    },
    /// What runs here: list modules, approve or refuse them.
    ///
    /// Without a command: every module that is installed or offered, what it is for, what it reads and what it sends, as of
    /// the last refresh.
    Modules {
        #[command(subcommand)]
        command: Option<ModulesCommand>,
    },
    /// Legal directions that override objections: list them, accept or refuse them.
    ///
    /// A direction does nothing here until it is accepted. Without a command: every direction that is published for this site.
    Directions {
        #[command(subcommand)]
        command: Option<DirectionsCommand>,
    },
    /// Token keys of the scheme `sealed-key`: ask for them, install them. For sites that cannot reach the keyholder.
    ///
    /// Without a command: the keys that are installed, by purpose and epoch. No command shows a key.
    TokenKey {
        #[command(subcommand)]
        command: Option<TokenKeyCommand>,
    },
    /// One page on how this site is, and what needs a person (then the exit code is 6). Asks nobody and changes nothing.
    Status,
    /// Ask the registry now: for holds, revocations and new versions. Installs what needs no approval.
    Refresh,
    /// Show what is sealed and not yet acknowledged.
    Outbox,
    /// Send what is in the outbox.
    Push,
    /// Show what was made, sent and acknowledged, from the site's ledger.
    History {
        /// Only this module.
        #[arg(long, value_name = "ID")]
        module: Option<Name>,
    },
    /// Stay running: run what is due and send it, again and again, and ask the registry in between.
    ///
    /// The registry is asked about every hour (`registry.refresh-s`), so that a hold takes effect within the hour.
    Serve {
        /// Seconds between two runs; a run does only what is due.
        #[arg(long, default_value_t = 3_600)]
        every_s: u64,
    },
    /// The configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print it with its defaults and absolute paths.
    Show,
}

#[derive(Debug, Subcommand)]
enum ModulesCommand {
    /// Install a version that waits, and print what it reads and sends beyond the one that runs.
    Approve {
        /// The module.
        module: Name,
        /// The version; the newest that is offered when absent.
        #[arg(long, value_name = "VERSION")]
        version: Option<Version>,
    },
    /// Do not run a module here any more, or not this version of it. `approve` takes it back.
    Refuse {
        /// The module.
        module: Name,
        /// Only this version: an older one that is installed goes on.
        #[arg(long, value_name = "VERSION")]
        version: Option<Version>,
    },
}

#[derive(Debug, Subcommand)]
enum DirectionsCommand {
    /// Accept a direction, in the version that is published now. It is written to the ledger.
    Accept {
        /// The direction.
        direction: Name,
    },
    /// Refuse a direction, in the version that is published now. It is written to the ledger.
    Refuse {
        /// The direction.
        direction: Name,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    ModuleFailed,
    LeftInOutbox,
    Refused,
    NeedsPerson,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::Done => Self::SUCCESS,
            End::ModuleFailed => Self::from(3),
            End::LeftInOutbox => Self::from(4),
            End::Refused => Self::from(5),
            End::NeedsPerson => Self::from(6),
        }
    }
}

impl Cli {
    /// Does what the command line says.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let filter: Targets =
            self.log.parse().map_err(|error| anyhow::anyhow!("--log `{}`: {error}", self.log))?;
        let to_stderr = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        tracing_subscriber::registry().with(to_stderr.with_filter(filter)).init();
        if self.end_with_input {
            serve::end_with_input()?;
        }
        let config = Config::load(&self.config)?;
        let now = now(self.as_of);
        Ok(self.dispatch(config, now)?.into())
    }

    fn dispatch(&self, config: Config, now: Now) -> anyhow::Result<End> {
        match &self.command {
            Command::Config { command: ConfigCommand::Show } => show::config(&config, self.json)?,
            Command::Enrol { token_file } => {
                // The ledger has one writer.
                lockgate_durable::create_private_dir(&config.state_dir)?;
                let _lock = agent::lock(&config.state_dir)?;
                let mut ledger = Ledger::of_site(&config)?;
                let client = LinkerClient::new(&config.linker.url)?;
                let key = enrol(&config, &client, token_file)?;
                ledger.append(
                    now.at,
                    Event::Enrolled { site: Some(config.site.clone()), key: key.to_string() },
                )?;
                show::enrolled(&config, key, self.json)?;
            }
            Command::Preview { module, version, period, rows } => {
                let agent = self.open(config, now)?;
                let shown = agent.preview(module, version.as_ref(), *period, now)?;
                show::preview(&shown, *rows, now.today, self.json)?;
            }
            Command::Modules { command } => self.modules(&config, command.as_ref(), now)?,
            Command::Directions { command } => self.directions(&config, command.as_ref(), now)?,
            Command::TokenKey { command } => token_key::run(&config, command.as_ref(), now, self.json)?,
            Command::Status => {
                let status = Status::of(&config, now)?;
                modules::status(&status, self.json)?;
                return Ok(if status.needs_person.is_empty() { End::Done } else { End::NeedsPerson });
            }
            Command::Refresh => {
                let (_lock, modules, mut ledger) = decide(&config)?;
                modules::refreshed(&agent::refresh(&modules, &config, &mut ledger, now)?, self.json)?;
            }
            Command::Outbox => show::outbox(&self.open(config, now)?, self.json)?,
            Command::History { module } => {
                show::history(&self.open(config, now)?, module.as_ref(), self.json)?
            }
            Command::Push => return self.push(&mut self.open(config, now)?, now),
            Command::Run { module, no_push } => {
                return self.run(config, module.as_ref(), *no_push, now);
            }
            Command::Serve { every_s } => {
                let refresh_every = Duration::from_secs(config.registry.refresh_s);
                serve::serve(self, Duration::from_secs(*every_s), refresh_every)?;
            }
        }
        Ok(End::Done)
    }

    fn open(&self, config: Config, now: Now) -> Result<Agent, AgentError> {
        let progress = if self.json { Progress::silent() } else { Progress::on_terminal() };
        Agent::open(config, progress, now)
    }

    fn modules(&self, config: &Config, command: Option<&ModulesCommand>, now: Now) -> anyhow::Result<()> {
        match command {
            None => {
                let entries = Ledger::entries_of_site(config)?;
                let view = Modules::open(config)?.last_known(&entries, now.today)?;
                let lines: Vec<_> = view.standings.iter().map(ModuleLine::of).collect();
                modules::modules(&lines, self.json)
            }
            Some(ModulesCommand::Approve { module, version }) => {
                let (_lock, modules, mut ledger) = decide(config)?;
                let approved = modules.approve(&mut ledger, module, version.as_ref(), now)?;
                modules::approved(&approved, self.json)
            }
            Some(ModulesCommand::Refuse { module, version }) => {
                let (_lock, modules, mut ledger) = decide(config)?;
                modules.refuse(&mut ledger, module, version.clone(), now)?;
                modules::refused(module.as_str(), version.as_ref(), self.json)
            }
        }
    }

    fn directions(
        &self,
        config: &Config,
        command: Option<&DirectionsCommand>,
        now: Now,
    ) -> anyhow::Result<()> {
        let (direction, accepted) = match command {
            None => {
                let entries = Ledger::entries_of_site(config)?;
                let view = Modules::open(config)?.last_known(&entries, now.today)?;
                return modules::directions(&DirectionLine::all(&view), self.json);
            }
            Some(DirectionsCommand::Accept { direction }) => (direction, true),
            Some(DirectionsCommand::Refuse { direction }) => (direction, false),
        };
        let (_lock, modules, mut ledger) = decide(config)?;
        let version = modules.answer(&mut ledger, direction, accepted, now)?;
        modules::answered(direction.as_str(), &version, accepted, self.json)
    }

    fn run(&self, config: Config, only: Option<&Name>, no_push: bool, now: Now) -> anyhow::Result<End> {
        let noted = config.clone();
        let ran = self.open(config, now).and_then(|mut agent| {
            let known = agent.ledger.entries().len();
            let outcomes = agent.run(only, now)?;
            Ok((agent, known, outcomes))
        });
        let (mut agent, known, outcomes) = match ran {
            Ok(ran) => ran,
            // Another agent is at work, or a name was mistyped: no run came to nothing.
            Err(error @ (AgentError::Busy(_) | AgentError::Modules(ModulesError::UnknownModule(_)))) => {
                return Err(error.into());
            }
            Err(error) => {
                agent::observe_failed_run(&noted, now, &error)?;
                return Err(error.into());
            }
        };
        let retracted = agent.ledger.entries()[known..].iter().filter_map(|entry| match &entry.event {
            Event::Retracted { module, .. } => Some(module.clone()),
            _ => None,
        });
        let retracted: Vec<Name> = retracted.collect::<BTreeSet<_>>().into_iter().collect();
        // The push sends what an earlier run left too, first, because it goes by the chain.
        let mut receipts = Vec::new();
        let pushed = if no_push { Ok(()) } else { agent.push(now, |done| receipts.push(done.receipt)) };
        show::run(&outcomes, &retracted, &pushed_so_far(&agent, receipts)?, self.json)?;
        let failed = outcomes.iter().any(ModuleOutcome::is_failure);
        match end_of_push(pushed)? {
            End::Done if failed => Ok(End::ModuleFailed),
            end => Ok(end),
        }
    }

    fn push(&self, agent: &mut Agent, now: Now) -> anyhow::Result<End> {
        let mut receipts = Vec::new();
        let pushed = agent.push(now, |done| receipts.push(done.receipt));
        show::push(&pushed_so_far(agent, receipts)?, self.json)?;
        end_of_push(pushed)
    }
}

fn pushed_so_far(agent: &Agent, receipts: Vec<Receipt>) -> anyhow::Result<Pushed> {
    Ok(Pushed { receipts, waiting: agent.outbox.queued(&agent.key.public())?.len() })
}

/// What a decision needs: the ledger, which has one writer, and the site's side of the registry.
fn decide(config: &Config) -> anyhow::Result<(std::fs::File, Modules, Ledger)> {
    lockgate_durable::create_private_dir(&config.state_dir)?;
    let lock = agent::lock(&config.state_dir)?;
    Ok((lock, Modules::open(config)?, Ledger::of_site(config)?))
}

fn now(as_of: Option<Date>) -> Now {
    match as_of {
        Some(day) => Now::as_of(day),
        None => {
            let at = jiff::Timestamp::now();
            Now { today: at.to_zoned(jiff::tz::TimeZone::UTC).date(), at }
        }
    }
}

/// What is left in the outbox is an outcome; a broken outbox is an error.
fn end_of_push(pushed: Result<(), AgentError>) -> anyhow::Result<End> {
    let error = match pushed {
        Ok(()) => return Ok(End::Done),
        Err(AgentError::Push(error)) => error,
        Err(error) => return Err(error.into()),
    };
    let end = match &error {
        PushError::Linker(error) if error.is_passing() => End::LeftInOutbox,
        PushError::Linker(_) | PushError::Statement { .. } | PushError::Outbox(OutboxError::OtherBundle) => {
            End::Refused
        }
        _ => return Err(AgentError::Push(error).into()),
    };
    tracing::warn!("{error}");
    Ok(end)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The help of every command, as a reader at a terminal of 80 columns sees it.
    #[test]
    fn help() {
        fn pages(command: &clap::Command, path: &str, text: &mut String) {
            let help = command.clone().term_width(80).render_long_help();
            *text += &format!("$ {path} --help\n{help}\n");
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                pages(below, &format!("{path} {}", below.get_name()), text);
            }
        }
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut text = String::new();
        pages(&command, "lockgate-agent", &mut text);
        insta::assert_snapshot!(text);
    }
}
