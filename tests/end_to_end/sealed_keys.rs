//! Token keys of sites that cannot reach the keyholder: from its sealed file to the site's state folder, by the real programs,
//! and everything that is not the key for this site.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;
use lockgate_signing::bundle::TokenScheme;
use lockgate_signing::delivery::TokenKeyDelivery;
use lockgate_signing::envelope::verify;
use lockgate_signing::keys::PublicKey;
use lockgate_signing::sealed::OpeningKey;
use lockgate_tests::opened::{self, OpenedBundle};
use lockgate_tests::{Keyholder, Site, SiteOptions, Stage};

use crate::TestResult;
use crate::tokens::{move_entries, publish_epochs, renewed};

const DOMAIN: &str = "care-data";

/// A stage, and a keyholder that nobody can reach: it never serves.
struct Scene {
    stage: Stage,
    keyholder: Keyholder,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let stage = Stage::new(&["gp-monthly"])?;
        let keyholder = Keyholder::new(&stage.binaries, stage.folder(), &[DOMAIN])?;
        publish_epochs(&stage, &keyholder, &[(1, "2026-01-01", "2027-12-31")])?;
        Ok(Self { stage, keyholder })
    }

    /// A site that has no token key, and is entered at the keyholder.
    fn site(&self, name: &str, id: &str, database: &Path) -> anyhow::Result<Site> {
        let site = self.stage.site(name, SiteOptions::practice(id, database))?;
        std::fs::remove_file(site.state().join("opening-key.pem"))?;
        std::fs::remove_dir_all(site.state().join("tokens"))?;
        let key = text(&site.state().join("site-key.pub.pem"));
        self.keyholder.command(&["site", "add", id, &key, "--patients", "300"])?.ok()?;
        Ok(site)
    }

    /// The file in which the keyholder seals a key for a site that asks for it.
    fn sealed(&self, site: &Site, epoch: u32) -> anyhow::Result<PathBuf> {
        sealed_by(&self.keyholder, site, DOMAIN, epoch)
    }
}

