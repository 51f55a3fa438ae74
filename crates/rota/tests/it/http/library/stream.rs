//! Jobs as they come, by the client library: as many as asked for, ends of leases that others caused, and the end of the stream.

use rota_client::http::{
    Client, JobState, Lease, LeaseEnd, LeaseStream, NewJob, Reserve, Settings, StreamEnd, Take, Taken,
};
use serde_json::json;
use tempfile::TempDir;

use super::{Email, client, hour, reserve};
use crate::http::{server, start};
use crate::server::free_address;

/// The job that comes next.
#[track_caller]
fn lease(stream: &mut LeaseStream) -> Lease {
    match next(stream) {
        Taken::Lease(lease) => *lease,
        other => panic!("no lease: {other:?}"),
    }
}

/// What is said next, but for that nothing was.
#[track_caller]
fn next(stream: &mut LeaseStream) -> Taken {
    let mut said = stream.map(Result::unwrap);
    said.find(|taken| !matches!(taken, Taken::Quiet)).expect("it goes on")
}

#[test]
fn jobs_come_as_long_as_few_are_not_finished() {
    let (_data, mut rota, _) = server(&[]);
    let client = client(&rota);
    let mut stream = client.take(&Take::from(["mail", "other"]).max(2)).unwrap();
    let email = Email { to: "ann \u{1f600} \n".into() };
    let first = client.put(&NewJob::value("mail", &email).unwrap(), None).unwrap().id;
    let one = lease(&mut stream);
    assert_eq!((one.job().id, one.value::<Email>().unwrap()), (first, email));
    let ids: Vec<u64> = (0..3).map(|n| client.put(&NewJob::bytes("other", [0xff, n]), None).unwrap().id).collect();
    let two = lease(&mut stream);
    assert_eq!((two.job().id, two.job().body()), (ids[0], Some(&[0xff, 0][..])));
    // There is no room for more until one is finished, by this client or by anybody.
    assert!(one.complete_with(&json!({ "sent": true })).unwrap());
    let Taken::Ended { token, reason } = next(&mut stream) else { panic!("its end is told first") };
    assert_eq!((token.as_str(), reason), (one.token(), LeaseEnd::Completed));
    let three = lease(&mut stream);
    assert_eq!(three.job().id, ids[1]);
    assert!(client.cancel(ids[0]).unwrap());
    let Taken::Ended { token, reason } = next(&mut stream) else { panic!("its end is told first") };
    assert_eq!((token.as_str(), reason), (two.token(), LeaseEnd::Cancelled));
    let four = lease(&mut stream);
    // Who drops it keeps what came.
    let mut other = client.take(&Take::of("nothing")).unwrap();
    drop(stream);
    assert!(three.complete().unwrap() && four.fail("no", None).unwrap().is_some());
    let holder = client.job(ids[2]).unwrap().unwrap().holder;
    assert_eq!(holder, None);

    rota.terminate();
    let Taken::End { reason, detail } = next(&mut other) else { panic!("it says why it ends") };
    assert!(reason == StreamEnd::Stopping && !detail.is_empty(), "{detail}");
    assert!(other.next().is_none());
}

#[test]
fn what_is_refused_is_said_before_it_begins() {
    let (_data, rota, _) = server(&[]);
    let error = client(&rota).take(&Take::of("mail").max(1001)).unwrap_err();
    assert_eq!(error.problem().and_then(|problem| problem.pointer.as_deref()), Some("#/max"), "{error:?}");
}

#[test]
fn durable_leases_are_gone_on_with_after_the_server_was_killed() {
    let data = TempDir::new().unwrap();
    // A server that comes back comes back at the same place.
    let address = free_address().to_string();
    let mut rota = start(&data, &["--http", &address]);
    let client = Client::connect(&address).unwrap();
    let mut settings = Settings::default();
    (settings.durable_leases, settings.retain) = (true, Some(hour()));
    client.set_queue("reports", &settings).unwrap();
    for queue in ["reports", "reports", "reports", "reports", "reports", "mail"] {
        client.put(&NewJob::text(queue, "x").ttr(hour()), None).unwrap();
    }
    let mut asked = reserve(&client, "reports");
    let plain = reserve(&client, "mail");
    let mut stream = client.take(&Take::of("reports").max(10)).unwrap();
    let (mut done, failed) = (lease(&mut stream), lease(&mut stream));
    let [released, buried] = [(); 2].map(|()| lease(&mut stream).token().to_owned());
    assert!(asked.is_durable() && done.is_durable() && failed.is_durable() && !plain.is_durable());
    rota.kill();
    assert!(stream.find(|taken| !matches!(taken, Ok(Taken::Quiet))).is_some_and(|taken| taken.is_err()));
    let _rota = start(&data, &["--http", &address]);
    assert!(client.reserve(&Reserve::of("reports").count(10)).unwrap().is_empty(), "nobody else has them");
    assert!(!plain.complete().unwrap());
    let ended_at = asked.ends_at();
    assert!(asked.touch().unwrap() && asked.ends_at() > ended_at);
    assert!(asked.complete_with("whole").unwrap());
    assert!(done.progress(&0.5).unwrap() && done.complete().unwrap());
    let job = failed.fail("no", None).unwrap().unwrap();
    assert_eq!((job.state, job.attempts, job.lost_leases), (JobState::Delayed, 1, 0));
    // A holder that was started again too has no more than the text.
    let again = Client::connect(&address).unwrap();
    assert!(again.touch(&released).unwrap().is_some());
    assert_eq!(again.release(&released, Some(3), None).unwrap().unwrap().priority, 3);
    assert_eq!(again.bury(&buried, None).unwrap().unwrap().state, JobState::Buried);
    assert!(again.fail(&buried, "no", None).unwrap().is_none() && !again.complete(failed.token()).unwrap());
    let last = reserve(&client, "reports").token().to_owned();
    assert!(again.complete_with(&last, &json!({ "by": "text" })).unwrap());
    for (lease, result) in [(asked, Some(json!("whole"))), (done, None)] {
        let job = client.job(lease.job().id).unwrap().unwrap();
        assert_eq!((job.state, job.reserves, job.result), (JobState::Done, 1, result));
    }
}
