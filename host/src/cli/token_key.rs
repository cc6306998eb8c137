//! `token-key`: the keys of a site that cannot reach the keyholder.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{decide, show};
use crate::agent;
use crate::config::Config;
use crate::identity::DeliveredKeys;
use crate::ledger::Event;
use crate::run::Now;

#[derive(Debug, Subcommand)]
pub(super) enum TokenKeyCommand {
    /// Write a file that asks the keyholder for keys: the site's id, and the public half of a key that is made here.
    ///
    /// It holds no secret. Its private half opens what the keyholder seals, stays in `opening-key.pem` of the state folder,
    /// and is made once. The file may be made again at any time.
    Request {
        /// Where to write it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Install a key that the keyholder sealed for this site.
    ///
    /// It is refused if it is of another site, purpose or epoch than the registry names, of an older epoch than one that is
    /// installed, signed by anybody else, or not whole. It stays sealed; nothing shows it.
    Install {
        /// The file from the keyholder's operator.
        file: PathBuf,
    },
}

/// Does what the command says; without one, lists what is installed.
pub(super) fn run(
    config: &Config,
    command: Option<&TokenKeyCommand>,
    now: Now,
    as_json: bool,
) -> anyhow::Result<()> {
    let keys = DeliveredKeys::of(config);
    match command {
        None => list(config, &keys, as_json),
        Some(TokenKeyCommand::Request { out }) => request(config, &keys, out, now, as_json),
        Some(TokenKeyCommand::Install { file }) => {
            let (_lock, modules, mut ledger) = decide(config)?;
            let view = agent::refresh_or_last_known(&modules, config, &mut ledger, now)?;
            let installed = keys.install(file, &view.published.token_keys, now.today);
            let installed =
                installed.map_err(|why| anyhow::anyhow!("{} is not installed: {why}", file.display()))?;
            let (domain, epoch) = (installed.domain, installed.epoch);
            ledger.append(now.at, Event::TokenKeyInstalled { domain: domain.clone(), epoch })?;
            if as_json {
                show::print(&json!({ "domain": domain, "epoch": epoch }).to_string())
            } else {
                show::print(&format!(
                    "The key of {domain} epoch {epoch} is installed. Delete {}.",
                    file.display()
                ))
            }
        }
    }
}

fn request(config: &Config, keys: &DeliveredKeys, out: &Path, now: Now, as_json: bool) -> anyhow::Result<()> {
    let _lock = agent::lock(&config.state_dir)?;
    let key = agent::site_key(config)?;
    let (request, signed) = keys.request(&key, now.at.as_second())?;
    lockgate_durable::write_atomic(out, &signed)?;
    let (site, id, signer) = (request.site, request.opening_key.id(), key.public().id());
    if as_json {
        show::print(&json!({ "site": site, "opening-key": id, "signed-by": signer.to_string() }).to_string())
    } else {
        show::print(&format!(
            "{} asks for the token keys of {site}, to be sealed to key {id}.\nIt is signed with the site's key {signer}.\n\
             Next: hand it to the keyholder's operator, with site-key.pub.pem if the site is not entered there.",
            out.display()
        ))
    }
}

fn list(config: &Config, keys: &DeliveredKeys, as_json: bool) -> anyhow::Result<()> {
    let (opening_key, installed) = (keys.opening_key_id()?, keys.installed()?);
    if as_json {
        let installed: Vec<_> =
            installed.iter().map(|(domain, epoch)| json!({ "domain": domain, "epoch": epoch })).collect();
        let shown = json!({ "site": config.site, "opening-key": opening_key, "installed": installed });
        return show::print(&shown.to_string());
    }
    match opening_key {
        Some(id) => show::print(&format!("Keys are sealed for {} to {id}.", config.site))?,
        None => show::print("No key was asked for yet: `lockgate-agent token-key request --out FILE`.")?,
    }
    if installed.is_empty() {
        return show::print("No token key is installed.");
    }
    let mut lines = show::table(["purpose", "epoch"]);
    for (domain, epoch) in installed {
        lines.add_row([domain.to_string(), epoch.to_string()]);
    }
    show::print(&lines.to_string())
}
