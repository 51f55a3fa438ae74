//! `next --exec`: what a command gets, and what becomes of the job.

use serde_json::json;

use super::{ROTA, Run, command, put, rota};
use crate::server::Server;

scenarios! {
    a_command_does_the_job,
    a_command_that_fails_gives_the_job_back,
    a_long_command_keeps_its_lease,
}

fn a_command_does_the_job(server: &Server) {
    let id = put(server, &["q", "in the body"]);
    let script = "read -r line; echo $ROTA_JOB_QUEUE $ROTA_JOB_ID: $line, $*";
    rota(server, &["next", "q", "--exec", "sh", "-c", script, "sh", "--wait", "-t"]).expect(
        0,
        &format!("q {id}: in the body, --wait -t\n"),
        "",
    );
    rota(server, &["show", &id]).expect(3, "", &format!("error: there is no open job {id}\n"));

    // A command need not read its input, however much there is.
    let id = put(server, &["q", &"x".repeat(65_535)]);
    let outcome = rota(server, &["next", "q", "--json", "--exec", "true"]).object();
    let id: u64 = id.parse().unwrap();
    assert_eq!(outcome, json!({ "id": id, "queue": "q", "outcome": "completed", "exit_status": 0 }));
    rota(server, &["next", "q", "--exec", "true"]).expect(3, "", "error: no job is ready in queue q\n");
}

fn a_command_that_fails_gives_the_job_back(server: &Server) {
    let id = put(server, &["q", "x", "--priority", "77"]);
    let released = format!("job {id} was released");
    rota(server, &["next", "q", "--exec", "sh", "-c", "exit 7"]).expect(
        1,
        "",
        &format!("error: sh failed (exit status: 7): {released}\n"),
    );
    rota(server, &["next", "q", "--exec", "sh", "-c", "kill -9 $$"]).expect(
        1,
        "",
        &format!("error: sh failed (signal: 9 (SIGKILL)): {released}\n"),
    );
    rota(server, &["next", "q", "--exec", "/nowhere/to/be/found"]).expect(
        1,
        "",
        &format!(
            "error: cannot start /nowhere/to/be/found: job {id} was given back\n  \
             cause: No such file or directory (os error 2)\n"
        ),
    );
    let shown = rota(server, &["show", &id, "--json"]).object();
    let fields = ["state", "priority", "releases", "timeouts"].map(|field| &shown[field]);
    assert_eq!(fields, [&json!("ready"), &json!(77), &json!(3), &json!(0)]);

    // So does a reader that leaves before it has the body.
    let mut command = command(&["next", "q"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let run: Run = command.env("ROTA_SERVER", server.url()).stdout(writer).output().unwrap().into();
    run.expect(
        1,
        "",
        &format!("error: cannot print job {id}: it was given back\n  cause: Broken pipe (os error 32)\n"),
    );
    rota(server, &["next", "q"]).expect(0, "x", "");
}

fn a_long_command_keeps_its_lease(server: &Server) {
    let stats = || rota(server, &["stats", "--json"]).object();
    let count = |name: &str| stats()[name].as_u64().unwrap();
    // Where this machine has everybody stand still for so long, a lease as short is lost all the same.
    let is_kept = (0..30).any(|_| {
        let (touched, lost) = (count("cmd_touch"), count("job_timeouts"));
        let id = put(server, &["q", "x", "--ttr", "1s"]);
        // The command goes on until its lease was renewed so often that it is older than the TTR, or gives up.
        let touches = format!("{ROTA} stats --json | sed -n 's/.*\"cmd_touch\":\\([0-9]*\\).*/\\1/p'");
        let script = format!("for _ in $(seq 5000); do [ $({touches}) -ge {} ] && exit 0; done; exit 9", touched + 4);
        let run = rota(server, &["next", "q", "--exec", "sh", "-c", &script]);
        if count("job_timeouts") > lost {
            rota(server, &["cancel", &id]);
            return false;
        }
        run.expect(0, "", "");
        rota(server, &["show", &id]).expect(3, "", &format!("error: there is no open job {id}\n"));
        true
    });
    assert!(is_kept, "its lease is lost each time");
}
