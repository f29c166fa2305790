//! The paths of the index in pages, and all that is known of one.

use ncps_nix::StorePathHash;
use ncps_proto::admin::{Event, PathDetails, PathPage, PathRow, PathsWanted};
use ncps_proto::{Code, Error, Result};

use super::pattern::Pattern;
use crate::Control;
use crate::db::Listed;
use crate::index::Known;
use crate::record::file_of;

/// Paths in one page.
const MOST: u32 = 1000;
/// Rows that one page looks at where a pattern leaves out most of them.
const LOOKED_AT: u32 = 20_000;
/// Events in a path's history.
const HISTORY: u32 = 100;

/// Rows in the order of their hashes, and where the next ones begin.
struct Looked {
    rows: Vec<Listed>,
    /// `None` at the end.
    next: Option<StorePathHash>,
}

impl Control {
    pub(super) async fn list_paths(&self, wanted: PathsWanted) -> Result<PathPage> {
        if wanted.limit == 0 {
            return Err(Error::new(Code::Invalid, "a page has at least one path"));
        }
        if wanted.pinned {
            self.pins.settled().await?;
        }
        let limit = wanted.limit.min(MOST) as usize;
        let pattern = wanted.name.as_deref().map(Pattern::new);
        let mut page = PathPage { paths: Vec::new(), next: wanted.after };
        for _ in 0..LOOKED_AT / MOST {
            let Looked { rows, next } = self.look(&wanted, page.next).await?;
            for listed in rows {
                page.next = Some(listed.path.hash());
                if pattern.as_ref().is_some_and(|pattern| !pattern.fits(listed.path.name())) {
                    continue;
                }
                page.paths.push(self.row(listed));
                if page.paths.len() == limit {
                    return Ok(page);
                }
            }
            page.next = next;
            if next.is_none() {
                break;
            }
        }
        Ok(page)
    }

    /// Looks at the next rows of those that there are the fewest of.
    async fn look(&self, wanted: &PathsWanted, after: Option<StorePathHash>) -> Result<Looked> {
        if wanted.pinned && !wanted.uploaded {
            let hashes = self.index.closures().known_after(after, MOST as usize);
            let next = hashes.last().copied().filter(|_| hashes.len() == MOST as usize);
            let mut rows = Vec::with_capacity(hashes.len());
            for hash in hashes {
                rows.extend(self.index.listed(hash).await?);
            }
            return Ok(Looked { rows, next });
        }
        let mut rows = match wanted.uploaded {
            true => self.index.uploads_after(after, MOST).await?,
            false => self.index.paths_after(after, MOST).await?,
        };
        let next = rows.last().map(|row| row.path.hash()).filter(|_| rows.len() == MOST as usize);
        if wanted.pinned {
            let closures = self.index.closures();
            rows.retain(|row| closures.protects(row.path.hash()));
        }
        Ok(Looked { rows, next })
    }

    fn row(&self, listed: Listed) -> PathRow {
        PathRow {
            copies: u32::try_from(self.sessions.holder_names(listed.nar).len()).unwrap_or(u32::MAX),
            path: listed.path,
            nar_size: listed.nar_size,
            nar: listed.nar,
            file_size: listed.file_size,
            published_at: listed.published_at,
            last_read: listed.last_read,
        }
    }

    pub(super) async fn path_details(&self, hash: StorePathHash) -> Result<PathDetails> {
        let mut details = PathDetails {
            history: self.index.events_of_path(hash, HISTORY).await?,
            pins: self.pins_of(hash).await?,
            ..PathDetails::default()
        };
        match self.index.lookup(hash).await? {
            Known::Absent(left) => details.absent = Some(left),
            Known::Nothing => {}
            Known::NarInfo(narinfo) => {
                let named = file_of(&narinfo);
                details.narinfo = Some((*narinfo).clone());
                self.describe_nar(named, &mut details).await?;
            }
        }
        if let Some(listed) = self.index.listed(hash).await? {
            (details.published_at, details.last_read) = (listed.published_at, listed.last_read);
        }
        Ok(details)
    }

    async fn describe_nar(&self, named: ncps_nix::NarFileName, details: &mut PathDetails) -> Result<()> {
        if let Some(location) = self.location("", named).await? {
            details.uploaded = location.uploaded;
            details.origins = location.origins;
            details.representations = location.representations;
        }
        let files = details.representations.iter().copied().chain([named]);
        let mut holders: Vec<String> = files.flat_map(|name| self.sessions.holder_names(name)).collect();
        holders.sort_unstable();
        holders.dedup();
        details.holders = holders;
        let of_nar = self.index.events_of_nar(named, HISTORY).await?;
        merge(&mut details.history, of_nar);
        Ok(())
    }
}

/// Both in order, each event once.
fn merge(history: &mut Vec<Event>, more: Vec<Event>) {
    history.extend(more);
    history.sort_unstable_by_key(|event| event.id);
    history.dedup_by_key(|event| event.id);
}
