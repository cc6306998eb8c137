//! `lockgate-keyholder`: the command line of the keyholder.

mod arguments;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use lockgate_keyholder::config::{Config, DataFolder};
use lockgate_keyholder::database::Database;
use lockgate_keyholder::deliver::{Delivered, deliver};
use lockgate_keyholder::evaluate::Keyholder;
use lockgate_keyholder::keys::{KeyRing, Passphrase};
use lockgate_keyholder::{report, service};
use lockgate_service::command::{now_s, say, say_json, start_log};
use lockgate_signing::envelope::ENVELOPE_BYTES_MAX;
use lockgate_signing::keys::PublicKey;
use lockgate_signing::token_keys::TokenPublicKey;

use crate::arguments::{Arguments, Command, ConfigCommand, KeyCommand, Serve, SiteCommand, exit};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockgate-keyholder: {error:#}");
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    start_log(&arguments.log)?;
    let data = DataFolder::new(arguments.data);
    let (json, passphrase) = (arguments.json, || passphrase(arguments.passphrase_file.as_deref()));
    match arguments.command {
        Command::Init => init(&data, &passphrase()?),
        Command::Serve(serve) => self::serve(&data, &passphrase()?, &serve),
        Command::Key { command } => change_keys(&data, &passphrase()?, command),
        Command::Keys => {
            let ring = KeyRing::open(&data.keys(), &passphrase()?)?;
            let signing_key = TokenPublicKey(ring.signing_key().public().to_bytes());
            let keys: Vec<_> = ring
                .secret_keys()?
                .into_iter()
                .map(|((domain, epoch), key)| (domain, epoch, key.public()))
                .collect();
            if json {
                let key = |(domain, epoch, key): &(_, u32, lockgate_oprf::PublicKey)| serde_json::json!({ "domain": domain, "epoch": epoch, "public-key": key.to_string() });
                let keys: Vec<_> = keys.iter().map(key).collect();
                say_json(&serde_json::json!({ "keys": keys, "signing-key": signing_key }))
            } else {
                say(&report::keys(&keys, signing_key))
            }
        }
        Command::Site { command: SiteCommand::Add { site, key_file, patients } } => {
            let pem = std::fs::read_to_string(&key_file)
                .with_context(|| format!("cannot read {}", key_file.display()))?;
            let key = PublicKey::from_pem(&pem).with_context(|| key_file.display().to_string())?;
            Database::open(&data.database())?.add_site(&site, &key, patients, now_s())?;
            say(&format!("{site} may ask, with key {}.\n", key.id()))
        }
        Command::Site { command: SiteCommand::Revoke { site } } => {
            Database::open(&data.database())?.revoke_site(&site, now_s())?;
            say(&format!("{site} is revoked: its keys no longer work.\n"))
        }
        Command::Sites => {
            let config = Config::load(&data.config(), false)?;
            let sites = Database::open(&data.database())?.sites(&config.quota, now_s())?;
            if json { say_json(&serde_json::json!({ "sites": sites })) } else { say(&report::sites(&sites)) }
        }
        Command::Audit => {
            let database = Database::open(&data.database())?;
            let (usage, alarms, delivered) =
                (database.usage()?, database.alarms()?, database.delivered(None)?);
            if json {
                say_json(&serde_json::json!({ "alarms": alarms, "sealed-keys": delivered, "usage": usage }))
            } else {
                say(&report::audit(&usage, &alarms, &delivered))
            }
        }
        Command::Config { command: ConfigCommand::Show } => {
            say(&toml::to_string(&Config::load(&data.config(), false)?)?)
        }
    }
}

/// The passphrase from where it was said to be, or from the service manager.
fn passphrase(file: Option<&Path>) -> anyhow::Result<Passphrase> {
    let credential = || {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        Some(PathBuf::from(folder).join("keyholder-passphrase"))
    };
    let file = file.map(Path::to_owned).or_else(credential);
    let file = file.context("no passphrase: say --passphrase-file FILE, or give the service a credential")?;
    Ok(Passphrase::read(&file)?)
}

