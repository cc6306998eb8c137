//! A registry of the size that a nation needs: 500 published files, 6,200 sites in cohorts.
//!
//! `publish`: a change of one rollout on top of it, through the program, the check with the agent's client included, which
//! fetches all of it. `first-refresh`: an agent that was installed today, over loopback HTTP. `refresh-nothing-new`: the same
//! agent once more; what it asks and what it is sent are counted by the web server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use lockgate_tests::http::{FalseLinker, Message};
use lockgate_tests::{AS_OF, Site, SiteOptions, Stage};

use crate::process::{self, Usage, medians};

const RUNS: usize = 5;
/// Two files each: a manifest and a component.
const MODULE_VERSIONS: usize = 100;
const COHORTS: usize = 62;
const SITES_OF_A_COHORT: usize = 100;
/// With the modules, the cohorts, the examples, the rollout and the list of holds: 500.
const FILES: usize = 500;

/// The registry, published.
struct Large {
    stage: Stage,
    /// The first publication of all of it.
    first: Usage,
}

impl Large {
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::unpublished(AS_OF)?;
        stage.registry.add_examples()?;
        let guest = stage.binaries.guest("gp-monthly")?;
        let manifest = stage.binaries.root().join("guest-modules/gp-monthly/module.toml");
        stage.registry.add_module(&manifest, &guest, &[])?;
        // Staged files are plain files: what `module add` staged, under further versions.
        let staged = stage.registry.location().join("staged");
        let module = newest_below(&staged.join("modules/gp-monthly"))?;
        let text = std::fs::read_to_string(module.join("manifest.toml"))?;
        let version = module.file_name().and_then(|name| name.to_str()).context("no version")?.to_owned();
        for patch in 1..MODULE_VERSIONS {
            let next = format!("1.7.{patch}");
            let folder = staged.join("modules/gp-monthly").join(&next);
            std::fs::create_dir_all(&folder)?;
            let line = |version: &str| format!("version = \"{version}\"");
            std::fs::write(folder.join("manifest.toml"), text.replacen(&line(&version), &line(&next), 1))?;
            std::fs::copy(module.join("component.wasm"), folder.join("component.wasm"))?;
        }
        for cohort in 0..COHORTS {
            let sites: Vec<_> = (0..SITES_OF_A_COHORT)
                .map(|site| format!("{:?}", format!("A{:05}", cohort * SITES_OF_A_COHORT + site)))
                .collect();
            let text = format!(
                "format = 1\nid = \"wave-{cohort}\"\nversion = \"1.0.0\"\ntitle = \"A wave\"\nsites = [{}]\n",
                sites.join(", ")
            );
            write_staged(&staged, &format!("cohorts/wave-{cohort}"), &text)?;
        }
        stage.registry.publish_command(&["rollout", "gp-monthly", "1.7.1", "--to", "wave-0"])?.ok()?;
        // Two signed texts in `holds` and `rollouts`, four examples, the recipients, and the token keys of each purpose.
        let so_far = 2 * MODULE_VERSIONS + COHORTS + 2 + 4 + 1 + lockgate_tests::sealed_keys::PURPOSES.len();
        for list in so_far..FILES {
            let text = format!(
                "format = 1\nid = \"list-{list}\"\nversion = \"1.0.0\"\ntitle = \"A list\"\n[codes]\nsnomed = [\"44054006\"]\n"
            );
            write_staged(&staged, &format!("codelists/list-{list}"), &text)?;
        }
        let first = process::run(&publish(&stage)?, None)?;
        let listed = stage.registry.publish_command(&["list", "--json"])?.ok()?.json()?;
        let count = listed["published"].as_array().map_or(0, Vec::len);
        ensure!(count == FILES, "{count} files are published and not {FILES}");
        Ok(Self { stage, first })
    }

    /// A site that reads it from this address.
    fn site(&self, name: &str, registry: &str) -> anyhow::Result<Site> {
        let id = format!("A{:05}", 7);
        let site =
            self.stage.site_not_enrolled(name, SiteOptions::practice(&id, Path::new("none.sqlite")))?;
        site.write_config(Path::new(registry), &self.stage.registry.root(), "http://127.0.0.1:9")?;
        Ok(site)
    }
}

fn newest_below(folder: &Path) -> anyhow::Result<PathBuf> {
    let entry = std::fs::read_dir(folder)?.next().context("nothing is staged")??;
    Ok(entry.path())
}

