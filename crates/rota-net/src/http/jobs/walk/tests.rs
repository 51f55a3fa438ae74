//! A walk that reads lines first comes to the jobs that a walk over all of them comes to, in their order, and looks at few.

use super::*;
use crate::access::{Pattern, Role};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rota_engine::command::{Answer, Command, Due, Held, NewJob, OnConflict, Parent, Target};
use rota_engine::engine::Options;
use rota_engine::job::{Priority, QueueName, Time};
use rota_engine::queue::{PerKey, QueueSettings};
use rota_engine::terms::{OnParentFailure, Terms};
use std::collections::BTreeSet;
use std::time::Duration;

const EPOCH: u32 = 1;

const QUEUES: [&str; 3] = ["a", "b", "cc"];

/// Of what filters are put together.
const TERMS: [&str; 19] = [
    "queue:a",
    "queue:a,b",
    "queue:b,a,b",
    "queue:c*",
    "queue:nobody,\"not a name\"",
    "-queue:a",
    "-queue:*b,nobody",
    "state:ready",
    "state:buried,delayed",
    "state:reserved",
    "state:blocked,reserved",
    "state:done,cancelled",
    "-state:ready,done",
    "key:k0,k1",
    "key:k1",
    "key:k*",
    "-key:k0",
    "priority<2",
    "id>3",
];

/// Something that happens to jobs.
#[derive(Clone, Debug)]
enum Act {
    Put {
        queue: usize,
        priority: u32,
        is_delayed: bool,
        key: Option<u8>,
        parent: Option<Index>,
        limit_key: Option<bool>,
    },
    Reserve,
    Complete(Index),
    Release(Index, u32),
    Bury(Index),
    Fail(Index),
    Cancel(Index),
    Kick(Index),
    Pass,
}

fn act() -> impl Strategy<Value = Act> {
    let put = (0..3_usize, 0..4_u32, any::<bool>(), prop::option::of(0..3_u8), any::<Index>(), 0..9_u8);
    let put = put.prop_map(|(queue, priority, is_delayed, key, parent, kind)| Act::Put {
        queue,
        priority,
        is_delayed: is_delayed && kind > 2,
        key,
        parent: (kind == 8).then_some(parent),
        limit_key: (kind < 5).then_some(kind % 2 == 0),
    });
    prop_oneof![
        6 => put,
        3 => Just(Act::Reserve),
        1 => any::<Index>().prop_map(Act::Complete),
        1 => (any::<Index>(), 0..4_u32).prop_map(|(job, priority)| Act::Release(job, priority)),
        1 => any::<Index>().prop_map(Act::Bury),
        1 => any::<Index>().prop_map(Act::Fail),
        1 => any::<Index>().prop_map(Act::Cancel),
        1 => any::<Index>().prop_map(Act::Kick),
        1 => Just(Act::Pass),
    ]
}

/// An engine with three queues: one keeps what is over, one bounds what is held of each limit key.
struct Stage {
    engine: Engine,
    session: SessionId,
    now: Time,
    put: Vec<JobId>,
    held: Vec<JobId>,
}

impl Stage {
    fn new() -> Stage {
        let now = Time(1_000_000_000);
        let mut engine = Engine::in_memory(Options::default(), now, now);
        let session = engine.open_session().unwrap();
        let mut stage = Stage { engine, session, now, put: Vec::new(), held: Vec::new() };
        for queue in QUEUES {
            stage.execute(Command::Watch(&QueueName::new(queue).unwrap()));
        }
        let keeps = QueueSettings { retain: Some(Duration::from_secs(3600)), ..QueueSettings::default() };
        let bounds = PerKey { concurrency: Some(1), ..PerKey::default() };
        let bounds = QueueSettings { per_key: Some(bounds), ..QueueSettings::default() };
        for (queue, settings) in QUEUES.iter().zip([keeps, bounds]) {
            stage.execute(Command::Configure { queue: &QueueName::new(queue).unwrap(), settings: &settings });
        }
        stage
    }

