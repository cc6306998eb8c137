//! What the site keeps of a registry. All of it is read as bytes to verify, never believed.
//!
//! ```text
//! known.json          metadata as it was verified, all roles in one file
//! known.copy.json     the same again
//! floor.json          what the registry must not fall below
//! targets/<sha256>    exact bytes of targets
//! ```
//!
//! Each file is replaced whole, and begins with the SHA-256 of the rest, so that one that is torn or has rotted is seen.
//! The metadata stands twice, so that a site whose disk rots while its registry is away, or old, still knows what was
//! published, what is held included. The copy is written first: where the two differ, it is the newer one.
//! The floor stands in all of them, as metadata and as numbers: if one kind is damaged or missing, the other has it. If
//! both are, a site that has been here before does not begin again as if it were new, because then an old registry would
//! pass for the current one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lockgate_durable::{FileError, at, create_private_dir, write_atomic};
use lockgate_signing::digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::TrustLimits;
use crate::error::{Failure, TrustError};
use crate::failpoint::failpoint;
use crate::floor::Floor;

/// Metadata as it was verified, by role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Documents {
    /// The chain of roots, by version, without the pinned one.
    roots: BTreeMap<u64, String>,
    /// Everything else, by the name of its role.
    roles: BTreeMap<String, String>,
}

impl Documents {
    /// The roles that are here, and the exact bytes of each; the root is the newest one, where it is not the pinned one.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &str)> {
        let root = self.roots.values().next_back().map(|text| ("root", text.as_str()));
        self.roles.iter().map(|(name, text)| (name.as_str(), text.as_str())).chain(root)
    }

    pub(crate) fn role(&self, name: &str) -> Option<&str> {
        self.roles.get(name).map(String::as_str)
    }

    pub(crate) fn roots_from(&self, first: u64) -> Vec<Vec<u8>> {
        self.roots.range(first..).map(|(_, text)| text.clone().into_bytes()).collect()
    }

    pub(crate) fn keep_root(
        &mut self,
        version: u64,
        bytes: &[u8],
        limits: &TrustLimits,
    ) -> Result<(), Failure> {
        let text = text(bytes)?;
        self.roots.insert(version, text);
        self.bound(limits)
    }

    pub(crate) fn keep(&mut self, role: &str, bytes: &[u8], limits: &TrustLimits) -> Result<(), Failure> {
        let text = text(bytes)?;
        self.roles.insert(role.to_owned(), text);
        self.bound(limits)
    }

    pub(crate) fn forget(&mut self, role: &str) {
        self.roles.remove(role);
    }

    pub(crate) fn keep_only(&mut self, roles: &BTreeSet<&str>) {
        self.roles.retain(|name, _| roles.contains(name.as_str()));
    }

    /// Endless data in many parts: each file has its limit, and all of them together.
    fn bound(&self, limits: &TrustLimits) -> Result<(), Failure> {
        let bytes: usize = self.roots.values().chain(self.roles.values()).map(String::len).sum();
        if bytes as u64 > limits.metadata_total_bytes_max {
            let bytes_max = limits.metadata_total_bytes_max;
            return Err(Failure::Wrong(format!("its metadata is longer than {bytes_max} bytes together")));
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<String, Failure> {
    // It was parsed as JSON, which is UTF-8.
    String::from_utf8(bytes.to_vec()).map_err(|_| Failure::Wrong("metadata that is not UTF-8".to_owned()))
}

/// What is known of a registry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Known {
    format: u32,
    /// The newest that verified of each role, also where the refresh then failed.
    pub documents: Documents,
    /// The last registry that verified as a whole.
    pub last_good: Option<LastGood>,
}

/// A registry that verified as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LastGood {
    /// When.
    pub refreshed: Timestamp,
    /// `None`: the documents of [`Known`] are these.
    pub documents: Option<Documents>,
}

impl Known {
    const FORMAT: u32 = 1;

    /// After a refresh that succeeded.
    pub fn good(documents: Documents, refreshed: Timestamp) -> Self {
        let last_good = Some(LastGood { refreshed, documents: None });
        Self { format: Self::FORMAT, documents, last_good }
    }

