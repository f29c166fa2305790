//! The other cache: which kind a directory is, which paths it has, and what it says of each.

use std::io;
use std::path::{Path, PathBuf};

use ncps_nix::{Compression, NarFileName, NarInfo, NarInfoError, ObjectName, SecretKey};
use ncps_proto::Origin;
use ncps_runtime::clock::UnixTime;
use ncps_runtime::foreign::go_evidence;

use super::Order;
use super::go::GoCache;
use super::plain::PlainCache;

/// One path of the other cache.
pub(super) struct Entry {
    pub(super) narinfo: NarInfo,
    /// Names by which clients may know its NAR, and in which compression they expect it there.
    pub(super) former_names: Vec<(NarFileName, Compression)>,
    /// Where its NAR lies, the likeliest place first; those that are there.
    pub(super) files: Vec<PathBuf>,
    /// It lies in pieces.
    pub(super) is_chunked: bool,
    pub(super) last_access: Option<UnixTime>,
    pub(super) origin: Option<Origin>,
}

/// Why there is no entry for a path that is listed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoEntry {
    /// It is listed without a narinfo.
    #[error("without a narinfo")]
    Bare,
    #[error("its narinfo can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("{0}")]
    NarInfo(#[from] NarInfoError),
    #[error("its narinfo is of another path, {0}")]
    OtherPath(String),
    #[error("its NAR URL {0:?} names no file")]
    Url(String),
    /// The other cache's database can't be read.
    #[error(transparent)]
    Broken(#[from] anyhow::Error),
}

/// A directory that is imported.
pub(super) enum Source {
    Go(GoCache),
    Plain(PlainCache),
}

/// What a directory is.
enum Kind {
    Go,
    Plain,
}

fn kind(order: &Order) -> anyhow::Result<Kind> {
    let root = &order.from;
    if order.in_place || order.database.is_some() || go_evidence(root).is_some() {
        return Ok(Kind::Go);
    }
    if PlainCache::is_one(root)? {
        return Ok(Kind::Plain);
    }
    anyhow::bail!(
        "--from {}: neither a data path of the Go ncps (store/narinfo, store/nar/…) nor a Nix binary cache \
         (nix-cache-info, *.narinfo)",
        root.display()
    )
}

impl Source {
    /// Says what is wrong with the order before anything is made for it.
    ///
    /// # Errors
    /// Where there is nothing that could be imported.
    pub(super) async fn check(order: &Order) -> anyhow::Result<()> {
        match kind(order)? {
            Kind::Go => GoCache::check(order).await,
            Kind::Plain => Ok(()),
        }
    }

    /// Opens what the order names. `scratch` is a folder of ours.
    pub(super) async fn open(order: &Order, scratch: &Path) -> anyhow::Result<Source> {
        Ok(match kind(order)? {
            Kind::Go => Source::Go(GoCache::open(order, scratch).await?),
            Kind::Plain => Source::Plain(PlainCache::new(&order.from)),
        })
    }

    /// The key that it signs with, where it has one.
    pub(super) async fn key(&self) -> anyhow::Result<Option<SecretKey>> {
        match self {
            Source::Go(go) => go.key().await,
            Source::Plain(_) => Ok(None),
        }
    }

    /// The store path hashes of what it has, as they are spelled there.
    pub(super) async fn paths(&self) -> anyhow::Result<Vec<String>> {
        match self {
            Source::Go(go) => go.paths().await,
            Source::Plain(plain) => plain.paths(),
        }
    }

    /// What it says of a path.
    pub(super) async fn entry(&self, hash: &str) -> Result<Entry, NoEntry> {
        match self {
            Source::Go(go) => go.entry(hash).await,
            Source::Plain(plain) => plain.entry(hash),
        }
    }

    /// Objects beside narinfos and NARs, and where they lie.
    pub(super) fn objects(&self) -> anyhow::Result<Vec<(ObjectName, PathBuf)>> {
        match self {
            Source::Go(_) => Ok(Vec::new()),
            Source::Plain(plain) => plain.objects(),
        }
    }
}

/// Reads a narinfo that is listed under `hash`.
pub(super) fn read_narinfo(hash: &str, text: &[u8]) -> Result<NarInfo, NoEntry> {
    let narinfo = NarInfo::parse(text)?;
    match narinfo.store_path.hash().to_string() == hash {
        true => Ok(narinfo),
        false => Err(NoEntry::OtherPath(narinfo.store_path.to_string())),
    }
}

/// The file that a NAR URL names, without its query.
pub(super) fn url_path(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}
