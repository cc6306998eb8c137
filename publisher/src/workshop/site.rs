//! A site of invented people, made for a few runs of a module: a registry of its own, a database, an agent's state.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lockgate_durable::FileError;
use lockgate_durable::key_file::{self, KeyFileError};
use lockgate_oprf::{OprfError, SecretKey};
use lockgate_signing::cohort::Audience;
use lockgate_signing::delivery::{TokenKeyDelivery, TokenKeyRequest};
use lockgate_signing::envelope::sign;
use lockgate_signing::ids::{IdError, Name, Period};
use lockgate_signing::keys::SigningKey;
use lockgate_signing::manifest::SiteKind;
use lockgate_signing::mapping::Mapping;
use lockgate_signing::policy::{ObjectionPolicy, SensitiveCodes};
use lockgate_signing::recipients::{Recipient, RecipientSigningKey, Recipients};
use lockgate_signing::rollout::RolloutStep;
use lockgate_signing::sealed::{OpeningKey, SealedError};
use lockgate_signing::text_format::{TextFormat, TextFormatError};
use lockgate_signing::token_keys::{TokenEpoch, TokenKeys, TokenPublicKey};
use semver::Version;
use serde::Serialize;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::agent::{AgentError, AgentProgram};
use super::extract::Extract;
use super::fixture::Fixture;
use crate::documents::ExpiryDays;
use crate::edit::{self, EditError};
use crate::keys::pinned_root_path;
use crate::module::PreparedModule;
use crate::publish::{self, PublishError, Selection};
use crate::staging::{self, StagingError};

/// The pseudonym key of every such site: always the same, so that a patient has the same label in every run. It protects
/// nobody, because there is nobody: the agent refuses to run there on an NHS number that could be a real person's.
const PSEUDONYM_KEY: &[u8; 32] = b"invented people need no secrets.";
/// Its epoch.
const EPOCH: u32 = 1;

