//! One connection's half of the conversation: takes bytes, has the engine do what they ask, gives bytes.
//!
//! The listener calls [`Session::receive`] with what it read, under whatever keeps the engine single-threaded, and sends
//! what that wrote. Nothing here waits: a reserve that finds no job says [`Status::Waiting`], and goes on with
//! [`Session::deliver`]. A body that is in the log alone is not read here: the answer has a [`Hole`] for it. Nothing is
//! unbounded either: one call writes about [`OUTPUT_BYTES`] at the most, and work on
//! many jobs or tubes is done a slice at a time.

mod batch;
mod client;

use super::access::{Gate, Judged};
use super::answer::{Answer, Word};
use super::counters::Counters;
use super::facts::Facts;
use super::parse::{Parsed, Parser};
use super::request::Request;
use crate::timings::Timings;
use client::{Client, Ongoing};
use rota_engine::command::{BodyPlace, Delivered};
use rota_engine::engine::Engine;
use rota_engine::far::{FarFound, Want};
use rota_engine::job::Time;
use rota_engine::limits::STEP_OBJECTS;
use rota_engine::session::SessionId;
use std::sync::Arc;

/// A call of [`Session::receive`] carries out no further command once it has written this much.
pub const OUTPUT_BYTES: usize = 256 * 1024;

/// What a session works with, for the length of one call.
#[derive(Debug)]
pub struct Server<'a> {
    /// The engine, which nobody else touches meanwhile.
    pub engine: &'a mut Engine,
    /// The front end's counts.
    pub counters: &'a mut Counters,
    /// What the server tells of itself.
    pub facts: &'a Facts,
    /// How long commands take; `None` if nobody collects it.
    pub timings: Option<&'a mut Timings>,
    /// This moment.
    pub now: Time,
}

/// How a session stands after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// All input was taken. It goes on when there is more.
    NeedMore,
    /// It stopped in between: send what there is to send, let others have a turn, and call again with the input that
    /// was not taken, even if that is none.
    Again,
    /// It waits for a job. Call nothing but [`Session::deliver`], [`Session::half_close`] and [`Session::close`].
    Waiting,
    /// Send what there is to send, and close the connection.
    Close,
}

/// Where a body belongs that is in the log alone. It has to be there before the answers leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole {
    /// Where in what was written it begins, in bytes; it is as long as the body.
    pub at: usize,
    /// Where the body is.
    pub body: BodyPlace,
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    parser: Parser,
    client: Client,
}

impl Session {
    /// A new connection; `None` if the engine has no room for one.
    pub fn open(server: &mut Server<'_>) -> Option<Session> {
        let id = server.engine.open_session()?;
        server.counters.connections += 1;
        server.counters.total_connections += 1;
        Some(Session { parser: Parser::new(server.facts.max_job_bytes), client: Client::new(id) })
    }

    /// From now on, commands have to go through that gate.
    pub fn guard(&mut self, gate: Arc<Gate>) {
        self.client.gate = Some(gate);
    }

