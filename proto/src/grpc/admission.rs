//! What let a call in, as the layer that checked it leaves it with the request: nothing that a caller says of itself.
//! Without one everything is open, as in one process and at a socket of mode 0600.

use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::Extensions;

use crate::{Code, Directives, EdgeReport, Error, Hello, Reports, Result, Said};

/// Which edges are attached, as control sees it.
pub trait Attached: Send + Sync {
    /// The name of an attached edge.
    fn name_of(&self, instance: &str) -> Option<String>;

    /// An edge showed what is not for its name.
    fn turned_away(&self, _hello: &Hello, _error: &Error) {}
}

/// A token or a certificate that counts.
#[derive(Clone)]
pub struct Admission {
    /// Which, such as `token ci`.
    pub credential: String,
    /// Names of the edges that may use it; none: all.
    pub edges: Vec<String>,
    /// They may be such as keep their disks.
    pub durable: bool,
    /// Who those are.
    pub attached: Arc<dyn Attached>,
    /// Fires when it counts no more.
    pub over: CancellationToken,
}

/// Who wants to hear of messages of a call that can't be understood, where only whoever reads them finds that out.
pub trait Overhears: Send + Sync {
    /// There was one.
    fn not_understood(&self, why: &str);
}

/// The same, as a layer below leaves it with a call.
#[derive(Clone)]
pub struct Overhearing(pub Arc<dyn Overhears>);

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("credential", &self.credential)
            .field("edges", &self.edges)
            .finish_non_exhaustive()
    }
}

/// What let a call in, if something had to.
pub(super) struct LetIn(Option<Admission>);

impl LetIn {
    pub(super) fn by(extensions: &Extensions) -> LetIn {
        LetIn(extensions.get().cloned())
    }

    /// Whether the call may speak for an edge. One that is not attached has no name, and nothing to lose: a session may
    /// break at any time, and calls of its edge go on.
    pub(super) fn may_be(&self, instance: &str) -> Result<()> {
        let Some(admission) = self.0.as_ref().filter(|admission| !admission.edges.is_empty()) else {
            return Ok(());
        };
        match admission.attached.name_of(instance) {
            Some(name) => admission.is_for(&name),
            None => Ok(()),
        }
    }
}

impl Admission {
    fn is_for(&self, edge: &str) -> Result<()> {
        if self.edges.is_empty() || self.edges.iter().any(|name| name == edge) {
            return Ok(());
        }
        let message = format!("{} is not for an edge of the name {edge:?}", self.credential);
        Err(Error::new(Code::Unauthenticated, message))
    }

    /// Others pass uploads on to who keeps its disk: that is not for each edge to say of itself.
    fn is_for_disk_of(&self, hello: &Hello) -> Result<()> {
        if !hello.durable || self.durable {
            return Ok(());
        }
        let message = format!(
            "{} is for no edge that keeps its disk (--edge-durable): start it without, or show a token of --scope \
             edge,durable or a certificate for ncps://durable-edge/NAME",
            self.credential
        );
        Err(Error::new(Code::Unauthenticated, message))
    }

    /// What an edge reports, if it is one that the credential is for.
    pub(super) async fn of_its_edge(&self, mut reports: Reports) -> Result<Reports> {
        let first = reports.next().await;
        if let Some(Said { report: EdgeReport::Hello(hello), .. }) = &first {
            let attached = &self.attached;
            let admitted = self.is_for(&hello.name).and_then(|()| self.is_for_disk_of(hello));
            admitted.inspect_err(|error| attached.turned_away(hello, error))?;
        }
        Ok(stream::iter(first).chain(reports).boxed())
    }

    /// What an edge is told, as long as the credential counts.
    pub(super) fn while_it_counts(self, directives: Directives) -> Directives {
        let Admission { credential, over, .. } = self;
        let until = directives.take_until(over.clone().cancelled_owned());
        let last = async move { over.is_cancelled().then(|| Err(counts_no_more(&credential))) };
        until.chain(stream::once(last).filter_map(futures::future::ready)).boxed()
    }
}

fn counts_no_more(credential: &str) -> Error {
    Error::new(Code::Unauthenticated, format!("{credential} was revoked, or has expired"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Directive;

    fn admission(edges: &[&str]) -> Admission {
        let edges = edges.iter().map(ToString::to_string).collect();
        let (credential, attached, over) = ("token t".to_owned(), Arc::new(One), CancellationToken::new());
        Admission { credential, edges, durable: false, attached, over }
    }

    /// Edge `a` is attached.
    struct One;

    impl Attached for One {
        fn name_of(&self, instance: &str) -> Option<String> {
            (instance == "i").then(|| "a".to_owned())
        }
    }

    #[test]
    fn a_bound_token_speaks_for_no_other_edge() {
        let may_be = |edges: Option<&[&str]>, instance: &str| {
            LetIn(edges.map(admission)).may_be(instance).map_err(|error| error.code())
        };
        for edges in [None, Some(&[][..]), Some(&["a"]), Some(&["b", "a"])] {
            assert_eq!(may_be(edges, "i"), Ok(()), "{edges:?}");
        }
        assert_eq!(may_be(Some(&["b"]), "i"), Err(Code::Unauthenticated));
        assert_eq!(may_be(Some(&["b"]), "of nobody"), Ok(()));
    }

    fn hello(name: &str) -> Reports {
        let hello = Hello::new(name, "i");
        stream::iter([EdgeReport::Hello(hello), EdgeReport::UpstreamBack]).map(Said::from).boxed()
    }

    #[tokio::test]
    async fn a_bound_token_is_for_edges_of_its_names() {
        for edges in [&[][..], &["a"], &["b", "a"]] {
            let reports = admission(edges).of_its_edge(hello("a")).await.expect("let in");
            assert_eq!(reports.count().await, 2, "nothing is lost");
        }
        let refused = admission(&["b"]).of_its_edge(hello("a")).await.err().expect("refused");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn who_keeps_its_disk_is_not_for_it_alone_to_say() {
        for (says, may, is_let_in) in
            [(false, false, true), (false, true, true), (true, true, true), (true, false, false)]
        {
            let hello = Hello { durable: says, ..Hello::new("a", "i") };
            let reports = stream::iter([Said::from(EdgeReport::Hello(hello))]).boxed();
            let answer = Admission { durable: may, ..admission(&["a"]) }.of_its_edge(reports).await;
            let refused =
                answer.err().map(|error| (error.code(), error.to_string().contains("edge,durable")));
            let expected = if is_let_in { None } else { Some((Code::Unauthenticated, true)) };
            assert_eq!(refused, expected, "{says} {may}");
        }
    }

    #[tokio::test]
    async fn a_session_ends_with_its_token() {
        let some = || stream::iter([Ok(Directive::Invalidate(Vec::new()).into())]);
        let ended = admission(&[]).while_it_counts(some().boxed());
        assert_eq!(ended.count().await, 1, "control ended it: no word of the token");
        let admission = admission(&[]);
        let over = admission.over.clone();
        let mut told = admission.while_it_counts(some().chain(stream::pending()).boxed());
        assert!(told.next().await.expect("open").is_ok());
        over.cancel();
        let last = told.next().await.expect("why").expect_err("a break");
        assert_eq!(last.code(), Code::Unauthenticated);
        assert!(told.next().await.is_none());
    }
}
