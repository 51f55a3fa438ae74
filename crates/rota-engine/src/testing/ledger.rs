//! What clients were told, written down outside of the engine: what they may rely on after any crash.
//!
//! [`super::simulator`] holds every answer back until the log is as far as the engine said it must be, and only then
//! it counts here as told. The ledger does not believe the model either: it knows only ids, bodies and log positions.

use super::storage::SimulatedDisk;
use crate::command::Body;
use crate::engine::{DependsOn, Engine};
use crate::far::FarRecord;
use crate::job::{JobId, LeaseToken};
use crate::log::Lsn;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One thing that an answer says.
#[derive(Clone, Debug)]
pub enum Fact {
    /// This job was put.
    Put(JobId, Vec<u8>),
    /// This job is another one now.
    Replaced(JobId, Vec<u8>),
    /// This job is over: completed, cancelled or expired.
    Over(JobId),
    /// This job was handed out, with that body.
    Leased(JobId, LeaseToken, Vec<u8>),
    /// This job is there.
    Seen(JobId),
}

#[derive(Debug)]
struct Held {
    depends_on: DependsOn,
    fact: Option<Fact>,
    /// Which of its job's puts it is, where it is one.
    put: usize,
    next_seq: u64,
}

#[derive(Debug)]
struct Entry {
    /// Its put and those that replaced it, each with its body.
    puts: Vec<(Step, Vec<u8>)>,
    over: Option<Step>,
}

/// A change, where the log ends with it, and whether a client was told of it.
#[derive(Clone, Copy, Debug)]
struct Step {
    lsn: Lsn,
    told: bool,
    /// Whether that was to wait for the disk, whatever is promised for all.
    is_certain: bool,
}

impl Step {
    fn at(lsn: Lsn) -> Step {
        Step { lsn, told: false, is_certain: false }
    }

    fn tell(&mut self, depends_on: DependsOn) {
        (self.told, self.is_certain) = (true, depends_on.durable >= self.lsn);
    }
}

impl Entry {
    fn body(&self) -> &[u8] {
        &self.puts.last().expect("it was put").1
    }
}

/// All that was told, and what is about to be.
#[derive(Debug, Default)]
pub struct Ledger {
    held: VecDeque<Held>,
    jobs: BTreeMap<JobId, Entry>,
    over: BTreeSet<JobId>,
    last_put: Option<JobId>,
    last_token: Option<LeaseToken>,
    greatest_id_told: u64,
    greatest_token_told: Option<LeaseToken>,
    seqs_told_below: u64,
    /// How many answers were told.
    pub told: u64,
}

impl Ledger {
    /// The jobs that were open and are not any more, which an answer does not say.
    pub fn over_without(&self, put: &Option<Fact>, over: &Option<Fact>, is_open: impl Fn(&JobId) -> bool) -> Vec<Fact> {
        let put = if let Some(Fact::Put(id, _)) = put { Some(*id) } else { None };
        let over = if let Some(Fact::Over(id)) = over { Some(*id) } else { None };
        let known = self.jobs.iter().filter(|(_, entry)| entry.over.is_none()).map(|(&id, _)| id).chain(put);
        known.filter(|id| over != Some(*id) && !is_open(id)).map(Fact::Over).collect()
    }

    /// Takes in what was just decided. `log_end` is the last record decided so far.
    ///
    /// # Panics
    /// If the engine may not have decided that.
    pub fn decided(&mut self, fact: Option<Fact>, depends_on: DependsOn, next_seq: u64, log_end: Lsn) {
        let mut number = 0;
        assert!(depends_on.promised <= log_end && depends_on.durable <= log_end, "it waits for what nobody wrote");
        match &fact {
            Some(Fact::Put(id, body)) => {
                assert!(id.0 > self.greatest_id_told, "id {id} was told to a client before");
                assert!(self.last_put.is_none_or(|last| last < *id), "ids rise");
                self.last_put = Some(*id);
                let put = Step::at(log_end);
                self.jobs.insert(*id, Entry { puts: vec![(put, body.clone())], over: None });
            }
            Some(Fact::Replaced(id, body)) => {
                let put = Step::at(log_end);
                let puts = &mut self.open(*id).puts;
                number = puts.len();
                puts.push((put, body.clone()));
            }
            Some(Fact::Over(id)) => {
                let entry = self.open(*id);
                entry.over = Some(Step::at(log_end));
            }
            Some(Fact::Leased(id, token, body)) => {
                assert_eq!(self.open(*id).body(), body, "the body of job {id}");
                assert!(self.last_token.is_none_or(|last| last < *token), "tokens rise");
                assert!(self.greatest_token_told.is_none_or(|told| told < *token), "tokens rise across restarts");
                self.last_token = Some(*token);
            }
            Some(Fact::Seen(id)) => drop(self.open(*id)),
            None => {}
        }
        self.held.push_back(Held { depends_on, fact, put: number, next_seq });
    }

