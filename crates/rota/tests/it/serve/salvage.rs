//! `rota log` on real data directories: what it says of each kind of damage, that it changes nothing, and that a server
//! starts on what it saves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::damage::{body, end, everything};
use super::mapped;
use crate::process::{Rota, on, until};
use crate::wire::Wire;

fn log(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
    command.arg("log").args(arguments).arg(directory).output().unwrap()
}

/// What `rota log check` says: the verdict, and all of it. The exit code must fit.
pub(super) fn check(directory: &Path) -> (String, Value) {
    let before = everything(directory);
    let run = log(&["check", "--json"], directory);
    assert!(everything(directory) == before, "something was changed");
    let told: Value = serde_json::from_slice(&run.stdout).unwrap();
    let verdict = told["verdict"].as_str().unwrap().to_owned();
    let is_good = matches!(verdict.as_str(), "whole" | "torn tail" | "empty");
    assert_eq!(run.status.code(), Some(i32::from(!is_good)), "{told}");
    (verdict, told)
}

fn words(told: &Value) -> Vec<&str> {
    told["problems"].as_array().unwrap().iter().map(|problem| problem["kind"].as_str().unwrap()).collect()
}

/// Saves what is left, with the source as it was; the account, and the new directory.
fn salvage(directory: &Path, place: &Path) -> (Value, PathBuf) {
    let new = place.join("saved");
    let before = everything(directory);
    let run = log(&["salvage", "--json", "--to", new.to_str().unwrap()], directory);
    assert!(everything(directory) == before, "the source was changed");
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{text}");
    assert_eq!(check(&new).0, "whole");
    (serde_json::from_slice(&run.stdout).unwrap(), new)
}

const JOBS: u64 = 60;

/// A data directory with jobs 1 to 60, the tenth completed, over some segments.
fn store(kill: bool) -> (TempDir, Vec<PathBuf>) {
    let data = TempDir::new().unwrap();
    let folder = data.path().join("data");
    let mut rota = Rota::ready(on(&folder, &["--segment-size", "64KiB"]));
    let mut wire = Wire::to(rota.address());
    for job in 1..=JOBS {
        assert_eq!(put(&mut wire, padded(job).as_bytes()), job);
    }
    wire.ask("delete 10");
    if kill {
        rota.kill();
    } else {
        assert_eq!(rota.terminate().code(), Some(0));
    }
    let mut segments: Vec<PathBuf> =
        fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    (data, segments)
}

/// Puts a job; with segments this short, room for the next one may have to be waited for.
fn put(wire: &mut Wire, body: &[u8]) -> u64 {
    until("there is room", || {
        let answer = wire.try_put("put 0 0 60", body);
        (answer.line != "OUT_OF_MEMORY").then(|| answer.number(1))
    })
}

fn padded(job: u64) -> String {
    format!("{}{}", body(job), ".".repeat(4_000))
}

/// Starts a server on what was saved: the jobs that are there are those that were put; returns which.
fn jobs_in(directory: &Path) -> Vec<u64> {
    let rota = Rota::ready(on(directory, &[]));
    let mut wire = Wire::to(rota.address());
    let ready = wire.ask("stats").count("current-jobs-ready");
    let mut found = Vec::new();
    for job in 1..=JOBS {
        let answer = wire.ask(&format!("peek {job}"));
        if answer.line.starts_with("FOUND") {
            assert_eq!(answer.body, padded(job).as_bytes(), "job {job} was altered");
            found.push(job);
        }
    }
    assert_eq!(found.len() as u64, ready, "there are others");
    assert!(put(&mut wire, b"next") > JOBS, "an id was issued again");
    found
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_directory_also_while_a_server_has_it() {
    let data = TempDir::new().unwrap();
    let mut rota = Rota::ready(on(data.path(), &[]));
    let mut wire = Wire::to(rota.address());
    wire.put("put 0 0 60", b"one");
    let (verdict, told) = check(data.path());
    assert_eq!((verdict.as_str(), &told["in_use"]), ("whole", &json!(true)));
    let refused = log(&["salvage", "--to", "/nonexistent/rota"], data.path());
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop the server first"));
    assert_eq!(rota.terminate().code(), Some(0));
    let (verdict, told) = check(data.path());
    assert_eq!((verdict.as_str(), &told["in_use"], &told["problems"]), ("whole", &json!(false), &json!([])));
    let shown = log(&["show", "--json", "--job", "1", "--bodies"], data.path());
    let record: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (&record["type"], &record["body"], &record["queue"]),
        (&json!("job_put"), &json!("one"), &json!("default"))
    );
}

