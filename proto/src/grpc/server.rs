//! A [`ControlPlane`] as a tonic service.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::admission::LetIn;
use super::status::{is_undecodable, to_status};
use super::{Admission, MAX_MESSAGE_BYTES, Overhearing, trace};
use crate::convert::{self, nar_file_name, store_path_hash};
use crate::errand;
use crate::gen_v1::{self as wire, control_plane_server as generated};
use crate::{ControlPlane, Said};

/// The adapter around an implementation.
#[derive(Clone)]
pub struct Adapter {
    plane: Arc<dyn ControlPlane>,
}

/// The service value: cloned into a router, or called directly.
pub type ControlPlaneService = generated::ControlPlaneServer<Adapter>;

/// The service for an implementation.
pub fn server(plane: Arc<dyn ControlPlane>) -> ControlPlaneService {
    generated::ControlPlaneServer::new(Adapter { plane })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(result: crate::Result<T>) -> Reply<T> {
    result.map(Response::new).map_err(to_status)
}

/// Why a report is not heard.
enum Unheard {
    /// It can't be understood.
    Malformed(String),
    /// It did not arrive, or not whole.
    Broken(String),
}

impl Unheard {
    /// In words, which whoever listens hears too where they are about what was said.
    fn told(self, overhearing: Option<&Overhearing>) -> String {
        let (Unheard::Malformed(why) | Unheard::Broken(why)) = &self;
        if let (Unheard::Malformed(_), Some(Overhearing(hears))) = (&self, overhearing) {
            hears.not_understood(why);
        }
        why.clone()
    }
}

fn said(message: Result<wire::EdgeReport, Status>) -> Result<Said, Unheard> {
    let message = message.map_err(|status| match is_undecodable(&status) {
        true => Unheard::Malformed(status.message().to_owned()),
        false => Unheard::Broken(status.to_string()),
    })?;
    convert::said(message).map_err(|error| Unheard::Malformed(error.story()))
}

#[tonic::async_trait]
impl generated::ControlPlane for Adapter {
    type AttachStream = BoxStream<'static, Result<wire::Directive, Status>>;

    async fn narinfo(&self, request: Request<wire::NarinfoRequest>) -> Reply<wire::NarinfoReply> {
        let span = trace::answers("narinfo", request.metadata());
        let hash = store_path_hash(&request.into_inner().store_path_hash).map_err(to_status)?;
        reply(trace::within(span, self.plane.narinfo(hash)).await.map(convert::lookup_wire))
    }

    async fn publish_narinfo(
        &self,
        request: Request<wire::PublishNarinfoRequest>,
    ) -> Reply<wire::PublishNarinfoReply> {
        let span = trace::answers("publish_narinfo", request.metadata());
        let publication = convert::publication(request.into_inner()).map_err(to_status)?;
        let stored = trace::within(span, self.plane.publish_narinfo(publication)).await;
        reply(stored.map(|narinfo| wire::PublishNarinfoReply { narinfo: narinfo.render() }))
    }

    async fn publish_absent(
        &self,
        request: Request<wire::PublishAbsentRequest>,
    ) -> Reply<wire::PublishAbsentReply> {
        let span = trace::answers("publish_absent", request.metadata());
        let request = request.into_inner();
        let hash = store_path_hash(&request.store_path_hash).map_err(to_status)?;
        let left = trace::within(span, self.plane.publish_absent(hash, convert::heard(&request))).await;
        let millis = |left: std::time::Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        reply(left.map(|left| wire::PublishAbsentReply { absent_ms: millis(left) }))
    }

    async fn retract_narinfo(
        &self,
        request: Request<wire::RetractNarinfoRequest>,
    ) -> Reply<wire::RetractNarinfoReply> {
        let span = trace::answers("retract_narinfo", request.metadata());
        let request = request.into_inner();
        let hash = store_path_hash(&request.store_path_hash).map_err(to_status)?;
        let nar = nar_file_name(request.nar).map_err(to_status)?;
        reply(
            trace::within(span, self.plane.retract_narinfo(hash, nar))
                .await
                .map(|()| wire::RetractNarinfoReply {}),
        )
    }

    async fn locate(&self, request: Request<wire::LocateRequest>) -> Reply<wire::LocateReply> {
        let span = trace::answers("locate", request.metadata());
        let request = request.into_inner();
        let name = nar_file_name(request.nar).map_err(to_status)?;
        let located = trace::within(span, self.plane.locate(&request.instance, name)).await;
        reply(located.map(convert::located_wire))
    }

    async fn begin_fetch(&self, request: Request<wire::BeginFetchRequest>) -> Reply<wire::BeginFetchReply> {
        let span = trace::answers("begin_fetch", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let request = request.into_inner();
        let_in.may_be(&request.instance).map_err(to_status)?;
        let name = nar_file_name(request.nar).map_err(to_status)?;
        let turn = self.plane.begin_fetch(&request.instance, name, &request.failed);
        reply(trace::within(span, turn).await.map(convert::turn_wire))
    }

    async fn end_fetch(&self, request: Request<wire::EndFetchRequest>) -> Reply<wire::EndFetchReply> {
        let span = trace::answers("end_fetch", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let request = request.into_inner();
        let_in.may_be(&request.instance).map_err(to_status)?;
        let name = nar_file_name(request.nar).map_err(to_status)?;
        reply(
            trace::within(span, self.plane.end_fetch(&request.instance, name))
                .await
                .map(|()| wire::EndFetchReply {}),
        )
    }

    async fn commit_nar(&self, request: Request<wire::CommitNarRequest>) -> Reply<wire::CommitNarReply> {
        let span = trace::answers("commit_nar", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let (instance, commit) = convert::commit(request.into_inner()).map_err(to_status)?;
        let_in.may_be(&instance).map_err(to_status)?;
        let narinfos = trace::within(span, self.plane.commit_nar(&instance, commit)).await;
        let render = |all: Vec<ncps_nix::NarInfo>| all.iter().map(ncps_nix::NarInfo::render).collect();
        reply(narinfos.map(|all| wire::CommitNarReply { narinfos: render(all) }))
    }

    async fn publish_upload(
        &self,
        request: Request<wire::PublishUploadRequest>,
    ) -> Reply<wire::PublishUploadReply> {
        let span = trace::answers("publish_upload", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let upload = convert::upload(request.into_inner()).map_err(to_status)?;
        let_in.may_be(&upload.writer.instance).map_err(to_status)?;
        let stored = trace::within(span, self.plane.publish_upload(upload)).await;
        reply(stored.map(|narinfo| wire::PublishUploadReply { narinfo: narinfo.render() }))
    }

    async fn delete_narinfo(
        &self,
        request: Request<wire::DeleteNarinfoRequest>,
    ) -> Reply<wire::DeleteNarinfoReply> {
        let span = trace::answers("delete_narinfo", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let request = request.into_inner();
        let hash = store_path_hash(&request.store_path_hash).map_err(to_status)?;
        let writer = convert::writer(request.writer).map_err(to_status)?;
        let_in.may_be(&writer.instance).map_err(to_status)?;
        let deleted = trace::within(span, self.plane.delete_narinfo(hash, writer)).await;
        reply(deleted.map(|deleted| wire::DeleteNarinfoReply { deleted }))
    }

    async fn delete_nar(&self, request: Request<wire::DeleteNarRequest>) -> Reply<wire::DeleteNarReply> {
        let span = trace::answers("delete_nar", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let request = request.into_inner();
        let name = nar_file_name(request.nar).map_err(to_status)?;
        let writer = convert::writer(request.writer).map_err(to_status)?;
        let_in.may_be(&writer.instance).map_err(to_status)?;
        let victims = trace::within(span, self.plane.delete_nar(name, writer)).await;
        reply(victims.map(|victims| wire::DeleteNarReply { victims: convert::victims_wire(victims) }))
    }

    async fn note_object(&self, request: Request<wire::NoteObjectRequest>) -> Reply<wire::NoteObjectReply> {
        let span = trace::answers("note_object", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let note = convert::object_note(request.into_inner()).map_err(to_status)?;
        let_in.may_be(note.by.instance()).map_err(to_status)?;
        reply(trace::within(span, self.plane.note_object(note)).await.map(|()| wire::NoteObjectReply {}))
    }

    async fn warrant(&self, request: Request<wire::WarrantRequest>) -> Reply<wire::WarrantReply> {
        let span = trace::answers("warrant", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let wire::WarrantRequest { errand, writer } = request.into_inner();
        let errand = errand::errand(errand).map_err(to_status)?;
        let writer = convert::writer(writer).map_err(to_status)?;
        let_in.may_be(&writer.instance).map_err(to_status)?;
        let warrants = trace::within(span, self.plane.warrant(errand, writer)).await;
        reply(warrants.map(errand::warrants_wire))
    }

    async fn redeem(&self, request: Request<wire::RedeemRequest>) -> Reply<wire::RedeemReply> {
        let span = trace::answers("redeem", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let wire::RedeemRequest { bearer, errand } = request.into_inner();
        let bearer = errand::bearer(bearer).map_err(to_status)?;
        let errand = errand::errand(errand).map_err(to_status)?;
        let_in.may_be(&bearer.instance).map_err(to_status)?;
        let redeemed = trace::within(span, self.plane.redeem(bearer, errand)).await;
        reply(redeemed.map(|()| wire::RedeemReply {}))
    }

    async fn doubt_placement(
        &self,
        request: Request<wire::DoubtPlacementRequest>,
    ) -> Reply<wire::DoubtPlacementReply> {
        let span = trace::answers("doubt_placement", request.metadata());
        let let_in = LetIn::by(request.extensions());
        let request = request.into_inner();
        let_in.may_be(&request.instance).map_err(to_status)?;
        let name = nar_file_name(request.nar).map_err(to_status)?;
        let doubted = self.plane.doubt_placement(&request.instance, &request.peer, name);
        reply(trace::within(span, doubted).await.map(|()| wire::DoubtPlacementReply {}))
    }

    async fn durable_edges(
        &self,
        request: Request<wire::DurableEdgesRequest>,
    ) -> Reply<wire::DurableEdgesReply> {
        let span = trace::answers("durable_edges", request.metadata());
        let instance = request.into_inner().instance;
        let durable = trace::within(span, self.plane.durable_edges(&instance)).await;
        reply(durable.map(convert::durable_edges_wire))
    }

    async fn attach(&self, request: Request<Streaming<wire::EdgeReport>>) -> Reply<Self::AttachStream> {
        let admission = request.extensions().get::<Admission>().cloned();
        let overhearing = request.extensions().get::<Overhearing>().cloned();
        // A report that does not arrive or does not parse ends the session: the edge says everything again.
        let reports = request
            .into_inner()
            .map(move |message| said(message).map_err(|unheard| unheard.told(overhearing.as_ref())))
            .take_while(|report| {
                if let Err(error) = report {
                    tracing::debug!(%error, "an edge's session breaks");
                }
                futures::future::ready(report.is_ok())
            })
            .filter_map(|report| futures::future::ready(report.ok()));
        let directives = match admission {
            None => self.plane.attach(reports.boxed()).await.map_err(to_status)?,
            Some(admission) => {
                let reports = admission.of_its_edge(reports.boxed()).await.map_err(to_status)?;
                let directives = self.plane.attach(reports).await.map_err(to_status)?;
                admission.while_it_counts(directives)
            }
        };
        let stream = directives.map(|d| d.map(convert::told_wire).map_err(to_status));
        Ok(Response::new(stream.boxed()))
    }
}
