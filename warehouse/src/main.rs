//! `lockgate-warehouse`: the command line of the warehouse.

mod arguments;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use jiff::ToSpan as _;
use jiff::civil::Date;
use lockgate_service::command::{now_s, say, say_json, start_log};
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::PublicKey;
use lockgate_signing::recipients::RecipientSigningKey;
use lockgate_warehouse::collect::{CollectError, Collecting};
use lockgate_warehouse::config::DataFolder;
use lockgate_warehouse::keys::{KeyPair, KeyPairs};
use lockgate_warehouse::linker_client::{LinkerClient, LinkerError};
use lockgate_warehouse::rekey::TokenKey;
use lockgate_warehouse::report;
use lockgate_warehouse::store::{PinnedKey, Store};

use crate::arguments::{Arguments, Collect, Command, KeyCommand, SiteCommand, exit};

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lockgate-warehouse: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    start_log(&arguments.log)?;
    let data = DataFolder::new(arguments.data);
    let json = arguments.json;
    match arguments.command {
        Command::Init => init(&data),
        Command::Key { command: KeyCommand::New { name, not_before, not_after } } => {
            new_key(&data, &name, not_before, not_after, json)
        }
        Command::Site { command: SiteCommand::Add { site, key_file } } => {
            let pem = std::fs::read_to_string(&key_file)
                .with_context(|| format!("cannot read {}", key_file.display()))?;
            let key = PublicKey::from_pem(&pem).with_context(|| key_file.display().to_string())?;
            let id = key.id();
            Store::open(&data.database())?.pin(&[PinnedKey { key, site: site.clone() }], now_s())?;
            say(&format!("{site} signs with key {id}.\n"))
        }
        Command::Site { command: SiteCommand::Import { file } } => {
            let keys = enrolled_keys(&file)?;
            let new = Store::open(&data.database())?.pin(&keys, now_s())?;
            say(&format!("{} keys of sites, {new} of them new.\n", keys.len()))
        }
        Command::Sites => {
            let sites = Store::open(&data.database())?.sites()?;
            if json { say_json(&serde_json::json!({ "sites": sites })) } else { say(&report::sites(&sites)) }
        }
        Command::Collect(collect) => self::collect(&data, &collect, json),
        Command::Status => {
            let store = Store::open(&data.database())?;
            let (tables, retractions) = (store.tables()?, store.retractions(RETRACTIONS_SHOWN)?);
            let waiting = store.waiting()?;
            if json {
                say_json(&serde_json::json!({
                    "position": store.position()?, "tables": tables, "retractions": retractions, "waiting": waiting,
                }))
            } else {
                say(&report::status(&tables, &retractions, &waiting))
            }
        }
        Command::Rows { table, site, period, limit } => {
            let period = period.map(|period| period.to_string());
            let store = Store::open(&data.database())?;
            let rows = store.rows(&table, site.as_ref().map(SiteId::as_str), period.as_deref(), limit)?;
            if json { say_json(&serde_json::to_value(rows)?) } else { say(&report::rows(&rows)) }
        }
    }
}

/// Retractions that `status` lists.
const RETRACTIONS_SHOWN: u32 = 100;

/// The keys in the output of `lockgate-linker --json sites` that were not revoked.
fn enrolled_keys(file: &Path) -> anyhow::Result<Vec<PinnedKey>> {
    #[derive(serde::Deserialize)]
    struct Listed {
        keys: Vec<Key>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Key {
        site: SiteId,
        // An Ed25519 key as text, as lists of recipients have it.
        public_key: RecipientSigningKey,
        revoked_at_s: Option<i64>,
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let listed: Listed = serde_json::from_str(&text)
        .with_context(|| format!("{} is not the output of `lockgate-linker --json sites`", file.display()))?;
    let keys = listed.keys.into_iter().filter(|key| key.revoked_at_s.is_none());
    Ok(keys.map(|key| PinnedKey { key: key.public_key.0, site: key.site }).collect())
}

/// Collects once, or again and again.
fn collect(data: &DataFolder, options: &Collect, json: bool) -> anyhow::Result<()> {
    // One at a time: two would fetch everything twice.
    let lock = File::create(data.lock()).with_context(|| format!("cannot open {}", data.lock().display()))?;
    lock.try_lock()
        .map_err(|_| anyhow::anyhow!("another `collect` is running on {}", data.path().display()))?;
    let keys = KeyPairs::load(data)?;
    let pair = keys.named(options.key.as_ref()).context("there are no keys with this name")?;
    let token_key = TokenKey::load(&data.token_key())?;
    let linker = LinkerClient::new(&options.linker, &pair.signing)?;
    let collecting = Collecting { linker, keys: &keys, token_key: &token_key, clock: now_s };
    let mut store = Store::open(&data.database())?;
    loop {
        let collected = collecting.collect(&mut store);
        match (collected, options.every) {
            (Ok(done), every) => {
                if json {
                    say_json(&serde_json::to_value(done)?)?
                } else {
                    say(&report::collection(&done))?
                };
                if every.is_none() && done.waiting > 0 {
                    return Err(SetAside(done.waiting).into());
                }
            }
            // What may pass is tried again at the next turn.
            (Err(error), Some(_)) => tracing::warn!("{error}"),
            (Err(error), None) => return Err(error.into()),
        }
        match options.every {
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
            None => return Ok(()),
        }
    }
}

/// Bundles were set aside: an outcome, and an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{0} bundles are set aside; see `lockgate-warehouse status`")]
struct SetAside(u64);

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<SetAside>() {
        return exit::SET_ASIDE;
    }
    match error.downcast_ref::<CollectError>() {
        Some(CollectError::Linker(LinkerError::Unreachable(_))) => exit::UNREACHABLE,
        _ => exit::FAILED,
    }
}

fn init(data: &DataFolder) -> anyhow::Result<()> {
    if data.database().exists() {
        bail!("{} is initialised already; nothing was changed", data.path().display());
    }
    lockgate_durable::create_private_dir(data.path())?;
    // A key that is there was made by an `init` that did not end: nothing is stored under it yet.
    TokenKey::create(&data.token_key())?;
    // The tables last: they are what makes the folder initialised.
    let making = data.path().join("warehouse.db.part");
    let _ = std::fs::remove_file(&making);
    Store::create(&making)?;
    std::fs::rename(&making, data.database()).context("cannot name the tables")?;
    lockgate_durable::sync_dir(data.path())?;
    say(&format!(
        "The warehouse in {} is ready.\nNext: lockgate-warehouse --data {0} key new NAME\n",
        data.path().display()
    ))
}

fn new_key(
    data: &DataFolder,
    name: &Name,
    not_before: Option<Date>,
    not_after: Option<Date>,
    json: bool,
) -> anyhow::Result<()> {
    let not_before = not_before.unwrap_or_else(|| jiff::Zoned::now().date());
    let not_after = match not_after {
        Some(day) => day,
        None => not_before.checked_add(1.year()).context("that is too late")?,
    };
    if not_before > not_after {
        bail!("the first day {not_before} is after the last day {not_after}; nothing was made");
    }
    let recipient = KeyPair::create(data, name)?.recipient(not_before, not_after)?;
    if json {
        return say_json(&serde_json::json!({ "recipient": recipient }));
    }
    say(&format!(
        "The keys are in {}; back them up.\nFor the publishing team, to add to the list of recipients:\n\n\
         [[recipient]]\n{}\nFor the linker's operator: lockgate-linker recipient add {name} {}\n",
        data.key(name).display(),
        toml::to_string(&recipient)?,
        recipient.signing_key
    ))
}
