//! The command line, which is its own documentation.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lockgate_linker::objections::Thresholds;
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::KeyId;
use lockgate_signing::recipients::RecipientSigningKey;

/// Exit codes.
pub(crate) mod exit {
    /// The command could not be done.
    pub(crate) const FAILED: u8 = 1;
    /// `verify`, `ingest`: the bundle is refused.
    pub(crate) const REJECTED: u8 = 3;
    /// `verify`, `ingest`: the file cannot be read.
    pub(crate) const UNREADABLE: u8 = 4;
    /// `objections`: there is an alarm.
    pub(crate) const ALARM: u8 = 5;
}

/// Takes in bundles from sites: verifies them, stores them, and answers with a signed receipt.
///
/// First steps: `init`, then `site add` for each site, then `serve`.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a bundle is refused, 4 a bundle's file cannot be read, 5 an alarm
/// about objections.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The folder that holds everything: key, database, blocks, and optionally `linker.toml`.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "LOCKGATE_LINKER_DATA",
        default_value = "linker-data"
    )]
    pub(crate) data: PathBuf,
    /// Print JSON, for scripts (listing commands).
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
    /// Make the key, the database and the folders.
    Init,
    /// Serve sites over HTTP, until SIGTERM or Ctrl-C.
    Serve(Serve),
    /// Add or revoke a site.
    Site {
        #[command(subcommand)]
        command: SiteCommand,
    },
    /// Revoke one key.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Enter or revoke a recipient: who may collect what was accepted.
    ///
    /// The linker cannot open what it hands out; only who has a key to which the sites encrypted can.
    Recipient {
        #[command(subcommand)]
        command: RecipientCommand,
    },
    /// List the recipients.
    Recipients,
    /// List the sites: keys, bundles, gaps in their chains, incidents.
    Sites,
    /// List the bundles.
    Bundles {
        /// Only those of one site.
        #[arg(long, value_name = "SITE")]
        site: Option<SiteId>,
    },
    /// Compare what sites count of objections, each site's last snapshot with those before it.
    ///
    /// An alarm is a number that dropped to none or that stepped: patients withheld or flagged, entries of dissents and
    /// withdrawals, and of each of their codes. Fewer objections, or more withdrawals, than in any snapshot of the look-back
    /// are one as long as that is so. Only headers are read. Run it daily, by whatever looks at exit codes.
    ///
    /// Exit codes: 0 nothing is alarming, 5 an alarm.
    Objections(Objections),
    /// Look at one bundle.
    Bundle {
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// Check a bundle's file offline: signature, and every block.
    ///
    /// Exit codes: 0 good, 3 refused, 4 not readable.
    Verify {
        /// The file.
        file: PathBuf,
        /// Check with this public key (PEM) instead of the enrolled ones.
        #[arg(long, value_name = "PEM")]
        key: Option<PathBuf>,
    },
    /// Take in a bundle that came as a file; writes the receipt beside it, as FILE.receipt.
    Ingest {
        /// The file.
        file: PathBuf,
    },
    /// Write a bundle as one file, for an auditor.
    Export {
        /// The bundle's id, or how it begins.
        id: String,
        /// The file.
        file: PathBuf,
    },
    /// Look at the settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one. Plain HTTP: put a TLS proxy in front of anything but loopback.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Write the address here once it listens.
    #[arg(long, value_name = "FILE")]
    pub(crate) port_file: Option<PathBuf>,
    /// The settings file; without it, `linker.toml` of the data folder, if there is one.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Objections {
    /// Only one site.
    #[arg(long, value_name = "SITE")]
    pub(crate) site: Option<SiteId>,
    /// Where no patient, or no dissent, is left: alarm if there were as many as this.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    zero_from: u64,
    /// A step is more than this part of what was before …
    #[arg(long, value_name = "PERCENT", default_value_t = 20)]
    step_percent: u32,
    /// … and at least as many patients or entries.
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    step_min: u64,
    /// How far back fewer objections are looked for; 0 compares with the snapshot before and no other.
    #[arg(long, value_name = "DAYS", default_value_t = 92)]
    look_back_days: u32,
}

impl Objections {
    pub(crate) fn thresholds(&self) -> Thresholds {
        let &Self { zero_from, step_percent, step_min, look_back_days, .. } = self;
        Thresholds { zero_from, step_percent, step_min, look_back_days }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Add a site, and make a token with which it can enrol once.
    ///
    /// Again for a site that is known: a further token, for a new key. A revoked site is taken back by it.
    Add {
        /// Its ODS code, for example A81001.
        site: SiteId,
        /// The new file for the token, readable only by you.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
    },
    /// Revoke a site: its keys and unused tokens stop working at once. What it has sent stays.
    Revoke {
        /// Its ODS code.
        site: SiteId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Revoke a key: it stops working at once.
    Revoke {
        /// The key's id: 64 hexadecimal digits; see `sites`.
        key: KeyId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecipientCommand {
    /// Enter a recipient with the key that it signs with, as the list of recipients has it.
    Add {
        /// Its name in that list, for example warehouse-2026.
        name: Name,
        /// Its signing key: 64 hexadecimal digits.
        signing_key: RecipientSigningKey,
    },
    /// Revoke a recipient: nothing is handed to it from now on.
    Revoke {
        /// Its name.
        name: Name,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Show what a bundle's header says.
    Show {
        /// The bundle's id, or how it begins.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the settings in force, defaults included.
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use lockgate_service::command::help_pages;

    use super::*;

    #[test]
    fn help() {
        insta::assert_snapshot!(help_pages(&Arguments::command(), "lockgate-linker"));
    }
}
