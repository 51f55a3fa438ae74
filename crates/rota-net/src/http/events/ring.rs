//! The newest events, which all who listen read: bounded in number and bytes.
//!
//! It is fed while somebody listens, and for a minute after the last one went, so that who comes back finds what they
//! missed. An event's place counts on from the first one; the ring holds the places from `first` on.

use super::choice::Wants;
use super::past::Goal;
use super::shown;
use rota_engine::engine::Engine;
use rota_engine::limits::{JOURNAL_READERS, LISTENERS, NEWS_KEPT, NEWS_KEPT_BYTES, STEP_OBJECTS, WEBHOOK_READERS};
use rota_engine::log::Lsn;
use rota_engine::news::{News, Taken};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// How long the ring is fed when nobody listens any more.
const LINGER: Duration = Duration::from_secs(60);

/// How long a turn to read what is past is at least, however many wait for one: beginning again takes a part of it.
const TURN: Duration = Duration::from_secs(1);

/// An event that may leave, and its text.
#[derive(Debug)]
pub(in crate::http) struct Told {
    pub(super) news: News,
    /// As JSON.
    pub(super) text: Box<str>,
}

impl Told {
    fn bytes(&self) -> usize {
        self.news.bytes() + self.text.len()
    }
}

/// The ring, and who is to be told when it moves.
#[derive(Debug)]
pub(in crate::http) struct Hub {
    ring: Mutex<Ring>,
    /// How many listen.
    listeners: watch::Sender<usize>,
    /// How many of them are clients.
    clients: AtomicUsize,
    /// Whose turn it is to read what is past: of clients, and of the server's own.
    turns: [Turns; 2],
}

/// The turns that there are for one kind of reader.
#[derive(Debug)]
struct Turns {
    free: Arc<Semaphore>,
    /// How many wait for one.
    waiting: watch::Sender<usize>,
}

/// Somebody's turn to read what is past.
#[derive(Debug)]
pub(super) struct Turn {
    reader: Reader,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// One who waits for a turn, as long as this is there.
struct Waiting<'a>(&'a watch::Sender<usize>);

/// Who listens, and reads what is past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reader {
    /// A client, who is cut off if it takes nothing.
    Client,
    /// The server itself, on behalf of a webhook.
    Server,
}

#[derive(Debug)]
struct Ring {
    told: VecDeque<Arc<Told>>,
    /// The place of the first.
    first: u64,
    bytes: usize,
    /// All news from this number on are here, or will be.
    whole_from: u64,
    is_open: bool,
    /// How many have joined so far.
    joined: u64,
    /// Those who listen, by which they are of those who joined.
    bells: BTreeMap<u64, Bell>,
    /// Since when nobody listens.
    left_at: Instant,
}

/// How one who listens is woken, and for what.
#[derive(Debug)]
struct Bell {
    wants: Wants,
    rings: Arc<Notify>,
    /// The place that it read on to, and the one up to which nothing came that it wants: it goes on from there, without a look at
    /// what is between.
    clear: (u64, u64),
}

/// Where somebody begins to listen.
#[derive(Debug)]
pub(super) struct Joined {
    /// The place to read from.
    pub(super) next: u64,
    /// The number after which it begins.
    pub(super) seen: u64,
    /// Whether some are gone since the number that was asked for.
    pub(super) is_gone: bool,
    /// What is to be read of the journal before, if there is one. Nothing is known to be gone then.
    pub(super) past: Option<Goal>,
    /// This start of the server, where it was after that number.
    pub(super) started: Option<News>,
    /// The number of the newest of what was told, or is to be told soon; 0 if there is none.
    pub(super) newest: u64,
    /// It is told of when something comes that may be of what it wants.
    pub(super) bell: Arc<Notify>,
    /// Which it is of those who listen.
    pub(super) id: u64,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    /// What comes next of what was chosen.
    Next {
        chosen: Vec<Arc<Told>>,
        /// The place to go on from.
        next: u64,
        /// The number of the last event before that place, if any was passed.
        seen: Option<u64>,
    },
    /// It was given up meanwhile.
    Lagged,
}

impl Default for Hub {
    fn default() -> Hub {
        let left_at = Instant::now();
        let ring = Ring {
            told: VecDeque::new(),
            first: 0,
            bytes: 0,
            whole_from: 0,
            is_open: false,
            joined: 0,
            bells: BTreeMap::new(),
            left_at,
        };
        Hub {
            ring: Mutex::new(ring),
            listeners: watch::Sender::new(0),
            clients: AtomicUsize::new(0),
            turns: [JOURNAL_READERS, WEBHOOK_READERS]
                .map(|most| Turns { free: Arc::new(Semaphore::new(most)), waiting: watch::Sender::new(0) }),
        }
    }
}

