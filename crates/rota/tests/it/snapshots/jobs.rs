//! `rota inspect`: what is at a place, and what is in a snapshot.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{command, folders, good, objects, see, serve, take};
use crate::process::Rota;
use crate::wire::Wire;

/// A server with a job in every state, in two queues; it keeps the connection that holds one.
fn with_jobs(rota: &Rota) -> Wire {
    let mut wire = Wire::to(rota.address());
    wire.expect("use mail", "USING mail");
    wire.expect("watch mail", "WATCHING 2");
    wire.put("put 5 0 60", b"to bury");
    wire.put("put 9 0 60", b"to hold");
    wire.put("put 1 1000 90", b"later");
    wire.put("put-in 2 0 1500 # k-1", b"\xff with a key");
    wire.expect("use default", "USING default");
    wire.put("put 7 0 60", b"plain");
    assert_eq!(wire.ask("reserve-job 1").number(1), 1);
    wire.expect("bury 1 6", "BURIED");
    assert_eq!(wire.ask("reserve-job 2").number(1), 2);
    wire
}

#[test]
fn what_is_in_a_snapshot() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    let _holder = with_jobs(&rota);
    let taken = take(&rota);
    let address = taken["address"].as_str().unwrap();

    let shown = objects(command(&["inspect", address, "--json"])).remove(0);
    let with_none = |mut counts: Value| {
        for state in ["blocked", "done", "cancelled", "expired"] {
            counts[state] = json!(0);
        }
        counts
    };
    let counts = with_none(json!({ "ready": 2, "reserved": 1, "delayed": 1, "buried": 1 }));
    assert_eq!(shown["jobs"], counts, "{shown}");
    let queues = [
        json!({ "queue": "default", "ready": 1, "reserved": 0, "delayed": 0, "buried": 0 }),
        json!({ "queue": "mail", "ready": 2, "reserved": 0, "delayed": 1, "buried": 1 }),
    ];
    assert_eq!(shown["queues"], Value::Array(queues.map(with_none).into()));
    for (field, value) in [
        ("version", json!(1)),
        ("rota", json!(env!("CARGO_PKG_VERSION"))),
        ("segments", json!(1)),
        ("name", taken["name"].clone()),
    ] {
        assert_eq!(shown[field], value, "{field}: {shown}");
    }
    assert_eq!(shown["bytes"], taken["bytes"]);
    let text = good(command(&["inspect", address]));
    assert!(
        text.contains("QUEUE    READY  RESERVED  DELAYED  BURIED  BLOCKED  DONE  CANCELLED  EXPIRED\ndefault      1         0        0       0        0"),
        "{text}"
    );

    let jobs: BTreeMap<u64, Value> = objects(command(&["inspect", address, "--jobs", "--json"]))
        .into_iter()
        .map(|job| (job["id"].as_u64().unwrap(), job))
        .collect();
    let states: Vec<_> =
        jobs.values().map(|job| (job["queue"].as_str(), job["state"].as_str(), job["priority"].as_u64())).collect();
    let expected = [
        ("mail", "buried", 6),
        ("mail", "ready", 9),
        ("mail", "delayed", 1),
        ("mail", "ready", 2),
        ("default", "ready", 7),
    ];
    assert_eq!(states, expected.map(|(queue, state, priority)| (Some(queue), Some(state), Some(priority))));
    assert_eq!((&jobs[&4]["key"], &jobs[&4]["ttr_s"]), (&json!("k-1"), &json!(1.5)));
    assert_eq!((&jobs[&4]["body_base64"], &jobs[&5]["body"]), (&json!("/yB3aXRoIGEga2V5"), &json!("plain")));
    assert!(jobs[&3]["run_at"].as_str().unwrap().ends_with('Z'));
    let text = good(command(&["inspect", address, "--jobs"]));
    assert!(text.contains("4 mail ready priority 2, 12 bytes key k-1\n"), "{text}");
    assert!(text.contains("3 mail delayed until 2"), "{text}");
}

#[test]
fn what_is_at_a_place() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    let place = data.path().join("snapshots");
    let place = place.to_str().unwrap();
    let nothing = command(&["inspect", place]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("there is no snapshot at"));

    let first = take(&rota);
    Wire::to(rota.address()).put("put 0 0 60", b"x");
    let second = take(&rota);
    let left = "20260102T030405.678Z-0123abcd.new";
    std::fs::create_dir(data.path().join("snapshots").join(left)).unwrap();
    std::fs::create_dir(data.path().join("snapshots/not one of ours")).unwrap();
    // As an archive that is not mounted.
    let unmounted = "20260102T030405.679Z-0123abcd";
    std::os::unix::fs::symlink("/no/archive", data.path().join("snapshots").join(unmounted)).unwrap();
    let listed = objects(command(&["inspect", place, "--json"]));
    let shown: Vec<_> = listed.iter().map(|found| (&found["name"], &found["state"], &found["jobs"])).collect();
    let (whole, none) = (json!("whole"), Value::Null);
    assert_eq!(
        shown,
        [
            (&json!(left), &json!("unfinished"), &none),
            (&json!(unmounted), &json!("unfinished"), &none),
            (&first["name"], &whole, &json!(0)),
            (&second["name"], &whole, &json!(1))
        ]
    );
    let text = good(command(&["inspect", place]));
    assert!(text.starts_with("NAME "), "{text}");
    assert!(text.lines().nth(1).unwrap().ends_with("unfinished"), "{text}");
    assert_eq!(text.lines().count(), 5);
    // Of a place, the jobs are those of the newest.
    assert_eq!(objects(command(&["inspect", place, "--jobs", "--json"])).len(), 1);
    let unfinished = command(&["inspect", &format!("{place}/{left}")]).output().unwrap();
    assert_eq!(unfinished.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unfinished.stderr).contains("is an unfinished snapshot"));
    assert_eq!(folders(&data.path().join("snapshots")).len(), 5);
    assert_eq!(see(rota.address(), [1]).len(), 1, "looking changes nothing");
}