    /// Its number in the engine: deliveries name it.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.client.id
    }

    /// The holes in what was written since the last call of this, which must all have gone behind one another into one
    /// `out`, empty at first.
    pub fn take_holes(&mut self) -> Vec<Hole> {
        std::mem::take(&mut self.client.holes)
    }

    /// Whether there are holes to be taken. Their bodies are where they say as long as no segment of the log is removed.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        !self.client.holes.is_empty()
    }

    /// What the command needs that it stopped at, out of what is not in memory: it is to be looked up, and given with
    /// [`Session::give`] before the next call of [`Session::receive`].
    pub fn take_wants(&mut self) -> Vec<Want> {
        self.client.far.take_wants()
    }

    /// Whether it put something since the last call of this.
    pub fn take_has_put(&mut self) -> bool {
        std::mem::take(&mut self.client.has_put)
    }

    /// Gives what was wanted.
    pub fn give(&mut self, found: Vec<(Want, FarFound)>) {
        self.client.far.given = found;
    }

    /// Carries out what `input` asks, and appends the answers to `out`. Says how many bytes it took.
    ///
    /// The answers depend on the log as [`Engine::depends_on`] says afterwards.
    ///
    /// # Panics
    /// If it waits.
    pub fn receive(&mut self, server: &mut Server<'_>, input: &[u8], out: &mut Vec<u8>) -> (usize, Status) {
        assert!(!self.client.waits, "commands behind a reserve that waits are kept back");
        self.client.batched = 0;
        // What is only looked at, without a command to the engine, is looked at now too.
        server.engine.tick(server.now);
        let mut rest = input;
        let is_known = self.client.far.bring_near(server.engine, server.now);
        let status = if is_known { self.carry_out(server, &mut rest, out) } else { Status::Again };
        self.client.far.let_go(server.engine);
        (input.len() - rest.len(), status)
    }

    /// Whether a command is carried out only in part: it goes on with [`Session::receive`], without any more input, and
    /// what was written so far can be sent with the rest.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.client.ongoing.is_some()
    }

    /// Ends its wait with what came of it. It goes on with [`Session::receive`], if only to learn its status.
    ///
    /// # Panics
    /// If it doesn't wait.
    pub fn deliver(&mut self, delivered: Delivered, out: &mut Vec<u8>) {
        assert!(self.client.waits, "only who waits is delivered to");
        self.client.waits = false;
        let waited_for = self.client.waits_for.take();
        match delivered {
            Delivered::Job { job, body, .. } => match waited_for {
                Some(most) => self.client.ongoing = Some(Ongoing::ReserveBatch { most, first: (job, body) }),
                None => self.client.reserved(job, body.as_slice(), out),
            },
            Delivered::TimedOut => Answer::Word(Word::TimedOut).write_to(out),
            Delivered::DeadlineSoon => Answer::Word(Word::DeadlineSoon).write_to(out),
            Delivered::LeaseEnded { .. } => unreachable!("a connection does not follow its leases"),
        }
    }

    /// The client sends nothing more: what it sent is carried out by further calls of [`Session::receive`], with no
    /// reserve waiting any more, until that says [`Status::Close`]. This says [`Status::Again`], or
    /// [`Status::Waiting`] if a delivery is on its way already.
    pub fn half_close(&mut self, server: &mut Server<'_>, out: &mut Vec<u8>) -> Status {
        self.client.half_closed = true;
        if self.client.waits {
            if !server.engine.stop_waiting(self.client.id) {
                return Status::Waiting;
            }
            self.deliver(Delivered::TimedOut, out);
        }
        Status::Again
    }

    /// Ends the connection: its jobs are ready again.
    pub fn close(self, server: &mut Server<'_>) {
        server.counters.connections -= 1;
        server.counters.producers -= u64::from(self.client.is_producer);
        server.counters.workers -= u64::from(self.client.is_worker);
        server.engine.close_session(self.client.id, server.now);
    }

    fn carry_out(&mut self, server: &mut Server<'_>, input: &mut &[u8], out: &mut Vec<u8>) -> Status {
        loop {
            match self.client.ongoing.take() {
                Some(Ongoing::Named(named)) => named.ask(&mut |request| {
                    if let Some(request) = self.client.put_off_again(server.engine, request) {
                        self.client.ask(server, request, out);
                    }
                }),
                Some(ongoing) => self.client.ongoing = self.client.step(ongoing, server, out),
                None => {}
            }
            if self.client.waits {
                return Status::Waiting;
            }
            if self.client.ongoing.is_some() {
                return Status::Again;
            }
            if out.len() >= OUTPUT_BYTES || self.client.batched >= STEP_OBJECTS {
                return Status::Again;
            }
            match self.parser.next(input) {
                Parsed::Request(Request::Quit) | Parsed::Foreign(_) => return Status::Close,
                Parsed::Request(request) => {
                    if let Some(judged) = self.client.judge(server.engine, &request, out) {
                        match judged {
                            Judged::Allowed => {}
                            Judged::Answered => {
                                self.client.take_name(server.engine, &request);
                                continue;
                            }
                            Judged::Ended => return Status::Close,
                        }
                    }
                    if matches!(request, Request::Delete { .. } | Request::Cancel { .. }) {
                        self.client.ahead.look(server.engine, input);
                    }
                    match self.client.put_off(server.engine, request, input) {
                        Some(request) if self.client.is_out_of_reach(server.engine, &request) => {
                            Answer::Word(Word::NotFound).write_to(out);
                        }
                        Some(request) => self.client.request(server, request, out),
                        None => return Status::Again,
                    }
                }
                Parsed::Refused(refusal) => self.client.refuse(refusal, server, out),
                Parsed::NeedMore if self.client.half_closed => return Status::Close,
                Parsed::NeedMore => return Status::NeedMore,
            }
            if self.client.waits {
                return Status::Waiting;
            }
        }
    }
}
