//! One attack: a copy of a registry and of a site that has run from it, and the agent that meets the attack.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lockgate_tests::command::finish;
use lockgate_tests::http::{FalseLinker, Message, answer};
use lockgate_tests::{AS_OF, Binaries, Finished, SiteOptions, Stage, copy_folder};
use tempfile::TempDir;

use super::forge::Forge;
use crate::TestResult;

/// The module that the site runs.
pub(crate) const MODULE: &str = "control";

/// A registry, a linker, and a site that has run its module once. Shared by the tests that run at the same time; each
/// attack works on copies.
struct Ground {
    stage: Stage,
    site: PathBuf,
}

static GROUND: Mutex<Weak<Ground>> = Mutex::new(Weak::new());

impl Ground {
    fn shared() -> anyhow::Result<Arc<Self>> {
        let mut shared = GROUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ground) = shared.upgrade() {
            return Ok(ground);
        }
        let stage = Stage::new(&[MODULE])?;
        let database = stage.practice_database("practice", 20)?;
        let site = stage.site("site", SiteOptions::practice("A81001", &database))?;
        site.run()?;
        let ground = Arc::new(Self { site: site.folder.clone(), stage });
        *shared = Arc::downgrade(&ground);
        Ok(ground)
    }
}

/// One attack.
pub(crate) struct Case {
    folder: TempDir,
    /// Its linker runs as long as it is held.
    _ground: Arc<Ground>,
    binaries: Binaries,
    /// The attacker's hands.
    pub(crate) forge: Forge,
}

impl Case {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let ground = Ground::shared()?;
        let folder = tempfile::Builder::new().prefix("lockgate-attack-").tempdir()?;
        copy_folder(&ground.stage.registry.location(), &folder.path().join("registry"))?;
        copy_folder(&ground.site, &folder.path().join("site"))?;
        let forge = Forge::of(&folder.path().join("registry"), &ground.stage.registry.keys())?;
        let case = Self { folder, _ground: ground, binaries: Binaries::locate()?, forge };
        case.move_registry(&case.forge.repository().display().to_string())?;
        Ok(case)
    }

    /// The folder of this case.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program by its name.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.binaries.program(name)
    }

    /// The agent's record of the registry.
    pub(super) fn trust(&self) -> PathBuf {
        self.folder.path().join("site/state/trust")
    }

    /// Gives the agent another address for the registry.
    pub(super) fn move_registry(&self, location: &str) -> TestResult {
        self.configure("location", &format!("{location:?}"))
    }

    fn configure(&self, key: &str, value: &str) -> TestResult {
        let file = self.folder.path().join("site/agent.toml");
        let text = std::fs::read_to_string(&file)?;
        let line = text.lines().find(|line| line.split_once(" = ").is_some_and(|(name, _)| name == key));
        let line = line.with_context(|| format!("the configuration has no {key}"))?;
        Ok(std::fs::write(file, text.replace(line, &format!("{key} = {value}")))?)
    }

    /// Gives up an answer of the registry that is not there after this many seconds.
    pub(super) fn give_up_after_s(&self, seconds: u64) -> TestResult {
        let file = self.folder.path().join("site/agent.toml");
        let text = std::fs::read_to_string(&file)?;
        Ok(std::fs::write(
            file,
            text.replace("[registry]\n", &format!("[registry]\ngive-up-s = {seconds}\n")),
        )?)
    }

    /// A web server in place of the registry's folder: `attack` answers, or the registry does where it is silent.
    pub(super) fn serve(
        &self,
        attack: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> TestResult {
        self.move_registry(&self.served(attack)?)
    }

    /// The address of such a server.
    pub(crate) fn served(
        &self,
        attack: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> anyhow::Result<String> {
        let folder = self.forge.repository().to_owned();
        let server = FalseLinker::new(move |request: &Message| {
            let path = request.start.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            attack(path).unwrap_or_else(|| match std::fs::read(folder.join(path)) {
                Ok(bytes) => answer("HTTP/1.1 200 OK", &bytes),
                Err(_) => answer("HTTP/1.1 404 Not Found", b""),
            })
        })?;
        Ok(server.url())
    }

    pub(super) fn agent(&self, program: &Path, as_of: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.folder.path().join("site/agent.toml"));
        command.args(["--as-of", as_of]).args(arguments);
        command
    }

    pub(super) fn run(&self, as_of: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
        finish(&mut self.agent(&self.binaries.program("lockgate-agent")?, as_of, arguments))
    }

    /// The agent dies at this place in a refresh, without any clean-up.
    pub(super) fn refresh_dies_at(&self, place: &str) -> TestResult {
        let program = self.binaries.with_failpoints("lockgate-agent")?;
        let mut command = self.agent(&program, AS_OF, &["refresh"]);
        let died = finish(command.env("FAILPOINTS", format!("{place}=return")))?;
        ensure!(died.code.is_none(), "{place}: the agent did not die: {died:?}");
        Ok(())
    }

    /// A refresh that finds nothing wrong; what it said.
    pub(super) fn refreshes(&self) -> anyhow::Result<Finished> {
        self.refreshes_on(AS_OF)
    }

    pub(super) fn refreshes_on(&self, as_of: &str) -> anyhow::Result<Finished> {
        self.run(as_of, &["refresh"])?.ok()
    }

    /// The attack: a refresh fails and says this, and the agent goes on with what it ran before.
    pub(super) fn is_refused(&self, says: &str) -> TestResult {
        self.is_refused_on(AS_OF, says)
    }

    pub(super) fn is_refused_on(&self, as_of: &str, says: &str) -> TestResult {
        let refused = self.run(as_of, &["refresh"])?.expect(1)?;
        ensure!(refused.stderr.contains(says), "not said: {says}\n{}", refused.stderr);
        self.still_runs_on(as_of)
    }

    /// The agent runs what it ran before.
    pub(super) fn still_runs(&self) -> TestResult {
        self.still_runs_on(AS_OF)
    }

    pub(super) fn still_runs_on(&self, as_of: &str) -> TestResult {
        let ran = self.run(as_of, &["--json", "run"])?.ok()?.json()?;
        let modules = ran["modules"].as_array().context("no modules")?;
        let ran_it = modules.iter().any(|module| module["module"] == MODULE && module["error"].is_null());
        ensure!(ran_it && modules.len() == 1, "the agent ran {ran}");
        self.is_installed("1.0.0")
    }

    /// The agent has this version of the module installed, and no other.
    pub(super) fn is_installed(&self, version: &str) -> TestResult {
        let listed = self.run(AS_OF, &["--json", "modules"])?.ok()?.json()?;
        let modules = listed["modules"].as_array().context("no modules")?;
        let installed: Vec<_> = modules.iter().filter(|module| module["state"] == "installed").collect();
        let is_it =
            matches!(installed[..], [module] if module["module"] == MODULE && module["version"] == version);
        ensure!(is_it, "the agent lists {listed}");
        Ok(())
    }
}

/// A server that sends a byte now and then, for ever; its address.
pub(super) fn drip() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n";
                let mut sent = stream.write_all(head);
                while sent.is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                    sent = stream.write_all(b" ");
                }
            });
        }
    });
    Ok(format!("http://{address}"))
}
