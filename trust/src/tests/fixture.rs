//! A small TUF writer, so that a test can say what a repository holds and where it lies.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

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
    /// What the timestamp says besides what the specification asks for.
    pub(super) timestamp_says: Value,
    pub(super) expires: &'static str,
}

/// A list that the top-level one delegates to.
pub(super) struct Delegated<'a> {
    pub(super) name: &'a str,
    pub(super) paths: &'a [&'a str],
    pub(super) files: &'a [(&'a str, &'a [u8])],
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
        let fixture = Self {
            dir: tempfile::tempdir().unwrap(),
            key: key(1),
            limits: TrustLimits::default(),
            timestamp_says: json!({ "root_version": 1 }),
            expires: "2026-12-01T00:00:00Z",
        };
        let root = root(1, &fixture.key, &fixture.key);
        fixture.write("metadata/1.root.json", &signed(&root, &[&fixture.key]));
        fixture
    }

    /// Publishes these files and no others, as this version of every role.
    pub(super) fn publish(&self, version: u64, files: &[(&str, &[u8])]) {
        self.publish_with(&self.key, version, files, &[]);
    }

    /// The same, signed by a key that the root does not name.
    pub(super) fn publish_as_stranger(&self, version: u64, files: &[(&str, &[u8])]) {
        self.publish_with(&key(2), version, files, &[]);
    }

    /// Publishes delegated lists, each with a key of its own (the third, the fourth …), and these files at the top.
    pub(super) fn publish_delegated(&self, version: u64, files: &[(&str, &[u8])], lists: &[Delegated<'_>]) {
        self.publish_with(&self.key, version, files, lists);
    }

    /// A new root that keeps the key of the root role, and names another one for everything else.
    pub(super) fn rotate(&mut self, version: u64) {
        let root_key = key(1);
        self.key = key(100 + u8::try_from(version).unwrap());
        let root = root(version, &root_key, &self.key);
        self.write(&format!("metadata/{version}.root.json"), &signed(&root, &[&root_key]));
    }

    fn publish_with(
        &self,
        signer: &SigningKey,
        version: u64,
        files: &[(&str, &[u8])],
        lists: &[Delegated<'_>],
    ) {
        let document = |role: &str, signer: &SigningKey, content: Value| {
            let mut document = json!({
                "_type": if role == "snapshot" || role == "timestamp" { role } else { "targets" },
                "spec_version": "1.0.34", "version": version, "expires": self.expires,
            });
            document.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            let bytes = signed(&document, &[signer]);
            let name = if role == "timestamp" { String::new() } else { format!("{version}.") };
            self.write(&format!("metadata/{name}{role}.json"), &bytes);
            let mut pin = entry(&bytes);
            pin["version"] = version.into();
            (format!("{role}.json"), pin)
        };
        let mut pins = serde_json::Map::new();
        let (mut keys, mut roles) = (serde_json::Map::new(), Vec::new());
        for (number, list) in (3..).zip(lists) {
            let signer = key(number);
            let (id, public) = tuf_key(&signer);
            keys.insert(id.clone(), public);
            roles.push(json!({
                "name": list.name, "keyids": [id], "threshold": 1, "terminating": true, "paths": list.paths,
            }));
            pins.extend([document(list.name, &signer, json!({ "targets": self.place(list.files) }))]);
        }
        let mut targets = json!({ "targets": self.place(files) });
        if !lists.is_empty() {
            targets["delegations"] = json!({ "keys": keys, "roles": roles });
        }
        pins.extend([document("targets", signer, targets)]);
        let snapshot = document("snapshot", signer, json!({ "meta": pins }));
        let mut timestamp = json!({ "meta": { snapshot.0: snapshot.1 } });
        timestamp.as_object_mut().unwrap().extend(self.timestamp_says.as_object().unwrap().clone());
        document("timestamp", signer, timestamp);
    }

    /// Writes the files where a consistent snapshot has them, and lists them.
    fn place(&self, files: &[(&str, &[u8])]) -> Value {
        let mut targets = serde_json::Map::new();
        for (path, bytes) in files {
            let digest = Digest::of(bytes).to_hex();
            let (folder, name) = path.rsplit_once('/').unwrap();
            self.write(&format!("targets/{folder}/{digest}.{name}"), bytes);
            targets.insert((*path).to_owned(), entry(bytes));
        }
        Value::Object(targets)
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

    /// A file of the store.
    pub(super) fn stored_bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.store().join(file)).unwrap()
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

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([number; 32]))
}

fn root(version: u64, root_key: &SigningKey, other_key: &SigningKey) -> Value {
    let (root, other) = (tuf_key(root_key), tuf_key(other_key));
    let signers = |id: &str| json!({ "keyids": [id], "threshold": 1 });
    json!({
        "_type": "root", "spec_version": "1.0.34", "version": version, "expires": "2036-01-01T00:00:00Z",
        "consistent_snapshot": true, "keys": { root.0.clone(): root.1, other.0.clone(): other.1 },
        "roles": {
            "root": signers(&root.0), "targets": signers(&other.0), "snapshot": signers(&other.0),
            "timestamp": signers(&other.0),
        },
    })
}

fn signed(document: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = to_canonical_bytes(document).unwrap();
    let signature = |key: &&SigningKey| json!({ "keyid": tuf_key(key).0, "sig": hex(&key.sign(&message)) });
    let signatures: Vec<Value> = keys.iter().map(signature).collect();
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

/// Serves a folder as a web server would, and counts what is asked for.
pub(super) fn serve_folder(folder: &Path) -> (RegistrySource, Asked) {
    let folder = folder.to_owned();
    let asked = Asked::default();
    let asking = asked.clone();
    let file = move |path: &str| {
        let path = path.trim_start_matches("/registry/");
        asking.0.lock().unwrap().push(path.to_owned());
        match std::fs::read(folder.join(path)) {
            Ok(bytes) => answer("200 OK", &bytes),
            Err(_) => answer("404 Not Found", b""),
        }
    };
    (serve(file, false), asked)
}

/// The paths that a server was asked for.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// Since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