    fn execute(&mut self, command: Command<'_>) -> Option<Answer> {
        // What is refused changes nothing.
        self.engine.execute(self.session, command, self.now).ok()
    }

    fn held(&mut self, job: Index) -> Option<Held> {
        (!self.held.is_empty()).then(|| Held::by_me(self.held.swap_remove(job.index(self.held.len()))))
    }

    fn any(&self, job: Index) -> Option<JobId> {
        (!self.put.is_empty()).then(|| *job.get(&self.put))
    }

    fn act(&mut self, act: &Act) -> Option<Answer> {
        match *act {
            Act::Put { queue, priority, is_delayed, key, parent, limit_key } => {
                let queue = QueueName::new(QUEUES[queue]).unwrap();
                let key = key.map(|key| format!("k{key}"));
                let parent = parent.and_then(|parent| self.any(parent)).map(Parent::Id);
                let limit_key = limit_key.map(|first| if first { "x".into() } else { "y".into() });
                let terms = Terms { limit_key, on_parent_failure: OnParentFailure::Hold, ..Terms::default() };
                let answer = self.execute(Command::Put(NewJob {
                    priority: Priority(priority),
                    due: Due::In(Duration::from_secs(if is_delayed { 60 } else { 0 })),
                    key: key.as_ref().map(|key| key.as_bytes()),
                    on_conflict: OnConflict::Replace,
                    after: parent.as_slice(),
                    terms: Some(Box::new(terms)),
                    ..NewJob::new(Target::Named(&queue), [].into())
                }));
                if let Some(Answer::Put(job)) = answer {
                    self.put.push(job);
                }
                answer
            }
            Act::Reserve => {
                let answer = self.execute(Command::Reserve { wait: Some(Duration::ZERO) });
                if let Some(Answer::Reserved(job, _)) = answer {
                    self.held.push(job);
                }
                answer
            }
            Act::Complete(job) => {
                let held = self.held(job)?;
                self.execute(Command::Complete { held, result: None })
            }
            Act::Release(job, priority) => {
                let held = self.held(job)?;
                self.execute(Command::Release { held, priority: Priority(priority), delay: Duration::ZERO })
            }
            Act::Bury(job) => {
                let held = self.held(job)?;
                self.execute(Command::Bury { held, priority: Priority(1) })
            }
            Act::Fail(job) => {
                let held = self.held(job)?;
                self.execute(Command::Fail { held, delay: None, error: Some(b"it failed") })
            }
            Act::Cancel(job) => {
                let job = self.any(job)?;
                self.execute(Command::Cancel(job))
            }
            Act::Kick(job) => {
                let job = self.any(job)?;
                self.execute(Command::KickJob(job))
            }
            Act::Pass => {
                self.now = self.now.after(Duration::from_secs(20));
                while !self.engine.tick(self.now) {}
                None
            }
        }
    }

    /// The jobs that a filter means now, of those queues.
    fn meant(&self, filter: &Filter, grant: &Grant) -> BTreeSet<JobId> {
        let all = self.engine.jobs_from(0).map(|(_, job)| job);
        let meant = all.filter(|job| grant.covers(job.queue) && filter.takes(job, self.engine.now(), &mut 0));
        meant.map(|job| job.id).collect()
    }
}

/// How a page is come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Lines,
    All,
}

/// A page of at most so many jobs from a cursor on, as a list makes one, and the cursor behind it.
fn page(
    engine: &Engine,
    (filter, grant): (&Filter, &Grant),
    cursor: Option<&str>,
    by: By,
    limit: usize,
) -> (Vec<JobId>, Option<String>) {
    let list = List::Jobs { what: "list", filter };
    let mut walk = Walk::new(filter, grant, cursor, &list, EPOCH).unwrap();
    let mut jobs = Vec::new();
    loop {
        if by == By::Lines && matches!(walk.ground, Ground::Unknown) {
            let places = walk.read_lines(engine, usize::MAX);
            walk.go_through(places);
        }
        walk.slice(engine, |job, _| {
            jobs.push(job.id);
            jobs.len() < limit
        });
        if walk.is_over || jobs.len() == limit {
            return (jobs, walk.cursor(&list, EPOCH));
        }
    }
}