    /// After one that failed on the way: what it verified counts for the next one, and the last good one stays.
    pub fn partial(before: Self, documents: Documents) -> Self {
        let last_good = before.last_good.map(|good| LastGood {
            documents: good.documents.or_else(|| (before.documents != documents).then_some(before.documents)),
            ..good
        });
        Self { format: Self::FORMAT, documents, last_good }
    }

    /// The last registry that verified as a whole, and when.
    pub(crate) fn good_documents(&self) -> Option<(Documents, Timestamp)> {
        let good = self.last_good.as_ref()?;
        Some((good.documents.as_ref().unwrap_or(&self.documents).clone(), good.refreshed))
    }
}

/// Something about the store or the clock that a person should know, and that stopped nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Nothing is known yet.
    #[error(
        "nothing of the registry was known here, so what is older than what this site had seen before could not be told; \
         if nobody has removed the folder of what is trusted, find out who has"
    )]
    Began,
    /// The metadata was lost and is fetched again.
    #[error(
        "the site's copy of the registry was damaged ({why}); it is built again from the pinned root, and may not fall \
         below what this site had seen"
    )]
    Rebuilt {
        /// What was wrong with it.
        why: String,
    },
    /// The metadata was lost, and its second copy was not.
    #[error(
        "the site's copy of the registry was damaged ({why}); its second copy is whole and takes its place"
    )]
    CopyUsed {
        /// What was wrong with the first.
        why: String,
    },
    /// The floor was lost and is taken from the metadata.
    #[error(
        "the site's record of the versions that it has seen was damaged ({why}); it is taken from the site's copy of the \
         registry"
    )]
    FloorRestored {
        /// What was wrong with it.
        why: String,
    },
    /// The pinned root is another one than before.
    #[error(
        "the pinned root is another one than before; what this site had seen of the registry does not count any more"
    )]
    OtherRoot,
    /// The clock was wrong, and is right now.
    #[error(
        "this computer's clock stood at {stood_at} before, and now at {now}; the registry has signed something since, so \
         the clock was wrong then"
    )]
    ClockWasWrong {
        /// Where it stood.
        stood_at: Timestamp,
        /// Where it stands.
        now: Timestamp,
    },
    /// The clock went back, and nobody knows which time is right.
    #[error(
        "this computer's clock went back from {stood_at} to {now}; check it. Until the registry signs something newer, \
         nothing new is installed; what is installed goes on"
    )]
    ClockWentBack {
        /// Where it stood.
        stood_at: Timestamp,
        /// Where it stands.
        now: Timestamp,
    },
    /// A role lists what is not its own.
    #[error("the registry's list `{list}` names `{path}`, which it may not speak for; it is not used")]
    NotTheirs {
        /// The role.
        list: String,
        /// What it lists.
        path: String,
    },
}

/// The store of one registry.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    bytes_max: u64,
}

/// What the store had.
#[derive(Debug)]
pub struct Loaded {
    /// What was verified.
    pub known: Known,
    /// What the registry must not fall below.
    pub floor: Floor,
    /// What was found wrong.
    pub notices: Vec<Notice>,
}

impl Store {
    /// Opens the store in a folder of its own.
    pub fn open(folder: &Path, limits: &TrustLimits) -> Result<Self, FileError> {
        create_private_dir(folder)?;
        // Two sets of documents, and what JSON needs to hold them.
        Ok(Self { folder: folder.to_owned(), bytes_max: limits.metadata_total_bytes_max.saturating_mul(4) })
    }

