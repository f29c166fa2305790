//! What control runs with.

use super::client::{RemoteAdmin, ask};
use crate::Result;
use crate::gen_v1 as wire;

/// One value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag's name, without dashes.
    pub flag: String,
    /// What it is; a secret is not told.
    pub value: String,
    /// Where that comes from.
    pub source: String,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::config`].
    pub async fn config(&self) -> Result<Vec<Setting>> {
        let reply = ask!(self.config(wire::ConfigRequest {}));
        let setting = |one: wire::Setting| Setting { flag: one.flag, value: one.value, source: one.source };
        Ok(reply.settings.into_iter().map(setting).collect())
    }
}

pub(super) fn config_wire(settings: Vec<Setting>) -> wire::ConfigReply {
    let setting = |one: Setting| wire::Setting { flag: one.flag, value: one.value, source: one.source };
    wire::ConfigReply { settings: settings.into_iter().map(setting).collect() }
}
