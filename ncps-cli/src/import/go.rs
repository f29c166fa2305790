//! A data directory of the Go original's, 0.4 to 0.9: `store/narinfo/<a>/<ab>/<hash>.narinfo` or rows in its database,
//! and `store/nar/<a>/<ab>/<hash>.nar[.ext]`.
//!
//! What a narinfo calls uncompressed lies there compressed with zstd, under the name of the uncompressed file and
//! `.zst`; older versions offered it like that, too. Absent on purpose: its chunks (0.9), which are counted only.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ncps_control::import::{GoDatabase, GoDatabaseError, GoNarFile, GoRow, is_go_database, read_key};
use ncps_nix::{Compression, NarFileName, NarInfo, SecretKey};
use ncps_proto::{Origin, UpstreamSettings};
use ncps_runtime::foreign::go_evidence;

use super::Order;
use super::in_place;
use super::source::{Entry, NoEntry, read_narinfo, url_path};

/// Where the original's packages and manuals put its database, seen from the data directory.
const DATABASES: [&str; 7] = [
    "var/ncps/db/db.sqlite",
    "db/db.sqlite",
    "db/ncps.db",
    "../db/db.sqlite",
    "../db/ncps.db",
    "db.sqlite",
    "ncps.db",
];

const NARINFOS: &str = "store/narinfo";

/// The original's data directory.
pub(super) struct GoCache {
    root: PathBuf,
    database: Option<GoDatabase>,
    /// To which of these it talked is not written down.
    upstreams: Vec<UpstreamSettings>,
}

impl GoCache {
    /// Whether its narinfos can be found.
    pub(super) async fn check(order: &Order) -> anyhow::Result<()> {
        let root = &order.from;
        match find_database(order).await {
            Some(path) if is_go_database(&path).await => Ok(()),
            Some(path) => Err(GoDatabaseError::Foreign(path).into()),
            None if root.join(NARINFOS).is_dir() => Ok(()),
            None if go_evidence(root).is_none() => {
                anyhow::bail!("{} is no data path of the Go ncps", root.display())
            }
            None => anyhow::bail!(
                "{}: its narinfos are in its database, which was not found below it: name it with \
                 --database=sqlite:PATH",
                root.display()
            ),
        }
    }

    /// Opens what was checked.
    pub(super) async fn open(order: &Order, scratch: &Path) -> anyhow::Result<GoCache> {
        let database = match find_database(order).await {
            Some(path) => Some(GoDatabase::open(&path, scratch).await?),
            None => None,
        };
        let upstreams = order.control.settings.upstreams.clone();
        Ok(GoCache { root: order.from.clone(), database, upstreams })
    }

    fn narinfos(&self) -> PathBuf {
        self.root.join(NARINFOS)
    }

    /// In the database since 0.6, before that in a file. One that a flag named was taken for ours already.
    pub(super) async fn key(&self) -> anyhow::Result<Option<SecretKey>> {
        if let Some(database) = &self.database
            && let Some(key) = database.secret_key().await?
        {
            return Ok(Some(key));
        }
        let file = self.root.join("config/cache.key");
        match file.try_exists()? {
            true => Ok(Some(read_key(&file)?)),
            false => Ok(None),
        }
    }

    pub(super) async fn paths(&self) -> anyhow::Result<Vec<String>> {
        let mut hashes = match &self.database {
            Some(database) => database.hashes().await?,
            None => Vec::new(),
        };
        let known: HashSet<String> = hashes.iter().cloned().collect();
        let narinfos = self.narinfos();
        for folder in
            folders(&narinfos)?.iter().map(|one| folders(one)).collect::<Result<Vec<_>, _>>()?.concat()
        {
            hashes.extend(narinfo_hashes(&folder)?.into_iter().filter(|hash| !known.contains(hash)));
        }
        Ok(hashes)
    }

    pub(super) async fn entry(&self, hash: &str) -> Result<Entry, NoEntry> {
        let row = match &self.database {
            Some(database) => database.row(hash).await.map_err(anyhow::Error::new)?,
            None => None,
        };
        let text = match row.as_ref().and_then(|row| row.narinfo.clone()) {
            Some(text) => text.into_bytes(),
            None => self.narinfo_file(hash)?.ok_or(NoEntry::Bare)?,
        };
        self.with_files(read_narinfo(hash, &text)?, row.unwrap_or_default())
    }

