//! `ncps-cli config`: what control runs with.

use ncps_proto::admin::Setting;
use serde::Serialize;

use super::Session;
use crate::failure::Done;
use crate::output::{Shown, Table};

/// One value.
#[derive(Serialize)]
struct Row {
    flag: String,
    /// Secrets are hidden.
    value: String,
    /// Where it comes from.
    source: String,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

impl Shown for Rows {
    fn text(&self) -> String {
        let mut table = Table::new(["FLAG", "VALUE", "FROM"], &[]);
        for row in &self.0 {
            table.row([format!("--{}", row.flag), row.value.clone(), row.source.clone()]);
        }
        table.text()
    }
}

pub(super) async fn run(session: &Session) -> Done {
    let settings = session.admin().await?.config().await?.into_iter();
    let row = |Setting { flag, value, source }| Row { flag, value, source };
    session.output.print(&Rows(settings.map(row).collect()))
}
