//! A connection that fills a server with jobs and takes them out again, pipelined, as fast as one connection can.
//!
//! What is put and deleted is a [`Load`]; its ids stay here, so that what was put can be deleted. Two batches of
//! commands are under way at a time: the server always has the next one while the answers to the one before are read.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::scale::Random;

/// A batch ends at whichever comes first.
const BATCH_BYTES: usize = 128 * 1024;
const BATCH_COMMANDS: u64 = 1_000;
/// How long a server may leave a command without an answer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Commands and what becomes of their answers, which come in the same order.
pub(super) trait Load {
    /// Appends the next command; false if there is none.
    fn command(&mut self, out: &mut Vec<u8>) -> bool;

    /// How many lines answer each.
    fn lines(&self) -> u64 {
        1
    }

    /// Takes a line of an answer, without its line break; the first of each answer is number 0.
    ///
    /// # Errors
    ///
    /// It is not the answer that the command was meant to get.
    fn answer(&mut self, number: u64, line: &str) -> Result<()>;
}

/// Jobs with a body of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct JobKind {
    pub(super) body_bytes: u64,
    /// Due in one hour to one day, each at another second than the one before; otherwise ready.
    pub(super) is_delayed: bool,
}

/// Writes puts of one kind.
pub(super) struct Puts {
    kind: JobKind,
    body: Vec<u8>,
    written: u64,
}

impl Puts {
    pub(super) fn new(kind: JobKind) -> Puts {
        let mut body: Vec<u8> = (0..kind.body_bytes).map(|at| b'a' + (at % 26) as u8).collect();
        body.extend_from_slice(b"\r\n");
        Puts { kind, body, written: 0 }
    }

    /// Appends the next put.
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        let seconds = if self.kind.is_delayed { 3_600 + self.written * 7_919 % 82_800 } else { 0 };
        self.written += 1;
        write!(out, "put 1024 {seconds} 60 {}\r\n", self.kind.body_bytes).expect("a vector takes everything");
        out.extend_from_slice(&self.body);
    }
}

/// Puts so many jobs and keeps their ids.
pub(super) struct Fill {
    puts: Puts,
    left: u64,
    pub(super) ids: Vec<u64>,
}

impl Fill {
    pub(super) fn new(kind: JobKind, jobs: u64) -> Fill {
        Fill { puts: Puts::new(kind), left: jobs, ids: Vec::with_capacity(usize::try_from(jobs).unwrap_or(0)) }
    }
}

impl Load for Fill {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.puts.write(out);
        true
    }

    fn answer(&mut self, _: u64, line: &str) -> Result<()> {
        self.ids.push(inserted(line)?);
        Ok(())
    }
}

/// Deletes the jobs with these ids, in their order.
pub(super) struct Empty<'a> {
    pub(super) ids: std::slice::Iter<'a, u64>,
}

impl Load for Empty<'_> {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(id) = self.ids.next() else { return false };
        write!(out, "delete {id}\r\n").expect("a vector takes everything");
        true
    }

    fn answer(&mut self, _: u64, line: &str) -> Result<()> {
        deleted(line)
    }
}

/// Jobs that stay, and between them jobs that are put and soon deleted.
pub(super) struct Mix {
    puts: Puts,
    /// Jobs to be put that stay.
    keep: u64,
    /// Jobs to be put and deleted for each that stays, after it.
    passing_each: u64,
    /// Of those, how many are still to come before the next that stays.
    passing_left: u64,
    /// Ids to be deleted.
    passing: VecDeque<u64>,
    expected: VecDeque<Expected>,
    next_is_delete: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Kept,
    Passing,
    Deleted,
}

impl Mix {
    pub(super) fn new(kind: JobKind, keep: u64, passing_each: u64) -> Mix {
        Mix {
            puts: Puts::new(kind),
            keep,
            passing_each,
            passing_left: 0,
            passing: VecDeque::new(),
            expected: VecDeque::new(),
            next_is_delete: false,
        }
    }
}

impl Load for Mix {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        self.next_is_delete = !self.next_is_delete;
        let puts_left = self.passing_left > 0 || self.keep > 0;
        if (self.next_is_delete || !puts_left)
            && let Some(id) = self.passing.pop_front()
        {
            write!(out, "delete {id}\r\n").expect("a vector takes everything");
            self.expected.push_back(Expected::Deleted);
            return true;
        }
        if !puts_left {
            return false;
        }
        if self.passing_left > 0 {
            self.passing_left -= 1;
            self.expected.push_back(Expected::Passing);
        } else {
            self.keep -= 1;
            self.passing_left = self.passing_each;
            self.expected.push_back(Expected::Kept);
        }
        self.puts.write(out);
        true
    }

    fn answer(&mut self, _: u64, line: &str) -> Result<()> {
        match self.expected.pop_front().context("there is an answer to no command")? {
            Expected::Kept => inserted(line).map(|_| ()),
            Expected::Passing => {
                self.passing.push_back(inserted(line)?);
                Ok(())
            }
            Expected::Deleted => deleted(line),
        }
    }
}

