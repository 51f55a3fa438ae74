//! Why a lease ended, as far as it shows in what is left of its job: the engine itself remembers no lease that ended.

use rota_engine::command::JobView;
use rota_engine::engine::Engine;
use rota_engine::job::{JobId, JobState, LeaseToken};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseEnd {
    /// The job was completed.
    Completed,
    /// The job was called off.
    Cancelled,
    /// The job expired, some time after the lease had ended.
    Expired,
    /// The job is over, and who asks may not know more.
    Over,
    /// The lease's time was over.
    Lost,
    /// The job was given back or failed, and waits again.
    Released,
    /// The job was set aside: it is buried.
    Buried,
    /// Another lease holds the job by now.
    Replaced,
    /// The server was started since, which ends all leases without fault but for durable ones.
    Restart,
}

impl LeaseEnd {
    /// Of a lease that just ended, whose time was not over.
    pub(super) fn just_now(engine: &Engine, job: JobId) -> LeaseEnd {
        match engine.job(job) {
            None => LeaseEnd::gone(engine, job),
            Some(view) => LeaseEnd::of_state(view.state).unwrap_or(LeaseEnd::Released),
        }
    }

    /// Of a lease that ended whenever, of a job that whoever asks may see.
    #[must_use]
    pub fn looked_up(engine: &Engine, job: JobId, token: Option<LeaseToken>, view: Option<&JobView<'_>>) -> LeaseEnd {
        let is_of_before = token.is_some_and(|token| token.epoch < engine.epoch());
        // Where leases are durable now, this one will have been.
        let was_void = |view: &JobView<'_>| is_of_before && !engine.queue(view.queue_id).settings.durable_leases;
        match view {
            Some(view) if matches!(view.state, JobState::Done | JobState::Cancelled | JobState::Expired) => {
                LeaseEnd::of_state(view.state).unwrap_or(LeaseEnd::Over)
            }
            None => LeaseEnd::gone(engine, job),
            Some(view) if was_void(view) => LeaseEnd::Restart,
            Some(view) if view.lease.is_some() => LeaseEnd::Replaced,
            // Of several leases of the job, it may have been another one that was lost.
            Some(view) => LeaseEnd::of_state(view.state).unwrap_or(match view.tally.lost_leases {
                0 => LeaseEnd::Released,
                _ => LeaseEnd::Lost,
            }),
        }
    }

    /// Of a job that is not there any more. The engine knows of the last that came to nothing.
    fn gone(engine: &Engine, job: JobId) -> LeaseEnd {
        if engine.came_to_nothing(job) { LeaseEnd::Cancelled } else { LeaseEnd::Completed }
    }

    /// What the state alone says.
    fn of_state(state: JobState) -> Option<LeaseEnd> {
        match state {
            JobState::Done => Some(LeaseEnd::Completed),
            JobState::Cancelled => Some(LeaseEnd::Cancelled),
            JobState::Expired => Some(LeaseEnd::Expired),
            JobState::Buried => Some(LeaseEnd::Buried),
            JobState::Delayed | JobState::Ready | JobState::Reserved | JobState::Blocked => None,
        }
    }
}
