//! A signed document: what was signed, and by which keys (specification 1.0.34, section 4.2).

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use lockgate_signing::ids::Name;
use lockgate_signing::keys::{PublicKey, SigningKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sigstore_tuf::Key;
use sigstore_tuf::canonical_json::to_canonical_bytes;

use crate::documents::DocumentError;
use crate::role::Role;

/// The key's name for people, in the metadata that lists the key. The specification lets a key have further fields, and
/// leaves them out of its id.
const NAME_FIELD: &str = "x-lockgate-name";

/// A document and its signatures: none yet, too few, or enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    signatures: Vec<Signature>,
    signed: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

/// Who may sign a document, and how many must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The name for people and the public key, by key id.
    keys: BTreeMap<String, (String, PublicKey)>,
    /// How many different keys must sign.
    pub threshold: u32,
}

/// Who signed a document and who did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// How many must sign.
    pub threshold: u32,
    /// The names of those whose signature is there and verifies.
    pub signed: Vec<String>,
    /// The names of the others who may sign.
    pub others: Vec<String>,
}

impl Standing {
    /// Whether enough have signed.
    pub fn is_met(&self) -> bool {
        self.signed.len() as u64 >= u64::from(self.threshold)
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |names: &[String]| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let Self { threshold, signed, others } = self;
        write!(f, "{} of {threshold} signed: {}", signed.len(), names(signed))?;
        if !self.is_met() {
            let lacking = (*threshold as usize).saturating_sub(signed.len());
            write!(f, "; {lacking} more needed, of: {}", names(others))?;
        }
        Ok(())
    }
}

impl Authority {
    /// From what a root or a delegation lists. A key that this program cannot use counts for nothing.
    pub fn new(keys: &BTreeMap<String, Key>, ids: &[String], threshold: u32) -> Self {
        let usable = |id: &String| {
            let key = keys.get(id)?;
            // The same key under a second id would count twice; an id that is the key's own cannot.
            let own_id = key.key_id().ok()? == *id;
            let public = public_key(key)?;
            own_id.then(|| (id.clone(), (key_name(key, id), public)))
        };
        Self { keys: ids.iter().filter_map(usable).collect(), threshold }
    }

    /// Whether a key is one of those that may sign.
    pub fn has(&self, key: &PublicKey) -> bool {
        self.keys.values().any(|(_, known)| known == key)
    }

    /// Each key that may sign: its name, and the start of its id, which is compared by telephone.
    pub fn keys_in_words(&self) -> BTreeSet<String> {
        self.keys.iter().map(|(id, (name, _))| format!("{name} ({})", &id[..16])).collect()
    }

    /// The names of all who may sign.
    pub fn names(&self) -> Vec<String> {
        self.keys.values().map(|(name, _)| name.clone()).collect()
    }
}

impl Envelope {
    /// A document that nobody has signed.
    pub fn unsigned(document: &impl Serialize, role: Role) -> Result<Self, DocumentError> {
        let signed = serde_json::to_value(document)
            .map_err(|error| DocumentError::Encoding { role: role.name(), why: error.to_string() })?;
        Ok(Self { signatures: Vec::new(), signed })
    }

