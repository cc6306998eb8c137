//! A linker on a free loopback port, as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::Context as _;

use crate::binaries::Binaries;
use crate::command::{Finished, finish};
use crate::server::Server;
use crate::site::Site;

/// A linker: its folder, and the server while it runs.
#[derive(Debug)]
pub struct Linker {
    program: PathBuf,
    serving_program: PathBuf,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    server: Server,
}

impl Linker {
    /// Makes a linker in `folder/linker`; it does not run yet.
    pub fn new(binaries: &Binaries, folder: &Path) -> anyhow::Result<Self> {
        let (program, folder) = (binaries.program("lockgate-linker")?, folder.join("linker"));
        let server = Server::new("linker", &folder);
        let linker =
            Self { serving_program: program.clone(), program, folder, environment: Vec::new(), server };
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

    /// Enrols a site with a new token.
    pub fn enrol(&self, site: &Site) -> anyhow::Result<()> {
        let token = site.folder.join("enrolment-token");
        let token_text = token.display().to_string();
        self.command(&["site", "add", &site.options.id, "--token-file", &token_text])?.ok()?;
        site.command(&["enrol", "--token-file", &token_text])?.ok()?;
        std::fs::remove_file(&token).context("the token was used")
    }

    /// Serves with another build of the program, with these environment variables, from the next start on.
    pub fn serve_with(&mut self, program: PathBuf, environment: &[(&str, &str)]) {
        self.serving_program = program;
        self.environment = environment.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    }

    /// Starts the server and waits until it listens. A restarted server has the address that it had before.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let mut program = Command::new(&self.serving_program);
        program.arg("--data").arg(&self.folder).envs(self.environment.iter().cloned());
        self.server.start(program)
    }

    /// Kills the server (SIGKILL) and waits for its end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Waits until the server has ended by itself, as it does at a failpoint; how it ended.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.server.wait()
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// The server's process id, for measuring.
    pub fn process(&self) -> Option<u32> {
        self.server.process()
    }

    /// Where agents send to.
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