fn init(data: &DataFolder, passphrase: &Passphrase) -> anyhow::Result<()> {
    if data.database().exists() {
        bail!("{} is initialised already; nothing was changed", data.path().display());
    }
    lockgate_durable::create_private_dir(data.path())?;
    // A key file that is there was made by an `init` that did not end: it holds no key yet.
    if data.keys().exists() {
        KeyRing::open(&data.keys(), passphrase)?;
    } else {
        KeyRing::create(&data.keys(), passphrase)?;
    }
    // The database last: it is what makes the folder initialised.
    let making = data.path().join("keyholder.db.part");
    let _ = std::fs::remove_file(&making);
    Database::create(&making)?;
    std::fs::rename(&making, data.database()).context("cannot name the database")?;
    lockgate_durable::sync_dir(data.path())?;
    say(&format!(
        "The keyholder in {} is ready.\nNext: lockgate-keyholder --data {0} key new DOMAIN\n",
        data.path().display()
    ))
}

fn change_keys(data: &DataFolder, passphrase: &Passphrase, command: KeyCommand) -> anyhow::Result<()> {
    let mut keys = KeyRing::open(&data.keys(), passphrase)?;
    match command {
        KeyCommand::New { domain } => {
            let epoch = keys.next_epoch(&domain);
            let public = keys.add(&domain, epoch)?;
            keys.save(&data.keys(), passphrase)?;
            let signing_key = TokenPublicKey(keys.signing_key().public().to_bytes());
            say(&format!(
                "{domain} has a key for epoch {epoch}. For the publishing team:\n\n\
                 signing-key = \"{signing_key}\"   # only where a site has a sealed key\n\n[[epoch]]\nepoch = {epoch}\npublic-key = \"{public}\"\n\n\
                 Start the service again to use it, and back up {}.\n",
                data.keys().display()
            ))
        }
        KeyCommand::Seal { domain, epoch, request, out } => {
            let database = Database::open(&data.database())?;
            let bytes = read_bounded(&request)?;
            let delivered = deliver(&database, &keys, &bytes, (&domain, epoch), now_s());
            let Delivered { delivery, signed } = delivered.with_context(|| request.display().to_string())?;
            lockgate_durable::write_atomic(&out, &signed)?;
            say(&format!(
                "The key of {domain} epoch {epoch} for {0} is in {1}, sealed to its key {2}.\n\
                 Next, at {0}: lockgate-agent token-key install {1}\n",
                delivery.site,
                out.display(),
                delivery.opening_key
            ))
        }
        KeyCommand::Retire { domain, epoch } => {
            keys.retire(&domain, epoch)?;
            keys.save(&data.keys(), passphrase)?;
            say(&format!(
                "The key of {domain} epoch {epoch} is destroyed here; start the service again, and destroy its backups.\n"
            ))
        }
    }
}

/// Reads a file that somebody sent, up to more than any envelope has.
fn read_bounded(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(cannot)?;
    file.take(ENVELOPE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(cannot)?;
    Ok(bytes)
}

fn serve(data: &DataFolder, passphrase: &Passphrase, options: &Serve) -> anyhow::Result<()> {
    let file = options.config.clone().unwrap_or_else(|| data.config());
    let config = Config::load(&file, options.config.is_some())?;
    let keys = KeyRing::open(&data.keys(), passphrase)?.secret_keys()?;
    if keys.is_empty() {
        bail!("there is no key to evaluate with; make one with `lockgate-keyholder key new DOMAIN`");
    }
    let database = Database::open(&data.database())?;
    let limits = config.limits.clone();
    let address = options.listen.unwrap_or(config.listen);
    let keyholder = Keyholder::new(database, keys, config, now_s);
    let router = service::router(keyholder, &limits);
    lockgate_service::run(address, options.port_file.as_deref(), router, limits.door())
}
