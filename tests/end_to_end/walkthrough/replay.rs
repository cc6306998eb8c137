//! The blocks of `docs/PUBLISHING.md`, typed in their order, each on the computer that its first line names.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use lockgate_tests::command::finish;
use lockgate_tests::{AS_OF, Binaries};
use tempfile::TempDir;

use crate::TestResult;
use crate::page::{Block, Page};

/// Everybody's passphrase.
const PASSPHRASE: &str = "correct horse battery staple";
/// What a terminal, a service and a calendar would give: the passphrase, the agent's configuration, the day.
const COMPUTER: &str = r#"
lockgate-publish() {
    local more=(--as-of "$AS_OF")
    case "$1 ${2-}" in
        "key new" | "sign "*) [[ " $* " == *" --no-passphrase "* ]] || more+=(--passphrase-fd 3) ;;
    esac
    command lockgate-publish "$@" "${more[@]}" 3< "$PASSPHRASE_FILE"
}
lockgate-agent() { command lockgate-agent --config agent.toml --as-of "$AS_OF" "$@"; }
"#;

/// The page while it is typed.
pub(super) struct Replay {
    pub(super) binaries: Binaries,
    dir: TempDir,
    left: VecDeque<Step>,
    /// What was exported on each computer.
    exports: BTreeMap<String, String>,
    /// What was printed since the section began.
    printed: String,
}

struct Step {
    section: String,
    block: Block,
}

impl Replay {
    pub(super) fn begin() -> anyhow::Result<Self> {
        let binaries = Binaries::locate()?;
        let dir = tempfile::Builder::new().prefix("lockgate-walkthrough-").tempdir()?;
        let mut left = VecDeque::new();
        for section in Page::read("docs/PUBLISHING.md")?.sections {
            for block in section.blocks {
                let is_typed = match block.language.as_str() {
                    "sh" | "text" => true,
                    "toml" => block.lines.first().is_some_and(|line| line.starts_with("# $SHARED/")),
                    // What this computer has not got: a systemd.
                    "console" => {
                        ensure!(block.lines.iter().any(|line| line.contains("systemctl")), "{block:?}");
                        false
                    }
                    "mermaid" => false,
                    other => anyhow::bail!("a block of {other}: who would type it?"),
                };
                if is_typed {
                    left.push_back(Step { section: section.title.clone(), block });
                }
            }
        }
        std::fs::write(dir.path().join("passphrase"), format!("{PASSPHRASE}\n"))?;
        let replay = Self { binaries, dir, left, exports: BTreeMap::new(), printed: String::new() };
        std::fs::create_dir(replay.place("shared"))?;
        std::fs::create_dir(replay.place("online"))?;
        let examples = replay.binaries.root().join("examples");
        std::os::unix::fs::symlink(examples, replay.place("online").join("examples"))?;
        Ok(replay)
    }

    /// Somebody's folder.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Types the rest of this section, which must be the next one.
    pub(super) fn through(&mut self, section: &str) -> TestResult {
        ensure!(self.left.front().is_some_and(|step| step.section == section), "{section} is not next");
        while let Some(step) = self.left.pop_front_if(|step| step.section == section) {
            self.take(&step.block).with_context(|| section.to_owned())?;
        }
        self.printed.clear();
        Ok(())
    }

    /// Types what stands in this section before the next block of this computer alone.
    pub(super) fn until(&mut self, section: &str, place: &str) -> TestResult {
        loop {
            let next = self.left.front().filter(|step| step.section == section);
            let next = next.with_context(|| format!("nobody types at {place} any more in {section}"))?;
            if places(&next.block) == [place] {
                return Ok(());
            }
            if let Some(step) = self.left.pop_front() {
                self.take(&step.block).with_context(|| section.to_owned())?;
            }
        }
    }

    /// Types the next block, which is of this computer alone.
    pub(super) fn next(&mut self, place: &str) -> TestResult {
        let step = self.left.pop_front().context("the page is at its end")?;
        ensure!(places(&step.block) == [place], "the next block is of {:?}", places(&step.block));
        self.take(&step.block)
    }

    /// The page is at its end.
    pub(super) fn end(self) -> TestResult {
        let left: Vec<_> = self.left.iter().map(|step| &step.section).collect();
        ensure!(left.is_empty(), "was not typed: {left:?}");
        Ok(())
    }

    fn take(&mut self, block: &Block) -> TestResult {
        match block.language.as_str() {
            "toml" => {
                let (name, text) = block.lines.split_first().context("an empty file")?;
                let name = name.trim_start_matches("# $SHARED/");
                Ok(std::fs::write(self.place("shared").join(name), text.join("\n"))?)
            }
            "text" => {
                let missing = block.lines.iter().find(|line| !self.printed.contains(line.trim()));
                ensure!(missing.is_none(), "not printed: {missing:?}\n{}", self.printed);
                Ok(())
            }
            _ => places(block).into_iter().try_for_each(|place| self.type_at(&place, block)),
        }
    }

    fn type_at(&mut self, place: &str, block: &Block) -> TestResult {
        let folder = self.place(place);
        std::fs::create_dir_all(&folder)?;
        let exports = self.exports.entry(place.to_owned()).or_default();
        let script = format!("{COMPUTER}\n{exports}\n{}", block.script());
        for line in block.lines.iter().filter(|line| line.starts_with("export ")) {
            exports.push_str(&format!("{line}\n"));
        }
        let programs = self.binaries.program("lockgate-publish")?;
        let programs = programs.parent().context("programs are in a folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = Command::new("bash");
        bash.args(["-c", &script])
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("CARGO_TARGET_DIR", self.binaries.root().join("target/guest-build"))
            .env("SHARED", self.place("shared"))
            .env("ME", place)
            .env("AS_OF", AS_OF)
            .env("PASSPHRASE_FILE", self.place("passphrase"));
        let typed = finish(&mut bash)?;
        ensure!(typed.code == Some(0), "at {place}:\n{}\n{}", typed.stdout, typed.stderr);
        self.printed.push_str(&typed.stdout);
        Ok(())
    }
}

/// Whose computers a block is typed on: its first line says so.
fn places(block: &Block) -> Vec<String> {
    let first =
        block.lines.first().and_then(|line| line.strip_prefix("# ")).filter(|_| block.language == "sh");
    first.into_iter().flat_map(|places| places.split(", ")).map(str::to_owned).collect()
}
