//! Snapshots taken under load: each holds, for every client, exactly what some first part of its commands had done, and
//! that part ends between the snapshot's request and its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fastrand::Rng;
use tempfile::TempDir;

use super::{Seen, command, objects, put_all, see, serve, take};
use crate::process::{Rota, until};
use crate::wire::Wire;

/// Clients at work.
const CLIENTS: usize = 3;

/// Jobs that a client has at the most.
const JOBS: usize = 30;

/// Jobs that nobody touches, so that a snapshot takes its time.
const STILL: usize = 12_000;

/// Snapshots of one server.
const SNAPSHOTS: usize = 4;

/// A job as its client knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Job {
    state: &'static str,
    priority: u64,
    delay: u64,
    key: Option<String>,
    body: Vec<u8>,
}

/// What a client's queue holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Model {
    jobs: BTreeMap<u64, Job>,
    paused: bool,
}

/// A client, and its queue after each of its commands.
struct Client {
    tube: String,
    history: Mutex<Vec<Model>>,
    answered: AtomicUsize,
}

impl Client {
    fn new(number: usize) -> Client {
        let history = Mutex::new(vec![Model::default()]);
        Client { tube: format!("client-{number}"), history, answered: AtomicUsize::new(0) }
    }

    /// Changes its queue until it is told to stop.
    fn work(&self, address: SocketAddr, seed: u64, enough: &AtomicBool) {
        let mut rng = Rng::with_seed(seed);
        let mut wire = Wire::to(address);
        let mut model = Model::default();
        wire.expect(&format!("use {}", self.tube), &format!("USING {}", self.tube));
        let mut serial = 0;
        while !enough.load(Ordering::Relaxed) {
            serial += 1;
            self.change(&mut wire, &mut model, &mut rng, serial);
            self.note(&model);
        }
    }

