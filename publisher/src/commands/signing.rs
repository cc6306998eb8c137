//! `key new`, `init --roles`, `root`, `propose`, `review`, `sign`, `publish`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use lockgate_publish::documents::ExpiryDays;
use lockgate_publish::envelope;
use lockgate_publish::key_file;
use lockgate_publish::keys::{Keyring, pinned_root_path};
use lockgate_publish::proposal::{Proposal, TrustedRoot};
use lockgate_publish::publish::{self, Publication, Selection};
use lockgate_publish::repository::Repository;
use lockgate_publish::roles_file;
use lockgate_publish::{ceremony, change::Change};
use serde_json::json;

use crate::answer::Answer;
use crate::cli::signing::{KeyNew, Propose, Publish, Review, RootExtend, RootRotate, Sign};
use crate::cli::{self, Init, Place};
use crate::{NOTHING_STAGED, open, read, report};

/// The largest root.json, bytes.
const ROOT_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn key_new(new: KeyNew) -> anyhow::Result<Answer> {
    let passphrase = (!new.no_passphrase).then(|| new.passphrase.source());
    let public = key_file::create(&new.file, passphrase)?;
    let id = envelope::key_id(&public)?;
    let public_file = key_file::public_path(&new.file);
    Ok(Answer {
        text: format!(
            "Made {} and {}.\nKeep the first to yourself. Give the second to whoever writes the roles file, and compare \
             with them by telephone: {}\n",
            new.file.display(),
            public_file.display(),
            &id[..16]
        ),
        json: json!({ "key": new.file, "public": public_file, "id": id }),
        exit_code: 0,
    })
}

pub(crate) fn init(init: &Init, roles: &Path, now: Timestamp) -> anyhow::Result<Answer> {
    let table = roles_file::read(roles)?;
    let change = ceremony::first(&table, init.expiry.with_root(init.root_days), now)?;
    let out = init.out.clone().unwrap_or_else(|| cli::beside(&init.dir, "-init"));
    proposed(&Proposal::write_first(&out, change)?, &out)
}

pub(crate) fn root_rotate(rotate: RootRotate, now: Timestamp) -> anyhow::Result<Answer> {
    let RootRotate { out, roles, root_days, place } = rotate;
    let repository = open(place)?;
    let live = publish::live(&repository)?;
    let expiry = ExpiryDays { root: root_days, ..ExpiryDays::default() };
    let change = ceremony::rotated(&live, &roles_file::read(&roles)?, expiry, now)?;
    proposed(&Proposal::write(&out, change, &repository, &live)?, &out)
}

pub(crate) fn root_extend(extend: RootExtend, now: Timestamp) -> anyhow::Result<Answer> {
    let RootExtend { out, root_days, place } = extend;
    let repository = open(place)?;
    let live = publish::live(&repository)?;
    let expiry = ExpiryDays { root: root_days, ..ExpiryDays::default() };
    let change = ceremony::extended(&live, expiry, now)?;
    proposed(&Proposal::write(&out, change, &repository, &live)?, &out)
}

pub(crate) fn propose(propose: Propose, now: Timestamp) -> anyhow::Result<Answer> {
    let Propose { out, roles, renew, targets_days, place } = propose;
    let repository = open(place)?;
    let live = publish::live(&repository)?;
    let expiry = ExpiryDays { targets: targets_days, ..ExpiryDays::default() };
    let selection = Selection { renew, roles };
    match publish::propose(&repository, &live, &selection, expiry, now)? {
        Some(change) => proposed(&Proposal::write(&out, change, &repository, &live)?, &out),
        None => Ok(Answer {
            text: "Nothing is staged, so there is nothing to propose.\n".to_owned(),
            json: json!({ "proposal": null }),
            exit_code: NOTHING_STAGED,
        }),
    }
}

fn proposed(proposal: &Proposal, out: &Path) -> anyhow::Result<Answer> {
    let digest = proposal.change.digest()?.to_hex();
    let warnings: String = proposal.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    Ok(Answer {
        text: format!(
            "{warnings}Made the proposal {}.\nCarry it to those who sign. Each runs `review` and `sign` on it or on a copy; then \
             `publish` it, with every signed copy.\nDigest: {digest}\n",
            out.display()
        ),
        json: json!({ "proposal": out, "digest": digest, "warnings": proposal.warnings }),
        exit_code: 0,
    })
}

