//! `ncps-cli key`: the keys that narinfos are signed with.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ncps_nix::SecretKey;
use ncps_proto::admin::Keys;
use serde::Serialize;

use super::Session;
use super::new_file::{NewFile, PRIVATE};
use super::units::Time;
use crate::failure::{Done, Failure};
use crate::output::Shown;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the public key that clients trust (trusted-public-keys in nix.conf).
    Show,
    /// Print the line for nix.conf of clients: our public keys and those of the upstreams.
    ///
    /// Both are needed. While an edge can't reach control, what it does not have yet is served with the upstreams'
    /// signatures alone (--when-control-away), and a client that trusts only our key refuses it for 30 days.
    NixConf,
    /// Print all public keys, former ones too; or write the secret key to a file.
    Export(Export),
    /// Make a pair of keys on this machine, without asking control.
    Generate(Generate),
    /// Let a new key sign from now on.
    ///
    /// It has a new name, since Nix keeps one key per name. The former key stays listed and its signatures stay, so
    /// that clients which trust it alone go on for as long as they need; stored paths get the new signature when they
    /// are asked for.
    Rotate(Rotate),
}

#[derive(Args)]
pub(super) struct Export {
    /// The secret key instead: whoever has it can sign as this cache. Noted in the audit log.
    #[arg(long, requires = "to")]
    secret: bool,
    /// A file to be made, readable for its owner alone. One that is there already is left as it is.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Generate {
    /// The name of both keys, such as a host name.
    name: String,
    /// A file to be made for the secret key, readable for its owner alone.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// The new key's name; by default the former one's with a number: host, host-2, host-3.
    #[arg(long)]
    name: Option<String>,
}

/// A signing key.
#[derive(Serialize)]
struct Shows {
    /// `NAME:BASE64`, the public half of what signs.
    signing: String,
    /// What signed before, the newest first.
    former: Vec<Former>,
    /// The same as lines: the signing key alone, or all.
    #[serde(skip)]
    all: bool,
}

#[derive(Serialize)]
struct Former {
    key: String,
    retired_at: Time,
}

impl Shown for Shows {
    fn text(&self) -> String {
        let former = self.former.iter().filter(|_| self.all).map(|former| &former.key);
        std::iter::once(&self.signing).chain(former).map(|key| format!("{key}\n")).collect()
    }
}

/// What clients trust.
#[derive(Serialize)]
struct NixConf {
    trusted_public_keys: Vec<String>,
}

impl NixConf {
    fn of(keys: &Keys) -> NixConf {
        NixConf { trusted_public_keys: keys.ours().chain(&keys.trusted).map(ToString::to_string).collect() }
    }
}

impl Shown for NixConf {
    fn text(&self) -> String {
        format!("trusted-public-keys = {}\n", self.trusted_public_keys.join(" "))
    }
}

/// The public half of a pair that was made.
#[derive(Serialize)]
struct Made {
    public: String,
    /// Where the secret half is.
    secret_file: String,
}

impl Shown for Made {
    fn text(&self) -> String {
        format!("{}\n", self.public)
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command {
        Command::Show => session.output.print(&shows(session.admin().await?.keys().await?, false)?),
        Command::NixConf => session.output.print(&NixConf::of(&session.admin().await?.keys().await?)),
        Command::Export(Export { secret: true, to: Some(to) }) => export_secret(&to, session).await,
        Command::Export(Export { to, .. }) => export(to.as_deref(), session).await,
        Command::Generate(Generate { name, to }) => generate(&name, &to, session),
        Command::Rotate(Rotate { name }) => {
            session.output.print(&shows(session.admin().await?.rotate_key(name).await?, true)?)
        }
    }
}

fn shows(keys: Keys, all: bool) -> Result<Shows, Failure> {
    let unsigned = || Failure::Failed("narinfos are not signed here (--cache-sign-narinfo=false)".to_owned());
    let former = keys.former.into_iter();
    Ok(Shows {
        signing: keys.signing.ok_or_else(unsigned)?.to_string(),
        former: former.map(|f| Former { key: f.key.to_string(), retired_at: Time(f.retired_at) }).collect(),
        all,
    })
}

async fn export(to: Option<&Path>, session: &Session) -> Done {
    let keys = shows(session.admin().await?.keys().await?, true)?;
    match to {
        None => session.output.print(&keys),
        Some(to) => NewFile::make(to, PRIVATE)?.write(&keys.text()),
    }
}

/// The file comes first: nothing is told, and noted, that can't be kept.
async fn export_secret(to: &Path, session: &Session) -> Done {
    let admin = session.admin().await?;
    let file = NewFile::make(to, PRIVATE)?;
    let secret = admin.export_key().await?;
    file.write(&format!("{}\n", secret.reveal()))
}

fn generate(name: &str, to: &Path, session: &Session) -> Done {
    let key = SecretKey::generate(name)
        .map_err(|error| Failure::Input(format!("a key can't be named {name:?}: {error}")))?;
    NewFile::make(to, PRIVATE)?.write(&format!("{}\n", key.to_text().as_str()))?;
    let secret_file = to.display().to_string();
    session.output.print(&Made { public: key.public().to_string(), secret_file })
}
