//! What can be seen of an engine. It depends on the log as answers do.

use super::Engine;
use crate::command::{HeldBy, JobView};
use crate::event::QueueNames;
use crate::job::{JobId, JobState, QueueName, Time};
use crate::queue::{QueueId, QueueView, Times};
use crate::reason::Reason;
use crate::refused::RefusedPuts;
use crate::session::SessionId;
use crate::state::Totals;
use std::time::Duration;

impl Engine {
    /// A job that is there: open, or final and kept.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobView<'_>> {
        self.state.view_job(id, self.now)
    }

    /// Who holds a job; `None` if nobody does.
    #[must_use]
    pub fn held_by(&self, id: JobId) -> Option<HeldBy<'_>> {
        self.state.held_by(id)
    }

    /// Why a job is where it is, the reason that binds now first; `None` if it is not there, or not in memory. A job that is about
    /// to be handed out has none.
    #[must_use]
    pub fn why(&self, id: JobId) -> Option<Vec<Reason>> {
        self.state.why(id, self.now)
    }

    /// An open job.
    #[must_use]
    pub fn open_job(&self, id: JobId) -> Option<JobView<'_>> {
        self.job(id).filter(|job| !job.state.is_final())
    }

    /// The open job of that key in a queue.
    #[must_use]
    pub fn job_with_key(&self, queue: &QueueName, key: &[u8]) -> Option<JobView<'_>> {
        self.state.view_key(self.state.find_queue(queue)?, key, self.now)
    }

    /// Jobs in memory, open or kept, from a place on (0: from the first), each with the place to go on from: long lists are
    /// read in slices. A job keeps its place as long as it is there, in one run of the process; a new one may take any place.
    pub fn jobs_from(&self, place: u32) -> impl Iterator<Item = (u32, JobView<'_>)> + '_ {
        self.state.view_from(place, self.now)
    }

    /// What the wall clock shows at a moment of engine time, nanoseconds since 1970, as far as the engine was told.
    #[must_use]
    pub fn wall_time(&self, moment: Time) -> Time {
        self.state.wall_time(moment)
    }

    /// The queue of a job, open or kept; `None` if it is not known.
    #[must_use]
    pub fn queue_of(&self, job: JobId) -> Option<&QueueName> {
        self.state.queue_of(job).map(|queue| self.queue_name(queue))
    }

    /// The first job of a queue in that state: the next to be reserved, the next due, the first buried. `None` if there
    /// is none, and always for [`JobState::Reserved`].
    #[must_use]
    pub fn first_job(&self, queue: QueueId, state: JobState) -> Option<JobView<'_>> {
        self.state.view_first(queue, state, self.now)
    }

    /// The handle of the queue of that name, good until the next command.
    #[must_use]
    pub fn find_queue(&self, name: &QueueName) -> Option<QueueId> {
        self.state.find_queue(name)
    }

    /// A queue's counters.
    ///
    /// # Panics
    /// If there is no such queue any more.
    #[must_use]
    pub fn queue(&self, id: QueueId) -> QueueView {
        self.state.view_queue(id, self.now)
    }

    /// A queue's name.
    ///
    /// # Panics
    /// If there is no such queue any more.
    #[must_use]
    pub fn queue_name(&self, id: QueueId) -> &QueueName {
        self.state.queue_name(id)
    }

    /// Queues in the order of their creation, after the one of that number (0: from the first), each with its number:
    /// long lists are read in slices.
    pub fn queues_after(&self, number: u64) -> impl DoubleEndedIterator<Item = (u64, QueueId)> + '_ {
        self.state.queues_after(number)
    }

    /// How many queues there may be.
    #[must_use]
    pub fn most_queues(&self) -> usize {
        self.state.most_queues
    }

    /// How many queues there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.state.queues()
    }

    /// The queue that a session uses.
    ///
    /// # Panics
    /// If the session is not open.
    #[must_use]
    pub fn used(&self, session: SessionId) -> QueueId {
        self.state.used(session)
    }

    /// The queues that a session watches, in the order in which they came to be.
    ///
    /// # Panics
    /// If the session is not open.
    #[must_use]
    pub fn watched(&self, session: SessionId) -> &[QueueId] {
        self.state.watched(session)
    }

    /// Counts over all queues.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        self.state.totals()
    }

    /// Whether the lease that a job is held under outlives the process: it is a durable one, and there is a log that has it.
    #[must_use]
    pub fn outlives(&self, job: &JobView<'_>) -> bool {
        job.is_lease_durable && self.pending.is_some()
    }

    /// Puts that were refused since the engine was set up, of all queues, and of those that never came to be.
    #[must_use]
    pub fn refused_puts(&self) -> &RefusedPuts {
        &self.refused_puts
    }

    /// How long things took, over all queues.
    #[must_use]
    pub fn times(&self) -> &Times {
        &self.state.times
    }

    /// The same in one queue; `None` if nothing was handed out there yet.
    ///
    /// # Panics
    /// If there is no such queue any more.
    #[must_use]
    pub fn times_of(&self, id: QueueId) -> Option<&Times> {
        self.state.times_of_queue(id)
    }

    /// For how long the first ready job of a queue has been due; `None` if none is ready.
    ///
    /// # Panics
    /// If there is no such queue any more.
    #[must_use]
    pub fn head_age(&self, id: QueueId) -> Option<Duration> {
        self.first_job(id, JobState::Ready).map(|job| self.now.since(job.run_at))
    }

    /// How many sessions are open.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.state.sessions()
    }

    /// Whether that job, which is not there any more, is known to have been cancelled, or to have expired: of the last
    /// `limits::FAILED_REMEMBERED` that did.
    #[must_use]
    pub fn came_to_nothing(&self, job: JobId) -> bool {
        self.state.came_to_nothing(job, self.now)
    }

    /// How often this data was started, this time included.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.state.numbers().epoch
    }

    /// What came of the request of that key, and the fingerprint that it had, if that is kept.
    #[must_use]
    pub fn answer_of(&self, key: &[u8]) -> Option<(u64, &[u8])> {
        self.state.answer_of(key, self.now)
    }

    /// How many answers are kept.
    #[must_use]
    pub fn answers_kept(&self) -> usize {
        self.state.answers_kept()
    }
}
