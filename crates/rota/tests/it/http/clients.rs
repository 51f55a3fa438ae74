//! What users of Python have: requests, and schemathesis, which holds every answer against the API's own description.
//!
//! `cargo xtask setup` installs them below `target/api`; `tests/api/README.md` says what they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{Http, server, start};
use crate::process::number;
use crate::tokens::create;

/// Where the scripts are.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/python")
}

/// A program of the installation, which has to be the one that the repository asks for.
fn installed(program: &str) -> Command {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/api/venv");
    let read = |path: PathBuf| {
        std::fs::read(&path).unwrap_or_else(|_| panic!("{} is missing: run cargo xtask setup", path.display()))
    };
    let (wanted, there) = (read(scripts().join("requirements.txt")), read(venv.join("requirements.txt")));
    assert!(wanted == there, "the clients of the API are not those of requirements.txt: run cargo xtask setup");
    Command::new(venv.join("bin").join(program))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_script_with_nothing_but_requests_walks_through_the_api() {
    let (_data, _rota, http) = server(&[]);
    let mut walk = installed("python");
    walk.arg("-B").arg(scripts().join("walk.py"));
    walk.args([http.address().ip().to_string(), http.address().port().to_string()]);
    let output = walk.output().unwrap();
    assert!(output.status.success() && text(&output).ends_with("done\n"), "{}", text(&output));
}

/// Pages that are asked for by nobody here: they never end.
const ENDLESS: [&str; 2] = ["/v1/events", "/v1/leases/stream"];

/// Examples of each operation, of each phase, unless `ROTA_API_EXAMPLES` says how many.
const EXAMPLES: u64 = 10;

/// Has schemathesis ask with that token, with more flags; how often each operation was answered with which status.
fn ask_all(http: &Http, data: &Path, token: &str, flags: &[&str]) -> BTreeMap<(String, u16), u64> {
    let asked = data.join(format!("asked-{}", flags.len()));
    let examples = number("ROTA_API_EXAMPLES").unwrap_or(EXAMPLES).to_string();
    let mut fuzz = installed("schemathesis");
    fuzz.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", scripts()).env("PYTHONDONTWRITEBYTECODE", "1");
    fuzz.env("ROTA_API_ASKED", &asked);
    fuzz.env("ROTA_API_URL", format!("http://{}", http.address())).env("ROTA_API_TOKEN", token);
    fuzz.current_dir(data).arg("run").arg(format!("http://{}/v1/openapi.json", http.address()));
    // What is right by the description may be wrong all the same: a job has one body.
    fuzz.args(["--exclude-checks", "positive_data_acceptance", "--header", &format!("authorization: Bearer {token}")]);
    fuzz.args(["--max-examples", &examples, "--seed", "1", "--generation-database", "none", "--no-color"]);
    fuzz.args(["--request-timeout", "300", "--warnings", "off"]).args(flags);
    let output = fuzz.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(&asked).unwrap_or_else(|error| panic!("{error}: {}", text(&output))).lines() {
        let (operation, status) = line.rsplit_once(' ').unwrap();
        *counts.entry((operation.to_owned(), status.parse().unwrap())).or_insert(0) += 1;
    }
    counts
}

#[test]
fn every_answer_is_what_the_description_says() {
    let data = TempDir::new().unwrap();
    let admin = create(data.path(), &["--role", "admin"]);
    let others = create(data.path(), &["--role", "operator,producer,consumer,viewer"]);
    let rota = start(&data, &["--sync", "never", "--webhook-allow", "127.0.0.1"]);
    let http = Http::to(rota.http());
    // To an admin, a snapshot may go to any folder: that page is asked for by somebody else.
    let excluded = ENDLESS.iter().chain(&["/v1/snapshots"]).flat_map(|path| ["--exclude-path", *path]);
    let mut counts = ask_all(&http, data.path(), &admin, &excluded.collect::<Vec<_>>());
    counts.extend(ask_all(&http, data.path(), &others, &["--include-path", "/v1/snapshots"]));

    // A run that asked nothing would find nothing: every operation is asked, by whoever may, and more than once.
    let description = http.get("/v1/openapi.json").expect(200);
    let operations = description["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter().filter(|(_, operation)| operation["operationId"].is_string());
        methods.map(move |(method, _)| (path.clone(), format!("{} {path}", method.to_uppercase())))
    });
    let mut operations: Vec<(String, String)> = operations.collect();
    operations.retain(|(path, _)| !ENDLESS.contains(&path.as_str()));
    assert!(operations.len() > 35, "{operations:?}");
    for (_, operation) in &operations {
        let count = |wanted: fn(u16) -> bool| {
            let of_it = counts.iter().filter(|((name, status), _)| name == operation && wanted(*status));
            of_it.map(|(_, count)| count).sum::<u64>()
        };
        let (all, done, not_let_in) = (count(|_| true), count(|status| status < 300), count(|status| status == 401));
        assert!(all >= 3, "{operation} was asked {all} times: {counts:?}");
        assert!(done > 0, "{operation} was never done: {counts:?}");
        assert!(not_let_in < all, "{operation} was never let in: {counts:?}");
    }
}
