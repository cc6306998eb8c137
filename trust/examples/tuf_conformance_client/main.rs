//! The agent's TUF client as a program that the public suite `tuf-conformance` can drive; `README.md` beside this file
//! says how. It adds nothing to what the agent runs but this command line, and copies of what is trusted where the suite
//! looks for them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use lockgate_signing::digest::Digest;
use lockgate_trust::{Client, Fetcher, Known, Loaded, RegistrySource, Store, TrustLimits};
use sigstore_tuf::TargetFile;

/// The suite's command line (its CLIENT-CLI.md).
#[derive(Parser)]
struct Arguments {
    /// Where the suite looks for what is trusted.
    #[arg(long)]
    metadata_dir: PathBuf,
    /// The repository's folder `metadata`.
    #[arg(long)]
    metadata_url: Option<String>,
    /// What to download; in this order, until one fails.
    #[arg(long)]
    target_name: Vec<String>,
    /// The repository's folder `targets`.
    #[arg(long)]
    target_base_url: Option<String>,
    /// Where to put what was downloaded.
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begins with a trusted root.
    Init {
        /// Its file.
        trusted_root: PathBuf,
    },
    /// Refreshes the top-level roles.
    Refresh,
    /// Refreshes, and downloads targets.
    Download,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let own = arguments.metadata_dir.join("own");
    let pinned = own.join("pinned-root.json");
    if let Command::Init { trusted_root } = &arguments.command {
        let root = std::fs::read(trusted_root)?;
        std::fs::create_dir_all(&own)?;
        std::fs::write(&pinned, &root)?;
        return Ok(std::fs::write(arguments.metadata_dir.join("root.json"), root)?);
    }
    let source = registry(arguments)?;
    let limits = TrustLimits::default();
    let (pinned, now) = (std::fs::read(&pinned)?, Timestamp::now());
    let store = Store::open(&own.join("store"), &limits)?;
    let Loaded { known, floor, .. } = store.load(&pinned)?;
    let fetcher = Fetcher::new(&source, &limits)?;
    let mut client = Client::new(fetcher, &source, &pinned, known.documents.clone(), floor, limits)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        client.refresh(now).await?;
        match &arguments.command {
            Command::Download => download(&mut client, arguments, now).await,
            _ => Ok(()),
        }
    });
    let documents = client.documents().clone();
    show(&client, &arguments.metadata_dir)?;
    let known = if done.is_ok() { Known::good(documents, now) } else { Known::partial(known, documents) };
    store.save(&known, client.floor())?;
    done
}

/// The address of the folder that holds both of the suite's.
fn registry(arguments: &Arguments) -> anyhow::Result<RegistrySource> {
    let metadata = arguments.metadata_url.as_deref().context("--metadata-url is missing")?;
    let base = metadata
        .trim_end_matches('/')
        .strip_suffix("/metadata")
        .context("--metadata-url does not end in /metadata/")?;
    if let Some(targets) = &arguments.target_base_url
        && targets.trim_end_matches('/') != format!("{base}/targets")
    {
        bail!("--target-base-url is not beside --metadata-url");
    }
    Ok(base.parse()?)
}

async fn download(client: &mut Client, arguments: &Arguments, now: Timestamp) -> anyhow::Result<()> {
    let folder = arguments.target_dir.as_ref().context("--target-dir is missing")?;
    for name in &arguments.target_name {
        let entry = client.find(name, now).await?;
        let entry = entry.with_context(|| format!("no role lists {name}"))?;
        // A name may be anything; its digest is the name of a file.
        let file = folder.join(Digest::of(name.as_bytes()).to_hex());
        if !is_here(&file, &entry) {
            std::fs::write(&file, client.download(&entry, name, now).await?)?;
        }
    }
    Ok(())
}

fn is_here(file: &Path, entry: &TargetFile) -> bool {
    let bytes = std::fs::read(file).ok();
    bytes.is_some_and(|bytes| entry.hashes.get("sha256") == Some(&Digest::of(&bytes).to_hex()))
}

/// Copies what is trusted to where the suite looks.
fn show(client: &Client, folder: &Path) -> anyhow::Result<()> {
    let mut shown = vec!["root.json".to_owned()];
    for (role, text) in client.documents().roles() {
        let is_plain = role.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let name = if is_plain { role.to_owned() } else { Digest::of(role.as_bytes()).to_hex() };
        std::fs::write(folder.join(format!("{name}.json")), text)?;
        shown.push(format!("{name}.json"));
    }
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".json") && !shown.iter().any(|shown| shown == name) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
