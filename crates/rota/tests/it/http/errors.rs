//! What is refused, and what the refusal says.

use serde_json::{Value, json};

use super::server;

#[test]
fn what_is_wrong_in_a_body_is_said_with_its_place() {
    let (_data, _rota, http) = server(&[]);
    let whole = json!({ "queue": "work", "text": "x" });
    let with = |member: &str, value: Value| {
        let mut job = whole.clone();
        job[member] = value;
        job.to_string()
    };
    let cases = [
        (with("quue", json!(1)), 422, "unknown-field", "#/quue", "write \"queue\""),
        (with("a~/b", json!(1)), 422, "unknown-field", "#/a~0~1b", "the fields are queue, json, "),
        (with("queue", json!("a b")), 422, "bad-value", "#/queue", ""),
        (with("queue", json!("-a")), 422, "bad-value", "#/queue", ""),
        (with("queue", json!("q".repeat(201))), 422, "bad-value", "#/queue", ""),
        (with("queue", json!("q\r\ndelete 1")), 422, "bad-value", "#/queue", ""),
        (with("queue", json!(null)), 422, "bad-value", "#/queue", ""),
        (with("priority", json!(-1)), 422, "bad-value", "#/priority", ""),
        (with("priority", json!(4_294_967_296_u64)), 422, "bad-value", "#/priority", ""),
        (with("priority", json!(1.5)), 422, "bad-value", "#/priority", ""),
        (with("ttr", json!("0s")), 422, "bad-value", "#/ttr", ""),
        (with("ttr", json!("5")), 422, "bad-value", "#/ttr", ""),
        (with("ttr", json!(5)), 422, "bad-value", "#/ttr", ""),
        (with("ttr", json!("-5s")), 422, "bad-value", "#/ttr", ""),
        (with("delay", json!("1y")), 422, "bad-value", "#/delay", ""),
        (with("run_at", json!("tomorrow")), 422, "bad-value", "#/run_at", ""),
        (with("run_at", json!("9999-01-01T00:00:00Z")), 422, "bad-value", "#/run_at", ""),
        (with("key", json!("")), 422, "bad-value", "#/key", ""),
        (with("key", json!("k".repeat(201))), 422, "bad-value", "#/key", ""),
        (with("on_conflict", json!("ignore")), 422, "bad-value", "#/on_conflict", ""),
        (with("max_attempts", json!(65_536)), 422, "bad-value", "#/max_attempts", ""),
        (with("base64", json!("AA==")), 422, "bad-value", "#", "give only one"),
        (json!({ "queue": "work" }).to_string(), 422, "bad-value", "#", "give one of"),
        (json!({ "text": "x" }).to_string(), 422, "bad-value", "#", ""),
        (json!({ "queue": "work", "base64": "?" }).to_string(), 422, "bad-value", "#/base64", ""),
        (json!([whole, { "queue": 1 }]).to_string(), 422, "bad-value", "#/1/queue", ""),
        (json!([whole, 5]).to_string(), 422, "bad-value", "#/1", ""),
        (json!([["work", "x"]]).to_string(), 422, "bad-value", "#/0", ""),
        (json!({ "jobs": { "queue": "work", "text": "x" } }).to_string(), 422, "bad-value", "#/jobs", ""),
        ("5".to_owned(), 422, "bad-value", "#", ""),
        (r#"{"queue": "a", "queue": "b", "text": ""}"#.to_owned(), 422, "bad-value", "#", ""),
    ];
    for (body, status, kind, pointer, hint) in cases {
        let problem = http.post_text("/v1/jobs", &body).problem(status, kind);
        assert_eq!(problem["pointer"], pointer, "{body}: {problem}");
        assert!(problem["hint"].as_str().unwrap().contains(hint), "{body}: {problem}");
    }
    http.get("/v1/queues/work").problem(404, "queue-not-found");
    for body in ["[null, null]", "[]", "5", "\"\""] {
        http.post_text("/v1/queues/default/kick", body).problem(422, "bad-value");
        http.post_text("/v1/leases/1.1.1/touch", body).problem(422, "bad-value");
    }
}

#[test]
fn what_is_no_json_is_said_with_its_line_and_column() {
    let (_data, _rota, http) = server(&[]);
    for (body, line, column) in [
        ("", 1, 0),
        ("{", 1, 1),
        ("{\"queue\": \"work\",\n \"text\": oops}", 2, 10),
        ("{\"queue\": \"work\", \"text\": \"x\"} x", 1, 32),
        ("\u{0}", 1, 1),
    ] {
        let problem = http.post_text("/v1/jobs", body).problem(400, "malformed-json");
        assert_eq!((&problem["line"], &problem["column"]), (&json!(line), &json!(column)), "{body:?}: {problem}");
    }
    let deep = format!("{{\"queue\": \"work\", \"text\": {}", "[".repeat(100_000));
    http.post_text("/v1/jobs", &deep);
    let deep = format!("{{\"queue\": \"work\", \"oops\": {}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    http.post_text("/v1/jobs", &deep).problem(422, "unknown-field");
    // However deep it is, a body is stored as it stands.
    let deep = format!("{{\"queue\": \"work\", \"json\": {}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let answer = http.post_text("/v1/jobs", &deep);
    assert!(matches!(answer.status, 201 | 400), "{answer:?}");
    assert_eq!(http.get("/healthz").status, 200);
}

#[test]
fn what_does_not_say_that_it_is_json_is_refused() {
    let (_data, _rota, http) = server(&[]);
    let body = json!({ "queue": "work", "text": "x" }).to_string();
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"] {
        let header = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        http.ask("POST /v1/jobs", &header, &body).problem(415, "unsupported-media-type");
    }
    http.ask("POST /v1/jobs", "Content-Type: Application/JSON; charset=utf-8\r\n", &body).expect(201);
    // Where a body is not needed, none needs no type, and one needs it.
    http.post_nothing("/v1/jobs/1/kick").problem(409, "wrong-state");
    http.ask("POST /v1/queues/work/kick", "", "{}").problem(415, "unsupported-media-type");
    http.ask("POST /v1/queues/work/kick", "content-type: text/plain\r\n", "").problem(415, "unsupported-media-type");
}

#[test]
fn pages_methods_and_parameters_that_are_not_there_are_named() {
    let (_data, _rota, http) = server(&[]);
    for path in ["/", "/v1", "/v1/job", "/v1/jobs/1/2", "/problems/none", "/v1/leases/1.1.1/finish"] {
        let answer = if path.ends_with("finish") { http.post_nothing(path) } else { http.get(path) };
        answer.problem(404, "no-such-page");
    }
    for (request, allowed) in
        [("PUT /v1/jobs", "post"), ("OPTIONS /v1/jobs", "get"), ("POST /metrics", "get"), ("GET /v1/leases", "post")]
    {
        let answer = http.ask(request, "", "");
        let allow = answer.head.lines().find(|line| line.starts_with("allow: ")).unwrap_or_default().to_owned();
        assert!(allow.contains(allowed), "{answer:?}");
        answer.problem(405, "method-not-allowed");
    }
    for (query, hint) in [
        ("limt=5", "limit"),
        ("state=over", ""),
        ("limit=0", ""),
        ("limit=1001", ""),
        ("limit=x", ""),
        ("queue=a+b", ""),
    ] {
        let problem = http.get(&format!("/v1/jobs?{query}")).problem(400, "bad-parameter");
        assert!(problem["hint"].as_str().unwrap().contains(hint), "{problem}");
    }
    http.get("/v1/jobs/1?body=xml").problem(400, "bad-parameter");
    for id in ["x", "0", "-1", "1.5", "18446744073709551616", "%00"] {
        http.get(&format!("/v1/jobs/{id}")).problem(400, "bad-id");
    }
    for lease in ["1", "1.1", "1.1.1.1", "a.b.c", "%2e%2e"] {
        http.post_nothing(&format!("/v1/leases/{lease}/touch")).problem(400, "bad-lease");
    }
    for path in ["/v1/queues/a%20b", "/v1/queues/%FF", "/v1/queues/-a", "/v1/queues/a/keys/%FF"] {
        http.get(path).problem(400, "malformed-request");
    }
    http.get(&format!("/v1/queues/a/keys/{}", "k".repeat(201))).problem(400, "malformed-request");
}

#[test]
fn what_a_lease_request_may_ask_for_is_bounded() {
    let (_data, _rota, http) = server(&[]);
    let queues: Vec<String> = (0..101).map(|n| format!("q{n}")).collect();
    for (body, pointer) in [
        (json!({ "queues": [] }), "#/queues"),
        (json!({ "queues": queues }), "#/queues"),
        (json!({ "queues": ["a", 1] }), "#/queues/1"),
        (json!({ "queues": ["a"], "count": 0 }), "#/count"),
        (json!({ "queues": ["a"], "count": 101 }), "#/count"),
        (json!({ "queues": ["a"], "wait": "601s" }), "#/wait"),
        (json!({ "queues": ["a"], "body": "xml" }), "#/body"),
    ] {
        let problem = http.post("/v1/leases", &body).problem(422, "bad-value");
        assert_eq!(problem["pointer"], pointer, "{body}");
    }
    http.post("/v1/leases", &json!({ "queues": queues[..100] })).expect(200);
}

#[test]
fn a_problem_has_a_page_and_the_api_describes_itself() {
    let (_data, _rota, http) = server(&[]);
    let description = http.get("/v1/openapi.json").expect(200);
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"), "{}", description["openapi"]);
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{method} {path}");
        }
    }
    let page = http.get("/v1/docs");
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    for part in ["<code>POST /v1/leases/{lease}/complete</code>", "/problems/key-taken", "<section id=\"NewJob\">"] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert!(!page.body.contains("<script") && !page.body.contains("style=\""), "{}", page.body);
    assert_eq!(http.get("/v1/docs/style.css").status, 200);
    let page = http.get("/problems/key-taken");
    assert!(page.status == 200 && page.body.contains("An open job of the queue has that key"), "{page:?}");
}
