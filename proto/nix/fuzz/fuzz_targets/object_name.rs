//! Names of objects: no panic, one text for each, and nothing that climbs out of its directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ncps_nix::ObjectName;

fuzz_target!(|text: &str| {
    if let Ok(name) = ObjectName::parse(text) {
        assert_eq!(name.to_string(), text);
        assert!(text.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255));
        assert!(!name.url_path().contains(['?', '+', '#']));
    }
});
