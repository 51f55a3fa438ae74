//! `cargo xtask bench peers`: other servers beside Rota, with the nearest equal guarantees.
//!
//! [`clients`] speaks to them. All are started at once, on free loopback ports, and work in turns, so that what the machine
//! does meanwhile hits all of them alike; who is not asked does nothing. A server that is not installed, or does not come
//! up, is named on the page as not measured.

mod clients;

use std::fmt::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::machine::{self, Machine};
use super::page::{self, Part};
use super::server::{Folder, ends_with_us, free_address};
use super::spread::Spread;
use super::{Options, Programs};
use crate::process;
use clients::{Amqp, Beanstalk, Client, Faktory, Nats, Nsq, RedisList, RedisStream};

/// Commands under way on the one connection.
const DEPTH: usize = 64;
/// How long a server may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A server in a mode.
struct Peer {
    name: &'static str,
    /// When it says that a job is there.
    guarantee: &'static str,
    program: &'static str,
    is_durable: bool,
    start: fn(&mut Command, SocketAddr, &Path) -> Result<Option<Child>>,
    connect: fn(SocketAddr) -> Result<Box<dyn Client>>,
}

const MEMORY: &str = "it is in memory";
const SYNCED: &str = "it is synced to the disk";

const PEERS: [Peer; 17] = [
    Peer {
        name: "rota --storage memory",
        guarantee: MEMORY,
        program: "rota",
        is_durable: false,
        start: |command, address, data| rota(command, address, data, &["memory"]),
        connect: Beanstalk::connect,
    },
    Peer {
        name: "beanstalkd",
        guarantee: MEMORY,
        program: "beanstalkd",
        is_durable: false,
        start: |command, address, _| beanstalkd(command, address, None),
        connect: Beanstalk::connect,
    },
    Peer {
        name: "bstkd",
        guarantee: MEMORY,
        program: "beanstalkd-rs",
        is_durable: false,
        start: |command, address, _| beanstalkd(command, address, None),
        connect: Beanstalk::connect,
    },
    Peer {
        name: "Redis, list",
        guarantee: MEMORY,
        program: "redis-server",
        is_durable: false,
        start: |command, address, data| redis(command, address, data, false),
        connect: RedisList::connect,
    },
    Peer {
        name: "Redis, stream",
        guarantee: MEMORY,
        program: "redis-server",
        is_durable: false,
        start: |command, address, data| redis(command, address, data, false),
        connect: RedisStream::connect,
    },
    Peer {
        name: "NATS JetStream, memory",
        guarantee: MEMORY,
        program: "nats-server",
        is_durable: false,
        start: nats,
        connect: |address| Nats::connect(address, "memory"),
    },
    Peer {
        name: "RabbitMQ, transient messages, publisher confirms",
        guarantee: "the broker has it",
        program: RABBITMQ,
        is_durable: false,
        start: rabbitmq,
        connect: |address| Amqp::connect(address, false),
    },
    Peer {
        name: "Faktory",
        guarantee: "it is in its Redis, which is saved now and then",
        program: "faktory",
        is_durable: false,
        start: faktory,
        connect: Faktory::connect,
    },
    Peer {
        name: "nsqd",
        guarantee: MEMORY,
        program: "nsqd",
        is_durable: false,
        start: |command, address, data| nsqd(command, address, data, false),
        connect: Nsq::connect,
    },
    Peer {
        name: "rota --sync always",
        guarantee: SYNCED,
        program: "rota",
        is_durable: true,
        start: |command, address, data| rota(command, address, data, &["durable", "--sync", "always"]),
        connect: Beanstalk::connect,
    },
    Peer {
        name: "beanstalkd -f0",
        guarantee: SYNCED,
        program: "beanstalkd",
        is_durable: true,
        start: |command, address, data| beanstalkd(command, address, Some(data)),
        connect: Beanstalk::connect,
    },
    Peer {
        name: "bstkd -f0",
        guarantee: SYNCED,
        program: "beanstalkd-rs",
        is_durable: true,
        start: |command, address, data| beanstalkd(command, address, Some(data)),
        connect: Beanstalk::connect,
    },
    Peer {
        name: "Redis, list, AOF appendfsync always",
        guarantee: SYNCED,
        program: "redis-server",
        is_durable: true,
        start: |command, address, data| redis(command, address, data, true),
        connect: RedisList::connect,
    },
    Peer {
        name: "Redis, stream, AOF appendfsync always",
        guarantee: SYNCED,
        program: "redis-server",
        is_durable: true,
        start: |command, address, data| redis(command, address, data, true),
        connect: RedisStream::connect,
    },
    Peer {
        name: "NATS JetStream, file, sync_interval always",
        guarantee: SYNCED,
        program: "nats-server",
        is_durable: true,
        start: nats,
        connect: |address| Nats::connect(address, "file"),
    },
    Peer {
        name: "RabbitMQ, persistent messages, publisher confirms",
        guarantee: SYNCED,
        program: RABBITMQ,
        is_durable: true,
        start: rabbitmq,
        connect: |address| Amqp::connect(address, true),
    },
    Peer {
        name: "nsqd --mem-queue-size=0 --sync-every=1",
        guarantee: "it is written to a file, which is synced right after",
        program: "nsqd",
        is_durable: true,
        start: |command, address, data| nsqd(command, address, data, true),
        connect: Nsq::connect,
    },
];

