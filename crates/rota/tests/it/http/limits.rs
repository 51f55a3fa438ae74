//! What peers can make grow, and what slow and many peers cost the others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Http};
use super::{put, server};
use crate::process::{DEADLINE, Rota, on, until, wrapped};
use crate::serve::metrics::{counts, refused_puts};
use crate::tokens::create;
use crate::wire::Wire;

#[test]
fn a_job_is_as_large_as_the_server_allows_in_every_form() {
    let (_data, _rota, http) = server(&["--max-job-size", "6MiB"]);
    let most = 6 << 20;
    let in_base64 = "A".repeat(most / 3 * 4);
    let job = http.post("/v1/jobs", &json!({ "queue": "work", "base64": in_base64 })).expect(201);
    assert_eq!(job["body_bytes"], most);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x".repeat(most) })).expect(201);
    let problem =
        http.post("/v1/jobs", &json!({ "queue": "work", "text": "x".repeat(most + 1) })).problem(413, "job-too-large");
    assert_eq!(problem["pointer"], "#/text");
    http.post("/v1/jobs", &json!({ "queue": "work", "text": "x".repeat(9 << 20) })).problem(413, "too-large");
    // A length that is told is refused before anything comes, and one that is not when it is reached.
    let mut stream = http.connect();
    let head = format!("POST /v1/jobs HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n", http.address());
    stream.write_all(format!("{head}content-length: 1000000000000\r\n\r\n").as_bytes()).unwrap();
    Answer::read(&mut stream).problem(413, "too-large");
    let mut stream = http.connect();
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    while stream.write_all(chunk.as_bytes()).is_ok() {}
}

/// A connection that asked for nothing yet.
fn idle(http: &Http) -> TcpStream {
    let mut stream = http.connect();
    stream.write_all(b"GET /heal").unwrap();
    stream
}

