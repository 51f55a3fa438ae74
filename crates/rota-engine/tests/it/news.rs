//! What is told to who listens, held against the log: every number from the first to the last is one of a record or of
//! news, and every record that is news to anybody is told of. So are the actors: each record and each piece of news names
//! who asked for it, and nobody where it came about by itself.

use rota_engine::command::{Answer, Command, Delivered, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::event::Event;
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::NEWS_HELD;
use rota_engine::log::{Group, open};
use rota_engine::news::{News, NewsKind};
use rota_engine::queue::QueueId;
use rota_engine::session::Actor;
use rota_engine::testing::lockstep::{Agreed, Lockstep};
use rota_engine::testing::model::Model;
use rota_engine::testing::random::Random;
use rota_engine::testing::storage::{Crash, SimulatedDisk};
use rota_engine::testing::workload::{Input, Workload, actor_of};
use std::collections::{BTreeMap, BTreeSet, HashSet};

const STORE: [u8; 16] = *b"a log and a tale";
const START: Time = Time(1_700_000_000_000_000_000);

/// What the log says of a record.
struct Logged {
    at: Time,
    job: Option<JobId>,
    actor: Option<Actor>,
    is_news: bool,
}

/// What is known of an input beside what the engine tells.
struct Turn {
    /// Its events have numbers from here on.
    from: u64,
    /// In whose name it was asked for.
    actor: Option<Actor>,
    /// The jobs that it handed out, and in whose name somebody has them.
    handed_out: Vec<(JobId, Option<Actor>)>,
    /// Whether a queue had a rate: what comes of that alone has a number, and nobody is told.
    has_rate: bool,
}

/// Who is to be named by news.
#[derive(PartialEq, Eq, Debug)]
enum Names {
    /// Who asked.
    Asker,
    /// Who has the job from then on.
    Holder,
    Nobody,
    /// Who asked for the run of a schedule; nobody where it was a tick.
    AskerOrNobody,
}

fn names(news: &News) -> Names {
    match (news.kind, news.reason) {
        (NewsKind::JobPut, _) if news.schedule.is_some() => Names::AskerOrNobody,
        (NewsKind::JobReserved, _) => Names::Holder,
        (NewsKind::JobReady | NewsKind::QueueResumed, Some("time"))
        | (NewsKind::JobCancelled, Some("parent"))
        | (NewsKind::JobBuried, Some("lost-leases"))
        | (
            NewsKind::JobExpired
            | NewsKind::JobUnblocked
            | NewsKind::JobHeldUp
            | NewsKind::JobForgotten
            | NewsKind::LeaseLost
            | NewsKind::LeaseDropped
            | NewsKind::QueueDropped
            | NewsKind::ScheduleSkipped
            | NewsKind::ServerStarted
            | NewsKind::ServerStopped
            | NewsKind::ClockStepped,
            _,
        ) => Names::Nobody,
        _ => Names::Asker,
    }
}

impl Turn {
    fn of(from: u64, has_rate: bool, input: &Input, agreed: Agreed) -> Turn {
        let actor = match input {
            Input::Ask(client, _) => actor_of(*client),
            Input::Tell(_, actor) => actor.clone(),
            _ => None,
        };
        let mut handed_out = Vec::new();
        if let Some(Ok(Answer::Reserved(job, _))) = agreed.outcome.answer {
            handed_out.push((job, actor.clone()));
        }
        for (client, what) in agreed.outcome.deliveries {
            if let Delivered::Job { job, .. } = what {
                handed_out.push((job, actor_of(client)));
            }
        }
        Turn { from, actor, handed_out, has_rate }
    }

    /// Holds the actors of its news against who asked.
    fn check(mut self, news: &[&News]) {
        for news in news {
            // A rate that lets a queue go on is no end of a pause.
            let is_resumed = news.kind == NewsKind::QueueResumed;
            assert!(!is_resumed || matches!(news.reason, Some("asked" | "time")), "{news:?}");
            let names = names(news);
            match names {
                Names::Asker => assert_eq!(news.actor, self.actor, "{news:?}"),
                Names::Nobody => assert_eq!(news.actor, None, "{news:?}"),
                Names::AskerOrNobody => assert!(news.actor.is_none() || news.actor == self.actor, "{news:?}"),
                Names::Holder => {
                    let held = (news.job.expect("a job is reserved"), news.actor.clone());
                    let at = self.handed_out.iter().position(|handed| *handed == held);
                    self.handed_out.remove(at.unwrap_or_else(|| panic!("{news:?} is not of {:?}", self.handed_out)));
                }
            }
        }
        assert!(self.handed_out.is_empty(), "nobody was told of {:?}", self.handed_out);
    }
}

fn read(disk: SimulatedDisk) -> BTreeMap<u64, Logged> {
    let mut records = BTreeMap::new();
    let mut take = |record: rota_engine::log::ReplayedRecord<'_>| {
        let (seq, at, actor) = (record.seq, record.at, record.event.actor().cloned());
        let event = record.event.resolve(&mut |_| QueueId(0));
        let is_kept = matches!(
            event,
            Event::NumbersReserved { .. }
                | Event::JobKept(_)
                | Event::QueueKept(_)
                | Event::NumbersKept(_)
                | Event::AnswerKept(_)
        );
        records.insert(seq, Logged { at, job: event.job(), actor, is_news: !is_kept });
        Ok(())
    };
    open(disk, STORE, &mut take).expect("it was written in good order");
    records
}

