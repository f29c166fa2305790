//! Who is let in over TCP: a call has to show a token of the service's scope, in its `authorization` metadata. What
//! let it in goes on with the call. A Unix socket needs no gate: nobody else can connect to it.
//!
//! Absent: what a token may do beyond being let in, and how it is kept from others on its way (see [`crate::serve`]).

use std::sync::Arc;

use ncps_proto::admin::Caller;
use ncps_proto::grpc::{Admission, Attached, to_status};
use ncps_proto::{Code, Error, Hello, Result, Scope};
use ncps_runtime::clock::Clock;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::connections::Visitor;
use crate::refusals::{Reason, Refusals, Who};
use crate::sessions::Sessions;
use crate::tokens::{Entry, Tokens};

/// Which edges are attached, and where it is noted that one is turned away.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) refusals: Arc<Refusals>,
}

impl Attached for Fleet {
    fn name_of(&self, instance: &str) -> Option<String> {
        self.sessions.name_of(instance)
    }

    fn turned_away(&self, hello: &Hello, error: &Error) {
        let who = Who { name: Some(hello.name.clone()), peer: None };
        self.refusals.note(&who, Reason::Token, &error.to_string());
    }
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

    /// The token that lets a call in. `None` where none is asked for.
    fn admit(&self, metadata: &MetadataMap) -> Result<Option<Arc<Entry>>> {
        if self.lenient && !self.tokens.any(self.scope) {
            return Ok(None);
        }
        let Some(secret) = secret(metadata) else {
            return Err(refusal(format!(
                "control asks for a token of scope {}, and none was shown",
                self.scope
            )));
        };
        let token = self.tokens.of(secret).ok_or_else(|| refusal("the token is not known to control"))?;
        token.check(self.scope, self.clock.now()).map_err(refusal)?;
        Ok(Some(token))
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let admitted = self.admit(request.metadata());
        if let (Ok(_), Some(visitor)) = (&admitted, &visitor) {
            visitor.admit();
        }
        match admitted {
            Ok(Some(token)) => {
                let name = token.info.name.clone();
                request.extensions_mut().insert(Caller { who: format!("token {name}") });
                let (edges, over) = (token.info.edges.clone(), token.over.clone());
                let attached = Arc::new(self.fleet.clone());
                request.extensions_mut().insert(Admission { token: name, edges, attached, over });
                Ok(request)
            }
            Ok(None) => Ok(request),
            Err(error) => {
                let who = visitor.map(|visitor| Who::from(visitor.peer.ip())).unwrap_or_default();
                let reason = if self.scope == Scope::Edge { Reason::Token } else { Reason::AdminToken };
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
