//! What of telemetry is switched on, and where it goes.

use crate::config::{Field, Resolver};

/// Logs, metrics and traces by OTLP.
pub const OTEL_ENABLED: Field = Field::switch(
    "otel-enabled",
    "OTEL_ENABLED",
    "opentelemetry.enabled",
    "Send logs, metrics and traces by OpenTelemetry (OTLP over gRPC). The standard variables of its SDK, such as \
     OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS, count beside.",
);

/// Where they go.
pub const OTEL_GRPC_URL: Field = Field::value(
    "otel-grpc-url",
    "OTEL_GRPC_URL",
    "opentelemetry.grpc-url",
    "The collector. With http:// in the clear, with https:// or without a scheme over TLS; by default everything is \
     written to standard output, as OTLP in JSON.",
)
.default("")
.value_name("URL");

/// Metrics to be fetched.
pub const PROMETHEUS_ENABLED: Field = Field::switch(
    "prometheus-enabled",
    "PROMETHEUS_ENABLED",
    "prometheus.enabled",
    "Serve metrics for Prometheus at /metrics, where clients are served and at --control-http-addr.",
);

/// Where telemetry goes by OTLP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtlpTarget {
    /// To standard output, one JSON object a line.
    Stdout,
    /// To a collector at this URL: `http` in the clear, `https` over TLS.
    Collector(String),
}

/// What is switched on. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetryOptions {
    /// Logs, metrics and traces by OTLP, and where to.
    pub otlp: Option<OtlpTarget>,
    /// Metrics for Prometheus.
    pub prometheus: bool,
}

impl TelemetryOptions {
    /// Reads the fields.
    pub fn read(r: &mut Resolver) -> Self {
        let target = r.get_or(&OTEL_GRPC_URL, target, OtlpTarget::Stdout);
        let otlp = r.flag(&OTEL_ENABLED).then_some(target);
        Self { otlp, prometheus: r.flag(&PROMETHEUS_ENABLED) }
    }
}

fn target(text: &str) -> Result<OtlpTarget, String> {
    let url = match text.split_once("://") {
        None if text.is_empty() => return Ok(OtlpTarget::Stdout),
        None => format!("https://{text}"),
        Some(("http" | "https", _)) => text.to_owned(),
        Some(_) => return Err(EXPECTED.to_owned()),
    };
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let strange = |c: char| c.is_whitespace() || c.is_control();
    if authority.starts_with(['/', ':']) || authority.is_empty() || authority.contains(strange) {
        return Err(EXPECTED.to_owned());
    }
    Ok(OtlpTarget::Collector(url))
}

const EXPECTED: &str = "expected http://HOST:PORT, https://HOST:PORT, or HOST:PORT for TLS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_scheme_means_tls() {
        let collector = |url: &str| Ok(OtlpTarget::Collector(url.to_owned()));
        assert_eq!(target("collector:4317"), collector("https://collector:4317"));
        assert_eq!(target("https://collector:4317"), collector("https://collector:4317"));
        assert_eq!(target("http://127.0.0.1:4317"), collector("http://127.0.0.1:4317"));
        assert_eq!(target(""), Ok(OtlpTarget::Stdout));
        for wrong in ["ftp://collector", "http://", "https://:4317", ":4317", "a b"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
