//! `lockgate-linker`: the command line of the linker.

mod arguments;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use lockgate_durable::key_file;
use lockgate_linker::config::{Config, DataFolder};
use lockgate_linker::database::Database;
use lockgate_linker::intake::Intake;
use lockgate_linker::objections::{self, SiteObjections};
use lockgate_linker::offline::{self, OfflineError};
use lockgate_linker::store::{FolderLock, Store};
use lockgate_linker::{limits, report, service};
use lockgate_service::command::{now_s, runtime, say, say_json, start_log};
use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::enrolment::EnrolmentToken;
use lockgate_signing::envelope::Verified;
use lockgate_signing::ids::SiteId;
use lockgate_signing::keys::PublicKey;

use crate::arguments::{
    Arguments, BundleCommand, Command, ConfigCommand, KeyCommand, Objections, RecipientCommand, Serve,
    SiteCommand, exit,
};

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockgate-linker: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// What sites count of objections should be looked at.
#[derive(Debug, thiserror::Error)]
#[error("alarms about objections: {alarms}, sites that they are of: {sites}")]
struct Alarmed {
    alarms: usize,
    sites: usize,
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Alarmed>() {
        return exit::ALARM;
    }
    match error.downcast_ref::<OfflineError>() {
        Some(OfflineError::Rejected { .. }) => exit::REJECTED,
        Some(OfflineError::Unreadable { .. }) => exit::UNREADABLE,
        _ => exit::FAILED,
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    start_log(&arguments.log)?;
    let data = DataFolder::new(arguments.data);
    let json = arguments.json;
    match arguments.command {
        Command::Init => init(&data),
        Command::Serve(serve) => self::serve(&data, &serve),
        Command::Site { command: SiteCommand::Add { site, token_file } } => {
            add_site(&data, &site, &token_file)
        }
        Command::Site { command: SiteCommand::Revoke { site } } => {
            open_database(&data)?.revoke_site(&site, now_s())?;
            say(&format!("{site} is revoked: its keys and unused tokens no longer work.\n"))
        }
        Command::Key { command: KeyCommand::Revoke { key } } => {
            open_database(&data)?.revoke_key(key, now_s())?;
            say("The key is revoked.\n")
        }
        Command::Recipient { command: RecipientCommand::Add { name, signing_key } } => {
            open_database(&data)?.add_recipient(&name, &signing_key.0, now_s())?;
            say(&format!("{name} may collect, with key {}.\n", signing_key.0.id()))
        }
        Command::Recipient { command: RecipientCommand::Revoke { name } } => {
            open_database(&data)?.revoke_recipient(&name, now_s())?;
            say(&format!("{name} is revoked: nothing is handed to it any more.\n"))
        }
        Command::Recipients => {
            let recipients = open_database(&data)?.recipients()?;
            if json {
                say_json(&serde_json::json!({ "recipients": recipients }))
            } else {
                say(&report::recipients(&recipients))
            }
        }
        Command::Sites => {
            let database = open_database(&data)?;
            let (sites, keys) = (database.sites()?, database.keys(None)?);
            if json {
                say_json(&serde_json::json!({ "sites": sites, "keys": keys }))
            } else {
                say(&report::sites(&sites, &keys))
            }
        }
        Command::Bundles { site } => {
            let bundles = open_database(&data)?.bundles(site.as_ref())?;
            if json {
                say_json(&serde_json::json!({ "bundles": bundles }))
            } else {
                say(&report::bundles(&bundles))
            }
        }
        Command::Objections(options) => self::objections(&data, &options, json),
        Command::Bundle { command: BundleCommand::Show { id } } => show(&data, &id, json),
        Command::Verify { file, key } => verify(&data, &file, key.as_deref(), json),
        Command::Ingest { file } => ingest(&data, &file),
        Command::Export { id, file } => export(&data, &id, &file),
        Command::Config { command: ConfigCommand::Show } => {
            say(&toml::to_string(&Config::load(&data.config(), false)?)?)
        }
    }
}

fn init(data: &DataFolder) -> anyhow::Result<()> {
    if data.database().exists() {
        bail!("{} is initialised already; nothing was changed", data.path().display());
    }
    lockgate_durable::create_private_dir(data.path())?;
    for folder in ["blocks", "headers"] {
        lockgate_durable::create_private_dir(&data.objects().join(folder))?;
    }
    // A key that is there was made by an `init` that did not end: it has signed nothing yet.
    let key = match data.key().exists() {
        true => key_file::load(&data.key())?,
        false => key_file::create(&data.key())?,
    };
    lockgate_durable::write_atomic(&data.public_key(), key.public().to_pem()?.as_bytes())?;
    // The database last: it is what makes the folder initialised.
    let making = data.path().join("linker.db.part");
    let _ = std::fs::remove_file(&making);
    Database::create(&making)?;
    std::fs::rename(&making, data.database()).context("cannot name the database")?;
    lockgate_durable::sync_dir(data.path())?;
    say(&format!(
        "The linker in {} is ready; its key id is {}.\nNext: lockgate-linker --data {0} site add SITE --token-file FILE\n",
        data.path().display(),
        key.public().id()
    ))
}

fn open_database(data: &DataFolder) -> anyhow::Result<Database> {
    Ok(Database::open(&data.database())?)
}

/// Opens everything for work that stores; the lock is held as long as the work lasts.
fn open(data: &DataFolder, limits: &limits::Limits) -> anyhow::Result<(Intake, FolderLock)> {
    let database = open_database(data)?;
    let key = key_file::load(&data.key())?;
    let store = Store::open(&data.objects())?;
    let lock = FolderLock::take(&data.lock(), || {
        let swept = store.sweep()?;
        if swept > 0 {
            tracing::info!(swept, "unfinished files of an earlier run were removed");
        }
        Ok(())
    })?;
    Ok((Intake::new(database, store, key, now_s, limits), lock))
}

fn serve(data: &DataFolder, options: &Serve) -> anyhow::Result<()> {
    let file = options.config.clone().unwrap_or_else(|| data.config());
    let config = Config::load(&file, options.config.is_some())?;
    let limits = Arc::new(config.limits);
    let (intake, _lock) = open(data, &limits)?;
    let address = options.listen.unwrap_or(config.listen);
    let router = service::router(intake, &limits);
    lockgate_service::run(address, options.port_file.as_deref(), router, limits.door())
}

fn add_site(data: &DataFolder, site: &SiteId, token_file: &Path) -> anyhow::Result<()> {
    let database = open_database(data)?;
    let linker = key_file::load(&data.key())?.public().id();
    let mut token = EnrolmentToken { secret: [0; 32], linker };
    getrandom::fill(&mut token.secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    // The database first: a token file without a token would fail at the site, where nobody can mend it.
    let (digest, now_s) = (EnrolmentToken::secret_digest(&token.secret), now_s());
    database.add_token(site, digest, now_s, now_s + limits::TOKEN_LIFE_S)?;
    lockgate_durable::write_private(token_file, token.to_text().as_bytes())?;
    say(&format!(
        "{site} can enrol once within 14 days with the token in {}.\nHand the file over by a safe way, then delete it.\n",
        token_file.display()
    ))
}

fn show(data: &DataFolder, id: &str, json: bool) -> anyhow::Result<()> {
    let row = open_database(data)?.bundle(id)?;
    let header = {
        let (intake, _lock) = open(data, &limits::Limits::default())?;
        let store = Store::open(&data.objects())?;
        let bytes = runtime()?.block_on(store.header(row.id))?;
        bytes.map(|bytes| offline::header_of(&intake, &bytes)).transpose()?
    };
    if json {
        say_json(&report::bundle_json(&row, header.as_ref()))
    } else {
        say(&report::bundle(&row, header.as_ref()))
    }
}

fn objections(data: &DataFolder, options: &Objections, json: bool) -> anyhow::Result<()> {
    let (site, thresholds) = (&options.site, options.thresholds());
    let (database, (intake, _lock)) = (open_database(data)?, open(data, &limits::Limits::default())?);
    let (runtime, mut compared) = (runtime()?, Vec::<SiteObjections>::new());
    for row in database.sites()?.into_iter().filter(|row| !row.revoked) {
        if site.as_ref().is_none_or(|site| *site == row.site) {
            let bundles = database.bundles(Some(&row.site))?;
            compared.push(runtime.block_on(objections::of_site(&intake, row.site, &bundles, thresholds))?);
        }
    }
    if let (Some(site), []) = (site, &compared[..]) {
        bail!("no site {site} that may send; see `lockgate-linker sites`");
    }
    if json {
        say_json(&serde_json::json!({ "thresholds": thresholds, "sites": compared }))?;
    } else {
        say(&report::objections(&compared))?;
    }
    let alarmed = Alarmed {
        alarms: compared.iter().map(|it| it.alarms.len()).sum(),
        sites: compared.iter().filter(|it| !it.alarms.is_empty()).count(),
    };
    if alarmed.alarms > 0 { Err(alarmed.into()) } else { Ok(()) }
}

fn verify(data: &DataFolder, file: &Path, key: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let verified = match key {
        Some(key) => {
            let pem =
                std::fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
            offline::verify_file_with(file, &PublicKey::from_pem(&pem)?)
        }
        None => {
            let database = open_database(data)?;
            let mut fault = None;
            let verified = offline::verify_file(file, |id| {
                database.key(id).unwrap_or_else(|error| {
                    fault = Some(error);
                    None
                })
            });
            if let Some(fault) = fault {
                return Err(fault.into());
            }
            verified
        }
    };
    if json {
        say_json(&verdict(&verified))?;
    } else if let Ok(header) = &verified {
        let message = header.message();
        say(&format!(
            "ok: bundle {}, site {}, sequence {}, period {}, {} rows, {} bytes\n",
            header.id(),
            message.site,
            message.sequence,
            message.period,
            message.rows(),
            message.bytes()
        ))?;
    }
    verified?;
    Ok(())
}

fn verdict(verified: &Result<Verified<BundleHeader>, OfflineError>) -> serde_json::Value {
    match verified {
        Ok(header) => serde_json::json!({
            "verdict": "ok", "bundle": header.id(), "site": header.message().site,
            "sequence": header.message().sequence, "bytes": header.message().bytes(),
        }),
        Err(OfflineError::Rejected { reason, .. }) => {
            serde_json::json!({ "verdict": "rejected", "code": reason.code() })
        }
        Err(_) => serde_json::json!({ "verdict": "unreadable" }),
    }
}

fn ingest(data: &DataFolder, file: &Path) -> anyhow::Result<()> {
    let (intake, _lock) = open(data, &limits::Limits::default())?;
    let (id, receipt) = runtime()?.block_on(offline::ingest(file, &intake))?;
    let mut name = file.as_os_str().to_owned();
    name.push(".receipt");
    lockgate_durable::write_atomic(Path::new(&name), &receipt)?;
    say(&format!("bundle {id} is stored; its receipt is in {}\n", Path::new(&name).display()))
}

fn export(data: &DataFolder, id: &str, file: &Path) -> anyhow::Result<()> {
    let row = open_database(data)?.bundle(id)?;
    let (intake, _lock) = open(data, &limits::Limits::default())?;
    let bytes = runtime()?.block_on(offline::export(&intake, row.id, file))?;
    say(&format!("bundle {} is in {}, {bytes} bytes\n", row.id, file.display()))
}