/// Where Debian keeps the script that starts it as whoever asks; the one on the path changes the user.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

fn rota(command: &mut Command, address: SocketAddr, data: &Path, storage: &[&str]) -> Result<Option<Child>> {
    command.args(["serve", "--http", "off", "--beanstalkd", &address.to_string(), "--data"]).arg(data);
    command.arg("--storage").args(storage);
    Ok(None)
}

fn beanstalkd(command: &mut Command, address: SocketAddr, log: Option<&Path>) -> Result<Option<Child>> {
    command.args(["-l", &address.ip().to_string(), "-p", &address.port().to_string()]);
    if let Some(log) = log {
        command.arg("-b").arg(log).arg("-f0");
    }
    Ok(None)
}

fn redis(command: &mut Command, address: SocketAddr, data: &Path, synced: bool) -> Result<Option<Child>> {
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string(), "--save", "", "--dir"]);
    command.arg(data);
    if synced {
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    }
    Ok(None)
}

fn nats(command: &mut Command, address: SocketAddr, data: &Path) -> Result<Option<Child>> {
    let settings = format!(
        "listen: \"{address}\"\njetstream {{ store_dir: {:?}, sync_interval: always, max_memory_store: 1GB, \
         max_file_store: 8GB }}\n",
        data.display().to_string()
    );
    let path = data.join("settings");
    std::fs::write(&path, settings).with_context(|| format!("cannot write {}", path.display()))?;
    command.arg("--config").arg(path);
    Ok(None)
}

/// Its Redis ends with it.
fn faktory(command: &mut Command, address: SocketAddr, data: &Path) -> Result<Option<Child>> {
    let pages = free_address()?.to_string();
    command.args(["-l", "error", "-e", "development", "-b", &address.to_string(), "-w", &pages, "-d"]).arg(data);
    command.arg("-c").arg(data);
    Ok(None)
}

fn nsqd(command: &mut Command, address: SocketAddr, data: &Path, synced: bool) -> Result<Option<Child>> {
    nsqd_options(command, address, free_address()?, data, synced);
    Ok(None)
}