#[test]
fn connections_past_the_bound_wait_for_the_others() {
    let (_data, _rota, http) = server(&["--http-connections", "3"]);
    let mut held: Vec<TcpStream> = (0..3).map(|_| idle(&http)).collect();
    let mut fourth = http.connect();
    fourth.write_all(http.bytes("GET /healthz", "", "").as_bytes()).unwrap();
    held[0].write_all(b"thz HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut held[0]).status, 200);
    assert_eq!(Answer::read(&mut fourth).status, 200);
}

#[test]
fn one_address_has_no_more_connections_than_it_may() {
    let (_data, rota, http) = server(&["--http-connections-per-address", "3", "--connections-per-address", "2"]);
    let mut held: Vec<TcpStream> = (0..3).map(|_| idle(&http)).collect();
    // Nothing is said to it before it was told off.
    let problem = Answer::read(&mut http.connect()).problem(429, "too-many-connections");
    assert!(problem["detail"].as_str().unwrap().starts_with("127.0.0.1 has"), "{problem}");
    let mut other = from("127.0.0.2", http.address());
    other.write_all(http.bytes("GET /metrics", "", "").as_bytes()).unwrap();
    let metrics = Answer::read(&mut other);
    assert!(metrics.body.contains("\nrota_http_connections_refused_total 1\n"), "{metrics:?}");
    // The place of one that is gone is free again.
    held[0].write_all(b"thz HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut held[0]).status, 200);
    until("there is room again", || {
        let mut stream = http.connect();
        stream.write_all(http.bytes("GET /healthz", "", "").as_bytes()).ok();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        answer.starts_with("HTTP/1.1 200").then_some(())
    });

    let mut wires: Vec<Wire> = (0..2).map(|_| Wire::to(rota.address())).collect();
    wires.iter_mut().for_each(|wire| wire.expect("use a", "USING a"));
    assert_eq!(Wire::to(rota.address()).rest(), b"");
    let mut other = from("127.0.0.2", rota.address());
    other.write_all(b"put 0 0 60 1\r\nx\r\n").unwrap();
    let mut answer = [0; 12];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"INSERTED 1\r\n");
    wires.iter_mut().for_each(|wire| wire.expect("use b", "USING b"));
    drop(wires);
    until("there is room again", || {
        let mut wire = Wire::to(rota.address());
        wire.send("use c\r\n").and_then(|()| wire.line()).is_ok_and(|line| line == "USING c").then_some(())
    });
}

/// A connection from that address of this machine.
fn from(address: &str, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn one_token_leaves_room_for_the_bodies_of_others() {
    let data = TempDir::new().unwrap();
    let [greedy, other] = [0, 1].map(|_| create(data.path(), &["--role", "producer"]));
    let rota = super::start(&data, &[]);
    let http = Http::to(rota.http());
    let head = |token: &str| format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let job = "{\"queue\": \"work\", \"text\": \"x\"}";
    let body = format!("{}{job}", " ".repeat((4 << 20) - job.len()));
    // Half of the room for sixteen: each is there but for its last bytes, less than a job together, which come now and then so that it
    // goes on.
    let request = http.bytes("POST /v1/jobs", &head(&greedy), &body);
    let (most, rest) = request.as_bytes().split_at(request.len() - 3);
    let mut uploads: Vec<(TcpStream, &[u8])> = (0..8)
        .map(|_| {
            let mut stream = http.connect();
            stream.write_all(most).unwrap();
            (stream, rest)
        })
        .collect();
    let go_on = |uploads: &mut Vec<(TcpStream, &[u8])>| {
        for (stream, rest) in uploads.iter_mut().filter(|(_, rest)| rest.len() > 1) {
            stream.write_all(&rest[..1]).unwrap();
            *rest = &rest[1..];
        }
    };
    let put = |token: &str| http.ask("POST /v1/jobs", &head(token), job);
    let refused = until("all of it is read", || Some(put(&greedy)).filter(|answer| answer.status != 201));
    go_on(&mut uploads);
    assert!(refused.head.contains("retry-after: "), "{refused:?}");
    let problem = refused.problem(503, "busy");
    assert!(problem["detail"].as_str().unwrap().contains("one token"), "{problem}");
    for _ in 0..10 {
        put(&other).expect(201);
    }
    go_on(&mut uploads);
    for _ in 0..10 {
        put(&other).expect(201);
    }
    // Who asks without a token gets no room at all.
    http.ask("POST /v1/jobs", "content-type: application/json\r\n", job).problem(401, "no-token");
    for (stream, rest) in &mut uploads {
        stream.write_all(rest).unwrap();
        Answer::read(stream).expect(201);
    }
    put(&greedy).expect(201);
}

#[test]
fn puts_whose_bodies_find_no_room_are_counted() {
    let (_data, rota, http) = server(&[]);
    let (head, job) = ("content-type: application/json\r\n", "{\"queue\": \"work\", \"text\": \"x\"}");
    let body = format!("{}{job}", " ".repeat((4 << 20) - job.len()));
    let request = http.bytes("POST /v1/jobs", head, &body);
    let mut uploads: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = http.connect();
            stream.write_all(&request.as_bytes()[..request.len() - 1]).unwrap();
            stream
        })
        .collect();
    let put = || http.ask("POST /v1/jobs", head, job);
    until("all of it is read", || Some(put()).filter(|answer| answer.status != 201)).problem(503, "busy");
    assert_eq!(refused_puts(&rota), counts([("busy", 1)]));
    for stream in &mut uploads {
        stream.write_all(b"}").unwrap();
        Answer::read(stream).expect(201);
    }
    put().expect(201);
    assert_eq!(refused_puts(&rota), counts([("busy", 1)]));
}

