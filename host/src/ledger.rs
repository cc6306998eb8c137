//! The ledger: the site's hash-chained record of what was made, sent and acknowledged.
//!
//! One JSON object a line, each with the SHA-256 of the line before it, so that a line that was changed or taken out is
//! seen. A line is written before the next step is taken; a torn last line is what a crash leaves and is cut off, because
//! what it would have said had not happened yet.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use lockgate_durable::{FileError, at};
use lockgate_signing::digest::Digest;
use lockgate_signing::ids::{BundleId, Name, Period, SiteId};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line does not follow from the one before it.
    #[error(
        "{}: line {line} was changed or does not follow from the line before it; nothing is sent until the ledger is restored from a backup",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The configuration's site was changed over the state of another.
    #[error(
        "{} is the ledger of {enrolled}, and the configuration is of {configured}: set `site` right, or give {configured} \
         a `state-dir` of its own and enrol it there; nothing was changed", path.display()
    )]
    OtherSite {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        enrolled: SiteId,
        /// Whose it should be.
        configured: SiteId,
    },
    /// Larger than any ledger.
    #[error("{} is larger than {LEDGER_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// About a hundred years of monthly runs of ten modules.
const LEDGER_BYTES_MAX: u64 = 64 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The site's key was registered at the linker.
    Enrolled {
        /// The site; absent in ledgers that were begun before it was written down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<SiteId>,
        /// The key's id.
        key: String,
    },
    /// A bundle was sealed and is in the outbox.
    Sealed {
        /// The bundle.
        bundle: String,
        /// Its place in the site's chain.
        sequence: u64,
        /// The module.
        module: Name,
        /// The module's version.
        version: Version,
        /// The month.
        period: Period,
        /// The epoch of its tokens.
        epoch: u32,
        /// Rows of all outputs.
        rows: u64,
        /// Bytes of all blocks.
        bytes: u64,
        /// Dissents that the objection evidence held, to see whether they drop.
        dissents: u64,
        /// The directions that were applied.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        directions: Vec<Digest>,
        /// Keyed digest of the content, to see whether a later extraction differs. Means nothing to anybody else.
        content: String,
    },
    /// The linker's receipt was verified and stored.
    Acknowledged {
        /// The bundle.
        bundle: String,
        /// Its place in the site's chain.
        sequence: u64,
        /// SHA-256 of the receipt.
        receipt: Digest,
    },
    /// A retraction was sealed and is in the outbox: the centre is asked to delete. Whose rows, and why, is nowhere in here.
    Retracted {
        /// The bundle.
        bundle: String,
        /// Its place in the site's chain.
        sequence: u64,
        /// The module whose rows are to be deleted.
        module: Name,
        /// The ids of the keys that it was encrypted to: each recipient has to say that it has deleted.
        recipients: Vec<String>,
    },
    /// A recipient's statement that it has deleted was verified and stored.
    Deleted {
        /// The retraction.
        bundle: String,
        /// Its place in the site's chain.
        sequence: u64,
        /// The module whose rows were deleted.
        module: Name,
        /// The recipient, as the list of recipients calls it.
        recipient: Name,
        /// The id of the key that the retraction was encrypted to.
        key: String,
        /// SHA-256 of the statement.
        statement: Digest,
    },
    /// A module's run failed and sent nothing.
    Failed {
        /// The module.
        module: Name,
        /// The module's version.
        version: Version,
        /// What the operator was told.
        why: String,
    },
    /// A version of a module was installed: from here on it is what runs.
    Installed {
        /// The module.
        module: Name,
        /// The version.
        version: Version,
        /// The signed manifest, which names the component.
        manifest: Digest,
        /// The rollout by which it was offered.
        rollout: Digest,
        /// The last day that the rollout gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Date>,
        /// Who or what approved it.
        how: Approval,
    },
    /// The site refused a module, or one version of it.
    Refused {
        /// The module.
        module: Name,
        /// The version; every one when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
    /// The publishing team revoked a version. For ever, whatever it says later.
    Revoked {
        /// The module.
        module: Name,
        /// The version.
        version: Version,
        /// Since when.
        since: Date,
        /// Why.
        reason: String,
    },
    /// A token key of the scheme `sealed-key` was installed.
    TokenKeyInstalled {
        /// The purpose.
        domain: Name,
        /// The epoch.
        epoch: u32,
    },
    /// The site's controller answered a direction.
    DirectionAnswered {
        /// The direction.
        direction: Name,
        /// Its version; a later one is asked about again.
        version: Version,
        /// The signed document.
        document: Digest,
        /// Yes or no.
        accepted: bool,
    },
}

