//! A keyholder on a free loopback port, as a process.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::binaries::Binaries;
use crate::command::{Finished, finish};
use crate::server::Server;

/// A keyholder: its folder, and the server while it runs.
#[derive(Debug)]
pub struct Keyholder {
    program: PathBuf,
    folder: PathBuf,
    passphrase: PathBuf,
    server: Server,
}

impl Keyholder {
    /// Makes a keyholder in `folder/keyholder` with a key for each domain; it does not run yet.
    pub fn new(binaries: &Binaries, folder: &Path, domains: &[&str]) -> anyhow::Result<Self> {
        let passphrase = folder.join("keyholder-passphrase");
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&passphrase)?;
        file.write_all(b"a passphrase for tests and nothing else\n")?;
        let (program, folder) = (binaries.program("lockgate-keyholder")?, folder.join("keyholder"));
        let server = Server::new("keyholder", &folder);
        let keyholder = Self { program, folder, passphrase, server };
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
        let program = self.program(&self.passphrase);
        self.server.start(program)
    }

    /// Kills the server (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Asks the server to end (SIGTERM), and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop()
    }

    /// The server's process id, for measuring.
    pub fn process(&self) -> Option<u32> {
        self.server.process()
    }

    /// Where agents ask.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.server.log_path()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.server.log()
    }
}
