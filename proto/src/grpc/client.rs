//! A tonic transport as a [`ControlPlane`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use http_body::Body;
use ncps_nix::{NarFileName, NarInfo, StorePathHash};
use tonic::client::GrpcService;

use super::status::from_status;
use super::{MAX_MESSAGE_BYTES, trace};
use crate::convert::{self, nar_file_name_wire, store_path_hash_bytes};
use crate::errand;
use crate::gen_v1::{self as wire, control_plane_client::ControlPlaneClient};
use crate::{
    Bearer, Commit, ControlPlane, Directives, DurableEdges, Errand, Heard, Location, Lookup, ObjectNote,
    Publication, Reports, Result, Turn, Upload, Victim, Warrants, Writer,
};

type Bytes = bytes::Bytes;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Control behind a transport: a channel to another process, or the service value of this one.
pub struct RemoteControl<T> {
    client: ControlPlaneClient<T>,
}

impl<T> RemoteControl<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<BoxError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<BoxError> + Send,
{
    /// Wraps a transport. Nothing is connected by this.
    pub fn new(transport: T) -> Self {
        let client = ControlPlaneClient::new(transport)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        RemoteControl { client }
    }
}

/// Reports as messages. A named type, since the compiler can't see through the adapters of a boxed stream here.
struct WireReports(Reports);

impl Stream for WireReports {
    type Item = wire::EdgeReport;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx).map(|report| report.map(convert::said_wire))
    }
}

/// One unary call: a clone of the cheap client, the request in its span, and the status mapped.
macro_rules! call {
    ($self:ident . $method:ident ( $request:expr )) => {{
        let mut request = tonic::Request::new($request);
        let span = trace::calls(stringify!($method), request.metadata_mut());
        let mut client = $self.client.clone();
        trace::within(span, client.$method(request)).await.map_err(from_status)?.into_inner()
    }};
}

#[async_trait]
impl<T> ControlPlane for RemoteControl<T>
where
    T: GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<BoxError> + Send,
{
    async fn narinfo(&self, hash: StorePathHash) -> Result<Lookup> {
        let request = wire::NarinfoRequest { store_path_hash: store_path_hash_bytes(hash) };
        convert::lookup(call!(self.narinfo(request)))
    }

    async fn publish_narinfo(&self, publication: Publication) -> Result<NarInfo> {
        let reply = call!(self.publish_narinfo(convert::publication_wire(publication)));
        convert::narinfo(&reply.narinfo)
    }

    async fn publish_absent(&self, hash: StorePathHash, heard: Heard) -> Result<Duration> {
        let not_all = heard == Heard::Some;
        let request = wire::PublishAbsentRequest { store_path_hash: store_path_hash_bytes(hash), not_all };
        Ok(Duration::from_millis(call!(self.publish_absent(request)).absent_ms))
    }

    async fn retract_narinfo(&self, hash: StorePathHash, nar: NarFileName) -> Result<()> {
        let request = wire::RetractNarinfoRequest {
            store_path_hash: store_path_hash_bytes(hash),
            nar: Some(nar_file_name_wire(nar)),
        };
        call!(self.retract_narinfo(request));
        Ok(())
    }

    async fn locate(&self, instance: &str, name: NarFileName) -> Result<Option<Location>> {
        let nar = Some(nar_file_name_wire(name));
        let request = wire::LocateRequest { nar, instance: instance.to_owned() };
        convert::located(call!(self.locate(request)))
    }

    async fn begin_fetch(&self, instance: &str, name: NarFileName, failed: &[String]) -> Result<Turn> {
        let nar = Some(nar_file_name_wire(name));
        let request = wire::BeginFetchRequest { instance: instance.to_owned(), nar, failed: failed.to_vec() };
        convert::turn(call!(self.begin_fetch(request)))
    }

    async fn end_fetch(&self, instance: &str, name: NarFileName) -> Result<()> {
        let nar = Some(nar_file_name_wire(name));
        call!(self.end_fetch(wire::EndFetchRequest { instance: instance.to_owned(), nar }));
        Ok(())
    }

    async fn commit_nar(&self, instance: &str, commit: Commit) -> Result<Vec<NarInfo>> {
        let reply = call!(self.commit_nar(convert::commit_wire(instance, commit)));
        reply.narinfos.iter().map(|text| convert::narinfo(text)).collect()
    }

    async fn publish_upload(&self, upload: Upload) -> Result<NarInfo> {
        let reply = call!(self.publish_upload(convert::upload_wire(upload)));
        convert::narinfo(&reply.narinfo)
    }

    async fn delete_narinfo(&self, hash: StorePathHash, writer: Writer) -> Result<bool> {
        let writer = Some(convert::writer_wire(writer));
        let request = wire::DeleteNarinfoRequest { store_path_hash: store_path_hash_bytes(hash), writer };
        Ok(call!(self.delete_narinfo(request)).deleted)
    }

    async fn delete_nar(&self, name: NarFileName, writer: Writer) -> Result<Vec<Victim>> {
        let writer = Some(convert::writer_wire(writer));
        let request = wire::DeleteNarRequest { nar: Some(nar_file_name_wire(name)), writer };
        convert::victims(call!(self.delete_nar(request)).victims)
    }

    async fn note_object(&self, note: ObjectNote) -> Result<()> {
        call!(self.note_object(convert::object_note_wire(note)));
        Ok(())
    }

    async fn warrant(&self, errand: Errand, writer: Writer) -> Result<Warrants> {
        let (errand, writer) = (Some(errand::errand_wire(errand)), Some(convert::writer_wire(writer)));
        Ok(errand::warrants(call!(self.warrant(wire::WarrantRequest { errand, writer }))))
    }

    async fn redeem(&self, bearer: Bearer, errand: Errand) -> Result<()> {
        let (bearer, errand) = (Some(errand::bearer_wire(bearer)), Some(errand::errand_wire(errand)));
        call!(self.redeem(wire::RedeemRequest { bearer, errand }));
        Ok(())
    }

    async fn doubt_placement(&self, instance: &str, peer: &str, name: NarFileName) -> Result<()> {
        let nar = Some(nar_file_name_wire(name));
        let (instance, peer) = (instance.to_owned(), peer.to_owned());
        call!(self.doubt_placement(wire::DoubtPlacementRequest { instance, peer, nar }));
        Ok(())
    }

    async fn durable_edges(&self, instance: &str) -> Result<DurableEdges> {
        let request = wire::DurableEdgesRequest { instance: instance.to_owned() };
        Ok(convert::durable_edges(call!(self.durable_edges(request))))
    }

    async fn attach(&self, reports: Reports) -> Result<Directives> {
        // A session is as long as the process: no trace.
        let directives = self.client.clone().attach(WireReports(reports)).await;
        let directives = directives.map_err(from_status)?.into_inner();
        Ok(directives.map(|message| message.map_err(from_status).and_then(convert::told)).boxed())
    }
}
