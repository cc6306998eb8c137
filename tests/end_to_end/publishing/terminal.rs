//! Passphrases, asked for at a terminal.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lockgate_tests::command::finish;

use super::team::Team;
use crate::TestResult;

/// How long a program may take to ask: it makes a key out of a passphrase before, which is dear on purpose.
const PATIENCE: Duration = Duration::from_secs(60);

/// `lockgate-publish` at a terminal of its own.
struct Terminal<'t> {
    folder: &'t Path,
    /// util-linux's `script`, which has the other end of the terminal.
    script: Child,
}

impl<'t> Terminal<'t> {
    fn run(team: &Team, folder: &'t Path, arguments: &str) -> anyhow::Result<Self> {
        let program = team.binaries.program("lockgate-publish")?;
        let typed = format!("tty > terminal; exec {} {arguments}", program.display());
        let script = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &typed, "/dev/null"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(File::create(folder.join("shown"))?)
            .spawn()
            .context("util-linux's `script` is needed")?;
        Ok(Self { folder, script })
    }

    /// Types a line once the program has asked for it and the terminal shows nothing that is typed.
    fn answers(&mut self, question: &str, line: &str) -> TestResult {
        let began = Instant::now();
        while !(self.shown()?.contains(question) && self.is_silent()?) {
            ensure!(began.elapsed() < PATIENCE, "`{question}` is not asked:\n{}", self.shown()?);
            ensure!(self.script.try_wait()?.is_none(), "it ended before `{question}`:\n{}", self.shown()?);
            std::thread::sleep(Duration::from_millis(5));
        }
        let input = self.script.stdin.as_mut().context("its input is piped")?;
        Ok(input.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Everything that was shown, and the exit code.
    fn ends(mut self) -> anyhow::Result<(String, Option<i32>)> {
        let code = self.script.wait()?.code();
        Ok((self.shown()?, code))
    }

    fn shown(&self) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.folder.join("shown"))?).into_owned())
    }

    fn is_silent(&self) -> anyhow::Result<bool> {
        let terminal = std::fs::read_to_string(self.folder.join("terminal"))?;
        let settings = Command::new("stty").args(["--file", terminal.trim(), "--all"]).output()?;
        Ok(String::from_utf8_lossy(&settings.stdout).split_whitespace().any(|word| word == "-echo"))
    }
}

const GOOD: &str = "four random words here";

#[test]
fn a_new_key_asks_twice_and_shows_nothing() -> TestResult {
    let team = Team::before_the_ceremony()?;
    let folder = team.person("duty");

    let mut terminal = Terminal::run(&team, &folder, "key new mine.pem")?;
    terminal.answers("Passphrase of mine.pem: ", GOOD)?;
    terminal.answers("Again: ", "four random words hear")?;
    let (shown, code) = terminal.ends()?;
    ensure!(code == Some(1) && shown.contains("the two passphrases differ; nothing was made"), "{shown}");
    ensure!(!folder.join("mine.pem").exists(), "a key was made");

    let mut terminal = Terminal::run(&team, &folder, "key new mine.pem")?;
    terminal.answers("Passphrase of mine.pem: ", "too short")?;
    let (shown, code) = terminal.ends()?;
    ensure!(code == Some(1) && shown.contains("at least 10 characters"), "{shown}");

    let mut terminal = Terminal::run(&team, &folder, "key new mine.pem")?;
    terminal.answers("Passphrase of mine.pem: ", GOOD)?;
    terminal.answers("Again: ", GOOD)?;
    let (shown, code) = terminal.ends()?;
    ensure!(code == Some(0) && shown.contains("Made mine.pem and mine.pem.pub"), "{shown}");
    ensure!(!shown.contains("random"), "the passphrase is shown: {shown}");

    // It opens with that passphrase and with no other; as nobody knows the key, it signs nothing.
    let sign = format!("sign {} --key mine.pem", team.text("registry-init"));
    for (passphrase, said) in [(GOOD, "may sign none of its documents"), ("four words", "does not open")] {
        let mut terminal = Terminal::run(&team, &folder, &sign)?;
        terminal.answers("Passphrase of mine.pem: ", passphrase)?;
        let (shown, code) = terminal.ends()?;
        ensure!(code == Some(1) && shown.contains(said), "{shown}");
    }

    // Without a terminal it says what to do. (`setsid`: this test may have one.)
    let program = team.binaries.program("lockgate-publish")?;
    let mut alone = Command::new("setsid");
    alone
        .arg("--wait")
        .arg(program)
        .args(["key", "new", "other.pem"])
        .current_dir(&folder)
        .stdin(Stdio::null());
    let alone = finish(&mut alone)?.expect(1)?;
    ensure!(alone.stderr.contains("name a file descriptor with --passphrase-fd"), "{}", alone.stderr);
    Ok(())
}
