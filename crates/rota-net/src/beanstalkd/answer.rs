//! All that a client is told, as bytes. The connection writes these; there is no answer that is not listed here.

use rota_engine::command::Body;

/// One answer, with what it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// The job was put, and has this id.
    Inserted(u64),
    /// An open job of the tube has that key already; this one. Rota's own.
    KeyTaken(u64),
    /// A job, and a lease on it.
    Reserved {
        /// Which job.
        id: u64,
        /// All of its body. Where it is in the log alone, a hole of zeros is left for it.
        body: Body<&'a [u8]>,
    },
    /// A job, looked at.
    Found {
        /// Which job.
        id: u64,
        /// All of its body. Where it is in the log alone, a hole of zeros is left for it.
        body: Body<&'a [u8]>,
    },
    /// A document in YAML: statistics, or a list.
    Document(&'a [u8]),
    /// The tube that puts go to.
    Using(&'a str),
    /// How many tubes are watched.
    Watching(usize),
    /// How many jobs were kicked.
    Kicked(u64),
    /// The job of that key was called off. Rota's own.
    CancelledKey(u64),
    /// What became of each job of a batch of puts, in order. Rota's own.
    BatchInserted(&'a [Batched]),
    /// So many jobs of a batch follow, each as [`Answer::Reserved`]. Rota's own.
    BatchReserved(usize),
    /// What became of a batch of deletes. Rota's own.
    BatchDeleted {
        /// How many jobs were deleted.
        deleted: usize,
        /// The others, in the order in which they were named.
        not_found: &'a [u64],
    },
    /// Why a batch was refused, and at which of its items, counted from 1. Rota's own.
    InBatch(Word, usize),
    /// An answer that is one word.
    Word(Word),
}

/// What became of one job of a batch of puts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batched {
    /// It was put, and has this id.
    Inserted(u64),
    /// An open job of the tube has that key already; this one.
    KeyTaken(u64),
    /// It was not put, for this reason.
    Refused(Word),
}

/// The answers that are one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// To `delete`.
    Deleted,
    /// To `release`.
    Released,
    /// To `bury`.
    Buried,
    /// To `touch`.
    Touched,
    /// To `kick-job`.
    Kicked,
    /// To `pause-tube`.
    Paused,
    /// To `cancel`. Rota's own.
    Cancelled,
    /// No such job or tube, or not in a state or hands that allow it.
    NotFound,
    /// The only tube watched can't be ignored.
    NotIgnored,
    /// No job came in the time given.
    TimedOut,
    /// A lease of this connection ends within a second.
    DeadlineSoon,
    /// The line breaks the grammar.
    BadFormat,
    /// The line begins like no command.
    UnknownCommand,
    /// The body is larger than a job may be.
    JobTooBig,
    /// The body was not followed by CRLF.
    ExpectedCrlf,
    /// The batch has more bytes than a batch may have. Rota's own.
    BatchTooBig,
    /// The server takes no new jobs for now.
    Draining,
    /// There is no room for the job.
    OutOfMemory,
    /// To `auth`. Rota's own.
    Authenticated,
    /// To `auth`: the token is not known, or not valid any more. Rota's own.
    BadToken,
    /// The server asks for a token, and got none yet. Rota's own.
    Unauthenticated,
    /// The token is not for that. Rota's own.
    NotAllowed,
}

impl Word {
    /// All of them.
    pub const ALL: [Word; 22] = [
        Word::Deleted,
        Word::Released,
        Word::Buried,
        Word::Touched,
        Word::Kicked,
        Word::Paused,
        Word::Cancelled,
        Word::NotFound,
        Word::NotIgnored,
        Word::TimedOut,
        Word::DeadlineSoon,
        Word::BadFormat,
        Word::UnknownCommand,
        Word::JobTooBig,
        Word::ExpectedCrlf,
        Word::BatchTooBig,
        Word::Draining,
        Word::OutOfMemory,
        Word::Authenticated,
        Word::BadToken,
        Word::Unauthenticated,
        Word::NotAllowed,
    ];

