//! Which release this is.

/// The version with the commit that it was built from, where that is known: `0.1.0 (0123456789ab)`.
pub const VERSION: &str = env!("NCPS_VERSION");
