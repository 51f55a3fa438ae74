//! What a page of another site could make a browser send.

use serde_json::json;

use super::{put, server};

#[test]
fn the_server_answers_to_its_own_names_alone() {
    let (_data, _rota, http) = server(&["--http-names", "rota.example, other.example"]);
    let port = http.address().port();
    let status = |host: &str, path: &str| http.ask(&format!("GET {path}"), &format!("host: {host}\r\n"), "").status;
    for known in ["127.0.0.1", "10.0.0.7:80", "[::1]:1", "localhost", "rota.example:80", "OTHER.example"] {
        assert_eq!(status(known, "/v1/stats"), 200, "{known}");
    }
    for foreign in
        ["evil.example", "rota.example.evil.example", "localhost.evil.example", "", "a b", "127.0.0.1.evil.example"]
    {
        assert_eq!(status(foreign, "/v1/stats"), 421, "{foreign:?}");
        assert_eq!(status(foreign, "/metrics"), 421, "{foreign:?}");
        assert_eq!(status(foreign, "/healthz"), 200, "{foreign:?}");
    }
    let evil = format!("host: evil.example:{port}\r\ncontent-type: application/json\r\n");
    http.ask("POST /v1/jobs", &evil, "{\"queue\": \"work\", \"text\": \"x\"}").problem(421, "unknown-host");
    // The name in the request line counts too, and two names are none.
    http.ask("GET http://evil.example/v1/stats", "", "").problem(421, "unknown-host");
    http.ask("GET /v1/stats", "host: localhost\r\nhost: localhost\r\n", "").problem(400, "malformed-request");
    http.get("/v1/queues/work").problem(404, "queue-not-found");
    let (_data, _rota, http) = server(&["--http-names", "*"]);
    assert_eq!(http.ask("GET /v1/stats", "host: any.example\r\n", "").status, 200);
}

#[test]
fn requests_of_other_sites_pages_are_refused() {
    let (_data, _rota, http) = server(&[]);
    let address = http.address();
    put(&http, "x");
    let body = json!({ "queue": "work", "text": "x" }).to_string();
    let json = "content-type: application/json\r\n";
    let post = |headers: &str| http.ask("POST /v1/jobs", &format!("{json}{headers}"), &body);
    for foreign in [
        "origin: http://evil.example\r\n".to_owned(),
        "origin: null\r\n".to_owned(),
        format!("origin: ftp://{address}\r\n"),
        format!("origin: http://{address}.evil.example\r\n"),
        "origin: http://127.0.0.1\r\n".to_owned(),
        "sec-fetch-site: cross-site\r\n".to_owned(),
        "sec-fetch-site: same-site\r\n".to_owned(),
    ] {
        post(&foreign).problem(403, "foreign-origin");
        http.ask("DELETE /v1/jobs/1", &foreign, "").problem(403, "foreign-origin");
    }
    http.ask("GET /v1/jobs/1", "origin: http://evil.example\r\n", "").problem(403, "foreign-origin");
    http.get("/v1/jobs/2").problem(404, "job-not-found");
    // A page of the server's own may ask, and a link from anywhere may lead here.
    post(&format!("origin: http://{address}\r\nsec-fetch-site: same-origin\r\n")).expect(201);
    assert_eq!(http.ask("GET /v1/docs", "sec-fetch-site: cross-site\r\n", "").status, 200);
}
