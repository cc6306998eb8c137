//! Makes synthetic practices and hospitals as SQLite databases.

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::Date;
use practice::draft::{Finish, Journal};
use practice::gp::GpRequest;
use practice::hospital::HospitalRequest;
use practice::{facts, gp, hospital, synthea};
use serde_json::{Value, json};

/// Makes synthetic GP practices and hospitals as SQLite databases, for demos, tests and benches.
///
/// Nobody in them exists. The same arguments make the same file.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Invents a practice, a hospital, or practices with the hospital that their patients go to
    ///
    /// A typical practice over four months (about 280,000 rows):
    ///   practice make practice --out practice.sqlite
    ///
    /// Five million events of a large one:
    ///   practice make practice --patients 125000 --months 7 --out large.sqlite
    ///
    /// Two practices and a hospital that share people, in a folder:
    ///   practice make pair --practices 2 --patients 1000 --out folder
    #[command(verbatim_doc_comment)]
    Make(Make),
    /// Imports CSV of Synthea into the same tables: practice-1.sqlite, practice-2.sqlite and hospital.sqlite
    ///
    /// Ambulatory and home encounters go to one of two practices, by a hash of the patient's id; emergency and inpatient
    /// ones to the hospital. Each patient gets a valid NHS number of the test range, a postcode, and a seeded share of
    /// them an objection: the CSV has none of these.
    Import(Import),
    /// Says in JSON what is in a database, counted by plain SQL
    Facts(FactsArguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One practice.
    Practice,
    /// One hospital.
    Hospital,
    /// Practices and a hospital of the same people; --out is a folder.
    Pair,
}

#[derive(Debug, Args)]
struct Make {
    /// What to make
    #[arg(value_enum)]
    kind: Kind,
    /// The file to write; for `pair` the folder
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Registered patients of each practice
    #[arg(long, default_value_t = 10_400, value_name = "N")]
    patients: u32,
    /// Coded entries and issues of medicines together, for each patient and month; about a quarter are issues
    #[arg(long, default_value_t = 6.45, value_name = "N")]
    events_per_patient_month: f64,
    /// Hospital spells for each of its patients and month
    #[arg(long, default_value_t = 0.1, value_name = "N")]
    spells_per_patient_month: f64,
    /// Months of events
    #[arg(long, default_value_t = 4, value_name = "N")]
    months: u32,
    /// The day of the run; events end with the last complete month before it
    #[arg(long, default_value = "2026-11-01", value_name = "DATE")]
    as_of: Date,
    /// The same seed makes the same people
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Practices of the seed: how many for `pair` and `hospital`
    #[arg(long, default_value_t = 1, value_name = "N")]
    practices: u32,
    /// Which practice of the seed, from 1; two of them share no patient
    #[arg(long, default_value_t = 1, value_name = "N")]
    number: u32,
    /// Plants this text in every identifiable field of one patient who does not object, and prints what to search for
    #[arg(long, value_name = "TEXT")]
    marker: Option<String>,
    /// Patients in 1,000 whose record says something about objections
    #[arg(long, default_value_t = 50, value_name = "N")]
    objections: u32,
    #[command(flatten)]
    file: FileArguments,
}

#[derive(Debug, Args)]
struct Import {
    /// The folder with Synthea's CSV: patients, encounters, conditions, observations, medications, procedures,
    /// immunizations
    #[arg(value_name = "FOLDER")]
    csv: PathBuf,
    /// The folder to write to
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Decides who objects, and how
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The day of the run: what counts as the future in an objection
    #[arg(long, default_value = "2026-01-01", value_name = "DATE")]
    as_of: Date,
    /// Patients in 1,000 whose record says something about objections
    #[arg(long, default_value_t = 50, value_name = "N")]
    objections: u32,
    #[command(flatten)]
    file: FileArguments,
}

#[derive(Debug, Clone, Copy, Args)]
struct FileArguments {
    /// How the database keeps its journal
    #[arg(long, value_enum, default_value_t = JournalArgument::Rollback)]
    journal: JournalArgument,
    /// Writes the same rows in another physical order
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Replaces a file that is there already
    #[arg(long)]
    replace: bool,
    /// Prints what was made as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum JournalArgument {
    /// One file
    Rollback,
    /// A write-ahead log beside it that holds the last rows, as a running system has
    Wal,
}

#[derive(Debug, Args)]
struct FactsArguments {
    /// A database that this program made
    #[arg(value_name = "FILE")]
    database: PathBuf,
    /// The day of the run
    #[arg(long, default_value = "2026-11-01", value_name = "DATE")]
    as_of: Date,
    /// Months to count rows of, before that day
    #[arg(long, default_value_t = 4, value_name = "N")]
    months: u32,
}

