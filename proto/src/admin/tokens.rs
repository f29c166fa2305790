//! Tokens: made, listed, revoked. A secret crosses this seam once, in the answer to who made its token.

use std::time::Duration;

use futures::TryStreamExt;

use super::client::{RemoteAdmin, ask};
use crate::convert::{all, malformed, millis};
use crate::gen_v1 as wire;
use crate::gen_v1::create_token_request::Expiry as WireExpiry;
use crate::{Code, Error, Expiry, MadeToken, NewToken, Result, Scope, Secret, TokenInfo};

impl RemoteAdmin {
    /// See [`super::AdminPlane::create_token`].
    pub async fn create_token(&self, new: NewToken) -> Result<MadeToken> {
        let reply = ask!(self.create_token(new_token_wire(new)));
        let token = token(reply.token.ok_or_else(|| malformed("token"))?)?;
        Ok(MadeToken { token, secret: Secret::new(reply.secret) })
    }

    /// See [`super::AdminPlane::revoke_token`].
    pub async fn revoke_token(&self, which: &str) -> Result<TokenInfo> {
        token(ask!(self.revoke_token(wire::RevokeTokenRequest { which: which.to_owned() })))
    }

    /// See [`super::AdminPlane::tokens`].
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>> {
        let listed: Vec<_> = ask!(self.list_tokens(wire::ListTokensRequest {}))
            .try_collect()
            .await
            .map_err(crate::grpc::plain)?;
        all(listed, token)
    }

    /// See [`super::AdminPlane::open_to_all`].
    pub async fn open_to_all(&self, without: Option<&str>) -> Result<Vec<Scope>> {
        let request = wire::OpenToAllRequest { without: without.map(str::to_owned) };
        all(ask!(self.open_to_all(request)).scopes, scope)
    }
}

pub(super) fn new_token(wire: wire::CreateTokenRequest) -> Result<NewToken> {
    Ok(NewToken {
        name: wire.name,
        scopes: all(wire.scopes, scope)?,
        edges: wire.edges,
        expiry: match wire.expiry {
            None => Expiry::Never,
            Some(WireExpiry::AfterMs(ms)) => Expiry::After(Duration::from_millis(ms)),
            Some(WireExpiry::At(at)) => Expiry::At(at),
        },
    })
}

fn new_token_wire(new: NewToken) -> wire::CreateTokenRequest {
    wire::CreateTokenRequest {
        name: new.name,
        scopes: names(&new.scopes),
        edges: new.edges,
        expiry: match new.expiry {
            Expiry::Never => None,
            Expiry::After(time) => Some(WireExpiry::AfterMs(millis(time))),
            Expiry::At(at) => Some(WireExpiry::At(at)),
        },
    }
}

fn token(wire: wire::TokenInfo) -> Result<TokenInfo> {
    let wire::TokenInfo { id, name, scopes, edges, created_at, expires_at, revoked_at } = wire;
    Ok(TokenInfo { id, name, scopes: all(scopes, scope)?, edges, created_at, expires_at, revoked_at })
}

pub(super) fn token_wire(token: TokenInfo) -> wire::TokenInfo {
    let TokenInfo { id, name, scopes, edges, created_at, expires_at, revoked_at } = token;
    wire::TokenInfo { id, name, scopes: names(&scopes), edges, created_at, expires_at, revoked_at }
}

pub(super) fn made_wire(made: MadeToken) -> wire::CreateTokenReply {
    wire::CreateTokenReply { token: Some(token_wire(made.token)), secret: made.secret.reveal().to_owned() }
}

fn scope(name: String) -> Result<Scope> {
    name.parse().map_err(|e| Error::new(Code::Invalid, "a message has an unknown scope").because(e))
}

pub(super) fn names(scopes: &[Scope]) -> Vec<String> {
    scopes.iter().map(ToString::to_string).collect()
}
