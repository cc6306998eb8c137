//! The agent as a program: its first run at a typical practice, its size, its memory while it waits.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use lockgate_tests::command::finish;

use crate::data::{Data, FreshSite, TYPICAL};
use crate::process::{self, medians};

/// Runs whose median counts.
const RUNS: usize = 5;
/// How long a waiting agent is looked at, and how long its first look may take.
const SETTLE: Duration = Duration::from_secs(2);
const FIRST_LOOK_MAX: Duration = Duration::from_secs(120);

/// From the start of the process to the last receipt, through a running linker.
pub(crate) fn first_run(data: &Data) -> anyhow::Result<(f64, String)> {
    let database = data.practice(TYPICAL)?;
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        // A linker of its own for each run: the blocks of the run before would otherwise be there already.
        let fresh = FreshSite::new(&database, &[])?;
        let mut command = fresh.site.agent();
        command.arg("run");
        runs.push(process::run(&command, None)?);
        ensure!(fresh.bundles()?.is_empty(), "the run left bundles in the outbox");
    }
    let found = medians(&runs);
    Ok((
        found.wall_s,
        format!("{:.2} s on all cores, peak {:.0} MiB; four bundles", found.cpu_s, found.peak_mib),
    ))
}

/// The program's size without debug information.
pub(crate) fn binary_size(data: &Data) -> anyhow::Result<(f64, String)> {
    let stripped = data.folder().join("stripped");
    let built = data.binaries.program("lockgate-agent")?;
    finish(Command::new("strip").arg("-o").arg(&stripped).arg(&built))?.ok()?;
    let megabytes = |path: &Path| anyhow::Ok(std::fs::metadata(path)?.len() as f64 / 1e6);
    Ok((megabytes(&stripped)?, format!("{:.1} MB as built", megabytes(&built)?)))
}

/// What `serve` holds once its first look is done and it waits.
pub(crate) fn idle_memory(data: &Data) -> anyhow::Result<(f64, String)> {
    let fresh = FreshSite::new(&data.practice(TYPICAL)?, &[])?;
    let mut command = fresh.site.agent();
    command.arg("serve").stdout(Stdio::null()).stderr(Stdio::null());
    let serving = Serving(command.spawn()?);
    let receipts = fresh.site.state().join("receipts");
    let started = Instant::now();
    while std::fs::read_dir(&receipts).map_or(0, Iterator::count) < 4 {
        if started.elapsed() > FIRST_LOOK_MAX {
            bail!("the agent's first look takes more than {} s", FIRST_LOOK_MAX.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(SETTLE);
    let status = std::fs::read_to_string(format!("/proc/{}/status", serving.0.id()))?;
    let of = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find(|line| line.starts_with(name)).context("no such line in status")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no figure in status")?.parse()?;
        Ok(kib * 1_024.0 / 1e6)
    };
    let detail = format!("anonymous {:.1} MB; its first look was a process of its own", of("RssAnon:")?);
    Ok((of("VmRSS:")?, detail))
}

/// A program that ends with its row.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
