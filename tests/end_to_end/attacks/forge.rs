//! Whoever holds the web server, and some of the keys: writes any metadata, signed by anybody whose key there is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lockgate_signing::digest::Digest;
use lockgate_signing::keys::SigningKey;
use serde_json::{Value, json};
use sigstore_tuf::canonical_json::to_canonical_bytes;

/// A repository as files, and the private keys of its roles.
pub(crate) struct Forge {
    repository: PathBuf,
    /// By public half, hexadecimal.
    keys: BTreeMap<String, SigningKey>,
}

impl Forge {
    pub(crate) fn of(repository: &Path, keys: &Path) -> anyhow::Result<Self> {
        let mut forge = Self { repository: repository.to_owned(), keys: BTreeMap::new() };
        for file in std::fs::read_dir(keys)? {
            let path = file?.path();
            if path.extension().is_some_and(|ending| ending == "pem") {
                forge.own(SigningKey::from_pem(&std::fs::read_to_string(&path)?)?);
            }
        }
        Ok(forge)
    }

    /// Adds a private key; returns its id and how metadata lists it.
    pub(crate) fn own(&mut self, key: SigningKey) -> (String, Value) {
        let public = hex(&key.public().to_bytes());
        let listed = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } });
        let id = Digest::of(listed.to_string().as_bytes()).to_hex();
        self.keys.insert(public, key);
        (id, listed)
    }

    /// The repository.
    pub(crate) fn repository(&self) -> &Path {
        &self.repository
    }

    /// A file of metadata.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.repository.join("metadata").join(name)
    }

    /// What the newest version of a role says.
    pub(crate) fn says(&self, role: &str) -> anyhow::Result<Value> {
        let name = match role {
            "timestamp" => "timestamp.json".to_owned(),
            "root" => format!("{}.root.json", self.newest_root()?),
            "snapshot" => {
                format!("{}.snapshot.json", self.says("timestamp")?["meta"]["snapshot.json"]["version"])
            }
            list => {
                let pin = &self.says("snapshot")?["meta"][format!("{list}.json")]["version"];
                format!("{pin}.{list}.json")
            }
        };
        let bytes = std::fs::read(self.file(&name)).with_context(|| format!("there is no {name}"))?;
        Ok(serde_json::from_slice::<Value>(&bytes)?["signed"].clone())
    }

    fn newest_root(&self) -> anyhow::Result<u64> {
        let exists = |version: &u64| self.file(&format!("{version}.root.json")).exists();
        (1..100).take_while(exists).last().context("there is no root")
    }

    /// The ids of those who may sign for a role, and the key that each has.
    pub(crate) fn signers(&self, role: &str) -> anyhow::Result<Vec<(String, String)>> {
        let named = if matches!(role, "root" | "targets" | "snapshot" | "timestamp") {
            let root = self.says("root")?;
            (root["roles"][role]["keyids"].clone(), root["keys"].clone())
        } else {
            let delegations = &self.says("targets")?["delegations"];
            let roles = delegations["roles"].as_array().context("no delegations")?;
            let delegated = roles.iter().find(|delegated| delegated["name"] == role);
            (
                delegated.with_context(|| format!("no role {role}"))?["keyids"].clone(),
                delegations["keys"].clone(),
            )
        };
        let ids = named.0.as_array().context("no keys")?;
        let key = |id: &Value| {
            let id = id.as_str()?.to_owned();
            let public = named.1[&id]["keyval"]["public"].as_str()?.to_owned();
            Some((id, public))
        };
        ids.iter().map(|id| key(id).context("a key without a public half")).collect()
    }

    /// Signs a document with these keys: id and public half.
    pub(crate) fn signatures(
        &self,
        document: &Value,
        signers: &[(String, String)],
    ) -> anyhow::Result<Vec<Value>> {
        let message = to_canonical_bytes(document)?;
        let with = |(id, public): &(String, String)| {
            let key = self.keys.get(public).with_context(|| format!("the key {id} is not here"))?;
            Ok(json!({ "keyid": id, "sig": hex(&key.sign(&message)) }))
        };
        signers.iter().map(with).collect()
    }

    /// Publishes the next version of a role as it would be published: changed, signed by all who may, and pinned.
    pub(crate) fn revise(&self, role: &str, change: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        let signers = self.signers(role)?;
        self.forge(role, change, |forge, document| forge.signatures(document, &signers))
    }

    /// The same, with the signatures that `sign` makes; snapshot and timestamp above it are in order.
    pub(crate) fn forge(
        &self,
        role: &str,
        change: impl FnOnce(&mut Value),
        sign: impl FnOnce(&Self, &Value) -> anyhow::Result<Vec<Value>>,
    ) -> anyhow::Result<()> {
        let mut document = self.says(role)?;
        let before = document["version"].as_u64().context("no version")?;
        document["version"] = (before + 1).into();
        change(&mut document);
        let signatures = sign(self, &document)?;
        self.put(role, &document, &signatures)
    }

    /// Writes a document, and what has to be said of it above it.
    fn put(&self, role: &str, document: &Value, signatures: &[Value]) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(&json!({ "signed": document, "signatures": signatures }))?;
        let version = document["version"].as_u64().context("no version")?;
        match role {
            "timestamp" => return Ok(std::fs::write(self.file("timestamp.json"), bytes)?),
            _ => std::fs::write(self.file(&format!("{version}.{role}.json")), &bytes)?,
        }
        let pin = json!({
            "version": version, "length": bytes.len(), "hashes": { "sha256": Digest::of(&bytes).to_hex() },
        });
        match role {
            "root" => self.revise("timestamp", |timestamp| timestamp["root_version"] = version.into()),
            "snapshot" => self.revise("timestamp", |timestamp| timestamp["meta"]["snapshot.json"] = pin),
            list => self.revise("snapshot", |snapshot| snapshot["meta"][format!("{list}.json")] = pin),
        }
    }

    /// The signature of one of those who may sign, made once for each of `ids`.
    pub(crate) fn sign_as(&self, document: &Value, role: &str, ids: usize) -> anyhow::Result<Vec<Value>> {
        let signers = self.signers(role)?;
        self.signatures(document, &vec![signers.first().context("nobody may sign")?.clone(); ids])
    }

    /// The signature of a key of ours under any id.
    pub(crate) fn sign_with(&self, document: &Value, id: &str, key: &SigningKey) -> anyhow::Result<Value> {
        Ok(json!({ "keyid": id, "sig": hex(&key.sign(&to_canonical_bytes(document)?)) }))
    }

    /// The lists of targets: the top-level one and those that it delegates to.
    pub(crate) fn lists(&self) -> anyhow::Result<Vec<String>> {
        let snapshot = self.says("snapshot")?;
        let pins = snapshot["meta"].as_object().context("no pins")?;
        Ok(pins.keys().map(|name| name.trim_end_matches(".json").to_owned()).collect())
    }

    /// Puts a target where a consistent snapshot has it; returns its signed entry.
    pub(crate) fn place(&self, path: &str, bytes: &[u8]) -> anyhow::Result<Value> {
        let digest = Digest::of(bytes).to_hex();
        let (folder, name) = path.rsplit_once('/').context("a path with a folder")?;
        let folder = self.repository.join("targets").join(folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{digest}.{name}")), bytes)?;
        Ok(json!({ "length": bytes.len(), "hashes": { "sha256": digest } }))
    }

    /// The file of a published target.
    pub(crate) fn target(&self, list: &str, path: &str) -> anyhow::Result<PathBuf> {
        let entry = &self.says(list)?["targets"][path];
        let digest = entry["hashes"]["sha256"].as_str().with_context(|| format!("{list} has no {path}"))?;
        let (folder, name) = path.rsplit_once('/').context("a path with a folder")?;
        Ok(self.repository.join("targets").join(folder).join(format!("{digest}.{name}")))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
