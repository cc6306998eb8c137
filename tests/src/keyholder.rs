//! A keyholder on a free loopback port, as a process.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::binaries::Binaries;
use crate::command::{Finished, finish};

/// A keyholder: its folder, and the server while it runs.
#[derive(Debug)]
pub struct Keyholder {
    program: PathBuf,
    folder: PathBuf,
    passphrase: PathBuf,
    server: Option<Child>,
    address: String,
}

/// How long a server may take to listen: opening the sealed keys is slow on purpose.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server may take to end when it is asked to.
const END_TIMEOUT: Duration = Duration::from_secs(30);

impl Keyholder {
    /// Makes a keyholder in `folder/keyholder` with a key for each domain; it does not run yet.
    pub fn new(binaries: &Binaries, folder: &Path, domains: &[&str]) -> anyhow::Result<Self> {
        let passphrase = folder.join("keyholder-passphrase");
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&passphrase)?;
        file.write_all(b"a passphrase for tests and nothing else\n")?;
        let keyholder = Self {
            program: binaries.program("lockgate-keyholder")?,
            folder: folder.join("keyholder"),
            passphrase,
            server: None,
            address: "127.0.0.1:0".to_owned(),
        };
        keyholder.command(&["init"])?.ok()?;
        domains.iter().try_for_each(|domain| keyholder.command(&["key", "new", domain])?.ok().map(|_| ()))?;
        Ok(keyholder)
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command of `lockgate-keyholder` on it.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        self.command_with(&self.passphrase, arguments)
    }

    /// The same, with the passphrase in another file.
    pub fn command_with(&self, passphrase: &Path, arguments: &[&str]) -> anyhow::Result<Finished> {
        finish(self.program(passphrase).args(arguments))
    }

    fn program(&self, passphrase: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data").arg(&self.folder).arg("--passphrase-file").arg(passphrase);
        command
    }

    /// Its keys: domain, epoch, public key.
    pub fn keys(&self) -> anyhow::Result<Vec<(String, u64, String)>> {
        let listed = self.command(&["--json", "keys"])?.ok()?.json()?;
        let keys = listed["keys"].as_array().context("a list of keys")?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok(keys
            .iter()
            .map(|key| (text(&key["domain"]), key["epoch"].as_u64().unwrap_or(0), text(&key["public-key"])))
            .collect())
    }

    /// Starts the server and waits until it listens. A restarted server has the address that it had before.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let port_file = self.folder.with_extension("port");
        let _ = std::fs::remove_file(&port_file);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = self.program(&self.passphrase);
        command
            .args(["--log", "debug", "serve", "--listen", &self.address])
            .arg("--port-file")
            .arg(&port_file);
        command.stdout(Stdio::null()).stderr(log);
        let mut server = command.spawn().context("cannot start the keyholder")?;
        let started = Instant::now();
        loop {
            // The file appears whole, once the server listens.
            if let Ok(address) = std::fs::read_to_string(&port_file) {
                self.address = address.trim().to_owned();
                self.server = Some(server);
                return Ok(());
            }
            if let Some(status) = server.try_wait()? {
                bail!("the keyholder ended at once ({status}): {}", self.log());
            }
            if started.elapsed() > START_TIMEOUT {
                server.kill()?;
                bail!("the keyholder does not listen: {}", self.log());
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

    /// Asks the server to end (SIGTERM), and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut server = self.server.take().context("the keyholder was not started")?;
        finish(Command::new("kill").args(["-TERM", &server.id().to_string()]))?.ok()?;
        let asked = Instant::now();
        while server.try_wait()?.is_none() {
            if asked.elapsed() > END_TIMEOUT {
                server.kill()?;
                server.wait()?;
                bail!("the keyholder did not end: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The server's process id, for measuring.
    pub fn process(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Where agents ask.
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

impl Drop for Keyholder {
    fn drop(&mut self) {
        // The process goes with the test, whatever became of it.
        let _ = self.kill();
    }
}