impl Hub {
    /// One more listens, from after the event of that number, or from now on; under the engine's lock. `None` if as many
    /// do as can.
    pub(super) fn join(&self, engine: &mut Engine, after: Option<u64>, who: Reader, wants: Wants) -> Option<Joined> {
        let mut ring = self.ring();
        if *self.listeners.borrow() >= LISTENERS {
            return None;
        }
        self.listeners.send_modify(|listeners| *listeners += 1);
        self.clients.fetch_add(who.clients(), Ordering::Relaxed);
        let next_seq = engine.next_seq();
        if engine.listen() {
            ring.clear();
            (ring.whole_from, ring.is_open) = (next_seq, true);
        }
        let end = ring.end();
        let newest = ring.told.back().map_or(ring.whole_from.saturating_sub(1), |told| told.news.seq);
        let (id, bell) = (ring.joined, Arc::new(Notify::new()));
        ring.joined += 1;
        ring.bells.insert(id, Bell { wants, rings: Arc::clone(&bell), clear: (end, end) });
        let newest_told = engine.newest_news().unwrap_or(0);
        let at = |next, seen, is_gone| Joined {
            next,
            seen,
            is_gone,
            past: None,
            started: None,
            newest: newest_told,
            bell,
            id,
        };
        let Some(after) = after else { return Some(at(end, newest, false)) };
        // A number that was never given is of other data, or of a server that kept nothing.
        if after >= next_seq {
            return Some(at(end, newest, true));
        }
        let started = engine.started();
        let started = (after < started.seq).then_some(started);
        if after + 1 < ring.whole_from {
            let until = engine.last_record();
            if until > Lsn(0) {
                let past = Some(Goal { until, below: ring.whole_behind(2) });
                return Some(Joined { started, past, ..at(ring.first, after, false) });
            }
            return Some(Joined { started, ..at(ring.first, ring.whole_from - 1, true) });
        }
        let passed = ring.told.partition_point(|told| told.news.seq <= after);
        Some(at(ring.first + passed as u64, after, false))
    }

    /// The place from which on all from the number `below` on are there, and not about to be given up; else a number from which on
    /// they are.
    pub(super) fn place_of(&self, below: u64) -> Result<u64, u64> {
        let ring = self.ring();
        if below < ring.whole_behind(1) {
            return Err(ring.whole_behind(2));
        }
        let passed = ring.told.partition_point(|told| told.news.seq < below);
        Ok(ring.first + passed as u64)
    }