/// Jobs of which so many stay, and which come and go at random: for each that is put, another is deleted.
pub(super) struct Churn {
    puts: Puts,
    /// Jobs to be put before the first is deleted.
    stay: u64,
    /// Pairs of a put and a delete that are still to come.
    turns: u64,
    ids: Vec<u64>,
    expected: VecDeque<bool>,
    next_is_delete: bool,
    random: Random,
}

impl Churn {
    pub(super) fn new(kind: JobKind, stay: u64, turns: u64, seed: u64) -> Churn {
        Churn {
            puts: Puts::new(kind),
            stay,
            turns,
            ids: Vec::new(),
            expected: VecDeque::new(),
            next_is_delete: false,
            random: Random(seed),
        }
    }

    /// One of the jobs whose puts were answered, which is none any more.
    fn pick(&mut self) -> Option<u64> {
        if self.ids.is_empty() {
            return None;
        }
        let at = self.random.below(self.ids.len() as u64);
        Some(self.ids.swap_remove(usize::try_from(at).expect("an index")))
    }
}

impl Load for Churn {
    fn command(&mut self, out: &mut Vec<u8>) -> bool {
        if self.stay > 0 {
            self.stay -= 1;
        } else if !self.next_is_delete {
            if self.turns == 0 {
                return false;
            }
            self.turns -= 1;
            self.next_is_delete = true;
        } else {
            self.next_is_delete = false;
            let Some(id) = self.pick() else { return self.command(out) };
            write!(out, "delete {id}\r\n").expect("a vector takes everything");
            self.expected.push_back(false);
            return true;
        }
        self.puts.write(out);
        self.expected.push_back(true);
        true
    }

    fn answer(&mut self, _: u64, line: &str) -> Result<()> {
        match self.expected.pop_front().context("there is an answer to no command")? {
            true => self.ids.push(inserted(line)?),
            false => deleted(line)?,
        }
        Ok(())
    }
}

fn inserted(line: &str) -> Result<u64> {
    let id = line.strip_prefix("INSERTED ").and_then(|id| id.parse().ok());
    id.with_context(|| format!("a put was answered with {line:?}"))
}

fn deleted(line: &str) -> Result<()> {
    ensure!(line == "DELETED", "a delete was answered with {line:?}");
    Ok(())
}

