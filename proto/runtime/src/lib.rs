//! How a process of ours is configured, starts, reports and stops.
//!
//! Every program (`ncps`, `ncps-edge`, `ncps-control`, `ncps-cli`) is put together from these parts:
//! [`config`] turns flags, environment and file into typed values and collects every problem; [`logs`]
//! sets up what is reported; [`lifecycle`] and [`tasks`] own the start, the running work and the end;
//! [`keys`] are the names by which programs know each other's part of a shared file; [`lock`] keeps a data path to one process, [`foreign`] recognises one that isn't ours; [`files`] how many of them may be open,
//! [`paths`] knows where
//! things are by default; [`clock`] is the time of day as a parameter; [`telemetry`] what monitoring is told;
//! [`exit`] the three ways to end; [`program`] strings them together; [`configuration`] shows what it would run with.
//!
//! Absent on purpose: Nix formats, HTTP, SQL and gRPC, and any reading of the process environment: it is
//! handed in by `main`, so that tests need not change it.

pub mod accepting;
pub mod clock;
pub mod config;
pub mod configuration;
pub mod exit;
pub mod fault;
pub mod fields;
pub mod files;
pub mod foreign;
pub mod keys;
pub mod lifecycle;
pub mod lock;
pub mod logs;
pub mod paths;
pub mod program;
pub mod systemd;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod version;

pub use clap;
