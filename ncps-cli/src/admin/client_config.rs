//! `ncps-cli client-config`: what a client's machine is told of this cache, ready to be pasted or written into a file.
//!
//! Knows control, for the keys and whether readers need a token. Absent: changing a file that is there, since a machine's
//! `nix.conf` has other things in it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ncps_edge::remote;
use ncps_nix::client_config::{CacheUrl, ClientConfig, Snippets, TOKEN_PLACEHOLDER};
use ncps_proto::{Scope, Secret};
use serde::Serialize;

use super::Session;
use super::new_file::{NewFile, PRIVATE, PUBLIC};
use crate::failure::{Done, Failure};
use crate::output::Shown;

/// Print what clients put into nix.conf, a NixOS module, a flake or a netrc file, or write it into a new file.
///
/// With our keys, former ones too, and those of the upstreams: both are needed, since what an edge serves while it can't
/// reach control has the upstreams' signatures alone.
#[derive(Args)]
pub(super) struct Command {
    /// Where clients reach the cache, such as http://cache.lan:8501.
    #[arg(value_parser = CacheUrl::parse)]
    url: CacheUrl,
    /// Print this one alone. By default all, each under a line that says where it goes.
    #[arg(long, value_enum, value_name = "FORM")]
    form: Option<Form>,
    /// A file to be made for that one. One that is there already is left as it is.
    #[arg(long, value_name = "FILE", requires = "form")]
    to: Option<PathBuf>,
    /// Ask this cache before those with a higher number, in place of what it says of itself (--cache-priority).
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u32>,
    /// A file with a token of scope read, for the netrc file. By default the word TOKEN stands for it, where readers need
    /// one.
    #[arg(long, value_name = "FILE")]
    read_token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines for /etc/nix/nix.conf.
    NixConf,
    /// Settings for a NixOS module.
    Nixos,
    /// An attribute for a flake.nix.
    Flake,
    /// A line for /etc/nix/netrc.
    Netrc,
}

impl Form {
    /// A netrc file is its owner's alone.
    fn mode(self) -> u32 {
        if self == Form::Netrc { PRIVATE } else { PUBLIC }
    }
}

/// All of them, or the one that was asked for.
#[derive(Serialize)]
struct Shows {
    substituter: String,
    trusted_public_keys: Vec<String>,
    nix_conf: String,
    nixos: String,
    flake: String,
    netrc: Option<String>,
    #[serde(skip)]
    form: Option<Form>,
}

impl Shows {
    fn new(config: &ClientConfig<'_>, form: Option<Form>) -> Result<Self, Failure> {
        let Snippets { nix_conf, nixos, flake, netrc } = config.snippets();
        if form == Some(Form::Netrc) && netrc.is_none() {
            return Err(Failure::Input(
                "everybody may read from this cache: no netrc file is needed".to_owned(),
            ));
        }
        let (substituter, trusted_public_keys) = (config.substituter(), config.keys());
        Ok(Self { substituter, trusted_public_keys, nix_conf, nixos, flake, netrc, form })
    }

    fn of(&self, form: Form) -> &str {
        match form {
            Form::NixConf => &self.nix_conf,
            Form::Nixos => &self.nixos,
            Form::Flake => &self.flake,
            Form::Netrc => self.netrc.as_deref().unwrap_or_default(),
        }
    }
}

impl Shown for Shows {
    fn text(&self) -> String {
        if let Some(form) = self.form {
            return self.of(form).to_owned();
        }
        let all = [
            ("/etc/nix/nix.conf", Form::NixConf),
            ("a NixOS module", Form::Nixos),
            ("flake.nix, beside its inputs and outputs", Form::Flake),
            ("/etc/nix/netrc, readable for root alone", Form::Netrc),
        ];
        let needed =
            all.iter().map(|(place, form)| (place, self.of(*form))).filter(|(_, text)| !text.is_empty());
        needed.map(|(place, text)| format!("# {place}\n{text}")).collect::<Vec<_>>().join("\n")
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    let token = command.read_token_file.as_deref().map(remote::read_token).transpose();
    let token = token.map_err(|error| Failure::Input(format!("--read-token-file: {error}")))?;
    let admin = session.admin().await?;
    let keys = admin.keys().await?;
    let everybody_reads = admin.open_to_all(None).await?.contains(&Scope::Read);
    let ours: Vec<_> = keys.ours().cloned().collect();
    let shows = Shows::new(
        &ClientConfig {
            url: command.url,
            ours: &ours,
            upstream: &keys.trusted,
            priority: command.priority,
            token: token.as_ref().map(Secret::reveal).or((!everybody_reads).then_some(TOKEN_PLACEHOLDER)),
        },
        command.form,
    )?;
    match (&command.to, command.form) {
        (Some(to), Some(form)) => NewFile::make(to, form.mode())?.write(shows.of(form)),
        _ => session.output.print(&shows),
    }
}
