//! `lockgate-publish`: see `--help`, and `docs/PUBLISHING.md`.

mod answer;
mod cli;
mod commands;
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
use lockgate_publish::codelist::{self, CSV_BYTES_MAX, CodelistFile};
use lockgate_publish::module::LoadedCodelist;
use lockgate_publish::publish;
use lockgate_publish::published::Published;
use lockgate_publish::repository::Repository;
use lockgate_publish::staging;
use lockgate_publish::workshop::folder::ModuleFolder;
use lockgate_signing::text_format::TEXT_BYTES_MAX;

use answer::Answer;
use cli::edits::CohortCommand;
use cli::signing::{KeyCommand, RootCommand};
use cli::{Cli, Command, FileAdd, FileCommand, Init, ModuleAdd, ModuleCommand, Place};
use commands::{edits, signing, upkeep};
use report::Report;

/// `publish` or `propose` with nothing to do.
const NOTHING_STAGED: u8 = 3;

fn main() -> ExitCode {
    let Cli { command, json, as_of } = Cli::parse();
    let answer = run(command, as_of.unwrap_or_else(Timestamp::now));
    match answer.and_then(|answer| print(&answer, json)) {
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

fn print(answer: &Answer, json: bool) -> anyhow::Result<ExitCode> {
    let text = if json { &format!("{}\n", answer.json) } else { &answer.text };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Output into `head` is no error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.context("cannot write the answer")?,
    }
    Ok(ExitCode::from(answer.exit_code))
}

fn run(command: Command, now: Timestamp) -> anyhow::Result<Answer> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let report = match command {
        Command::Key(KeyCommand::New(new)) => return signing::key_new(new),
        Command::Init(init) => match &init.roles {
            Some(roles) => return signing::init(&init, roles, now),
            None => init_on_one_machine(init, now)?,
        },
        Command::Root(RootCommand::Rotate(rotate)) => return signing::root_rotate(rotate, now),
        Command::Root(RootCommand::Extend(extend)) => return signing::root_extend(extend, now),
        Command::Module(ModuleCommand::New(new)) => return workshop(new.run(today)?),
        Command::Module(ModuleCommand::Check(check)) => return workshop(check.run(today)?),
        Command::Module(ModuleCommand::Test(test)) => return workshop(test.run()?),
        Command::Module(ModuleCommand::Diff(diff)) => return workshop(diff.run(today)?),
        Command::Module(ModuleCommand::Add(add)) => add_module(add, today)?,
        Command::Mapping(command) => add_file(command, staging::add_mapping)?,
        Command::Policy(command) => {
            add_file(command, |repository, bytes| staging::add_policy(repository, bytes, today))?
        }
        Command::Sensitive(command) => add_file(command, staging::add_sensitive)?,
        Command::Recipients(command) => {
            add_file(command, |repository, bytes| staging::add_recipients(repository, bytes, today))?
        }
        Command::Codelist(command) => add_file(command, staging::add_codelist)?,
        Command::TokenKeys(command) => {
            add_file(command, |repository, bytes| staging::add_token_keys(repository, bytes, today))?
        }
        Command::Direction(command) => {
            add_file(command, |repository, bytes| staging::add_direction(repository, bytes, today))?
        }
        Command::Cohort(CohortCommand::Set(set)) => edits::cohort_set(set)?,
        Command::Rollout(rollout) => edits::rollout(rollout, today)?,
        Command::Hold(hold) => edits::hold(hold, today)?,
        Command::Resume(resume) => edits::resume(resume)?,
        Command::Revoke(revoke) => edits::revoke(revoke, today)?,
        Command::Unstage(unstage) => edits::unstage(unstage)?,
        Command::Propose(propose) => return signing::propose(propose, now),
        Command::Review(review) => return signing::review(&review),
        Command::Sign(sign) => return signing::sign(sign),
        Command::Publish(publish) => return signing::publish(publish, now),
        Command::Refresh(refresh) => return upkeep::refresh(refresh, now),
        Command::Status(place) => return upkeep::status(place, now),
        Command::List(place) => {
            let repository = open(place)?;
            let live = repository.live()?;
            report::list(&live, live.published()?, &staging::staged(&repository)?)
        }
    };
    Answer::of(&report)
}

fn workshop(answer: workshop_report::Answer) -> anyhow::Result<Answer> {
    Ok(Answer::of(&answer)?.with_exit_code(answer.exit_code()))
}

/// Everything on one machine, for trying out.
fn init_on_one_machine(init: Init, now: Timestamp) -> anyhow::Result<Report> {
    let Init { dir, keys, expiry, root_days, .. } = init;
    let keys_dir = cli::keys_dir(&dir, keys);
    publish::init_on_one_machine(&dir, &keys_dir, expiry.with_root(root_days), now)?;
    Ok(report::init(dir, keys_dir))
}

fn add_module(add: ModuleAdd, today: Date) -> anyhow::Result<Report> {
    let repository = open(add.place)?;
    let codelists = add.codelists.iter().map(load_codelist).collect::<anyhow::Result<Vec<_>>>()?;
    let folder = ModuleFolder::new(add.module, add.wasm);
    let module = folder.prepare(Some(&Published::read(&repository)?), &codelists, today)?;
    if add.strict && !module.warnings.is_empty() {
        let warnings: Vec<_> = module.warnings.iter().map(ToString::to_string).collect();
        bail!(
            "{} draws warnings, and --strict refuses them: {}",
            folder.manifest().display(),
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
