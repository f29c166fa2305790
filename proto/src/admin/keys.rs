//! The keys of the cache. Public halves cross this seam; the secret one only where it was asked for by name.

use ncps_nix::PublicKey;

use super::client::{RemoteAdmin, ask};
use crate::convert::all;
use crate::gen_v1 as wire;
use crate::{Error, Result, Secret};

/// The keys of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What signs; `None` where narinfos are not signed.
    pub signing: Option<PublicKey>,
    /// What signed before, the newest first. Clients may go on trusting them: their signatures stay.
    pub former: Vec<FormerKey>,
    /// Those of the upstreams, which clients have to trust beside ours: what an edge serves without control has no
    /// signature of ours.
    pub trusted: Vec<PublicKey>,
}

impl Keys {
    /// Those of this cache, the one that signs first. Clients that know a former key need it as long as they remember what
    /// it signed.
    pub fn ours(&self) -> impl Iterator<Item = &PublicKey> {
        self.signing.iter().chain(self.former.iter().map(|former| &former.key))
    }
}

/// A key that signs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerKey {
    pub key: PublicKey,
    /// When another one took its place, in seconds since 1970.
    pub retired_at: i64,
}

impl RemoteAdmin {
    /// See [`super::AdminPlane::keys`].
    pub async fn keys(&self) -> Result<Keys> {
        keys(ask!(self.keys(wire::KeysRequest {})))
    }

    /// See [`super::AdminPlane::rotate_key`].
    pub async fn rotate_key(&self, name: Option<String>) -> Result<Keys> {
        keys(ask!(self.rotate_key(wire::RotateKeyRequest { name: name.unwrap_or_default() })))
    }

    /// See [`super::AdminPlane::export_key`].
    pub async fn export_key(&self) -> Result<Secret> {
        Ok(Secret::new(ask!(self.export_key(wire::ExportKeyRequest {})).secret))
    }
}

pub(super) fn keys_wire(keys: Keys) -> wire::KeysReply {
    let former =
        |former: FormerKey| wire::FormerKey { key: former.key.to_string(), retired_at: former.retired_at };
    wire::KeysReply {
        signing: keys.signing.map(|key| key.to_string()).unwrap_or_default(),
        former: keys.former.into_iter().map(former).collect(),
        trusted: keys.trusted.iter().map(PublicKey::to_string).collect(),
    }
}

fn keys(reply: wire::KeysReply) -> Result<Keys> {
    let signing = Some(&reply.signing).filter(|text| !text.is_empty());
    let former =
        |former: wire::FormerKey| Ok(FormerKey { key: key(&former.key)?, retired_at: former.retired_at });
    Ok(Keys {
        signing: signing.map(|text| key(text)).transpose()?,
        former: all(reply.former, former)?,
        trusted: all(reply.trusted, |text| key(&text))?,
    })
}

fn key(text: &str) -> Result<PublicKey> {
    PublicKey::parse(text).map_err(|e| Error::internal("read a public key").because(e))
}
