//! Secrets and ids of tokens: random, in characters that need no quoting anywhere.

use ncps_nix::nix32;
use ncps_proto::{Error, Result, Secret};
use zeroize::Zeroizing;

/// So that people, and programs that look for leaked secrets, see what it is.
const PREFIX: &str = "ncps_";
/// 200 bits: 40 characters.
const SECRET_BYTES: usize = 25;
/// 80 bits: 16 characters.
const ID_BYTES: usize = 10;

/// A new secret.
pub(super) fn make() -> Result<Secret> {
    let random = Zeroizing::new(random::<SECRET_BYTES>()?);
    Ok(Secret::new(format!("{PREFIX}{}", *Zeroizing::new(nix32::encode(&*random)))))
}

/// A new id.
pub(super) fn make_id() -> Result<String> {
    Ok(nix32::encode(&random::<ID_BYTES>()?))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_told_by_their_beginning() {
        let (one, other) = (make().expect("made"), make().expect("made"));
        assert_ne!(one, other);
        assert!(one.reveal().starts_with("ncps_") && one.reveal().len() == 45, "160 bits are 32 characters");
        assert_eq!(format!("{one:?}"), "(secret)");
        assert_ne!(make_id().expect("made"), make_id().expect("made"));
    }
}