fn write_staged(staged: &Path, of: &str, text: &str) -> anyhow::Result<()> {
    let folder = staged.join(of);
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join("1.0.0.toml"), text)?)
}

fn publish(stage: &Stage) -> anyhow::Result<Command> {
    let mut command = Command::new(stage.binaries.program("lockgate-publish")?);
    command.args(["publish", "--as-of", AS_OF]).arg("--repository").arg(stage.registry.location());
    command.arg("--keys").arg(stage.registry.keys());
    Ok(command)
}

/// `publish` of one change.
pub(crate) fn publish_one_change() -> anyhow::Result<(f64, String)> {
    let large = Large::new()?;
    let mut runs = Vec::new();
    for run in 0..RUNS {
        let to = format!("wave-{}", run + 1);
        let rollout = ["rollout", "gp-monthly", "1.7.1", "--to", &to];
        large.stage.registry.publish_command(&rollout)?.ok()?;
        runs.push(process::run(&publish(&large.stage)?, None)?);
    }
    let found = medians(&runs);
    let detail = format!(
        "CPU {:.2} s, peak {:.0} MiB; the first publication of all {FILES} files {:.2} s",
        found.cpu_s, found.peak_mib, large.first.wall_s
    );
    Ok((found.wall_s, detail))
}

/// The refresh of an agent that has seen nothing yet.
pub(crate) fn first_refresh() -> anyhow::Result<(f64, String)> {
    let large = Large::new()?;
    let web = Web::new(&large.stage.registry.location())?;
    let mut runs = Vec::new();
    for run in 0..RUNS {
        let site = large.site(&format!("site-{run}"), &web.server.url())?;
        let mut command = site.agent();
        command.arg("refresh");
        runs.push(process::run(&command, None)?);
    }
    let found = medians(&runs);
    let each = |total: u64| total / RUNS as u64;
    let detail = format!(
        "CPU {:.2} s; {} requests, {} kB",
        found.cpu_s,
        each(web.requests()),
        each(web.bytes()) / 1_000
    );
    Ok((found.wall_s, detail))
}

/// What a refresh with nothing new costs: requests, CPU milliseconds, bytes of the answers.
pub(crate) fn nothing_new(what: NothingNew) -> anyhow::Result<(f64, String)> {
    let large = Large::new()?;
    let web = Web::new(&large.stage.registry.location())?;
    let site = large.site("site", &web.server.url())?;
    let mut command = site.agent();
    command.arg("refresh");
    process::run(&command, None)?;
    let (requests, bytes) = (web.requests(), web.bytes());
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.push(process::run(&command, None)?);
    }
    let each = |total: u64| total as f64 / RUNS as f64;
    let (requests, bytes) = (each(web.requests() - requests), each(web.bytes() - bytes));
    let found = medians(&runs);
    let cpu_ms = found.cpu_s * 1e3;
    let detail =
        format!("{requests:.1} requests, {cpu_ms:.0} ms CPU, {bytes:.0} bytes, {:.0} ms", found.wall_s * 1e3);
    let value = match what {
        NothingNew::Requests => requests,
        NothingNew::Cpu => cpu_ms,
        NothingNew::Bytes => bytes,
    };
    Ok((value, detail))
}

/// Which figure of a refresh with nothing new.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NothingNew {
    /// Requests.
    Requests,
    /// CPU time, milliseconds.
    Cpu,
    /// Bytes of the answers, heads included.
    Bytes,
}

/// A web server that serves a folder and counts.
struct Web {
    server: FalseLinker,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Web {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let (requests, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (folder, counted, sent) = (folder.to_owned(), Arc::clone(&requests), Arc::clone(&bytes));
        let server = FalseLinker::new(move |request: &Message| {
            let answer = answer(&folder, request);
            counted.fetch_add(1, Ordering::Relaxed);
            sent.fetch_add(answer.len() as u64, Ordering::Relaxed);
            answer
        })?;
        Ok(Self { server, requests, bytes })
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn answer(folder: &Path, request: &Message) -> Vec<u8> {
    let path = request.start.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    match std::fs::read(folder.join(path)) {
        Ok(body) => lockgate_tests::http::answer("HTTP/1.1 200 OK", &body),
        Err(_) => lockgate_tests::http::answer("HTTP/1.1 404 Not Found", b""),
    }
}
