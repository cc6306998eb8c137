//! The command line, which is its own documentation.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;
use lockgate_signing::ids::{Name, Period, SiteId};

/// Exit codes.
pub(crate) mod exit {
    /// The command could not be done.
    pub(crate) const FAILED: u8 = 1;
    /// `collect`: bundles were set aside.
    pub(crate) const SET_ASIDE: u8 = 3;
    /// `collect`: the linker cannot be reached.
    pub(crate) const UNREACHABLE: u8 = 4;
}

/// Opens what sites have sent, keeps it as tables under tokens of its own, and deletes what is retracted.
///
/// First steps: `init`; `key new`, whose output the publishing team puts into the list of recipients, and whose signing key the
/// linker's operator enters with `lockgate-linker recipient add`; `site import`; then `collect`.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 `collect` set bundles aside (see `status`), 4 the linker cannot be reached.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The folder that holds everything: keys and tables.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "LOCKGATE_WAREHOUSE_DATA",
        default_value = "warehouse-data"
    )]
    pub(crate) data: PathBuf,
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log to standard error: `error`, `warn`, `info`, `debug`. Never holds contents.
    #[arg(long, global = true, value_name = "LEVEL", env = "LOCKGATE_LOG", default_value = "info")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the folder, the key under which tokens are stored, and the tables.
    Init,
    /// Make the keys by which the warehouse is a recipient.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Pin the keys of sites. What is signed with another key is set aside.
    Site {
        #[command(subcommand)]
        command: SiteCommand,
    },
    /// List the sites: their keys, what came of them, what they had deleted.
    Sites,
    /// Collect what the linker has accepted, apply it, and tell the linker what was deleted.
    Collect(Collect),
    /// What is in the tables, the last retractions, and what was set aside.
    Status,
    /// Look at rows of a table.
    Rows {
        /// The table, as `status` lists it, for example gp-monthly/events.
        table: String,
        /// Only of this site.
        #[arg(long, value_name = "SITE")]
        site: Option<SiteId>,
        /// Only of this month.
        #[arg(long, value_name = "YYYY-MM")]
        period: Option<Period>,
        /// The most rows to show.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Collect {
    /// The linker: `https://…`; `http://…` only to this machine.
    #[arg(long, value_name = "URL", env = "LOCKGATE_LINKER_URL")]
    pub(crate) linker: String,
    /// The keys to ask with, by name; the last by name when absent.
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<Name>,
    /// Go on, with a pause of this many seconds, until SIGTERM or Ctrl-C.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) every: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Pin a key of a site.
    Add {
        /// Its ODS code, for example A81001.
        site: SiteId,
        /// Its public key (PEM), as `enrol` wrote it at the site: `site-key.pub.pem`.
        key_file: PathBuf,
    },
    /// Pin every key that the linker's operator has enrolled: the output of `lockgate-linker --json sites`.
    ///
    /// Have the file from the operator, by a way that you trust: who writes it says who a site is.
    Import {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a pair of keys, and print what the publishing team puts into the list of recipients.
    ///
    /// One key opens what is sent to the warehouse, the other signs what it says. Back both up: without the first, what was
    /// sent cannot be read. To rotate, make a pair whose first day is before the last day of the old one.
    New {
        /// What it is called in the list, for example warehouse-2026.
        name: Name,
        /// The first day on which sites encrypt to it; today when absent.
        #[arg(long, value_name = "YYYY-MM-DD")]
        not_before: Option<Date>,
        /// The last day; a year after the first when absent.
        #[arg(long, value_name = "YYYY-MM-DD")]
        not_after: Option<Date>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use lockgate_service::command::help_pages;

    use super::*;

    #[test]
    fn help() {
        insta::assert_snapshot!(help_pages(&Arguments::command(), "lockgate-warehouse"));
    }
}
