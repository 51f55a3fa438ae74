//! Traces: with the feature, what a collector of OpenTelemetry is sent of jobs; without it, what is said to whoever asks for it.

#[cfg(feature = "otel")]
mod collector;

#[cfg(not(feature = "otel"))]
#[test]
fn a_program_without_traces_says_so() {
    let data = tempfile::TempDir::new().unwrap();
    let mut command = crate::process::on(data.path(), &[]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    let rota = crate::process::Rota::ready(command);
    let said = rota.line(1, |line| line.contains("OTEL_EXPORTER_OTLP_ENDPOINT"));
    assert!(said.ends_with("this program was built without traces: build it with --features otel"), "{said}");
}

#[cfg(feature = "otel")]
mod with_traces {
    use std::io::Write;
    use std::process::Command;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::super::client::{Answer, Http};
    use super::collector::{Collector, Span};
    use crate::process::{Rota, on, until, without};
    use crate::wire::{Wire, batch_bytes, put_bytes};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PRODUCER: &str = "00f067aa0ba902b7";

    fn command(data: &TempDir, endpoint: &str) -> Command {
        let mut command = without(on(data.path(), &["--http", "127.0.0.1:0"]), &["OTEL_"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("OTEL_BSP_SCHEDULE_DELAY", "50");
        command
    }

    fn put(http: &Http, queue: &str, sampled: &str) -> String {
        let headers = json!({ "Traceparent": format!("00-{TRACE}-{PRODUCER}-{sampled}"), "other": "x" });
        let job = http.post("/v1/jobs", &json!({ "queue": queue, "text": "x", "headers": headers })).expect(201);
        job["id"].as_str().unwrap().to_owned()
    }

    fn lease(http: &Http, queue: &str) -> String {
        let leases = http.post("/v1/leases", &json!({ "queues": [queue] })).expect(200);
        leases["leases"][0]["lease"].as_str().expect("a job is ready").to_owned()
    }

    fn end(http: &Http, lease: &str, how: &str, body: &Value) {
        http.post(&format!("/v1/leases/{lease}/{how}"), body).expect(200);
    }

    #[test]
    fn a_job_that_fails_once_is_in_its_producers_trace() {
        let collector = Collector::new();
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(command(&data, &collector.url()));
        let http = Http::to(rota.http());
        let id = put(&http, "mail", "01");
        end(&http, &lease(&http, "mail"), "fail", &json!({ "error": "no such mailbox", "delay": "0s" }));
        end(&http, &lease(&http, "mail"), "complete", &json!({}));
        let spans = collector.wait_for_jobs(5);
        assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
        let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<&Span>>();
        let [put] = named("put mail")[..] else { panic!("{spans:?}") };
        assert_eq!((put.parent.as_str(), put.kind), (PRODUCER, 4));
        for (key, value) in [
            ("messaging.system", "rota"),
            ("messaging.destination.name", "mail"),
            ("messaging.message.id", id.as_str()),
            ("messaging.operation.type", "send"),
        ] {
            assert_eq!(put.attributes.get(key).map(String::as_str), Some(value), "{put:?}");
        }
        assert_eq!(collector.resource("service.name"), "rota");
        let (waits, attempts) = (named("wait mail"), named("process mail"));
        assert_eq!((waits.len(), attempts.len()), (2, 2), "{spans:?}");
        assert!(waits.iter().chain(&attempts).all(|span| span.parent == put.id), "{spans:?}");
        assert!(attempts.iter().all(|span| span.kind == 5), "{spans:?}");
        // What follows begins where what was before it ended.
        let times = [waits[0], attempts[0], waits[1], attempts[1]].map(|span| (span.start, span.end));
        assert!(times.windows(2).all(|pair| pair[0].1 == pair[1].0) && times[0].0 == put.start, "{times:?}");
        assert!(times.iter().all(|(start, end)| start <= end), "{times:?}");
        let outcome = |span: &Span| (span.attributes["rota.job.outcome"].clone(), span.status, span.message.clone());
        assert_eq!(outcome(attempts[0]), ("failed".into(), 2, "no such mailbox".into()));
        assert_eq!(outcome(attempts[1]), ("completed".into(), 1, String::new()));
        let status = rota.terminate();
        assert_eq!((status.code(), rota.stderr().as_str()), (Some(0), ""));
    }

    #[test]
    fn what_is_lost_and_given_back_is_said_and_what_nobody_sampled_is_not_sent() {
        let collector = Collector::new();
        let data = TempDir::new().unwrap();
        let mut command = command(&data, &collector.url());
        command.env("OTEL_SERVICE_NAME", "jobs");
        let mut rota = Rota::ready(command);
        let http = Http::to(rota.http());
        put(&http, "quiet", "00");
        end(&http, &lease(&http, "quiet"), "complete", &json!({}));
        let mut wire = Wire::to(rota.address());
        wire.put("put 0 0 60", b"x");
        let id = wire.ask("reserve").number(1);
        wire.expect(&format!("release {id} 0 0"), "RELEASED");
        wire.ask("reserve");
        wire.expect(&format!("bury {id} 0"), "BURIED");
        wire.expect(&format!("kick-job {id}"), "KICKED");
        wire.ask("reserve");
        drop(wire);
        let mut wire = Wire::to(rota.address());
        until("the job is ready again", || {
            (wire.ask("stats-tube default").count("current-jobs-ready") == 1).then_some(())
        });
        wire.ask("reserve");
        // The put, four times that it waited, three attempts; the fourth ends with the server.
        collector.wait_for_jobs(8);
        assert_eq!(rota.terminate().code(), Some(0));
        let spans = collector.wait_for_jobs(9);
        assert_eq!(spans.len(), 9, "{spans:?}");
        assert!(spans.iter().all(|span| span.name.ends_with(" default")), "{spans:?}");
        let put = spans.iter().find(|span| span.name == "put default").unwrap();
        assert_eq!(put.parent, "");
        assert!(spans.iter().all(|span| span.trace == put.trace && (span.parent == put.id || span.id == put.id)));
        let attempts = spans.iter().filter(|span| span.name == "process default");
        let outcomes: Vec<_> =
            attempts.map(|span| (span.attributes["rota.job.outcome"].as_str(), span.status)).collect();
        assert_eq!(outcomes, [("released", 0), ("buried", 2), ("lost", 2), ("lost", 2)]);
        assert_eq!(collector.resource("service.name"), "jobs");
    }

    #[test]
    fn a_job_of_before_the_start_is_followed_by_its_header() {
        let collector = Collector::new();
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(command(&data, ""));
        put(&Http::to(rota.http()), "mail", "01");
        assert_eq!((rota.terminate().code(), rota.stderr().as_str()), (Some(0), ""));
        let rota = Rota::ready(command(&data, &collector.url()));
        let http = Http::to(rota.http());
        end(&http, &lease(&http, "mail"), "complete", &json!({}));
        let spans = collector.wait_for_jobs(1);
        assert_eq!(spans.len(), 1, "{spans:?}");
        assert_eq!((&spans[0].name[..], &spans[0].trace[..], &spans[0].parent[..]), ("process mail", TRACE, PRODUCER));
    }

    /// Asks with the producer's context, sampled or not.
    fn ask(http: &Http, request: &str, sampled: &str, body: &str) -> u16 {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let headers = format!("traceparent: 00-{TRACE}-{PRODUCER}-{sampled}\r\nauthorization: Bearer secret\r\n{kind}");
        http.ask(request, &headers, body).status
    }

    #[test]
    fn each_request_is_a_span_that_tells_its_page_and_no_more() {
        let collector = Collector::new();
        let data = TempDir::new().unwrap();
        let mut rota = Rota::ready(command(&data, &collector.url()));
        let http = Http::to(rota.http());
        let mut expected = Vec::new();
        for (request, body, status, name) in [
            ("POST /v1/jobs", r#"{"queue":"secret","text":"secret","key":"secret"}"#, 201, "POST /v1/jobs"),
            ("GET /v1/jobs/1?body=secret", "", 400, "GET /v1/jobs/{id}"),
            ("GET /v1/queues/secret/keys/secret", "", 200, "GET /v1/queues/{queue}/keys/{key}"),
            ("GET /v1/secret", "", 404, "GET"),
            ("SECRET /v1/jobs", "", 405, "HTTP /v1/jobs"),
            ("POST /v1/leases/1.1.1/complete", "", 409, "POST /v1/leases/{lease}/complete"),
            // Nothing but its own word has a look at the server told of.
            ("GET /healthz", "", 200, "GET /healthz"),
        ] {
            assert_eq!(ask(&http, request, "01", body), status, "{request}");
            expected.push((name, status.to_string()));
        }
        assert_eq!(ask(&http, "GET /v1/stats", "00", ""), 200, "nobody sampled it");
        for looked_at in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(http.get(looked_at).status, 200);
        }
        assert_eq!(http.get("/v1/stats").status, 200);
        let spans = collector.wait_for_requests(expected.len() + 1);
        assert_eq!(rota.terminate().code(), Some(0));
        let spans = if spans.len() == expected.len() + 1 { spans } else { panic!("{spans:?}") };
        for (span, (name, status)) in spans.iter().zip(&expected) {
            assert_eq!((&span.name[..], &span.trace[..], &span.parent[..]), (*name, TRACE, PRODUCER), "{span:?}");
            assert_eq!(&span.attributes["http.response.status_code"], status, "{span:?}");
            assert!(span.start <= span.end && span.status == 0 && span.message.is_empty(), "{span:?}");
            let attribute = |key: &str| span.attributes.get(key).map(String::as_str);
            let (method, route) = name.split_once(' ').map_or((*name, None), |(method, route)| (method, Some(route)));
            assert_eq!(attribute("http.request.method"), Some(if method == "HTTP" { "_OTHER" } else { method }));
            assert_eq!(attribute("http.route"), route);
            assert_eq!((attribute("url.scheme"), attribute("network.protocol.version")), (Some("http"), Some("1.1")));
            assert_eq!(span.attributes.len(), 4 + usize::from(route.is_some()), "{span:?}");
        }
        let own = spans.last().unwrap();
        assert_eq!((&own.name[..], &own.parent[..]), ("GET /v1/stats", ""));
        assert_ne!(own.trace, TRACE);
        assert!(!format!("{spans:?}").to_lowercase().contains("secret"), "{spans:?}");
        assert_eq!(rota.stderr(), "");
    }

    #[test]
    fn a_wait_is_in_its_span_and_a_stream_is_not() {
        let collector = Collector::new();
        let data = TempDir::new().unwrap();
        let rota = Rota::ready(command(&data, &collector.url()));
        let http = Http::to(rota.http());
        // All of them go on: their spans come all the same.
        let streams = ["GET /v1/events", "POST /v1/leases/stream"].map(|request| {
            let body = if request.starts_with("POST") { r#"{"queues":["mail"]}"# } else { "" };
            let mut stream = http.connect();
            let bytes = http.bytes(request, "content-type: application/json\r\n", body);
            stream.write_all(bytes.as_bytes()).unwrap();
            assert_eq!(Answer::begun(&mut stream).status, 200);
            stream
        });
        let spans = collector.wait_for_requests(2);
        let names: Vec<&str> = spans.iter().map(|span| &span.name[..]).collect();
        assert_eq!(names, ["GET /v1/events", "POST /v1/leases/stream"]);
        drop(streams);
        let waiting = || Wire::to(rota.address()).ask("stats").count("current-waiting");
        until("the stream is gone", || (waiting() == 0).then_some(()));
        let wait = r#"{"queues":["other"],"wait":"10m"}"#;
        let mut stream = http.connect();
        let request = http.bytes("POST /v1/leases", "content-type: application/json\r\n", wait);
        stream.write_all(request.as_bytes()).unwrap();
        until("it waits", || (waiting() == 1).then_some(()));
        // Who goes away has no answer.
        drop(stream);
        let spans = collector.wait_for_requests(3);
        assert_eq!((&spans[2].name[..], &spans[2].attributes["error.type"][..]), ("POST /v1/leases", "client_gone"));
        assert!(!spans[2].attributes.contains_key("http.response.status_code"), "{spans:?}");
    }

    #[test]
    fn a_collector_that_is_not_there_is_told_of_and_keeps_nobody_waiting() {
        let data = TempDir::new().unwrap();
        let url = format!("http://{}", crate::server::free_address());
        let mut command = command(&data, &url);
        command.env("OTEL_BSP_MAX_QUEUE_SIZE", "2").env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        let mut rota = Rota::ready(command);
        let mut wire = Wire::to(rota.address());
        for _ in 0..200 {
            wire.put("put 0 0 60", b"x");
        }
        rota.line(1, |line| line.starts_with(&format!("rota: traces: {url}/v1/traces does not take them: ")));
        for _ in 0..200 {
            let id = wire.ask("reserve").number(1);
            wire.expect(&format!("delete {id}"), "DELETED");
        }
        assert_eq!(rota.terminate().code(), Some(0));
        let said = rota.stderr();
        let lost: Vec<&str> = said.lines().filter(|line| line.starts_with("rota: traces: lost ")).collect();
        assert!(lost.concat().contains("spans that came faster than they were taken"), "{said}");
        assert!(lost.concat().contains("spans that the collector did not take"), "{said}");
    }

    #[test]
    fn jobs_past_the_bound_are_not_followed_and_that_is_told() {
        const FOLLOWED: u64 = 1 << 16;
        const BATCHES: u64 = 66;
        let data = TempDir::new().unwrap();
        let mut command = command(&data, "http://127.0.0.1:1");
        // What is followed is so, sampled or not.
        command.env("OTEL_TRACES_SAMPLER", "always_off");
        let mut rota = Rota::ready(command);
        let mut wire = Wire::to(rota.address());
        let puts = batch_bytes(&vec![put_bytes("put 0 0 60", b"x"); 1_000]);
        for _ in 0..BATCHES {
            wire.send(&puts).unwrap();
            assert!(wire.answer().unwrap().line.starts_with("BATCH_INSERTED 1000 "));
        }
        let told =
            |line: &str| line.strip_prefix("rota: traces: lost ").is_some_and(|rest| rest.contains(" not followed"));
        rota.line(1, told);
        assert_eq!(rota.terminate().code(), Some(0));
        let said = rota.stderr();
        let counts = said.lines().filter(|line| told(line)).map(|line| line.split(' ').nth(3).unwrap());
        let lost: u64 = counts.map(|count| count.parse::<u64>().unwrap()).sum();
        assert_eq!(lost, BATCHES * 1_000 - FOLLOWED, "{said}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_the_start() {
        for (name, value, expected) in [
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "grpc",
                "OTEL_EXPORTER_OTLP_PROTOCOL: \"grpc\" is not spoken to a collector",
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "not a url", "cannot send traces: "),
        ] {
            let data = TempDir::new().unwrap();
            let mut command = command(&data, "http://127.0.0.1:1");
            command.env(name, value);
            let (code, _, said) = Rota::ended(command);
            assert!(code == 2 && said.starts_with(&format!("error: {expected}")), "{code} {said}");
        }
    }
}
