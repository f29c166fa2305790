//! Tokens in the database. There are few, and they are read once, at the start; each change is written at once.

use ncps_nix::Sha256Hash;
use ncps_proto::TokenInfo;
use ncps_runtime::clock::UnixTime;

use super::rows::{At, bad, row, sha256};
use super::{Db, DbError, Result, sql};

/// id, name, secret_hash, scopes, edges, created_at, expires_at, revoked_at
#[derive(Debug)]
struct TokenRow {
    id: String,
    name: String,
    secret_hash: Vec<u8>,
    scopes: String,
    edges: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

row!(TokenRow { id, name, secret_hash, scopes, edges, created_at, expires_at, revoked_at });

impl TokenRow {
    fn into_token(self) -> Result<(TokenInfo, Sha256Hash)> {
        let at: At = ("tokens", self.id.clone());
        let hash = sha256(&at, "secret_hash", &self.secret_hash)?;
        let scopes = self.scopes.split(' ').map(|name| name.parse().map_err(|e| bad(&at, "scopes", e)));
        let info = TokenInfo {
            scopes: scopes.collect::<Result<_>>()?,
            id: self.id,
            name: self.name,
            edges: self.edges.lines().map(str::to_owned).collect(),
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
        };
        Ok((info, hash))
    }
}

impl Db {
    /// Every token with the hash of its secret, in the order in which they were made.
    pub(crate) async fn tokens(&self) -> Result<Vec<(TokenInfo, Sha256Hash)>> {
        let rows: Vec<TokenRow> = sqlx::query_as(sql::TOKENS)
            .fetch_all(&self.readers)
            .await
            .map_err(|e| DbError::Sqlite("read the tokens", e))?;
        rows.into_iter().map(TokenRow::into_token).collect()
    }

    /// Writes a new token, and takes away those of `forgotten` ids.
    pub(crate) async fn put_token(
        &self,
        token: &TokenInfo,
        hash: Sha256Hash,
        forgotten: &[String],
    ) -> Result<()> {
        let failed = |e| DbError::Sqlite("write a token", e);
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for id in forgotten {
            sqlx::query(sql::DELETE_TOKEN).bind(id).execute(&mut *tx).await.map_err(failed)?;
        }
        let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.name()).collect();
        let inserted = sqlx::query(sql::PUT_TOKEN)
            .bind(&token.id)
            .bind(&token.name)
            .bind(hash.as_bytes().as_slice())
            .bind(scopes.join(" "))
            .bind(token.edges.join("\n"))
            .bind(token.created_at)
            .bind(token.expires_at)
            .bind(token.revoked_at)
            .execute(&mut *tx);
        inserted.await.map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    /// Notes that a token counts no more.
    pub(crate) async fn revoke_token(&self, id: &str, at: UnixTime) -> Result<()> {
        let updated = sqlx::query(sql::REVOKE_TOKEN).bind(id).bind(at.0).execute(&self.writer).await;
        updated.map(drop).map_err(|e| DbError::Sqlite("revoke a token", e))
    }
}
