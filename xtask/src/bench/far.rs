//! `cargo xtask bench far`: jobs an hour to a day ahead in `--storage mapped`, ten million of them, a hundred million with
//! `--large`: how fast they are put and cancelled, what memory that takes, and how long a start takes after a SIGKILL.
//!
//! One connection puts, pipelined; later another one cancels at the same time. The server's memory is looked at all the while
//! and drawn beside the page. No peer holds such jobs anywhere but in memory: beanstalkd needs 299 bytes for each.

use std::fmt::Write;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::jobs::{Connection, Empty, Fill, JobKind};
use super::machine::Machine;
use super::page::{self, Part};
use super::server::{Ending, Folder, Server, Subject};
use super::{Options, Programs, count, mib, verdict};

const JOBS: JobKind = JobKind { body_bytes: 100, is_delayed: true };

/// The most memory that a hundred million may take, in bytes; the rate of puts and cancels that is meant to be reached, and
/// the seconds within which a start is.
const MOST_BYTES: u64 = 1 << 30;
const RATE_GOAL: f64 = 100_000.0;
const START_GOAL_S: f64 = 10.0;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a phase showed.
struct Phase {
    name: &'static str,
    rates: Vec<(&'static str, f64)>,
    took: Duration,
}

/// Measures and writes the part of the page.
///
/// # Errors
///
/// A server does not start, or does not answer as it should. A goal that is missed is no error: the page says so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let jobs: u64 = match (options.quick, options.large) {
        (true, _) => 1_000_000,
        (false, true) => 100_000_000,
        (false, false) => 10_000_000,
    };
    let subject = Subject::rota("mapped", Some("50ms"));
    let folder = Folder::new(programs)?;
    let server = Server::start_in(programs, &subject, &folder)?;
    let address = server.address;
    let worker = thread::spawn(move || work(address, jobs));
    let samples = watch(&server, &worker)?;
    let phases = worker.join().expect("it does not panic")?;
    let waiting = Connection::open(server.address)?.waiting_jobs()?;
    server.end(Ending::Killed)?;
    let server = Server::start_in(programs, &subject, &folder)?;
    let start = server.startup.ready_line.unwrap_or(server.startup.first_answer);
    let after = Connection::open(server.address)?.waiting_jobs()?;
    anyhow::ensure!(after == waiting, "{waiting} jobs were there before the SIGKILL, and {after} after it");
    let resident = server.memory()?.resident;
    drop(server);

    let drawing = page::write_beside(options.quick, "far.svg", &draw(&samples))?;
    let text = describe(machine, options, jobs, &phases, &samples, (start, resident));
    let path = page::write(options.quick, Part::Far, &text)?;
    println!("{text}\nwritten to {} and {}", path.display(), drawing.display());
    Ok(())
}

/// Fills the server, then puts and cancels at once.
fn work(address: SocketAddr, jobs: u64) -> Result<Vec<Phase>> {
    let mut fill = Fill::new(JOBS, jobs);
    let begun = Instant::now();
    Connection::open(address)?.run(&mut fill)?;
    let took = begun.elapsed();
    let filled = Phase { name: "puts alone", rates: vec![("put", jobs as f64 / took.as_secs_f64())], took };
    println!("{} jobs put in {took:.1?}", count(jobs));

    let part = jobs / 10;
    let ids: Vec<u64> = scattered(&fill.ids, part);
    let begun = Instant::now();
    let (puts, cancels) = thread::scope(|scope| {
        let puts = scope.spawn(|| {
            let begun = Instant::now();
            Connection::open(address)?.run(&mut Fill::new(JOBS, part)).map(|()| begun.elapsed())
        });
        let cancels = scope.spawn(|| {
            let begun = Instant::now();
            Connection::open(address)?.run(&mut Empty { ids: ids.iter() }).map(|()| begun.elapsed())
        });
        (puts.join().expect("it does not panic"), cancels.join().expect("it does not panic"))
    });
    let rate = |took: Duration| part as f64 / took.as_secs_f64();
    let rates = vec![("put", rate(puts?)), ("cancel", rate(cancels?))];
    let both = Phase { name: "puts, and cancels of a tenth in random order", rates, took: begun.elapsed() };
    Ok(vec![filled, both])
}

