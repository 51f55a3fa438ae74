//! Every bound of the engine, with its unit. A peer can make nothing grow past one of these.

use std::time::Duration;

/// Longest queue name, in bytes.
pub const QUEUE_NAME_BYTES: usize = 200;

/// Longest key of a job, in bytes.
pub const KEY_BYTES: usize = 200;

/// The longest name that something is asked for in, in bytes.
pub const ACTOR_BYTES: usize = 100;

/// Longest kind of a job, in bytes.
pub const KIND_BYTES: usize = 100;

/// Longest limit key of a job, in bytes.
pub const LIMIT_KEY_BYTES: usize = 255;

/// Limit keys of a queue without a job that are remembered until their buckets are full, so many. Past that, that of the one
/// which is full first is taken for full.
pub const LIMIT_KEYS_REMEMBERED: usize = 1 << 16;

/// The headers of a job, in bytes, names and values together, with five bytes for each.
pub const HEADERS_BYTES: usize = 4096;

/// The most jobs that one can wait for.
pub const PARENTS: usize = 256;

/// What a holder can say of an attempt that failed, in bytes.
pub const ERROR_BYTES: usize = 4096;

/// What a holder can say of work that is done, in bytes.
pub const RESULT_BYTES: usize = 65_536;

/// What a holder can say of work under way, in bytes.
pub const PROGRESS_BYTES: usize = 4096;

/// Jobs that were cancelled or expired last, and are known to have been, though they are not kept: so many at the most.
pub const FAILED_REMEMBERED: usize = 1 << 16;

/// The same, for so long.
pub const FAILED_REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Parents that puts name whose state is looked up under one lock, about.
pub const PARENTS_AT_ONCE: usize = 4096;

/// Largest job body in bytes, unless configured.
pub const DEFAULT_MAX_JOB_BYTES: usize = 65_535;

/// The most that [`DEFAULT_MAX_JOB_BYTES`] can be raised to, in bytes: a record's length must fit the log's.
pub const MAX_JOB_BYTES_CEILING: usize = 1 << 30;

/// The most objects that one step handles; what is larger is done in slices.
pub const STEP_OBJECTS: usize = 1_000;

/// The most jobs in one spoke of the wheel; a fuller one is split.
pub const SPOKE_JOBS: usize = 512;

/// How much time a spoke covers, unless configured.
pub const DEFAULT_SPOKE: Duration = Duration::from_secs(10);

/// A key that a request names itself by, in bytes.
pub const ANSWER_KEY_BYTES: usize = 255;

/// What a request is answered, as it is kept, in bytes.
pub const ANSWER_BYTES: usize = 16 << 10;

/// How long it is kept.
pub const ANSWER_KEPT: Duration = Duration::from_secs(24 * 3600);

/// All that is kept of answers, in bytes; past that those go that would be kept least long.
pub const ANSWERS_BYTES: usize = 256 << 20;

/// The most queues that one session watches.
pub const WATCHED_QUEUES: usize = 65_536;

/// How many job ids, and how many event numbers, are reserved in the log at a time.
pub const NUMBER_BLOCK: u64 = 1 << 18;

/// A holder that asks for a job this shortly before one of its leases ends is told so instead (beanstalkd's safety
/// margin).
pub const LEASE_SAFETY_MARGIN: Duration = Duration::from_secs(1);

/// Lost leases after which a job is buried, where the put does not say. Puts over the beanstalkd protocol say none.
pub const DEFAULT_MAX_LOST_LEASES: u16 = 10;

/// Failed attempts after which a job is buried, likewise.
pub const DEFAULT_MAX_ATTEMPTS: u16 = 25;

/// Bytes decided but not yet written to the log, past which front ends stop reading. Well below a segment: what is
/// written at once has to fit into one.
pub const UNWRITTEN_BYTES: usize = 32 << 20;

/// How far ahead delayed jobs are held in memory, where not all are. Jobs twice as far ahead may leave it.
pub const NEAR: Duration = Duration::from_secs(60);

/// The most jobs that are read together, a moment before the commands that name them.
pub const TOUCHED_TOGETHER: usize = 32;

/// The most commands of one read whose jobs are looked up together, where they are not in memory.
pub const LOOKED_UP_TOGETHER: usize = 256;

/// How many files of segments of jobs far ahead are held open at a time, where the embedder does not say: two for each segment.
pub const FAR_FILES: usize = 512;

/// How often a queue's first delayed jobs are looked up again for one command, where jobs leave memory meanwhile.
pub const LOOK_UPS: u32 = 8;

/// Bytes of records that a compaction or a snapshot adds in one step, about.
pub const KEPT_SLICE_BYTES: usize = 128 << 10;

