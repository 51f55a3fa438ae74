//! The client library against the real server: jobs as values there and back, and what becomes of those that are none.

use std::time::Duration;

use rota_client::{Client, QueueName, ReserveError, Terms};
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
    Client::connect(&server.address().to_string().parse().unwrap(), None).unwrap()
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
