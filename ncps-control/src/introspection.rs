//! What gRPC tools ask of any server: whether it serves (`grpc.health.v1`), and what (`grpc.reflection.v1`).
//!
//! Knows when control stops. Absent: the services themselves, and who may ask.

use ncps_proto::admin::AdminPlaneService;
use ncps_proto::grpc::ControlPlaneService;
use ncps_proto::{DESCRIPTORS, Error, Result};
use ncps_runtime::tasks::Tasks;
use tonic::server::NamedService;
use tonic_health::ServingStatus::{NotServing, Serving};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// The server as a whole, then each of its services.
const NAMES: [&str; 3] = ["", ControlPlaneService::NAME, AdminPlaneService::NAME];

/// Says that control serves, until it is asked to stop.
pub(crate) async fn health(tasks: &Tasks) -> HealthServer<impl Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    for name in NAMES {
        reporter.set_service_status(name, Serving).await;
    }
    let stop = tasks.life().soft();
    tasks.spawn_background("control-health", async move {
        stop.cancelled().await;
        for name in NAMES {
            reporter.set_service_status(name, NotServing).await;
        }
    });
    service
}

/// Describes control's services.
pub(crate) fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>> {
    let services = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1();
    services.map_err(|error| Error::internal("describe control's services").because(error))
}
