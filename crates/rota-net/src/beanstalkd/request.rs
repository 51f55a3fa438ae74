//! All that a client can ask, and all the ways in which its words can fail to ask anything.
//!
//! [`super::Parser`] makes these; the connection carries them out. They borrow names from the bytes they were parsed
//! from, and own only a put's body, key and parents, and the items of a batch.

use std::fmt;
use std::time::Duration;

/// One well-formed command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// `put`, `put-in`, `put-at` or `put-after`, with the whole body.
    Put(Put),
    /// `put-batch COUNT BYTES`, with all of its puts: 1 to [`super::BATCH_JOBS`]; `None` for a job that is larger than a
    /// job may be. Rota's own.
    PutBatch(Vec<Option<Put>>),
    /// `reserve`: wait as long as it takes.
    Reserve,
    /// `reserve-with-timeout SECONDS`; zero asks without waiting.
    ReserveWithTimeout {
        /// The longest wait, in seconds; at most 2³¹ − 1.
        seconds: u32,
    },
    /// `reserve-batch MOST SECONDS`; Rota's own.
    ReserveBatch {
        /// The most jobs, 1 to [`super::BATCH_JOBS`].
        most: usize,
        /// The longest wait for the first of them, in seconds; at most 2³¹ − 1.
        seconds: u32,
    },
    /// `reserve-job ID`
    ReserveJob {
        /// Which job.
        id: u64,
    },
    /// `delete ID`
    Delete {
        /// Which job.
        id: u64,
    },
    /// `delete-batch ID …`: 1 to [`super::BATCH_JOBS`] jobs, in the order given. Rota's own.
    DeleteBatch(Vec<u64>),
    /// `release ID PRIORITY DELAY`
    Release {
        /// Which job.
        id: u64,
        /// Its priority from now on.
        priority: u32,
        /// How long it stays delayed; zero makes it ready.
        delay: Duration,
    },
    /// `bury ID PRIORITY`
    Bury {
        /// Which job.
        id: u64,
        /// Its priority from now on.
        priority: u32,
    },
    /// `touch ID`
    Touch {
        /// Which job.
        id: u64,
    },
    /// `cancel ID`; Rota's own.
    Cancel {
        /// Which job.
        id: u64,
    },
    /// `cancel-key TUBE KEY`; Rota's own.
    CancelKey {
        /// The tube that the key belongs to.
        tube: &'a str,
        /// The key, as it was put.
        key: &'a [u8],
    },
    /// `use TUBE`
    Use {
        /// Where this connection's puts go from now on.
        tube: &'a str,
    },
    /// `watch TUBE`
    Watch {
        /// One more tube to reserve from.
        tube: &'a str,
    },
    /// `ignore TUBE`
    Ignore {
        /// One tube less to reserve from.
        tube: &'a str,
    },
    /// `peek ID`
    Peek {
        /// Which job.
        id: u64,
    },
    /// `peek-ready`
    PeekReady,
    /// `peek-delayed`
    PeekDelayed,
    /// `peek-buried`
    PeekBuried,
    /// `kick BOUND`
    Kick {
        /// The most jobs to kick.
        bound: u32,
    },
    /// `kick-job ID`
    KickJob {
        /// Which job.
        id: u64,
    },
    /// `stats`
    Stats,
    /// `stats-job ID`
    StatsJob {
        /// Which job.
        id: u64,
    },
    /// `stats-tube TUBE`
    StatsTube {
        /// Which tube.
        tube: &'a str,
    },
    /// `list-tubes`
    ListTubes,
    /// `list-tube-used`
    ListTubeUsed,
    /// `list-tubes-watched`
    ListTubesWatched,
    /// `pause-tube TUBE DELAY`
    PauseTube {
        /// Which tube.
        tube: &'a str,
        /// How long nothing is handed out of it; zero ends a pause.
        delay: Duration,
    },
    /// `auth TOKEN`; Rota's own.
    Auth {
        /// What says who asks.
        token: TokenText<'a>,
    },
    /// `quit`
    Quit,
}

/// A token as it was sent. It is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenText<'a>(pub &'a str);

impl fmt::Debug for TokenText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

/// A new job, its body complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// 0 is the most urgent.
    pub priority: u32,
    /// When it is due.
    pub when: When,
    /// The length of a lease on it, at least the least that the command allows.
    pub ttr: Duration,
    /// The client's own name for it.
    pub key: Option<Box<[u8]>>,
    /// The jobs that must be done before.
    pub after: Box<[u64]>,
    /// The work itself.
    pub body: Box<[u8]>,
}

/// When a put says that its job is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// After this span; zero is at once.
    In(Duration),
    /// When the wall clock shows this, in milliseconds since 1970. A moment gone by is at once.
    At {
        /// Milliseconds since the start of 1970, UTC.
        unix_ms: u64,
    },
}

/// Why a command was not carried out, known from its bytes alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A line that is too long, holds a NUL, or breaks its command's grammar.
    BadFormat,
    /// A line that begins like no command.
    UnknownCommand,
    /// A put of more bytes than a job may have. The body and its end were read and dropped.
    JobTooBig,
    /// A put whose body was not followed by CRLF. Exactly the size announced and two bytes were read.
    ExpectedCrlf,
    /// A batch of puts of more bytes than a batch may have. All of them were read and dropped.
    BatchTooBig,
    /// One thing in a batch is malformed. All of the batch was read, and nothing of it is carried out.
    InBatch {
        /// Which, counted from 1; one more than there should be if there is something behind the last.
        item: usize,
        /// What is wrong with it.
        fault: BatchFault,
    },
}

/// What makes a batch malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BatchFault {
    /// Not a put, or not an id; or not all of it is there.
    BadFormat,
    /// A put whose body is not followed by CRLF.
    ExpectedCrlf,
}