    /// The word as it is sent, without its CRLF.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Word::Deleted => "DELETED",
            Word::Released => "RELEASED",
            Word::Buried => "BURIED",
            Word::Touched => "TOUCHED",
            Word::Kicked => "KICKED",
            Word::Paused => "PAUSED",
            Word::Cancelled => "CANCELLED",
            Word::NotFound => "NOT_FOUND",
            Word::NotIgnored => "NOT_IGNORED",
            Word::TimedOut => "TIMED_OUT",
            Word::DeadlineSoon => "DEADLINE_SOON",
            Word::BadFormat => "BAD_FORMAT",
            Word::UnknownCommand => "UNKNOWN_COMMAND",
            Word::JobTooBig => "JOB_TOO_BIG",
            Word::ExpectedCrlf => "EXPECTED_CRLF",
            Word::BatchTooBig => "BATCH_TOO_BIG",
            Word::Draining => "DRAINING",
            Word::OutOfMemory => "OUT_OF_MEMORY",
            Word::Authenticated => "AUTHENTICATED",
            Word::BadToken => "BAD_TOKEN",
            Word::Unauthenticated => "UNAUTHENTICATED",
            Word::NotAllowed => "NOT_ALLOWED",
        }
    }
}

impl Answer<'_> {
    /// Appends the answer to what is to be sent.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match *self {
            Answer::Inserted(id) => number_line(out, "INSERTED", id),
            Answer::KeyTaken(id) => number_line(out, "KEY_TAKEN", id),
            Answer::Reserved { id, body } => job(out, "RESERVED", id, body),
            Answer::Found { id, body } => job(out, "FOUND", id, body),
            Answer::Document(text) => {
                number_line(out, "OK", text.len() as u64);
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Answer::Using(tube) => text_line(out, "USING ", tube),
            Answer::Watching(tubes) => number_line(out, "WATCHING", tubes as u64),
            Answer::Kicked(jobs) => number_line(out, "KICKED", jobs),
            Answer::CancelledKey(id) => number_line(out, "CANCELLED", id),
            Answer::BatchInserted(batch) => batch_inserted(out, batch),
            Answer::BatchReserved(jobs) => number_line(out, "BATCH_RESERVED", jobs as u64),
            Answer::BatchDeleted { deleted, not_found } => {
                out.extend_from_slice(b"BATCH_DELETED");
                number(out, deleted as u64);
                if !not_found.is_empty() {
                    out.extend_from_slice(b" NOT_FOUND");
                    not_found.iter().for_each(|&id| number(out, id));
                }
                out.extend_from_slice(b"\r\n");
            }
            Answer::InBatch(word, item) => number_line(out, word.text(), item as u64),
            Answer::Word(word) => text_line(out, word.text(), ""),
        }
    }
}

/// `RESERVED`, two numbers of 20 digits, and what stands between and after.
const LONGEST_JOB_HEAD: usize = 56;

fn job(out: &mut Vec<u8>, word: &str, id: u64, body: Body<&[u8]>) {
    out.reserve(LONGEST_JOB_HEAD + body.length());
    out.extend_from_slice(word.as_bytes());
    number(out, id);
    number(out, body.length() as u64);
    out.extend_from_slice(b"\r\n");
    match body {
        Body::InMemory(body) => out.extend_from_slice(body),
        Body::InLog(place) => out.resize(out.len() + place.body_bytes as usize, 0),
    }
    out.extend_from_slice(b"\r\n");
}

fn batch_inserted(out: &mut Vec<u8>, batch: &[Batched]) {
    out.extend_from_slice(b"BATCH_INSERTED");
    number(out, batch.iter().filter(|job| matches!(job, Batched::Inserted(_))).count() as u64);
    for job in batch {
        out.push(b' ');
        let id = match *job {
            Batched::Inserted(id) => id,
            Batched::KeyTaken(id) => {
                out.extend_from_slice(b"KEY_TAKEN:");
                id
            }
            Batched::Refused(word) => {
                out.extend_from_slice(word.text().as_bytes());
                continue;
            }
        };
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn number_line(out: &mut Vec<u8>, word: &str, value: u64) {
    out.extend_from_slice(word.as_bytes());
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

fn text_line(out: &mut Vec<u8>, word: &str, rest: &str) {
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
