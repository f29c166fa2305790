//! Base64 as Nix writes it: standard alphabet, padded, and nothing but one text per value.

use data_encoding::BASE64;

/// None for anything but the canonical text.
///
/// [`BASE64`] alone also takes several padded texts one after the other.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if digits.contains('=') {
        return None;
    }
    BASE64.decode(text.as_bytes()).ok()
}
