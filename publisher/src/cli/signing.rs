//! Keys, proposals and signatures.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use lockgate_publish::documents::ExpiryDays;
use lockgate_publish::key_file::PassphraseSource;
use lockgate_publish::role::Role;
use lockgate_signing::digest::Digest;

use super::{Expiry, Place, days};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a signing key: FILE, protected by a passphrase, and FILE.pub for the roles file.
    ///
    /// Each person makes their own key on their own computer and gives only FILE.pub away. There is no way to recover a
    /// lost passphrase: the key is then replaced with `root rotate`.
    New(KeyNew),
}

#[derive(Debug, Args)]
pub(crate) struct KeyNew {
    /// The file to make, for example governance.pem; it must not exist.
    pub file: PathBuf,
    /// Protect it by no passphrase. Only for the online key, with which a machine signs unattended.
    #[arg(long, conflicts_with = "passphrase_fd")]
    pub no_passphrase: bool,
    #[command(flatten)]
    pub passphrase: Passphrase,
}

#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// Read the passphrase from this open file descriptor, its first line, in place of asking for it.
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

impl Passphrase {
    pub(crate) fn source(&self) -> PassphraseSource {
        self.passphrase_fd.map_or(PassphraseSource::Prompt, PassphraseSource::Descriptor)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Propose {
    /// The folder to make; it must not exist. Carry it, or copies of it, to those who sign.
    pub out: PathBuf,
    /// Only what is staged for this role (may be repeated); everything when absent.
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<Role>,
    /// Sign again what is live, too, even where nothing is staged: new expiry dates.
    #[arg(long)]
    pub renew: bool,
    /// Days until what is signed must be signed again.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().targets, value_parser = days())]
    pub targets_days: u32,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Review {
    /// The proposal's folder.
    pub proposal: PathBuf,
    /// The root.json that you were given, from which the proposal's base must verify. One that lies beside the proposal is
    /// never believed. The first proposal of a repository has none.
    #[arg(long, env = "LOCKGATE_ROOT", hide_env_values = true, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The proposal's folder, or your copy of it.
    pub proposal: PathBuf,
    /// Your key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The root.json that you were given; the one beside your key when absent, and never one beside the proposal.
    #[arg(long, env = "LOCKGATE_ROOT", hide_env_values = true, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// Sign only if the proposal is the one that you reviewed: the digest that `review` showed.
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    pub digest: Option<Digest>,
    #[command(flatten)]
    pub passphrase: Passphrase,
}

fn digest(text: &str) -> Result<Digest, String> {
    Digest::from_hex(text).map_err(|_| "write the 64 hexadecimal digits that `review` showed".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The signed proposal, or its signed copies: their signatures are brought together.
    ///
    /// When absent, what is staged is signed with every unprotected key in the keys folder and made live in one step.
    pub proposals: Vec<PathBuf>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub expiry: Expiry,
    /// Without a proposal: only what is staged for this role (may be repeated).
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "proposals")]
    pub roles: Vec<Role>,
    /// Without a proposal: sign again what is live, even where nothing is staged: new expiry dates.
    #[arg(long, conflicts_with = "proposals")]
    pub renew: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    /// Propose other signers: a new root, signed by the old root's keys and by the new ones.
    ///
    /// Whatever the new signers would not vouch for is proposed to be signed again, as it is.
    Rotate(RootRotate),
    /// Propose the same root for longer, signed by its keys.
    Extend(RootExtend),
}

#[derive(Debug, Args)]
pub(crate) struct RootRotate {
    /// The folder of the proposal to make.
    pub out: PathBuf,
    /// Who signs from now on.
    #[arg(long, value_name = "FILE")]
    pub roles: PathBuf,
    /// Days until the root must be renewed.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().root, value_parser = days())]
    pub root_days: u32,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct RootExtend {
    /// The folder of the proposal to make.
    pub out: PathBuf,
    /// Days until the root must be renewed.
    #[arg(long, value_name = "DAYS", default_value_t = ExpiryDays::default().root, value_parser = days())]
    pub root_days: u32,
    #[command(flatten)]
    pub place: Place,
}

/// What a hold is of.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["module", "cohort", "everything"]).required(true).multiple(true))]
pub(crate) struct Held {
    /// This module; with --cohort, only there.
    #[arg(long, value_name = "ID")]
    pub module: Option<lockgate_signing::ids::Name>,
    /// The sites of this cohort; with --module, only that module.
    #[arg(long, value_name = "NAME")]
    pub cohort: Option<lockgate_signing::ids::Name>,
    /// Every module at every site.
    #[arg(long, conflicts_with_all = ["module", "cohort"])]
    pub everything: bool,
}
