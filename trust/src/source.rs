//! Where the registry is: a folder, or a web server. Either is hostile: what it sends is bounded while it is read.

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Error, Repository};

use crate::TrustLimits;

/// Where the registry is. Written as a folder's path or as a web address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RegistrySource {
    /// A folder with `metadata` and `targets` in it.
    Folder(PathBuf),
    /// A web server; the address of the folder that holds `metadata` and `targets`. Ends in `/`.
    Web(Url),
}

/// An address that the agent does not fetch from.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is not a registry's address: {why}")]
pub struct RegistrySourceError {
    address: String,
    why: String,
}

impl FromStr for RegistrySource {
    type Err = RegistrySourceError;

    fn from_str(text: &str) -> Result<Self, RegistrySourceError> {
        let wrong = |why: &str| RegistrySourceError { address: text.to_owned(), why: why.to_owned() };
        if text.is_empty() {
            return Err(wrong("it is empty; write a folder's path or an https address"));
        }
        if !text.contains("://") {
            return Ok(Self::Folder(text.into()));
        }
        let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("leave out what follows `?` or `#`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("a registry is public; leave out the user name and password"));
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(wrong("plain http is for this computer only; use https")),
            "file" => {
                let path = url.to_file_path().map_err(|()| wrong("not the path of a folder"))?;
                return Ok(Self::Folder(path));
            }
            _ => return Err(wrong("use https, or a folder's path")),
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self::Web(url))
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        // RFC 6761, section 6.3: `localhost` is always this computer.
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

impl TryFrom<String> for RegistrySource {
    type Error = RegistrySourceError;

    fn try_from(text: String) -> Result<Self, RegistrySourceError> {
        text.parse()
    }
}

impl From<RegistrySource> for String {
    fn from(source: RegistrySource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for RegistrySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Web(url) => f.write_str(url.as_str()),
        }
    }
}

/// Fetches files of a registry, within limits.
#[derive(Clone)]
pub struct Fetcher(Way);

#[derive(Clone)]
enum Way {
    Folder(PathBuf),
    Web {
        base: Url,
        client: reqwest::Client,
    },
    /// A site that is offline.
    Nowhere,
    /// A repository that is not published yet.
    Given(Arc<dyn Repository>),
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Way::Folder(path) => write!(f, "Fetcher({})", path.display()),
            Way::Web { base, .. } => write!(f, "Fetcher({base})"),
            Way::Given(_) => f.write_str("Fetcher(given)"),
            Way::Nowhere => f.write_str("Fetcher(nowhere)"),
        }
    }
}

impl Fetcher {
    /// From a folder, or from a web server within the limits' times.
    pub fn new(source: &RegistrySource, limits: &TrustLimits) -> Result<Self, RegistrySourceError> {
        let base = match source {
            RegistrySource::Folder(path) => return Ok(Self(Way::Folder(path.clone()))),
            RegistrySource::Web(url) => url.clone(),
        };
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("lockgate-agent/", env!("CARGO_PKG_VERSION")))
            // Slow retrieval: a server that stalls, and one that drips, are both given up.
            .connect_timeout(Duration::from_secs(limits.connect_timeout_s))
            .read_timeout(Duration::from_secs(limits.read_timeout_s))
            .timeout(Duration::from_secs(limits.answer_timeout_s))
            // A redirect could lead to plain http, or into the practice's own network.
            .redirect(reqwest::redirect::Policy::none());
        if base.scheme() == "http" {
            // Loopback only: a proxy named in the environment must not see it.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| RegistrySourceError {
            address: source.to_string(),
            why: crate::error::chain(&error),
        })?;
        Ok(Self(Way::Web { base, client }))
    }

    /// From nowhere: a site that is offline.
    pub(crate) fn nowhere() -> Self {
        Self(Way::Nowhere)
    }

    /// From a repository that is not published yet.
    pub(crate) fn given(repository: Arc<dyn Repository>) -> Self {
        Self(Way::Given(repository))
    }

    async fn fetch(&self, folder: &str, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        // Path escape: names come from signed metadata at best, and from a hostile server at worst.
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !plain || name.contains(['\\', '?', '#', ':']) {
            return Err(Error::Malformed(format!("`{name}` leaves its folder")));
        }
        match &self.0 {
            Way::Nowhere => Err(Error::transport("offline")),
            Way::Given(_) => Err(Error::Malformed(format!("`{folder}/{name}` is not a file"))),
            Way::Folder(base) => read_file(&base.join(folder).join(name), bytes_max),
            Way::Web { base, client } => {
                let url = base
                    .join(&format!("{folder}/{name}"))
                    .map_err(|error| Error::transport_with_source(format!("`{name}`"), error))?;
                get(client, url, bytes_max).await
            }
        }
    }
}

impl Repository for Fetcher {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        match &self.0 {
            Way::Given(repository) => repository.fetch_metadata(name, max_length),
            _ => Box::pin(self.fetch("metadata", name, max_length)),
        }
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        match &self.0 {
            Way::Given(repository) => repository.fetch_target(path, max_length),
            _ => Box::pin(self.fetch("targets", path, max_length)),
        }
    }
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
    let failed = |error| Error::io(format!("reading {}", path.display()), error);
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_long(&path.display(), bytes_max));
    }
    Ok(Some(bytes))
}

async fn get(client: &reqwest::Client, url: Url, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
    // The address is in our own message already; reqwest would repeat it.
    let failed =
        |error: reqwest::Error| Error::transport_with_source(format!("GET {url}"), error.without_url());
    let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
    match answer.status() {
        StatusCode::OK => {}
        // Object stores answer 403 for what is not there.
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Ok(None),
        status if status.is_redirection() => {
            return Err(Error::transport(format!(
                "GET {url}: the server answers {status}; configure the address that it redirects to"
            )));
        }
        status => return Err(Error::transport(format!("GET {url}: the server answers {status}"))),
    }
    // Endless data: what is announced too long is not read, and what is not announced is cut off.
    if answer.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_long(&url, bytes_max));
    }
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        if (bytes.len() + part.len()) as u64 > bytes_max {
            return Err(too_long(&url, bytes_max));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(Some(bytes))
}

fn too_long(what: &dyn fmt::Display, bytes_max: u64) -> Error {
    Error::transport(format!("{what} is longer than {bytes_max} bytes"))
}
