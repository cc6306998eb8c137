//! `serve`: each turn is a process of its own, which goes with the service and takes nothing with it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lockgate_tests::{ExactlyOnce, Site, SiteOptions, Stage};

use crate::TestResult;

/// How long a thing that happens at once may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A waiting agent, which goes with the test.
pub(crate) struct Service(Child);

impl Service {
    /// Starts it with a run every so many seconds.
    pub(crate) fn start(site: &Site, every_s: u32) -> anyhow::Result<Self> {
        let mut command = site.agent();
        command.args(["serve", "--every-s", &every_s.to_string()]).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }

    /// The process of its turn.
    fn turn(&self) -> anyhow::Result<String> {
        let id = self.0.id();
        let turns = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        turns.split_whitespace().next().map(str::to_owned).context("the service has no turn")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // SIGKILL: what it was doing hears of it only by its end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_run_goes_with_its_service_and_the_next_one_sends_all() -> TestResult {
    let trial = Trial::new()?;
    let service = Service::start(&trial.site, 3_600)?;
    let _unanswered = trial.hanging_push()?;
    let busy = trial.site.command(&["outbox"])?.expect(1)?;
    ensure!(busy.stderr.contains("another agent is running"), "{}", busy.stderr);
    drop(service);
    let started = Instant::now();
    while trial.site.command(&["outbox"])?.code != Some(0) {
        ensure!(started.elapsed() < PATIENCE, "the run is still there");
    }
    trial.sends_all()
}

#[test]
fn a_service_outlives_a_turn_that_is_killed() -> TestResult {
    let trial = Trial::new()?;
    let service = Service::start(&trial.site, 1)?;
    let first = trial.hanging_push()?;
    let turn = service.turn()?;
    lockgate_tests::command::finish(std::process::Command::new("kill").args(["-9", &turn]))?.ok()?;
    let _second = trial.hanging_push()?;
    ensure!(service.turn()? != turn, "the turn is still there");
    drop((first, service));
    trial.sends_all()
}

#[test]
fn an_output_that_nobody_reads_is_no_error() -> TestResult {
    let trial = Trial::new()?;
    trial.site.command(&["refresh"])?.ok()?;
    for arguments in [&["history"][..], &["modules"], &["--json", "modules"]] {
        let mut command = trial.site.agent();
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let mut said = String::new();
        BufReader::new(child.stderr.take().context("no standard error")?).read_to_string(&mut said)?;
        ensure!(child.wait()?.success() && said.is_empty(), "{arguments:?}: {said}");
    }
    Ok(())
}

/// A site whose linker takes connections and does not answer.
struct Trial {
    stage: Stage,
    site: Site,
    silent: TcpListener,
}

impl Trial {
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let database = stage.practice_database("practice", 60)?;
        let site = stage.site("practice", SiteOptions::practice("A81001", &database))?;
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let config = std::fs::read_to_string(site.config_path())?;
        let url = format!("http://{}", silent.local_addr()?);
        std::fs::write(site.config_path(), config.replace(&stage.linker.url(), &url))?;
        Ok(Self { stage, site, silent })
    }

    /// Waits until somebody has asked the linker; the answer never comes while what is returned is kept.
    fn hanging_push(&self) -> anyhow::Result<TcpStream> {
        let (connection, _) = self.silent.accept()?;
        BufReader::new(&connection).read_line(&mut String::new())?;
        Ok(connection)
    }

    /// With the real linker back.
    fn sends_all(&self) -> TestResult {
        let config = std::fs::read_to_string(self.site.config_path())?;
        let url = format!("http://{}", self.silent.local_addr()?);
        std::fs::write(self.site.config_path(), config.replace(&url, &self.stage.linker.url()))?;
        self.site.command(&["run"])?.ok()?;
        ExactlyOnce::new(&self.stage.linker, &self.site).check(4)
    }
}