#[test]
fn a_flipped_bit_costs_one_job() {
    let (data, segments) = store(false);
    let folder = data.path().join("data");
    let bytes = fs::read(&segments[1]).unwrap();
    flip(&segments[1], end(&bytes) / 2);
    let (verdict, told) = check(&folder);
    assert_eq!((verdict.as_str(), words(&told)), ("damaged", vec!["damaged"]));
    let (account, new) = salvage(&folder, data.path());
    let lost = account["lost_jobs"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{account}");
    let gone = lost[0]["job"].as_u64().unwrap();
    let expected: Vec<u64> = (1..=JOBS).filter(|&job| job != 10 && job != gone).collect();
    assert_eq!(jobs_in(&new), expected);
    let shown = log(&["show"], &folder);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("--")).count(), 1, "{text}");
}

#[test]
fn segments_that_are_gone_swapped_copied_or_renamed() {
    let (data, segments) = store(false);
    let folder = data.path().join("data");
    let all: Vec<u64> = (1..=JOBS).filter(|&job| job != 10).collect();
    let aside = data.path().join("aside");
    let place = |name: &str| {
        let place = data.path().join(name);
        fs::create_dir(&place).unwrap();
        place
    };

    fs::rename(&segments[0], &aside).unwrap();
    fs::rename(&segments[1], &segments[0]).unwrap();
    fs::rename(&aside, &segments[1]).unwrap();
    assert_eq!(words(&check(&folder).1), ["swapped", "swapped"]);
    assert_eq!(jobs_in(&salvage(&folder, &place("swapped")).1), all);
    fs::rename(&segments[1], &aside).unwrap();
    fs::rename(&segments[0], &segments[1]).unwrap();
    fs::rename(&aside, &segments[0]).unwrap();
    assert_eq!(check(&folder).0, "whole");

    // A copy that somebody made before something happened to the file.
    let copy = segments[1].with_extension("seg.bak");
    fs::copy(&segments[1], &copy).unwrap();
    assert_eq!(check(&folder).0, "whole", "a start does not look at it");
    fs::remove_file(&segments[1]).unwrap();
    assert_eq!(words(&check(&folder).1), ["missing"]);
    assert_eq!(jobs_in(&salvage(&folder, &place("renamed")).1), all);

    fs::remove_file(&copy).unwrap();
    let (account, new) = salvage(&folder, &place("missing"));
    let found = jobs_in(&new);
    let perhaps = &account["perhaps_lost_jobs"][0];
    let gone: Vec<u64> = (perhaps["from"].as_u64().unwrap()..=perhaps["to"].as_u64().unwrap()).collect();
    assert!(found.iter().all(|job| !gone.contains(job)) && found.len() + gone.len() >= all.len(), "{account}");
    assert!(!account["uncertain_jobs"].as_array().unwrap().is_empty(), "{account}");
}

