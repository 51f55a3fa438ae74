//! `cargo xtask bench http`: puts over HTTP, alone and while thousands listen to events or wait for a job.
//!
//! The load is a thread for each connection that puts, each with one request under way, kept alive: the client's own cost is in
//! what is measured. Whoever listens or waits is a socket that was asked something and not read. nsqd, if it is installed, has
//! the same load in turns with Rota: it takes messages over HTTP, and can have each of them synced.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::machine::{self, Machine};
use super::page::{self, Part};
use super::peers;
use super::server::{Server, Subject};
use super::spread::Spread;
use super::{Options, Programs};

/// Connections that put.
const CONNECTIONS: usize = 50;
/// Puts of a sample.
const PUTS: usize = 100_000;
/// For each of so many of them nsqd has one: it syncs each by itself, and would take many minutes.
const PUTS_FOR_ONE_OF_THE_PEER: usize = 10;
/// Who listens, or waits, at the most.
const IDLE: usize = 10_000;
/// What a server has open beside connections, at the most, and this tool.
const OTHER_DESCRIPTORS: usize = 300;
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// How a server is asked to keep 64 bytes.
#[derive(Clone, Copy, Debug)]
struct Put {
    what: &'static str,
    body: &'static str,
    /// What it answers where it does.
    status: u16,
}

const ROTA: Put = Put {
    what: "POST /v1/jobs",
    body: r#"{"queue":"work","text":"0123456789012345678901234567890123456789012345678901234567890123"}"#,
    status: 201,
};
const NSQD: Put = Put {
    what: "POST /pub?topic=work",
    body: "0123456789012345678901234567890123456789012345678901234567890123",
    status: 200,
};

/// What a sample says.
#[derive(Clone, Copy, Debug)]
struct Sample {
    per_second: f64,
    /// Of a put, in milliseconds.
    p50: f64,
    p99: f64,
    /// Of the server, for each put, in µs.
    cpu_us: f64,
    /// What each idle connection takes of the server's memory, in KiB.
    idle_kib: f64,
}

/// Who else is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Others {
    Nobody,
    Listeners,
    Waiting,
}

const SCENES: [(&str, Others); 3] = [
    ("nobody else", Others::Nobody),
    ("those who listen to other events", Others::Listeners),
    ("those who wait for jobs of another queue", Others::Waiting),
];

/// Measures and writes its part of the page.
///
/// # Errors
///
/// A server does not start, or answers otherwise than it should.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let puts = if options.quick { PUTS / 20 } else { PUTS };
    let idle = idle(options.quick)?;
    let mut samples = vec![Vec::new(); SCENES.len()];
    let mut woken = Vec::new();
    let nsqd = peers::installed("nsqd").map(Subject::nsqd);
    let mut theirs = Vec::new();
    if let Err(error) = &nsqd {
        println!("  not measured: nsqd: {error:#}");
    }
    for round in 1..=options.rounds() {
        machine::wait_for_quiet()?;
        for ((name, others), samples) in SCENES.iter().zip(&mut samples) {
            let (sample, wake) = sample(programs, *others, puts, idle).with_context(|| format!("beside {name}"))?;
            println!("  round {round}: beside {name}: {sample:.1?}");
            samples.push(sample);
            woken.extend(wake);
            if let (Ok(nsqd), Others::Nobody) = (&nsqd, others) {
                let sample =
                    sample_of_peer(programs, nsqd, puts / PUTS_FOR_ONE_OF_THE_PEER).context("while measuring nsqd")?;
                println!("  round {round}: nsqd: {sample:.1?}");
                theirs.push(sample);
            }
        }
    }
    let mut page = String::new();
    writeln!(page, "## HTTP\n\nWritten by `{}`.\n\n- {machine}", options.command())?;
    writeln!(
        page,
        "- `POST /v1/jobs`, bodies of 64 bytes, {CONNECTIONS} connections that are kept alive, one request under way on each; `--sync always`: an answer means synced.\n\
         - The load shares the cores. Least, median and most of {} rounds.\n",
        options.rounds()
    )?;
    let rates = Spread::of(samples[0].iter().map(|sample| sample.per_second));
    let state = super::verdict(rates.median >= 5_000.0);
    writeln!(page, "### Goals\n\n- {state}: puts over HTTP, durable: at least 5,000 a second: {:.0}\n", rates.median)?;
    writeln!(
        page,
        "| beside | puts per second | p50, ms | p99, ms | server CPU, µs per put | memory of each other, KiB |"
    )?;
    writeln!(page, "|---|---:|---:|---:|---:|---:|")?;
    for ((name, others), samples) in SCENES.iter().zip(&samples) {
        let column = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of));
        let rate = column(|sample| sample.per_second);
        let [p50, p99] = [column(|sample| sample.p50), column(|sample| sample.p99)];
        let count = if *others == Others::Nobody { String::new() } else { format!("{idle} ") };
        let memory = match others {
            Others::Nobody => String::from("–"),
            _ => format!("{:.1}", column(|sample| sample.idle_kib).median),
        };
        writeln!(
            page,
            "| {count}{name} | {:.0} / **{:.0}** / {:.0} | {:.2} | {:.2} / **{:.2}** / {:.2} | {:.1} | {memory} |",
            rate.least,
            rate.median,
            rate.most,
            p50.median,
            p99.least,
            p99.median,
            p99.most,
            column(|sample| sample.cpu_us).median,
        )?;
    }
    write_peer(&mut page, &samples[0], &nsqd.map(|_| theirs))?;
    let woken = Spread::of(woken.into_iter());
    writeln!(
        page,
        "\nWith those who wait then a job for each of them, put by 1,000 in a request: all {idle} had theirs, and read it, within \
         {:.2} / **{:.2}** / {:.2} s.",
        woken.least, woken.median, woken.most
    )?;
    let path = page::write(options.quick, Part::Http, &page)?;
    println!("\nHTTP in {:.0} s\nwrote {}", begin.elapsed().as_secs_f64(), path.display());
    Ok(())
}