/// How nsqd is started; `synced`: all messages are on the disk, each of them synced.
pub(super) fn nsqd_options(command: &mut Command, tcp: SocketAddr, http: SocketAddr, data: &Path, synced: bool) {
    command.args(["--tcp-address", &tcp.to_string(), "--http-address", &http.to_string(), "--log-level", "error"]);
    command.args(["--broadcast-address", "127.0.0.1", "--max-rdy-count", "10000", "--data-path"]).arg(data);
    // Or more than a sample puts.
    let [in_memory, sync_every] = if synced { ["0", "1"] } else { ["10000000", "2500"] };
    command.args(["--mem-queue-size", in_memory, "--sync-every", sync_every]);
}

/// Its runtime wants a daemon that knows its nodes: one of our own, which ends with us.
fn rabbitmq(command: &mut Command, address: SocketAddr, data: &Path) -> Result<Option<Child>> {
    let [names, distribution] = [free_address()?.port().to_string(), free_address()?.port().to_string()];
    let mut epmd = ends_with_us(Path::new("epmd"));
    epmd.args(["-address", "127.0.0.1", "-port", &names]).stdin(Stdio::null()).stdout(Stdio::null());
    let epmd = epmd.stderr(Stdio::null()).process_group(0).spawn().context("cannot start epmd")?;
    command
        .env("ERL_EPMD_PORT", names)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("HOME", data)
        .env("RABBITMQ_NODENAME", format!("bench{}@localhost", address.port()))
        .env("RABBITMQ_NODE_IP_ADDRESS", address.ip().to_string())
        .env("RABBITMQ_NODE_PORT", address.port().to_string())
        .env("RABBITMQ_DIST_PORT", distribution)
        .env("RABBITMQ_MNESIA_BASE", data)
        .env("RABBITMQ_LOG_BASE", data)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", data.join("plugins"))
        .env("RABBITMQ_CONFIG_FILE", data.join("none"));
    Ok(Some(epmd))
}

/// A server that runs. Dropping it ends it, then removes its files.
struct Running {
    peer: &'static Peer,
    _children: Children,
    client: Box<dyn Client>,
    _folder: Rc<Folder>,
    /// Thousand jobs per second of each round: put, and taken and completed.
    puts: Vec<f64>,
    takes: Vec<f64>,
}

/// Processes that are to end whatever comes of them.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // All fail only for processes that are gone already. RabbitMQ's server is a child of a script.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Measures who is there, and writes the part of the page.
///
/// # Errors
///
/// Rota or beanstalkd does not start, or a server answers wrongly.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut tables = String::new();
    let mut absent: Vec<String> = Vec::new();
    for is_durable in [false, true] {
        let mut running = Vec::new();
        for peer in PEERS.iter().filter(|peer| peer.is_durable == is_durable) {
            match start(programs, peer) {
                Ok(started) => running.push(started),
                Err(error) if ["rota", "beanstalkd"].contains(&peer.program) => {
                    return Err(error.context(format!("{} did not start", peer.name)));
                }
                Err(error) => {
                    println!("  not measured: {}: {error:#}", peer.name);
                    absent.push(format!("{}: {error}", peer.name));
                }
            }
        }
        println!("\n{}", if is_durable { "durable" } else { "memory" });
        let time = Duration::from_millis(if options.quick { 100 } else { 700 });
        for round in 0..=options.rounds() {
            machine::wait_for_quiet()?;
            for one in &mut running {
                let name = one.peer.name;
                let (put, taken) = sample(one, time).with_context(|| format!("while measuring {name}"))?;
                // The first round warms up.
                if round > 0 {
                    one.puts.push(put);
                    one.takes.push(taken);
                    println!("  round {round}: {name}: put {put:.1} k/s, taken {taken:.1} k/s");
                }
            }
        }
        let heading = if is_durable { "On the disk before the answer" } else { "In memory" };
        write_table(&mut tables, heading, &running)?;
    }
    let mut page = String::new();
    writeln!(page, "## Other servers\n\nWritten by `{}`.\n\n- {machine}", options.command())?;
    writeln!(
        page,
        "- One connection, {DEPTH} commands under way, bodies of 64 bytes, by the same small client for all. Puts are \
         counted when they are confirmed; a job is taken when the server has forgotten it.\n\
         - A list of Redis is read by moving a job to a second list and removing it there when it is done. NATS, \
         RabbitMQ and nsqd are not told to wait for what is taken to be synced; nsqd answers a put before it syncs. RabbitMQ syncs persistent messages in batches \
         before it confirms; a classic queue."
    )?;
    for absent in &absent {
        writeln!(page, "- **Not measured**: {absent}")?;
    }
    page.push_str(&tables);
    let path = page::write(options.quick, Part::Peers, &page)?;
    println!("\npeers in {:.0} s\nwrote {}", begin.elapsed().as_secs_f64(), path.display());
    Ok(())
}