#[test]
fn what_is_no_data_directory_and_what_is_in_the_way() {
    let (data, _) = store(true);
    let folder = data.path().join("data");
    assert_eq!(log(&["check"], &data.path().join("nothing")).status.code(), Some(3));
    let empty = TempDir::new().unwrap();
    assert_eq!(log(&["show"], empty.path()).status.code(), Some(3));
    let file = empty.path().join("file");
    fs::write(&file, "mine").unwrap();
    for (to, word) in [(empty.path(), "not empty"), (&folder.join("saved"), "is inside"), (&file, "cannot make")] {
        let run = log(&["salvage", "--to", to.to_str().unwrap()], &folder);
        let text = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.code() == Some(1) && text.contains(word), "{text}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(check(&folder).0, "whole");
    // What cannot be saved leaves nothing behind.
    let broken = data.path().join("broken");
    fs::create_dir_all(broken.join("log")).unwrap();
    let to = data.path().join("to");
    assert_eq!(log(&["salvage", "--to", to.to_str().unwrap()], &broken).status.code(), Some(1));
    assert!(!to.exists());
}

#[test]
fn another_store_and_a_newer_version() {
    let (data, segments) = store(false);
    let (_other, theirs) = store(false);
    let folder = data.path().join("data");
    let ours = fs::read(&segments[1]).unwrap();
    fs::copy(&theirs[1], &segments[1]).unwrap();
    assert_eq!(words(&check(&folder).1), ["foreign"]);
    let found = jobs_in(&salvage(&folder, data.path()).1);
    assert!(found.len() > 10 && found.len() < 59, "{found:?}");
    let mut newer = ours;
    newer[8] = 0xff;
    let checksum = crc32(&newer[..60]);
    newer[60..64].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&segments[1], newer).unwrap();
    let (verdict, told) = check(&folder);
    assert_eq!((verdict.as_str(), words(&told)), ("newer version", vec!["newer"]));
    let to = data.path().join("to");
    let run = log(&["salvage", "--to", to.to_str().unwrap()], &folder);
    let text = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.code() == Some(1) && text.contains("use the version of rota that wrote it"), "{text}");
    assert!(!to.exists());
}

/// CRC-32 as in zlib.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// The files of that kind in the log's folder, in their order.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("log")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// Which of the far jobs are on what was saved, each as it was put.
fn far_jobs_in(directory: &Path, jobs: u64) -> Vec<u64> {
    let rota = Rota::ready(on(directory, &[]));
    let mut wire = Wire::to(rota.address());
    wire.expect("use far", "USING far");
    let mut found = Vec::new();
    for job in 1..=jobs {
        let answer = wire.ask(&format!("peek {job}"));
        if answer.line.starts_with("FOUND") {
            assert_eq!(answer.body, mapped::body(job), "job {job} was altered");
            found.push(job);
        }
    }
    assert_eq!(wire.ask("stats-tube far").count("current-jobs-delayed"), found.len() as u64, "there are others");
    found
}

