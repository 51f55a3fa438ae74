//! Snapshots in object stores: real emulators of Amazon S3, Google Cloud Storage and Azure Blob Storage, each started by
//! its test; and the secrets that must never be seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CLOUDS, command, count, is_taken, put_all, serve, take};
use crate::http::client::Http;
use crate::process::{DEADLINE, Rota, until, without};
use crate::serve::metrics::{counts, get, refused_puts};
use crate::wire::{Wire, batch_bytes, put_bytes};

/// What all emulators are told is secret, and what must not be found anywhere.
const SECRET: &str = "marker-of-a-secret-that-nobody-may-see";

const BUCKET: &str = "rota-test";

/// Everything that a server and commands printed.
type Printed = String;

/// An emulator, ended with the test.
struct Emulator {
    child: Child,
    /// What an address of it begins with.
    scheme: &'static str,
    variables: Vec<(&'static str, String)>,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A path below the folder that `cargo xtask setup` fills.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/emulators").join(path);
    assert!(path.exists(), "{} is missing: run cargo xtask setup", path.display());
    path
}

/// Starts a program and waits for the line in which it tells its URL.
fn start(mut command: Command) -> (Child, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?} ({error}): run cargo xtask setup"));
    let (sender, lines) = mpsc::channel();
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
    for stream in streams {
        let sender = sender.clone();
        // It reads on, so that the emulator never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    let mut said = Vec::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                let url = line.find("http://127.0.0.1:").map(|at| line[at..].trim_end_matches('/').to_owned());
                said.push(line);
                if let Some(url) = url {
                    return (child, url);
                }
            }
            Err(reason) => {
                child.kill().ok();
                child.wait().ok();
                panic!("{command:?} never told its URL ({reason}): {said:?}");
            }
        }
    }
}

fn socket(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// Sends a request; the status of the answer.
fn send(url: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(socket(url)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let host = socket(url);
    write!(stream, "{head}\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn s3() -> Emulator {
    let mut server = Command::new(installed("venv/bin/moto_server"));
    server.args(["-H", "127.0.0.1", "-p", "0"]);
    let (child, url) = start(server);
    let credential =
        "AWS4-HMAC-SHA256 Credential=test/20261125/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    until("the bucket is there", || {
        send(&url, &format!("PUT /{BUCKET} HTTP/1.1\r\nAuthorization: {credential}")).contains(" 200 ").then_some(())
    });
    let variables = vec![
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ("AWS_SESSION_TOKEN", SECRET.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", url),
    ];
    Emulator { child, scheme: "s3", variables }
}

fn gs() -> Emulator {
    let mut server = Command::new(installed("gcs"));
    server.args([BUCKET, SECRET]);
    let (child, url) = start(server);
    let variables = vec![("GOOGLE_BASE_URL", url), ("GOOGLE_BEARER_TOKEN", SECRET.to_owned())];
    Emulator { child, scheme: "gs", variables }
}

fn azblob() -> Emulator {
    let key = STANDARD.encode(SECRET);
    let mut server = Command::new("node");
    server.arg(installed("node/node_modules/azurite/dist/src/blob/main.js"));
    server.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"]);
    server.env("AZURITE_ACCOUNTS", format!("rotatest:{key}"));
    let (child, url) = start(server);
    // Making the container is the one request of the tests' own: signed as "Authorize with Shared Key" says.
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap();
    let head = format!("x-ms-date:{date}\nx-ms-version:2021-08-06\n");
    let what = format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{head}/rotatest/rotatest/{BUCKET}\nrestype:container");
    let signature = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), what.as_bytes()));
    let request = format!(
        "PUT /rotatest/{BUCKET}?restype=container HTTP/1.1\r\nx-ms-date: {date}\r\nx-ms-version: 2021-08-06\r\n\
         Authorization: SharedKey rotatest:{signature}"
    );
    let answer = send(&url, &request);
    assert!(answer.contains(" 201 "), "{answer}");
    let variables = vec![
        ("AZURE_STORAGE_ACCOUNT_NAME", "rotatest".to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", key),
        ("AZURE_ENDPOINT", format!("{url}/rotatest")),
    ];
    Emulator { child, scheme: "azblob", variables }
}

impl Emulator {
    fn address(&self, bucket: &str) -> String {
        format!("{}://{bucket}/some/where", self.scheme)
    }

