//! Work in the background, as who asked for it hears of it: how far it is whenever that changes, then its result.

use futures::{StreamExt, stream};
use ncps_proto::admin::Steps;
use ncps_proto::{Code, Error, JobProgress, Result};
use tokio::sync::{oneshot, watch};

/// `progress` ends with the work, and `report` fails where control stops.
pub(super) fn steps<R, S>(
    progress: watch::Receiver<JobProgress>,
    report: oneshot::Receiver<R>,
    so_far: fn(JobProgress) -> S,
    over: fn(R) -> Result<S>,
) -> Steps<S>
where
    R: Send + 'static,
    S: Send + 'static,
{
    let steps = stream::unfold(Some((progress, report)), move |running| async move {
        let (mut progress, mut report) = running?;
        tokio::select! {
            biased;
            Ok(()) = progress.changed() => {
                let step = so_far(*progress.borrow_and_update());
                Some((Ok(step), Some((progress, report))))
            }
            ended = &mut report => {
                let stopping = |_| Error::new(Code::Unavailable, "control is stopping");
                Some((ended.map_err(stopping).and_then(over), None))
            }
        }
    });
    steps.boxed()
}
