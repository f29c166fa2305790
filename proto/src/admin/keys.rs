//! The keys of the cache. Public halves alone ever cross this seam.

use ncps_nix::PublicKey;

use super::client::{RemoteAdmin, ask};
use crate::gen_v1 as wire;
use crate::{Error, Result};

/// The keys of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What signs; `None` where narinfos are not signed.
    pub signing: Option<PublicKey>,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::keys`].
    pub async fn keys(&self) -> Result<Keys> {
        keys(ask!(self.keys(wire::KeysRequest {})))
    }
}

pub(super) fn keys_wire(keys: Keys) -> wire::KeysReply {
    wire::KeysReply { signing: keys.signing.map(|key| key.to_string()).unwrap_or_default() }
}

fn keys(reply: wire::KeysReply) -> Result<Keys> {
    let signing = Some(&reply.signing).filter(|text| !text.is_empty());
    let signing = signing.map(|text| PublicKey::parse(text)).transpose();
    Ok(Keys { signing: signing.map_err(|e| Error::internal("read a public key").because(e))? })
}
