//! `lockgate-publish`: see `--help`, and `docs/PUBLISHING.md`.

mod cli;
mod report;
mod workshop_cli;
mod workshop_report;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lockgate_publish::change::Change;
use lockgate_publish::codelist::{self, CSV_BYTES_MAX, CodelistFile};
use lockgate_publish::keys::{Keyring, KeysError};
use lockgate_publish::module::{self, LoadedCodelist};
use lockgate_publish::publish::{self, Publication};
use lockgate_publish::repository::{Live, Repository};
use lockgate_publish::staging;
use lockgate_signing::text_format::TEXT_BYTES_MAX;
use zeroize::Zeroizing;

use cli::{Cli, Command, FileAdd, FileCommand, Init, ModuleAdd, ModuleCommand, Place, Publish};
use report::Report;

/// The largest file of a compiler that is read, bytes: debug information makes it larger than what is published.
const WASM_BYTES_MAX: u64 = 256 << 20;
/// `publish` with nothing to do.
const NOTHING_STAGED: u8 = 3;

fn main() -> ExitCode {
    let Cli { command, json, as_of } = Cli::parse();
    let report = run(command, as_of.unwrap_or_else(Timestamp::now));
    match report.and_then(|report| print(&report, json).map(|()| report.exit_code())) {
        Ok(exit_code) => exit_code,
        Err(error) => {
            eprintln!("lockgate-publish: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; many errors name their cause themselves, and it is said once.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(cause.trim_end()) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(cause.trim_end());
        }
    }
    text
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string(report)? + "\n" } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the answer")
}

fn run(command: Command, now: Timestamp) -> anyhow::Result<Report> {
    let today = now.to_zoned(TimeZone::UTC).date();
    match command {
        Command::Init(init) => run_init(init, now),
        Command::Module(ModuleCommand::Add(add)) => add_module(add, today),
        Command::Module(ModuleCommand::New(new)) => new.run(today).map(Report::Workshop),
        Command::Module(ModuleCommand::Check(check)) => check.run(today).map(Report::Workshop),
        Command::Module(ModuleCommand::Test(test)) => test.run().map(Report::Workshop),
        Command::Module(ModuleCommand::Diff(diff)) => diff.run(today).map(Report::Workshop),
        Command::Mapping(command) => add_file(command, staging::add_mapping),
        Command::Policy(command) => {
            add_file(command, |repository, bytes| staging::add_policy(repository, bytes, today))
        }
        Command::Sensitive(command) => add_file(command, staging::add_sensitive),
        Command::Publish(publish) => run_publish(publish, now),
        Command::List(place) => {
            let repository = open(place)?;
            let live = repository.live()?;
            Ok(report::list(&live, live.published()?, &staging::staged(&repository)?))
        }
    }
}

fn run_init(init: Init, now: Timestamp) -> anyhow::Result<Report> {
    let Init { dir, keys, expiry, root_days } = init;
    let keys_dir = cli::keys_dir(&dir, keys);
    Repository::check_places(&dir, &keys_dir)?;
    let keys = Keyring::create(&keys_dir, random_seed)?;
    let expiry = expiry.with_root(root_days);
    let mut first = Change::first(&keys.table(), expiry, now)?;
    for key in keys.iter() {
        first.sign(&Live::default(), key)?;
    }
    publish::init(&dir, &keys_dir, &first, &keys, expiry, now)?;
    Ok(report::init(dir, keys_dir))
}

fn random_seed() -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| KeysError::NoRandomness(error.to_string()))?;
    Ok(seed)
}

fn add_module(add: ModuleAdd, today: Date) -> anyhow::Result<Report> {
    let repository = open(add.place)?;
    let manifest = String::from_utf8(read(&add.manifest, TEXT_BYTES_MAX as u64)?)
        .with_context(|| add.manifest.display().to_string())?;
    let wasm = read(&add.wasm, WASM_BYTES_MAX)?;
    let codelists = add.codelists.iter().map(load_codelist).collect::<anyhow::Result<Vec<_>>>()?;
    let module = module::prepare(&manifest, wasm, &codelists, today)
        .with_context(|| format!("{} with {}", add.manifest.display(), add.wasm.display()))?;
    if add.strict && !module.warnings.is_empty() {
        let warnings: Vec<_> = module.warnings.iter().map(ToString::to_string).collect();
        bail!(
            "{} draws warnings, and --strict refuses them: {}",
            add.manifest.display(),
            warnings.join("; ")
        );
    }
    let (path, staged) = staging::add_module(&repository, &module)?;
    Ok(report::added(path, staged, module.warnings))
}

fn load_codelist(list: &CodelistFile) -> anyhow::Result<LoadedCodelist> {
    let bytes = read(&list.file, CSV_BYTES_MAX)?;
    let codes = codelist::read(&bytes, &list.system, list.column.as_deref())
        .with_context(|| list.file.display().to_string())?;
    Ok(LoadedCodelist { name: list.name.clone(), system: list.system.clone(), codes })
}

fn add_file(
    command: FileCommand,
    stage: impl FnOnce(
        &Repository,
        &[u8],
    )
        -> Result<(lockgate_signing::target::TargetPath, staging::StagedAs), staging::StagingError>,
) -> anyhow::Result<Report> {
    let FileAdd { file, place } = command.add();
    let repository = open(place)?;
    let bytes = read(&file, TEXT_BYTES_MAX as u64)?;
    let (path, staged) = stage(&repository, &bytes).with_context(|| file.display().to_string())?;
    Ok(report::added(path, staged, Vec::new()))
}

fn run_publish(publish: Publish, now: Timestamp) -> anyhow::Result<Report> {
    let keys_dir = cli::keys_dir(&publish.place.repository, publish.place.keys.clone());
    let repository = open(publish.place)?;
    let keys = Keyring::load(&keys_dir)?;
    // The root is not signed here.
    let expiry = publish.expiry.with_root(1);
    Ok(match publish::publish(&repository, &keys, expiry, now, publish.renew)? {
        Publication::NothingStaged => report::nothing_staged(NOTHING_STAGED),
        Publication::Published { added, version, expires } => report::published(&added, version, expires),
    })
}

fn open(place: Place) -> anyhow::Result<Repository> {
    let keys_dir = cli::keys_dir(&place.repository, place.keys);
    Ok(Repository::open(&place.repository, &keys_dir)?)
}

fn read(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .with_context(failed)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .with_context(failed)?;
    if bytes.len() as u64 > bytes_max {
        bail!("{} has more than {bytes_max} bytes", path.display());
    }
    Ok(bytes)
}
