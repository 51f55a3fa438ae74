//! `bench` on live servers: every mix comes out even, and its report says so.

use serde_json::json;

use super::rota;
use crate::server::Server;

scenarios! {
    every_mix_of_the_benchmark_comes_out_even,
    the_benchmark_leaves_nothing_behind_unless_told_to,
    the_report_of_the_benchmark_for_people,
}

fn every_mix_of_the_benchmark_comes_out_even(server: &Server) {
    let mixes = [
        ("put", "1s..1s", [500, 0, 0]),
        ("cycle", "1s..1s", [500, 500, 500]),
        // A reserve waits there until its job is due: that is not timed.
        ("delayed", "0s..1s", [500, 0, 500]),
        ("cancel", "1h..2h", [500, 0, 500]),
    ];
    for (mix, delays, counts) in mixes {
        for load in ["--connections 1 --depth 1", "--connections 7 --depth 16"] {
            let line =
                format!("bench --json --jobs 500 --rounds 2 --threads 2 --mix {mix} --delay-range {delays} {load}");
            let arguments: Vec<&str> = line.split(' ').collect();
            let report = rota(server, &arguments).object();
            assert_eq!(report["mix"], mix);
            assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
            for round in report["rounds"].as_array().unwrap() {
                assert_eq!((&round["operations"], &round["stopped_by_time"]), (&json!(500), &json!(false)));
                let count = |verb| round["verbs"][verb]["count"].as_u64().unwrap_or(0);
                assert_eq!(["put", "reserve", "delete"].map(count), counts, "{mix}");
                assert!(round["ops_per_s"].as_f64().unwrap() > 0.0);
                if mix == "delayed" {
                    assert_eq!((&round["lateness"]["count"], &round["early"]), (&json!(500), &json!(0)));
                }
            }
        }
    }
    assert_eq!(rota(server, &["list", "--json"]).objects().len(), 1);
}

fn the_benchmark_leaves_nothing_behind_unless_told_to(server: &Server) {
    let report = rota(server, &["bench", "--json", "--jobs", "100", "--keep"]).object();
    assert_eq!(report["rounds"][0]["operations"], 100);
    let queues = rota(server, &["list", "--json"]).objects();
    assert_eq!(queues.len(), 2, "{queues:?}");
    assert_eq!(queues[1]["ready"], 100);
    assert!(queues[1]["queue"].as_str().unwrap().starts_with("rota-bench-"));

    // Time is up at once: nothing is done, and the report says so.
    let report = rota(server, &["bench", "--json", "--mix", "cycle", "--time", "0s"]).object();
    let round = &report["rounds"][0];
    assert_eq!((&round["operations"], &round["stopped_by_time"]), (&json!(0), &json!(true)));
}

fn the_report_of_the_benchmark_for_people(server: &Server) {
    let run = rota(server, &["bench", "--jobs", "200", "--mix", "cycle", "-c", "2", "--size", "1KiB"]);
    let out = run.good();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], format!("cycle: 2 connections, depth 1, 1024-byte bodies, {}", server.url()));
    assert!(lines[2].starts_with("round 1 ") && lines[2].contains(" cycles/s   (200 in "), "{out}");
    assert!(lines[4].starts_with("latency ") && lines[4].ends_with(" max"), "{out}");
    for (line, verb) in lines[5..].iter().zip(["put", "reserve", "delete"]) {
        assert!(line.starts_with(verb) && line.contains(" 200 "), "{out}");
    }
    assert_eq!(lines.len(), 8);
}
