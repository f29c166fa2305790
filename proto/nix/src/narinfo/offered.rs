//! The file as which a cache offers a NAR: named by its own hash, below `nar/`.

use super::NarInfo;
use crate::{Compression, FileHash, NarFileName};

impl NarInfo {
    /// The file as which a NAR is offered that another cache describes so, and its length where it is known: the
    /// same file where its hash is known, else the NAR uncompressed. With compression none its NAR hash is its name.
    pub fn offered(&self) -> (NarFileName, Option<u64>) {
        match self.file_hash.filter(|_| self.compression != Compression::None) {
            Some(hash) => (NarFileName { hash, compression: self.compression }, self.file_size),
            None => {
                let hash = FileHash(self.nar_hash.0);
                (NarFileName { hash, compression: Compression::None }, Some(self.nar_size))
            }
        }
    }

    /// Makes it name `file`: the parts of it that no signature covers.
    pub fn point_at(&mut self, file: NarFileName, file_size: Option<u64>) {
        self.file_hash = Some(file.hash);
        self.compression = file.compression;
        self.file_size = file_size;
        self.url = file.url();
    }
}