#[test]
fn queues_are_no_more_than_there_may_be() {
    let (data, mut rota, http) = server(&["--max-queues", "4"]);
    // One of them is `default`, which is always there.
    for queue in ["a", "b", "c"] {
        http.post("/v1/jobs", &json!({ "queue": queue, "text": "x" })).expect(201);
    }
    let refuse = |http: &Http| {
        let problem = http.post("/v1/jobs", &json!({ "queue": "d", "text": "x" })).problem(429, "too-many-queues");
        assert!(problem["hint"].as_str().unwrap().contains("--max-queues"), "{problem}");
        let two = json!([{ "queue": "a", "text": "x" }, { "queue": "d", "text": "x" }]);
        let results = http.post("/v1/jobs", &two).expect(200);
        assert_eq!((&results["results"][0]["status"], &results["results"][1]["status"]), (&json!(201), &json!(429)));
        http.put("/v1/queues/d/settings", &json!({ "max_jobs": 5 })).problem(429, "too-many-queues");
        http.post("/v1/queues/d/pause", &json!({ "for": "1h" })).problem(429, "too-many-queues");
        http.post("/v1/leases", &json!({ "queues": ["a", "d"] })).problem(429, "too-many-queues");
        http.get("/v1/queues/d").problem(404, "queue-not-found");
    };
    refuse(&http);
    let schedule = json!({ "every": "24h", "job": { "queue": "d", "text": "x" } });
    http.put("/v1/schedules/late", &schedule).expect(201);
    http.post_nothing("/v1/schedules/late/run").problem(429, "too-many-queues");
    let metrics = http.get("/metrics").body;
    assert!(metrics.contains("\nrota_queues 4\n") && metrics.contains("\nrota_queues_limit 4\n"), "{metrics}");

    // Who uses one more has it to look at, and puts nothing into it: the put goes nowhere else.
    let mut wire = Wire::to(rota.address());
    wire.expect("use d", "USING d");
    assert_eq!(wire.try_put("put 0 0 60", b"x").line, "OUT_OF_MEMORY");
    wire.expect("watch e", "OUT_OF_MEMORY");
    wire.expect("watch a", "WATCHING 2");
    wire.expect("list-tube-used", "USING d");
    wire.expect("pause-tube d 60", "OUT_OF_MEMORY");
    drop(wire);
    until("the tube is gone", || (http.get("/v1/queues/d").status == 404).then_some(()));

    // Those that were there stay over a start, and what is there is worked on; when one goes there is room for another.
    rota.terminate();
    let rota = super::start(&data, &["--max-queues", "2"]);
    let http = Http::to(rota.http());
    refuse(&http);
    for queue in ["b", "c"] {
        let leases = http.post("/v1/leases", &json!({ "queues": [queue] })).expect(200);
        super::end(&http, &leases["leases"][0], "complete").expect(200);
        http.get(&format!("/v1/queues/{queue}")).problem(404, "queue-not-found");
    }
    refuse(&http);
    drop(rota);
    let rota = super::start(&data, &["--max-queues", "3"]);
    let http = Http::to(rota.http());
    http.post("/v1/jobs", &json!({ "queue": "d", "text": "x" })).expect(201);
    http.post("/v1/jobs", &json!({ "queue": "b", "text": "x" })).problem(429, "too-many-queues");
}

#[test]
fn who_does_not_read_leaves_room_for_the_answers_of_others() {
    let (_data, rota, http) = server(&["--max-job-size", "32MiB", "--sync", "never"]);
    let body = "x".repeat(24 << 20);
    http.post("/v1/jobs", &json!({ "queue": "work", "text": body })).expect(201);
    http.post("/v1/jobs", &json!({ "queue": "other", "text": body })).expect(201);
    let (rest, rest_bytes) = ("/v1/jobs/3", (32 << 20) - (1 << 19));
    http.post("/v1/jobs", &json!({ "queue": "rest", "text": "x".repeat(rest_bytes) })).expect(201);
    let small = json!({ "queue": "small", "text": "x" });
    let id = http.post("/v1/jobs", &small).expect(201)["id"].as_str().unwrap().to_owned();
    let request = http.bytes("GET /v1/jobs/1", "", "");
    // Half of the room for all of them is 128 MiB: these leave half a mebibyte of it.
    let requests = [vec![request.clone(); 4], vec![http.bytes(&format!("GET {rest}"), "", "")]].concat();
    let mut deaf: Vec<TcpStream> = requests
        .iter()
        .map(|request| {
            let mut stream = http.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let refused = until("all of them are answered", || Some(http.get("/v1/jobs/1")).filter(|got| got.status != 200));
    assert!(refused.head.contains("retry-after: "), "{refused:?}");
    let problem = refused.problem(503, "busy");
    assert!(problem["detail"].as_str().unwrap().contains("one address"), "{problem}");
    // Nor are jobs handed out that could not be sent: they stay where they are, and no attempt is counted.
    http.post("/v1/leases", &json!({ "queues": ["other"] })).problem(503, "busy");
    let other = http.get("/v1/jobs/2?body=none").expect(200);
    assert_eq!((&other["state"], &other["attempts"], &other["lost_leases"]), (&json!("ready"), &json!(0), &json!(0)));
    // What is short has its place, and so have others.
    http.get(&format!("/v1/jobs/{id}")).expect(200);
    http.post("/v1/jobs", &small).expect(201);
    // What was put of many is answered at length.
    http.post("/v1/jobs", &vec![small.clone(); 1_000].into()).problem(503, "busy");
    let mut stream = from("127.0.0.2", http.address());
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).expect(200)["body_bytes"], 24 << 20);
    for (stream, body_bytes) in deaf.iter_mut().zip([vec![24 << 20; 4], vec![rest_bytes]].concat()) {
        assert_eq!(Answer::read(stream).expect(200)["body_bytes"], body_bytes);
    }
    http.get("/v1/jobs/1").expect(200);
    assert_eq!(refused_puts(&rota), counts([("busy", 1_000)]));
    assert_eq!(http.get("/v1/queues/small").expect(200)["jobs"]["ready"], 2);
}