/// Who or what approved an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Somebody at the site.
    Person,
    /// It reads and sends no more than what ran before.
    WithinScope,
    /// The site approves everything.
    Auto,
    /// The same version again, under another rollout.
    Renewed,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// SHA-256 of the line before it; of nothing for the first.
    pub previous: Digest,
    /// When it was written (as of the run's day, where one was given).
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The ledger, whole in memory: 200 bytes an entry.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    last: Digest,
}

impl Ledger {
    /// Opens and verifies a ledger, whosever it is; makes an empty one where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at("open", path))?;
        let Parsed { entries, last, whole, length } = parse(path, &mut file)?;
        if whole < length {
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(at("repair", path))?;
        }
        file.seek(SeekFrom::End(0)).map_err(at("open", path))?;
        lockgate_durable::sync_parent(path)?;
        Ok(Self { path: path.to_owned(), file, entries, last })
    }

    /// The configured site's, verified, to be written; an empty one where there is none.
    pub fn of_site(config: &Config) -> Result<Self, LedgerError> {
        let ledger = Self::open(&config.ledger_path())?;
        belongs_to_site(&ledger.entries, config)?;
        Ok(ledger)
    }

    /// The entries of the configured site's, which another process may be writing: nothing is repaired, and a line that is not
    /// whole yet does not count.
    pub fn entries_of_site(config: &Config) -> Result<Vec<Entry>, LedgerError> {
        let entries = Self::read(&config.ledger_path())?;
        belongs_to_site(&entries, config)?;
        Ok(entries)
    }

    fn read(path: &Path) -> Result<Vec<Entry>, LedgerError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at("open", path)(error).into()),
        };
        Ok(parse(path, file)?.entries)
    }

    /// Writes an entry; it is on stable storage when this returns.
    pub fn append(&mut self, at_time: Timestamp, event: Event) -> Result<(), LedgerError> {
        let entry = Entry { previous: self.last, at: at_time, event };
        let mut line =
            serde_json::to_vec(&entry).map_err(std::io::Error::from).map_err(at("write", &self.path))?;
        line.push(b'\n');
        let start = self.file.stream_position().map_err(at("write", &self.path))?;
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_all()) {
            // A part of a line would make the next one unreadable. If cutting it off fails too, the next start does it.
            let _ = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
            return Err(at("write", &self.path)(error).into());
        }
        self.last = Digest::of(&line);
        self.entries.push(entry);
        Ok(())
    }

    /// Everything, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The last sealed bundle, of whichever kind: what the next one follows.
    pub fn head(&self) -> Option<(u64, BundleId)> {
        self.entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Sealed { bundle, sequence, .. } | Event::Retracted { bundle, sequence, .. } => {
                Some((*sequence, bundle.parse().ok()?))
            }
            _ => None,
        })
    }

    /// The last retraction of a module's, by its place in the chain.
    pub fn retracted_at(&self, of: &Name) -> Option<u64> {
        self.entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Retracted { sequence, module, .. } if module == of => Some(*sequence),
            _ => None,
        })
    }

    /// The retractions that not every recipient has said to have followed.
    pub fn retractions_open(&self) -> Vec<OpenRetraction<'_>> {
        OpenRetraction::all(&self.entries)
    }

    /// Every sealed bundle of rows, oldest first.
    pub fn sealed(&self) -> impl DoubleEndedIterator<Item = SealedEntry<'_>> {
        self.entries.iter().filter_map(|entry| match &entry.event {
            Event::Sealed { bundle, sequence, module, period, content, .. } => Some(SealedEntry {
                bundle: bundle.parse().ok()?,
                sequence: *sequence,
                module,
                period: *period,
                content,
            }),
            _ => None,
        })
    }

    /// Dissents that the objection evidence held when the last bundle was made; none before the first.
    pub fn dissents(&self) -> u64 {
        let last = self.entries.iter().rev().find_map(|entry| match entry.event {
            Event::Sealed { dissents, .. } => Some(dissents),
            _ => None,
        });
        last.unwrap_or(0)
    }

    /// The epochs under which a module has sent tokens, in order.
    pub fn epochs(&self, of: &Name) -> Vec<u32> {
        let epochs = self.entries.iter().filter_map(|entry| match &entry.event {
            Event::Sealed { module, epoch, .. } if module == of => Some(*epoch),
            _ => None,
        });
        epochs.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The last bundle of a module and period.
    pub fn latest(&self, module: &Name, period: Period) -> Option<SealedEntry<'_>> {
        self.sealed().rev().find(|sealed| sealed.module == module && sealed.period == period)
    }
}

