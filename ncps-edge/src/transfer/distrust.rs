//! What proved wrong lately. An origin, or a peer, whose bytes were wrong is not asked again for a while: asking costs a whole
//! download, and a mirror that was repaired deserves another chance later. A file of which wrong bytes came is
//! fetched with caution: nothing of it is released before the proof, and no two sources are mixed, so that it
//! shows who is right. Memory only, and bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ncps_nix::NarFileName;
use ncps_proto::Origin;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::plan::PeerFile;

const FOR: Duration = Duration::from_secs(600);
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Distrust {
    origins: Mutex<HashMap<Origin, Instant>>,
    peers: Mutex<HashMap<PeerFile, Instant>>,
    files: Mutex<HashMap<NarFileName, Instant>>,
}

impl Distrust {
    pub(super) fn origin(&self, origin: &Origin) {
        note(&mut self.origins.lock(), origin.clone());
    }

    pub(super) fn peer(&self, peer: &PeerFile) {
        note(&mut self.peers.lock(), peer.clone());
    }

    pub(super) fn file(&self, name: NarFileName) {
        note(&mut self.files.lock(), name);
    }

    pub(super) fn covers_origin(&self, origin: &Origin) -> bool {
        still(self.origins.lock().get(origin))
    }

    pub(super) fn covers_peer(&self, peer: &PeerFile) -> bool {
        still(self.peers.lock().get(peer))
    }

    pub(super) fn covers_file(&self, name: NarFileName) -> bool {
        still(self.files.lock().get(&name))
    }
}

fn still(until: Option<&Instant>) -> bool {
    until.is_some_and(|until| *until > Instant::now())
}

fn note<K: Hash + Eq>(until: &mut HashMap<K, Instant>, key: K) {
    let now = Instant::now();
    if until.len() >= MOST {
        until.retain(|_, until| *until > now);
    }
    if until.len() < MOST {
        until.insert(key, now + FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ncps_nix::{Compression, FileHash, Sha256Hash};

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_a_while() {
        let distrust = Distrust::default();
        let name = NarFileName { hash: FileHash(Sha256Hash::of(b"x")), compression: Compression::Xz };
        assert!(!distrust.covers_file(name));
        distrust.file(name);
        assert!(distrust.covers_file(name));
        tokio::time::advance(FOR).await;
        assert!(!distrust.covers_file(name));
    }
}