    /// A command was answered, and this is what it led to.
    fn note(&self, model: &Model) {
        self.history.lock().unwrap().push(model.clone());
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// A change of what is kept, by a command or two. Delays all end after the test.
    fn change(&self, wire: &mut Wire, model: &mut Model, rng: &mut Rng, serial: u64) {
        let ids: Vec<u64> = model.jobs.keys().copied().collect();
        let put = ids.len() < 3 || (ids.len() < JOBS && rng.u8(..3) == 0);
        let delay = 10_000 + serial;
        let priority = u64::from(rng.u32(..1_000));
        if put {
            let length = rng.usize(..2_000);
            let body = std::iter::repeat_with(|| rng.u8(..)).take(length).collect::<Vec<u8>>();
            let key = rng.bool().then(|| format!("key-{serial}"));
            let delay = if rng.bool() { 0 } else { delay };
            let head = match &key {
                Some(key) => format!("put-in {priority} {} 60000 # {key}", delay * 1_000),
                None => format!("put {priority} {delay} 60"),
            };
            let id = wire.put(&head, &body);
            let state = if delay > 0 { "delayed" } else { "ready" };
            model.jobs.insert(id, Job { state, priority, delay, key, body });
            return;
        }
        let id = ids[rng.usize(..ids.len())];
        let job = model.jobs.get_mut(&id).unwrap();
        match rng.u8(..6) {
            0 | 1 => {
                wire.expect(&format!("delete {id}"), "DELETED");
                model.jobs.remove(&id);
            }
            2 if job.state != "ready" => {
                wire.expect(&format!("kick-job {id}"), "KICKED");
                job.state = "ready";
            }
            3 => {
                let kept = model.paused;
                let seconds = if kept { 0 } else { 100_000 };
                wire.expect(&format!("pause-tube {} {seconds}", self.tube), "PAUSED");
                model.paused = !kept;
            }
            4 => {
                self.reserve(wire, model, id);
                let job = model.jobs.get_mut(&id).unwrap();
                wire.expect(&format!("release {id} {priority} {delay}"), "RELEASED");
                (job.state, job.priority, job.delay) = ("delayed", priority, delay);
            }
            _ => {
                self.reserve(wire, model, id);
                let job = model.jobs.get_mut(&id).unwrap();
                wire.expect(&format!("bury {id} {priority}"), "BURIED");
                (job.state, job.priority) = ("buried", priority);
            }
        }
    }

    /// Takes a job, which is seen as ready where nobody holds it.
    fn reserve(&self, wire: &mut Wire, model: &mut Model, id: u64) {
        assert_eq!(wire.ask(&format!("reserve-job {id}")).number(1), id);
        model.jobs.get_mut(&id).unwrap().state = "ready";
        self.note(model);
    }

    /// Its queue on a restored server must be what it was after one of these of its commands.
    #[track_caller]
    fn compare(
        &self,
        address: SocketAddr,
        found: &BTreeMap<u64, Seen>,
        keys: &BTreeMap<u64, String>,
        from: usize,
        to: usize,
    ) {
        let mut wire = Wire::to(address);
        let stats = wire.ask(&format!("stats-tube {}", self.tube));
        let paused = stats.line != "NOT_FOUND" && stats.count("pause-time-left") > 0;
        let mine = found.iter().filter(|(_, seen)| seen.tube == self.tube);
        let jobs: BTreeMap<u64, Seen> = mine.map(|(id, seen)| (*id, seen.clone())).collect();
        let history = self.history.lock().unwrap();
        let to = to.min(history.len() - 1);
        // What is not as a model says, in words.
        let differences = |model: &Model| {
            let mut all = Vec::new();
            if model.paused != paused {
                all.push(format!("paused: {paused}"));
            }
            let ids: BTreeSet<u64> = model.jobs.keys().chain(jobs.keys()).copied().collect();
            for id in ids {
                match (model.jobs.get(&id), jobs.get(&id)) {
                    (Some(job), Some(seen)) => {
                        let is_same = (job.state, job.priority) == (seen.state.as_str(), seen.priority)
                            // Only a delayed job's delay means anything.
                            && (job.state != "delayed" || job.delay == seen.delay)
                            && job.body == seen.body
                            && job.key.as_ref() == keys.get(&id);
                        if !is_same {
                            let (job, seen) =
                                (Job { body: vec![], ..job.clone() }, Seen { body: vec![], ..seen.clone() });
                            all.push(format!("job {id}: {job:?} and {seen:?}, key {:?}", keys.get(&id)));
                        }
                    }
                    (job, seen) => all.push(format!("job {id}: {} and {}", job.is_some(), seen.is_some())),
                }
            }
            all
        };
        let nearest = (from..=to).map(|at| (at, differences(&history[at]))).min_by_key(|(_, all)| all.len());
        let (at, all) = nearest.expect("at least where it began");
        assert!(
            all.is_empty(),
            "{} is as after none of its commands {from} to {to}; nearest is {at}: {}",
            self.tube,
            all.join("\n")
        );
    }
}

#[test]
fn a_snapshot_under_load_is_a_moment_of_every_client() {
    let data = TempDir::new().unwrap();
    let rota = Rota::ready(serve(data.path(), &["--sync", "never"]));
    let address = rota.address();
    let still: Vec<_> = (0..STILL)
        .map(|n| (format!("put {} {} 60", n % 5, n % 2 * 1_000_000), vec![n as u8; 100 + n % 3_000]))
        .collect();
    let still_ids = put_all(&mut Wire::to(address), &still);
    let clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
    let enough = AtomicBool::new(false);
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let taken: Vec<(String, Vec<(usize, usize)>)> = thread::scope(|scope| {
        for (number, client) in clients.iter().enumerate() {
            let enough = &enough;
            scope.spawn(move || client.work(address, seed.wrapping_add(number as u64), enough));
        }
        let answered = || clients.iter().map(|client| client.answered.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let taken = (0..SNAPSHOTS).map(|_| {
            let before = answered();
            until("every client does something", || {
                answered().iter().zip(&before).all(|(now, then)| now > then).then_some(())
            });
            let from = answered();
            let address = take(&rota)["address"].as_str().unwrap().to_owned();
            // The command under way may be in it, though nobody had its answer.
            let to = answered().into_iter().map(|count| count + 1);
            (address, from.into_iter().zip(to).collect())
        });
        let taken = taken.collect();
        enough.store(true, Ordering::Relaxed);
        taken
    });
    let newest = Wire::to(address).put("put 0 0 60", b"newest");
    for (address, spans) in &taken {
        let fresh = TempDir::new().unwrap();
        let restored = Rota::ready(serve(fresh.path(), &["--restore", address]));
        let found = see(restored.address(), 1..newest);
        // The listing knows the same jobs, without a server.
        let listed = objects(command(&["inspect", address, "--jobs", "--json"]));
        let text = |job: &serde_json::Value, field: &str| job[field].as_str().map(str::to_owned);
        let keys = listed.iter().filter_map(|job| Some((job["id"].as_u64()?, text(job, "key")?))).collect();
        let shown: BTreeSet<_> = listed
            .iter()
            .map(|job| (job["id"].as_u64().unwrap(), text(job, "state").unwrap(), job["priority"].as_u64().unwrap()))
            .collect();
        assert_eq!(shown, found.iter().map(|(id, seen)| (*id, seen.state.clone(), seen.priority)).collect());
        for (client, (from, to)) in clients.iter().zip(spans) {
            client.compare(restored.address(), &found, &keys, *from, *to);
        }
        for (id, (_, body)) in still_ids.iter().zip(&still) {
            assert_eq!(found.get(id).map(|seen| &seen.body), Some(body), "job {id}");
        }
        let next = Wire::to(restored.address()).put("put 0 0 60", b"next");
        assert!(next > *found.last_key_value().unwrap().0, "ids go on");
    }
}