#[test]
fn jobs_that_left_memory_are_saved_from_damage_of_each_kind() {
    const FAR_JOBS: u64 = 2_000;
    let data = TempDir::new().unwrap();
    let folder = data.path().join("data");
    let (mut rota, mut wire) = mapped::with_far_jobs(&folder, FAR_JOBS);
    let mut all: Vec<u64> = (1..=FAR_JOBS).collect();
    for job in (1..=FAR_JOBS).step_by(9) {
        wire.expect(&format!("cancel {job}"), "CANCELLED");
        all.retain(|&other| other != job);
    }
    // What left memory is so for the next start where a segment has begun since. Of a log that is short enough two may be left.
    until("most of them are in far segments", || {
        let live = log(&["check", "--json"], &folder);
        assert_eq!(live.status.code(), Some(0), "{}", String::from_utf8_lossy(&live.stdout));
        let told: Value = serde_json::from_slice(&live.stdout).unwrap();
        let far = told["segments"].as_array().unwrap().iter().filter(|segment| segment["far"] == json!(true));
        (far.map(|segment| segment["records"].as_u64().unwrap()).sum::<u64>() > 1_200).then_some(())
    });
    assert_eq!(rota.terminate().code(), Some(0));
    let (verdict, told) = check(&folder);
    assert_eq!((verdict.as_str(), &told["notes"]), ("whole", &json!([])), "{told}");
    let far: Vec<u64> = told["segments"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|segment| segment["far"] == json!(true))
        .map(|segment| segment["segment"].as_u64().unwrap())
        .collect();
    assert!(far.len() > 2, "{told}");
    let shown = log(&["show", "--segment", &far[1].to_string(), "--json"], &folder);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().filter(|line| line.contains("\"type\":\"job_put\"")).count() > 100, "{shown}");

    let damaged = |name: &str, damage: &dyn Fn(&Path)| {
        let place = data.path().join(name);
        fs::create_dir_all(place.join("data/log")).unwrap();
        for file in ["store", "lock"].map(PathBuf::from).into_iter().chain(
            fs::read_dir(folder.join("log")).unwrap().map(|entry| Path::new("log").join(entry.unwrap().file_name())),
        ) {
            fs::copy(folder.join(&file), place.join("data").join(&file)).unwrap();
        }
        damage(&place.join("data"));
        let told = check(&place.join("data")).1;
        let (account, new) = salvage(&place.join("data"), &place);
        (told, account, far_jobs_in(&new, FAR_JOBS))
    };

    let (_, account, found) = damaged("whole", &|_| {});
    assert_eq!(found, all, "{account}");
    assert!(account["far_jobs"].as_u64().unwrap() > FAR_JOBS / 2, "{account}");

    let middle = |path: &Path| fs::metadata(path).unwrap().len() as usize / 2;
    let segment_of = |directory: &Path| directory.join(format!("log/{:020}.seg", far[1]));
    let (told, account, found) = damaged("record", &|data| flip(&segment_of(data), middle(&segment_of(data))));
    assert_eq!(words(&told), ["damaged"], "{told}");
    let gone: Vec<u64> = all.iter().copied().filter(|job| !found.contains(job)).collect();
    let lost: Vec<u64> =
        account["lost_jobs"].as_array().unwrap().iter().map(|lost| lost["job"].as_u64().unwrap()).collect();
    assert!(gone == lost && gone.len() <= 1 && found.iter().all(|job| all.contains(job)), "{account}");

    let index_of = |directory: &Path| directory.join(format!("log/{:020}.index", far[1]));
    let (told, account, found) = damaged("index", &|data| flip(&index_of(data), middle(&index_of(data))));
    assert_eq!((words(&told), found == all), (vec!["damaged"], true), "{told} {account}");
    let (told, account, found) = damaged("no-index", &|data| fs::remove_file(index_of(data)).unwrap());
    assert_eq!((words(&told), found == all), (vec![], true), "{told} {account}");
    assert_eq!(told["notes"][0]["kind"], "missing", "{told}");

    let (told, account, found) = damaged("no-segment", &|data| fs::remove_file(segment_of(data)).unwrap());
    assert_eq!(words(&told), ["missing"], "{told}");
    assert_eq!(account["lost_jobs"].as_array().unwrap().len(), all.len() - found.len(), "{account}");
    assert!(found.len() < all.len() && found.iter().all(|job| all.contains(job)));

    for (name, damage) in [
        ("open", (&|data: &Path| files(data, "open").iter().for_each(|file| flip(file, 100))) as &dyn Fn(&Path)),
        ("no-open", &|data: &Path| files(data, "open").iter().for_each(|file| fs::remove_file(file).unwrap())),
    ] {
        let (told, account, found) = damaged(name, damage);
        assert_eq!(words(&told), [if name == "open" { "damaged" } else { "missing" }], "{told}");
        assert!(found.iter().all(|job| all.contains(job)), "{account}");
        let unsure = account["unsure_far_jobs"].as_array().unwrap();
        let unsure: u64 = unsure.iter().map(|segment| segment["jobs"].as_u64().unwrap()).sum();
        assert!(found.len() as u64 + unsure >= all.len() as u64, "{account}");
        let taken = data.path().join(format!("{name}-taken"));
        let run =
            log(&["salvage", "--take-unsure", "--to", taken.to_str().unwrap()], &data.path().join(name).join("data"));
        let text = String::from_utf8(run.stdout).unwrap();
        assert!(unsure == 0 || text.contains("taken, though any of them may have ended long ago"), "{text}");
        let found = far_jobs_in(&taken, FAR_JOBS);
        assert!(all.iter().all(|job| found.contains(job)), "{text}");
    }
}