    /// A command that knows where the emulator is, and its secret.
    fn tell(&self, command: Command) -> Command {
        let mut command = without(command, &CLOUDS);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the binary; what it printed, and whether it succeeded.
    fn run(&self, arguments: &[&str], printed: &mut Printed) -> (bool, String) {
        let output = self.tell(command(arguments)).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        printed.push_str(&out);
        printed.push_str(&err);
        (output.status.success(), format!("{out}{err}"))
    }
}

/// Takes, lists, looks into, restores and damages snapshots there; then everything that was printed is searched.
fn walk(emulator: &Emulator) {
    let mut printed = Printed::new();
    let place = emulator.address(BUCKET);
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(emulator.tell(serve(data.path(), &["--snapshot-to", &place, "--sync", "never"])));
    // Two segments.
    let jobs: Vec<_> = (0..420u32).map(|n| (format!("put {n} 0 60"), vec![n as u8; 50_000])).collect();
    put_all(&mut Wire::to(rota.address()), &jobs);
    let taken = take(&rota);
    assert_eq!(taken["jobs"], 420);
    let address = taken["address"].as_str().unwrap();
    assert!(address.starts_with(&format!("{place}/2")), "{address}");
    let http = rota.http().to_string();
    let (good, told) = emulator.run(&["snapshot", &format!("{place}/elsewhere"), "--http", &http], &mut printed);
    assert!(good && told.contains("420 jobs"), "{told}");

    let (good, listed) = emulator.run(&["inspect", &place, "--json"], &mut printed);
    assert!(good, "{listed}");
    let found: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0]["state"].as_str(), &found[0]["name"]), (Some("whole"), &taken["name"]));
    let (good, shown) = emulator.run(&["inspect", address], &mut printed);
    assert!(good && shown.contains("default    420"), "{shown}");
    let (good, shown) = emulator.run(&["inspect", &place, "--jobs"], &mut printed);
    assert!(good && shown.lines().count() == 420, "{shown}");

    let fresh = TempDir::new().unwrap();
    let restored = Rota::ready(emulator.tell(serve(fresh.path(), &["--restore", &place])));
    assert_eq!(count(restored.address()), 420);
    let memory = Rota::ready(emulator.tell(serve(fresh.path(), &["--storage", "memory", "--restore", address])));
    assert_eq!(count(memory.address()), 420);

    // What is not there, and what is refused.
    let (good, told) = emulator.run(&["inspect", &format!("{place}/nothing")], &mut printed);
    assert!(!good && told.contains("there is no snapshot at"), "{told}");
    let missing = emulator.address("no-such-bucket");
    let (good, told) = emulator.run(&["snapshot", &missing, "--http", &http], &mut printed);
    assert!(!good && told.contains("no snapshot was taken: cannot write"), "{told}");
    let wrong_secret = format!("wrong-{SECRET}");
    let wrong = match emulator.scheme {
        "s3" => None,
        "gs" => Some(("GOOGLE_BEARER_TOKEN", wrong_secret.clone())),
        _ => Some(("AZURE_STORAGE_ACCOUNT_KEY", STANDARD.encode(&wrong_secret))),
    };
    if let Some((name, value)) = wrong {
        let output = emulator.tell(command(&["inspect", &place])).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
    }

    printed.push_str(&get(rota.http(), "/metrics").1);
    rota.signal("USR1");
    assert_eq!(rota.wait().code(), Some(0), "{}", rota.stderr());
    let last = rota.line(0, |line| line.starts_with("snapshot "));
    assert!(last.contains(": 420 jobs, "), "{last}");
    for server in [&rota, &restored, &memory] {
        printed.push_str(&server.stdout());
        printed.push_str(&server.stderr());
    }
    for secret in [SECRET.to_owned(), STANDARD.encode(SECRET), STANDARD.encode(&wrong_secret)] {
        assert!(!printed.contains(&secret), "a secret was printed: {printed}");
    }
}

#[test]
fn amazon_s3() {
    walk(&s3());
}

#[test]
fn google_cloud_storage() {
    walk(&gs());
}

#[test]
fn azure_blob_storage() {
    walk(&azblob());
}

