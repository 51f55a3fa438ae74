//! Jobs as they come, by the client library: as many as asked for, ends of leases that others caused, and the end of the stream.

use rota_client::http::{Lease, LeaseEnd, LeaseStream, NewJob, StreamEnd, Take, Taken};
use serde_json::json;

use super::{Email, client};
use crate::http::server;

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
