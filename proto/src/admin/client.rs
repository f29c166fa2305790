//! Control's administration behind a channel. Its calls stand with their subjects.

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::gen_v1::admin_plane_client::AdminPlaneClient;
use crate::grpc::MAX_MESSAGE_BYTES;
use crate::{Code, Error, Result, Secret};

/// Asks control through a channel. It says nothing of who asks: control sees that itself.
#[derive(Clone)]
pub struct RemoteAdmin {
    client: AdminPlaneClient<Channel>,
    bearer: Option<MetadataValue<Ascii>>,
}

impl RemoteAdmin {
    /// Over a channel. Nothing is sent by this.
    pub fn new(channel: Channel) -> Self {
        let client = AdminPlaneClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        RemoteAdmin { client, bearer: None }
    }

    /// The same with this token in every call.
    ///
    /// # Errors
    /// [`Code::Invalid`] where it has characters that no token has.
    pub fn with_token(mut self, token: &Secret) -> Result<Self> {
        let bearer = format!("Bearer {}", token.reveal()).parse::<MetadataValue<Ascii>>();
        let mut bearer =
            bearer.map_err(|_| Error::new(Code::Invalid, "the token has characters of no token"))?;
        bearer.set_sensitive(true);
        self.bearer = Some(bearer);
        Ok(self)
    }

    pub(super) fn client(&self) -> AdminPlaneClient<Channel> {
        self.client.clone()
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }
}

/// One call, to its reply.
macro_rules! ask {
    ($self:ident . $method:ident ( $message:expr )) => {{
        let request = $self.request($message);
        $self.client().$method(request).await.map_err(crate::grpc::plain)?.into_inner()
    }};
}
pub(super) use ask;
