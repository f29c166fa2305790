//! `ncps-cli token`: who may do what, over HTTP and over gRPC.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate};
use clap::{Args, Subcommand};
use ncps_proto::{Expiry, MadeToken, NewToken, Scope, TokenInfo};
use ncps_runtime::config::values::duration;
use serde::Serialize;

use super::Session;
use super::new_file::{NewFile, PRIVATE};
use super::units::Time;
use crate::confirm::confirmed;
use crate::failure::{Done, Failure};
use crate::output::{Shown, Table};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a token and print its secret, which is kept nowhere and can't be shown again.
    Create(Create),
    /// List tokens; those too that were revoked, as long as it is remembered.
    List,
    /// End a token: whoever uses it is cut off.
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct Create {
    /// A name for lists and logs: letters, digits, and . _ @ -
    name: String,
    /// What it is good for: read, write, delete, sign (HTTP), edge (be an edge), durable (one whose disk is
    /// kept: edge,durable), admin (ncps-cli).
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE,...")]
    scope: Vec<Scope>,
    /// An edge where it counts, by its name; once for each. By default everywhere.
    #[arg(long, value_name = "NAME")]
    edge: Vec<String>,
    /// When it ends: after a time such as 90d or 12h, or at a date such as 2027-12-31 (its beginning, in UTC) or
    /// 2027-12-31T12:00:00Z. By default never.
    #[arg(long, value_parser = expiry, value_name = "TIME|DATE")]
    expires: Option<Expiry>,
    /// Write the secret to a new file that nobody else can read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Don't ask whether to close what is open to everybody.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// Its name, or its id.
    token: String,
    /// Don't ask whether to open to everybody what it closed.
    #[arg(long)]
    yes: bool,
}

/// A token; its secret where that was made just now and goes to no file.
#[derive(Serialize)]
struct Shows {
    id: String,
    name: String,
    scopes: Vec<String>,
    /// None: everywhere.
    edges: Vec<String>,
    created_at: Time,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Shows>);

impl Shown for Shows {
    fn text(&self) -> String {
        self.secret.as_ref().map(|secret| format!("{secret}\n")).unwrap_or_default()
    }
}

impl Shown for List {
    fn text(&self) -> String {
        let mut table = Table::new(["NAME", "SCOPES", "EDGES", "CREATED", "EXPIRES", "REVOKED", "ID"], &[]);
        for token in &self.0 {
            let or = |time: Option<Time>, none: &str| time.map_or(none.to_owned(), |time| time.to_string());
            let edges = if token.edges.is_empty() { "all".to_owned() } else { token.edges.join(",") };
            table.row([
                token.name.clone(),
                token.scopes.join(","),
                edges,
                token.created_at.to_string(),
                or(token.expires_at, "never"),
                or(token.revoked_at, "-"),
                token.id.clone(),
            ]);
        }
        table.text()
    }
}

impl From<TokenInfo> for Shows {
    fn from(token: TokenInfo) -> Self {
        Shows {
            id: token.id,
            name: token.name,
            scopes: token.scopes.iter().map(ToString::to_string).collect(),
            edges: token.edges,
            created_at: Time(token.created_at),
            expires_at: token.expires_at.map(Time),
            revoked_at: token.revoked_at.map(Time),
            secret: None,
        }
    }
}

pub(super) async fn run(command: Command, session: &Session) -> Done {
    match command {
        Command::Create(create) => self::create(create, session).await,
        Command::List => {
            let tokens = session.admin().await?.tokens().await?;
            session.output.print(&List(tokens.into_iter().map(Shows::from).collect()))
        }
        Command::Revoke(revoke) => self::revoke(revoke, session).await,
    }
}

async fn create(create: Create, session: &Session) -> Done {
    let admin = session.admin().await?;
    let closes = admin.open_to_all(None).await?;
    let closes = closes.into_iter().filter(|scope| create.scope.contains(scope));
    if let Some(what) = listed(closes) {
        let place = match &create.edge[..] {
            [] => String::new(),
            edges => format!(" at {}", edges.join(", ")),
        };
        confirmed(create.yes, &format!("From now on nobody can {what}{place} without such a token."))?;
    }
    // Before there is a secret that could be lost.
    let file = create.to.as_deref().map(|to| NewFile::make(to, PRIVATE)).transpose()?;
    let Create { name, scope: scopes, edge: edges, expires, .. } = create;
    let new = NewToken { name, scopes, edges, expiry: expires.unwrap_or_default() };
    let MadeToken { token, secret } = admin.create_token(new).await?;
    let mut shows = Shows::from(token);
    match file {
        Some(file) => {
            file.write(&format!("{}\n", secret.reveal())).map_err(|failure| lost(&failure, &shows.name))?
        }
        None => {
            eprintln!("The secret of {} is shown this once; whoever knows it may use it.", shows.name);
            shows.secret = Some(secret.reveal().to_owned());
        }
    }
    session.output.print(&shows)
}

async fn revoke(revoke: Revoke, session: &Session) -> Done {
    let admin = session.admin().await?;
    let before = admin.open_to_all(None).await?;
    let after = admin.open_to_all(Some(&revoke.token)).await?;
    if let Some(what) = listed(after.into_iter().filter(|scope| !before.contains(scope))) {
        confirmed(revoke.yes, &format!("From now on everybody can {what}: no other token closes that."))?;
    }
    let token = admin.revoke_token(&revoke.token).await?;
    eprintln!("{} ({}) is revoked.", token.name, token.id);
    session.output.print(&Shows::from(token))
}

fn listed(scopes: impl Iterator<Item = Scope>) -> Option<String> {
    let names: Vec<_> = scopes.map(Scope::name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn lost(failure: &Failure, name: &str) -> Failure {
    Failure::Failed(format!("{failure}; revoke {name}, its secret is lost"))
}

fn expiry(text: &str) -> Result<Expiry, String> {
    if let Ok(time) = duration(text) {
        return Ok(Expiry::After(time));
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let day = day.map(|day| day.and_utc().timestamp());
    let moment = || DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.timestamp());
    let expected = "expected a time such as 90d or 12h, or a date such as 2027-12-31 or 2027-12-31T12:00:00Z";
    day.or_else(moment).map(Expiry::At).ok_or_else(|| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ends_are_times_or_dates() {
        assert_eq!(expiry("90d"), Ok(Expiry::After(Duration::from_secs(90 * 86_400))));
        assert_eq!(expiry("1h30m"), Ok(Expiry::After(Duration::from_secs(5400))));
        assert_eq!(expiry("2027-01-01"), Ok(Expiry::At(1_798_761_600)));
        assert_eq!(expiry("2027-01-01T01:00:00+01:00"), Ok(Expiry::At(1_798_761_600)));
        for bad in ["", "soon", "90", "2027-13-01", "2027-02-30", "-1d"] {
            assert!(expiry(bad).is_err_and(|error| error.contains("such as 90d")), "{bad}");
        }
    }
}
