//! The transport, bare: a client that sends any bytes, and a false linker that answers with any.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Context as _;

/// A request or an answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `POST /v1/bundles HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub start: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The code of a problem document.
    pub fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    /// This message as the answer to an HTTP request.
    pub fn to_bytes(&self) -> Vec<u8> {
        answer(&self.start, &self.body)
    }
}

/// An answer with a length, after which the connection ends.
pub fn answer(start: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{start}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Sends a request to an `http://…` address and reads the answer.
pub fn send(url: &str, request: &str, body: &[u8]) -> anyhow::Result<Message> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    let start = format!("{request} HTTP/1.1\r\nhost: linker");
    stream.write_all(&answer(&start, body))?;
    read(&mut stream)?.context("no answer")
}

/// Reads a message; none where the other side is done.
fn read(stream: &mut TcpStream) -> anyhow::Result<Option<Message>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some(Message { start: head.lines().next().unwrap_or_default().to_owned(), body }))
}

/// Something that listens where a linker should; it ends with the process.
#[derive(Debug)]
pub struct FalseLinker {
    address: SocketAddr,
}

impl FalseLinker {
    /// Answers each request with the bytes that `answer` makes of it, then closes the connection.
    pub fn new(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    // A client that goes away early has got what it wanted.
                    if let Ok(Some(request)) = read(&mut stream) {
                        let _ = stream.write_all(&answer(&request));
                    }
                });
            }
        });
        Ok(Self { address })
    }

    /// What to give to an agent in place of the linker's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
