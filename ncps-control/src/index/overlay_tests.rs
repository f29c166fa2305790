//! What readers see of states that wait, and in which order these are written.

use ncps_nix::Compression;

use super::*;
use crate::testing::{Upstream, facts, file, unsigned};

fn record(size: u64) -> Option<Arc<NarFile>> {
    Some(Arc::new(NarFile { file_size: Some(size), nar: Some(facts(1)), ..NarFile::default() }))
}

fn narinfo(seed: u8) -> Arc<NarInfo> {
    Arc::new(Upstream::new().narinfo(seed))
}

#[test]
fn what_waits_is_seen_until_it_is_written() {
    let overlay = Overlay::default();
    let (name, narinfo) = (file_of(&unsigned(1)), narinfo(1));
    let hash = narinfo.store_path.hash();
    overlay.put_file(name, record(1));
    overlay.put_narinfo(hash, Some(Arc::clone(&narinfo)));
    let taken = overlay.take(10, 10);
    assert_eq!((taken.batch.files.len(), taken.batch.narinfos.len()), (1, 1));
    assert_eq!(overlay.narinfo(hash), Some(Some(narinfo)), "taken, but not written yet");
    assert_eq!((overlay.naming(name), overlay.files_of(facts(1).hash)), (vec![hash], vec![name]));
    overlay.settle(&taken);
    assert_eq!((overlay.narinfo(hash), overlay.file(name)), (None, None));
    assert_eq!(overlay.waiting(), 0);
    assert!(overlay.take(10, 10).batch.is_empty());
}

#[test]
fn a_state_that_changes_while_it_is_written_waits_on() {
    let overlay = Overlay::default();
    let hash = unsigned(1).store_path.hash();
    overlay.put_narinfo(hash, Some(narinfo(1)));
    let taken = overlay.take(10, 10);
    overlay.put_narinfo(hash, None);
    overlay.settle(&taken);
    assert_eq!(overlay.narinfo(hash), Some(None), "gone is a state, too");
    let taken = overlay.take(10, 10);
    assert_eq!(taken.batch.narinfos, [(hash, None)]);
    overlay.settle(&taken);
    assert_eq!(overlay.waiting(), 0);
}

#[test]
fn a_batch_that_fails_is_taken_again_with_its_accesses() {
    let overlay = Overlay::default();
    let name = file("x", Compression::Xz);
    overlay.put_file(name, record(1));
    overlay.accessed(name, UnixTime(5), 10);
    let taken = overlay.take(10, 10);
    overlay.accessed(name, UnixTime(6), 10);
    overlay.put_back(taken);
    let again = overlay.take(10, 10);
    assert_eq!((again.batch.files.len(), again.batch.accessed), (1, vec![(name, UnixTime(6))]));
}

#[test]
fn a_narinfo_is_never_written_before_its_file() {
    let overlay = Overlay::default();
    let hash = unsigned(1).store_path.hash();
    let (first, second) = (file("first", Compression::Xz), file("second", Compression::Xz));
    overlay.put_file(first, record(1));
    overlay.put_narinfo(hash, Some(narinfo(1)));
    overlay.put_file(second, record(1));
    overlay.put_narinfo(hash, Some(narinfo(1)));
    overlay.put_file(first, record(2));
    let mut order = Vec::new();
    while overlay.waiting() > 0 {
        let taken = overlay.take(1, 0);
        order.extend(taken.batch.files.iter().map(|(name, _)| Some(*name)));
        order.extend(taken.batch.narinfos.iter().map(|_| None));
        overlay.settle(&taken);
    }
    assert_eq!(order, [Some(first), Some(second), None]);
}

#[test]
fn files_and_narinfos_share_what_may_be_written() {
    let overlay = Overlay::default();
    let hash = |n| StorePathHash::from_bytes([n; 20]);
    let note = |n: u8| {
        overlay.accessed(file(&n.to_string(), Compression::Xz), UnixTime(1), 100);
        overlay.served(hash(n), UnixTime(1), 100);
    };
    (0..10).for_each(note);
    overlay.served(hash(10), UnixTime(1), 100);
    let taken = || {
        let batch = overlay.take(0, 8).batch;
        (batch.accessed.len(), batch.served.len())
    };
    assert_eq!([taken(), taken(), taken()], [(4, 4), (4, 4), (2, 3)]);
    assert_eq!((taken(), overlay.accesses()), ((0, 0), 0));
}

#[test]
fn a_forgotten_file_is_written_after_the_narinfos_that_named_it() {
    let overlay = Overlay::default();
    let (name, narinfo) = (file_of(&unsigned(1)), narinfo(1));
    let hash = narinfo.store_path.hash();
    overlay.put_file(name, record(1));
    overlay.put_narinfo(hash, Some(narinfo));
    overlay.put_removal(hash, name);
    overlay.put_narinfo(hash, None);
    overlay.put_file(name, None);
    assert_eq!((overlay.file(name), overlay.files_of(facts(1).hash)), (Some(None), vec![]));
    let first = overlay.take(2, 0).batch;
    assert_eq!((first.removals.len(), first.narinfos.len(), first.files.len()), (1, 1, 0));
    overlay.put_file(name, record(2));
    assert_eq!(overlay.file(name), Some(record(2)), "it came back");
}
