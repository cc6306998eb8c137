//! Why something of the registry is not trusted.

use std::path::PathBuf;

use jiff::Timestamp;
use lockgate_durable::FileError;
use lockgate_signing::target::{TargetPath, TargetPathError};
use lockgate_signing::text_format::TextFormatError;

use crate::source::{RegistrySource, RegistrySourceError};

/// Why something of the registry is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The pinned root is unusable.
    #[error(
        "the pinned root is not a TUF root that signs for itself: {why}; get root.json from the publishing team again, \
         not from the web server"
    )]
    PinnedRoot {
        /// What is wrong with it.
        why: String,
    },
    /// The source cannot be used.
    #[error(transparent)]
    Source(#[from] RegistrySourceError),
    /// The program could not start what it fetches with.
    #[error("cannot start fetching from the registry: {why}")]
    Start {
        /// The operating system's reason.
        why: String,
    },
    /// The registry did not answer, or not in full.
    #[error(
        "the registry {registry} cannot be read: {why}; check the address and the connection; nothing was changed"
    )]
    Unreachable {
        /// Where.
        registry: String,
        /// What happened.
        why: String,
    },
    /// Too few valid signatures.
    #[error(
        "the registry {registry} is not signed by the people it should be: {why}; nothing was changed; tell the \
         publishing team"
    )]
    Signature {
        /// Where.
        registry: String,
        /// Which role, and what is missing.
        why: String,
    },
    /// Older than what this site has seen.
    #[error(
        "the registry {registry} went back: {role} is version {offered}, and this site has seen {trusted}; nothing was \
         changed; tell the publishing team"
    )]
    Rollback {
        /// Where.
        registry: String,
        /// Which role.
        role: String,
        /// What the site has seen.
        trusted: u64,
        /// What it was offered.
        offered: u64,
    },
    /// Past its last day.
    #[error(
        "the registry {registry} is out of date: its {role} expired at {expires}, and it is {now}; check this \
         computer's clock; if it is right, the publishing team has to publish again (or somebody holds back what it \
         published)"
    )]
    Expired {
        /// Where.
        registry: String,
        /// Which role.
        role: String,
        /// Its end.
        expires: Timestamp,
        /// The time that was given.
        now: Timestamp,
    },
    /// Not what was signed, or not TUF at all.
    #[error(
        "the registry {registry} does not hold what was signed: {why}; perhaps it is half uploaded, or the address is \
         not a registry's; nothing was changed"
    )]
    Damaged {
        /// Where.
        registry: String,
        /// What does not fit.
        why: String,
    },
    /// The site's own copy could not be read or written.
    #[error("the site's record of the registry: {0}")]
    Store(#[from] FileError),
    /// This computer's clock is before a time that has passed.
    #[error(
        "this computer's clock says {now}, and the registry {registry} was signed at {signed_at}, which has passed; set \
         the clock right and run again; nothing was changed"
    )]
    ClockBehind {
        /// Where.
        registry: String,
        /// The time that its signers vouch for.
        signed_at: Timestamp,
        /// The time that was given.
        now: Timestamp,
    },
    /// A site that was here before has lost everything that said what it had seen.
    #[error(
        "the site's record of what it has seen of the registry is lost ({why}), so an old registry could not be told from \
         the current one; ask the publishing team whether what the registry serves now is current, then remove the folder \
         {} and run again: it begins anew from the pinned root", folder.display()
    )]
    FloorLost {
        /// The store.
        folder: PathBuf,
        /// What is wrong with each of its files.
        why: String,
    },
    /// The copy of the last refresh does not verify.
    #[error(
        "the site's copy of the registry does not verify: {why}; it is not used; connect to the registry and refresh"
    )]
    LastKnown {
        /// What is wrong with it.
        why: String,
    },
    /// A target path in one of our folders that this version does not know.
    #[error("the registry lists a file that this version does not know: {0}; update the agent")]
    Path(#[from] TargetPathError),
    /// There is no such target.
    #[error("the registry has no `{path}`; it was not published, or only a part of it")]
    Missing {
        /// The path that was asked for.
        path: TargetPath,
    },
    /// A site that is offline has no copy.
    #[error(
        "`{path}` is not on this computer; `lockgate-agent refresh` fetches it once the registry serves it"
    )]
    NotHere {
        /// The path.
        path: TargetPath,
    },
    /// The site's own copy of an installed module does not hold what was installed.
    #[error(
        "this computer's copy of the installed `{path}` is gone or damaged ({why}); `lockgate-agent refresh` fetches it again \
         while the registry has it"
    )]
    NotKept {
        /// The path that it was installed from.
        path: TargetPath,
        /// What does not fit.
        why: String,
    },
    /// The target is larger than the agent takes.
    #[error("`{path}` has {bytes} bytes, and the agent takes {bytes_max}; publish a smaller one")]
    TooLarge {
        /// The path.
        path: TargetPath,
        /// Its signed length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The signed entry of a target has no usable SHA-256.
    #[error("`{path}` is listed without a SHA-256; publish it again")]
    NoDigest {
        /// The path.
        path: TargetPath,
    },
    /// The bytes are right and their meaning is not.
    #[error("`{path}` is signed, but wrong: {error}; the publishing team has to withdraw it")]
    Content {
        /// The path.
        path: TargetPath,
        /// What is wrong.
        error: Box<TextFormatError>,
    },
    /// The content says another id or version than the path.
    #[error("`{path}` says of itself that it is {says}; it is not used")]
    OtherName {
        /// The path.
        path: TargetPath,
        /// What it says.
        says: String,
    },
    /// The manifest names no component.
    #[error("`{path}` names no component; publish it with `lockgate-publish module add`")]
    NoComponent {
        /// The manifest's path.
        path: TargetPath,
    },
    /// The component is not the manifest's.
    #[error(
        "`{path}` is not the component that its manifest names ({why}); it is not used; tell \
         the publishing team"
    )]
    OtherComponent {
        /// The component's path.
        path: TargetPath,
        /// Which one it is.
        why: String,
    },
}