#[test]
fn http_never_takes_the_descriptors_that_queues_need() {
    let data = TempDir::new().unwrap();
    let command = wrapped(&["prlimit", "--nofile=104"], &on(data.path(), &["--http", "127.0.0.1:0"]));
    let rota = Rota::ready(command);
    let http = Http::to(rota.http());
    // More than the server may have open at all.
    let _idle: Vec<TcpStream> = (0..110).map(|_| idle(&http)).collect();
    let mut wires: Vec<Wire> = (0..20).map(|_| Wire::to(rota.address())).collect();
    for wire in &mut wires {
        wire.put("put 0 0 60", b"x");
    }
}

#[test]
fn two_thousand_wait_each_for_a_job_and_each_gets_one() {
    const PEERS: usize = 2_000;
    let (_data, _rota, http) = server(&["--sync", "never"]);
    let body = json!({ "queues": ["work"], "wait": "10m" }).to_string();
    let request = http.bytes("POST /v1/leases", "content-type: application/json\r\n", &body);
    let mut streams: Vec<TcpStream> = (0..PEERS)
        .map(|_| {
            let mut stream = http.connect();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    until("all of them wait", || (http.get("/v1/stats").expect(200)["waiting"] == PEERS).then_some(()));
    let jobs = vec![json!({ "queue": "work", "text": "x" }); 1_000];
    for _ in 0..2 {
        http.post("/v1/jobs", &Value::from(jobs.clone())).expect(200);
    }
    let mut ids: Vec<String> = streams
        .iter_mut()
        .map(|stream| {
            let answer = Answer::read(stream).expect(200);
            answer["leases"][0]["job"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), PEERS);
}

#[test]
fn a_slow_client_costs_only_itself() {
    let (_data, _rota, http) = server(&["--max-job-size", "32MiB", "--sync", "never"]);
    http.post("/v1/jobs", &json!({ "queue": "large", "text": "x".repeat(24 << 20) })).expect(201);
    // One that does not read its answer, and one that sends half of its request.
    let mut deaf = http.connect();
    deaf.write_all(http.bytes("GET /v1/jobs/1", "", "").as_bytes()).unwrap();
    let mut slow = http.connect();
    let request =
        http.bytes("POST /v1/jobs", "content-type: application/json\r\n", "{\"queue\": \"work\", \"text\": \"slow\"}");
    let (head, tail) = request.split_at(request.len() - 10);
    slow.write_all(head.as_bytes()).unwrap();
    for byte in tail.as_bytes() {
        for _ in 0..10 {
            put(&http, "fast");
        }
        slow.write_all(&[*byte]).unwrap();
    }
    Answer::read(&mut slow).expect(201);
    assert_eq!(Answer::read(&mut deaf).expect(200)["body_bytes"], 24 << 20);
}
