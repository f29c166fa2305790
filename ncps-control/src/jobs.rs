//! Jobs that edges do, as control sees them: given to one session, heard until they end or the session does.
//!
//! Absent on purpose: what a job is for (see [`crate::integrity`]), and the doing, which is the edge's.

use std::collections::HashMap;

use ncps_proto::{Code, Error, Job, JobKind, JobReport, JobSaid, Result};
use tokio::sync::mpsc;

/// What may wait of one job. The edge's session waits when more does.
const WAITING: usize = 64;

/// The jobs of one session.
#[derive(Debug, Default)]
pub(crate) struct SessionJobs {
    last: u64,
    running: HashMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    kind: JobKind,
    said: mpsc::Sender<JobSaid>,
}

/// A job that was begun: what is heard of it. Dropped, it is called off.
#[derive(Debug)]
pub(crate) struct JobRun {
    pub(crate) id: u64,
    said: mpsc::Receiver<JobSaid>,
    ended: bool,
}

impl SessionJobs {
    /// Notes a job that is about to be said to the edge.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where one of its kind runs.
    pub(crate) fn begin(&mut self, job: &Job) -> Result<JobRun> {
        if self.running.values().any(|running| running.kind == job.kind()) {
            return Err(Error::new(Code::Overloaded, "a job of this kind runs on this edge already"));
        }
        self.last += 1;
        let (tx, said) = mpsc::channel(WAITING);
        self.running.insert(self.last, Running { kind: job.kind(), said: tx });
        Ok(JobRun { id: self.last, said, ended: false })
    }

    /// Forgets the jobs to which nobody listens any more. Their edge is to be told.
    pub(crate) fn called_off(&mut self) -> Vec<u64> {
        let over: Vec<u64> =
            self.running.iter().filter(|(_, running)| running.said.is_closed()).map(|(id, _)| *id).collect();
        over.iter().for_each(|id| drop(self.running.remove(id)));
        over
    }

    /// Who hears what an edge says of a job; `None` where nobody does any more.
    pub(crate) fn listener(&mut self, report: &JobReport) -> Option<mpsc::Sender<JobSaid>> {
        match report.said {
            JobSaid::Ended(_) => self.running.remove(&report.id).map(|running| running.said),
            _ => self.running.get(&report.id).map(|running| running.said.clone()),
        }
    }
}

impl JobRun {
    /// The next that is said; `None` when it has ended as it should.
    ///
    /// # Errors
    /// Where it failed, or its edge is gone.
    pub(crate) async fn next(&mut self) -> Result<Option<JobSaid>> {
        if self.ended {
            return Ok(None);
        }
        match self.said.recv().await {
            Some(JobSaid::Ended(end)) => {
                self.ended = true;
                end.map(|()| None).map_err(|why| Error::new(Code::Internal, why))
            }
            Some(said) => Ok(Some(said)),
            None => {
                self.ended = true;
                Err(Error::new(Code::Unavailable, "the edge's session ended before the job did"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: u64, said: JobSaid) -> JobReport {
        JobReport { id, said }
    }

    #[tokio::test]
    async fn one_of_a_kind_runs_at_a_time() {
        let mut jobs = SessionJobs::default();
        let mut first = jobs.begin(&Job::ListNarinfos).expect("begun");
        assert_eq!(jobs.begin(&Job::ListNarinfos).expect_err("one runs").code(), Code::Overloaded);
        jobs.begin(&Job::Verify(Vec::new())).expect("of another kind");
        let end = said(first.id, JobSaid::Ended(Ok(())));
        jobs.listener(&end).expect("it runs").send(end.said).await.expect("heard");
        assert!(matches!(first.next().await, Ok(None)) && matches!(first.next().await, Ok(None)));
        jobs.begin(&Job::ListNarinfos).expect("the first has ended");
    }

    #[tokio::test]
    async fn the_end_of_the_session_is_a_failure_with_a_name() {
        let mut jobs = SessionJobs::default();
        let mut run = jobs.begin(&Job::ListNarinfos).expect("begun");
        drop(jobs);
        let error = run.next().await.expect_err("the session is over");
        assert!(error.code() == Code::Unavailable && error.to_string().contains("session ended"), "{error}");
    }

    #[tokio::test]
    async fn who_does_not_listen_is_in_nobodys_way() {
        let mut jobs = SessionJobs::default();
        let first = jobs.begin(&Job::ListNarinfos).expect("begun").id;
        assert_eq!(jobs.called_off(), [first]);
        jobs.begin(&Job::ListNarinfos).expect("the first was called off");
    }
}
