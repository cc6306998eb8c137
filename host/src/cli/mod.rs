//! The command line. Its help is documentation: `tests` keep a snapshot of it.

mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::civil::Date;
use lockgate_signing::ids::{Name, Period};

use crate::agent::{self, Agent, AgentError};
use crate::config::Config;
use crate::enrol::enrol;
use crate::ledger::{Event, Ledger};
use crate::linker_client::LinkerClient;
use crate::outbox::OutboxError;
use crate::progress::Progress;
use crate::push::PushError;
use crate::run::Now;

/// Extracts pseudonymised data from a clinical database with centrally signed modules.
///
/// The agent opens the database read-only, removes everybody who objects, replaces identities by tokens, runs the modules
/// that the publishing team has signed, and pushes signed bundles to the linker. It only dials out.
///
/// Exit codes: 0 everything is done; 1 an error, nothing was done; 2 wrong usage; 3 a module failed, the others ran;
/// 4 bundles are left in the outbox and will be sent next time; 5 the linker refuses a bundle, or its receipt is not valid.
#[derive(Debug, Parser)]
#[command(name = "lockgate-agent", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/lockgate/agent.toml")]
    config: PathBuf,
    /// Act as on this day (for tests, demonstrations and repeats); today when absent.
    #[arg(long, global = true, value_name = "YYYY-MM-DD")]
    as_of: Option<Date>,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// What is logged to standard error, for example `info` or `lockgate_agent=trace`. Logs hold counts, never identities.
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    log: String,
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
    /// Run every module that is due, then send what is in the outbox.
    Run {
        /// Only this module.
        #[arg(long, value_name = "ID")]
        module: Option<Name>,
        /// Leave the bundles in the outbox.
        #[arg(long)]
        no_push: bool,
    },
    /// Show what a module would send for a month. Nothing is kept and nothing is sent.
    Preview {
        /// The module.
        module: Name,
        /// The month; the last complete one when absent.
        #[arg(long, value_name = "YYYY-MM")]
        period: Option<Period>,
        /// Rows of each output to show.
        #[arg(long, default_value_t = 10)]
        rows: usize,
    },
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
    /// Stay running: run what is due and send it, then wait for the next day.
    Serve {
        /// Seconds between two looks.
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

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    ModuleFailed,
    LeftInOutbox,
    Refused,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::Done => Self::SUCCESS,
            End::ModuleFailed => Self::from(3),
            End::LeftInOutbox => Self::from(4),
            End::Refused => Self::from(5),
        }
    }
}

impl Cli {
    /// Does what the command line says.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        use std::io::IsTerminal as _;
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .map_err(|error| anyhow::anyhow!("--log `{}`: {error}", self.log))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
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
                let client = LinkerClient::new(&config.linker.url)?;
                let key = enrol(&config, &client, token_file)?;
                let mut ledger = Ledger::open(&config.state_dir.join("ledger.jsonl"))?;
                ledger.append(now.at, Event::Enrolled { key: key.to_string() })?;
                show::enrolled(&config, key, self.json)?;
            }
            Command::Preview { module, period, rows } => {
                let agent = self.open(config, now)?;
                show::preview(&agent.preview(module, *period, now)?, *rows, self.json)?;
            }
            Command::Outbox => show::outbox(&self.open(config, now)?, self.json)?,
            Command::History { module } => {
                show::history(&self.open(config, now)?, module.as_ref(), self.json)?
            }
            Command::Push => return self.push(&mut self.open(config, now)?, now),
            Command::Run { module, no_push } => {
                let mut agent = self.open(config, now)?;
                return self.run(&mut agent, module.as_ref(), *no_push, now);
            }
            Command::Serve { every_s } => self.serve(&config, *every_s)?,
        }
        Ok(End::Done)
    }

    fn open(&self, config: Config, now: Now) -> Result<Agent, AgentError> {
        let progress = if self.json { Progress::silent() } else { Progress::on_terminal() };
        Agent::open(config, progress, now)
    }

    fn run(&self, agent: &mut Agent, only: Option<&Name>, no_push: bool, now: Now) -> anyhow::Result<End> {
        // The push sends what an earlier run left too, first, because it goes by the chain.
        let outcomes = agent.run(only, now)?;
        let mut receipts = Vec::new();
        let pushed = if no_push { Ok(()) } else { agent.push(now, |done| receipts.push(done.receipt)) };
        show::run(&outcomes, &receipts, self.json)?;
        let failed = outcomes.iter().any(|outcome| outcome.result.is_err());
        match end_of_push(pushed)? {
            End::Done if failed => Ok(End::ModuleFailed),
            end => Ok(end),
        }
    }

    fn push(&self, agent: &mut Agent, now: Now) -> anyhow::Result<End> {
        let mut receipts = Vec::new();
        let pushed = agent.push(now, |done| receipts.push(done.receipt));
        show::run(&[], &receipts, self.json)?;
        end_of_push(pushed)
    }

    /// Looks again and again; each look is a run of its own, so that nothing is kept in memory between them.
    fn serve(&self, config: &Config, every_s: u64) -> anyhow::Result<()> {
        loop {
            let now = now(self.as_of);
            let looked = self.open(config.clone(), now).map_err(anyhow::Error::from);
            if let Err(error) = looked.and_then(|mut agent| self.run(&mut agent, None, false, now)) {
                tracing::error!("{error}");
            }
            std::thread::sleep(std::time::Duration::from_secs(every_s));
        }
    }
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
    match pushed {
        Ok(()) => Ok(End::Done),
        Err(AgentError::Push(PushError::Linker(error))) => {
            tracing::warn!("{error}");
            Ok(if error.is_passing() { End::LeftInOutbox } else { End::Refused })
        }
        Err(AgentError::Push(PushError::Outbox(error @ OutboxError::OtherBundle))) => {
            tracing::warn!("{error}");
            Ok(End::Refused)
        }
        Err(error) => Err(error.into()),
    }
}
