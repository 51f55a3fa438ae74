//! Queues and the server: `list`, `kick`, `stats`, and what is not there.

use serde_json::json;

use super::{listed, put, rota, speak};
use crate::server::Server;

scenarios! {
    buried_jobs_are_kicked,
    queues_are_listed,
    statistics_are_printed,
    what_is_not_there_is_exit_code_3,
}

fn buried_jobs_are_kicked(server: &Server) {
    let ids: Vec<String> = ["a", "b", "c"].map(|body| put(server, &["q", body])).into();
    for id in &ids {
        let bury = format!("bury {id} 0");
        speak(server, &[("watch q", "WATCHING"), ("reserve", "RESERVED"), (&bury, "BURIED")]);
    }
    assert_eq!(listed(server, "q", "buried"), 3);
    rota(server, &["kick", "q"]).expect(0, "kicked 1 job\n", "");
    rota(server, &["kick", "--job", &ids[2], "--json"]).expect(0, &format!("{{\"id\":{},\"kicked\":1}}\n", ids[2]), "");
    assert_eq!((listed(server, "q", "buried"), listed(server, "q", "ready")), (1, 2));
    rota(server, &["kick", "q", "--count", "100", "--json"]).expect(0, "{\"queue\":\"q\",\"kicked\":1}\n", "");
    assert_eq!(listed(server, "q", "ready"), 3);
}

fn queues_are_listed(server: &Server) {
    put(server, &["zebra", "x"]);
    put(server, &["zebra", "x"]);
    put(server, &["ant", "x", "--delay", "1h"]);
    rota(server, &["list", "zebra", "ant"]).expect(
        0,
        "QUEUE  READY  DELAYED  RESERVED  BURIED  WAITING  TOTAL\n\
         ant        0        1         0       0        0      1\n\
         zebra      2        0         0       0        0      2\n",
        "",
    );
    let all = rota(server, &["list", "--json"]).objects();
    let names: Vec<_> = all.iter().map(|object| object["queue"].as_str().unwrap()).collect();
    assert_eq!(names, ["ant", "default", "zebra"]);
    assert_eq!(
        all[2],
        json!({
            "queue": "zebra", "ready": 2, "delayed": 0, "reserved": 0, "buried": 0, "waiting": 0, "total": 2,
            "pause_time_left_s": 0,
        })
    );
    speak(server, &[("pause-tube zebra 3600", "PAUSED")]);
    let out = rota(server, &["list", "zebra"]).good();
    assert!(out.contains("\nzebra (paused 3"), "{out}");
}

fn statistics_are_printed(server: &Server) {
    put(server, &["q", "x"]);
    let object = rota(server, &["stats", "--json"]).object();
    assert_eq!((&object["cmd_put"], &object["current_jobs_ready"]), (&json!(1), &json!(1)));
    assert!(object["version"].is_string() && object["id"].is_string(), "{object}");
    let out = rota(server, &["stats"]).good();
    assert!(out.lines().any(|line| line.starts_with("cmd_put ") && line.ends_with(" 1")), "{out}");

    let object = rota(server, &["stats", "q", "--json"]).object();
    assert_eq!((&object["name"], &object["current_jobs_ready"]), (&json!("q"), &json!(1)));
}

fn what_is_not_there_is_exit_code_3(server: &Server) {
    let no_job = "error: there is no open job 99999\n";
    rota(server, &["show", "99999"]).expect(3, "", no_job);
    rota(server, &["list", "nothing", "default", "--json"]).expect(
        3,
        "{\"queue\":\"default\",\"ready\":0,\"delayed\":0,\"reserved\":0,\"buried\":0,\"waiting\":0,\"total\":0,\
         \"pause_time_left_s\":0}\n",
        "{\"error\":\"there is no queue nothing\",\"exit_code\":3}\n",
    );
    rota(server, &["stats", "nothing"]).expect(3, "", "error: there is no queue nothing\n");
    rota(server, &["kick", "--job", "99999"]).expect(3, "", "error: there is no buried or delayed job 99999\n");
    rota(server, &["kick", "q"]).expect(3, "", "error: no job is buried or delayed in queue q\n");
    rota(server, &["next", "q", "--json"]).expect(
        3,
        "",
        "{\"error\":\"no job is ready in queue q\",\"exit_code\":3}\n",
    );
}
