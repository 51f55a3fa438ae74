//! The client library against the real server: jobs as values there and back, and what becomes of those that are none.

use std::time::Duration;

use rota_client::{Client, ClientError, Need, NotPut, Put, QueueName, ReserveError, Terms, When};
use serde::{Deserialize, Serialize};

use crate::server::Server;

const NO_WAIT: Duration = Duration::ZERO;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Email {
    to: String,
    copies: u32,
}

fn email(to: &str) -> Email {
    Email { to: to.into(), copies: 2 }
}

fn client(server: &Server) -> Client {
    Client::connect(&server.address().to_string()).unwrap()
}

fn queue(name: &str) -> QueueName {
    name.parse().unwrap()
}

#[test]
fn values_come_back_as_they_were_put() {
    let server = Server::rota(&[]);
    let mut client = client(&server);
    let (mails, others) = (queue("mails"), queue("others"));
    let late = client.put_value(&email("late\r\n@b"), &Terms::new(mails.clone()).priority(9)).unwrap();
    let first = client.put_value(&email("ü"), &Terms::new(mails.clone()).priority(1)).unwrap();
    for (id, to) in [(first, "ü"), (late, "late\r\n@b")] {
        let mut job = client.reserve_value::<Email>(&mails, NO_WAIT).unwrap().unwrap();
        assert_eq!((job.id(), job.body()), (id, &email(to)));
        assert!(job.touch().unwrap());
        assert!(job.complete().unwrap());
    }
    assert!(client.peek(first).unwrap().is_none());
    // Who asks for another queue's jobs gets no more of the one before.
    client.put_bytes(b"\0\r\n", &Terms::new(mails.clone())).unwrap();
    assert!(client.reserve_bytes(&others, NO_WAIT).unwrap().is_none());
    assert!(client.reserve_bytes(&queue("default"), NO_WAIT).unwrap().is_none());
    let job = client.reserve_bytes(&mails, NO_WAIT).unwrap().unwrap();
    assert_eq!(job.body(), b"\0\r\n");
    assert!(job.release(7).unwrap());
    assert!(client.reserve_bytes(&mails, NO_WAIT).unwrap().is_some());
}

#[test]
fn a_body_that_is_no_such_value_is_held_and_can_be_buried() {
    let server = Server::rota(&[]);
    let mut client = client(&server);
    let mails = queue("mails");
    let id = client.put_bytes(b"{\"to\":1}", &Terms::new(mails.clone())).unwrap();
    match client.reserve_value::<Email>(&mails, NO_WAIT) {
        Err(ReserveError::Body { lease, source }) => {
            assert_eq!((lease.id(), &lease.body()[..]), (id, &b"{\"to\":1}"[..]));
            assert!(source.to_string().contains("expected a string"), "{source}");
            assert!(lease.bury(5).unwrap());
        }
        other => panic!("{other:?}"),
    }
    let fields = client.stats_job(id).unwrap().unwrap();
    assert!(fields.contains(&("state".into(), "buried".into())), "{fields:?}");
    assert_eq!(client.kick(&mails, 10).unwrap(), 1);
}

#[test]
fn a_lost_lease_is_said() {
    let server = Server::rota(&[]);
    let (mut worker, mut other) = (client(&server), client(&server));
    let mails = queue("mails");
    let id = other.put_value(&email("a"), &Terms::new(mails.clone()).key("k".parse().unwrap())).unwrap();
    let mut job = worker.reserve_value::<Email>(&mails, NO_WAIT).unwrap().unwrap();
    assert_eq!(other.cancel_key(&mails, &"k".parse().unwrap()).unwrap(), Some(id));
    assert!(!job.touch().unwrap());
    assert!(!job.complete().unwrap());
}

#[test]
fn a_connection_holds_many_leases_and_shares_them_with_threads() {
    let server = Server::rota(&[]);
    let mut client = client(&server);
    let mails = queue("mails");
    for to in ["a", "b", "c", "d"] {
        client.put_value(&email(to), &Terms::new(mails.clone())).unwrap();
    }
    let a = client.reserve_value::<Email>(&mails, NO_WAIT).unwrap().unwrap();
    let b = client.reserve_value::<Email>(&mails, NO_WAIT).unwrap().unwrap();
    let c = client.reserve_bytes(&mails, NO_WAIT).unwrap().unwrap().parse::<Email>().unwrap();
    let d = client.reserve_bytes(&mails, NO_WAIT).unwrap().unwrap();
    let bodies = [&a, &b, &c].map(|lease| lease.body().to.clone());
    assert_eq!(bodies, ["a", "b", "c"]);
    assert!(b.release(5).unwrap());
    let Err(ReserveError::Body { lease: d, .. }) = d.parse::<u32>() else { panic!("an object is no number") };
    assert!(d.bury(5).unwrap());
    // The connection is there as long as a lease is.
    drop(client);
    let threads = [a, c].map(|lease| std::thread::spawn(move || lease.complete().unwrap()));
    assert_eq!(threads.map(|thread| thread.join().unwrap()), [true, true]);
    let mut other = self::client(&server);
    let fields = other.stats_queue(&mails).unwrap().unwrap();
    for (key, value) in [("current-jobs-ready", "1"), ("current-jobs-reserved", "0"), ("current-jobs-buried", "1")] {
        assert!(fields.contains(&(key.into(), value.into())), "{fields:?}");
    }
}

