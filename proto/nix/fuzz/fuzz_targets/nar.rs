//! NARs: no panic, and one verdict however the bytes are cut. The first byte is the chunk size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ncps_nix::nar::{NarError, Validator};

fn validate<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<(), NarError> {
    let mut validator = Validator::new();
    for chunk in chunks {
        validator.push(chunk)?;
    }
    validator.finish()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((size, nar)) = bytes.split_first() else {
        return;
    };
    let size = usize::from(*size).max(1);
    let whole = validate(std::iter::once(nar));
    assert_eq!(validate(nar.chunks(size)), whole);
});
