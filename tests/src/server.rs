//! A service of the centre as a process, on a free loopback port.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command::finish;

/// How long a server may take to listen: opening sealed keys is slow on purpose.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A server that runs or does not. Its log lies beside its folder.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    folder: PathBuf,
    process: Option<Child>,
    address: String,
}

impl Server {
    /// The server of a folder; it does not run yet.
    pub fn new(name: &'static str, folder: &Path) -> Self {
        Self { name, folder: folder.to_owned(), process: None, address: "127.0.0.1:0".to_owned() }
    }

    /// Starts a program that understands `--log`, `serve`, `--listen` and `--port-file`, and waits until it listens. A
    /// restarted server has the address that it had before.
    pub fn start(&mut self, mut program: Command) -> anyhow::Result<()> {
        let port_file = self.folder.with_extension("port");
        let _ = std::fs::remove_file(&port_file);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        program.args(["--log", "debug", "serve", "--listen", &self.address]);
        program.arg("--port-file").arg(&port_file).stdout(Stdio::null()).stderr(log);
        let mut process = program.spawn().with_context(|| format!("cannot start the {}", self.name))?;
        let started = Instant::now();
        loop {
            // The file appears whole, once the server listens.
            if let Ok(address) = std::fs::read_to_string(&port_file) {
                self.address = address.trim().to_owned();
                self.process = Some(process);
                return Ok(());
            }
            if let Some(status) = process.try_wait()? {
                bail!("the {} ended at once ({status}): {}", self.name, self.log());
            }
            if started.elapsed() > START_TIMEOUT {
                process.kill()?;
                bail!("the {} does not listen: {}", self.name, self.log());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let process = self.process().with_context(|| format!("the {} was not started", self.name))?;
        finish(Command::new("kill").args(["-TERM", &process.to_string()]))?.ok()?;
        self.wait().map(drop)
    }

    /// Waits until it has ended, as it does by itself at a failpoint; how it ended.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let mut process =
            self.process.take().with_context(|| format!("the {} was not started", self.name))?;
        let waited = Instant::now();
        loop {
            if let Some(status) = process.try_wait()? {
                return Ok(status);
            }
            if waited.elapsed() > END_TIMEOUT {
                process.kill()?;
                process.wait()?;
                bail!("the {} did not end: {}", self.name, self.log());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Its process id, for measuring.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Where it is dialled.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process goes with the test, whatever became of it.
        let _ = self.kill();
    }
}