    /// Reads what is known under this pinned root.
    pub fn load(&self, pinned_root: &[u8]) -> Result<Loaded, TrustError> {
        let mut notices = Vec::new();
        let known = self.read_known(&mut notices)?;
        let floor = self.read::<Floor>(FLOOR)?;
        let new = Floor::of(pinned_root);
        if let Read::Whole(floor) = &floor
            && !floor.is_of(pinned_root)
        {
            // The practice decides which root it pins. The roles below keep their floor if their signers are the same.
            let floor = floor.clone().under(pinned_root);
            return Ok(Loaded { known: Known::default(), floor, notices: vec![Notice::OtherRoot] });
        }
        let (known, floor) = match (known, floor) {
            (Read::Whole(known), Read::Whole(floor)) => (known, floor),
            (Read::Whole(known), lost) => {
                notices.push(Notice::FloorRestored { why: lost.why() });
                (known, new)
            }
            (lost, Read::Whole(floor)) => {
                notices.push(Notice::Rebuilt { why: lost.why() });
                (Known::default(), floor)
            }
            // A site that was never here. A folder that is removed as a whole is one, too: that is the operator's word.
            (Read::Missing, Read::Missing) if !self.was_used()? => {
                notices.push(Notice::Began);
                (Known::default(), new)
            }
            (known, floor) => {
                let why = format!("{KNOWN}: {}; {FLOOR}: {}", known.why(), floor.why());
                return Err(TrustError::FloorLost { folder: self.folder.clone(), why });
            }
        };
        Ok(Loaded { known, floor, notices })
    }

    /// Keeps what is known now. The floor comes first: if the other writes do not happen, the next refresh asks for
    /// what this one has seen.
    pub fn save(&self, known: &Known, floor: &Floor) -> Result<(), FileError> {
        self.write(FLOOR, floor)?;
        failpoint("trust.floor-saved");
        self.write(KNOWN_COPY, known)?;
        failpoint("trust.copy-saved");
        self.write(KNOWN, known)
    }

    /// The metadata, or its copy where it is lost. Which of the two it is makes no difference to what follows: either is
    /// verified again from the pinned root, and a refresh holds either to the floor.
    fn read_known(&self, notices: &mut Vec<Notice>) -> Result<Read<Known>, FileError> {
        let known = self.read::<Known>(KNOWN)?;
        if let Read::Whole(_) = known {
            return Ok(known);
        }
        match self.read::<Known>(KNOWN_COPY)? {
            Read::Whole(copy) => {
                notices.push(Notice::CopyUsed { why: known.why() });
                Ok(Read::Whole(copy))
            }
            _ => Ok(known),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Read<T>, FileError> {
        let Some(bytes) = read_bounded(&self.folder.join(name), self.bytes_max)? else {
            return Ok(Read::Missing);
        };
        let damaged = |why: &str| Ok(Read::Damaged(why.to_owned()));
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return damaged("it has no checksum");
        };
        let (checksum, content) = (&bytes[..end], &bytes[end + 1..]);
        if checksum != Digest::of(content).to_hex().as_bytes() {
            return damaged("its checksum is another one");
        }
        match serde_json::from_slice(content) {
            Ok(value) => Ok(Read::Whole(value)),
            Err(error) => damaged(&crate::error::chain(&error)),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), FileError> {
        let path = self.folder.join(name);
        let content = serde_json::to_vec(value)
            .map_err(|error| at("write", &path)(std::io::Error::other(error.to_string())))?;
        let bytes = [Digest::of(&content).to_hex().as_bytes(), b"\n", &content].concat();
        // Most refreshes find nothing new: spare the disk.
        if read_bounded(&path, bytes.len() as u64)?.is_some_and(|stored| stored == bytes) {
            return Ok(());
        }
        write_atomic(&path, &bytes)
    }

    /// Whether something else says that this site has been here: targets that it fetched.
    fn was_used(&self) -> Result<bool, FileError> {
        let folder = self.folder.join(TARGETS_FOLDER);
        match std::fs::read_dir(&folder) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("list", &folder)(error)),
        }
    }
}

const KNOWN: &str = "known.json";
const KNOWN_COPY: &str = "known.copy.json";
const FLOOR: &str = "floor.json";
pub(crate) const TARGETS_FOLDER: &str = "targets";

enum Read<T> {
    Whole(T),
    Missing,
    Damaged(String),
}

impl<T> Read<T> {
    fn why(&self) -> String {
        match self {
            Self::Whole(_) => "whole".to_owned(),
            Self::Missing => "it is missing".to_owned(),
            Self::Damaged(why) => why.clone(),
        }
    }
}

/// The bytes of a file, cut at one more than `bytes_max`; `None` where there is none.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(at("read", path))?;
    Ok(Some(bytes))
}
