//! The prefetch: an edge fetches paths before anybody asks for them. Control chooses the edge and passes on what it
//! says; who does not listen any more calls it off.
//!
//! Absent: looking up and fetching, which is the edge's.

use futures::StreamExt;
use ncps_proto::admin::{Caller, EventKind, MOST_PREFETCHED, PrefetchNews, PrefetchRequest, PrefetchStream};
use ncps_proto::{Code, Error, Job, JobSaid, Prefetch, Result};

use super::Control;
use crate::jobs::JobRun;
use crate::journal::Note;

impl Control {
    pub(crate) async fn begin_prefetch(
        &self,
        caller: &Caller,
        request: PrefetchRequest,
    ) -> Result<PrefetchStream> {
        let PrefetchRequest { paths, closure, edge } = request;
        let invalid = |why: String| Err(Error::new(Code::Invalid, why));
        if paths.is_empty() {
            return invalid("no paths to prefetch".to_owned());
        }
        if paths.len() > MOST_PREFETCHED {
            return invalid(format!("{} paths are more than {MOST_PREFETCHED} at once", paths.len()));
        }
        let Some((name, instance)) = self.sessions.named(edge.as_deref()).into_iter().next() else {
            return invalid(
                edge.map_or("no edge is attached".to_owned(), |e| format!("no edge {e} is attached")),
            );
        };
        let with = if closure { " with all that they refer to" } else { "" };
        let what = format!("prefetch of {} paths{with} at edge {name}", paths.len());
        let run = self.sessions.begin_job(&instance, Job::Prefetch(Prefetch { paths, closure }))?;
        // Where it can't be noted, nobody listens, and it is called off.
        self.journal.audit(caller, Note::new(EventKind::JobRun, what)).await?;
        Ok(futures::stream::unfold(Some(run), next).boxed())
    }
}

/// An error is the last that is said.
async fn next(run: Option<JobRun>) -> Option<(Result<PrefetchNews>, Option<JobRun>)> {
    let mut run = run?;
    loop {
        return match run.next().await {
            Ok(Some(JobSaid::Progress(progress))) => Some((Ok(PrefetchNews::Progress(progress)), Some(run))),
            Ok(Some(JobSaid::Prefetched(path))) => Some((Ok(PrefetchNews::Path(path)), Some(run))),
            Ok(Some(_)) => continue,
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        };
    }
}