fn filter() -> impl Strategy<Value = Filter> {
    vec(select(TERMS.to_vec()), 1..4).prop_map(|terms| terms.join(" ").parse().unwrap())
}

fn grant() -> impl Strategy<Value = Grant> {
    let patterns = prop_oneof![3 => Just(None::<&str>), 1 => Just(Some("a")), 1 => Just(Some("*c"))];
    patterns.prop_map(|pattern: Option<&str>| {
        let patterns: Vec<Pattern> = pattern.iter().map(|pattern| pattern.parse().unwrap()).collect();
        Grant::new(&[Role::Admin], pattern.map(|_| &patterns[..]))
    })
}

/// A page's length, and how it is come to.
fn pages() -> impl Strategy<Value = Vec<(usize, By)>> {
    vec((1..6_usize, prop_oneof![Just(By::Lines), Just(By::All)]), 1..8)
}

proptest! {
    #[test]
    fn lines_lead_to_the_same_jobs_in_the_same_order(
        acts in vec(act(), 0..80),
        filter in filter(),
        grant in grant(),
        pages in pages(),
    ) {
        let mut stage = Stage::new();
        for act in &acts {
            stage.act(act);
        }
        let who = (&filter, &grant);
        let (all, end) = page(&stage.engine, who, None, By::All, usize::MAX);
        prop_assert_eq!(end, None);
        prop_assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), stage.meant(&filter, &grant));
        let (by_lines, end) = page(&stage.engine, who, None, By::Lines, usize::MAX);
        prop_assert_eq!((&by_lines, end), (&all, None));
        let (mut listed, mut cursor) = (Vec::new(), None);
        for &(limit, by) in pages.iter().cycle() {
            let (jobs, next) = page(&stage.engine, who, cursor.as_deref(), by, limit);
            listed.extend(jobs);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert_eq!(listed, all);
    }

    #[test]
    fn whatever_happens_between_pages_who_stays_is_listed_once_and_nobody_twice(
        before in vec(act(), 20..80),
        filter in filter(),
        grant in grant(),
        between in vec((vec(act(), 0..6), 1..6_usize, prop_oneof![Just(By::Lines), Just(By::All)]), 1..8),
    ) {
        let mut stage = Stage::new();
        for act in &before {
            stage.act(act);
        }
        let mut stays = stage.meant(&filter, &grant);
        let (mut listed, mut cursor) = (Vec::new(), None);
        // In the end nothing happens any more, or jobs that are put all the time would never be at an end.
        let calm = (Vec::new(), 5, By::Lines);
        for (acts, limit, by) in between.iter().chain(std::iter::repeat(&calm)) {
            let (jobs, next) = page(&stage.engine, (&filter, &grant), cursor.as_deref(), *by, *limit);
            listed.extend(jobs);
            cursor = next;
            if cursor.is_none() {
                break;
            }
            for act in acts {
                stage.act(act);
                let meant = stage.meant(&filter, &grant);
                stays.retain(|job| meant.contains(job));
            }
        }
        let once: BTreeSet<JobId> = listed.iter().copied().collect();
        prop_assert_eq!(once.len(), listed.len(), "a job is listed twice: {:?}", listed);
        prop_assert!(stays.is_subset(&once), "{:?} stay, and {:?} are listed", stays, once);
    }
}

/// An engine with so many ready jobs of a queue `many`, put first, and five of a queue `few`, of which three are buried.
fn many_and_few(many: usize) -> Stage {
    let mut stage = Stage::new();
    for (queue, jobs) in [("many", many), ("few", 5)] {
        let queue = QueueName::new(queue).unwrap();
        for at in 0..jobs {
            let key = format!("{at}");
            let job = NewJob { key: Some(key.as_bytes()), ..NewJob::new(Target::Named(&queue), [].into()) };
            stage.execute(Command::Put(job)).unwrap();
        }
    }
    stage.execute(Command::Watch(&QueueName::new("few").unwrap()));
    for _ in 0..3 {
        let Some(Answer::Reserved(job, _)) = stage.execute(Command::Reserve { wait: Some(Duration::ZERO) }) else {
            panic!("a job is ready");
        };
        stage.execute(Command::Bury { held: Held::by_me(job), priority: Priority(0) }).unwrap();
    }
    stage
}