/// How many may listen: the server, which is another process and speaks HTTP alone, and this one need a descriptor for each. This
/// one may have as many as it can be given.
fn idle(quick: bool) -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let open = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let open = open.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let most = open.saturating_sub(OTHER_DESCRIPTORS + 2 * CONNECTIONS);
    let idle = if quick { IDLE / 20 } else { IDLE }.min(most);
    if idle < 100 {
        bail!("only {open} descriptors may be open: raise `ulimit -n`")
    }
    Ok(idle)
}

fn sample(programs: &Programs, others: Others, puts: usize, idle: usize) -> Result<(Sample, Option<f64>)> {
    let connections = (idle + 2 * CONNECTIONS).to_string();
    let subject = Subject::rota_http("durable", Some("always")).with(&["--http-connections", &connections]);
    let server = Server::start(programs, &subject)?;
    let address = server.address;
    let before = server.memory()?.resident;
    let mut rest = Vec::new();
    for _ in 0..if others == Others::Nobody { 0 } else { idle } {
        rest.push(match others {
            Others::Waiting => ask(address, "POST /v1/leases", r#"{"queues":["other"],"wait":"5m"}"#)?,
            _ => {
                let mut stream = ask(address, "GET /v1/events?kind=job.expired", "")?;
                // Its head says that it listens.
                stream.read_exact(&mut [0; 15])?;
                stream
            }
        });
    }
    // Whoever waits has no answer yet: a request behind all of theirs has.
    ask_once(address, "GET /v1/stats", "")?;
    let idle_kib = (server.memory()?.resident.saturating_sub(before)) as f64 / 1024.0 / rest.len().max(1) as f64;
    let sample = Sample { idle_kib, ..load(&server, address, ROTA, puts)? };
    let woken = if others == Others::Waiting { Some(wake(address, rest)?) } else { None };
    Ok((sample, woken))
}

/// The same load on another server of its own, beside nobody else.
fn sample_of_peer(programs: &Programs, subject: &Subject, puts: usize) -> Result<Sample> {
    let server = Server::start(programs, subject)?;
    load(&server, server.address, NSQD, puts)
}

/// Puts over all connections at once.
fn load(server: &Server, address: SocketAddr, put: Put, puts: usize) -> Result<Sample> {
    let cpu = server.cpu()?;
    let begin = Instant::now();
    let lanes = (0..CONNECTIONS).map(|_| thread::spawn(move || lane(address, put, puts / CONNECTIONS)));
    let lanes: Vec<_> = lanes.collect();
    let mut took = Vec::with_capacity(puts);
    for lane in lanes {
        took.extend(lane.join().expect("a lane does not panic")?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_us = server.cpu()?.saturating_sub(cpu).as_secs_f64() * 1e6 / took.len() as f64;
    took.sort_unstable();
    let quantile = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let per_second = took.len() as f64 / seconds;
    Ok(Sample { per_second, p50: quantile(50), p99: quantile(99), cpu_us, idle_kib: 0.0 })
}

/// Writes Rota beside nsqd, round by round, or why not.
fn write_peer(page: &mut String, ours: &[Sample], theirs: &Result<Vec<Sample>>) -> Result<()> {
    writeln!(page, "\n### Beside nsqd\n")?;
    let theirs = match theirs {
        Ok(theirs) => theirs,
        Err(error) => {
            writeln!(page, "**Not measured**: {error:#}.")?;
            return Ok(());
        }
    };
    writeln!(
        page,
        "`POST /pub` of nsqd 1.3.0 by the same load, in turns with Rota's puts beside nobody else: the same bytes, \
         `--mem-queue-size=0 --sync-every=1`. It answers when a message is written, and syncs it right behind the answer, \
         before it writes the next, with another sync for where its queue stands; Rota answers behind one sync for all puts that \
         came meanwhile. nsqd has a tenth of the puts. The ratio is that of the pairs.\n\n\
         | server | puts per second | p50, ms | p99, ms | server CPU, µs per put |\n|---|---:|---:|---:|---:|"
    )?;
    for (name, samples) in [("Rota", ours), ("nsqd", theirs)] {
        let column = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of));
        let rate = column(|sample| sample.per_second);
        let [p50, p99] = [column(|sample| sample.p50), column(|sample| sample.p99)];
        writeln!(
            page,
            "| {name} | {:.0} / **{:.0}** / {:.0} | {:.2} | {:.2} | {:.1} |",
            rate.least,
            rate.median,
            rate.most,
            p50.median,
            p99.median,
            column(|sample| sample.cpu_us).median,
        )?;
    }
    let ratio = Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours.per_second / theirs.per_second));
    writeln!(
        page,
        "| **ratio**, Rota to nsqd | {:.2} / **{:.2}** / {:.2} | | | |",
        ratio.least, ratio.median, ratio.most
    )?;
    Ok(())
}