#[test]
fn batches_say_of_each_job_what_became_of_it() {
    let server = Server::rota(&[]);
    let (mut client, mut worker) = (client(&server), client(&server));
    let mails = queue("mails");
    let key = "k".parse().unwrap();
    let large = vec![0; 70_000];
    let put = |body, key| {
        let (priority, when) = (7, When::In(Duration::ZERO));
        Put { queue: &mails, body, priority, when, ttr: Duration::from_secs(60), key, after: &[] }
    };
    let puts = [put(b"a\r\n", Some(&key)), put(b"b", Some(&key)), put(&large, None), put(b"", None)];
    let outcomes = client.put_batch_of(&puts).unwrap();
    let first = outcomes[0].unwrap();
    assert_eq!(outcomes[1..3], [Err(NotPut::KeyTaken(first)), Err(NotPut::TooBig)]);
    let last = outcomes[3].unwrap();
    let jobs = worker.reserve_batch(&mails, 10, NO_WAIT).unwrap();
    let found: Vec<(u64, &[u8])> = jobs.iter().map(|job| (job.id(), &job.body()[..])).collect();
    assert_eq!(found, [(first, &b"a\r\n"[..]), (last, b"")]);
    assert_eq!(client.delete_batch(&[first, last, 99]).unwrap(), [first, last, 99]);
    assert_eq!(worker.delete_batch(&[first, last, 99]).unwrap(), [99]);
    assert!(worker.reserve_batch(&mails, 10, NO_WAIT).unwrap().is_empty());
    assert!(client.put_batch::<&str>(&[], &Terms::new(mails.clone())).unwrap().is_empty());
    assert!(client.delete_batch(&[]).unwrap().is_empty());

    // As many as can be, with ids as long as they are.
    let ids = client.put_batch(&vec!["x"; 1_000], &Terms::new(mails.clone())).unwrap();
    let ids: Vec<u64> = ids.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(ids.len(), 1_000);
    let none = vec![u64::MAX; 1_000];
    assert_eq!(client.delete_batch(&none).unwrap(), none);
    assert!(client.delete_batch(&ids).unwrap().is_empty());

    let error = client.put_batch(&vec!["x"; 1_001], &Terms::new(mails.clone())).unwrap_err();
    assert_eq!(error.to_string(), "a batch can't have 1001 jobs, only 1 to 1000");
    let error = client.reserve_batch(&mails, 0, NO_WAIT).unwrap_err();
    assert!(matches!(error, ClientError::BatchSize { jobs: 0 }), "{error:?}");
    let others = queue("others");
    let error = client.put_batch_of(&[put(b"a", None), Put { queue: &others, ..put(b"b", None) }]).unwrap_err();
    assert!(matches!(error, ClientError::BatchQueues { .. }), "{error:?}");
    let error = client.put_batch(&vec![vec![0; 60_000]; 20], &Terms::new(mails.clone())).unwrap_err();
    assert!(matches!(error, ClientError::BatchTooBig { bytes: 1_200_000.., .. }), "{error:?}");
    // After all that the connection is where it was.
    assert_eq!(client.queues().unwrap(), [queue("default"), mails]);
}

#[test]
fn jobs_wait_for_others() {
    let server = Server::rota(&[]);
    let mut client = client(&server);
    let (builds, mails) = (queue("builds"), queue("mails"));
    let parents = client.put_batch(&["compile", "lint"], &Terms::new(builds.clone())).unwrap();
    let parents: Vec<u64> = parents.into_iter().collect::<Result<_, _>>().unwrap();
    let terms = Terms::new(mails.clone());
    let mail = client.put_bytes(b"it is built", &terms.clone().after(parents.clone())).unwrap();
    let outcomes = client.put_batch(&["late"], &terms.clone().after([mail])).unwrap();
    let late = outcomes[0].unwrap();
    assert!(client.reserve_bytes(&mails, NO_WAIT).unwrap().is_none());
    for _ in &parents {
        assert!(client.reserve_bytes(&builds, NO_WAIT).unwrap().unwrap().complete().unwrap());
    }
    for job in [mail, late] {
        let lease = client.reserve_bytes(&mails, NO_WAIT).unwrap().unwrap();
        assert_eq!(lease.id(), job);
        assert!(lease.complete().unwrap());
    }
    let error = client.put_bytes(b"x", &terms.clone().after([99])).unwrap_err();
    assert!(matches!(error, ClientError::UnknownParent { .. }), "{error:?}");
    assert_eq!(client.put_batch(&["x"], &terms.clone().after([99])).unwrap(), [Err(NotPut::UnknownParent)]);
    let error = client.put_bytes(b"x", &terms.clone().after(vec![u64::MAX; 100])).unwrap_err();
    assert!(matches!(error, ClientError::TooManyParents { jobs: 100 }), "{error:?}");
    // After all that the connection is where it was.
    assert!(client.reserve_bytes(&mails, NO_WAIT).unwrap().is_none());
    let beanstalkd = Server::beanstalkd();
    let error = self::client(&beanstalkd).put_bytes(b"x", &terms.after([1])).unwrap_err();
    assert!(matches!(error, ClientError::NoSuchCommand { need: Need::After, .. }), "{error:?}");
}

#[test]
fn batches_are_refused_where_they_would_be_misread() {
    let server = Server::beanstalkd();
    let mut client = client(&server);
    let mails = queue("mails");
    let terms = Terms::new(mails.clone());
    for error in [
        client.put_batch(&["quit"], &terms).unwrap_err(),
        client.reserve_batch(&mails, 5, NO_WAIT).unwrap_err(),
        client.delete_batch(&[1]).unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::NoSuchCommand { need: Need::Batch, .. }), "{error:?}");
        assert_eq!(error.hint().unwrap(), "only Rota has batches: send a command for each job");
    }
    assert!(client.put_bytes(b"x", &terms).unwrap() > 0);
}
