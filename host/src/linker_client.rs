//! The agent's side of the transport: it only dials out, and every step may be repeated.

use std::time::Duration;

use lockgate_signing::deletion::STATEMENTS_CONTENT_TYPE;
use lockgate_signing::digest::Digest;
use lockgate_signing::envelope::{EnvelopeError, Message as _, Verified, verify};
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::PublicKey;
use lockgate_signing::receipt::Receipt;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;

use lockgate_dial::{self as dial, ANSWER_TIMEOUT, DialError, unreachable};

/// The linker cannot be reached, or does not take what it is sent.
#[derive(Debug, thiserror::Error)]
pub enum LinkerError {
    /// An address that would send data in the open.
    #[error("`linker.url` is `{0}`; it has to start with https:// (http:// only to this machine)")]
    Url(String),
    /// No answer, or one that makes no sense: worth trying again.
    #[error("the linker cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses, and will refuse again.
    #[error("the linker refuses: {title} ({code})")]
    Refused {
        /// The problem's stable code.
        code: String,
        /// The problem's title.
        title: String,
    },
    /// A receipt that is not one.
    #[error("the linker's receipt is not valid: {0}")]
    Receipt(#[from] EnvelopeError),
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

impl LinkerError {
    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// What the linker says to a header.
#[derive(Debug)]
pub enum HeaderAnswer {
    /// The bundle is whole and stored.
    Receipt(Box<Verified<Receipt>>, Vec<u8>),
    /// These blocks are missing.
    Missing(Vec<Digest>),
}

/// A connection to the linker.
#[derive(Debug)]
pub struct LinkerClient {
    http: Client,
    url: String,
}

/// The largest answer that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// For an answer, at least: what is tried at all is tried for so long.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The slowest line that a block still gets over, bytes a second: 128 kbit/s. Time for an upload is on top of the time for
/// its answer, or a large block would never get over a slow line.
const UPLOAD_BYTES_PER_S: u64 = 16_000;

/// How long a request with a body of this size may take.
fn request_timeout(left: Duration, body_bytes: usize) -> Duration {
    left.clamp(ANSWER_TIMEOUT_MIN, ANSWER_TIMEOUT)
        + Duration::from_secs(body_bytes as u64 / UPLOAD_BYTES_PER_S)
}

#[derive(Deserialize)]
struct Missing {
    missing: Vec<String>,
}

/// The answer to an enrolment.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enrolled {
    /// The linker's public key, PEM.
    pub linker_key: String,
}

impl LinkerClient {
    /// A client for an address.
    pub fn new(url: &str) -> Result<Self, LinkerError> {
        let http = dial::client(url, crate::USER_AGENT)?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }

    /// Sends a bundle's header. `left` is how long the answer may take.
    pub fn post_header(
        &self,
        header: Vec<u8>,
        linker_key: &PublicKey,
        left: Duration,
    ) -> Result<HeaderAnswer, LinkerError> {
        let response = self
            .http
            .post(format!("{}/v1/bundles", self.url))
            .header("content-type", "application/vnd.lockgate.bundle+cbor")
            .timeout(request_timeout(left, header.len()))
            .body(header)
            .send()
            .map_err(unreachable)?;
        match response.status() {
            // A proxy's or a hotel's login page also says 200. It is nobody's receipt, and passes.
            StatusCode::OK if !is_of(&response, Receipt::CONTENT_TYPE) => Err(not_a_linker()),
            StatusCode::OK => {
                let bytes = body(response)?;
                let receipt = verify::<Receipt>(&bytes, linker_key)?;
                Ok(HeaderAnswer::Receipt(Box::new(receipt), bytes))
            }
            StatusCode::ACCEPTED => {
                let missing: Missing = json(&body(response)?)?;
                let digests =
                    missing.missing.iter().map(|hex| Digest::from_hex(hex)).collect::<Result<_, _>>();
                let digests = digests.map_err(|error| LinkerError::Unreachable(error.to_string()))?;
                Ok(HeaderAnswer::Missing(digests))
            }
            _ => Err(refusal(response)),
        }
    }

    /// Sends a block. `left` is how long the answer may take, once the block is sent.
    pub fn put_block(&self, digest: Digest, bytes: Vec<u8>, left: Duration) -> Result<(), LinkerError> {
        let response = self
            .http
            .put(format!("{}/v1/blocks/{}", self.url, digest.to_hex()))
            .timeout(request_timeout(left, bytes.len()))
            .body(bytes)
            .send()
            .map_err(unreachable)?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response)) }
    }

    /// The recipients' statements on a retraction, together; nothing of them is verified.
    pub fn deletions(&self, bundle: BundleId) -> Result<Vec<u8>, LinkerError> {
        let url = format!("{}/v1/deletions/{bundle}", self.url);
        let response = self.http.get(url).send().map_err(unreachable)?;
        match response.status() {
            StatusCode::OK if !is_of(&response, STATEMENTS_CONTENT_TYPE) => Err(not_a_linker()),
            StatusCode::OK => Ok(body(response)?),
            _ => Err(refusal(response)),
        }
    }

    /// Sends an enrolment request.
    pub fn enrol(&self, request: Vec<u8>) -> Result<Enrolled, LinkerError> {
        let response = self
            .http
            .post(format!("{}/v1/enrolments", self.url))
            .body(request)
            .send()
            .map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(refusal(response));
        }
        json(&body(response)?)
    }
}

/// Whether an answer may be of a type: it says so, or nothing.
fn is_of(response: &Response, content_type: &str) -> bool {
    let named = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    named.is_none_or(|named| named.split(';').next().unwrap_or_default().trim() == content_type)
}

fn not_a_linker() -> LinkerError {
    LinkerError::Unreachable("what answers is not a linker, perhaps a proxy or a login page".to_owned())
}

fn body(response: Response) -> Result<Vec<u8>, DialError> {
    dial::body(response, ANSWER_BYTES_MAX)
}

fn json<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, LinkerError> {
    serde_json::from_slice(bytes)
        .map_err(|_| LinkerError::Unreachable("its answer is not one of a linker".to_owned()))
}

/// "Too many requests" passes.
fn refusal(response: Response) -> LinkerError {
    dial::refusal(response, Some(StatusCode::TOO_MANY_REQUESTS)).into()
}
