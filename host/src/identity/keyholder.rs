//! The agent's side of the keyholder's interface: one signed question, one answer, proved.

use std::time::Duration;

use jiff::Timestamp;
use lockgate_oprf::{Blinded, NoRandomness, OprfError, Output, PublicKey};
use lockgate_signing::envelope::{Message as _, sign};
use lockgate_signing::evaluation::{EvaluationAnswer, EvaluationRequest};
use lockgate_signing::ids::{Name, SiteId};
use lockgate_signing::keys::SigningKey;
use reqwest::blocking::Client;

use lockgate_dial::{self as dial, DialError, unreachable};

/// The keyholder cannot be asked, or is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum KeyholderError {
    /// An address that anybody on the way could answer for.
    #[error("`tokens.keyholder` is `{0}`; it has to start with https:// (http:// only to this machine)")]
    Url(String),
    /// No answer, or one that makes no sense: worth trying again.
    #[error("the keyholder cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses.
    #[error("the keyholder refuses: {title} ({code})")]
    Refused {
        /// The problem's stable code.
        code: String,
        /// The problem's title.
        title: String,
    },
    /// It answers, and the answer is wrong. Trying again would not make it right.
    #[error(
        "the keyholder's answer is not to be believed: {0}; nothing of it is used, tell the keyholder's operator and the publishing team"
    )]
    Answer(OprfError),
    /// No randomness, no question.
    #[error("the operating system gives no randomness")]
    Randomness,
}

impl From<DialError> for KeyholderError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::NotPrivate(url) => Self::Url(url),
            DialError::Unreachable(why) => Self::Unreachable(why),
            DialError::Refused { code, title } => Self::Refused { code, title },
        }
    }
}

impl KeyholderError {
    /// Whether the same question may be answered in a moment.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Attempts of one question, and the pause before each further one.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Who asks, and whom.
pub(super) struct Keyholder<'a> {
    http: Client,
    url: &'a str,
    site: &'a SiteId,
    key: &'a SigningKey,
}

/// What is asked for: the key of this domain and epoch, and no other.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) domain: &'a Name,
    pub(super) epoch: u32,
    /// The published key, from signed metadata.
    pub(super) public: &'a PublicKey,
}

impl<'a> Keyholder<'a> {
    pub(super) fn new(url: &'a str, site: &'a SiteId, key: &'a SigningKey) -> Result<Self, KeyholderError> {
        let http = dial::client(url, crate::USER_AGENT)?;
        Ok(Self { http, url: url.trim_end_matches('/'), site, key })
    }

    /// Has inputs evaluated: blinded here, evaluated there, proved, and unblinded here.
    pub(super) fn evaluate<I: AsRef<[u8]>>(
        &self,
        wanted: Wanted<'_>,
        inputs: Vec<I>,
    ) -> Result<Vec<(I, Output)>, KeyholderError> {
        let mut randomness = |buffer: &mut [u8]| getrandom::fill(buffer).map_err(|_| NoRandomness);
        let blinded = Blinded::new(inputs, &mut randomness).map_err(|_| KeyholderError::Randomness)?;
        let mut attempt = 1;
        let answer = loop {
            match self.ask(wanted, blinded.elements()) {
                Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                    std::thread::sleep(PAUSE * attempt);
                    attempt += 1;
                }
                answer => break answer?,
            }
        };
        // Believed only with a proof that verifies against the published key.
        blinded.finalise(&answer.elements, &answer.proof, wanted.public).map_err(KeyholderError::Answer)
    }

    fn ask(&self, wanted: Wanted<'_>, elements: &[u8]) -> Result<EvaluationAnswer, KeyholderError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| KeyholderError::Randomness)?;
        let request = EvaluationRequest {
            site: self.site.clone(),
            // The time on the wall, whatever day the run is as of: it says when the question was asked.
            at_s: Timestamp::now().as_second(),
            nonce,
            domain: wanted.domain.clone(),
            epoch: wanted.epoch,
            elements: elements.to_vec(),
        };
        let response = self
            .http
            .post(format!("{}/v1/evaluations", self.url))
            .header("content-type", EvaluationRequest::CONTENT_TYPE)
            .body(sign(&request, self.key))
            .send()
            .map_err(unreachable)?;
        if !response.status().is_success() {
            // A quota that is used up does not pass today.
            return Err(dial::refusal(response, None).into());
        }
        let bytes = dial::body(response, EvaluationAnswer::BYTES_MAX as u64)?;
        EvaluationAnswer::decode(&bytes)
            .map_err(|_| KeyholderError::Unreachable("its answer is not one of a keyholder".to_owned()))
    }
}
