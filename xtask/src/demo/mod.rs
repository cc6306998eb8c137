//! `cargo xtask demo`: the whole flow on one machine, and a check of its numbers by somebody who was not there.
//!
//! 1. Build the modules and programs.
//! 2. Make (or import) the databases of two practices and a hospital.
//! 3. Publish three modules, the mappings, the objection policy and the sensitive codes; start a linker.
//! 4. Enrol the sites; each approves what is offered to it, and runs its agent.
//! 5. Count in the source databases, with plain SQL, what should have come of it; compare.
//! 6. Look at the linker's side: every bundle once, every block on disk.

mod codes;
mod figures;
mod linker_side;
mod lists;
mod show;
mod sources;
mod truth;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use lockgate_tests::{Site, SiteOptions, Stage};
use serde_json::Value;

use figures::{Difference, Figures};
use lists::Lists;
use sources::{Source, Sources};

/// What `cargo xtask demo` is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Use Synthea's CSV in place of invented patients: a folder that holds `synthea-300` or `synthea-300.tar.xz`, and
    /// optionally `codelists` or `codelists.tar.xz`
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one JSON object: numbers by site, module and month, and what differs
    #[arg(long)]
    json: bool,
    /// Keep everything in this folder, which must be new or empty, and print what to look at there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Arguments {
    /// For a stage of the tests: tables, and nothing is kept.
    pub(crate) fn on(data: Option<PathBuf>) -> Self {
        Self { data, json: false, keep: None }
    }
}

/// The modules that are published.
const MODULES: [&str; 3] = ["gp-monthly", "diabetes-register", "hospital-episodes"];

/// A site that has run, with what its agent said and what SQL says.
struct Ran {
    source: Source,
    site: Site,
    /// What `lockgate-agent --json run` printed.
    printed: Value,
    /// What it printed when it was run a second time.
    again: Value,
    reported: Figures,
    truth: Figures,
}

/// Runs the demonstration; `false` if anything differs.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<bool> {
    crate::guests::build(root)?;
    crate::cargo::build_programs(root)?;
    run_built(root, arguments)
}

/// Runs the demonstration with programs that are built.
pub(crate) fn run_built(root: &Path, arguments: &Arguments) -> Result<bool> {
    let temporary;
    let folder = match &arguments.keep {
        Some(folder) => new_folder(folder)?,
        None => {
            temporary = sources::temporary_folder()?;
            temporary.path().to_owned()
        }
    };
    let sources = Sources::make(&folder, arguments.data.as_deref())?;
    let lists = Lists::read(root, &sources.codelists)?;
    let stage = publish(root, &folder, &sources)?;
    let enrolled = sources.sites.iter().map(|source| enrol(&stage, source, &sources.as_of));
    let enrolled = enrolled.collect::<Result<Vec<_>>>()?;
    say("running the agents of the three sites, all at once");
    let ran = run_sites(enrolled, &sources, &lists)?;
    say("checking the linker's side");
    let linker = linker_side::check(&stage, &ran)?;
    let mut differences: Vec<Difference> =
        ran.iter().flat_map(|ran| figures::differences(&ran.source.id, &ran.reported, &ran.truth)).collect();
    differences.extend(linker.differences.iter().cloned());
    if arguments.json {
        println!("{:#}", show::json(&sources.as_of, &ran, &linker, &differences));
    } else {
        show::tables(&sources.as_of, &ran, &linker);
        show::verdict(&ran, &linker, &differences);
        show::where_next(&stage, &ran, arguments.keep.is_some());
    }
    Ok(differences.is_empty())
}

/// What is going on, for whoever waits; standard output is for the result.
fn say(what: &str) {
    eprintln!("demo: {what}");
}

fn new_folder(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("--keep {}", folder.display()))?;
    let is_empty = std::fs::read_dir(folder)?.next().is_none();
    ensure!(is_empty, "--keep {}: the folder is not empty", folder.display());
    Ok(folder.canonicalize()?)
}

/// A registry with the modules and everything that they need, and a running linker.
fn publish(root: &Path, folder: &Path, sources: &Sources) -> Result<Stage> {
    say("publishing the modules and starting a linker");
    let stage = Stage::in_folder(folder, &sources.as_of)?;
    stage.registry.add_examples()?;
    for module in MODULES {
        let manifest = sources.manifest(root, folder, module)?;
        let mut codelists = Vec::new();
        for codelist in sources.codelists.iter().filter(|_| module == "diabetes-register") {
            codelists.extend(["--codelist".to_owned(), codelist.argument()]);
        }
        let codelists: Vec<&str> = codelists.iter().map(String::as_str).collect();
        stage.registry.add_module(&manifest, &stage.binaries.guest(module)?, &codelists)?;
    }
    stage.registry.publish()?;
    Ok(stage)
}

/// A site that the linker knows.
fn enrol(stage: &Stage, source: &Source, as_of: &str) -> Result<Site> {
    let options = match source.kind {
        sources::Kind::Practice => SiteOptions::practice(&source.id, &source.database),
        sources::Kind::Hospital => SiteOptions::hospital(&source.id, &source.database),
    };
    stage.site(&source.name, SiteOptions { as_of: as_of.to_owned(), approve: "within-scope", ..options })
}

/// Runs every agent at the same time, as they do in a country, and counts in its database.
fn run_sites(enrolled: Vec<Site>, sources: &Sources, lists: &Lists) -> Result<Vec<Ran>> {
    std::thread::scope(|scope| {
        let run = |(site, source)| scope.spawn(move || run_site(site, source, sources, lists));
        let running: Vec<_> = enrolled.into_iter().zip(&sources.sites).map(run).collect();
        let ended =
            running.into_iter().map(|site| site.join().map_err(|_| anyhow!("a site's thread panicked"))?);
        ended.collect()
    })
}

fn run_site(site: Site, source: &Source, sources: &Sources, lists: &Lists) -> Result<Ran> {
    site.approve_all()?;
    let printed = site.run()?;
    let reported = figures::reported(&printed)?;
    let truth = truth::of(source, &sources.as_of, sources.whole_history, lists)
        .with_context(|| format!("cannot count in {}", source.database.display()))?;
    // Nothing is due any more: the months that a module looks back to are made again and found unchanged.
    let again = site.run()?;
    Ok(Ran { source: source.clone(), site, printed, again, reported, truth })
}
