//! The file keys of each plane, so that both can share a configuration file: each program reads its own and knows
//! the other's from a mistyped one.
//!
//! Names alone: what they mean is in the planes' tables of fields, which must not know each other. A test of the
//! whole house holds these lists to those tables. Absent: keys that both have.

/// What a file may hold for an edge, with or without control in the same process.
pub const EDGE_KEYS: &[&str] = &[
    "server.addr",
    "edge.name",
    "edge.url",
    "server.tls.cert",
    "server.tls.key",
    "max-connections",
    "max-requests",
    "control.url",
];

/// What a file may hold for control.
pub const CONTROL_KEYS: &[&str] = &[];
