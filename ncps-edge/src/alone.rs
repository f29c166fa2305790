//! What an edge finds out by itself while control is away: narinfos with the signatures of their upstreams, and
//! absences that it alone believes. Bounded, and in memory: it is of no use any more when control is back, but for what
//! a NAR was fetched for, which control is told with its commit.
//!
//! Absent on purpose: asking upstreams, and when any of this may be used (see [`crate::lookup`]).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::{Location, NarFacts, Origin, Publication};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::near::Served;

/// For how long an absence is believed: what was uploaded elsewhere can't be seen from here.
pub(crate) const ABSENCE: Duration = Duration::from_secs(10);
/// Absences at once, of 28 bytes each; past it they are asked for again.
const MOST_ABSENCES: usize = 100_000;
/// Bytes of narinfos, as they are served; in memory they take several times as much. The oldest go.
const MOST_BYTES: usize = 16 << 20;
/// Upstreams of one path that are remembered.
const MOST_SOURCES: usize = 8;

/// A path as upstreams vouch for it.
struct Vouched {
    served: Arc<Served>,
    /// As each of them gave it, the first one first.
    publications: Vec<Publication>,
}

#[derive(Default)]
struct State {
    absent: HashMap<StorePathHash, Instant>,
    vouched: HashMap<StorePathHash, Vouched>,
    /// The paths of a file.
    naming: HashMap<NarFileName, Vec<StorePathHash>>,
    /// In the order in which they came. One that was forgotten meanwhile is passed over.
    order: VecDeque<StorePathHash>,
    bytes: usize,
}

/// What this edge knows alone.
#[derive(Default)]
pub(crate) struct Alone(Mutex<State>);

impl Alone {
    /// The path as it is served while control is away.
    pub(crate) fn served(&self, hash: StorePathHash) -> Option<Arc<Served>> {
        self.0.lock().vouched.get(&hash).map(|vouched| Arc::clone(&vouched.served))
    }

    /// An upstream vouches for a path. Returns it as it is served: with its signatures, under our name of its NAR file.
    /// Who vouched first is served, as long as it is remembered; others of the same file are sources of it.
    pub(crate) fn vouch(&self, publication: Publication) -> Arc<Served> {
        let served = Arc::new(served(&publication));
        let mut state = self.0.lock();
        state.absent.remove(&served.hash);
        if let Some(known) = state.vouched.get_mut(&served.hash) {
            let is_new = known.publications.iter().all(|other| other.upstream != publication.upstream);
            if known.served.nar == served.nar && is_new && known.publications.len() < MOST_SOURCES {
                known.publications.push(publication);
            }
            return Arc::clone(&known.served);
        }
        state.put(Vouched { served: Arc::clone(&served), publications: vec![publication] });
        served
    }

    /// All upstreams said that the path is absent.
    pub(crate) fn put_absent(&self, hash: StorePathHash) {
        let mut state = self.0.lock();
        if state.absent.len() >= MOST_ABSENCES {
            state.absent.retain(|_, since| since.elapsed() < ABSENCE);
        }
        if state.absent.len() < MOST_ABSENCES {
            state.absent.insert(hash, Instant::now());
        }
    }

    /// Whether all upstreams said so a moment ago.
    pub(crate) fn is_absent(&self, hash: StorePathHash) -> bool {
        self.0.lock().absent.get(&hash).is_some_and(|since| since.elapsed() < ABSENCE)
    }

    /// Where a file can come from, as far as upstreams said so.
    pub(crate) fn location(&self, name: NarFileName) -> Option<Location> {
        let state = self.0.lock();
        let vouched: Vec<_> = state.of(name).collect();
        let first = &vouched.first()?.publications.first()?.narinfo;
        let origins = vouched.iter().flat_map(|vouched| vouched.publications.iter().map(origin));
        Some(Location {
            name,
            file_size: first.offered().1,
            nar: Some(NarFacts { hash: first.nar_hash, size: first.nar_size }),
            proven: false,
            uploaded: false,
            held: false,
            away: false,
            origins: origins.collect(),
            representations: Vec::new(),
            store_paths: vouched.iter().map(|vouched| vouched.served.hash).collect(),
            peers: Vec::new(),
            recipe: None,
        })
    }

    /// For what a file was served, for control to hear with its commit.
    pub(crate) fn publications(&self, name: NarFileName) -> Vec<Publication> {
        let state = self.0.lock();
        state.of(name).flat_map(|vouched| vouched.publications.iter().cloned()).take(MOST_SOURCES).collect()
    }

    /// The paths of a file, as they are served.
    pub(crate) fn naming(&self, name: NarFileName) -> Vec<Arc<Served>> {
        self.0.lock().of(name).map(|vouched| Arc::clone(&vouched.served)).collect()
    }

    /// Control said something of these paths, or has been told.
    pub(crate) fn forget(&self, hashes: &[StorePathHash]) {
        let mut state = self.0.lock();
        hashes.iter().for_each(|hash| state.remove(*hash));
    }