pub(crate) fn review(review: &Review) -> anyhow::Result<Answer> {
    let proposal = Proposal::open(&review.proposal)?;
    let root = review.root.clone().map(trusted).transpose()?;
    let (_, review) = proposal.review(root.as_ref())?;
    Answer::of(&review)
}

pub(crate) fn sign(sign: Sign) -> anyhow::Result<Answer> {
    let mut proposal = Proposal::open(&sign.proposal)?;
    // The proposal came through a folder that anybody may write to, and so would a root beside it.
    let beside_the_key = Some(sign.key.with_file_name("root.json")).filter(|file| file.exists());
    let root = sign.root.or(beside_the_key).map(trusted).transpose()?;
    // What is signed was checked by whoever signs it, and not only by whoever proposed it.
    let (live, review) = proposal.review(root.as_ref())?;
    let digest = review.digest;
    if sign.digest.is_some_and(|expected| expected != digest) {
        bail!(
            "the proposal's digest is {}, which is not the one that you reviewed; review it again before you sign",
            digest.to_hex()
        );
    }
    // Before the passphrase is asked for: whoever types it has seen what it signs.
    eprintln!("Proposal {}\n{}", digest.to_hex(), review.vouched_for());
    let key = key_file::load(&sign.key, sign.passphrase.source())?;
    let (signed, news) = proposal.change.sign(&live, &key)?;
    if signed.is_empty() {
        let who = proposal.change.who_may_sign(&live)?;
        bail!("{} may sign none of its documents. {who}", sign.key.display());
    }
    proposal.save()?;
    let (_, review) = proposal.review(root.as_ref())?;
    let roles: Vec<_> = signed.iter().map(ToString::to_string).collect();
    let verb = if news { "Signed" } else { "You had signed already:" };
    let mut text = format!("{verb} {}.\n", roles.join(", "));
    for signature in &review.signatures {
        text.push_str(&format!("  {}: {}\n", signature.role, signature.standing));
    }
    let json = json!({ "digest": digest, "root": review.root, "signed": signed, "new": news, "signatures": review.signatures });
    Ok(Answer { text, json, exit_code: 0 })
}

fn trusted(file: PathBuf) -> anyhow::Result<TrustedRoot> {
    let bytes = read(&file, ROOT_BYTES_MAX)?;
    Ok(TrustedRoot { file, bytes })
}

pub(crate) fn publish(publish: Publish, now: Timestamp) -> anyhow::Result<Answer> {
    let Publish { proposals, place, expiry, roles, renew } = publish;
    // The root is not signed here.
    let expiry = expiry.with_root(1);
    let copies: Vec<Change> =
        proposals.iter().map(|dir| Ok(Proposal::open(dir)?.change)).collect::<anyhow::Result<_>>()?;
    if copies.first().is_some_and(Change::is_first) {
        return publish_first(place, &copies, expiry, now);
    }
    let repository = open(place)?;
    let keys = Keyring::load(repository.keys_dir())?;
    let publication = if copies.is_empty() {
        publish::publish(&repository, &keys, &Selection { renew, roles }, expiry, now)?
    } else {
        publish::publish_proposal(&repository, &copies, &keys, expiry, now)?
    };
    Ok(match publication {
        Publication::NothingStaged => Answer::of(&report::nothing_staged())?.with_exit_code(NOTHING_STAGED),
        Publication::Published { added, version, expires } => {
            Answer::of(&report::published(&added, version, expires))?
        }
    })
}

fn publish_first(
    place: Place,
    copies: &[Change],
    expiry: ExpiryDays,
    now: Timestamp,
) -> anyhow::Result<Answer> {
    let keys_dir = cli::keys_dir(&place.repository, place.keys);
    Repository::check_places(&place.repository, &keys_dir)?;
    let keys = Keyring::load(&keys_dir).context(
        "the keys folder needs the online key: make it with `key new FOLDER/online.pem --no-passphrase`",
    )?;
    publish::init(&place.repository, &keys_dir, copies, &keys, expiry, now)?;
    let root = pinned_root_path(&keys_dir);
    Ok(Answer {
        text: format!(
            "Made the repository {}.\nEvery site, and everybody who signs, needs {}, by another way than the web server.\n",
            place.repository.display(),
            root.display()
        ),
        json: json!({ "repository": place.repository, "keys": keys_dir, "root": root }),
        exit_code: 0,
    })
}