impl FileArguments {
    fn finish(self) -> Finish {
        let journal = match self.journal {
            JournalArgument::Rollback => Journal::Rollback,
            JournalArgument::Wal => Journal::Wal,
        };
        Finish { journal, shuffle: self.shuffle }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Make(arguments) => make(&arguments),
        Command::Import(arguments) => import(&arguments),
        Command::Facts(arguments) => facts(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(arguments: &Make) -> anyhow::Result<()> {
    for (argument, value) in [
        ("--events-per-patient-month", arguments.events_per_patient_month),
        ("--spells-per-patient-month", arguments.spells_per_patient_month),
    ] {
        anyhow::ensure!((0.0..=1_000.0).contains(&value), "{argument}: a number from 0 to 1,000");
    }
    for (argument, value) in [("--practices", arguments.practices), ("--number", arguments.number)] {
        anyhow::ensure!((1..=999).contains(&value), "{argument}: a number from 1 to 999");
    }
    if let Some(marker) = &arguments.marker {
        let fits =
            (6..=40).contains(&marker.len()) && marker.bytes().all(|byte| byte.is_ascii_alphanumeric());
        anyhow::ensure!(
            fits,
            "--marker: 6 to 40 letters and digits, so that it can be found and only once meant"
        );
    }
    let out = &arguments.out;
    let mut made = Vec::new();
    match arguments.kind {
        Kind::Practice => made.push(make_practice(arguments, arguments.number, out)?),
        Kind::Hospital => made.push(make_hospital(arguments, out)?),
        Kind::Pair => {
            std::fs::create_dir_all(out)
                .map_err(|error| anyhow::anyhow!("--out: {}: {error}", out.display()))?;
            for number in 1..=arguments.practices {
                made.push(make_practice(arguments, number, &out.join(format!("practice-{number}.sqlite")))?);
            }
            made.push(make_hospital(arguments, &out.join("hospital.sqlite"))?);
        }
    }
    print(&made, arguments.file.json || arguments.marker.is_some())
}

fn make_practice(arguments: &Make, number: u32, out: &std::path::Path) -> anyhow::Result<Value> {
    // Of 6.45 events 4.75 are coded entries and 1.7 are issues (England, all practices).
    let coded = arguments.events_per_patient_month * 4.75 / 6.45;
    let request = GpRequest {
        seed: arguments.seed,
        patients: arguments.patients,
        number,
        coded_per_patient_month: coded,
        issues_per_patient_month: arguments.events_per_patient_month - coded,
        months: arguments.months,
        as_of: arguments.as_of,
        marker: arguments.marker.clone(),
        objections_per_mille: arguments.objections,
    };
    let bar = bar("rows");
    let made = gp::make(&request, out, arguments.file.replace, arguments.file.finish(), &bar)?;
    bar.finish_and_clear();
    described("practice", out, &made)
}

fn make_hospital(arguments: &Make, out: &std::path::Path) -> anyhow::Result<Value> {
    let request = HospitalRequest {
        seed: arguments.seed,
        patients: arguments.patients,
        practices: arguments.practices,
        spells_per_patient_month: arguments.spells_per_patient_month,
        months: arguments.months,
        as_of: arguments.as_of,
        marker: arguments.marker.clone(),
        objections_per_mille: arguments.objections,
    };
    let bar = bar("spells");
    let made = hospital::make(&request, out, arguments.file.replace, arguments.file.finish(), &bar)?;
    bar.finish_and_clear();
    described("hospital", out, &made)
}

fn import(arguments: &Import) -> anyhow::Result<()> {
    let request = synthea::ImportRequest {
        seed: arguments.seed,
        as_of: arguments.as_of,
        objections_per_mille: arguments.objections,
        replace: arguments.file.replace,
        finish: arguments.file.finish(),
    };
    let bar = bar("rows");
    let made = synthea::import(&request, &arguments.csv, &arguments.out, &bar)?;
    bar.finish_and_clear();
    print(&[serde_json::to_value(&made)?], arguments.file.json)
}

fn facts(arguments: &FactsArguments) -> anyhow::Result<()> {
    let facts = facts::facts(&arguments.database, arguments.as_of, arguments.months)?;
    say(&serde_json::to_string_pretty(&facts)?)?;
    Ok(())
}

fn described(kind: &str, out: &std::path::Path, made: &impl serde::Serialize) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(made)?;
    value["kind"] = json!(kind);
    value["file"] = json!(out);
    Ok(value)
}

/// One object a file, as JSON or as a line for people.
fn print(made: &[Value], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        say(&serde_json::to_string_pretty(&json!({ "made": made }))?)?;
        return Ok(());
    }
    for value in made {
        let Value::Object(fields) = value else { continue };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let shown = fields.iter().filter(|(_, value)| !value.is_null());
        let line: Vec<String> =
            shown.map(|(name, value)| format!("{} {}", name.replace('_', " "), text(value))).collect();
        say(&line.join(", "))?;
    }
    Ok(())
}

/// Prints a line. Output into `head` is no error.
fn say(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A bar on a terminal; nothing in a pipe.
fn bar(unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{bar:30}} {{human_pos}} of {{human_len}} {unit}, {{eta}} left {{msg}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