/// A server is killed while it puts: what is there has no manifest, and is no snapshot.
#[test]
fn a_killed_server_leaves_no_half_snapshot_in_a_bucket() {
    let emulator = s3();
    let place = emulator.address(BUCKET);
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(emulator.tell(serve(data.path(), &["--snapshot-to", &place, "--sync", "never"])));
    let jobs: Vec<_> = (0..900u32).map(|n| (format!("put {n} 0 60"), vec![n as u8; 60_000])).collect();
    put_all(&mut Wire::to(rota.address()), &jobs);
    let http = rota.http();
    let asked = std::thread::spawn(move || is_taken(http));
    let mut printed = Printed::new();
    // Its first segment is there, and there are three more to come.
    until("something is there", || {
        emulator.run(&["inspect", &place, "--json"], &mut printed).1.contains("\"state\"").then_some(())
    });
    rota.kill();
    asked.join().unwrap();
    let listed = emulator.run(&["inspect", &place, "--json"], &mut printed).1;
    assert!(listed.contains("\"unfinished\"") || listed.contains("\"whole\""), "{listed}");
    if listed.contains("\"unfinished\"") {
        let fresh = TempDir::new().unwrap();
        let (code, _, err) = Rota::ended(emulator.tell(serve(fresh.path(), &["--restore", &place])));
        assert!(code == 3 && err.contains("there is no snapshot at"), "{err}");
    }
}

/// Starts a server, full of jobs, whose snapshots go to a store that takes a connection and nothing else.
fn with_a_deaf_store(data: &Path, deaf: &TcpListener) -> (Rota, Wire) {
    let mut command = serve(data, &["--storage", "memory", "--snapshot-to", "s3://rota-test"]);
    command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")]);
    command.env("AWS_ENDPOINT_URL", format!("http://{}", deaf.local_addr().unwrap()));
    let rota = Rota::ready(command);
    let mut wire = Wire::to(rota.address());
    // So much that the walk over them waits for the place.
    let jobs: Vec<_> = (0..1_500).map(|_| ("put 9 0 60".to_owned(), vec![b'x'; 60_000])).collect();
    put_all(&mut wire, &jobs);
    (rota, wire)
}

#[test]
fn while_the_last_snapshot_is_taken_only_puts_are_refused() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let data = TempDir::new().unwrap();
    let (mut rota, mut wire) = with_a_deaf_store(data.path(), &deaf);
    rota.signal("USR1");
    deaf.accept().unwrap();
    assert_eq!(wire.try_put("put 0 0 60", b"one more").line, "DRAINING");
    wire.send(batch_bytes(&vec![put_bytes("put 0 0 60", b"x"); 2])).unwrap();
    assert_eq!(wire.line().unwrap(), "DRAINING");
    let http = Http::to(rota.http());
    let job = json!({ "queue": "default", "text": "one more" });
    http.post("/v1/jobs", &job).problem(503, "draining");
    let answer = http.post("/v1/jobs", &json!([job, job])).expect(200);
    let statuses = answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_u64());
    assert_eq!(statuses.collect::<Vec<_>>(), [Some(503); 2], "{answer}");
    assert_eq!(refused_puts(&rota), counts([("draining", 6)]));
    assert_eq!(http.get("/v1/queues/default").expect(200)["refused_puts"]["draining"], 6);
    wire.expect("delete 1", "DELETED");
    assert_eq!(wire.ask("reserve").number(1), 2);
    assert_eq!(wire.ask("stats").field("draining"), "true");
    // It can still be told to stop at once.
    assert_eq!(rota.terminate().code(), Some(0));
}

/// A store that takes a connection and nothing else: the changes that happen meanwhile are kept up to a bound, then the
/// snapshot fails, and the server never noticed.
#[test]
fn a_place_that_takes_nothing_costs_the_snapshot_alone() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let data = TempDir::new().unwrap();
    let (rota, mut wire) = with_a_deaf_store(data.path(), &deaf);
    let http = rota.http();
    let asked = std::thread::spawn(move || super::request(http, super::POST, "{}"));
    deaf.accept().unwrap();
    // Each pass puts and deletes 12 MB; 256 MiB are too much.
    let jobs: Vec<_> = (0..200).map(|_| ("put 0 0 60".to_owned(), vec![b'x'; 60_000])).collect();
    let mut passes = 0;
    while !asked.is_finished() {
        let ids = put_all(&mut wire, &jobs);
        let deletes: String = ids.iter().map(|id| format!("delete {id}\r\n")).collect();
        wire.send(deletes).unwrap();
        for _ in ids {
            assert_eq!(wire.answer().unwrap().line, "DELETED");
        }
        passes += 1;
        assert!(passes < 1_000, "the snapshot never failed");
    }
    let (status, _, body) = asked.join().unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("the place of the snapshot is too slow") && !body.contains(SECRET), "{body}");
    assert_eq!(count(rota.address()), 1_500);
}
