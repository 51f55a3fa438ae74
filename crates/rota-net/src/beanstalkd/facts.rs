//! What a server tells of itself in `stats`, beside its counts. The binary fills it in; nothing here asks the machine.

use rota_engine::job::Time;
use std::time::Duration;

/// One server: what it is, where it runs, how it is set up.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The largest body of a job, in bytes.
    pub max_job_bytes: u32,
    /// Whether puts are refused.
    pub draining: bool,
    /// Rota's own version.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// A random number of this start.
    pub instance: u64,
    /// When it started, in engine time.
    pub started_at: Time,
    /// What `uname` calls nodename.
    pub hostname: String,
    /// What `uname` calls version.
    pub os: String,
    /// What `uname` calls machine.
    pub platform: String,
    /// Asks how much processor time the process used so far.
    pub processor_time: fn() -> ProcessorTime,
    /// Where the log stands; all zero without one.
    pub log: LogFacts,
}

/// Processor time of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessorTime {
    /// Spent in the program.
    pub user: Duration,
    /// Spent in the kernel for it.
    pub system: Duration,
}

/// What `stats` says of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogFacts {
    /// The oldest segment that is needed.
    pub oldest_segment: u64,
    /// The segment that is written to.
    pub current_segment: u64,
    /// Records written again by compaction since the start.
    pub records_migrated: u64,
    /// Records written since the start.
    pub records_written: u64,
    /// The size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Length of the segments that a start would read, in bytes.
    pub bytes: u64,
    /// Length of those that are kept as history, in bytes.
    pub history_bytes: u64,
    /// Segments that were reclaimed since the start.
    pub compactions: u64,
    /// Whether the disk had no room to set aside, the last time it was asked.
    pub is_disk_full: bool,
}