    /// Waits until it is somebody's turn to read what is past.
    pub(super) async fn turn(&self, reader: Reader) -> Option<Turn> {
        let Turns { free, waiting } = &self.turns[reader as usize];
        let permit = match Arc::clone(free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::begin(waiting);
                Arc::clone(free).acquire_owned().await.ok()?
            }
        };
        Some(Turn { reader, since: Instant::now(), _permit: permit })
    }

    /// Waits until that turn was long enough, and somebody else waits for one.
    pub(super) async fn is_wanted(&self, turn: &Turn) {
        tokio::time::sleep_until(turn.since + TURN).await;
        let mut waiting = self.turns[turn.reader as usize].waiting.subscribe();
        // Who sends lives as long as this.
        let _ = waiting.wait_for(|waiting| *waiting > 0).await;
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        *self.listeners.borrow()
    }

    /// How many of them are clients.
    pub(in crate::http) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// One less listens.
    pub(super) fn leave(&self, id: u64, who: Reader) {
        {
            let mut ring = self.ring();
            ring.left_at = Instant::now();
            ring.bells.remove(&id);
        }
        self.listeners.send_modify(|listeners| *listeners -= 1);
        self.clients.fetch_sub(who.clients(), Ordering::Relaxed);
    }

    /// Waits until nobody has listened for a while, to what is taken down.
    pub(super) async fn is_left(&self) {
        let mut listeners = self.listeners.subscribe();
        loop {
            // Who sends lives as long as this.
            let _ = listeners.wait_for(|listeners| *listeners == 0).await;
            let (is_open, left_at) = {
                let ring = self.ring();
                (ring.is_open, ring.left_at)
            };
            if is_open
                && tokio::time::timeout_at(left_at + LINGER, listeners.wait_for(|count| *count > 0)).await.is_err()
            {
                return;
            }
            if !is_open {
                let _ = listeners.wait_for(|listeners| *listeners > 0).await;
            }
        }
    }

    /// Takes nothing down any more, if nobody listens; under the engine's lock.
    pub(super) fn close(&self, engine: &mut Engine) {
        let mut ring = self.ring();
        if *self.listeners.borrow() == 0 {
            engine.stop_listening();
            ring.clear();
            ring.is_open = false;
        }
    }

    /// Takes news that may leave. Says who is to be woken: those who may want some of it. Those who stand at the end and want
    /// nothing of it are moved on.
    pub(super) fn publish(&self, taken: Taken) -> Vec<Arc<Notify>> {
        let told: Vec<_> = taken.news.into_iter().map(|news| Told { text: shown::text(&news), news }).collect();
        let mut come = told.iter().fold(Wants::NOTHING, |come, told| come.or(Wants::of(&told.news)));
        let mut ring = self.ring();
        let before = ring.end();
        if let Some(below) = taken.lost_below {
            // A place that nobody finds: who stood at the end is too far behind, too.
            ring.clear();
            ring.first += 1;
            ring.whole_from = below;
            come = Wants::ALL;
        }
        told.into_iter().for_each(|told| ring.push(told));
        let end = ring.end();
        let mut woken = Vec::new();
        for bell in ring.bells.values_mut() {
            if bell.wants.meets(come) {
                woken.push(Arc::clone(&bell.rings));
            } else if bell.clear.1 == before {
                bell.clear.1 = end;
            }
        }
        woken
    }

    /// Goes on from a place without a look at what one does not want anyway: the place to go on from, and the number of the last
    /// event before that, if any was passed.
    pub(super) fn skip(&self, id: u64, from: u64) -> (u64, Option<u64>) {
        self.ring().skip(id, from)
    }

    /// Reads on from a place, past at most so many events as one step handles, until what was chosen has about so many
    /// bytes.
    pub(super) fn read(&self, id: u64, from: u64, choose: impl Fn(&News) -> bool, most_bytes: usize) -> Read {
        let mut ring = self.ring();
        let (mut next, mut seen) = ring.skip(id, from);
        let Some(passed) = next.checked_sub(ring.first) else { return Read::Lagged };
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        for told in ring.told.range((passed as usize).min(ring.told.len())..).take(STEP_OBJECTS) {
            if choose(&told.news) {
                if bytes > most_bytes {
                    break;
                }
                bytes += told.text.len();
                chosen.push(told.clone());
            }
            next += 1;
            seen = Some(told.news.seq);
        }
        if let Some(bell) = ring.bells.get_mut(&id) {
            bell.clear = (next, next);
        }
        Read::Next { chosen, next, seen }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// How many clients it is.
    fn clients(self) -> usize {
        usize::from(self == Reader::Client)
    }
}

