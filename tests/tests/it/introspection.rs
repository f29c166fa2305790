//! What gRPC tools ask of control's socket: whether it serves, and what.

use futures::StreamExt;
use ncps_edge::config::{ControlLink, ControlUrl};
use ncps_edge::remote;
use ncps_tests::{Cluster, both_modes};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICES: [&str; 2] = ["ncps.v1.ControlPlane", "ncps.v1.AdminPlane"];

async fn channel(cluster: &Cluster) -> tonic::transport::Channel {
    let link = ControlLink::from(ControlUrl::Unix(cluster.socket()));
    remote::dial(&link).await.expect("control answers")
}

async fn told(cluster: &Cluster, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel(cluster).await);
    let answers = client.server_reflection_info(futures::stream::once(async { request })).await;
    let answer = answers.expect("it is served").into_inner().next().await.expect("an answer");
    answer.expect("no refusal").message_response.expect("a response")
}

both_modes! {
    async fn probes_are_told_that_it_serves(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let mut client = HealthClient::new(channel(&cluster).await);
        for service in ["", SERVICES[0], SERVICES[1]] {
            let asked = HealthCheckRequest { service: service.to_owned() };
            let health = client.check(asked).await.expect("it is served").into_inner();
            assert_eq!(health.status(), ServingStatus::Serving, "{service}");
        }
        let unknown = HealthCheckRequest { service: "ncps.v1.Nothing".to_owned() };
        assert_eq!(client.check(unknown).await.expect_err("no such service").code(), tonic::Code::NotFound);
        cluster.end().await;
    }

    async fn its_services_describe_themselves(mode) {
        let cluster = Cluster::builder(mode).start().await;
        let list = told(&cluster, MessageRequest::ListServices(String::new())).await;
        let MessageResponse::ListServicesResponse(list) = list else { panic!("{list:?}") };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
        let file = MessageRequest::FileContainingSymbol("ncps.v1.AdminPlane.Keys".to_owned());
        let file = told(&cluster, file).await;
        assert!(matches!(&file, MessageResponse::FileDescriptorResponse(found)
            if !found.file_descriptor_proto.is_empty()), "{file:?}");
        cluster.end().await;
    }
}