fn sealed_by(keyholder: &Keyholder, site: &Site, domain: &str, epoch: u32) -> anyhow::Result<PathBuf> {
    let (request, out) = (site.folder.join("request"), site.folder.join(format!("{domain}-{epoch}")));
    site.command(&["token-key", "request", "--out", &text(&request)])?.ok()?;
    let epoch = epoch.to_string();
    let seal = ["key", "seal", domain, &epoch, "--request", &text(&request), "--out", &text(&out)];
    keyholder.command(&seal)?.ok()?;
    Ok(out)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Tries to install a file; it has to be refused with these words, and nothing may be installed by it.
fn refused(site: &Site, file: &Path, words: &[&str]) -> TestResult {
    let before = site.command(&["--json", "token-key"])?.ok()?.json()?;
    let finished = site.command(&["token-key", "install", &text(file)])?.expect(1)?;
    for word in words {
        ensure!(finished.stderr.contains(word), "no `{word}` in: {}", finished.stderr);
    }
    let after = site.command(&["--json", "token-key"])?.ok()?.json()?;
    ensure!(before == after, "{before} became {after}");
    Ok(())
}

fn installed(site: &Site) -> anyhow::Result<String> {
    Ok(site.command(&["--json", "token-key"])?.ok()?.json()?["installed"].to_string())
}

#[test]
fn a_key_reaches_its_site_sealed_and_is_shown_to_nobody() -> TestResult {
    let scene = Scene::new()?;
    let database = scene.stage.practice_database("gp", 60)?;
    let site = scene.site("practice", "A81001", &database)?;
    // Without a key nothing runs, and the site is told what to do.
    let none = site.command(&["run"])?.expect(3)?;
    ensure!(
        none.stdout.contains("no key for `care-data` epoch 1 is installed here")
            && none.stdout.contains("token-key request"),
        "{}",
        none.stdout
    );
    ensure!(site.command(&["status"])?.expect(6)?.stdout.contains("token-key request"));

    let sealed = scene.sealed(&site, 1)?;
    let said = site.command(&["token-key", "install", &text(&sealed)])?.ok()?;
    // Again: nothing is lost by it.
    site.command(&["token-key", "install", &text(&sealed)])?.ok()?;
    let run = site.run()?;
    ensure!(run["acknowledged"].as_array().map(Vec::len) == Some(4), "{run}");
    for bundle in OpenedBundle::stored(&scene.stage.linker, &site)? {
        let tokens = &bundle.header.tokens;
        ensure!(tokens.scheme == TokenScheme::SealedKey && tokens.epoch == 1, "{tokens:?}");
    }
    ensure!(installed(&site)? == r#"[{"domain":"care-data","epoch":1}]"#);
    let history = site.command(&["history"])?.ok()?.stdout;
    ensure!(history.contains("token key") && history.contains("epoch 1"), "{history}");
    // Who has one is known.
    let audit = scene.keyholder.command(&["audit"])?.ok()?.stdout;
    ensure!(audit.contains("A81001 was given the sealed key of care-data epoch 1"), "{audit}");

    // The key: opened here as only the site can, and found nowhere, neither as bytes nor as text.
    let opening = OpeningKey::from_pem(&std::fs::read_to_string(site.state().join("opening-key.pem"))?)?;
    let signer = signer(&scene.keyholder)?;
    let delivery = verify::<TokenKeyDelivery>(&std::fs::read(&sealed)?, &signer)?.into_message();
    let key = delivery.open(&opening)?;
    let hex = HEXLOWER.encode(key.as_slice());
    for file in opened::files(scene.stage.folder())? {
        let bytes = std::fs::read(&file)?;
        ensure!(!bytes.windows(32).any(|window| window == key.as_slice()), "in {}", file.display());
        ensure!(!bytes.windows(64).any(|window| window == hex.as_bytes()), "in {}", file.display());
    }
    ensure!(!format!("{}{}", said.stdout, said.stderr).contains(&hex));
    use std::os::unix::fs::PermissionsExt as _;
    for file in ["opening-key.pem", "tokens/keys/care-data-1.sealed"] {
        let mode = std::fs::metadata(site.state().join(file))?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{file}: {mode:o}");
    }
    Ok(())
}

fn signer(keyholder: &Keyholder) -> anyhow::Result<PublicKey> {
    let listed = keyholder.command(&["--json", "keys"])?.ok()?.json()?;
    let hex = listed["signing-key"].as_str().context("no signing key")?;
    let bytes = HEXLOWER.decode(hex.as_bytes())?.try_into().ok().context("32 bytes")?;
    Ok(PublicKey::from_bytes(&bytes)?)
}

#[test]
fn what_is_not_the_key_for_this_site_has_its_reason() -> TestResult {
    let scene = Scene::new()?;
    let database = scene.stage.practice_database("gp", 20)?;
    let site = scene.site("practice", "A81001", &database)?;
    let other_site = scene.site("other", "A81002", &database)?;
    let good = scene.sealed(&site, 1)?;
    let bytes = std::fs::read(&good)?;
    let changed = site.folder.join("changed");
    let refused_bytes = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&changed, bytes)?;
        refused(&site, &changed, words)
    };

    // Not whole, with more after it, another file, nothing.
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        refused_bytes(&bytes[..length], &["not a whole token key", "copy the file again"])?;
    }
    refused_bytes(&[&bytes[..], &[0]].concat(), &["not a whole token key"])?;
    refused_bytes(&std::fs::read(site.folder.join("request"))?, &["is not of type"])?;
    refused_bytes(&vec![0; 2 << 20], &["more than"])?;
    // Changed: in the sealed key, and in the signature.
    for position in [bytes.len() - 70, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        refused_bytes(&changed, &["not a whole token key", "signature"])?;
    }
    refused(&site, &site.folder.join("nothing"), &["cannot read", "nothing"])?;

    // Another site's.
    refused(&site, &scene.sealed(&other_site, 1)?, &["it is for site A81002, and this is A81001"])?;
    // Another keyholder's, which knows the site.
    let folder = tempfile::tempdir()?;
    let other = Keyholder::new(&scene.stage.binaries, folder.path(), &[DOMAIN])?;
    let key = text(&site.state().join("site-key.pub.pem"));
    other.command(&["site", "add", "A81001", &key, "--patients", "300"])?.ok()?;
    let false_key = sealed_by(&other, &site, DOMAIN, 1)?;
    refused(&site, &false_key, &["which the registry names as no keyholder's"])?;
    // Another purpose's, an epoch that is not published, and one that is over.
    scene.keyholder.command(&["key", "new", "other-purpose"])?.ok()?;
    let purpose = sealed_by(&scene.keyholder, &site, "other-purpose", 1)?;
    refused(&site, &purpose, &["it is for purpose `other-purpose`"])?;
    scene.keyholder.command(&["key", "new", DOMAIN])?.ok()?;
    let second = scene.sealed(&site, 2)?;
    refused(&site, &second, &["epoch 2 of `care-data`, which is not published"])?;
    let mut later = Site::new(
        scene.stage.binaries.program("lockgate-agent")?,
        site.folder.clone(),
        site.options.clone(),
        &scene.stage.registry.location(),
        &scene.stage.registry.root(),
        &scene.stage.linker.url(),
    )?;
    later.options.as_of = "2028-01-01".to_owned();
    refused(&later, &scene.sealed(&site, 1)?, &["epoch 1 of `care-data`, which ended on 2027-12-31"])?;

    // An old file again, after a newer one.
    publish_epochs(
        &scene.stage,
        &scene.keyholder,
        &[(1, "2026-01-01", "2027-12-31"), (2, "2026-10-01", "2028-12-31")],
    )?;
    site.command(&["token-key", "install", &text(&second)])?.ok()?;
    refused(&site, &good, &["epoch 1 of `care-data`, and epoch 2 is installed", "does not go back"])?;
    ensure!(installed(&site)? == r#"[{"domain":"care-data","epoch":2}]"#);

    // Sealed to a key that the site has lost.
    std::fs::remove_file(site.state().join("opening-key.pem"))?;
    site.command(&["token-key", "request", "--out", &text(&site.folder.join("request"))])?.ok()?;
    refused(&site, &second, &["it is sealed to key", "make a new request"])?;
    let run = site.command(&["run"])?.expect(3)?;
    ensure!(
        run.stdout.contains("care-data-2.sealed") && run.stdout.contains("sealed to key"),
        "{}",
        run.stdout
    );
    // A file that was put there, past `install`.
    let again = scene.sealed(&site, 2)?;
    site.command(&["token-key", "install", &text(&again)])?.ok()?;
    let kept = site.state().join("tokens/keys/care-data-2.sealed");
    std::fs::write(&kept, std::fs::read(scene.sealed(&other_site, 2)?)?)?;
    let run = site.command(&["run"])?.expect(3)?;
    ensure!(run.stdout.contains("it is for site A81002"), "{}", run.stdout);
    std::fs::write(&kept, std::fs::read(&again)?)?;
    let run = site.command(&["run"])?;
    ensure!(run.code == Some(0), "{}{}", run.stdout, run.stderr);

    // The key of the first version, in the clear, is no setting any more.
    let config = std::fs::read_to_string(site.config_path())?;
    let old = config.replace("scheme = \"sealed-key\"", "scheme = \"sealed-key\"\nkey-file = \"k\"");
    ensure!(old != config);
    std::fs::write(site.config_path(), old)?;
    let finished = site.command(&["config", "show"])?.expect(1)?;
    ensure!(finished.stderr.contains("key-file"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn the_keyholder_seals_for_sites_that_ask_for_themselves_and_for_nobody_else() -> TestResult {
    let scene = Scene::new()?;
    let database = scene.stage.practice_database("gp", 20)?;
    let site = scene.site("practice", "A81001", &database)?;
    let stranger = scene.stage.site("stranger", SiteOptions::practice("A81002", &database))?;
    let (request, out) = (site.folder.join("request"), site.folder.join("out"));
    let refused = |request: &Path, epoch: &str, word: &str| -> TestResult {
        let (request, out) = (text(request), text(&out));
        let seal = ["key", "seal", DOMAIN, epoch, "--request", &request, "--out", &out];
        let finished = scene.keyholder.command(&seal)?.expect(1)?;
        ensure!(finished.stderr.contains(word), "no `{word}` in: {}", finished.stderr);
        ensure!(!Path::new(&out).exists(), "a file was written all the same");
        Ok(())
    };
    stranger.command(&["token-key", "request", "--out", &text(&request)])?.ok()?;
    refused(&request, "1", "a key that is not entered here")?;
    // The stranger's key, entered for another site: it asks in the wrong name.
    let key = text(&stranger.state().join("site-key.pub.pem"));
    scene.keyholder.command(&["site", "add", "A81003", &key, "--patients", "300"])?.ok()?;
    refused(&request, "1", "it asks for A81002 and is signed by A81003")?;
    site.command(&["token-key", "request", "--out", &text(&request)])?.ok()?;
    refused(&request, "9", "there is no key for care-data epoch 9")?;
    let whole = std::fs::read(&request)?;
    std::fs::write(&request, &whole[..whole.len() - 1])?;
    refused(&request, "1", "not a whole request")?;
    std::fs::write(&request, &whole)?;
    scene.keyholder.command(&["site", "revoke", "A81001"])?.ok()?;
    refused(&request, "1", "A81001 is revoked")?;
    let audit = scene.keyholder.command(&["--json", "audit"])?.ok()?.json()?;
    ensure!(audit["sealed-keys"].as_array().is_some_and(Vec::is_empty), "{audit}");
    Ok(())
}

#[test]
fn a_site_with_both_keys_tells_the_warehouse_which_token_became_which() -> TestResult {
    let scene = Scene::new()?;
    let database = scene.stage.practice_database("gp", 60)?;
    move_entries(&database, "2026-11-15")?;
    let mut site = scene.site("practice", "A81001", &database)?;
    site.command(&["token-key", "install", &text(&scene.sealed(&site, 1)?)])?.ok()?;
    site.run()?;
    scene.keyholder.command(&["key", "new", DOMAIN])?.ok()?;
    publish_epochs(
        &scene.stage,
        &scene.keyholder,
        &[(1, "2026-01-01", "2027-03-31"), (2, "2026-12-01", "2027-12-31")],
    )?;
    site.command(&["refresh"])?.ok()?;
    let new = scene.sealed(&site, 2)?;
    site.options.as_of = "2026-12-01".to_owned();
    // The courier is late: the old key goes on to its last day.
    let late = site.run()?;
    ensure!(late["acknowledged"].as_array().map(Vec::len) == Some(1), "{late}");
    site.command(&["token-key", "install", &text(&new)])?.ok()?;
    site.options.as_of = "2027-01-01".to_owned();
    site.run()?;
    let sent = OpenedBundle::stored(&scene.stage.linker, &site)?;
    let epochs: Vec<u32> = sent.iter().map(|bundle| bundle.header.tokens.epoch).collect();
    ensure!(epochs == [1, 1, 1, 1, 1, 2, 2], "{epochs:?}");
    let renewed = renewed(&sent, (1, 2))?;
    ensure!(renewed.len() > 10, "{} are told", renewed.len());
    // Without the old key there is nobody to tell of, and the run goes on.
    std::fs::remove_file(site.state().join("tokens/keys/care-data-1.sealed"))?;
    site.options.as_of = "2027-02-01".to_owned();
    site.run()?;
    let last = OpenedBundle::stored(&scene.stage.linker, &site)?.pop().context("nothing was sent")?;
    ensure!(last.header.tokens.epoch == 2 && last.header.tokens.former.is_none(), "{:?}", last.header.tokens);
    Ok(())
}
