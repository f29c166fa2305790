//! NAR file names: no panic, and what is accepted has one canonical name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ncps_nix::NarFileName;

fuzz_target!(|text: &str| {
    if let Ok(name) = NarFileName::parse(text) {
        assert_eq!(NarFileName::parse(&name.file_name()), Ok(name));
        assert_eq!(name.url(), format!("nar/{}", name.file_name()));
    }
});
