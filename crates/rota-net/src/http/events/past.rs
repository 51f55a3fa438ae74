//! What is past, to one who comes back: the journal from the number that they got last up to where the ring goes on.
//!
//! It is read a part at a time, on threads that may wait for the disk, when there is room for a part; never ahead of that. Few
//! read at a time, and others wait their turn: what a reader keeps in mind takes memory.

use super::super::api::Api;
use super::choice::Choice;
use super::ring::{Reader, Told, Turn};
use super::shown;
use crate::limits::PART_BYTES;
use rota_engine::journal::Part;
use rota_engine::log::Lsn;
use std::io;
use std::sync::Arc;
use tokio::task::JoinHandle;

use crate::host::HostJournal;

/// So many steps are done for a part at the most, where little is chosen: then it is looked whether somebody still listens.
const PART_STEPS: usize = 8;

/// How far is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Goal {
    /// Up to that record; those before it may still be on their way to the disk.
    pub(super) until: Lsn,
    /// What has a number below that. None of those stands behind that record.
    pub(super) below: u64,
}

/// One who reads.
pub(super) struct Past {
    api: Arc<Api>,
    reader: Reader,
    choice: Arc<Choice>,
    after: u64,
    goal: Goal,
    /// Whether the log is as far as the goal.
    is_there: bool,
    turn: Option<Turn>,
    reading: Reading,
}

enum Reading {
    NotBegun,
    Begins(JoinHandle<io::Result<HostJournal>>),
    Rests(Box<HostJournal>),
    UnderWay(JoinHandle<(Box<HostJournal>, Passed)>),
}

/// What was read.
#[derive(Debug)]
pub(super) enum Passed {
    /// It has begun; whether anything is gone is said next.
    Begun { is_late: bool },
    /// What was chosen of it; the number up to which all were told; whether that is the goal.
    Events { told: Vec<Arc<Told>>, seen: u64, is_goal: bool },
    /// What comes next is gone, up to that number; `None`: up to the goal.
    Gone { seen: Option<u64> },
}

impl Past {
    pub(super) fn new(api: Arc<Api>, reader: Reader, choice: Choice, after: u64, goal: Goal) -> Past {
        let (choice, reading) = (Arc::new(choice), Reading::NotBegun);
        Past { api, reader, choice, after, goal, is_there: false, turn: None, reading }
    }

    pub(super) fn goal(&self) -> Goal {
        self.goal
    }

    /// Waits until it has had its turn for a while, and another one waits for theirs.
    pub(super) async fn is_wanted(&self) {
        match &self.turn {
            Some(turn) => self.api.events.is_wanted(turn).await,
            None => std::future::pending().await,
        }
    }

    /// It is to go on up to there.
    pub(super) fn set_goal(&mut self, goal: Goal) {
        (self.goal, self.is_there) = (goal, false);
    }

    /// Reads on; `None` if the log failed, after which nothing may leave. Nothing is lost if it is not waited for to the end.
    pub(super) async fn read(&mut self) -> Option<Passed> {
        if self.turn.is_none() {
            self.turn = Some(self.api.events.turn(self.reader).await?);
        }
        if !self.is_there {
            self.api.host.is_in_log(self.goal.until).await.ok()?;
            self.is_there = true;
        }
        loop {
            match &mut self.reading {
                Reading::NotBegun => {
                    let (api, choice, after) = (Arc::clone(&self.api), Arc::clone(&self.choice), self.after);
                    let begin = move || api.host.begin_journal(after, choice.jobs());
                    self.reading = Reading::Begins(tokio::task::spawn_blocking(begin));
                }
                Reading::Begins(begins) => match begins.await.ok()? {
                    Ok(journal) => {
                        let is_late = journal.is_late();
                        self.reading = Reading::Rests(Box::new(journal));
                        return Some(Passed::Begun { is_late });
                    }
                    Err(error) => {
                        crate::note!(
                            "rota: cannot read the journal: {error}. Whoever asked for events goes on behind it"
                        );
                        self.reading = Reading::NotBegun;
                        self.after = self.goal.below - 1;
                        return Some(Passed::Gone { seen: None });
                    }
                },
                Reading::Rests(_) => {
                    let Reading::Rests(mut journal) = std::mem::replace(&mut self.reading, Reading::NotBegun) else {
                        continue;
                    };
                    let (api, choice, goal) = (Arc::clone(&self.api), Arc::clone(&self.choice), self.goal);
                    let part = move || {
                        let passed = part(&api, &mut journal, &choice, goal);
                        (journal, passed)
                    };
                    self.reading = Reading::UnderWay(tokio::task::spawn_blocking(part));
                }
                Reading::UnderWay(under_way) => {
                    let (journal, passed) = under_way.await.ok()?;
                    self.reading = Reading::Rests(journal);
                    return Some(passed);
                }
            }
        }
    }
}

/// Reads on until what was chosen fills a part.
fn part(api: &Api, journal: &mut HostJournal, choice: &Choice, goal: Goal) -> Passed {
    let (mut told, mut bytes, mut seen) = (Vec::new(), 0, journal.seen());
    for _ in 0..PART_STEPS {
        if journal.is_late() && !told.is_empty() {
            break;
        }
        match api.host.read_journal(journal, goal.until, goal.below) {
            Part::News { news, seen: up_to, is_end } => {
                for news in news.into_iter().filter(|news| choice.takes(news)) {
                    let text = shown::text(&news);
                    bytes += text.len();
                    told.push(Arc::new(Told { news, text }));
                }
                seen = up_to;
                if is_end {
                    return Passed::Events { told, seen, is_goal: true };
                }
            }
            Part::Gone { from, why } => {
                if let Some(why) = why {
                    crate::note!("rota: the journal has a hole, which is told as gone: {why}");
                }
                return Passed::Gone { seen: from.map(|from| from - 1) };
            }
        }
        if bytes >= PART_BYTES {
            break;
        }
    }
    Passed::Events { told, seen, is_goal: false }
}