    fn narinfo_file(&self, hash: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = sharded(&format!("{hash}.narinfo")) else { return Ok(None) };
        match fs::read(self.narinfos().join(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn with_files(&self, narinfo: NarInfo, row: GoRow) -> Result<Entry, NoEntry> {
        let mut former_names = Vec::new();
        let mut files = Vec::new();
        let url_file = url_path(&narinfo.url).rsplit('/').next().unwrap_or_default();
        if let Ok(name) = NarFileName::parse(url_file) {
            former_names.push((name, narinfo.compression));
            files.extend(places(url_file));
        }
        for file in &row.nar_files {
            let spelled = spelled(file);
            if let Ok(name) = NarFileName::parse(&spelled) {
                former_names.push((name, name.compression));
                files.extend(places(&spelled));
            }
        }
        if files.is_empty() {
            return Err(NoEntry::Url(narinfo.url));
        }
        former_names.sort_unstable();
        former_names.dedup();
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.clone()));
        let files = files.iter().map(|file| self.root.join("store/nar").join(file));
        Ok(Entry {
            former_names,
            files: files.filter(|file| file.is_file()).collect(),
            is_chunked: row.nar_files.iter().any(|file| file.is_chunked),
            last_access: row.last_access,
            origin: self.origin(&narinfo, row.upstream_url),
            narinfo,
        })
    }

    /// Known is the URL alone, so it counts where there is one upstream that it can belong to.
    fn origin(&self, narinfo: &NarInfo, url: Option<String>) -> Option<Origin> {
        let url = url.filter(|url| !url.is_empty())?;
        let owns = |upstream: &&UpstreamSettings| !url.contains("://") || url.starts_with(&upstream.url);
        let mut owners = self.upstreams.iter().filter(owns);
        match (owners.next(), owners.next()) {
            (Some(upstream), None) => {
                Some(Origin { upstream: upstream.url.clone(), url, compression: narinfo.compression })
            }
            _ => None,
        }
    }
}

async fn find_database(order: &Order) -> Option<PathBuf> {
    let given = order.database.clone();
    let ours = &order.control.database;
    let in_place = [ours.clone(), in_place::aside(ours)].into_iter().filter(|_| order.in_place);
    let usual = DATABASES.iter().map(|path| order.from.join(path));
    if given.is_some() {
        // Whatever it is: what is wrong with it is said.
        return given;
    }
    for path in in_place.chain(usual) {
        if is_go_database(&path).await {
            return Some(path);
        }
    }
    None
}

/// The name of a row's file.
fn spelled(file: &GoNarFile) -> String {
    let extension = Compression::from_name(&file.compression).map(Compression::extension);
    match extension {
        Some(None) => format!("{}.nar", file.hash),
        Some(Some(extension)) => format!("{}.nar.{extension}", file.hash),
        None if file.compression.is_empty() => format!("{}.nar", file.hash),
        // Of no use here, and named like that.
        None => format!("{}.nar.{}", file.hash, file.compression),
    }
}

/// Where a file of this name may lie. The store path hash that nix-serve puts before a name is left out there.
fn places(file: &str) -> Vec<PathBuf> {
    let bare = file.split_once(['-', '_']).map(|(_, name)| name);
    let names = [Some(file), bare].into_iter().flatten();
    let with_codecs = names.flat_map(|name| match name.ends_with(".nar") {
        true => vec![name.to_owned(), format!("{name}.zst"), format!("{name}.xz")],
        false => vec![name.to_owned()],
    });
    with_codecs.filter_map(|name| sharded(&name)).collect()
}

/// `<a>/<ab>/<abc…>`.
fn sharded(file: &str) -> Option<PathBuf> {
    let is_plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let (first, second) = (file.get(..1)?, file.get(..2)?);
    (is_plain && first != ".").then(|| Path::new(first).join(second).join(file))
}

/// The folders in a folder; none where there is no such folder.
fn folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(list(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

pub(super) fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {}", folder.display()))?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort_unstable();
    Ok(paths)
}

/// The hashes of the narinfos in a folder.
pub(super) fn narinfo_hashes(folder: &Path) -> anyhow::Result<Vec<String>> {
    let hash = |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".narinfo")?.to_owned());
    Ok(list(folder)?.into_iter().filter_map(hash).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "1bn7c3bf5z32cdgylhbp9nzhh6ydib5ngsm6mdhsvf233g0nh1ac";

    fn places_of(file: &str) -> Vec<String> {
        places(file).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn files_lie_two_folders_deep() {
        assert_eq!(places_of(&format!("{HASH}.nar.xz")), [format!("1/1b/{HASH}.nar.xz")]);
        let plain = ["", ".zst", ".xz"].map(|codec| format!("1/1b/{HASH}.nar{codec}"));
        assert_eq!(places_of(&format!("{HASH}.nar")), plain, "uncompressed ones are mostly compressed there");
        let served = format!("{}-{HASH}.nar", "0".repeat(32));
        assert_eq!(places_of(&served)[3..], plain, "without the prefix of nix-serve");
    }

    #[test]
    fn no_name_leads_out() {
        for name in ["", "a", "../x.nar", ".../x", "a/b.nar", "a\0b.nar"] {
            assert_eq!(sharded(name), None, "{name:?}");
        }
    }

    #[test]
    fn rows_name_files() {
        let named = |compression: &str| {
            spelled(&GoNarFile {
                hash: "h".to_owned(),
                compression: compression.to_owned(),
                ..GoNarFile::default()
            })
        };
        let names = ["", "none", "xz", "zstd", "bzip2", "br"].map(named);
        assert_eq!(names, ["h.nar", "h.nar", "h.nar.xz", "h.nar.zst", "h.nar.bz2", "h.nar.br"]);
    }
}
