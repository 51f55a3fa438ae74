//! TLS on both ports of the real server: who gets in, who does not, and what becomes of certificates that change.

pub(crate) mod authority;
mod client;
mod files;
mod library;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::http::client::Http;
use crate::process::{self, DEADLINE, Rota, on, until};
use authority::{Authority, Pair, Wish};
use client::Hands;

/// A folder with an authority, and a certificate of it for the server.
struct Place {
    folder: TempDir,
    authority: Authority,
    ca: PathBuf,
    server: Pair,
}

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new("authority of a test");
        let ca = authority.file(&folder.path().join("ca.pem"));
        let server = authority.sign(folder.path(), "server", Wish::default());
        Place { folder, authority, ca, server }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command that starts a server with both ports inside TLS.
    fn command(&self, flags: &[&str]) -> Command {
        let mut command = on(&self.path().join("data"), &["--http", "127.0.0.1:0", "--http-tls", "127.0.0.1:0"]);
        command.args(["--beanstalkd-tls", "127.0.0.1:0", "--tls-cert"]).arg(&self.server.certificate);
        command.arg("--tls-key").arg(&self.server.key).args(flags);
        command
    }

    #[track_caller]
    fn start(&self, flags: &[&str]) -> Rota {
        Rota::ready(self.command(flags))
    }

    fn hands(&self) -> Hands<'_> {
        Hands::trusting(&self.ca)
    }
}

