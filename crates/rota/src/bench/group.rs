//! How jobs go into commands: one each, which every server understands, or many in one of Rota's batches.
//!
//! Tasks write commands and read answers through this; that a batch has as many jobs as it should is checked here.

use super::frames::{self, Found};

/// How many jobs a command has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// One.
    One,
    /// So many, in a command for batches.
    Batch(usize),
}

impl Group {
    /// The most jobs of a command.
    pub(super) fn most(self) -> usize {
        match self {
            Group::One => 1,
            Group::Batch(most) => most,
        }
    }

    /// How many commands so many jobs take.
    pub(super) fn commands(self, jobs: usize) -> usize {
        jobs.div_ceil(self.most())
    }

    /// Appends puts of so many jobs, each of which `push` appends.
    pub(super) fn push_puts(self, out: &mut Vec<u8>, jobs: usize, mut push: impl FnMut(&mut Vec<u8>)) {
        let mut left = jobs;
        while left > 0 {
            let count = left.min(self.most());
            let start = out.len();
            (0..count).for_each(|_| push(out));
            if let Group::Batch(_) = self {
                let head = format!("put-batch {count} {}\r\n", out.len() - start);
                out.splice(start..start, head.into_bytes());
            }
            left -= count;
        }
    }

    /// Appends reserves of so many jobs.
    pub(super) fn push_reserves(self, out: &mut Vec<u8>, jobs: usize) {
        let mut left = jobs;
        while left > 0 {
            let count = left.min(self.most());
            match self {
                Group::One => out.extend_from_slice(b"reserve\r\n"),
                Group::Batch(_) => out.extend_from_slice(format!("reserve-batch {count} 2147483647\r\n").as_bytes()),
            }
            left -= count;
        }
    }

    /// Appends deletes of these jobs.
    pub(super) fn push_deletes(self, out: &mut Vec<u8>, ids: &[u64]) {
        match self {
            Group::One => ids.iter().for_each(|id| frames::push_delete(out, *id)),
            Group::Batch(most) => ids.chunks(most).for_each(|ids| frames::push_delete_batch(out, ids)),
        }
    }

    /// Looks for the answer to the next put command where `left` jobs are to be answered; takes its ids, and gives how
    /// many.
    pub(super) fn inserted(self, input: &[u8], left: usize, ids: &mut Vec<u64>) -> Found<usize> {
        match self {
            Group::One => frames::inserted(input).then(|id, end| {
                ids.push(id);
                Found::Answer(1, end)
            }),
            Group::Batch(most) => frames::batch_inserted(input, left.min(most), ids),
        }
    }

    /// Looks for the answer to the next delete command where `left` jobs are to be answered; gives how many it has.
    pub(super) fn deleted(self, input: &[u8], left: usize) -> Found<usize> {
        match self {
            Group::One => frames::exactly(input, b"DELETED\r\n").then(|(), end| Found::Answer(1, end)),
            Group::Batch(most) => {
                let expected = left.min(most);
                frames::exactly(input, format!("BATCH_DELETED {expected}\r\n").as_bytes())
                    .then(|(), end| Found::Answer(expected, end))
            }
        }
    }

    /// Looks for what comes before the jobs of the answer to a reserve command that asked for at most `asked`; gives how
    /// many follow.
    pub(super) fn reserved(self, input: &[u8], asked: usize) -> Found<usize> {
        match self {
            Group::One => Found::Answer(1, 0),
            Group::Batch(_) => frames::batch_reserved(input).then(|jobs, end| match usize::try_from(jobs) {
                Ok(jobs) if (1..=asked).contains(&jobs) => Found::Answer(jobs, end),
                _ => Found::Other,
            }),
        }
    }
}
