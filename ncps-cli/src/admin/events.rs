//! `ncps-cli events`: what happened, what happens, and who changed what.

use clap::Args;
use futures::StreamExt;
use ncps_proto::admin::{Event, EventsWanted};
use serde::Serialize;

use super::Session;
use super::units::Time;
use crate::failure::Done;
use crate::output::Shown;

#[derive(Args)]
pub(super) struct Command {
    /// Go on with what happens, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only changes that somebody asked for, with who asked: the audit log.
    #[arg(long)]
    audit: bool,
    /// At most so many from before.
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: u32,
}

/// Something that happened.
#[derive(Serialize)]
pub(super) struct Shows {
    /// Grows with time.
    id: u64,
    at: Time,
    kind: &'static str,
    /// Who asked for it; null where ncps did it by itself.
    actor: Option<String>,
    /// The hash of the store path that it is about.
    path: Option<String>,
    /// The NAR file that it is about.
    nar_file: Option<String>,
    detail: String,
}

impl From<Event> for Shows {
    fn from(event: Event) -> Shows {
        Shows {
            id: event.id,
            at: Time(event.at),
            kind: event.kind.name(),
            actor: event.actor,
            path: event.path.map(|path| path.to_string()),
            nar_file: event.nar.map(|nar| nar.file_name()),
            detail: event.detail,
        }
    }
}

impl Shown for Shows {
    fn text(&self) -> String {
        let about = self.path.as_deref().or(self.nar_file.as_deref()).unwrap_or("-");
        let by = self.actor.as_ref().map(|actor| format!("  by {actor}")).unwrap_or_default();
        format!("{}  {:<12}  {about}  {}{by}\n", self.at, self.kind, self.detail)
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    let Command { follow, audit, last } = command;
    let mut events = session.admin().await?.events(EventsWanted { last, audit, follow }).await?;
    while let Some(event) = events.next().await {
        session.output.print_line(&Shows::from(event?))?;
    }
    Ok(())
}
