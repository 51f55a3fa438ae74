//! What users of Python have: requests, and schemathesis, which holds every answer against the API's own description.
//!
//! `cargo xtask setup` installs them below `target/api`; `tests/api/README.md` says what they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Http, server};

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

#[test]
fn every_answer_is_what_the_description_says() {
    let (data, _rota, http) = server(&["--sync", "never"]);
    let mut fuzz = installed("schemathesis");
    fuzz.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", scripts()).env("PYTHONDONTWRITEBYTECODE", "1");
    fuzz.current_dir(data.path()).arg("run").arg(format!("http://{}/v1/openapi.json", http.address()));
    // A snapshot may go to any folder, and streams never end. What is right by the description may be wrong all the same: a job has one body.
    fuzz.args([
        "--exclude-path",
        "/v1/snapshots",
        "--exclude-path",
        "/v1/events",
        "--exclude-path",
        "/v1/leases/stream",
        "--exclude-checks",
        "positive_data_acceptance",
    ]);
    fuzz.args(["--max-examples", "10", "--seed", "1", "--generation-database", "none", "--no-color"]);
    fuzz.args(["--request-timeout", "30", "--warnings", "off"]);
    let output = fuzz.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    // A run that asked nothing would find nothing.
    let stats = Http::to(http.address()).get("/v1/stats").expect(200);
    assert!(stats["totals"]["put"].as_u64().unwrap() > 5, "{stats}\n{}", text(&output));
}
