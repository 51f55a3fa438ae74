//! A part of the program that follows what happens, at a host in memory: it is told of all of it, or that it missed some.

use crate::services::services;
use rota_engine::command::{Command, NewJob, Target};
use rota_engine::engine::{Engine, Options};
use rota_engine::job::{JobId, QueueName, Time};
use rota_engine::limits::NEWS_HELD;
use rota_engine::news::{News, NewsKind};
use rota_net::host::Host;
use rota_net::http::{self, Follower, HttpOptions, Patience};
use rota_net::peers::{Connections, PerAddress};
use tokio::sync::{mpsc, watch};

/// What the follower is told.
#[derive(Debug)]
enum Told {
    Put(JobId),
    Lost,
}

struct Ear(mpsc::UnboundedSender<Told>);

impl Follower for Ear {
    fn hear(&mut self, news: &News) {
        if let (NewsKind::JobPut, Some(job)) = (news.kind, news.job) {
            let _ = self.0.send(Told::Put(job));
        }
    }

    fn rest(&mut self) {}

    fn lose(&mut self) {
        let _ = self.0.send(Told::Lost);
    }
}

/// Puts so many jobs in one turn.
fn put(host: &Host, jobs: usize) {
    let queue = QueueName::new("work").expect("it is a name");
    host.with(|shared, now| {
        let session = shared.engine.open_session().expect("there is room");
        for _ in 0..jobs {
            let job = NewJob::new(Target::Named(&queue), [].into());
            shared.engine.execute(session, Command::Put(job), now).expect("nothing is in its way");
        }
        shared.engine.close_session(session, now);
    });
}

/// Puts one job after another until something is told.
async fn put_until_told(host: &Host, told: &mut mpsc::UnboundedReceiver<Told>) -> Told {
    for _ in 0..10_000 {
        put(host, 1);
        tokio::task::yield_now().await;
        if let Ok(told) = told.try_recv() {
            return told;
        }
    }
    panic!("nothing is told of 10,000 jobs");
}

#[tokio::test]
async fn a_follower_hears_all_or_that_it_missed_some_until_the_server_stops() {
    let engine = Engine::in_memory(Options::default(), Time(1), Time(1));
    let host = Host::start(engine, None, crate::session::facts(), None, 0).unwrap();
    let (teller, mut told) = mpsc::unbounded_channel();
    let services = services(Some(Box::new(Ear(teller))));
    let connections = Connections { most: 1, per_address: PerAddress::Half };
    let options = HttpOptions { connections, patience: Patience::default(), names: Vec::new() };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(http::serve(host.clone(), Vec::new(), options, services, stopped));
    let Told::Put(first) = put_until_told(&host, &mut told).await else { panic!("nothing was missed yet") };
    put(&host, 100);
    let last = JobId(host.look(|shared| shared.engine.totals().puts));
    let mut next = first.0 + 1;
    while next <= last.0 {
        match told.recv().await.unwrap() {
            Told::Put(job) => assert_eq!(job, JobId(next)),
            Told::Lost => panic!("nothing was missed yet"),
        }
        next += 1;
    }
    // More in one turn than is held for who listens.
    put(&host, NEWS_HELD + 1);
    let from = JobId(host.look(|shared| shared.engine.totals().puts));
    assert!(matches!(told.recv().await, Some(Told::Lost)), "it missed some");
    let Told::Put(again) = put_until_told(&host, &mut told).await else { panic!("it is told from now on") };
    assert!(again > from, "{again} was put before it listened again");
    stop.send_replace(true);
    serving.await.unwrap();
    host.stop().unwrap();
}
