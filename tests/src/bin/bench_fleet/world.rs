//! What there is: paths, their files, and which edges hold them.

use ncps_nix::{NarFileName, StorePathHash};
use ncps_proto::HeldNar;
use ncps_tests::SplitMix;
use ncps_tests::bench::paths::{self, FILE_SIZE};

use crate::size::Size;

pub(crate) struct World {
    pub(crate) size: Size,
    paths: Vec<StorePathHash>,
    files: Vec<NarFileName>,
}

impl World {
    pub(crate) fn new(size: Size) -> World {
        let numbers = 0..size.paths;
        World {
            size,
            paths: numbers.clone().map(paths::hash).collect(),
            files: numbers.map(paths::file).collect(),
        }
    }

    pub(crate) fn path(&self, n: usize) -> StorePathHash {
        self.paths[n]
    }

    pub(crate) fn file(&self, n: usize) -> NarFileName {
        self.files[n]
    }

    /// The edges that hold a file.
    pub(crate) fn holders(&self, n: usize) -> [usize; 2] {
        let edges = self.size.edges;
        [n % edges, (n + edges / 2) % edges]
    }

    /// A file as those edges say it.
    pub(crate) fn held(&self, n: usize) -> HeldNar {
        HeldNar { name: self.files[n], file_size: FILE_SIZE, disk_bytes: 53_248 }
    }

    /// Files in all stores.
    pub(crate) fn placements(&self) -> usize {
        2 * self.size.paths
    }
}

/// Chance for the load.
pub(crate) struct Chance(SplitMix);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(SplitMix(seed))
    }

    pub(crate) fn below(&mut self, below: usize) -> usize {
        (self.0.next() % below as u64) as usize
    }

    /// Zipf's law with exponent 1 over so many: the n-th is drawn about once in n times that the first is.
    pub(crate) fn zipf(&mut self, of: usize) -> usize {
        let even = (self.0.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((of as f64 + 1.0).powf(even) as usize - 1).min(of - 1)
    }
}
