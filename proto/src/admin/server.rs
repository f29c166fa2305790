//! An [`AdminPlane`] as a tonic service.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{AdminPlane, keys};
use crate::gen_v1::{self as wire, admin_plane_server as generated};
use crate::grpc::{MAX_MESSAGE_BYTES, to_status};

/// The adapter around an implementation.
#[derive(Clone)]
pub struct Adapter {
    plane: Arc<dyn AdminPlane>,
}

/// The service value.
pub type AdminPlaneService = generated::AdminPlaneServer<Adapter>;

/// The service for an implementation.
pub fn server(plane: Arc<dyn AdminPlane>) -> AdminPlaneService {
    generated::AdminPlaneServer::new(Adapter { plane })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(result: crate::Result<T>) -> Reply<T> {
    result.map(Response::new).map_err(to_status)
}

#[tonic::async_trait]
impl generated::AdminPlane for Adapter {
    async fn keys(&self, _: Request<wire::KeysRequest>) -> Reply<wire::KeysReply> {
        reply(self.plane.keys().await.map(keys::keys_wire))
    }
}
