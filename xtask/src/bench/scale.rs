//! `cargo xtask bench scale`: what an operation costs beside few and many jobs, and among few and many queues.
//!
//! For each number a server of its own is filled and kept, and then all are asked in turn, round by round, so that what
//! the machine does meanwhile hits all of them alike. Judged is the processor time of the server; the load is pipelined,
//! and what it takes out it puts back.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::jobs::{Connection, Fill, JobKind, Load};
use super::machine::{self, Machine};
use super::page::{self, Part};
use super::server::{Server, Subject};
use super::spread::Spread;
use super::{Options, Programs, count, verdict};

/// More queues than there are at any time; a server takes fewer where nothing else is said.
const MOST_QUEUES: &str = "2000000";

/// How much more an operation may cost beside the most than beside the fewest.
const GOAL: f64 = 1.5;
const BODY_BYTES: u64 = 64;
/// Jobs that are reserved before a round of cycles, so that there is something to delete from the first command on.
const AHEAD: u64 = 4_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    /// A job is put, one is reserved, one deleted.
    Cycle,
    /// A delayed job is put, and one cancelled, anywhere among the others.
    Cancel,
    /// A queue is used, anywhere among the others, a job put there, and one deleted elsewhere.
    Queues,
}

impl Work {
    fn title(self) -> &'static str {
        match self {
            Work::Cycle => "put, reserve and delete beside so many ready jobs",
            Work::Cancel => "put with a delay and delete of another, at random among so many delayed jobs",
            Work::Queues => "use, put and delete at random among so many queues with a job each",
        }
    }

    fn sizes(self, quick: bool) -> &'static [u64] {
        match (self, quick) {
            (Work::Queues, false) => &[1, 1_000, 100_000, 1_000_000],
            (Work::Queues, true) => &[1, 10_000],
            (_, false) => &[10_000, 100_000, 1_000_000, 10_000_000],
            (_, true) => &[10_000, 100_000],
        }
    }
}

/// A server, filled, and the connection that works on it.
struct Filled {
    size: u64,
    server: Server,
    connection: Connection,
    ids: Vec<u64>,
    /// Server processor time per operation, in µs, of each round.
    costs: Vec<f64>,
}

/// Fills, measures and writes the part of the page.
///
/// # Errors
///
/// A server does not start or answers wrongly. A goal that is missed is no error: the page says so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let operations = if options.quick { 20_000 } else { 300_000 };
    let mut goals = Vec::new();
    let mut tables = String::new();
    for work in [Work::Cycle, Work::Cancel, Work::Queues] {
        println!("\n{}", work.title());
        let mut filled = Vec::new();
        for size in work.sizes(options.quick) {
            filled.push(fill(programs, work, *size).with_context(|| format!("while filling with {}", count(*size)))?);
            println!("  filled with {}", count(*size));
        }
        for round in 0..=options.rounds() {
            machine::wait_for_quiet()?;
            for one in &mut filled {
                let cost = measure(one, work, operations, round as u64)?;
                // The first round warms up.
                if round > 0 {
                    one.costs.push(cost);
                }
            }
            let costs: Vec<String> =
                filled.iter().filter_map(|one| Some(format!("{:.2}", one.costs.last()?))).collect();
            println!("  round {round}: {} µs", costs.join("  "));
        }
        let [fewest, most] = [&filled[0], &filled[filled.len() - 1]];
        let growth = Spread::of(most.costs.iter().zip(&fewest.costs).map(|(most, fewest)| most / fewest));
        goals.push(format!(
            "{}: {}: beside {} at most {GOAL} × of beside {}: {:.2} ×",
            verdict(growth.median <= GOAL),
            work.title(),
            count(most.size),
            count(fewest.size),
            growth.median
        ));
        writeln!(tables, "\n### {}{}\n", work.title()[..1].to_uppercase(), &work.title()[1..])?;
        writeln!(tables, "| number | server CPU, µs: least / **median** / most | to the fewest |\n|---:|---:|---:|")?;
        for one in &filled {
            let cost = Spread::of(one.costs.iter().copied());
            let ratio = Spread::of(one.costs.iter().zip(&fewest.costs).map(|(one, fewest)| one / fewest));
            let (least, median, most) = (cost.least, cost.median, cost.most);
            let name = count(one.size);
            writeln!(tables, "| {name} | {least:.2} / **{median:.2}** / {most:.2} | {:.2} |", ratio.median)?;
        }
    }
    let mut page = String::new();
    writeln!(page, "## Many jobs, many queues\n\nWritten by `{}`.\n\n- {machine}", options.command())?;
    writeln!(
        page,
        "- Rota, `--storage memory`; {} times per round, pipelined on one connection; {} rounds, in which the servers \
         take turns. Bodies of {BODY_BYTES} bytes.\n\n### Goals\n",
        count(operations),
        options.rounds()
    )?;
    for goal in &goals {
        writeln!(page, "- {goal}")?;
    }
    page.push_str(&tables);
    let path = page::write(options.quick, Part::Scale, &page)?;
    println!("\nscale in {:.0} s\n{}\nwrote {}", begin.elapsed().as_secs_f64(), goals.join("\n"), path.display());
    Ok(())
}

