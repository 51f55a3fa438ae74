//! What a server without Rota's own commands can't do is said before anything is sent that it would misread.

use super::{put, rota, speak};
use crate::server::Server;

#[test]
fn keys_and_milliseconds_are_refused_plainly() {
    let server = Server::beanstalkd();
    let cases: [(&[&str], &str, &str); 5] = [
        (&["put", "q", "quit", "--key", "k"], "put-in", "only Rota has keys: leave --key away"),
        (&["put", "q", "quit", "--delay", "250ms"], "put-in", "give --delay in whole seconds"),
        (&["put", "q", "quit", "--ttr", "1500ms"], "put-in", "give --ttr in whole seconds"),
        (&["put", "q", "quit", "--at", "2100-01-01", "--key", "k"], "put-in", "only Rota has keys: leave --key away"),
        (
            &["cancel", "--queue", "q", "--key", "k"],
            "cancel-key",
            "only Rota has keys: cancel the job by its id, which put printed",
        ),
    ];
    for (arguments, command, hint) in cases {
        let url = server.url();
        rota(&server, arguments).expect(
            1,
            "",
            &format!("error: {url} has no command {command}: it is not a Rota server\n  hint: {hint}\n"),
        );
    }
    assert_eq!(rota(&server, &["stats", "--json"]).object()["total_jobs"], 0);
    assert_eq!(server.stderr(), "");
}

#[test]
fn a_job_that_a_worker_holds_stays() {
    let server = Server::beanstalkd();
    let id = put(&server, &["q", "x"]);
    let _holder = speak(&server, &[("watch q", "WATCHING"), ("reserve", "RESERVED")]);
    rota(&server, &["cancel", &id]).expect(
        3,
        "",
        &format!("error: there is no open job {id}\n  hint: this server can't cancel a job that a worker holds\n"),
    );
}

#[test]
fn the_benchmark_needs_whole_seconds_and_single_jobs() {
    let server = Server::beanstalkd();
    let url = server.url();
    rota(&server, &["bench", "--batch", "10"]).expect(
        2,
        "",
        &format!(
            "error: {url} has no put-batch for --batch: it is not a Rota server\n  \
             hint: leave --batch away, and give --depth instead\n"
        ),
    );
    rota(&server, &["bench", "--mix", "delayed", "--delay-range", "1ms..1s"]).expect(
        2,
        "",
        &format!(
            "error: {url} has no put-in for delays in milliseconds: it is not a Rota server\n  \
             hint: give --delay-range in whole seconds: 1s..5s\n"
        ),
    );
}