/// Runs a command of `rota`, not `serve`, without anything from this environment.
fn rota(arguments: &[&str]) -> Output {
    process::rota().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const STATS: &str = "GET /v1/stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[test]
fn both_ports_serve_inside_tls() {
    let place = Place::new();
    let server = place.start(&["--max-job-size", "4MiB"]);

    let mut queue = place.hands().shake(server.beanstalkd_tls()).unwrap();
    assert_eq!(queue.version(), rustls::ProtocolVersion::TLSv1_3);
    // Longer than any buffer on the way, in both directions, behind one another.
    let body = vec![b'x'; 3 << 20];
    let put = [format!("put 0 0 60 {}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat();
    queue.send([put.clone(), put].concat()).unwrap();
    assert_eq!([queue.line().unwrap(), queue.line().unwrap()], ["INSERTED 1", "INSERTED 2"]);
    queue.send("reserve\r\nreserve\r\n").unwrap();
    for id in [1, 2] {
        assert_eq!(queue.line().unwrap(), format!("RESERVED {id} {}", body.len()));
        assert!(queue.take(body.len() + 2) == [&body[..], b"\r\n"].concat());
    }
    // One waits, and another one puts.
    queue.send("reserve\r\n").unwrap();
    let mut other = place.hands().shake(server.beanstalkd_tls()).unwrap();
    other.send("put 0 0 60 1\r\ny\r\n").unwrap();
    assert_eq!(queue.line().unwrap(), "RESERVED 3 1");
    assert_eq!(queue.take(3), b"y\r\n");
    // Who ends its side is answered first; and the server says goodbye.
    other.send("peek 3\r\nlist-tube-used\r\n").unwrap();
    other.half_close();
    assert_eq!(other.rest().unwrap(), "INSERTED 3\r\nFOUND 3 1\r\ny\r\nUSING default\r\n");
    // A plain port has the same jobs.
    assert_eq!(crate::wire::Wire::to(server.address()).ask("peek 3").line, "FOUND 3 1");

    let mut http = place.hands().shake(server.http_tls()).unwrap();
    http.send(STATS).unwrap();
    let answer = http.rest().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"put\":3"), "{answer}");
}

#[test]
fn a_stream_of_jobs_comes_inside_tls_and_who_takes_nothing_is_cut_off() {
    let place = Place::new();
    let server = place.start(&["--max-job-size", "32MiB", "--sync", "never"]);
    let http = Http::to(server.http());
    let post = |path: &str, body: &str| http.post_text(path, body);
    let body = r#"{"queues":["work"],"max":2}"#;
    let head = "POST /v1/leases/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());

    assert_eq!(post("/v1/jobs", r#"{"queue":"work","text":"the first"}"#).status, 201);
    let mut stream = place.hands().shake(server.http_tls()).unwrap();
    stream.send(&request).unwrap();
    let lease = std::iter::repeat_with(|| line(&mut stream)).find(|line| line.contains("\"kind\":\"lease\"")).unwrap();
    assert!(lease.contains("\"text\":\"the first\""), "{lease}");
    let (_, rest) = lease.split_once("\"lease\":\"").unwrap();
    let lease = rest.split('"').next().unwrap();
    // What could not be sent goes back without fault, though all of it is on its way through one layer more.
    let large = format!(r#"{{"queue":"work","text":"{}","ttr":"20s"}}"#, "x".repeat(24 << 20));
    assert_eq!(post("/v1/jobs", &large).status, 201);
    let seen = until("it was reserved, and is ready again", || {
        let seen = http.get("/v1/jobs/2?body=none").expect(200);
        (seen["reserves"] != 0 && seen["state"] == "ready").then_some(seen)
    });
    assert_eq!((seen["lost_leases"].as_u64(), seen["reserves"].as_u64()), (Some(0), Some(1)));
    assert_eq!(http.post_nothing(&format!("/v1/leases/{lease}/complete")).status, 200, "what was told stays");
}

/// The next line, whose end is one of events'.
fn line(stream: &mut client::Tls) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        line.extend(stream.take(1));
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn what_is_spoken_is_agreed_on() {
    let place = Place::new();
    let server = place.start(&[]);
    let (queue, http) = (server.beanstalkd_tls(), server.http_tls());
    let offer = |protocols, address| {
        let shaken = Hands { protocols, ..place.hands() }.shake(address);
        shaken.map(|tls| tls.protocol()).map_err(|error| error.to_string())
    };
    assert_eq!(offer(&["h2", "http/1.1"], http), Ok(Some("http/1.1".into())));
    assert_eq!(offer(&["beanstalkd"], queue), Ok(Some("beanstalkd".into())));
    // A browser that was sent to the queue's port learns it before it says a word.
    for (protocols, address) in [(&["h2", "http/1.1"][..], queue), (&["h2"], http), (&["beanstalkd"], http)] {
        let refused = offer(protocols, address).unwrap_err();
        assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    }
    let old = Hands { versions: &[&rustls::version::TLS12], ..place.hands() };
    let mut old = old.shake(queue).unwrap();
    assert_eq!(old.version(), rustls::ProtocolVersion::TLSv1_2);
    assert_eq!(old.ask("list-tube-used").unwrap(), "USING default");
    // Nor does any port speak what another one does.
    for (address, first) in [(queue, "put 0 0 60 1\r\nx\r\n"), (http, STATS)] {
        let mut plain = TcpStream::connect(address).unwrap();
        plain.set_read_timeout(Some(DEADLINE)).unwrap();
        plain.write_all(first.as_bytes()).unwrap();
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer).ok();
        // At the most an alert.
        assert!(answer.first().is_none_or(|byte| *byte == 21), "{answer:?}");
    }
    for address in [server.address(), server.http()] {
        assert!(place.hands().shake(address).is_err());
    }
    let mut stats = place.hands().shake(queue).unwrap();
    assert_eq!(stats.ask("peek 1").unwrap(), "NOT_FOUND");
}

#[test]
fn clients_are_asked_for_their_certificates() {
    let place = Place::new();
    let folder = place.path();
    let clients = Authority::new("authority of clients");
    let clients_ca = clients.file(&folder.join("clients.pem"));
    let crl = clients.revoke(&folder.join("revoked.pem"), 7);
    let known = clients.sign(folder, "known", Wish { serial: 1, ..Wish::default() });
    let revoked = clients.sign(folder, "revoked-one", Wish { serial: 7, ..Wish::default() });
    let expired = clients.sign(folder, "expired", Wish { serial: 2, expired: true });
    let stranger =
        Authority::new("authority of clients").sign(folder, "stranger", Wish { serial: 1, ..Wish::default() });
    let of_server = place.authority.sign(folder, "of-server", Wish::default());
    let (ca, crl) = (clients_ca.to_str().unwrap(), crl.to_str().unwrap());
    let server = place.start(&["--tls-client-ca", ca, "--tls-client-crl", crl]);

    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let come = |shows: Option<&Pair>| {
            let hands = Hands { shows, versions, ..place.hands() };
            let queue = hands.shake(server.beanstalkd_tls()).and_then(|mut tls| tls.ask("list-tube-used"));
            let http = hands.shake(server.http_tls()).and_then(|mut tls| {
                tls.send(STATS)?;
                tls.rest()
            });
            (queue.map_err(|error| error.to_string()), http.map_err(|error| error.to_string()))
        };
        let (queue, http) = come(Some(&known));
        assert_eq!(queue.as_deref(), Ok("USING default"));
        assert!(http.unwrap().starts_with("HTTP/1.1 200 OK"));
        for (who, shows) in [
            ("nobody", None),
            ("revoked", Some(&revoked)),
            ("expired", Some(&expired)),
            ("a stranger by the same name", Some(&stranger)),
            ("one of another authority", Some(&of_server)),
        ] {
            let (queue, http) = come(shows);
            assert!(queue.is_err() && http.is_err(), "{who}: {queue:?} {http:?}");
        }
    }
    // Nobody who was sent away has done anything.
    let stats = Hands::showing(&place.ca, &known).shake(server.beanstalkd_tls()).unwrap().ask("stats").unwrap();
    assert!(stats.starts_with("OK "), "{stats}");
}

#[test]
fn a_handshake_that_never_ends_keeps_nobody_out() {
    let place = Place::new();
    let server = place.start(&[]);
    for (address, first) in [(server.beanstalkd_tls(), "list-tube-used\r\n"), (server.http_tls(), STATS)] {
        // More than may shake hands at a time: half of them say nothing, the others begin and stop.
        let mut silent: Vec<TcpStream> = (0..600).map(|_| TcpStream::connect(address).unwrap()).collect();
        for stream in silent.iter_mut().step_by(2) {
            stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        }
        let mut came = place.hands().shake(address).unwrap();
        came.send(first).unwrap();
        assert!(came.line().is_ok_and(|line| !line.is_empty()));
        // They are closed, the first of them by then.
        for stream in &mut silent[..2] {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let closed = stream.read_to_end(&mut Vec::new());
            assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        }
    }
}

#[test]
fn the_command_line_speaks_it() {
    let place = Place::new();
    let clients = Authority::new("authority of clients");
    let clients_ca = clients.file(&place.path().join("clients.pem"));
    let pair = clients.sign(place.path(), "known", Wish::default());
    let server = place.start(&["--tls-client-ca", clients_ca.to_str().unwrap()]);
    let (queue, http) =
        (format!("tls://{}", server.beanstalkd_tls()), format!("https://localhost:{}", server.http_tls().port()));
    let ca = place.ca.to_str().unwrap();
    let shown = ["--client-cert", pair.certificate.to_str().unwrap(), "--client-key", pair.key.to_str().unwrap()];
    let known = [&["--ca", ca][..], &shown].concat();

    let put = rota(&[&["put", "mail", "hello", "--server", &queue], &known[..]].concat());
    assert_eq!(text(&put), "1\n");
    let next = rota(&[&["next", "mail", "--server", &queue], &known[..]].concat());
    assert_eq!(text(&next), "hello");
    let snapshot = rota(&[&["snapshot", "--http", &http], &known[..]].concat());
    assert!(snapshot.status.success() && text(&snapshot).contains(": 0 jobs"), "{}", text(&snapshot));

    for (arguments, hint) in [
        (vec!["--ca", ca], "show one with --client-cert FILE"),
        (shown.to_vec(), "with --ca FILE"),
        (vec!["--ca", clients_ca.to_str().unwrap()], "with --ca FILE"),
    ] {
        for command in [&["list", "--server", &queue][..], &["snapshot", "--http", &http]] {
            let refused = rota(&[command, &arguments].concat());
            assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
            assert!(text(&refused).contains(hint), "{arguments:?} {command:?}: {}", text(&refused));
        }
    }
    let plain = format!("tls://{}", server.address());
    let refused = rota(&["list", "--server", &plain, "--ca", ca]);
    assert!(text(&refused).contains("no TLS with tls://"), "{}", text(&refused));
    let missing = rota(&["list", "--server", &queue, "--ca", "/nowhere/ca.pem"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("/nowhere/ca.pem: cannot read it"), "{}", text(&missing));
    let half = rota(&["list", "--server", &queue, "--client-cert", shown[1]]);
    assert_eq!(half.status.code(), Some(2), "{}", text(&half));
    for (load, hint) in [(queue.as_str(), "with --ca FILE"), (plain.as_str(), "no TLS with tls://")] {
        let bench = rota(&["bench", "--server", load]);
        assert!(bench.status.code() == Some(1) && text(&bench).contains(hint), "{}", text(&bench));
    }
}

#[test]
fn the_load_generator_speaks_it() {
    let place = Place::new();
    let clients = Authority::new("authority of clients");
    let clients_ca = clients.file(&place.path().join("clients.pem"));
    let pair = clients.sign(place.path(), "known", Wish::default());
    let server = place.start(&["--storage", "memory", "--tls-client-ca", clients_ca.to_str().unwrap()]);
    let queue = format!("tls://localhost:{}", server.beanstalkd_tls().port());
    let [ca, certificate, key] = [&place.ca, &pair.certificate, &pair.key].map(|path| path.to_str().unwrap());
    let known = ["--server", &queue, "--ca", ca, "--client-cert", certificate, "--client-key", key];
    for load in [
        "--mix put --connections 1",
        "--mix cycle --connections 7 --depth 16 --threads 2",
        // More than a socket holds, and records of TLS in many pieces.
        "--mix cycle --connections 3 --depth 64 --size 60000",
        "--mix cycle --connections 3 --depth 4 --batch 50 --size 3000",
        "--mix delayed --connections 4 --depth 8 --delay-range 0s..1s",
        "--mix cancel --connections 4 --depth 64",
    ] {
        let load: Vec<&str> = load.split(' ').collect();
        let bench = rota(&[&["bench", "--json", "--jobs", "600"], &load[..], &known].concat());
        assert!(bench.status.success(), "{load:?}: {}", text(&bench));
        let report: serde_json::Value = serde_json::from_slice(&bench.stdout).unwrap();
        let round = &report["rounds"][0];
        assert_eq!(
            (&round["operations"], &round["stopped_by_time"]),
            (&600.into(), &false.into()),
            "{load:?}: {report}"
        );
        assert_eq!(report["server"], queue);
    }
}

#[test]
fn a_webhook_is_called_inside_tls_by_who_trusts_its_authority() {
    let place = Place::new();
    let receiver = place.start(&[]);
    let folder = TempDir::new().unwrap();
    let stranger = Authority::new("another one").file(&folder.path().join("ca.pem"));
    for (trusted, outcome, words) in
        [(&place.ca, "refused", "\"status\":404"), (&stranger, "unanswered", "certificate")]
    {
        let mut command = on(folder.path(), &["--http", "127.0.0.1:0", "--storage", "memory"]);
        command.args(["--webhook-allow", "127.0.0.1"]);
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        let caller = Rota::ready(command);
        let http = crate::http::client::Http::to(caller.http());
        let url = format!("https://{}/nowhere", receiver.http_tls());
        http.put("/v1/webhooks/hook", &serde_json::json!({ "url": url, "paused": true })).expect(201);
        let tried = http.post_nothing("/v1/webhooks/hook/test").expect(200);
        assert_eq!(tried["call"]["outcome"], outcome, "{tried}");
        assert!(tried.to_string().contains(words), "{tried}");
    }
}
