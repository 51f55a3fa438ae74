//! What the listeners bound, with its unit: connections, how long their peers may take, how much is read and sent at a time, and how
//! much one request asks for.
//!
//! What peers may take where tests have less is in the `Patience` of each front end; the bounds of the beanstalkd grammar are in
//! [`crate::beanstalkd`], and those of what there may be at all in [`rota_engine::limits`].

use std::time::Duration;

// Connections, of both front ends.

/// How long accepting rests when there is no room for one more connection.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long a peer may take to shake hands, where the port speaks TLS.
pub(crate) const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// The most handshakes of a port at a time; past that connections wait to be accepted.
pub(crate) const HANDSHAKES: usize = 512;

/// How many wrong tokens a connection of the beanstalkd protocol may show.
pub(crate) const WRONG_TOKENS: u32 = 3;

/// How long a stop waits for connections to end, and for requests to be answered.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever puts waits at the most, after each read or request, where more is written than can be reclaimed.
pub(crate) const MOST_SLOWED: Duration = Duration::from_millis(100);

/// How often it is looked meanwhile whether that is over.
pub(crate) const SLOWED_STEP: Duration = Duration::from_millis(2);

// What is read and sent at a time.

/// What is read of a connection of the beanstalkd protocol at a time, in bytes.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// The longest head of a request over HTTP, and what is buffered of an answer, in bytes.
pub(crate) const HTTP_BUFFER_BYTES: usize = 64 << 10;

/// The longest head that is read along, in bytes: longer than one that is served.
pub(crate) const FRAMED_HEAD_BYTES: usize = 256 << 10;

/// The most headers of a request.
pub(crate) const HEADERS: usize = 64;

/// A body longer than this, in bytes, is read by a thread of its own, so that nobody waits for it.
pub(crate) const LARGE_BODY_BYTES: usize = 256 << 10;

// The bodies of requests and their answers, all together.

/// What a request may have beside the bodies of its jobs, in bytes.
pub(crate) const ENVELOPE_BYTES: usize = 64 << 10;

/// What a request may have at least, in bytes: many small jobs.
pub(crate) const LEAST_REQUEST_BYTES: usize = 4 << 20;

/// How many of the longest requests fit into the room that the bodies of all of them have.
pub(crate) const LONGEST_REQUESTS: usize = 16;

/// All answers on their way have that much room, in bytes, where no job can be longer than some MiB.
pub(crate) const ANSWERS_BYTES: usize = 256 << 20;

/// So many of the longest have room in any case.
pub(crate) const LONGEST_ANSWERS: usize = 4;

/// An answer that takes no room, in bytes.
pub(crate) const SHORT_ANSWER_BYTES: usize = 4 << 10;

// What one request asks for.

/// The most jobs that one request puts.
pub(crate) const PUT_JOBS: usize = 1_000;

/// Jobs that an earlier request put, and that are answered again, are shown up to about so many bytes, together: what came of them
/// may be long.
pub(crate) const REPLAYED_BYTES: usize = 1 << 20;

/// The most queues that one request reserves from.
pub(crate) const RESERVE_QUEUES: usize = 100;

/// The most jobs that one request reserves, or that are in one part of a stream.
pub(crate) const RESERVE_JOBS: u16 = 100;

/// Bytes of bodies past which one request reserves no more.
pub(crate) const RESERVE_BODY_BYTES: usize = 4 << 20;

/// The longest that a request waits for a job.
pub(crate) const RESERVE_WAIT: Duration = Duration::from_secs(600);

/// The most entries of a page of a list.
pub(crate) const PAGE_ENTRIES: usize = 1_000;

/// How many there are unless asked.
pub(crate) const PAGE_ENTRIES_UNASKED: usize = 100;

/// A page has no further job once it is about this long, in bytes.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// The most slices that one page of a list looks through.
pub(crate) const PAGE_SLICES: usize = 20;

/// The same, of one request that does something to many jobs.
pub(crate) const MANY_SLICES: usize = 1_000;

// Answers that go on: events, and jobs as they come.

/// How long nothing may be said.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// About how much is said in one part, in bytes; of jobs that come, of their bodies.
pub(crate) const PART_BYTES: usize = 32 << 10;

/// How long a job that comes waits for what was told before to be with the kernel; then it is for somebody else.
pub(crate) const SENDING_PATIENCE: Duration = Duration::from_millis(100);

/// How long who has no room to tell of a job leaves all jobs to others.
pub(crate) const ROOM_PATIENCE: Duration = Duration::from_millis(500);

/// The longest message of a WebSocket that is read, in bytes: nothing but pongs and farewells is expected.
pub(crate) const MESSAGE_BYTES: usize = 4 << 10;

/// How long nothing may come over a WebSocket: two pings may be lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(3 * HEARTBEAT.as_secs());

/// How long a peer may take to say goodbye there.
pub(crate) const GOODBYE_PATIENCE: Duration = Duration::from_secs(1);