/// How many places the walk of a filter looks at, where it may read as much of lines as a request may; none where it looks at
/// all jobs.
#[track_caller]
fn check_looks_at(stage: &Stage, filter: &str, expected: Option<usize>) {
    let parsed: Filter = filter.parse().unwrap();
    let grant = Grant::everything();
    let list = List::Jobs { what: "list", filter: &parsed };
    let mut walk = Walk::new(&parsed, &grant, None, &list, EPOCH).unwrap();
    if matches!(walk.ground, Ground::Unknown) {
        let places = walk.read_lines(&stage.engine, most_read(&stage.engine));
        walk.go_through(places);
    }
    let places = match &walk.ground {
        Ground::Places { places, are_all: true } => Some(places.len()),
        Ground::All => None,
        other => panic!("{filter}: {other:?}"),
    };
    assert_eq!(places, expected, "{filter}");
}

#[test]
fn a_walk_looks_at_few_jobs_where_few_can_be_meant() {
    let mut stage = many_and_few(10_000);
    for (filter, expected) in [
        ("queue:few", Some(5)),
        ("queue:few state:buried", Some(3)),
        ("queue:few -state:buried", Some(2)),
        ("queue:few state:ready error:timeout", Some(2)),
        ("queue:few,nobody state:delayed,buried", Some(3)),
        ("queue:f* state:buried", Some(3)),
        ("state:buried", Some(3)),
        ("state:buried,delayed -queue:many", Some(3)),
        ("state:reserved,blocked", Some(0)),
        ("state:buried state:ready", Some(0)),
        ("queue:nobody", Some(0)),
        ("key:7 queue:many", Some(1)),
        ("key:1,2,3 queue:many,few", Some(6)),
        ("key:7", Some(1)),
        // All of the many can be meant, or nothing says where they stand.
        ("queue:many", None),
        ("state:ready", None),
        ("-queue:few", None),
        ("queue:many key:1*", None),
        ("error:timeout", None),
        ("id>10000", None),
    ] {
        check_looks_at(&stage, filter, expected);
    }
    let few = QueueName::new("few").unwrap();
    let reserve = Command::Reserve { wait: Some(Duration::ZERO) };
    assert!(matches!(stage.execute(reserve), Some(Answer::Reserved(..))));
    let parent = [Parent::Id(JobId(1))];
    let child = NewJob { after: &parent, ..NewJob::new(Target::Named(&few), [].into()) };
    assert!(stage.execute(Command::Put(child)).is_some());
    check_looks_at(&stage, "queue:few", Some(6));
    check_looks_at(&stage, "state:blocked", Some(1));
    check_looks_at(&stage, "state:reserved -queue:many", Some(1));
}

#[test]
fn a_walk_has_so_many_places_in_mind_and_reads_lines_again_behind_them() {
    let stage = many_and_few(PLACES_KEPT + 10_000);
    let (filter, grant) = ("queue:many,few".parse::<Filter>().unwrap(), Grant::everything());
    let by = |by| page(&stage.engine, (&filter, &grant), None, by, usize::MAX);
    let (by_lines, end) = by(By::Lines);
    assert_eq!((by_lines.len(), &end), (PLACES_KEPT + 10_005, &None));
    assert_eq!((by_lines, end), by(By::All));
    let list = List::Jobs { what: "list", filter: &filter };
    let mut walk = Walk::new(&filter, &grant, None, &list, EPOCH).unwrap();
    let places = walk.read_lines(&stage.engine, usize::MAX);
    walk.go_through(places);
    assert!(matches!(&walk.ground, Ground::Places { places, are_all: false } if places.len() == PLACES_KEPT));
    assert!(walk.read_lines(&stage.engine, PLACES_KEPT).is_none());
}