impl TrustError {
    /// Whether a site goes on with what it knew: the registry does not answer, or was not renewed in time. Anything else
    /// is a registry that says something wrong.
    pub fn leaves_last_known(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Expired { .. })
    }
}

/// What goes wrong in the client workflow, before it is known to whom it is said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}", chain(.0))]
    Tuf(#[from] sigstore_tuf::Error),
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Signers(String),
    #[error("{role} is version {offered}, and this site has seen {trusted}")]
    Rollback { role: String, trusted: u64, offered: u64 },
    #[error("the clock is before {signed_at}")]
    ClockBehind { signed_at: Timestamp },
}

impl Failure {
    pub(crate) fn missing(name: &str) -> Self {
        Self::Tuf(sigstore_tuf::Error::transport(format!("it has no {name}")))
    }

    /// The same in the operator's words.
    pub(crate) fn of(self, source: &RegistrySource, now: Timestamp) -> TrustError {
        use sigstore_tuf::Error as Tuf;
        let registry = source.to_string();
        let why = self.to_string();
        match self {
            Self::Tuf(Tuf::Transport { .. } | Tuf::Io { .. }) => TrustError::Unreachable { registry, why },
            Self::Signers(_)
            | Self::Tuf(
                Tuf::ThresholdNotMet { .. }
                | Tuf::DuplicateSignature { .. }
                | Tuf::UnusableKey { .. }
                | Tuf::UnsupportedScheme { .. }
                | Tuf::Crypto(_),
            ) => TrustError::Signature { registry, why },
            Self::Tuf(Tuf::Rollback { role, trusted, new }) => {
                TrustError::Rollback { registry, role, trusted, offered: new }
            }
            Self::Rollback { role, trusted, offered } => {
                TrustError::Rollback { registry, role, trusted, offered }
            }
            Self::Tuf(Tuf::Expired { role, expires }) => TrustError::Expired { registry, role, expires, now },
            Self::ClockBehind { signed_at } => TrustError::ClockBehind { registry, signed_at, now },
            Self::Tuf(_) | Self::Wrong(_) => TrustError::Damaged { registry, why },
        }
    }
}

/// An error and its causes in one line, cut to a length that a hostile server cannot choose.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    const CHARACTERS_MAX: usize = 400;
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(CHARACTERS_MAX).collect()
}
