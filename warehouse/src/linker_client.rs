//! The warehouse's side of the transport: it only dials out, and every request may be repeated.

use std::io::BufReader;
use std::time::Duration;

use lockgate_dial::{self as dial, ANSWER_TIMEOUT, DialError, unreachable};
use lockgate_signing::carriage::{self, Carriage, CarriageError};
use lockgate_signing::collection::{CollectionRequest, Wanted};
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::SigningKey;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;

/// The linker cannot be reached, or does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum LinkerError {
    /// An address that would ask in the open.
    #[error("`{0}` is no address of a linker; it has to start with https:// (http:// only to this machine)")]
    Url(String),
    /// No answer, or one that makes no sense: worth trying again.
    #[error("the linker cannot be reached: {0}; nothing is lost, collect again when it is back")]
    Unreachable(String),
    /// It refuses, and will refuse again.
    #[error("the linker refuses: {title} ({code})")]
    Refused {
        /// The problem's stable code.
        code: String,
        /// The problem's title.
        title: String,
    },
    /// What it hands out is not a bundle.
    #[error("what the linker hands out is not a bundle: {0}")]
    Carriage(#[from] CarriageError),
}

impl From<DialError> for LinkerError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NotPrivate(url) => Self::Url(url),
            DialError::Unreachable(why) => Self::Unreachable(why),
            DialError::Refused { code, title } => Self::Refused { code, title },
        }
    }
}

/// A bundle that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Accepted {
    /// Its place among all that was accepted, from 1.
    pub position: u64,
    /// Its id.
    pub bundle: BundleId,
}

/// A bundle while it is received.
pub type ReceivedBundle = Carriage<BufReader<Response>>;

/// A connection to the linker.
#[derive(Debug)]
pub struct LinkerClient<'a> {
    http: Client,
    url: String,
    key: &'a SigningKey,
}

/// The largest list that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// For a whole bundle: 1 GiB over a line of 5 Mbit/s.
const BUNDLE_TIMEOUT: Duration = Duration::from_secs(1_800);

#[derive(Deserialize)]
struct Listed {
    bundles: Vec<Accepted>,
}

impl<'a> LinkerClient<'a> {
    /// A client for an address; `key` signs what is asked.
    pub fn new(url: &str, key: &'a SigningKey) -> Result<Self, LinkerError> {
        let http = dial::client(url, concat!("lockgate-warehouse/", env!("CARGO_PKG_VERSION")))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// What was accepted after a position, in the order of acceptance; empty: nothing.
    pub fn accepted_after(&self, position: u64, now_s: i64) -> Result<Vec<Accepted>, LinkerError> {
        let response = self.ask(Wanted::After(position), now_s, ANSWER_TIMEOUT)?;
        let listed: Listed = serde_json::from_slice(&dial::body(response, ANSWER_BYTES_MAX)?)
            .map_err(|_| LinkerError::Unreachable("its answer is not one of a linker".to_owned()))?;
        Ok(listed.bundles)
    }

    /// A bundle. Nothing of it is verified yet.
    pub fn bundle(&self, id: BundleId, now_s: i64) -> Result<ReceivedBundle, LinkerError> {
        let response = self.ask(Wanted::Bundle(id), now_s, BUNDLE_TIMEOUT)?;
        let named = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        if named != Some(carriage::CONTENT_TYPE) {
            return Err(LinkerError::Unreachable("what answers is not a linker, perhaps a proxy".to_owned()));
        }
        Ok(Carriage::open(BufReader::with_capacity(1 << 20, response))?)
    }

    /// Gives a signed deletion statement.
    pub fn state(&self, statement: Vec<u8>) -> Result<(), LinkerError> {
        let sent = self.http.post(format!("{}/v1/deletions", self.url)).body(statement).send();
        answered(sent.map_err(unreachable)?).map(drop)
    }

    fn ask(&self, wanted: Wanted, now_s: i64, timeout: Duration) -> Result<Response, LinkerError> {
        let request = sign(&CollectionRequest { at_s: now_s, wanted }, self.key);
        let url = format!("{}/v1/collections", self.url);
        let sent = self.http.post(url).timeout(timeout).body(request).send();
        answered(sent.map_err(unreachable)?)
    }
}

fn answered(response: Response) -> Result<Response, LinkerError> {
    if response.status().is_success() { Ok(response) } else { Err(dial::refusal(response, None).into()) }
}
