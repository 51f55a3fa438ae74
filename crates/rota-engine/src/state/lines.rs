//! Reads the lines in which jobs stand: see [`crate::lines`]. Nothing is kept for it, and nothing is changed.

use super::State;
use crate::job::{JobState, QueueName};
use crate::lines::Lines;
use crate::pages::Slot;
use crate::queue::{Queue, QueueId};

/// What it costs to find a queue, a key or a group of a limit key, where the next job of a line costs 1.
const FIND_COST: usize = 4;

/// What a job costs whose line is a tree: to walk over one takes longer than to copy a spoke.
const TREE_COST: usize = 2;

/// What a final job costs: its line has its id, by which it is to be found.
const FINAL_COST: usize = 8;

/// What it costs to look at a session for what it holds.
const SESSION_COST: usize = 2;

impl State {
    /// See [`crate::engine::Engine::places_in`].
    pub(crate) fn places_in(&self, lines: &Lines<'_>, from: u32, most: usize) -> Option<Vec<u32>> {
        let queues = self.meant(lines, most / FIND_COST)?;
        let has_held = |&id: &QueueId| self.queue(id).reserved > 0;
        let reads_leases =
            lines.keys.is_none() && (lines.takes_state)(JobState::Reserved) && queues.iter().any(has_held);
        let mut cost = if reads_leases {
            let held = self.totals.by_state[JobState::Reserved as usize];
            (self.sessions.len() * SESSION_COST).saturating_add(usize::try_from(held).unwrap_or(usize::MAX))
        } else {
            0
        };
        for &id in &queues {
            cost = cost.saturating_add(self.queue(id).cost_of(lines));
            if cost > most {
                return None;
            }
        }
        let mut places = Vec::new();
        let mut take = |slot: Slot| {
            if slot.0 >= from {
                places.push(slot.0);
            }
        };
        for &id in &queues {
            self.read_lines(id, lines, &mut take);
        }
        if reads_leases {
            self.sessions.iter().flat_map(|(_, session)| session.leases.all()).for_each(take);
        }
        Some(places)
    }

    /// The queues that are meant, each once; `None` if more than so many are to be looked at.
    fn meant(&self, lines: &Lines<'_>, most: usize) -> Option<Vec<QueueId>> {
        let is_meant = |name: &QueueName| (lines.takes_queue)(name);
        if lines.queues.map_or(self.queues_in_order.len(), <[_]>::len) > most {
            return None;
        }
        let Some(names) = lines.queues else {
            let all = self.queues_in_order.values().copied();
            return Some(all.filter(|&id| is_meant(&self.queue(id).name)).collect());
        };
        let named = names.iter().filter(|name| is_meant(name));
        let mut found: Vec<QueueId> = named.filter_map(|name| self.find_queue(name)).collect();
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    fn read_lines(&self, id: QueueId, lines: &Lines<'_>, take: &mut impl FnMut(Slot)) {
        let queue = self.queue(id);
        let reads = |state| lines.keys.is_none() && (lines.takes_state)(state);
        for key in lines.keys.into_iter().flatten().filter(|_| lines.takes_open()) {
            self.find_key(id, key).into_iter().for_each(&mut *take);
        }
        if reads(JobState::Delayed) {
            queue.delayed.all().for_each(&mut *take);
            queue.by_wall.iter().flat_map(|by_wall| by_wall.delayed.all()).for_each(&mut *take);
        }
        if reads(JobState::Ready) {
            queue.ready.all().for_each(&mut *take);
            queue.groups.iter().flat_map(|groups| groups.ready()).for_each(&mut *take);
        }
        if reads(JobState::Buried) {
            queue.buried.values().copied().for_each(&mut *take);
        }
        if reads(JobState::Blocked) {
            queue.blocked.iter().copied().for_each(&mut *take);
        }
        if lines.takes_final() {
            queue.ended.iter().filter_map(|&(_, job)| self.slot_of(job)).for_each(take);
        }
    }

    /// How many jobs are in memory, open or kept.
    pub(crate) fn jobs_in_memory(&self) -> u64 {
        self.jobs.len() as u64
    }
}

impl Queue {
    /// What it costs to read its lines.
    fn cost_of(&self, lines: &Lines<'_>) -> usize {
        let reads = |state| lines.keys.is_none() && (lines.takes_state)(state);
        let of = |state, cost: usize| if reads(state) { cost } else { 0 };
        let groups = self.groups.as_ref().map_or(0, |groups| groups.len() * FIND_COST);
        let keys = lines.keys.map_or(0, |keys| keys.len() * FIND_COST);
        let ended = if lines.takes_final() { self.ended.len() * FINAL_COST } else { 0 };
        let ready = usize::try_from(self.ready_jobs()).unwrap_or(usize::MAX).saturating_add(groups);
        FIND_COST
            + keys
            + ended
            + of(JobState::Delayed, self.delayed_jobs())
            + of(JobState::Buried, self.buried.len() * TREE_COST)
            + of(JobState::Blocked, self.blocked.len() * TREE_COST)
            + of(JobState::Ready, ready)
    }
}