fn start(programs: &Programs, peer: &'static Peer) -> Result<Running> {
    let program: PathBuf = match peer.program {
        "rota" => programs.rota.clone(),
        "beanstalkd" => programs.beanstalkd.clone(),
        name => installed(name)?,
    };
    let folder = Folder::new(programs)?;
    let address = free_address()?;
    let mut command = ends_with_us(&program);
    let helper = (peer.start)(&mut command, address, &folder.path)?;
    let mut children = Children(helper.into_iter().collect());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    children.0.push(command.spawn().context("cannot be started")?);
    let begin = Instant::now();
    let client = loop {
        let failed = match (peer.connect)(address) {
            Ok(client) => break client,
            Err(error) => error,
        };
        let server = children.0.last_mut().expect("it was added above");
        if let Some(status) = server.try_wait()? {
            bail!("it ended with {status}");
        }
        if begin.elapsed() > START_DEADLINE {
            return Err(failed.context("it does not answer"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok(Running { peer, _children: children, client, _folder: folder, puts: Vec::new(), takes: Vec::new() })
}

/// A server that `cargo xtask setup --peers` installs, by its name or path.
///
/// # Errors
///
/// It did not.
pub(super) fn installed(program: &str) -> Result<PathBuf> {
    let ours = process::root().join("target/peers/bin").join(program);
    let path = if ours.exists() { Some(ours) } else { process::find(program) };
    path.context("not installed; `cargo xtask setup --peers` does")
}

/// Puts for that long, then takes all of it; thousand jobs per second.
fn sample(one: &mut Running, time: Duration) -> Result<(f64, f64)> {
    let mut batches = 0;
    let begin = Instant::now();
    while begin.elapsed() < time {
        one.client.put(DEPTH)?;
        batches += 1;
    }
    let put = begin.elapsed();
    let begin = Instant::now();
    for _ in 0..batches {
        one.client.take(DEPTH)?;
    }
    let rate = |span: Duration| f64::from(batches) * DEPTH as f64 / span.as_secs_f64() / 1e3;
    Ok((rate(put), rate(begin.elapsed())))
}

fn write_table(page: &mut String, heading: &str, running: &[Running]) -> Result<()> {
    writeln!(page, "\n### {heading}\n")?;
    writeln!(
        page,
        "Thousand jobs per second: least / **median** / most; then Rota's ratio to it, the median of the pairs.\n\n\
         | server | a put is confirmed when | put | | reserve and delete | |\n|---|---|---:|---:|---:|---:|"
    )?;
    for one in running {
        let cells = |of: fn(&Running) -> &[f64]| {
            let (ours, theirs) = (of(&running[0]), of(one));
            let rate = Spread::of(theirs.iter().copied());
            let ratio = Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs)).median;
            format!("{:.1} / **{:.1}** / {:.1} | {ratio:.2}", rate.least, rate.median, rate.most)
        };
        let (put, taken) = (cells(|one| &one.puts), cells(|one| &one.takes));
        writeln!(page, "| {} | {} | {put} | {taken} |", one.peer.name, one.peer.guarantee)?;
    }
    Ok(())
}