/// The linker would refuse what another site's chain goes on with, but only once it is sent.
fn belongs_to_site(entries: &[Entry], config: &Config) -> Result<(), LedgerError> {
    let other = entries.iter().find_map(|entry| match &entry.event {
        Event::Enrolled { site: Some(site), .. } if *site != config.site => Some(site.clone()),
        _ => None,
    });
    let Some(enrolled) = other else { return Ok(()) };
    Err(LedgerError::OtherSite { path: config.ledger_path(), enrolled, configured: config.site.clone() })
}

/// A retraction that is not, or not wholly, followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRetraction<'a> {
    /// When it was sealed.
    pub at: Timestamp,
    /// Its bundle.
    pub bundle: BundleId,
    /// Its place in the chain.
    pub sequence: u64,
    /// Its module.
    pub module: &'a Name,
    /// Whether the linker has it.
    pub acknowledged: bool,
    /// The ids of the keys of the recipients that have said nothing yet.
    pub silent: Vec<&'a str>,
}

impl<'a> OpenRetraction<'a> {
    /// All of a ledger's, oldest first.
    pub fn all(entries: &'a [Entry]) -> Vec<Self> {
        let open = entries.iter().filter_map(|entry| match &entry.event {
            Event::Retracted { bundle, sequence, module, recipients } => Some(Self {
                at: entry.at,
                bundle: bundle.parse().ok()?,
                sequence: *sequence,
                module,
                acknowledged: false,
                silent: recipients.iter().map(String::as_str).collect(),
            }),
            _ => None,
        });
        let mut open: Vec<Self> = open.collect();
        if open.is_empty() {
            return open;
        }
        for entry in entries {
            let place = |sequence: u64| move |it: &&mut Self| it.sequence == sequence;
            match &entry.event {
                Event::Acknowledged { sequence, .. } => {
                    if let Some(it) = open.iter_mut().find(place(*sequence)) {
                        it.acknowledged = true;
                    }
                }
                Event::Deleted { sequence, key, .. } => {
                    if let Some(it) = open.iter_mut().find(place(*sequence)) {
                        it.silent.retain(|silent| silent != key);
                    }
                }
                _ => {}
            }
        }
        open.retain(|it| !it.silent.is_empty());
        open
    }
}

struct Parsed {
    entries: Vec<Entry>,
    /// Digest of the last line.
    last: Digest,
    /// Bytes up to the end of the last whole line.
    whole: u64,
    length: u64,
}

/// Reads every whole line, and checks that each follows from the one before it.
fn parse(path: &Path, file: impl Read) -> Result<Parsed, LedgerError> {
    let mut text = Vec::new();
    file.take(LEDGER_BYTES_MAX + 1).read_to_end(&mut text).map_err(at("read", path))?;
    let length = text.len() as u64;
    if length > LEDGER_BYTES_MAX {
        return Err(LedgerError::TooLarge { path: path.to_owned() });
    }
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    let mut entries = Vec::new();
    let mut last = Digest::of(b"");
    for (number, line) in text[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
        let entry: Option<Entry> = serde_json::from_slice(line).ok();
        let entry = entry.filter(|entry| entry.previous == last);
        entries.push(entry.ok_or_else(|| LedgerError::Broken { path: path.to_owned(), line: number + 1 })?);
        last = Digest::of(line);
    }
    Ok(Parsed { entries, last, whole: whole as u64, length })
}

/// What is needed of a sealed bundle later.
#[derive(Debug, Clone, Copy)]
pub struct SealedEntry<'a> {
    /// The bundle.
    pub bundle: BundleId,
    /// Its place in the chain.
    pub sequence: u64,
    /// Its module.
    pub module: &'a Name,
    /// Its month.
    pub period: Period,
    /// Its content's keyed digest.
    pub content: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolled(ledger: &mut Ledger, key: &str) {
        ledger.append(Timestamp::UNIX_EPOCH, Event::Enrolled { site: None, key: key.to_owned() }).unwrap();
    }

    #[test]
    fn a_torn_line_is_cut_off_and_a_changed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let mut ledger = Ledger::open(&path).unwrap();
        enrolled(&mut ledger, "one");
        enrolled(&mut ledger, "two");
        drop(ledger);
        let whole = std::fs::read(&path).unwrap();
        for cut in whole.len() - 20..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut ledger = Ledger::open(&path).unwrap();
            assert_eq!(ledger.entries().len(), 1);
            enrolled(&mut ledger, "again");
            assert_eq!(Ledger::open(&path).unwrap().entries().len(), 2);
        }
        std::fs::write(&path, String::from_utf8(whole).unwrap().replace("one", "eno")).unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Broken { line: 2, .. })));
    }
}
