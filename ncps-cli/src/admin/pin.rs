//! `ncps-cli pin`: roots that are kept with all that they need.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use ncps_proto::admin::{PinOrder, PinRow, Pinned};
use ncps_runtime::config::values;
use serde::Serialize;

use super::Session;
use super::units::{PathArg, Time};
use crate::failure::Done;
use crate::output::{Shown, Table};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Keep a path from eviction, and everything that it references, directly or not.
    ///
    /// The path must be in the index: fetch it through the cache first. NAR files that are not stored are not
    /// fetched by this; what is referenced and not in the index yet is kept as soon as it comes.
    Add(Add),
    /// End every pin of a path, or of a label.
    Remove {
        /// A store path, its base name, its hash, or a label.
        #[arg(value_name = "PATH|LABEL")]
        what: String,
    },
    /// List the pins, by label and path.
    List,
}

#[derive(Args)]
pub(super) struct Add {
    /// A store path, its base name, or its hash.
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// What the pin is called. Several pins may have one label.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    label: Option<String>,
    /// The pin ends by itself after this time, such as 12h or 30d. By default it lasts.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    expires: Option<Duration>,
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command {
        Command::Add(pin) => add(pin, session).await,
        Command::Remove { what } => remove(what, session).await,
        Command::List => list(session).await,
    }
}

#[derive(Serialize)]
struct Shows {
    path: String,
    label: Option<String>,
    made_by: String,
    created_at: Time,
    expires_at: Option<Time>,
}

impl From<PinRow> for Shows {
    fn from(pin: PinRow) -> Shows {
        Shows {
            path: pin.path.absolute(),
            label: pin.label,
            made_by: pin.made_by,
            created_at: Time(pin.created_at),
            expires_at: pin.expires_at.map(Time),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Shows>);

impl Shown for Rows {
    fn text(&self) -> String {
        let mut table = Table::new(["LABEL", "EXPIRES", "MADE BY", "PATH"], &[]);
        for pin in &self.0 {
            table.row([
                pin.label.clone().unwrap_or_else(|| "-".to_owned()),
                pin.expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string()),
                pin.made_by.clone(),
                pin.path.clone(),
            ]);
        }
        table.text()
    }
}

/// A pin that was made.
#[derive(Serialize)]
struct Added {
    pin: Shows,
    /// Paths that it protects.
    paths: u64,
    /// Paths that are referenced and not in the index yet.
    unknown: u64,
}

impl Shown for Added {
    fn text(&self) -> String {
        let mut text = format!("pinned {} and what it needs: {} paths\n", self.pin.path, self.paths);
        if self.unknown > 0 {
            text.push_str(&format!("{} more are referenced, and kept as soon as they come\n", self.unknown));
        }
        text
    }
}

async fn add(Add { path, label, expires }: Add, session: &Session) -> Done {
    let order = PinOrder { path: path.0, label, lasts: expires };
    let Pinned { pin, paths, unknown } = session.admin().await?.add_pin(order).await?;
    session.output.print(&Added { pin: pin.into(), paths, unknown })
}

/// Pins that ended.
#[derive(Serialize)]
#[serde(transparent)]
struct Removed(Vec<Shows>);

impl Shown for Removed {
    fn text(&self) -> String {
        self.0.iter().map(|pin| format!("unpinned {}\n", pin.path)).collect()
    }
}

async fn remove(what: String, session: &Session) -> Done {
    let removed = session.admin().await?.remove_pin(what).await?;
    session.output.print(&Removed(removed.into_iter().map(Shows::from).collect()))
}

async fn list(session: &Session) -> Done {
    let pins = session.admin().await?.pins().await?;
    session.output.print(&Rows(pins.into_iter().map(Shows::from).collect()))
}