    /// Control is back: what it says counts. What is on its way yet still has to be told to it.
    pub(crate) fn end(&self, is_coming: impl Fn(NarFileName) -> bool) {
        let mut state = self.0.lock();
        state.absent.clear();
        let over = state.vouched.values().filter(|vouched| !is_coming(vouched.served.nar));
        let over: Vec<_> = over.map(|vouched| vouched.served.hash).collect();
        over.into_iter().for_each(|hash| state.remove(hash));
    }
}

impl State {
    fn of(&self, name: NarFileName) -> impl Iterator<Item = &Vouched> {
        self.naming.get(&name).into_iter().flatten().filter_map(|hash| self.vouched.get(hash))
    }

    fn put(&mut self, vouched: Vouched) {
        let (hash, name) = (vouched.served.hash, vouched.served.nar);
        self.bytes += vouched.served.body.len();
        self.naming.entry(name).or_default().push(hash);
        self.order.push_back(hash);
        self.vouched.insert(hash, vouched);
        while self.bytes > MOST_BYTES || self.order.len() > 2 * self.vouched.len() + 16 {
            let Some(oldest) = self.order.pop_front() else { break };
            // One that came again stands in the order twice, and goes with its first place.
            self.remove(oldest);
        }
    }

    fn remove(&mut self, hash: StorePathHash) {
        self.absent.remove(&hash);
        let Some(Vouched { served, .. }) = self.vouched.remove(&hash) else { return };
        self.bytes -= served.body.len();
        if let Some(naming) = self.naming.get_mut(&served.nar) {
            naming.retain(|other| *other != hash);
            if naming.is_empty() {
                self.naming.remove(&served.nar);
            }
        }
    }
}

/// As control would serve it, but for our signature.
fn served(Publication { narinfo, .. }: &Publication) -> Served {
    let mut narinfo = narinfo.clone();
    narinfo.references.sort_unstable();
    let (file, size) = narinfo.offered();
    narinfo.point_at(file, size);
    Served::from(&narinfo)
}

fn origin(Publication { narinfo, upstream, .. }: &Publication) -> Origin {
    Origin { upstream: upstream.clone(), url: narinfo.url.clone(), compression: narinfo.compression }
}

#[cfg(test)]
mod tests {
    use ncps_nix::{Compression, NarInfo};

    use super::*;

    fn publication(n: u8, upstream: &str) -> Publication {
        let text = format!(
            "StorePath: /nix/store/{}-hello\nURL: opaque/{n}\nCompression: xz\nFileHash: sha256:{}\nFileSize: 100\n\
             NarHash: sha256:{}\nNarSize: 5000\nReferences: \n",
            StorePathHash::from_bytes([n; 20]),
            ncps_nix::Sha256Hash::of(&[n]).nix32(),
            ncps_nix::Sha256Hash::of(&[n, n]).nix32(),
        );
        let narinfo = NarInfo::parse(text.as_bytes()).expect("a narinfo");
        Publication { narinfo, upstream: upstream.to_owned(), replaces: false }
    }

    #[test]
    fn what_is_vouched_for_names_our_file_and_remembers_where_it_is() {
        let alone = Alone::default();
        let served = alone.vouch(publication(1, "a"));
        assert_eq!(served.nar.compression, Compression::Xz);
        let text = NarInfo::parse(&served.body).expect("it parses");
        assert_eq!(text.url, served.nar.url());
        assert!(Arc::ptr_eq(&alone.vouch(publication(1, "b")), &served), "the first one is served");
        alone.vouch(publication(1, "b"));
        let location = alone.location(served.nar).expect("known");
        let origins: Vec<_> =
            location.origins.iter().map(|o| (o.upstream.as_str(), o.url.as_str())).collect();
        assert_eq!(origins, [("a", "opaque/1"), ("b", "opaque/1")]);
        assert_eq!((location.file_size, location.store_paths), (Some(100), vec![served.hash]));
        assert_eq!(alone.publications(served.nar), [publication(1, "a"), publication(1, "b")]);
        alone.end(|name| name == served.nar);
        assert_eq!(alone.publications(served.nar).len(), 2, "its commit has to say it yet");
        alone.end(|_| false);
        assert!(alone.served(served.hash).is_none() && alone.location(served.nar).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_is_believed_for_ten_seconds() {
        let (alone, hash) = (Alone::default(), StorePathHash::from_bytes([1; 20]));
        alone.put_absent(hash);
        tokio::time::advance(ABSENCE - Duration::from_millis(1)).await;
        assert!(alone.is_absent(hash));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!alone.is_absent(hash));
        alone.put_absent(hash);
        alone.vouch(publication(1, "a"));
        assert!(!alone.is_absent(hash), "somebody has it now");
    }

    #[test]
    fn it_stays_within_its_bytes_and_forgets_the_oldest() {
        let alone = Alone::default();
        for round in 0..400 {
            for n in 1..=255 {
                if round % 2 == 0 {
                    alone.vouch(publication(n, "a"));
                } else {
                    alone.forget(&[StorePathHash::from_bytes([n; 20])]);
                }
            }
        }
        let state = alone.0.lock();
        assert!(state.order.len() <= 2 * 255 + 16, "{}", state.order.len());
        assert_eq!((state.bytes, state.naming.len(), state.vouched.len()), (0, 0, 0));
    }
}
