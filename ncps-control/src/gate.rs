//! Who is let in over TCP: a connection has to show a certificate of the service's scope, or a call a token of it, in
//! its `authorization` metadata; either is enough. What let it in goes on with the call. A Unix socket needs no gate:
//! nobody else can connect to it.
//!
//! Absent: what a token may do beyond being let in, and how it is kept from others on its way (see [`crate::serve`]).

use std::net::IpAddr;
use std::sync::Arc;

use ncps_proto::admin::Caller;
use ncps_proto::grpc::{Admission, Attached, to_status};
use ncps_proto::{Code, Error, Hello, Result, Scope};
use ncps_runtime::clock::Clock;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::connections::Visitor;
use crate::identity::{Certificate, Identity};
use crate::rate::CALLS;
use crate::refusals::{Reason, Refusals, Who};
use crate::sessions::Sessions;
use crate::tokens::Tokens;

/// Which edges are attached, and where it is noted that one is turned away.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) refusals: Arc<Refusals>,
}

/// The same for who came in with something that may not be for its name.
struct Claimed {
    fleet: Fleet,
    /// What it is noted as.
    reason: Reason,
}

impl Attached for Claimed {
    fn name_of(&self, instance: &str) -> Option<String> {
        self.fleet.sessions.name_of(instance)
    }

    fn turned_away(&self, hello: &Hello, error: &Error) {
        let who = Who { name: Some(hello.name.clone()), peer: None };
        self.fleet.refusals.note(&who, self.reason, &error.to_string());
    }
}

/// What lets a call in.
struct Pass {
    credential: String,
    /// Whose it is for; none: all edges.
    edges: Vec<String>,
    /// They may be such as keep their disks.
    durable: bool,
    over: CancellationToken,
    /// Why somebody would be turned away with it.
    reason: Reason,
}

/// The door of one service.
#[derive(Clone)]
pub(crate) struct Gate {
    tokens: Arc<Tokens>,
    fleet: Fleet,
    clock: Arc<dyn Clock>,
    scope: Scope,
    /// It stands open while there is no token of its scope.
    lenient: bool,
}

impl Gate {
    pub(crate) fn new(
        tokens: &Arc<Tokens>,
        fleet: Fleet,
        clock: &Arc<dyn Clock>,
        scope: Scope,
        lenient: bool,
    ) -> Gate {
        Gate { tokens: Arc::clone(tokens), fleet, clock: Arc::clone(clock), scope, lenient }
    }

    /// What lets a call in. `None` where nothing is asked for.
    fn admit(
        &self,
        certificate: Option<&Certificate>,
        metadata: &MetadataMap,
    ) -> std::result::Result<Option<Pass>, (Reason, Error)> {
        let certified = certificate.map(|certificate| self.certified(certificate));
        match (certified, secret(metadata)) {
            (Some(Ok(pass)), _) => Ok(Some(pass)),
            // With a token it needs no certificate.
            (_, Some(secret)) if !self.is_open() => {
                self.with_token(secret).map(Some).map_err(|error| (self.wants_token(), error))
            }
            (Some(Err(why)), _) => Err((Reason::Certificate, refusal(why))),
            (None, _) if self.is_open() => Ok(None),
            (None, _) => {
                let scope = self.scope;
                let why = format!("control asks for a token of scope {scope}, and none was shown");
                Err((self.wants_token(), refusal(why)))
            }
        }
    }

    fn is_open(&self) -> bool {
        self.lenient && !self.tokens.any(self.scope)
    }

    fn wants_token(&self) -> Reason {
        if self.scope == Scope::Edge { Reason::Token } else { Reason::AdminToken }
    }

    fn certified(&self, certificate: &Certificate) -> std::result::Result<Pass, String> {
        let Identity { scope, name, durable } = certificate.check(self.scope)?;
        Ok(Pass {
            credential: format!("certificate {name}"),
            edges: if *scope == Scope::Edge { vec![name.clone()] } else { Vec::new() },
            durable: *durable,
            over: certificate.over(),
            reason: Reason::Certificate,
        })
    }

    /// The same of a secret that somebody at this address has shown in another way. Returns what fires when it counts no
    /// more.
    ///
    /// # Errors
    /// Where it does not count; that is noted.
    pub(crate) fn admit_secret(&self, secret: &[u8], peer: IpAddr) -> Result<CancellationToken> {
        let passed = self.with_token(secret).map(|pass| pass.over);
        passed.map_err(|error| self.fleet.refusals.turn_away(&Who::from(peer), self.wants_token(), error))
    }