/// One connection to a server.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(super) fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true).context("cannot set up a connection")?;
        stream.set_read_timeout(Some(DEADLINE)).context("cannot set up a connection")?;
        stream.set_write_timeout(Some(DEADLINE)).context("cannot set up a connection")?;
        Ok(Connection { stream: BufReader::with_capacity(64 * 1024, stream), line: String::new() })
    }

    /// Sends all commands of a load and takes their answers.
    ///
    /// # Errors
    ///
    /// The connection breaks, or an answer is another than the load expects.
    pub(super) fn run(&mut self, load: &mut impl Load) -> Result<()> {
        let mut batch = Vec::with_capacity(2 * BATCH_BYTES);
        let mut before = 0;
        loop {
            batch.clear();
            let mut commands = 0;
            while commands < BATCH_COMMANDS && batch.len() < BATCH_BYTES && load.command(&mut batch) {
                commands += 1;
            }
            self.stream.get_mut().write_all(&batch).context("cannot write to the server")?;
            for line in 0..before * load.lines() {
                load.answer(line % load.lines(), self.answer()?)?;
            }
            if commands == 0 && before == 0 {
                return Ok(());
            }
            before = commands;
        }
    }

    /// Sends one command and gives the line it is answered with.
    ///
    /// # Errors
    ///
    /// The connection breaks.
    pub(super) fn ask(&mut self, command: &[u8]) -> Result<&str> {
        self.stream.get_mut().write_all(command).context("cannot write to the server")?;
        self.answer()
    }

    /// Sends one command that is answered with a body and gives that.
    ///
    /// # Errors
    ///
    /// The connection breaks, or the answer is another.
    pub(super) fn ask_for_body(&mut self, command: &[u8]) -> Result<String> {
        let line = self.ask(command)?;
        let length = line.strip_prefix("OK ").and_then(|length| length.parse::<usize>().ok());
        let length = length.with_context(|| format!("a question was answered with {line:?}"))?;
        let mut body = vec![0; length + b"\r\n".len()];
        self.stream.read_exact(&mut body).context("cannot read from the server")?;
        String::from_utf8(body).context("the server answered with something that is no text")
    }

    /// Numbers out of the server's statistics, by their names.
    ///
    /// # Errors
    ///
    /// The connection breaks, or one of them is not there.
    pub(super) fn stats<const N: usize>(&mut self, names: [&str; N]) -> Result<[u64; N]> {
        let stats = self.ask_for_body(b"stats\r\n")?;
        let mut numbers = [0; N];
        for (number, name) in numbers.iter_mut().zip(names) {
            let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let found = line.and_then(|value| value.parse().ok());
            *number = found.with_context(|| format!("there is no number {name} in\n{stats}"))?;
        }
        Ok(numbers)
    }

    /// How many jobs wait on the server, ready and delayed.
    ///
    /// # Errors
    ///
    /// As for [`Connection::stats`].
    pub(super) fn waiting_jobs(&mut self) -> Result<u64> {
        Ok(self.stats(["current-jobs-ready", "current-jobs-delayed"])?.iter().sum())
    }

    fn answer(&mut self) -> Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line).context("cannot read from the server")? == 0 {
            bail!("the server closed the connection");
        }
        Ok(self.line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers in pieces, as a server does, and gives what was asked.
    fn play(load: &mut impl Load, ids: &mut u64, at_once: usize) -> Vec<String> {
        let mut asked = Vec::new();
        loop {
            let mut answers = Vec::new();
            for _ in 0..at_once {
                let mut out = Vec::new();
                if !load.command(&mut out) {
                    break;
                }
                let text = String::from_utf8(out).expect("commands are text");
                if text.starts_with("put ") {
                    *ids += 1;
                    answers.push(format!("INSERTED {ids}"));
                } else {
                    answers.push("DELETED".to_owned());
                }
                asked.push(text.lines().next().unwrap_or_default().to_owned());
            }
            if answers.is_empty() {
                return asked;
            }
            for answer in answers {
                load.answer(0, &answer).expect("it is what was asked");
            }
        }
    }

    #[test]
    fn a_mix_deletes_all_that_passes_and_nothing_else() {
        let kind = JobKind { body_bytes: 3, is_delayed: false };
        for at_once in [1, 2, 7, 1_000] {
            let asked = play(&mut Mix::new(kind, 3, 2), &mut 0, at_once);
            let puts = asked.iter().filter(|line| *line == "put 1024 0 60 3").count();
            let mut deleted: Vec<&str> = asked.iter().filter_map(|line| line.strip_prefix("delete ")).collect();
            deleted.sort_unstable();
            assert_eq!((puts, deleted), (9, vec!["2", "3", "5", "6", "8", "9"]), "{at_once} at once");
        }
    }

    #[test]
    fn as_many_stay_as_are_put_before_the_first_delete() {
        let kind = JobKind { body_bytes: 3, is_delayed: false };
        for at_once in [1, 2, 7] {
            let mut churn = Churn::new(kind, 10, 100, 3);
            let asked = play(&mut churn, &mut 0, at_once);
            let mut deleted: Vec<u64> =
                asked.iter().filter_map(|line| line.strip_prefix("delete ")?.parse().ok()).collect();
            assert_eq!(
                (asked.len() - deleted.len(), deleted.len(), churn.ids.len()),
                (110, 100, 10),
                "{at_once} at once"
            );
            assert!(!deleted.is_sorted(), "they go at random");
            deleted.sort_unstable();
            deleted.dedup();
            assert_eq!(deleted.len(), 100, "each goes once");
        }
    }

    #[test]
    fn ids_are_kept_and_other_answers_refused() {
        let mut fill = Fill::new(JobKind { body_bytes: 0, is_delayed: true }, 3);
        let asked = play(&mut fill, &mut 40, 2);
        assert_eq!(asked, ["put 1024 3600 60 0", "put 1024 11519 60 0", "put 1024 19438 60 0"]);
        assert_eq!(fill.ids, [41, 42, 43]);
        assert!(fill.answer(0, "OUT_OF_MEMORY").is_err());
        assert_eq!(play(&mut Empty { ids: fill.ids.iter() }, &mut 0, 9), ["delete 41", "delete 42", "delete 43"]);
    }
}