/// A module cannot be run on its fixture.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// A text of the fixture.
    #[error("the fixture's {0}")]
    Text(#[from] TextFormatError),
    /// A name.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The database.
    #[error("the fixture's database cannot be made: {0}")]
    Database(#[from] rusqlite::Error),
    /// The script that makes it.
    #[error("the fixture's SQL, line {line}: {why}")]
    Sql {
        /// The line, from 1.
        line: usize,
        /// What SQLite says of it.
        why: String,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the temporary folder.
    #[error("the folder for the run cannot be made: {0}")]
    Temporary(#[from] std::io::Error),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The pseudonym key.
    #[error("the pseudonym key of the fixture's site: {0}")]
    Sealing(#[from] SealedError),
    /// Its public half.
    #[error("the pseudonym key of the fixture's site: {0}")]
    TokenKey(#[from] OprfError),
    /// What is published there.
    #[error("the fixture's registry: {0}")]
    Staging(#[from] StagingError),
    /// The offer of the module there.
    #[error("the fixture's registry: {0}")]
    Offer(#[from] EditError),
    /// Publishing there.
    #[error("the fixture's registry: {0}")]
    Publish(#[from] PublishError),
    /// The configuration.
    #[error("the fixture's configuration cannot be written: {0}")]
    Config(#[from] toml::ser::Error),
    /// The day is no day of a calendar.
    #[error("the fixture's `as-of`: {0}")]
    Day(#[from] jiff::Error),
    /// The agent, or the module in it.
    #[error("the module does not run on the fixture: {0}")]
    Agent(#[from] AgentError),
}

impl SiteError {
    /// SQLite repeats what it has not read yet, which is most of the script.
    fn of_script(script: &str, error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqlInputError { msg, sql, offset, .. } = error else {
            return Self::Database(error);
        };
        let read = script.len().saturating_sub(sql.len()) + usize::try_from(offset).unwrap_or(0);
        let lines = script.bytes().take(read).filter(|byte| *byte == b'\n').count();
        Self::Sql { line: lines + 1, why: msg }
    }
}

/// A site with one module. It goes when it is dropped.
#[derive(Debug)]
pub struct FixtureSite {
    module: Name,
    as_of: Date,
    months: Vec<Period>,
    config: PathBuf,
    _folder: TempDir,
}

impl FixtureSite {
    /// Makes the site, and publishes the module to it.
    pub fn new(fixture: &Fixture, module: &PreparedModule) -> Result<Self, SiteError> {
        let folder = tempfile::Builder::new().prefix("lockgate-fixture-").tempdir()?;
        let place = folder.path();
        make_registry(&place.join("registry"), fixture, module)?;
        let database = place.join("database.sqlite");
        let script = &fixture.database;
        let made = rusqlite::Connection::open(&database)?.execute_batch(script);
        made.map_err(|error| SiteError::of_script(script, error))?;
        let state = place.join("state");
        lockgate_durable::create_private_dir(&state)?;
        key_file::create(&state.join("site-key.pem"))?;
        install_token_key(&state, fixture, module)?;
        let config = place.join("agent.toml");
        std::fs::write(&config, toml::to_string(&Config::of(place, fixture, module)?)?)?;
        Ok(Self {
            module: module.manifest.id.clone(),
            as_of: fixture.as_of,
            months: fixture.months.clone(),
            config,
            _folder: folder,
        })
    }

    /// What the module would send, month by month.
    pub fn extracts(&self, agent: &AgentProgram) -> Result<Vec<Extract>, SiteError> {
        let preview = |month: &Period| agent.preview(&self.config, self.as_of, &self.module, *month);
        Ok(self.months.iter().map(preview).collect::<Result<_, _>>()?)
    }
}

/// A registry that publishes the fixture's texts and one module, signed by keys that nobody else has.
fn make_registry(dir: &Path, fixture: &Fixture, module: &PreparedModule) -> Result<(), SiteError> {
    let now: Timestamp = fixture.as_of.to_zoned(TimeZone::UTC)?.timestamp();
    let keys_dir = registry_keys(dir);
    let expiry = ExpiryDays::default();
    let (repository, keys) = publish::init_on_one_machine(dir, &keys_dir, expiry, now)?;
    let _ = staging::add_mapping(&repository, &fixture.mapping)?;
    let _ = staging::add_policy(&repository, &fixture.policy, fixture.as_of)?;
    let _ = staging::add_sensitive(&repository, &fixture.sensitive)?;
    let nobody = recipients(fixture.as_of)?.encode()?;
    let _ = staging::add_recipients(&repository, nobody.as_bytes(), fixture.as_of)?;
    let tokens = token_keys(&module.manifest.purpose)?.encode()?;
    let _ = staging::add_token_keys(&repository, tokens.as_bytes(), fixture.as_of)?;
    let _ = staging::add_module(&repository, module)?;
    let version = module.manifest.version.clone();
    let to_all =
        RolloutStep { module_version: version, to: Audience::All, not_before: None, not_after: None };
    let _ = edit::offer(&repository, &module.manifest.id, to_all, fixture.as_of)?;
    let _ = publish::publish(&repository, &keys, &Selection::default(), expiry, now)?;
    Ok(())
}

/// To whose key the previews are encrypted: nobody's, for nothing is sent.
fn recipients(day: Date) -> Result<Recipients, IdError> {
    let seed = Zeroizing::new(*PSEUDONYM_KEY);
    let (public_key, signing) =
        (OpeningKey::from_seed(&seed).public(), SigningKey::from_seed(&seed).public());
    let nobody = Recipient {
        name: "nobody".parse()?,
        public_key,
        key_id: public_key.id(),
        signing_key: RecipientSigningKey(signing),
        not_before: day,
        not_after: day,
    };
    let (id, version) = ("nobody".parse()?, Version::new(1, 0, 0));
    Ok(Recipients { format: 1, id, version, recipients: vec![nobody] })
}

/// The keyholder of such a site: one epoch, for as long as a fixture may be of.
fn token_keys(domain: &Name) -> Result<TokenKeys, SiteError> {
    let seed = Zeroizing::new(*PSEUDONYM_KEY);
    let signing = SigningKey::from_seed(&seed).public();
    let epoch = TokenEpoch {
        epoch: EPOCH,
        // Nothing is evaluated with it: the site has a sealed key.
        public_key: TokenPublicKey(SecretKey::derive(&seed, domain.as_str().as_bytes())?.public().to_bytes()),
        from: jiff::civil::date(2000, 1, 1),
        until: jiff::civil::date(2099, 12, 31),
    };
    let (id, version) = (domain.clone(), Version::new(1, 0, 0));
    let signing_key = Some(TokenPublicKey(signing.to_bytes()));
    Ok(TokenKeys { format: 1, id, version, signing_key, epochs: vec![epoch] })
}

/// Installs the pseudonym key, as if the keyholder had sealed it for the site.
fn install_token_key(state: &Path, fixture: &Fixture, module: &PreparedModule) -> Result<(), SiteError> {
    let seed = Zeroizing::new(*PSEUDONYM_KEY);
    let opening = OpeningKey::from_seed(&seed);
    lockgate_durable::write_private(&state.join("opening-key.pem"), opening.to_pem().as_bytes())?;
    let request = TokenKeyRequest { site: fixture.site.clone(), opening_key: opening.public(), at_s: 0 };
    let domain = &module.manifest.purpose;
    let delivery = TokenKeyDelivery::seal(&request, (domain, EPOCH), &seed, 0, &seed)?;
    let keys = state.join("tokens/keys");
    lockgate_durable::create_private_dir(&keys)?;
    let signed = sign(&delivery, &SigningKey::from_seed(&seed));
    Ok(lockgate_durable::write_private(&keys.join(format!("{domain}-{EPOCH}.sealed")), &signed)?)
}

fn registry_keys(registry: &Path) -> PathBuf {
    registry.with_file_name("registry-keys")
}

/// The agent's configuration: what its `config show` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    site: String,
    kind: SiteKind,
    /// Invented people only.
    mode: &'static str,
    state_dir: &'static str,
    database: DatabaseConfig,
    registry: RegistryConfig,
    linker: LinkerConfig,
    tokens: TokensConfig,
}

#[derive(Debug, Serialize)]
struct DatabaseConfig {
    path: &'static str,
    mapping: Name,
}

#[derive(Debug, Serialize)]
struct RegistryConfig {
    location: &'static str,
    root: PathBuf,
    policy: Name,
    sensitive: Name,
    recipients: Name,
}

#[derive(Debug, Serialize)]
struct LinkerConfig {
    url: &'static str,
}

#[derive(Debug, Serialize)]
struct TokensConfig {
    scheme: &'static str,
}

impl Config {
    fn of(place: &Path, fixture: &Fixture, module: &PreparedModule) -> Result<Self, SiteError> {
        let root = pinned_root_path(&registry_keys(&place.join("registry")));
        Ok(Self {
            site: fixture.site.to_string(),
            kind: module.manifest.sites,
            mode: "demo",
            state_dir: "state",
            database: DatabaseConfig {
                path: "database.sqlite",
                mapping: Mapping::decode(&fixture.mapping)?.named().id.clone(),
            },
            registry: RegistryConfig {
                location: "registry",
                root,
                policy: ObjectionPolicy::decode(&fixture.policy)?.named().id.clone(),
                sensitive: SensitiveCodes::decode(&fixture.sensitive)?.named().id.clone(),
                recipients: recipients(fixture.as_of)?.id,
            },
            // A preview sends nothing; the discard port, should it ever try.
            linker: LinkerConfig { url: "http://127.0.0.1:9" },
            tokens: TokensConfig { scheme: "sealed-key" },
        })
    }
}
