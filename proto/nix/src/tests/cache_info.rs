//! nix-cache-info: tolerance, canonical form.

use proptest::prelude::*;

use super::strategies;
use crate::{CacheInfo, CacheInfoError, STORE_DIR};

#[test]
fn as_cache_nixos_org_says_it() {
    let text = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";
    let info = CacheInfo { store_dir: "/nix/store".to_owned(), want_mass_query: true, priority: 40 };
    assert_eq!(CacheInfo::parse(text), Ok(info.clone()));
    assert_eq!(info.render(), text);
}

#[test]
fn what_is_not_said_is_the_default() {
    let info = CacheInfo::parse("").expect("nothing is required");
    assert_eq!(info.store_dir, STORE_DIR);
    assert!(!info.want_mass_query);
    assert_eq!(info.priority, 0);
}

#[test]
fn read_tolerantly() {
    let text = "no colon\nFuture: x\nPriority:  7 \r\nWantMassQuery: true\nStoreDir:/x";
    let info = CacheInfo::parse(text).expect("tolerated");
    assert_eq!((info.priority, info.want_mass_query), (7, false));
    assert_eq!(info.store_dir, "/x");
    let clamped = |text: &str| CacheInfo::parse(text).map(|info| info.priority);
    assert_eq!(clamped("Priority: -5"), Ok(0));
    assert_eq!(clamped("Priority: 99999999999"), Ok(u32::MAX));
}

#[test]
fn refused() {
    assert_eq!(CacheInfo::parse("Priority: high"), Err(CacheInfoError::Priority));
    assert_eq!(CacheInfo::parse(b"\xff"), Err(CacheInfoError::NotUtf8));
    let large = vec![b'\n'; 64 * 1024 + 1];
    assert_eq!(CacheInfo::parse(large), Err(CacheInfoError::TooLarge));
}

proptest! {
    #![proptest_config(strategies::config())]

    #[test]
    fn round_trip(store_dir in "/[a-z/]{0,20}", want_mass_query: bool, priority: u32) {
        let info = CacheInfo { store_dir, want_mass_query, priority };
        prop_assert_eq!(CacheInfo::parse(info.render()), Ok(info));
    }

    #[test]
    fn never_panics(bytes: Vec<u8>, line in "(StoreDir|WantMassQuery|Priority):\\PC*") {
        let _ = (CacheInfo::parse(bytes), CacheInfo::parse(line));
    }
}
