//! Dialling out to a service of the centre, the linker or the keyholder, from a site or from the warehouse: privately or not at all, with a limit on what is read,
//! and with one way to tell a refusal from an answer that may come later.

use std::io::Read as _;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;

/// There is no answer that can be used. Whoever dials gives it words of its own.
#[derive(Debug)]
pub enum DialError {
    /// An address that anybody on the way could answer for, or listen to.
    NotPrivate(String),
    /// No answer, or one that makes no sense: worth trying again.
    Unreachable(String),
    /// The service refuses, and will refuse again.
    Refused {
        /// The problem's stable code.
        code: String,
        /// The problem's title.
        title: String,
    },
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer, where a request says nothing else.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Text of a problem that is repeated at most.
const PROBLEM_TEXT_MAX: usize = 200;
/// The largest problem document, bytes.
const PROBLEM_BYTES_MAX: u64 = 64 << 10;

/// Whether nobody on the way can read what is sent to an address: `https`, or `http` to this machine.
pub fn is_private(url: &str) -> bool {
    let Ok(parsed) = reqwest::Url::parse(url) else { return false };
    let loopback = matches!(parsed.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let private = parsed.scheme() == "https" || parsed.scheme() == "http" && loopback;
    private && parsed.host_str().is_some() && parsed.username().is_empty()
}

/// A client for an address that [`is_private`]. `user_agent`: the program and its version.
pub fn client(url: &str, user_agent: &str) -> Result<Client, DialError> {
    if !is_private(url) {
        return Err(DialError::NotPrivate(url.chars().take(100).collect()));
    }
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        // A redirect could lead from https to anywhere.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(user_agent)
        .build()
        .map_err(unreachable)
}

/// A request that came to nothing.
pub fn unreachable(error: reqwest::Error) -> DialError {
    // The innermost cause says what happened; the address is in the configuration.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    DialError::Unreachable(cause.to_string())
}

/// Reads an answer of at most this many bytes.
pub fn body(response: Response, bytes_max: u64) -> Result<Vec<u8>, DialError> {
    let mut bytes = Vec::new();
    let read = response.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| DialError::Unreachable(error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(DialError::Unreachable(format!("its answer is longer than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// What an answer other than success says. `passing`: a refusal of the client that is not for good.
pub fn refusal(response: Response, passing: Option<StatusCode>) -> DialError {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default)]
        code: String,
        #[serde(default)]
        title: String,
    }
    let shown = |text: &str| -> String {
        text.chars().filter(|letter| !letter.is_control()).take(PROBLEM_TEXT_MAX).collect()
    };
    let status = response.status();
    let document = body(response, PROBLEM_BYTES_MAX).ok();
    match document.and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok()) {
        // What is wrong with the service, a full disk (507) too, may pass.
        Some(problem) if status.is_client_error() && Some(status) != passing => {
            DialError::Refused { code: shown(&problem.code), title: shown(&problem.title) }
        }
        Some(problem) => DialError::Unreachable(format!("it answers {status} ({})", shown(&problem.code))),
        None => DialError::Unreachable(format!("it answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_private_way_is_dialled() {
        for good in
            ["https://linker.example.org", "http://127.0.0.1:80", "http://localhost", "http://[::1]:8"]
        {
            assert!(client(good, "a/1").is_ok(), "{good}");
        }
        for bad in [
            "http://linker.example.org",
            "http://127.0.0.1.example.org",
            "https://user@linker.example.org",
            "ftp://localhost",
            "linker",
            "",
        ] {
            assert!(matches!(client(bad, "a/1"), Err(DialError::NotPrivate(_))), "{bad}");
        }
    }
}