    fn with_token(&self, secret: &[u8]) -> Result<Pass> {
        let token = self.tokens.of(secret).ok_or_else(|| refusal("the token is not known to control"))?;
        token.check(self.scope, self.clock.now()).map_err(refusal)?;
        Ok(Pass {
            credential: format!("token {}", token.info.name),
            edges: token.info.edges.clone(),
            durable: token.info.scopes.contains(&Scope::Durable),
            over: token.over.clone(),
            reason: Reason::Token,
        })
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        if let Some(flooder) = visitor.as_ref().filter(|visitor| !visitor.may_call()) {
            let why = Error::new(
                Code::Overloaded,
                format!("this connection makes more than {CALLS} calls a second"),
            );
            let who = Who::from(flooder.peer.ip());
            return Err(to_status(self.fleet.refusals.turn_away(&who, Reason::Flood, why)));
        }
        let certificate = visitor.as_ref().and_then(|visitor| visitor.certificate.as_ref());
        let admitted = self.admit(certificate, request.metadata());
        if let (Ok(_), Some(visitor)) = (&admitted, &visitor) {
            visitor.admit();
        }
        match admitted {
            Ok(Some(Pass { credential, edges, durable, over, reason })) => {
                request.extensions_mut().insert(Caller { who: credential.clone() });
                let attached = Arc::new(Claimed { fleet: self.fleet.clone(), reason });
                request.extensions_mut().insert(Admission { credential, edges, durable, attached, over });
                Ok(request)
            }
            Ok(None) => Ok(request),
            Err((reason, error)) => {
                let who = Who {
                    name: certificate.and_then(Certificate::name).map(str::to_owned),
                    peer: visitor.as_ref().map(|visitor| visitor.peer.ip()),
                };
                Err(to_status(self.fleet.refusals.turn_away(&who, reason, error)))
            }
        }
    }
}

fn secret(metadata: &MetadataMap) -> Option<&[u8]> {
    let value = metadata.get("authorization")?.as_bytes();
    let (scheme, secret) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

fn refusal(why: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, why)
}

#[cfg(test)]
mod tests {
    use ncps_proto::{Expiry, NewToken};
    use ncps_runtime::clock::{ManualClock, UnixTime};

    use ncps_runtime::telemetry::Telemetry;

    use super::*;
    use crate::Db;
    use crate::metrics::ControlMetrics;

    struct House {
        _folder: tempfile::TempDir,
        tokens: Arc<Tokens>,
        clock: ManualClock,
    }

    impl House {
        async fn new() -> House {
            let folder = tempfile::tempdir().expect("a directory");
            let clock = ManualClock::at(UnixTime(1_000));
            let db = Db::open(&folder.path().join("db.sqlite"), clock.now()).await.expect("opens");
            let tokens = Arc::new(Tokens::open(&db).await.expect("read"));
            House { _folder: folder, tokens, clock }
        }

        async fn token(&self, name: &str, scope: Scope, expiry: Expiry) -> String {
            let (name, scopes) = (name.to_owned(), vec![scope]);
            let new = NewToken { name, scopes, edges: Vec::new(), expiry };
            let made = self.tokens.create(new, self.clock.now()).await.expect("made");
            format!("Bearer {}", made.secret.reveal())
        }

        fn refuses(&self, scope: Scope, lenient: bool, authorization: Option<&str>) -> Option<String> {
            let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
            let mut request = Request::new(());
            if let Some(value) = authorization {
                request.metadata_mut().insert("authorization", value.parse().expect("a value"));
            }
            let counted = Arc::clone(&ControlMetrics::new(&Telemetry::off()).refused);
            let refusals = Refusals::new(counted, Arc::clone(&clock));
            let fleet = Fleet { sessions: Arc::default(), refusals: Arc::clone(&refusals) };
            let answer = Gate::new(&self.tokens, fleet, &clock, scope, lenient).call(request);
            assert_eq!(refusals.recent().len(), usize::from(answer.is_err()));
            answer.err().map(|status| {
                assert_eq!(status.code(), tonic::Code::Unauthenticated);
                status.message().to_owned()
            })
        }
    }

    #[tokio::test]
    async fn a_token_opens_the_service_of_its_scope_alone() {
        let house = House::new().await;
        let edge = house.token("edge", Scope::Edge, Expiry::Never).await;
        let admin = house.token("admin", Scope::Admin, Expiry::Never).await;
        for (scope, right, wrong) in [(Scope::Edge, &edge, &admin), (Scope::Admin, &admin, &edge)] {
            assert_eq!(house.refuses(scope, false, Some(right)), None);
            let why = house.refuses(scope, false, Some(wrong)).expect("refused");
            assert!(why.contains(&format!("no token of scope {scope}")), "{why}");
            for none in [None, Some("Bearer"), Some("Bearer "), Some("Basic x"), Some("Bearer wrong")] {
                assert!(house.refuses(scope, false, none).is_some(), "{none:?}");
            }
        }
        let Some(secret) = edge.strip_prefix("Bearer ") else { unreachable!("made above") };
        assert_eq!(house.refuses(Scope::Edge, false, Some(&format!("bearer  {secret} "))), None);
    }

    #[tokio::test]
    async fn a_lenient_gate_closes_with_the_first_token_and_stays_closed() {
        let house = House::new().await;
        assert_eq!(house.refuses(Scope::Edge, true, None), None);
        assert!(house.refuses(Scope::Edge, false, None).is_some());
        let short = house.token("short", Scope::Edge, Expiry::At(1_010)).await;
        assert!(house.refuses(Scope::Edge, true, None).is_some());
        assert_eq!(house.refuses(Scope::Edge, true, Some(&short)), None);
        house.clock.set(UnixTime(1_010));
        assert_eq!(
            house.refuses(Scope::Edge, true, Some(&short)).as_deref(),
            Some("token short has expired")
        );
        assert!(house.refuses(Scope::Edge, true, None).is_some());
        house.tokens.revoke("short", UnixTime(1_010)).await.expect("revoked");
        assert_eq!(house.refuses(Scope::Edge, true, None), None);
        assert!(house.refuses(Scope::Edge, false, Some(&short)).expect("refused").contains("revoked"));
    }
}
