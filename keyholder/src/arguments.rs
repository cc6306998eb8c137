//! The command line, which is its own documentation.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lockgate_signing::ids::{Name, SiteId};

/// Exit codes.
pub(crate) mod exit {
    /// The command could not be done.
    pub(crate) const FAILED: u8 = 1;
}

/// Holds the pseudonym keys, and evaluates them blindly for sites. It never sees an identifier.
///
/// First steps: `init`, `key new` for each domain, `site add` for each site, then `serve`. The publishing team publishes the
/// public keys that `keys` prints.
///
/// The keys are in one file that a passphrase seals. The passphrase is read from a file that only you may read, from a systemd
/// credential named `keyholder-passphrase`, or from a pipe: `--passphrase-file /dev/fd/3 3< <(…)`.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Arguments {
    /// The folder that holds everything: sealed keys, database, and optionally `keyholder.toml`.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "LOCKGATE_KEYHOLDER_DATA",
        default_value = "keyholder-data"
    )]
    pub(crate) data: PathBuf,
    /// The file with the passphrase, mode 0600; its first line counts.
    #[arg(long, global = true, value_name = "FILE", env = "LOCKGATE_KEYHOLDER_PASSPHRASE_FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
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
    /// Make the sealed key file and the database.
    Init,
    /// Serve sites over HTTP, until SIGTERM or Ctrl-C.
    Serve(Serve),
    /// Make, seal or retire a key.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// List the keys: domain, epoch and public key; and the key that signs what is sealed to sites.
    Keys,
    /// Enter or revoke a site.
    Site {
        #[command(subcommand)]
        command: SiteCommand,
    },
    /// List the sites: keys, patients, evaluations and quota.
    Sites,
    /// Show what was asked, by day and site, what was refused, alarms, and who has a sealed key.
    Audit,
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
    /// The settings file; without it, `keyholder.toml` of the data folder, if there is one.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make the key of a domain's next epoch. A running service takes it up when it is started again.
    New {
        /// The domain: the purpose of the manifests whose tokens it makes, for example care-planning.
        domain: Name,
    },
    /// Seal a key to a site that cannot reach the service: the scheme `sealed-key`.
    ///
    /// In comes what `lockgate-agent token-key request` wrote at a site that is entered here; out goes a file for that site
    /// alone. Nobody on the way can open either. But the site can: it makes tokens without being counted, so give it only what
    /// it cannot do without, and see `audit` for who has what.
    Seal {
        /// The domain.
        domain: Name,
        /// The epoch.
        epoch: u32,
        /// The site's request.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Where to write the file for the site; one that is there is replaced.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Destroy a key, for ever. Do it when the overlap with the next epoch is over.
    Retire {
        /// The domain.
        domain: Name,
        /// The epoch.
        epoch: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteCommand {
    /// Enter a site with its public key. Again: a further key, or a new number of patients.
    ///
    /// A revoked site is taken back by it.
    Add {
        /// Its ODS code, for example A81001.
        site: SiteId,
        /// Its public key (PEM), as `enrol` wrote it at the site: `site-key.pub.pem`.
        key_file: PathBuf,
        /// The size of its patient list; its quota is a multiple of it.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        patients: u32,
    },
    /// Revoke a site: its keys stop working at once.
    Revoke {
        /// Its ODS code.
        site: SiteId,
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
        insta::assert_snapshot!(help_pages(&Arguments::command(), "lockgate-keyholder"));
    }
}
