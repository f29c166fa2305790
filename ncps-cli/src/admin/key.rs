//! `ncps-cli key`: the keys that narinfos are signed with.

use clap::Subcommand;
use ncps_proto::admin::Keys;
use serde::Serialize;

use super::Session;
use crate::failure::{Done, Failure};
use crate::output::Shown;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the public key that clients trust (trusted-public-keys in nix.conf).
    Show,
}

/// The keys of a cache.
#[derive(Serialize)]
struct Shows {
    /// `NAME:BASE64`, the public half of what signs.
    signing: String,
}

impl Shown for Shows {
    fn text(&self) -> String {
        format!("{}\n", self.signing)
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command {
        Command::Show => show(session).await,
    }
}

async fn show(session: &Session) -> Done {
    let Keys { signing } = session.admin().await?.keys().await?;
    let Some(signing) = signing else {
        return Err(Failure::Failed("narinfos are not signed here (--cache-sign-narinfo=false)".to_owned()));
    };
    session.output.print(&Shows { signing: signing.to_string() })
}