/// Puts one after the other; how long each took.
fn lane(address: SocketAddr, put: Put, puts: usize) -> Result<Vec<Duration>> {
    let mut stream = BufReader::new(connect(address)?);
    let request = request(address, put.what, put.body);
    let mut took = Vec::with_capacity(puts);
    for _ in 0..puts {
        let begin = Instant::now();
        stream.get_mut().write_all(request.as_bytes())?;
        let (status, body) = answer(&mut stream)?;
        if status != put.status {
            bail!("a put was answered {status}: {body}");
        }
        took.push(begin.elapsed());
    }
    Ok(took)
}

/// Puts a job for each who waits; how long it took until all had read theirs, in seconds.
fn wake(address: SocketAddr, waiting: Vec<TcpStream>) -> Result<f64> {
    let begin = Instant::now();
    let mut left = waiting.len();
    while left > 0 {
        let count = left.min(1_000);
        let jobs = vec![r#"{"queue":"other","text":"x"}"#; count].join(",");
        let (status, body) = ask_once(address, "POST /v1/jobs", &format!("[{jobs}]"))?;
        if status != 200 {
            bail!("a put was answered {status}: {body}");
        }
        left -= count;
    }
    for stream in waiting {
        let (status, body) = answer(&mut BufReader::new(stream))?;
        if status != 200 || !body.contains("\"lease\"") {
            bail!("who waited was answered {status}: {body}");
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(address: SocketAddr, what: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{what} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn ask(address: SocketAddr, what: &str, body: &str) -> Result<TcpStream> {
    let mut stream = connect(address)?;
    stream.write_all(request(address, what, body).as_bytes())?;
    Ok(stream)
}

/// Asks on a connection of its own: the status and the body of the answer.
///
/// # Errors
///
/// There is no answer, or none that says its length.
pub(super) fn ask_once(address: SocketAddr, what: &str, body: &str) -> Result<(u16, String)> {
    answer(&mut BufReader::new(ask(address, what, body)?))
}

/// The status and the body of an answer that says its length.
fn answer(stream: &mut BufReader<TcpStream>) -> Result<(u16, String)> {
    let (mut line, mut status, mut length) = (String::new(), None, 0);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if let Some(rest) = text.strip_prefix("http/1.1 ") {
            status = rest.get(..3).and_then(|status| status.parse().ok());
        } else if let Some(rest) = text.strip_prefix("content-length:") {
            length = rest.trim().parse().context("a length that is no number")?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status.context("an answer without a status")?, String::from_utf8_lossy(&body).into_owned()))
}