fn fill(programs: &Programs, work: Work, size: u64) -> Result<Filled> {
    let server = Server::start(programs, &Subject::rota("memory", None).with(&["--max-queues", MOST_QUEUES]))?;
    let mut connection = Connection::open(server.address)?;
    let kind = JobKind { body_bytes: BODY_BYTES, is_delayed: work == Work::Cancel };
    let ids = if work == Work::Queues {
        let mut ahead = Among { queues: size, left: AHEAD, next: 0, random: Some(Random(0)), ids: Vec::new() };
        let mut each = Among { queues: size, left: size, next: 0, random: None, ids: Vec::new() };
        connection.run(&mut each)?;
        connection.run(&mut ahead)?;
        ahead.ids
    } else {
        let mut load = Fill::new(kind, size);
        connection.run(&mut load)?;
        load.ids
    };
    Ok(Filled { size, server, connection, ids, costs: Vec::new() })
}

fn measure(one: &mut Filled, work: Work, operations: u64, round: u64) -> Result<f64> {
    let mut reserved = Vec::new();
    if work == Work::Cycle {
        let mut ahead = Reserves { left: AHEAD.min(one.size / 2), ids: Vec::new() };
        one.connection.run(&mut ahead)?;
        reserved = ahead.ids;
    }
    let random = Random(round * 2 + 1);
    let before = one.server.exact_cpu()?;
    match work {
        Work::Cycle => {
            let mut load = Cycles { left: operations, reserved: reserved.into() };
            one.connection.run(&mut load)?;
            // What is still reserved is ready again when it is taken back here, untimed.
            reserved = load.reserved.into();
        }
        Work::Cancel => {
            let mut load = Cancels { left: operations, ids: std::mem::take(&mut one.ids), random };
            one.connection.run(&mut load)?;
            one.ids = load.ids;
        }
        Work::Queues => {
            let recent = std::mem::take(&mut one.ids).into();
            let mut load = Uses { queues: one.size, left: operations, random, recent };
            one.connection.run(&mut load)?;
            one.ids = load.recent.into();
        }
    }
    let spent = one.server.exact_cpu()?.saturating_sub(before);
    if work == Work::Cycle {
        one.connection.run(&mut Releases { ids: reserved.into_iter() })?;
    }
    Ok(spent.as_secs_f64() * 1e6 / operations as f64)
}

/// A generator of numbers that look random: the same ones in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// One below that bound, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn id_behind(line: &str, word: &str) -> Result<u64> {
    let id = line.strip_prefix(word).and_then(|rest| rest.split(' ').next()?.parse().ok());
    id.with_context(|| format!("{line:?} came where {word:?} and an id were expected"))
}

const PUT: &str = "put 1024 0 3600 64\r\n\
    abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl\r\n";

/// Reserves jobs.
struct Reserves {
    left: u64,
    ids: Vec<u64>,
}

impl Load for Reserves {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        let more = self.left > 0;
        if more {
            self.left -= 1;
            out.extend_from_slice(b"reserve\r\n");
        }
        more
    }

    fn lines(&self) -> u64 {
        2
    }

    fn answer(&mut self, number: u64, line: &str) -> Result<()> {
        // Then comes the body.
        if number == 0 {
            self.ids.push(id_behind(line, "RESERVED ")?);
        }
        Ok(())
    }
}

/// Deletes a reserved job, reserves the next, puts one.
struct Cycles {
    left: u64,
    reserved: VecDeque<u64>,
}