    /// Reads a file. Nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes of its file.
    pub fn to_bytes(&self, role: Role) -> Result<Vec<u8>, DocumentError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| DocumentError::Encoding { role: role.name(), why: error.to_string() })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// What it says.
    pub fn document<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.signed)
    }

    /// The bytes that signatures cover.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, DocumentError> {
        to_canonical_bytes(&self.signed)
            .map_err(|error| DocumentError::Encoding { role: "signed", why: error.to_string() })
    }

    /// Adds a key's signature; says whether it was not there before. The same key cannot sign twice.
    pub fn sign(&mut self, key: &SigningKey) -> Result<bool, DocumentError> {
        let keyid = key_id(&key.public())?;
        let sig = HEXLOWER.encode(&key.sign(&self.signed_bytes()?));
        let signature = Signature { keyid, sig };
        if self.signatures.contains(&signature) {
            return Ok(false);
        }
        // One that does not verify would keep this one out.
        self.signatures.retain(|other| other.keyid != signature.keyid);
        self.signatures.push(signature);
        Ok(true)
    }

    /// Whether it says the same as another, whoever signed either.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.signed == other.signed
    }

    /// Keeps only signatures that count under one of these authorities, each key's once, and joins those of a copy.
    pub fn join(&mut self, copy: &Self, authorities: &[&Authority]) -> Result<(), DocumentError> {
        let bytes = self.signed_bytes()?;
        let mut by_key = BTreeMap::new();
        for signature in self.signatures.drain(..).chain(copy.signatures.iter().cloned()) {
            if authorities.iter().any(|authority| verifies(&signature, &bytes, authority)) {
                by_key.insert(signature.keyid.clone(), signature);
            }
        }
        self.signatures = by_key.into_values().collect();
        Ok(())
    }

    /// Who has signed. One key counts once, however often its signature is there.
    pub fn standing(&self, authority: &Authority) -> Result<Standing, DocumentError> {
        let bytes = self.signed_bytes()?;
        let valid: BTreeSet<_> = self
            .signatures
            .iter()
            .filter(|signature| verifies(signature, &bytes, authority))
            .map(|signature| &signature.keyid)
            .collect();
        let (mut signed, mut others) = (Vec::new(), Vec::new());
        for (id, (name, _)) in &authority.keys {
            if valid.contains(id) { signed.push(name.clone()) } else { others.push(name.clone()) }
        }
        signed.sort();
        others.sort();
        Ok(Standing { threshold: authority.threshold, signed, others })
    }
}

fn verifies(signature: &Signature, bytes: &[u8], authority: &Authority) -> bool {
    let Some((_, key)) = authority.keys.get(&signature.keyid) else { return false };
    let Ok(sig) = HEXLOWER.decode(signature.sig.as_bytes()) else { return false };
    key.verify(bytes, &sig).is_ok()
}

/// A public key as TUF writes it, with its name for people.
pub fn tuf_key(name: &str, key: &PublicKey) -> Result<Key, DocumentError> {
    let public = HEXLOWER.encode(&key.to_bytes());
    let key = json!({
        "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public }, NAME_FIELD: name,
    });
    serde_json::from_value(key)
        .map_err(|error| DocumentError::Encoding { role: "key", why: error.to_string() })
}

/// The SHA-256 of the key's canonical JSON: what other TUF programs compute, so that those that check it agree.
pub fn key_id(key: &PublicKey) -> Result<String, DocumentError> {
    tuf_key("", key)?
        .key_id()
        .map_err(|error| DocumentError::Encoding { role: "key", why: error.to_string() })
}

/// The key's name for people, or the start of its id.
pub fn key_name(key: &Key, id: &str) -> String {
    let name = key.extra.get(NAME_FIELD).and_then(Value::as_str);
    // A reader's terminal shows it: nothing but a name.
    let name = name.and_then(|name| name.parse::<Name>().ok());
    name.map_or_else(|| id.chars().take(12).collect(), |name| name.to_string())
}

/// Whether every key is an Ed25519 key under its own id: a key under two ids would count twice.
pub fn are_plain(keys: &BTreeMap<String, Key>) -> bool {
    keys.iter().all(|(id, key)| public_key(key).is_some() && key.key_id().is_ok_and(|own| own == *id))
}

/// The Ed25519 key of a listed key.
pub fn public_key(key: &Key) -> Option<PublicKey> {
    let bytes = HEXLOWER.decode(key.keyval.public.as_bytes()).ok()?;
    let is_ed25519 = key.keytype == "ed25519" && key.scheme == "ed25519";
    PublicKey::from_bytes(&bytes.try_into().ok()?).ok().filter(|_| is_ed25519)
}