impl Waiting<'_> {
    fn begin(waiting: &watch::Sender<usize>) -> Waiting<'_> {
        waiting.send_modify(|waiting| *waiting += 1);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.told.len() as u64
    }

    /// The number from which on all are here; where the oldest are about to be given up, behind so many quarters of what is here: who
    /// begins there has some time to read on.
    fn whole_behind(&self, quarters: usize) -> u64 {
        let is_nearly_full = 4 * self.told.len() > 3 * NEWS_KEPT || 4 * self.bytes > 3 * NEWS_KEPT_BYTES;
        let told = self.told.get(self.told.len() * quarters / 4).filter(|_| is_nearly_full);
        told.map_or(self.whole_from, |told| told.news.seq.max(self.whole_from))
    }

    fn skip(&mut self, id: u64, from: u64) -> (u64, Option<u64>) {
        let clear = self.bells.get(&id).map(|bell| bell.clear);
        let Some((_, next)) = clear.filter(|&(begin, end)| begin == from && end > from) else { return (from, None) };
        // Only what came before the first is not there, and its number is just below.
        let last = next.checked_sub(self.first + 1).and_then(|last| self.told.get(usize::try_from(last).ok()?));
        let seen = last.map_or(self.whole_from.saturating_sub(1), |last| last.news.seq);
        if let Some(bell) = self.bells.get_mut(&id) {
            bell.clear = (next, next);
        }
        (next, Some(seen))
    }

    fn clear(&mut self) {
        self.first = self.end();
        self.told.clear();
        self.bytes = 0;
    }

    fn push(&mut self, told: Told) {
        self.bytes += told.bytes();
        self.told.push_back(Arc::new(told));
        while self.told.len() > NEWS_KEPT || self.bytes > NEWS_KEPT_BYTES {
            let Some(oldest) = self.told.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.first += 1;
            self.whole_from = oldest.news.seq + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::Choice;
    use super::*;
    use rota_engine::engine::Options;
    use rota_engine::job::Time;
    use rota_engine::news::NewsKind;

    #[tokio::test]
    async fn as_many_listen_as_may_and_those_who_go_make_room() {
        let mut engine = Engine::in_memory(Options::default(), Time(1), Time(1));
        let hub = Hub::default();
        let mut join = |who| hub.join(&mut engine, None, who, Wants::ALL).map(|joined| joined.id);
        let first = join(Reader::Client).unwrap();
        for _ in 1..LISTENERS {
            assert!(join(Reader::Client).is_some());
        }
        assert!(join(Reader::Server).is_none());
        hub.leave(first, Reader::Client);
        assert!(join(Reader::Server).is_some());
        assert!(join(Reader::Client).is_none());
        assert_eq!((hub.listeners(), hub.clients()), (LISTENERS, LISTENERS - 1));
    }

    #[tokio::test]
    async fn who_wants_nothing_of_it_is_not_woken_and_the_ring_does_not_go_over_them() {
        let mut engine = Engine::in_memory(Options::default(), Time(1), Time(1));
        let hub = Hub::default();
        let mut of_kinds = |kinds: Option<&str>| {
            let wants = Choice::new(kinds, None, None, None).unwrap().wants();
            hub.join(&mut engine, None, Reader::Client, wants).unwrap()
        };
        let (all, few) = (of_kinds(None), of_kinds(Some("job.expired")));
        let publish = |seq, kind| {
            let woken = hub.publish(Taken { news: vec![News::new(seq, Time(1), Time(1), kind)], lost_below: None });
            let has = |joined: &Joined| woken.iter().any(|one| Arc::ptr_eq(one, &joined.bell));
            (has(&all), has(&few))
        };
        let last = 3 * NEWS_KEPT as u64;
        for seq in 1..=last {
            assert_eq!(publish(seq, NewsKind::JobPut), (true, false));
        }
        // Who reads nothing of what they want falls behind.
        let read = |joined: &Joined, from| hub.read(joined.id, from, |news| news.kind == NewsKind::JobExpired, 1);
        assert!(matches!(read(&all, all.next), Read::Lagged));
        let (place, seen) = hub.skip(few.id, few.next);
        assert_eq!((place, seen), (last, Some(last)));
        assert_eq!(hub.skip(few.id, place), (place, None));
        // What is wanted is not passed over, nor what comes behind it.
        assert_eq!(publish(last + 1, NewsKind::JobPut), (true, false));
        assert_eq!(publish(last + 2, NewsKind::JobExpired), (true, true));
        assert_eq!(publish(last + 3, NewsKind::JobPut), (true, false));
        let Read::Next { chosen, next, seen } = read(&few, place) else { panic!("it did not fall behind") };
        assert_eq!(chosen.iter().map(|told| told.news.seq).collect::<Vec<_>>(), [last + 2]);
        assert_eq!((next, seen), (last + 3, Some(last + 3)));
        let Read::Next { chosen, seen, .. } = read(&few, next) else { panic!("it did not fall behind") };
        assert_eq!((chosen.len(), seen), (0, None));
    }

    #[tokio::test]
    async fn who_comes_from_the_journal_begins_where_the_ring_stays_for_a_while() {
        let mut engine = Engine::in_memory(Options::default(), Time(1), Time(1));
        let hub = Hub::default();
        let joined = hub.join(&mut engine, None, Reader::Client, Wants::ALL).unwrap();
        let publish = |numbers: std::ops::RangeInclusive<u64>| {
            let news = numbers.map(|seq| News::new(seq, Time(1), Time(1), NewsKind::JobPut)).collect();
            hub.publish(Taken { news, lost_below: None });
        };
        let (kept, last) = (NEWS_KEPT as u64, 3 * NEWS_KEPT as u64);
        publish(1..=kept / 2);
        assert_eq!(hub.place_of(2), Ok(1), "nothing is given up yet");
        publish(kept / 2 + 1..=last);
        // All are there from `last - kept + 1` on, but the next event takes the first of them.
        let below = hub.place_of(last - kept + 1).unwrap_err();
        assert_eq!(below, last - kept / 2 + 1);
        publish(last + 1..=last + kept / 4);
        let place = hub.place_of(below).unwrap();
        publish(last + kept / 4 + 1..=last + kept / 2);
        let Read::Next { chosen, .. } = hub.read(joined.id, place, |_| true, 1) else { panic!("it was given up") };
        assert_eq!(chosen[0].news.seq, below);
        assert!(hub.place_of(below).is_err(), "it is the oldest now");
    }
}