impl Load for Cycles {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let id = self.reserved.pop_front().expect("more are reserved ahead than are under way");
        write!(out, "delete {id}\r\nreserve\r\n{PUT}").expect("a vector takes everything");
        true
    }

    fn lines(&self) -> u64 {
        4
    }

    fn answer(&mut self, number: u64, line: &str) -> Result<()> {
        match number {
            0 => ensure!(line == "DELETED", "a delete was answered with {line:?}"),
            1 => self.reserved.push_back(id_behind(line, "RESERVED ")?),
            3 => drop(id_behind(line, "INSERTED ")?),
            _ => {}
        }
        Ok(())
    }
}

/// Gives reserved jobs back.
struct Releases {
    ids: std::vec::IntoIter<u64>,
}

impl Load for Releases {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(id) = self.ids.next() else { return false };
        write!(out, "release {id} 1024 0\r\n").expect("a vector takes everything");
        true
    }

    fn answer(&mut self, _: u64, line: &str) -> Result<()> {
        ensure!(line == "RELEASED", "a release was answered with {line:?}");
        Ok(())
    }
}

/// Puts a delayed job and deletes another.
struct Cancels {
    left: u64,
    ids: Vec<u64>,
    random: Random,
}

impl Load for Cancels {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let place = self.random.below(self.ids.len() as u64);
        let id = self.ids.swap_remove(usize::try_from(place).expect("it is below a length"));
        let delay = 3_600 + self.random.below(82_800);
        let put = PUT.replacen("1024 0", &format!("1024 {delay}"), 1);
        write!(out, "delete {id}\r\n{put}").expect("a vector takes everything");
        true
    }

    fn lines(&self) -> u64 {
        2
    }

    fn answer(&mut self, number: u64, line: &str) -> Result<()> {
        if number == 0 {
            ensure!(line == "DELETED", "a delete was answered with {line:?}");
        } else {
            self.ids.push(id_behind(line, "INSERTED ")?);
        }
        Ok(())
    }
}

/// Puts a job into queue after queue, or anywhere.
struct Among {
    queues: u64,
    left: u64,
    next: u64,
    random: Option<Random>,
    ids: Vec<u64>,
}

impl Load for Among {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.next += 1;
        let queue = self.random.as_mut().map_or(self.next, |random| random.below(self.queues) + 1);
        write!(out, "use queue-{queue}\r\n{PUT}").expect("a vector takes everything");
        true
    }

    fn lines(&self) -> u64 {
        2
    }

    fn answer(&mut self, number: u64, line: &str) -> Result<()> {
        match number {
            0 => ensure!(line.starts_with("USING "), "a use was answered with {line:?}"),
            _ => self.ids.push(id_behind(line, "INSERTED ")?),
        }
        Ok(())
    }
}

/// Uses a queue, puts a job, deletes the one put longest ago of those that do not keep their queue alive.
struct Uses {
    queues: u64,
    left: u64,
    random: Random,
    recent: VecDeque<u64>,
}

impl Load for Uses {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let queue = self.random.below(self.queues) + 1;
        let id = self.recent.pop_front().expect("more were put ahead than are under way");
        write!(out, "use queue-{queue}\r\n{PUT}delete {id}\r\n").expect("a vector takes everything");
        true
    }

    fn lines(&self) -> u64 {
        3
    }

    fn answer(&mut self, number: u64, line: &str) -> Result<()> {
        match number {
            0 => ensure!(line.starts_with("USING "), "a use was answered with {line:?}"),
            1 => self.recent.push_back(id_behind(line, "INSERTED ")?),
            _ => ensure!(line == "DELETED", "a delete was answered with {line:?}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_deletes_what_it_reserved_first() {
        let mut load = Cycles { left: 2, reserved: [7, 8].into() };
        let mut out = Vec::new();
        assert!(load.command(&mut out) && load.command(&mut out) && !load.command(&mut out));
        let text = String::from_utf8(out).expect("commands are text");
        assert!(text.starts_with("delete 7\r\nreserve\r\nput 1024 0 3600 64\r\nabc"), "{text}");
        for (number, line) in [(0, "DELETED"), (1, "RESERVED 9 64"), (2, "abc"), (3, "INSERTED 10"), (0, "DELETED")] {
            load.answer(number, line).expect("it is what was asked");
        }
        assert_eq!(load.reserved, [9]);
        assert!(load.answer(1, "NOT_FOUND").is_err());
    }

    #[test]
    fn random_numbers_stay_below_their_bound() {
        let mut random = Random(1);
        assert!((0..1_000).all(|_| random.below(7) < 7));
    }
}
