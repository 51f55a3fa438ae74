//! What the front end counts since the server's start: commands by verb, connections by kind.
//!
//! [`super::Session`] counts, `stats` and the metrics read. What happens to jobs is counted by the engine, not here.

use super::request::Request;

/// The verbs that `stats` counts, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// `put`, `put-in`, `put-at`, `put-after`, and each put of a `put-batch`
    Put,
    /// `peek`
    Peek,
    /// `peek-ready`
    PeekReady,
    /// `peek-delayed`
    PeekDelayed,
    /// `peek-buried`
    PeekBuried,
    /// `reserve`
    Reserve,
    /// `reserve-with-timeout`, `reserve-batch`
    ReserveWithTimeout,
    /// `delete`, `cancel`, `cancel-key`, and each id of a `delete-batch`
    Delete,
    /// `release`
    Release,
    /// `use`
    Use,
    /// `watch`
    Watch,
    /// `ignore`
    Ignore,
    /// `bury`
    Bury,
    /// `kick`
    Kick,
    /// `touch`
    Touch,
    /// `stats`
    Stats,
    /// `stats-job`
    StatsJob,
    /// `stats-tube`
    StatsTube,
    /// `list-tubes`
    ListTubes,
    /// `list-tube-used`
    ListTubeUsed,
    /// `list-tubes-watched`
    ListTubesWatched,
    /// `pause-tube`
    PauseTube,
}

impl Verb {
    /// All of them, in the order of `stats`; the index of each is `as usize`.
    pub const ALL: [Verb; 22] = [
        Verb::Put,
        Verb::Peek,
        Verb::PeekReady,
        Verb::PeekDelayed,
        Verb::PeekBuried,
        Verb::Reserve,
        Verb::ReserveWithTimeout,
        Verb::Delete,
        Verb::Release,
        Verb::Use,
        Verb::Watch,
        Verb::Ignore,
        Verb::Bury,
        Verb::Kick,
        Verb::Touch,
        Verb::Stats,
        Verb::StatsJob,
        Verb::StatsTube,
        Verb::ListTubes,
        Verb::ListTubeUsed,
        Verb::ListTubesWatched,
        Verb::PauseTube,
    ];

    /// The word that the command begins with.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Peek => "peek",
            Verb::PeekReady => "peek-ready",
            Verb::PeekDelayed => "peek-delayed",
            Verb::PeekBuried => "peek-buried",
            Verb::Reserve => "reserve",
            Verb::ReserveWithTimeout => "reserve-with-timeout",
            Verb::Delete => "delete",
            Verb::Release => "release",
            Verb::Use => "use",
            Verb::Watch => "watch",
            Verb::Ignore => "ignore",
            Verb::Bury => "bury",
            Verb::Kick => "kick",
            Verb::Touch => "touch",
            Verb::Stats => "stats",
            Verb::StatsJob => "stats-job",
            Verb::StatsTube => "stats-tube",
            Verb::ListTubes => "list-tubes",
            Verb::ListTubeUsed => "list-tube-used",
            Verb::ListTubesWatched => "list-tubes-watched",
            Verb::PauseTube => "pause-tube",
        }
    }

    /// The verb that a request counts as, and how often; `None` for those that beanstalkd does not count.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Option<(Verb, usize)> {
        let verb = match request {
            Request::PutBatch(puts) => return Some((Verb::Put, puts.len())),
            Request::DeleteBatch(ids) => return Some((Verb::Delete, ids.len())),
            Request::Put(_) => Verb::Put,
            Request::Peek { .. } => Verb::Peek,
            Request::PeekReady => Verb::PeekReady,
            Request::PeekDelayed => Verb::PeekDelayed,
            Request::PeekBuried => Verb::PeekBuried,
            Request::Reserve => Verb::Reserve,
            Request::ReserveWithTimeout { .. } | Request::ReserveBatch { .. } => Verb::ReserveWithTimeout,
            Request::Delete { .. } | Request::Cancel { .. } | Request::CancelKey { .. } => Verb::Delete,
            Request::Release { .. } => Verb::Release,
            Request::Use { .. } => Verb::Use,
            Request::Watch { .. } => Verb::Watch,
            Request::Ignore { .. } => Verb::Ignore,
            Request::Bury { .. } => Verb::Bury,
            Request::Kick { .. } => Verb::Kick,
            Request::Touch { .. } => Verb::Touch,
            Request::Stats => Verb::Stats,
            Request::StatsJob { .. } => Verb::StatsJob,
            Request::StatsTube { .. } => Verb::StatsTube,
            Request::ListTubes => Verb::ListTubes,
            Request::ListTubeUsed => Verb::ListTubeUsed,
            Request::ListTubesWatched => Verb::ListTubesWatched,
            Request::PauseTube { .. } => Verb::PauseTube,
            Request::ReserveJob { .. } | Request::KickJob { .. } | Request::Auth { .. } | Request::Quit => return None,
        };
        Some((verb, 1))
    }
}

/// The counts of one server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    commands: [u64; Verb::ALL.len()],
    /// Connections so far.
    pub total_connections: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Connections that were closed at once, because their address had as many as it may.
    pub refused_connections: u64,
    /// Of these, those that put a job.
    pub producers: u64,
    /// Of these, those that reserved a job, or asked to.
    pub workers: u64,
}

impl Counters {
    /// How many well-formed commands of that verb came in, whatever they were answered.
    #[must_use]
    pub fn commands(&self, verb: Verb) -> u64 {
        self.commands[verb as usize]
    }

    /// So many more commands of that verb came in.
    pub(super) fn count(&mut self, verb: Verb, times: usize) {
        self.commands[verb as usize] += times as u64;
    }
}