    fn open(&mut self, id: JobId) -> &mut Entry {
        assert!(!self.over.contains(&id), "job {id} is over and was seen again");
        let entry = self.jobs.get_mut(&id).unwrap_or_else(|| panic!("job {id} was never put"));
        assert!(entry.over.is_none(), "job {id} is over and was seen again");
        entry
    }

    /// Tells clients what may be told now that the log is promised and durable so far.
    pub fn tell(&mut self, promised: Lsn, durable: Lsn) {
        while let Some(held) = self.held.front() {
            if held.depends_on.promised > promised || held.depends_on.durable > durable {
                return;
            }
            let held = self.held.pop_front().expect("it was just looked at");
            self.told += 1;
            self.seqs_told_below = self.seqs_told_below.max(held.next_seq);
            match held.fact {
                Some(Fact::Put(id, _) | Fact::Replaced(id, _)) => {
                    self.greatest_id_told = self.greatest_id_told.max(id.0);
                    let entry = self.jobs.get_mut(&id).expect("it was put");
                    entry.puts[held.put].0.tell(held.depends_on);
                }
                Some(Fact::Over(id)) => {
                    let over = self.jobs.get_mut(&id).and_then(|entry| entry.over.as_mut());
                    over.expect("it was just ended").tell(held.depends_on);
                }
                Some(Fact::Leased(id, token, _)) => {
                    self.greatest_id_told = self.greatest_id_told.max(id.0);
                    self.greatest_token_told = self.greatest_token_told.max(Some(token));
                }
                Some(Fact::Seen(id)) => self.greatest_id_told = self.greatest_id_told.max(id.0),
                None => {}
            }
        }
    }

    /// Whether everything decided was told.
    #[must_use]
    pub fn is_all_told(&self) -> bool {
        self.held.is_empty()
    }

    /// Looks at an engine that recovered the records up to `recovered` from `disk`. `is_promise_kept`: the crash was one after which
    /// everything told must be there.
    ///
    /// # Panics
    /// If the engine broke its word.
    pub(super) fn after_crash(
        &mut self,
        engine: &Engine,
        cold: &[FarRecord],
        disk: &SimulatedDisk,
        recovered: Lsn,
        is_promise_kept: bool,
    ) {
        self.held.clear();
        self.last_put = None;
        self.last_token = None;
        let (next_job_id, next_seq) = engine.next_numbers();
        assert!(next_job_id > self.greatest_id_told, "id {next_job_id} may have been told to a client before");
        assert!(next_seq >= self.seqs_told_below, "event number {next_seq} may have been told before");
        let mut cold: BTreeMap<JobId, Box<[u8]>> =
            cold.iter().map(|record| (record.job(), record.kept.put.body.clone())).collect();
        let mut left = 0;
        let over = &mut self.over;
        self.jobs.retain(|&id, entry| {
            let survived = |step: Step| {
                let is_there = step.lsn <= recovered;
                let is_promised = is_promise_kept || step.is_certain;
                assert!(is_there || !step.told || !is_promised, "job {id}: a client was told what is lost");
                is_there
            };
            entry.puts.retain(|&(put, _)| survived(put));
            let is_put = !entry.puts.is_empty();
            let is_over = entry.over.is_some_and(survived);
            let found = engine.job(id).filter(|found| !found.state.is_final()).map(|found| match found.body {
                Body::InMemory(body) => body.into(),
                Body::InLog(place) => disk.body(place),
            });
            let found = found.or_else(|| cold.remove(&id));
            assert_eq!(found.is_some(), is_put && !is_over, "job {id} after a crash");
            if let Some(body) = found {
                assert_eq!(&*body, entry.body(), "the body of job {id}");
                entry.over = None;
                left += 1;
            }
            if is_over {
                over.insert(id);
            }
            is_put && !is_over
        });
        assert_eq!(engine.totals().open(), left, "there are jobs that nobody put");
    }
}
