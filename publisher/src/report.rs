//! What a command answers: text for people, one JSON object for scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use comfy_table::{Table, presets};
use jiff::Timestamp;
use lockgate_publish::documents::TargetEntry;
use lockgate_publish::keys::pinned_root_path;
use lockgate_publish::lint::Warning;
use lockgate_publish::repository::Live;
use lockgate_publish::role::Role;
use lockgate_publish::staging::StagedAs;
use lockgate_signing::digest::Digest;
use lockgate_signing::target::TargetPath;
use serde::Serialize;

/// The answer of one command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Report {
    Init {
        repository: PathBuf,
        keys: PathBuf,
        root: PathBuf,
    },
    #[serde(rename_all = "kebab-case")]
    Added {
        path: String,
        staged: StagedAs,
        warnings: Vec<Warning>,
    },
    /// As one types it.
    Unstaged {
        removed: BTreeSet<String>,
        staged: BTreeSet<String>,
    },
    #[serde(rename_all = "kebab-case")]
    Published {
        published: bool,
        version: Option<u64>,
        expires: Option<Timestamp>,
        added: Vec<String>,
    },
    List {
        version: u64,
        expires: Timestamp,
        published: Vec<Line>,
        staged: Vec<Line>,
    },
}

/// One file.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    kind: &'static str,
    id: String,
    version: String,
    bytes: u64,
    digest: Option<Digest>,
    path: String,
}

pub(crate) fn init(repository: PathBuf, keys: PathBuf) -> Report {
    Report::Init { repository, root: pinned_root_path(&keys), keys }
}

pub(crate) fn added(path: TargetPath, staged: StagedAs, warnings: Vec<Warning>) -> Report {
    Report::Added { path: path.to_string(), staged, warnings }
}

pub(crate) fn unstaged(removed: BTreeSet<String>, staged: BTreeSet<String>) -> Report {
    Report::Unstaged { removed, staged }
}

pub(crate) fn nothing_staged() -> Report {
    Report::Published { published: false, version: None, expires: None, added: Vec::new() }
}

pub(crate) fn published(added: &[TargetPath], version: u64, expires: Timestamp) -> Report {
    let added = added.iter().map(ToString::to_string).collect();
    Report::Published { published: true, version: Some(version), expires: Some(expires), added }
}

pub(crate) fn list(
    live: &Live,
    published: BTreeMap<TargetPath, TargetEntry>,
    staged: &BTreeMap<TargetPath, Vec<u8>>,
) -> Report {
    let line = |path: &TargetPath, bytes, digest| Line {
        kind: path.kind().name(),
        id: path.id().to_string(),
        version: path.version().to_string(),
        bytes,
        digest,
        path: path.to_string(),
    };
    Report::List {
        version: live.version(Role::Snapshot),
        expires: live.first_end().unwrap_or_default(),
        published: published.iter().map(|(path, entry)| line(path, entry.length, entry.digest())).collect(),
        staged: staged
            .iter()
            .map(|(path, bytes)| line(path, bytes.len() as u64, Some(Digest::of(bytes))))
            .collect(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init { repository, keys, root } => {
                writeln!(
                    f,
                    "Made the repository {} and its keys in {}.",
                    repository.display(),
                    keys.display()
                )?;
                writeln!(f, "Keep the keys secret and backed up. Every site needs {}.", root.display())
            }
            Self::Added { path, staged, warnings } => {
                for warning in warnings {
                    writeln!(f, "warning: {warning}")?;
                }
                match staged {
                    StagedAs::New => writeln!(f, "Staged {path}. `publish` makes it live."),
                    StagedAs::Replaced => {
                        writeln!(
                            f,
                            "Staged {path} in place of what was staged before. `publish` makes it live."
                        )
                    }
                    StagedAs::Unchanged => writeln!(f, "{path} was staged already."),
                    StagedAs::AlreadyPublished => writeln!(f, "{path} is live already, with the same bytes."),
                }
            }
            Self::Unstaged { removed, staged } => {
                for removed in removed {
                    writeln!(f, "Took back {removed}.")?;
                }
                writeln!(f, "Staged:{}", if staged.is_empty() { " nothing" } else { "" })?;
                staged.iter().try_for_each(|staged| writeln!(f, "  {staged}"))
            }
            Self::Published { published: false, .. } => {
                writeln!(
                    f,
                    "Nothing is staged. `refresh` signs the timestamp again; `propose OUT --renew` has its keys sign again \
                     what is live."
                )
            }
            Self::Published { version, expires, added, .. } => {
                for path in added {
                    writeln!(f, "Published {path}")?;
                }
                let (version, expires) = (version.unwrap_or_default(), expires.unwrap_or_default());
                writeln!(
                    f,
                    "Version {version} is live. `refresh` keeps it so, before {expires}; `status` says what else ends."
                )
            }
            Self::List { version, expires, published, staged } => {
                writeln!(f, "Version {version}, to be signed again before {expires}")?;
                write_lines(f, "Published", published)?;
                write_lines(f, "Staged", staged)
            }
        }
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, title: &str, lines: &[Line]) -> fmt::Result {
    if lines.is_empty() {
        return writeln!(f, "\n{title}: nothing");
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["kind", "id", "version", "bytes", "sha256"]);
    for line in lines {
        let digest = line.digest.map(|digest| digest.to_hex()[..12].to_owned()).unwrap_or_default();
        table.add_row([line.kind, &line.id, &line.version, &line.bytes.to_string(), &digest]);
    }
    writeln!(f, "\n{title}:\n{}", table.trim_fmt())
}
