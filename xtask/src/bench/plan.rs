//! What [`super::throughput`] measures: a row for each kind of work and shape of load, with its contenders and its goals.

use std::fmt;

use super::server::Subject;

/// A server in a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Contender {
    /// Rota without a log.
    RotaMemory,
    /// Rota with its log, at the default: an answer leaves when its record is on the disk.
    RotaAlways,
    /// Rota with its log, synced at most 50 ms later.
    Rota50ms,
    /// beanstalkd without a log.
    Beanstalkd,
    /// beanstalkd with its log and an fsync at every write to it.
    BeanstalkdFsync,
    /// A server that answers and does nothing: what the network and the load generator allow at most.
    AnswerOnly,
}

impl Contender {
    /// What it is called on the page.
    pub(super) fn name(self) -> &'static str {
        match self {
            Contender::RotaMemory => "rota, memory",
            Contender::RotaAlways => "rota, --sync always",
            Contender::Rota50ms => "rota, --sync 50ms",
            Contender::Beanstalkd => "beanstalkd, memory",
            Contender::BeanstalkdFsync => "beanstalkd -f0",
            Contender::AnswerOnly => "answer-only",
        }
    }

    /// What to start.
    pub(super) fn subject(self) -> Subject {
        let subject = match self {
            Contender::RotaMemory => Subject::rota("memory", None),
            Contender::RotaAlways => Subject::rota("durable", Some("always")),
            Contender::Rota50ms => Subject::rota("durable", Some("50ms")),
            Contender::Beanstalkd => Subject::beanstalkd(),
            Contender::BeanstalkdFsync => Subject::beanstalkd_with_log("-f0"),
            Contender::AnswerOnly => Subject::answer_only(),
        };
        subject.named(self.name())
    }
}

/// What is done with the jobs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    PutMemory,
    CycleMemory,
    PutDurable,
    /// The same put with a lazy log and with none.
    PutLazy,
}

impl Work {
    /// The heading of its rows.
    pub(super) fn title(self) -> &'static str {
        match self {
            Work::PutMemory => "put, memory",
            Work::CycleMemory => "put-reserve-delete cycle, memory",
            Work::PutDurable => "put, durable, on the disk before the answer",
            Work::PutLazy => "put, durable within 50 ms, beside memory",
        }
    }

    /// The name of it in `rota bench --mix`.
    pub(super) fn mix(self) -> &'static str {
        match self {
            Work::CycleMemory => "cycle",
            Work::PutMemory | Work::PutDurable | Work::PutLazy => "put",
        }
    }

    /// The command whose latency is reported.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Work::CycleMemory => "reserve",
            Work::PutMemory | Work::PutDurable | Work::PutLazy => "put",
        }
    }
}

/// How the load comes: connections × commands under way on each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) connections: u32,
    pub(super) depth: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.connections, self.depth)
    }
}

/// What is compared, always the first contender of a row with another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measure {
    /// More is better: at least the goal's ratio.
    Throughput,
    /// Server CPU per job, less is better: at most the goal's ratio.
    Cpu,
}

/// A ratio to reach, judged by the median of the pairs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Goal {
    pub(super) against: Contender,
    pub(super) measure: Measure,
    pub(super) ratio: f64,
    /// Whether it is a first step to a goal of the same row.
    pub(super) first_step: bool,
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) work: Work,
    pub(super) shape: Shape,
    /// Rota first.
    pub(super) contenders: &'static [Contender],
    pub(super) goals: &'static [Goal],
    /// Whether `cargo xtask bench first` runs it.
    pub(super) first: bool,
}

/// The bytes of a job's body, in every row.
pub(super) const BODY_BYTES: u32 = 64;

const fn shape(connections: u32, depth: u32) -> Shape {
    Shape { connections, depth }
}

const fn faster(against: Contender, ratio: f64) -> Goal {
    Goal { against, measure: Measure::Throughput, ratio, first_step: false }
}

const fn first_step(against: Contender, ratio: f64) -> Goal {
    Goal { against, measure: Measure::Throughput, ratio, first_step: true }
}

const fn cpu(against: Contender, ratio: f64) -> Goal {
    Goal { against, measure: Measure::Cpu, ratio, first_step: false }
}

use Contender::{AnswerOnly, Beanstalkd, BeanstalkdFsync, Rota50ms, RotaAlways, RotaMemory};

const MEMORY_AND_LIMIT: &[Contender] = &[RotaMemory, Beanstalkd, AnswerOnly];
const MEMORY: &[Contender] = &[RotaMemory, Beanstalkd];
const DURABLE: &[Contender] = &[RotaAlways, BeanstalkdFsync];
const LAZY: &[Contender] = &[Rota50ms, RotaMemory];

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row { work: Work::PutMemory, shape: shape(1, 1), contenders: MEMORY_AND_LIMIT, first: false,
          goals: &[faster(Beanstalkd, 1.0), cpu(Beanstalkd, 1.0)] },
    Row { work: Work::PutMemory, shape: shape(1, 64), contenders: MEMORY_AND_LIMIT, first: false,
          goals: &[faster(Beanstalkd, 8.0), faster(AnswerOnly, 0.5)] },
    Row { work: Work::PutMemory, shape: shape(50, 1), contenders: MEMORY_AND_LIMIT, first: false,
          goals: &[faster(AnswerOnly, 0.85)] },
    Row { work: Work::PutMemory, shape: shape(50, 16), contenders: MEMORY_AND_LIMIT, first: true,
          goals: &[first_step(Beanstalkd, 2.0), faster(Beanstalkd, 8.0), faster(AnswerOnly, 0.5)] },
    Row { work: Work::CycleMemory, shape: shape(1, 1), contenders: MEMORY, first: false, goals: &[] },
    Row { work: Work::CycleMemory, shape: shape(1, 64), contenders: MEMORY, first: false, goals: &[] },
    Row { work: Work::CycleMemory, shape: shape(50, 1), contenders: MEMORY, first: false,
          goals: &[faster(Beanstalkd, 1.1)] },
    Row { work: Work::CycleMemory, shape: shape(50, 16), contenders: MEMORY, first: false,
          goals: &[faster(Beanstalkd, 5.0)] },
    Row { work: Work::PutDurable, shape: shape(1, 1), contenders: DURABLE, first: false, goals: &[] },
    Row { work: Work::PutDurable, shape: shape(1, 64), contenders: DURABLE, first: false, goals: &[] },
    Row { work: Work::PutDurable, shape: shape(50, 1), contenders: DURABLE, first: true,
          goals: &[first_step(BeanstalkdFsync, 3.0)] },
    Row { work: Work::PutDurable, shape: shape(50, 16), contenders: DURABLE, first: false, goals: &[] },
    Row { work: Work::PutDurable, shape: shape(64, 1), contenders: DURABLE, first: false,
          goals: &[faster(BeanstalkdFsync, 10.0)] },
    Row { work: Work::PutLazy, shape: shape(50, 1), contenders: LAZY, first: false, goals: &[faster(RotaMemory, 0.8)] },
    Row { work: Work::PutLazy, shape: shape(50, 16), contenders: LAZY, first: false, goals: &[faster(RotaMemory, 0.8)] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_about_contenders_of_their_row() {
        for row in ROWS {
            for goal in row.goals {
                assert!(row.contenders[1..].contains(&goal.against), "{row:?}");
            }
        }
        assert!(ROWS.iter().filter(|row| row.first).all(|row| row.goals.iter().any(|goal| goal.first_step)));
    }
}
