//! Narinfos: no panic, and what is accepted has one canonical text that is accepted, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ncps_nix::{CacheInfo, NarInfo};

fuzz_target!(|bytes: &[u8]| {
    let _ = CacheInfo::parse(bytes);
    let Ok(info) = NarInfo::parse(bytes) else {
        return;
    };
    let _ = (info.proves_itself(), info.proves_nar_hash());
    let text = info.render();
    let again = NarInfo::parse(text.as_bytes()).expect("our own text parses");
    assert_eq!(again.render(), text);
    assert_eq!(again.fingerprint(), info.fingerprint());
});
