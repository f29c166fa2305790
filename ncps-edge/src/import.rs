//! Files of another cache on their way into the store: spooled by hard link or copy, then proven from the spool, so
//! that what was proven is what is committed.
//!
//! All of it is blocking. Knows how a file is compressed by its first bytes: caches of other kinds name files as they
//! like. Absent on purpose: what other caches look like (the command's), signatures and the index (control's).

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use ncps_nix::{Compression, FileHash, NarFileName, NarHash, ObjectName};
use ncps_proto::NarFacts;

use crate::objects::{file_is_json, rules};
use crate::store::{LocalStore, ObjectFrom, ObjectStore, Spool, read_at};
use crate::transfer::prove;

const CHUNK: usize = 128 * 1024;

/// How a file comes into the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// By hard link where that is possible, else by copy.
    Either,
    /// By hard link, or not at all.
    Link,
    /// By copy.
    Copy,
}

/// What a file is, as its bytes prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Its true name.
    pub name: NarFileName,
    /// In bytes.
    pub file_size: u64,
    /// What it decodes to.
    pub nar: NarFacts,
}

/// Spools a file of another cache. The file itself is not touched.
///
/// # Errors
/// Where it can't be read or linked, or the disk has no room for a copy.
pub fn spool(store: &LocalStore, source: &Path, take: Take) -> io::Result<Spool> {
    match take {
        Take::Link => store.begin_linked(source),
        Take::Copy => copy(store, source),
        Take::Either => match store.begin_linked(source) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            Err(_) => copy(store, source),
            linked => linked,
        },
    }
}

fn copy(store: &LocalStore, source: &Path) -> io::Result<Spool> {
    let source = File::open(source)?;
    let spool = store.begin(Some(source.metadata()?.len()))?;
    let (file, mut chunk, mut at) = (spool.file(), vec![0; CHUNK], 0);
    loop {
        let read = read_at(&source, at, &mut chunk)?;
        if read == 0 {
            return Ok(spool);
        }
        file.write_all_at(&chunk[..read], at)?;
        at += read as u64;
    }
}

/// Hashes and decodes a file.
///
/// # Errors
/// [`ErrorKind::InvalidData`] where it is no NAR in a compression of ours, or decodes to more than `max_nar_size` bytes;
/// others where it can't be read.
pub fn prove_file(file: Arc<File>, max_nar_size: u64) -> io::Result<Proven> {
    let mut head = [0; NAR_MAGIC.len()];
    let read = read_at(&file, 0, &mut head)?;
    let compression = compression(&head[..read]).ok_or_else(|| wrong("no NAR in a compression of ours"))?;
    let length = file.metadata()?.len();
    let hashed = Hashed { file, hasher: Rc::default(), failed: Rc::default() };
    let (hasher, failed) = (Rc::clone(&hashed.hasher), Rc::clone(&hashed.failed));
    let nar = prove(hashed, compression, max_nar_size);
    if let Some(error) = failed.take() {
        return Err(error);
    }
    let nar = nar.map_err(|error| wrong(error.to_string()))?;
    let (NarHash(hash), file_size) = hasher.take().finish();
    if file_size != length {
        return Err(wrong("bytes follow after its end"));
    }
    Ok(Proven { name: NarFileName { hash: FileHash(hash), compression }, file_size, nar })
}

/// Copies an object of another cache, by the rules of its kind; within `budget` bytes, as every object.
///
/// # Errors
/// [`ErrorKind::InvalidData`] where it is too large or no JSON although it should be; others of the disks.
pub fn put_object(objects: &ObjectStore, name: &ObjectName, source: &Path, budget: u64) -> io::Result<()> {
    let (file, rules) = (Arc::new(File::open(source)?), rules(name));
    let length = file.metadata()?.len();
    if length > rules.limit {
        return Err(wrong(format!("larger than {} bytes", rules.limit)));
    }
    if rules.json && !file_is_json(&file, length) {
        return Err(wrong("no JSON object"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(wrong)?];
    let read = read_at(&file, 0, &mut bytes)?;
    objects.put(name, &bytes[..read], ObjectFrom::Upstream, budget).map(drop)
}

fn wrong(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

/// The first string of every NAR, with its length.
const NAR_MAGIC: &[u8; 21] = b"\x0d\0\0\0\0\0\0\0nix-archive-1";

fn compression(head: &[u8]) -> Option<Compression> {
    let known: [(&[u8], Compression); 4] = [
        (NAR_MAGIC, Compression::None),
        (b"\xfd7zXZ\0", Compression::Xz),
        (b"\x28\xb5\x2f\xfd", Compression::Zstd),
        (b"BZh", Compression::Bzip2),
    ];
    known.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, compression)| compression)
}

/// A file that is hashed as it is read.
struct Hashed {
    file: Arc<File>,
    hasher: Rc<RefCell<ncps_nix::nar::Hasher>>,
    /// The disk failed, which says nothing about the file.
    failed: Rc<RefCell<Option<io::Error>>>,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut hasher = self.hasher.borrow_mut();
        match read_at(&self.file, hasher.bytes(), buffer) {
            Ok(read) => {
                hasher.update(&buffer[..read]);
                Ok(read)
            }
            Err(error) => {
                *self.failed.borrow_mut() = Some(error);
                Err(io::Error::other("the file can't be read"))
            }
        }
    }
}