/// Room in the log that is kept for the end of each open job, in bytes: one record in a group of its own.
pub const FINAL_RECORD_BYTES: u64 = 120;

/// What a record costs in the log beyond its own length, at most, in bytes: a group of its own.
pub const RECORD_OVERHEAD_BYTES: u64 = 56;

/// Bytes of a snapshot that are taken down and not yet handed over, past which it is given up: its target is slower than
/// the changes.
pub const SNAPSHOT_BACKLOG_BYTES: usize = 256 << 20;

/// News that were taken down and not fetched, past which they are given up: so many, and so many bytes.
pub const NEWS_HELD: usize = 1 << 16;

/// The same, in bytes.
pub const NEWS_HELD_BYTES: usize = 32 << 20;

/// The newest news that are there to be listened to, so many; older ones are given up.
pub const NEWS_KEPT: usize = 1 << 16;

/// The same, in bytes of their text.
pub const NEWS_KEPT_BYTES: usize = 32 << 20;

/// The most jobs whose queue a reader of the journal keeps in mind, of the puts that it passed.
pub const JOURNAL_JOBS: usize = 1 << 16;

/// About how much a reader of the journal reads in one step, in bytes.
pub const JOURNAL_STEP_BYTES: u64 = 1 << 20;

/// The most who read the journal at a time, to hear what is past; others wait their turn.
pub const JOURNAL_READERS: usize = 32;

/// The most webhooks that read it at a time, beside those: each lets another one go on while its address is called, if one waits.
pub const WEBHOOK_READERS: usize = 8;

/// The most who listen at a time.
pub const LISTENERS: usize = 16_384;

/// The most jobs that one stream has handed out and that are not finished.
pub const LEASES_IN_FLIGHT: usize = 1_000;

/// The fewest leases of a stream that may run out in a row until its client is taken for gone; where it may hold more, as many
/// as those.
pub const LEASES_UNHEARD: usize = 3;

/// The most jobs whose traces are followed while they wait; as many again while they are held.
pub const TRACED_JOBS: usize = 1 << 16;

/// The most names that who listens may choose by: kinds, queues, jobs, each.
pub const LISTENER_NAMES: usize = 64;

/// What jobs say, errors and keys and the like, that is looked through under one lock for a filter, in bytes, about.
pub const SLICE_TEXT_BYTES: usize = 256 << 10;

/// The most that is read in one step of the lines in which jobs stand, in places: see [`crate::engine::Engine::places_in`].
pub const LINES_READ: usize = 1 << 16;

/// The longest filter of jobs, in bytes.
pub const FILTER_BYTES: usize = 2_048;

/// The most terms of a filter.
pub const FILTER_TERMS: usize = 32;

/// The most queues, unless configured. Beside them there may be one more for each session, which uses it and put nothing into
/// it.
pub const QUEUES: usize = 1 << 18;

/// The most schedules.
pub const SCHEDULES: usize = 10_000;

/// All that schedules are to put and when, together, in bytes.
pub const SCHEDULE_BYTES: usize = 64 << 20;

/// Largest body that a schedule puts, in bytes.
pub const TEMPLATE_BODY_BYTES: usize = 1 << 20;

/// Longest cron expression, in bytes.
pub const CRON_BYTES: usize = 500;

/// Longest name of a time zone, in bytes.
pub const ZONE_BYTES: usize = 100;

/// The shortest span between two ticks of a schedule.
pub const SHORTEST_EVERY: Duration = Duration::from_secs(1);

/// The most ticks that fire late, where a schedule has all fire that were missed: the newest. So many are counted, too.
pub const MISSED_TICKS: usize = 1_000;

/// How late a tick may have its turn and count as on time, where a schedule leaves out those that were missed.
pub const TICK_GRACE: Duration = Duration::from_secs(10);

/// How long a tick waits until it is tried again, where the log has no room for what comes of it.
pub const ROOM_AGAIN: Duration = Duration::from_secs(1);

/// The same, where it has to be looked up who has its key, and nobody did so meanwhile.
pub const KEY_AGAIN: Duration = Duration::from_secs(1);

/// The same, where so much is to be written that front ends stop reading.
pub const WRITTEN_AGAIN: Duration = Duration::from_millis(20);

/// A segment of the log is closed, and the next one begun, once it is this long, in bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The most webhooks.
pub const WEBHOOKS: usize = 100;

/// The longest address of a webhook, in bytes.
pub const WEBHOOK_URL_BYTES: usize = 2_000;

/// The most events that a webhook is called with at once.
pub const WEBHOOK_BATCH_EVENTS: usize = 100;

/// The same, in bytes of their text; one event may be longer.
pub const WEBHOOK_BATCH_BYTES: usize = 64 << 10;