/// So many of the ids, from everywhere among them and in no order.
fn scattered(ids: &[u64], many: u64) -> Vec<u64> {
    // A step that has no divisor in common with the round numbers of jobs here visits each once.
    let length = ids.len() as u64;
    (0..many).map(|n| ids[usize::try_from(n * 7_368_787 % length).expect("an index")]).collect()
}

/// The server's resident memory as long as the work lasts.
fn watch<T>(server: &Server, work: &JoinHandle<T>) -> Result<Vec<(Duration, u64)>> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while !work.is_finished() {
        samples.push((begun.elapsed(), server.memory().context("the server's memory")?.resident));
        thread::sleep(LOOK_EVERY);
    }
    Ok(samples)
}

fn describe(
    machine: &Machine,
    options: &Options,
    jobs: u64,
    phases: &[Phase],
    samples: &[(Duration, u64)],
    (start, resident): (Duration, u64),
) -> String {
    let most = samples.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0);
    let mut text = format!(
        "## Jobs far ahead\n\nWritten by `{}`.\n\n- {machine}\n- {} jobs of 100 bytes, due in one hour to one day, \
         `--storage mapped --sync 50ms`; one connection puts, another one cancels, both pipelined.\n- Resident memory of the server, \
         looked at four times a second, is drawn in [far.svg](benchmarks/far.svg).\n\n",
        options.command(),
        count(jobs)
    );
    let mut goal = |met: bool, line: String| {
        let _ = writeln!(text, "- {}: {line}", verdict(met));
    };
    goal(most <= MOST_BYTES, format!("resident ≤ 1 GiB: {} MiB at the most", mib(most as f64)));
    for (phase, (verb, rate)) in phases.iter().flat_map(|phase| phase.rates.iter().map(move |rate| (phase, rate))) {
        let line =
            format!("{verb} ≥ 100 k/s, {}: {:.0} k/s, over {:.0} s", phase.name, rate / 1e3, phase.took.as_secs_f64());
        goal(*rate >= RATE_GOAL, line);
    }
    let started = start.as_secs_f64();
    goal(
        started <= START_GOAL_S,
        format!("start after a SIGKILL ≤ 10 s: {started:.1} s, with {} MiB resident then", mib(resident as f64)),
    );
    text
}

/// Memory over time, as a drawing.
fn draw(samples: &[(Duration, u64)]) -> String {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 240.0;
    let end = samples.last().map_or(1.0, |(at, _)| at.as_secs_f64()).max(1.0);
    let most = samples.iter().map(|&(_, bytes)| bytes).max().unwrap_or(1).max(1) as f64;
    let points = samples.iter().map(|&(at, bytes)| {
        let (x, y) = (at.as_secs_f64() / end * WIDTH, HEIGHT - bytes as f64 / most * HEIGHT);
        format!("{:.1},{:.1}", x + 60.0, y + 20.0)
    });
    let points: Vec<String> = points.collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 300\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"800\" height=\"300\" fill=\"white\"/>\n\
         <polyline fill=\"none\" stroke=\"#2563eb\" stroke-width=\"1.5\" points=\"{}\"/>\n\
         <path d=\"M60 20V260H780\" fill=\"none\" stroke=\"#444\"/>\n\
         <text x=\"55\" y=\"28\" text-anchor=\"end\">{} MiB</text>\n<text x=\"55\" y=\"262\" text-anchor=\"end\">0</text>\n\
         <text x=\"780\" y=\"278\" text-anchor=\"end\">{end:.0} s</text>\n\
         <text x=\"64\" y=\"14\">resident memory of the server</text>\n</svg>\n",
        points.join(" "),
        mib(most),
    )
}
