//! A page of `docs/`, read as somebody reads it who types what it says.

use anyhow::Context as _;
use lockgate_tests::Binaries;

/// A page, in its order.
pub(crate) struct Page {
    pub(crate) sections: Vec<Section>,
}

/// What stands under one heading, up to the next one of any level.
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) blocks: Vec<Block>,
}

/// What stands between two fences.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) lines: Vec<String>,
}

impl Page {
    /// Reads a page of the project, for example `docs/MODULES.md`.
    pub(crate) fn read(file: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(Binaries::locate()?.root().join(file)).context(file.to_owned())?;
        let mut sections = vec![Section { title: String::new(), blocks: Vec::new() }];
        let mut open: Option<Block> = None;
        for line in text.lines() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => {
                    open = Some(Block { language: language.to_owned(), lines: Vec::new() });
                }
                (Some(_), Some(_)) => {
                    let last = sections.last_mut().context("a page begins with a section")?;
                    last.blocks.extend(open.take());
                }
                (Some(block), None) => block.lines.push(line.to_owned()),
                (None, None) if line.starts_with('#') => {
                    let title = line.trim_start_matches('#').trim().to_owned();
                    sections.push(Section { title, blocks: Vec::new() });
                }
                (None, None) => {}
            }
        }
        Ok(Self { sections })
    }
}

impl Block {
    /// For bash: each command is shown, and each must succeed, but for those that the page says are refused: those must
    /// exit with 1.
    pub(crate) fn script(&self) -> String {
        let typed = self.lines.iter().map(|line| {
            let shown = line.replace('\'', "\"");
            if line.contains("# refused") || line.ends_with("exits with 1") {
                format!("echo '$ {shown}'\ncode=0\n{{ {line}\n}} || code=$?\n[ $code -eq 1 ]\n")
            } else {
                format!("echo '$ {shown}'\n{line}\n")
            }
        });
        format!("set -eu\n{}", typed.collect::<String>())
    }
}
