//! `POST /v1/snapshots`: what it answers, whom it refuses, and that one is taken at a time.

use serde_json::json;
use tempfile::TempDir;

use super::{POST, command, folders, good, objects, put_all, request, serve, take, try_take};
use crate::process::{Rota, until};
use crate::serve::metrics::get;
use crate::server::free_address;
use crate::wire::Wire;

#[test]
fn a_snapshot_is_asked_for_by_http_and_by_the_command() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    Wire::to(rota.address()).put("put 0 0 60", b"x");
    let place = data.path().join("snapshots");

    let answer = take(&rota);
    assert_eq!(answer["jobs"], 1);
    let name = answer["name"].as_str().unwrap();
    assert_eq!(answer["address"], place.join(name).to_str().unwrap());
    let bytes: u64 = folders(&place.join(name))
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "seg"))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(answer["bytes"], bytes);

    let elsewhere = TempDir::new().unwrap();
    let to = elsewhere.path().join("a/b");
    let http = rota.http().to_string();
    let text = good(command(&["snapshot", to.to_str().unwrap(), "--http", &http]));
    assert!(text.contains(": 1 jobs, ") && text.contains(&format!(" bytes, at {}/", to.display())), "{text}");
    let mut by_environment = command(&["snapshot", "--json"]);
    by_environment.env("ROTA_HTTP", format!("http://{http}"));
    let object = objects(by_environment).remove(0);
    assert_eq!((&object["jobs"], object["bytes"].is_u64()), (&json!(1), true), "{object}");
    assert_eq!((folders(&place).len(), folders(&to).len()), (2, 1));
    // A path is relative to where the command runs.
    let mut relative = command(&["snapshot", "here", "--http", &http]);
    relative.current_dir(elsewhere.path());
    good(relative);
    assert_eq!(folders(&elsewhere.path().join("here")).len(), 1);
    let metrics = get(rota.http(), "/metrics").1;
    for line in
        ["rota_snapshots_taken_total 4\n", "rota_snapshots_failed_total 0\n", &format!("rota_snapshot_bytes {bytes}\n")]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_a_problem() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    let post = "POST /v1/snapshots HTTP/1.1";
    let json = POST;
    let long = format!("{{\"to\": \"{}\"}}", "x".repeat(5_000_000));
    let cases = [
        (post.to_owned(), "{}", 415),
        (format!("{post}\r\nContent-Type: text/plain"), "{}", 415),
        (format!("{post}\r\nContent-Type: application/x-www-form-urlencoded"), "{}", 415),
        (format!("{json}\r\nOrigin: http://127.0.0.1"), "{}", 403),
        (format!("{json}\r\nSec-Fetch-Site: same-origin"), "{}", 403),
        (json.to_owned(), "", 400),
        (json.to_owned(), "{\"to\"", 400),
        (json.to_owned(), "[1]", 422),
        (json.to_owned(), "{\"to\": 1}", 422),
        (json.to_owned(), "{\"too\": \"x\"}", 422),
        (json.to_owned(), "{\"to\": \"ftp://x\"}", 400),
        (json.to_owned(), "{\"to\": \"s3://KEY:marker-of-a-secret@x\"}", 400),
        (json.to_owned(), long.as_str(), 413),
        // A file is no folder.
        (json.to_owned(), "{\"to\": \"/dev/null\"}", 500),
    ];
    for (head, body, expected) in cases {
        let (status, head, body) = request(rota.http(), &head, body);
        assert_eq!(status, expected, "{head}\n{body}");
        assert!(head.to_lowercase().contains("content-type: application/problem+json"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], expected);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        assert!(!body.contains("marker-of-a-secret"), "{body}");
    }
    let (status, _, _) = request(rota.http(), "GET /v1/snapshots HTTP/1.1", "");
    assert_eq!(status, 405);
    assert_eq!(folders(&data.path().join("snapshots")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn one_is_taken_at_a_time() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &["--sync", "never"]));
    let jobs: Vec<_> = (0..30_000).map(|_| ("put 0 0 60".to_owned(), vec![b'x'; 500])).collect();
    put_all(&mut Wire::to(rota.address()), &jobs);
    // Some of those that ask at the same time are told so, and every one that is not gets a snapshot of its own.
    until("two ask at the same time", || {
        let answers: Vec<(u16, serde_json::Value)> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| try_take(&rota, "{}"))).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        let taken = answers.iter().filter(|(status, _)| *status == 201).count();
        assert!(taken >= 1, "{answers:?}");
        let busy = answers.iter().filter(|(status, _)| *status == 409).count();
        assert_eq!(taken + busy, answers.len(), "{answers:?}");
        (busy > 0).then_some(())
    });
    assert_eq!(take(&rota)["jobs"], 30_000);
}

#[test]
fn the_command_says_what_went_wrong() {
    let nobody = free_address().to_string();
    let output = command(&["snapshot", "--http", &nobody]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "error: no answer from http://{nobody}\n  cause: Connection refused (os error 111)\n  \
             hint: start a server with `rota serve`, or name its HTTP port with --http or ROTA_HTTP\n"
        )
    );
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &[]));
    let http = rota.http().to_string();
    let output = command(&["snapshot", "/dev/null/x", "--http", &http]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("error: no snapshot was taken: cannot create /dev/null/x/"), "{err}");
    assert!(err.contains("hint: nothing is lost"), "{err}");
    for verb in ["snapshot", "inspect"] {
        let output = command(&[verb, "s3://key:secret@bucket/x"]).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.starts_with("error: ADDRESS: ") && !err.contains("secret@"), "{err}");
    }
    for bad in ["off", "ftp://x", "http://a/b"] {
        assert_eq!(command(&["snapshot", "--http", bad]).output().unwrap().status.code(), Some(2), "{bad}");
    }
}
