//! What it is started with: flags, files and folders, good and bad.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use tempfile::TempDir;

use crate::process::{Rota, bare, on};
use crate::wire::Wire;

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// Runs a command that must end at once, with that code and all of these words in what it says of it.
#[track_caller]
fn refused(command: std::process::Command, code: i32, words: &[&str]) {
    let (ended, out, err) = Rota::ended(command);
    assert_eq!(ended, code, "{out}{err}");
    assert!(!out.contains("ready"), "{out}");
    for word in words {
        assert!(err.contains(word), "{word:?} is missing: {err}");
    }
}

#[test]
fn a_port_in_use_is_named_before_the_data_is_touched() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    for flag in ["--beanstalkd", "--http"] {
        let words = ["cannot listen on", &address, "in use", "hint:", flag];
        refused(on(&data, &[flag, &address]), 1, &words);
        assert!(!data.exists());
    }
}

#[test]
fn bad_flags_values_and_files_are_exit_code_2() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    refused(on(&data, &["--nonsense"]), 2, &["--nonsense", "Usage"]);
    refused(on(&data, &["--sync", "soon"]), 2, &["--sync", "soon", "always"]);
    refused(on(&data, &["--beanstalkd", "11300"]), 2, &["--beanstalkd", "127.0.0.1:11300"]);
    refused(on(&data, &["--beanstalkd", "off"]), 2, &["both off", "hint:"]);
    refused(on(&data, &["--beanstalkd", "0.0.0.0:0"]), 2, &["other machines", "--insecure"]);
    let mut variable = on(&data, &[]);
    variable.env("ROTA_MAX_JOB_SIZE", "0");
    refused(variable, 2, &["ROTA_MAX_JOB_SIZE", "at least 1"]);

    let file = folder.path().join("rota.toml");
    let name = file.to_str().unwrap();
    for (text, words) in [
        ("sync = always", ["rota.toml:1", "not TOML"]),
        ("\nsnyc = \"always\"", ["rota.toml:2", "did you mean sync?"]),
        ("\n\nsync = [1]", ["rota.toml:3", "a list"]),
        ("http = \"nowhere\"", ["rota.toml:1: http", "nowhere"]),
    ] {
        fs::write(&file, text).unwrap();
        let mut command = bare();
        command.args(["--config", name]);
        refused(command, 2, &words);
    }
    refused(on(&data, &["--config", "/no/such/file"]), 2, &["/no/such/file", "hint:"]);
    assert!(!data.exists());
}

#[test]
fn a_data_folder_that_is_not_ours_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    refused(on(&file, &[]), 1, &["file is not a directory", "--data"]);
    assert_eq!(fs::read(&file).unwrap(), b"text");

    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "text").unwrap();
    refused(on(&foreign, &[]), 1, &["foreign", "letter.txt", "--data"]);
    assert_eq!(names(&foreign), ["letter.txt"]);
}

#[test]
fn a_data_folder_that_it_may_not_use_is_named() {
    let folder = TempDir::new().unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = on(&locked, &[]);
    if rustix::process::geteuid().is_root() {
        // Nothing is closed to root: somebody else has to try.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    refused(command, 1, &["cannot read", "locked", "ermission denied"]);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(&locked), [""; 0]);
}

#[test]
fn a_data_folder_has_one_server() {
    let data = TempDir::new().unwrap();
    let first = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(first.address());
    let id = wire.put("put 0 0 60", b"one");
    let pid = first.pid().to_string();
    refused(on(data.path(), &[]), 1, &["in use by process", &pid, "--data"]);
    wire.expect(&format!("delete {id}"), "DELETED");
}

#[test]
fn two_servers_work_beside_each_other() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = Rota::ready(on(one.path(), &["--http", "127.0.0.1:0"]));
    let two = Rota::ready(on(two.path(), &["--http", "127.0.0.1:0"]));
    assert_ne!(one.address(), two.address());
    assert_ne!(one.http(), two.http());
    assert_eq!(Wire::to(one.address()).put("put 0 0 60", b"x"), 1);
    Wire::to(two.address()).expect("peek 1", "NOT_FOUND");
    Wire::to(one.address()).expect("delete 1", "DELETED");
}

#[test]
fn the_first_line_says_where_the_data_is() {
    let folder = TempDir::new().unwrap();
    let mut command = on(Path::new("some/../data"), &[]);
    command.current_dir(folder.path());
    fs::create_dir(folder.path().join("some")).unwrap();
    let rota = Rota::ready(command);
    let first = rota.stdout().lines().next().unwrap().to_owned();
    let path = folder.path().join("some/../data");
    assert_eq!(first, format!("rota {}: data in {}", env!("CARGO_PKG_VERSION"), path.display()));
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let data = folder.path().join("none");
    let memory = Rota::ready(on(&data, &["--storage", "memory"]));
    let first = memory.stdout().lines().next().unwrap().to_owned();
    assert!(first.ends_with("jobs are kept in memory alone, and end with the process"), "{first}");
    assert!(!data.exists());
}

#[test]
fn the_flags_of_goyaad_still_work() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut command = bare();
    let name = data.to_str().unwrap();
    command.args(["--addr", "127.0.0.1:0", "-s", "127.0.0.1:9", "-d", name, "--http=off"]);
    let rota = Rota::ready(command);
    Wire::to(rota.address()).expect("list-tube-used", "USING default");
    assert!(data.join("store").exists());
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rota.toml");
    fs::write(&file, "max-job-size = 10\nsync = \"never\"\nbeanstalkd = \"127.0.0.1:0\"\n").unwrap();
    let largest = |flags: &[&str], variable: &str| {
        let data = TempDir::new().unwrap();
        let mut command = bare();
        command.arg("--data").arg(data.path()).args(["--http", "off"]).args(flags);
        command.env("ROTA_CONFIG", &file).env("ROTA_MAX_JOB_SIZE", variable);
        let rota = Rota::ready(command);
        Wire::to(rota.address()).ask("stats").count("max-job-size")
    };
    assert_eq!(largest(&[], ""), 10);
    assert_eq!(largest(&[], "20"), 20);
    assert_eq!(largest(&["--max-job-size", "1KiB"], "20"), 1024);
}

#[test]
fn http_alone_can_be_served() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(on(data.path(), &["--beanstalkd", "off", "--http", "127.0.0.1:0"]));
    let (head, body) = super::metrics::get(rota.http(), "/healthz");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    assert!(rota.stdout().contains("ready: beanstalkd off, http 127.0.0.1:"), "{}", rota.stdout());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