/// Simulates a world, and returns what was told.
fn tell(world: u64, steps: u64) -> Vec<News> {
    let disk = SimulatedDisk::new();
    let options = Options { number_block: 16, ..Options::default() };
    let (mut engine, mut writer, _) = Engine::recover(options, disk.clone(), STORE, START).expect("a new log");
    assert!(engine.listen() && !engine.listen());
    let began = engine.next_seq();
    let mut both = Lockstep::new(engine, Model::new(START, START)).on(disk.observer());
    let random = &mut Random::new(world);
    let mut workload = Workload::new(random, 150);
    let (mut news, mut turns, mut group) = (Vec::new(), Vec::new(), Group::default());
    for _ in 0..steps {
        let at = both.model.now().after(workload.lapse(random, &both.model));
        let input = workload.input(random, &both.model);
        let from = both.engine.next_seq();
        let has_rate = both.model.queues().values().any(|queue| queue.settings.rate.is_some());
        let agreed = both.feed(&input, at);
        turns.push(Turn::of(from, has_rate, &input, agreed));
        if random.chance(1, 7) {
            let taken = both.engine.take_news();
            assert_eq!(taken.lost_below, None);
            news.extend(taken.news);
        }
        if both.engine.take_records(&mut group) {
            writer.write(&mut group).expect("the disk takes it");
        }
    }
    news.extend(both.engine.take_news().news);
    writer.sync().expect("the disk syncs");
    let end = both.engine.next_seq();

    assert!(news.windows(2).all(|two| two[0].seq < two[1].seq), "numbers rise");
    let told: BTreeMap<u64, &News> = news.iter().map(|news| (news.seq, news)).collect();
    // The power fails, and what was synced is there.
    let records = read(disk.restart(Crash::KeepSynced, world));
    for (seq, record) in records.range(began..) {
        let news = told.get(seq);
        assert_eq!(news.is_some(), record.is_news, "record {seq}");
        let of_news = |news: &News| (news.at, news.job, news.actor.clone());
        let of_record = (record.at, record.job, record.actor.clone());
        assert!(news.is_none_or(|news| of_news(news) == of_record), "record {seq}: {news:?}");
    }
    let numbers: BTreeSet<u64> = told.keys().chain(records.keys()).copied().filter(|seq| *seq >= began).collect();
    assert!(numbers.range(end..).next().is_none());
    let mut until = end;
    for turn in turns.into_iter().rev() {
        let from = turn.from;
        let is_whole = numbers.range(from..until).count() as u64 == until - from;
        assert!(is_whole || turn.has_rate, "no number is left out that is not of a record");
        turn.check(&told.range(from..until).map(|(_, news)| *news).collect::<Vec<_>>());
        until = from;
    }
    assert_eq!(until, began);
    for news in &news {
        assert_eq!(news.kind.name().starts_with("job.") || news.kind.name().starts_with("lease."), news.job.is_some());
        let is_about_all = matches!(news.kind, NewsKind::ClockStepped) || news.note.is_some();
        assert_eq!(news.queue.is_none(), is_about_all, "{news:?}");
    }
    news
}

#[test]
fn every_event_is_told_of_once_and_in_order() {
    let (mut kinds, mut named) = (HashSet::new(), HashSet::new());
    for world in 1..25 {
        let news = tell(world, 4_000);
        kinds.extend(news.iter().map(|news| news.kind));
        named.extend(news.iter().map(|news| (news.kind, news.actor.is_some(), names(news) == Names::Nobody)));
    }
    // Each kind that somebody asks for was asked for in a name, and in none.
    for &(kind, _, _) in named.iter().filter(|(.., by_itself)| !by_itself) {
        assert!(named.contains(&(kind, true, false)) && named.contains(&(kind, false, false)), "{kind:?}");
    }
    let missing: Vec<NewsKind> = NewsKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    assert_eq!(missing, [NewsKind::ServerStarted, NewsKind::ServerStopped], "the worlds have everything else");
}

fn put(engine: &mut Engine, session: rota_engine::session::SessionId) {
    let name = QueueName::new("work").expect("a name");
    let answer = engine.execute(session, Command::Put(NewJob::new(Target::Named(&name), (*b"x").into())), START);
    assert!(matches!(answer, Ok(Answer::Put(_))), "{answer:?}");
}

#[test]
fn nothing_is_taken_down_for_nobody_and_what_nobody_fetches_is_given_up() {
    let mut engine = Engine::in_memory(Options::default(), START, START);
    let session = engine.open_session().expect("there is room");
    put(&mut engine, session);
    assert!(!engine.has_news());
    assert!(engine.listen());
    for _ in 0..NEWS_HELD + 10 {
        put(&mut engine, session);
    }
    let taken = engine.take_news();
    let first = taken.news.first().expect("the newest are there");
    assert_eq!((taken.news.len(), taken.lost_below), (10, Some(first.seq)));
    assert_eq!(taken.news.last().map(|news| news.seq + 1), Some(engine.next_seq()));
    put(&mut engine, session);
    let taken = engine.take_news();
    assert_eq!((taken.news.len(), taken.lost_below), (1, None), "it goes on");
    engine.stop_listening();
    put(&mut engine, session);
    assert!(!engine.has_news() && engine.take_news().news.is_empty());
    assert_eq!((engine.started().epoch, engine.started().seq), (Some(1), 1));
}
