//! Commands on many jobs at once. Each is carried out in one call, so that nobody comes in between; a batch of puts stands in
//! one group of the log.

use super::client::{Client, refused};
use super::{OUTPUT_BYTES, Server};
use crate::beanstalkd::ahead::Ahead;
use crate::beanstalkd::answer::{Answer, Batched, Word};
use crate::beanstalkd::request::Put;
use rota_engine::command::{self, Command};
use rota_engine::job::JobId;
use rota_engine::limits::TOUCHED_TOGETHER;
use rota_engine::refused::PutRefused;
use std::time::Duration;

/// Where a batch of reserved jobs begins: in what was written, and among the holes in it.
pub(super) struct BatchStart {
    out: usize,
    holes: usize,
}

impl Client {
    pub(super) fn put_batch(&mut self, server: &mut Server<'_>, puts: Vec<Option<Put>>, out: &mut Vec<u8>) {
        if server.facts.draining {
            self.puts_refused(server, PutRefused::Draining, puts.len());
            return Answer::Word(Word::Draining).write_to(out);
        }
        self.batched += puts.len();
        let put = |put: Option<Put>| {
            let Some(put) = put else {
                self.puts_refused(server, PutRefused::TooLarge, 1);
                return Batched::Refused(Word::JobTooBig);
            };
            match self.put_one(server, put) {
                Ok(id) => Batched::Inserted(id.0),
                Err(command::Refusal::KeyTaken(id)) => Batched::KeyTaken(id.0),
                Err(refusal) => match refused(refusal) {
                    Answer::Word(word) => Batched::Refused(word),
                    answer => unreachable!("a put is not refused with {answer:?}"),
                },
            }
        };
        let batch: Vec<Batched> = puts.into_iter().map(put).collect();
        Answer::BatchInserted(&batch).write_to(out);
    }

    pub(super) fn delete_batch(&mut self, server: &mut Server<'_>, ids: &[u64], out: &mut Vec<u8>) {
        self.batched += ids.len();
        let mut not_found = Vec::new();
        for (number, &id) in ids.iter().enumerate() {
            if number % TOUCHED_TOGETHER == 0 {
                Ahead::touch(server.engine, &ids[number..]);
            }
            let is_seen = self.gate.as_ref().is_none_or(|gate| gate.reaches_job(server.engine, JobId(id)));
            if !is_seen || self.execute(server, Command::Delete(JobId(id))).is_err() {
                not_found.push(id);
            }
        }
        Answer::BatchDeleted { deleted: ids.len() - not_found.len(), not_found: &not_found }.write_to(out);
    }

    pub(super) fn reserve_batch(&mut self, server: &mut Server<'_>, most: usize, seconds: u32, out: &mut Vec<u8>) {
        let start = self.begin_batch(out);
        if self.reserve(server, Some(Duration::from_secs(seconds.into())), out) {
            self.fill_batch(server, most, start, out);
        } else if self.waits {
            self.waits_for = Some(most);
        }
    }

    /// To be called before the first job of a batch is written.
    pub(super) fn begin_batch(&self, out: &[u8]) -> BatchStart {
        BatchStart { out: out.len(), holes: self.holes.len() }
    }

    /// Takes more jobs into a batch that has one, as long as there are some and the answer is not too long; and puts the
    /// head before it.
    pub(super) fn fill_batch(
        &mut self,
        server: &mut Server<'_>,
        most: usize,
        BatchStart { out: start, holes }: BatchStart,
        out: &mut Vec<u8>,
    ) {
        let mut jobs = 1;
        while jobs < most && out.len() - start < OUTPUT_BYTES {
            let Ok(command::Answer::Reserved(id, _)) =
                self.execute(server, Command::Reserve { wait: Some(Duration::ZERO) })
            else {
                break;
            };
            self.just_reserved(server.engine, id, out);
            jobs += 1;
        }
        self.batched += jobs;
        let mut head = Vec::new();
        Answer::BatchReserved(jobs).write_to(&mut head);
        self.holes[holes..].iter_mut().for_each(|hole| hole.at += head.len());
        out.splice(start..start, head);
    }
}
