//! The fields that every process of ours has: logging, stopping, and where its data is.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Alias, Env, Field, Resolver, values};
use crate::lifecycle::Timing;
use crate::logs::{LogFilter, LogFormat, LogOptions};
use crate::paths;
use crate::telemetry::TelemetryOptions;

pub use crate::telemetry::{OTEL_ENABLED, OTEL_GRPC_URL, PROMETHEUS_ENABLED};

/// How much is logged.
pub const LOG_LEVEL: Field = Field::value(
    "log-level",
    "LOG_LEVEL",
    "log.level",
    "Least severity that is logged: trace, debug, info, warn, error or off; or filters such as info,ncps_edge=debug.",
)
.default("info")
.value_name("LEVEL");

/// How log lines look.
pub const LOG_FORMAT: Field = Field::value(
    "log-format",
    "LOG_FORMAT",
    "log.format",
    "Log lines on standard error: human, json, or auto (human on a terminal).",
)
.default("auto")
.value_name("FORMAT");

/// How long a process that was asked to stop still takes connections.
pub const SHUTDOWN_DELAY: Field = Field::value(
    "shutdown-delay",
    "SHUTDOWN_DELAY",
    "shutdown.delay",
    "When asked to stop: how long to report not ready and still accept connections, for load balancers to notice.",
)
.default("0s")
.value_name("DURATION");

/// How long running work may take after that.
pub const SHUTDOWN_GRACE: Field = Field::value(
    "shutdown-grace",
    "SHUTDOWN_GRACE",
    "shutdown.grace",
    "When asked to stop: how long running transfers may take to finish before they are cut.",
)
.default("60s")
.value_name("DURATION");

/// The table of these fields.
pub const RUNTIME: &[Field] =
    &[LOG_LEVEL, LOG_FORMAT, SHUTDOWN_DELAY, SHUTDOWN_GRACE, OTEL_ENABLED, OTEL_GRPC_URL, PROMETHEUS_ENABLED];

/// The table for commands that don't serve: they log and end by themselves.
pub const LOGGING: &[Field] = &[LOG_LEVEL, LOG_FORMAT];

/// Where a process keeps everything.
pub const DATA_PATH: Field = Field::value(
    "cache-data-path",
    "CACHE_DATA_PATH",
    "cache.data-path",
    "Where everything is kept. By default $STATE_DIRECTORY, /var/lib/ncps for root, else $XDG_DATA_HOME/ncps.",
)
.value_name("PATH")
.aliases(&[Alias::new("cache-storage-local", "CACHE_STORAGE_LOCAL", "cache.storage.local")]);

/// The table of the data path alone: both planes have one, and share it in one process.
pub const DATA: &[Field] = &[DATA_PATH];

/// The data path, given or found. `None` where a problem was noted.
pub fn read_data_path(r: &mut Resolver, env: Env<'_>) -> Option<PathBuf> {
    if r.given(&DATA_PATH) {
        return r.get(&DATA_PATH, values::absolute_path);
    }
    let found = paths::data_path(env, paths::is_root());
    match &found {
        Some(path) => r.computed(&DATA_PATH, path.display()),
        None => r.problem(&DATA_PATH, "has to be given: there is no home directory to put it in"),
    }
    found
}

/// What a serving process needs to start, report and stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// What is logged, and how.
    pub logs: LogOptions,
    /// How it stops.
    pub timing: Timing,
    /// What monitoring is told.
    pub telemetry: TelemetryOptions,
}

impl RuntimeConfig {
    /// Reads the fields of [`RUNTIME`].
    pub fn read(r: &mut Resolver) -> Self {
        Self { logs: read_logs(r), timing: read_timing(r), telemetry: TelemetryOptions::read(r) }
    }
}

/// Reads the fields of [`LOGGING`].
pub fn read_logs(r: &mut Resolver) -> LogOptions {
    LogOptions {
        filter: r.get_or(&LOG_LEVEL, LogFilter::parse, LogFilter::default()),
        format: r.get_or(&LOG_FORMAT, LogFormat::parse, LogFormat::Auto),
    }
}

fn read_timing(r: &mut Resolver) -> Timing {
    Timing {
        delay: r.get_or(&SHUTDOWN_DELAY, values::duration, Duration::ZERO),
        grace: r.get_or(&SHUTDOWN_GRACE, values::duration, Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CommandLine, Sources, command, conflicts};

    fn read(args: &[&str]) -> (RuntimeConfig, Result<(), crate::config::ConfigErrors>) {
        let command = command("ncps", "test", &[RUNTIME]);
        let line = CommandLine::parse(command, &[RUNTIME], [&["ncps"], args].concat()).expect("nothing else");
        let mut r = Resolver::new(Sources::gather(&[RUNTIME], &[], &line, &|_| None, None));
        (RuntimeConfig::read(&mut r), r.finish())
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let (config, finished) = read(&[]);
        assert_eq!(finished, Ok(()));
        assert_eq!(config.timing, Timing { delay: Duration::ZERO, grace: Duration::from_secs(60) });
        assert_eq!(config.logs, LogOptions { filter: LogFilter::default(), format: LogFormat::Auto });
        assert_eq!(config.telemetry, TelemetryOptions::default(), "nothing leaves unasked");
        assert_eq!(conflicts(&[RUNTIME, LOGGING]), Vec::<String>::new());
    }

    #[test]
    fn flags_count() {
        let (config, finished) =
            read(&["--shutdown-delay=5s", "--shutdown-grace", "1m", "--log-format=json"]);
        assert_eq!(finished, Ok(()));
        assert_eq!(config.timing, Timing { delay: Duration::from_secs(5), grace: Duration::from_secs(60) });
        assert_eq!(config.logs.format, LogFormat::Json);
    }
}
