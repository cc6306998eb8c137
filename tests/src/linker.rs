//! A linker on a free loopback port, as a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::binaries::Binaries;
use crate::command::{Finished, finish};

/// A linker: its folder, and the server while it runs.
#[derive(Debug)]
pub struct Linker {
    program: PathBuf,
    serving_program: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    server: Option<Child>,
    address: String,
}

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to end once its work makes it end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

impl Linker {
    /// Makes a linker in `folder/linker`; it does not run yet.
    pub fn new(binaries: &Binaries, folder: &Path) -> anyhow::Result<Self> {
        let program = binaries.program("lockgate-linker")?;
        let linker = Self {
            serving_program: program.clone(),
            program,
            folder: folder.join("linker"),
            environment: Vec::new(),
            server: None,
            address: "127.0.0.1:0".to_owned(),
        };
        linker.command(&["init"])?.ok()?;
        Ok(linker)
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command of `lockgate-linker` on it.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        finish(Command::new(&self.program).arg("--data").arg(&self.folder).args(arguments))
    }

    /// Serves with another build of the program, with these environment variables, from the next start on.
    pub fn serve_with(&mut self, program: PathBuf, environment: &[(&str, &str)]) {
        self.serving_program = program;
        self.environment = environment.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    }

    /// Starts the server and waits until it listens. A restarted server has the address that it had before.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let port_file = self.folder.with_extension("port");
        let _ = std::fs::remove_file(&port_file);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.serving_program);
        command.arg("--data").arg(&self.folder).args(["--log", "debug", "serve", "--listen", &self.address]);
        command.arg("--port-file").arg(&port_file).envs(self.environment.iter().cloned());
        command.stdout(Stdio::null()).stderr(log);
        let mut server = command.spawn().context("cannot start the linker")?;
        let started = Instant::now();
        loop {
            // The file appears whole, once the server listens.
            if let Ok(address) = std::fs::read_to_string(&port_file) {
                self.address = address.trim().trim_start_matches("http://").to_owned();
                self.server = Some(server);
                return Ok(());
            }
            if let Some(status) = server.try_wait()? {
                bail!("the linker ended at once ({status}): {}", self.log());
            }
            if started.elapsed() > START_TIMEOUT {
                server.kill()?;
                bail!("the linker does not listen: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills the server (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Waits until the server has ended by itself, as it does at a failpoint; how it ended.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let mut server = self.server.take().context("the linker was not started")?;
        let waited = Instant::now();
        loop {
            if let Some(status) = server.try_wait()? {
                return Ok(status);
            }
            if waited.elapsed() > END_TIMEOUT {
                server.kill()?;
                server.wait()?;
                bail!("the linker did not end by itself: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// The server's process id, for measuring.
    pub fn process(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Where agents send to.
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

impl Drop for Linker {
    fn drop(&mut self) {
        // The process goes with the test, whatever became of it.
        let _ = self.kill();
    }
}
