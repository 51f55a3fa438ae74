//! What of far jobs comes first: what will be due or expires soon, and the first of a queue.

use super::super::NearGoal;
use super::super::index::{Order, Timed};
use super::{FarEntry, FarError, FarFile, FarFiles};
use crate::job::{QueueName, Time};
use crate::storage::Storage;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How far an index was gone through in an order of time.
#[derive(Default)]
pub(super) struct Cursor {
    /// The number of the first job that was not given out for its time.
    next: AtomicU32,
    /// Where that one stands, as far as was looked; past the last one, never.
    next_at: AtomicU64,
    /// The number of the first that may not have been brought near.
    passed: AtomicU32,
}

impl<S: Storage> FarFiles<S> {
    /// The jobs of a block of an index, from a number in an order on; none at its end, or where its segment is no far one any more.
    pub(super) fn timed(&self, file: &FarFile, order: Order, from: u32) -> Result<Vec<Timed>, FarError> {
        let Some(index) = self.index_of(file)? else { return Ok(Vec::new()) };
        let timed = file.index.timed(&index, order, from);
        timed.map_err(|source| self.index_failed(file.index.segment, source))
    }

    /// The first jobs of a queue by when they are due that are not in memory. `wall_ahead`: by how many nanoseconds the wall
    /// clock is ahead of engine time.
    pub(super) fn first_of(
        &self,
        queue: &QueueName,
        count: usize,
        wall_ahead: i128,
        are_cold: &mut dyn FnMut(&[FarEntry]) -> Vec<bool>,
    ) -> Result<Vec<FarEntry>, FarError> {
        let mut best: Vec<FarEntry> = Vec::new();
        for file in self.all() {
            let Some(number) = file.index.queues.iter().position(|name| name == queue) else { continue };
            for order in [Order::Due, Order::WallDue] {
                let in_engine_time = |at: Time| if order.is_by_wall() { at.in_engine_time(wall_ahead) } else { at };
                let mut from = file.cursors[order as usize].passed.load(Ordering::Relaxed);
                'order: loop {
                    let timed = self.timed(&file, order, from)?;
                    from += u32::try_from(timed.len()).expect("a block is short");
                    let Some(last) = timed.last() else { break };
                    let of_queue = timed.iter().filter(|timed| timed.queue as usize == number);
                    let entry = |timed: &Timed| file.entry(timed.job, in_engine_time(timed.time), timed.at);
                    let entries: Vec<FarEntry> = of_queue.map(entry).collect();
                    let cold = are_cold(&entries);
                    for (entry, _) in entries.into_iter().zip(cold).filter(|&(_, is_cold)| is_cold) {
                        if best.len() >= count && best.last().is_some_and(|last| entry > *last) {
                            break 'order;
                        }
                        let at = best.partition_point(|other| *other < entry);
                        best.insert(at, entry);
                        best.truncate(count);
                    }
                    let last = (in_engine_time(last.time), last.job);
                    if best.len() >= count && best.last().is_some_and(|best| (best.time, best.job) < last) {
                        break;
                    }
                }
            }
        }
        Ok(best)
    }

    /// Jobs that are to be in memory by that goal and were not given before, at most about so many, in no order. None once they
    /// are all.
    ///
    /// # Errors
    /// [`FarError`].
    pub fn due(&self, goal: NearGoal, most: usize) -> Result<Vec<FarEntry>, FarError> {
        if self.clock_sets.swap(goal.clock_sets, Ordering::Relaxed) != goal.clock_sets {
            self.go_back(goal.known_by_wall)?;
        }
        let mut due = Vec::new();
        for file in self.all() {
            for order in Order::ALL {
                let until = if order.is_by_wall() { goal.until.wall } else { goal.until.engine };
                let cursor = &file.cursors[order as usize];
                while due.len() < most && cursor.next_at.load(Ordering::Relaxed) <= until.0 {
                    let from = cursor.next.load(Ordering::Relaxed);
                    let timed = if file.index.is_empty(order) { Vec::new() } else { self.timed(&file, order, from)? };
                    let given = timed.partition_point(|timed| timed.time <= until);
                    due.extend(timed[..given].iter().map(|timed| file.entry(timed.job, timed.time, timed.at)));
                    cursor.next.store(from + u32::try_from(given).expect("a block is short"), Ordering::Relaxed);
                    if let Some(next) = timed.get(given) {
                        cursor.next_at.store(next.time.0, Ordering::Relaxed);
                    }
                    if timed.is_empty() {
                        cursor.next_at.store(u64::MAX, Ordering::Relaxed);
                        break;
                    }
                }
            }
        }
        Ok(due)
    }

    /// The wall clock was set: what goes by it and stands behind that moment may have left memory since it was given.
    fn go_back(&self, known_by_wall: Time) -> Result<(), FarError> {
        for file in self.all() {
            for order in Order::ALL.into_iter().filter(|&order| order.is_by_wall() && !file.index.is_empty(order)) {
                let Some(index) = self.index_of(&file)? else { continue };
                let first = file.index.first_after(&index, order, known_by_wall);
                let first = first.map_err(|source| self.index_failed(file.index.segment, source))?;
                let cursor = &file.cursors[order as usize];
                // What was not given before is given in its turn.
                if first < cursor.next.load(Ordering::Relaxed) {
                    cursor.next.store(first, Ordering::Relaxed);
                    cursor.next_at.store(0, Ordering::Relaxed);
                }
                cursor.passed.fetch_min(first, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Says that all that [`FarFiles::due`] gave was brought near.
    pub fn passed(&self) {
        for file in self.all() {
            for cursor in &file.cursors {
                cursor.passed.store(cursor.next.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}
