//! A small TUF writer, so that a test can say what a repository holds and where it lies.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lockgate_signing::digest::Digest;
use lockgate_signing::keys::SigningKey;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::{RegistrySource, Trust, TrustError, TrustLimits};

/// A repository, a site's store, and the keys of both.
pub(super) struct Fixture {
    dir: TempDir,
    key: SigningKey,
    pub(super) limits: TrustLimits,
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The day on which most tests happen.
pub(super) fn today() -> Timestamp {
    at("2026-11-01T00:00:00Z")
}

impl Fixture {
    /// A repository whose roles all have one key, and whose metadata ends on 2026-12-01.
    pub(super) fn new() -> Self {
        let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let fixture = Self { dir: tempfile::tempdir().unwrap(), key, limits: TrustLimits::default() };
        let (id, public) = tuf_key(&fixture.key);
        let signers = json!({ "keyids": [id], "threshold": 1 });
        let root = json!({
            "_type": "root", "spec_version": "1.0.34", "version": 1, "expires": "2036-01-01T00:00:00Z",
            "consistent_snapshot": true, "keys": { id: public },
            "roles": { "root": signers, "targets": signers, "snapshot": signers, "timestamp": signers },
        });
        fixture.write("metadata/1.root.json", &signed(&root, &fixture.key));
        fixture
    }

    /// Publishes these files and no others, as this version of every role.
    pub(super) fn publish(&self, version: u64, files: &[(&str, &[u8])]) {
        self.publish_with(&self.key, version, files);
    }

    /// The same, signed by a key that the root does not name.
    pub(super) fn publish_as_stranger(&self, version: u64, files: &[(&str, &[u8])]) {
        self.publish_with(&SigningKey::from_seed(&Zeroizing::new([2; 32])), version, files);
    }

    fn publish_with(&self, key: &SigningKey, version: u64, files: &[(&str, &[u8])]) {
        let mut targets = serde_json::Map::new();
        for (path, bytes) in files {
            let digest = Digest::of(bytes).to_hex();
            let (folder, name) = path.rsplit_once('/').unwrap();
            self.write(&format!("targets/{folder}/{digest}.{name}"), bytes);
            targets.insert((*path).to_owned(), entry(bytes));
        }
        let document = |role: &str, field: &str, content: Value| {
            let bytes = signed(
                &json!({
                    "_type": role, "spec_version": "1.0.34", "version": version,
                    "expires": "2026-12-01T00:00:00Z", field: content,
                }),
                key,
            );
            let name = if role == "timestamp" { String::new() } else { format!("{version}.") };
            self.write(&format!("metadata/{name}{role}.json"), &bytes);
            let mut pin = entry(&bytes);
            pin["version"] = version.into();
            json!({ format!("{role}.json"): pin })
        };
        let targets = document("targets", "targets", Value::Object(targets));
        let snapshot = document("snapshot", "meta", targets);
        document("timestamp", "meta", snapshot);
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.repository().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(super) fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(super) fn trust(&self) -> Trust {
        self.trust_in(&RegistrySource::Folder(self.repository())).unwrap()
    }

    pub(super) fn trust_in(&self, source: &RegistrySource) -> Result<Trust, TrustError> {
        let root = std::fs::read(self.repository().join("metadata/1.root.json")).unwrap();
        Trust::open(source, &root, &self.store(), self.limits)
    }

    /// Every file below a folder of the site's store.
    pub(super) fn stored(&self, folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.store().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }
}

fn entry(bytes: &[u8]) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": Digest::of(bytes).to_hex() } })
}

fn tuf_key(key: &SigningKey) -> (String, Value) {
    let public = hex(&key.public().to_bytes());
    let key = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
    (Digest::of(&to_canonical_bytes(&key).unwrap()).to_hex(), key)
}

fn signed(document: &Value, key: &SigningKey) -> Vec<u8> {
    let signature = hex(&key.sign(&to_canonical_bytes(document).unwrap()));
    let signatures = json!([{ "keyid": tuf_key(key).0, "sig": signature }]);
    serde_json::to_vec(&json!({ "signed": document, "signatures": signatures })).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers every request on loopback with these bytes, and then holds or closes the connection.
pub(super) fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static, hold: bool) -> RegistrySource {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            let mut request = [0; 4096];
            let Ok(length) = connection.read(&mut request) else { continue };
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let _ = connection.write_all(&answer(path));
            if hold {
                held.push(connection);
            }
        }
    });
    format!("http://{address}/registry").parse().unwrap()
}

/// A plain answer of a web server.
pub(super) fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Serves a folder as a web server would.
pub(super) fn serve_folder(folder: &Path) -> RegistrySource {
    let folder = folder.to_owned();
    let file = move |path: &str| match std::fs::read(folder.join(path.trim_start_matches("/registry/"))) {
        Ok(bytes) => answer("200 OK", &bytes),
        Err(_) => answer("404 Not Found", b""),
    };
    serve(file, false)
}
