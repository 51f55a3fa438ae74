//! `rota serve`: puts the pieces together, says where it listens, and stops in good order.
//!
//! Everything runs on this one thread but the log's and the timer's, which are the host's. It owns nothing that could
//! be lost: a stop at any moment, however rude, leaves a log that the next start reads.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rota_engine::clock::{Clock, SystemClock};
use rota_engine::engine::{BodyHome, Engine, Options};
use rota_engine::job::Time;
use rota_engine::limits::{SEGMENT_BYTES, WEBHOOKS};
use rota_engine::log::Recovery;
use rota_engine::storage::DataDirectory;
use rota_net::access::Door;
use rota_net::beanstalkd::{Facts, LogFacts, ProcessorTime};
use rota_net::host::{History, Host, HostLog, OPEN_SEGMENTS, Promise};
use rota_net::http::{HttpOptions, Patience, Services};
use rota_net::listener::{Entrance, ListenerOptions};
use rota_net::peers::Connections;
use rota_net::timings::Timings;
use rota_net::tls::{Port, Tls};
use rota_net::{http, listener, memory};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::config::{ServeConfig, StorageMode, SyncMode};
use crate::report::{self, Failure};
use crate::snapshot::address::Address;
use crate::snapshot::error::ReadError;
use crate::snapshot::taker::Taker;
use crate::snapshot::{read, restore};
use crate::telemetry::Statsd;
use crate::tls::server::ServerTls;
use crate::tokens::door::TokenDoor;
use crate::tokens::told::{self, Told};
use crate::traces::Traces;
use crate::webhooks::call::Caller;
use crate::webhooks::{self, Outside};

/// File descriptors that are kept free of connections: the log's, the standard streams' and the runtime's.
const OTHER_DESCRIPTORS: u64 = 64;

/// Where there are at least so many, as many as webhooks can be called by are kept free, too.
const MANY_DESCRIPTORS: u64 = 1024;

/// As many as segments of jobs far ahead have open at a time, two each, where that is no more than a quarter of all.
const FAR_DESCRIPTORS: u64 = 1024;

/// How often the allocator is reminded of free memory.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(250);

/// How long the process waits for threads that nobody waits for any more.
const MOST_LEFT_OVER: Duration = Duration::from_secs(1);

/// The most threads that wait for the disk to read bodies.
const BLOCKING_THREADS: usize = 16;

/// Serves until it is told to stop.
pub(crate) fn run(config: ServeConfig) -> anyhow::Result<ExitCode> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build().context("cannot start")?;
    let result = runtime.block_on(serve(config));
    // A look-up of a name, or a read of a disk that hangs, cannot be called off: nobody waits for what comes of it.
    runtime.shutdown_timeout(MOST_LEFT_OVER);
    result
}

async fn serve(config: ServeConfig) -> anyhow::Result<ExitCode> {
    // Before the data is touched: a port in use is the commoner mistake, and costs nothing to find out.
    let tls = config.tls.clone().map(ServerTls::open).transpose()?;
    let caller = Arc::new(Caller::new(config.webhook_allow.clone(), config.webhook_ca.clone())?);
    let beanstalkd = bind("--beanstalkd", config.beanstalkd).await?;
    let http = bind("--http", config.http).await?;
    let beanstalkd_tls = bind("--beanstalkd-tls", config.beanstalkd_tls).await?;
    let http_tls = bind("--http-tls", config.http_tls).await?;
    let (descriptors, far_files) = raise_descriptor_limit(config.storage);
    let has_http = http.is_some() || http_tls.is_some();
    // The beanstalkd protocol keeps half, where it is served.
    let has_beanstalkd = beanstalkd.is_some() || beanstalkd_tls.is_some();
    let share = if has_beanstalkd { descriptors / 2 } else { descriptors };
    let http_connections = if has_http { config.http_connections.min(share).max(1) } else { 0 };
    let most = descriptors.saturating_sub(http_connections).max(1);
    let connections = Connections { most, per_address: config.per_address };

    let (wall, told_at) = (SystemClock.wall(), SystemClock.since_boot());
    let (engine, log) = open(&config, far_files, wall)?;
    let door = Arc::new(TokenDoor::open(config.tokens.clone(), config.auth)?);
    let kept = (config.storage != StorageMode::Memory).then(|| config.data.join(webhooks::file::FILE_NAME));
    let webhooks = Outside::open(kept, caller.clone())?;
    let statsd = config.statsd.as_deref().map(Statsd::connect).transpose()?;
    let traces = Traces::of_environment(has_http)?;
    let timings = statsd.is_some().then(Timings::default);
    let facts = facts(&config, &engine, log.as_ref())?;
    let host = Host::start(engine, log, facts, timings, told_at).context("cannot begin the log's new records")?;

    // Before anybody is told that it is ready, so that a stop from then on is an orderly one.
    let stop_signal = stop_signal()?;
    let last_signal = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
    let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let has_terminal = io::stderr().is_terminal();
    let taker = Arc::new(Taker::new(host.clone(), config.snapshot_to.clone()));
    let (stop, stopped) = watch::channel(false);
    let mut served = tokio::task::JoinSet::new();
    let asks_beanstalkd = config.beanstalkd_asks || config.beanstalkd_tls_asks;
    let asking = match (has_http, asks_beanstalkd) {
        (true, false) => Some("HTTP asks"),
        (false, true) => Some("the beanstalkd protocol asks"),
        (true, true) => Some("HTTP and the beanstalkd protocol ask"),
        (false, false) => None,
    };
    let kept = (config.storage != StorageMode::Memory).then(|| config.data.join(told::FILE_NAME));
    let mut told = Told::open(host.clone(), kept, &door);
    if asking.is_some() {
        told.follow(&door).await;
    }
    webhooks.tell(&host).await;
    if let (Some((path, count)), Some(asking)) = (door.asks(), asking) {
        rota_net::say!("rota {}: {asking} for a token, of {count} in {}", env!("CARGO_PKG_VERSION"), path.display());
    }
    let more = [(" beanstalkd-tls", &beanstalkd_tls), (" http-tls", &http_tls)];
    let more = more.iter().filter(|(_, socket)| socket.is_some());
    rota_net::say!(
        "rota {} ready: beanstalkd {}, http {}{}",
        env!("CARGO_PKG_VERSION"),
        address(beanstalkd.as_ref()),
        address(http.as_ref()),
        more.map(|(name, socket)| format!(",{name} {}", address(socket.as_ref()))).collect::<String>()
    );
    let tls_of = |of: fn(&ServerTls) -> Arc<Tls>| tls.as_ref().map(of);
    let port = |socket: Option<TcpListener>, tls: Option<Arc<Tls>>| socket.map(|socket| Port { socket, tls });
    let entrance = |port: Option<Port>, asks: bool| {
        let door = asks.then(|| door.clone() as Arc<dyn Door>);
        port.map(|port| Entrance { port, door })
    };
    let plain = entrance(port(beanstalkd, None), config.beanstalkd_asks);
    let inside = entrance(port(beanstalkd_tls, tls_of(ServerTls::beanstalkd)), config.beanstalkd_tls_asks);
    let entrances: Vec<Entrance> = plain.into_iter().chain(inside).collect();
    if !entrances.is_empty() {
        let options = ListenerOptions { connections, patience: listener::Patience::default() };
        served.spawn(listener::serve(host.clone(), entrances, options, stopped.clone()));
    }
    let ports: Vec<Port> = port(http, None).into_iter().chain(port(http_tls, tls_of(ServerTls::http))).collect();
    // Webhooks that were set up are called, though nobody may look at them.
    if !ports.is_empty() || webhooks.has_any() {
        let connections = Connections { most: http_connections, per_address: config.http_per_address };
        let options = HttpOptions { connections, patience: Patience::default(), names: config.http_names };
        let services = Services {
            snapshots: taker.clone(),
            webhooks: Arc::new(webhooks),
            door: door.clone(),
            follower: traces.as_ref().map(Traces::follower),
            watcher: traces.as_ref().map(Traces::watcher),
        };
        served.spawn(http::serve(host.clone(), ports, options, services, stopped.clone()));
    }
    if let Some(statsd) = statsd {
        served.spawn(statsd.run(host.clone(), stopped));
    }

    let again = watch::Sender::new(());
    let [tls_again, caller_again, tokens_again] = std::array::from_fn(|_| again.subscribe());
    tokio::select! {
        () = stop_signal => {}
        () = hung_up(hangup, has_terminal, again) => {}
        () = last_snapshot(&host, &taker, last_signal) => {}
        () = give_memory_back() => {}
        () = watch(tls, tls_again) => {}
        () = caller.watch(caller_again) => {}
        () = door.watch(tokens_again, told), if asking.is_some() => {}
        failure = host.failure() => {
            // Not one answer more: not even to commands that the log would not matter to. Nor is a collector waited for.
            traces.into_iter().for_each(Traces::abandon);
            return Err(Failure::log_failed(failure).into());
        }
    }
    stop.send_replace(true);
    while served.join_next().await.is_some() {}
    if let Some(traces) = traces {
        traces.end();
    }
    host.stop().map_err(Failure::log_failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The engine as its data says, with the log to go on with. `far_files`: how many files of segments of jobs far ahead are open
/// at a time.
fn open(config: &ServeConfig, far_files: usize, wall: Time) -> anyhow::Result<(Engine, Option<HostLog>)> {
    let bodies = match config.storage {
        StorageMode::Lazy | StorageMode::Mapped => BodyHome::Log,
        StorageMode::Memory | StorageMode::Durable => BodyHome::Memory,
    };
    let near = (config.storage == StorageMode::Mapped).then_some(config.near);
    let queues = config.max_queues;
    let options = Options { spoke: config.spoke, bodies, near, queues, far_files, ..Options::default() };
    let promise = match (config.storage, config.sync) {
        (StorageMode::Memory, _) => {
            rota_net::say!(
                "rota {}: jobs are kept in memory alone, and end with the process",
                env!("CARGO_PKG_VERSION")
            );
            if let Some(address) = &config.restore {
                return Ok((from_snapshot(options, address, wall)?, None));
            }
            return Ok((Engine::in_memory(options, wall, wall), None));
        }
        (_, SyncMode::Always) => Promise::Durable,
        (_, SyncMode::Never) => Promise::Written { sync_every: None },
        (_, SyncMode::Every(span)) => Promise::Written { sync_every: Some(span) },
    };
    let storage = DataDirectory::open(&config.data)?;
    let segment_bytes = config.segment_bytes.map_or_else(|| fitting_segment_bytes(&storage), Ok)?;
    let mut storage = storage.with_segment_bytes(segment_bytes);
    let path = std::path::absolute(storage.path()).unwrap_or_else(|_| config.data.clone());
    rota_net::say!("rota {}: data in {}", env!("CARGO_PKG_VERSION"), path.display());
    match &config.restore {
        Some(address) => into_directory(address, &mut storage)?,
        None => restore::check_none_under_way(storage.path())?,
    }
    let (engine, writer, recovery, far) = Engine::recover_with_far(options, storage, random()?, wall)?;
    tell(&recovery, &engine);
    let history = History { age: config.history.age, bytes: config.history.bytes };
    Ok((engine, Some(HostLog { writer, promise, history, far, near })))
}

/// A length of segments of which a disk holds many.
fn fitting_segment_bytes(storage: &DataDirectory) -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(storage.path()).context("cannot ask for the size of the disk")?;
    Ok((disk.f_blocks.saturating_mul(disk.f_frsize) / 32).clamp(1 << 20, SEGMENT_BYTES))
}

/// Puts the snapshot that the address names into a directory without a log.
fn into_directory(address: &Address, data: &mut DataDirectory) -> anyhow::Result<()> {
    restore::check_empty(data)?;
    apart(|| {
        let snapshot = newest(address)?;
        restore::into_directory(&snapshot, data)?;
        Ok(())
    })
}

/// An engine with the jobs of the snapshot that the address names, and without a log.
fn from_snapshot(options: Options, address: &Address, wall: Time) -> anyhow::Result<Engine> {
    apart(|| {
        let snapshot = Arc::new(newest(address)?);
        let storage = snapshot.storage()?;
        let recovered = Engine::recover(options, storage, random()?, wall);
        let (engine, _, recovery) =
            recovered.map_err(|source| ReadError::Records { address: snapshot.address(), source })?;
        tell(&recovery, &engine);
        Ok(engine.keep_nothing())
    })
}

fn newest(address: &Address) -> anyhow::Result<read::Snapshot> {
    let (snapshot, unfinished) = read::newest(address)?;
    for name in unfinished {
        rota_net::note!("rota: passed over {name}: it is unfinished, and no snapshot");
    }
    let (jobs, taken) = (snapshot.manifest.all_jobs(), snapshot.manifest.taken_at);
    rota_net::say!("restoring {jobs} jobs from {}, taken at {taken}", snapshot.address());
    Ok(snapshot)
}

/// Does something that blocks on a thread of its own, where no runtime minds, and waits for it: nothing is served yet.
fn apart<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join()).expect("a panic is a bug, after which nothing may be served")
}

fn tell(recovery: &Recovery, engine: &Engine) {
    if recovery.records > 0 {
        let jobs: u64 = engine.totals().by_state.iter().sum();
        let (records, segments) = (recovery.records, recovery.segments);
        let far = match engine.cold_jobs() {
            0 => String::new(),
            far => format!(", {far} of them far ahead and not in memory"),
        };
        rota_net::say!("recovered {jobs} jobs from {records} records in {segments} segments{far}");
    }
    if let Some(torn) = &recovery.torn {
        rota_net::note!(
            "rota: the log ended in the middle of a write ({}): {} bytes that were never acknowledged were cut off at \
             offset {} of {}",
            torn.found,
            torn.bytes,
            torn.offset,
            torn.path.display()
        );
    }
}

async fn bind(flag: &str, address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let socket = TcpListener::bind(address).await.map_err(|cause| {
        Failure::at_run_time(format!("cannot listen on {address}"))
            .caused_by(cause)
            .hint(format!("stop what listens there, or choose another address with {flag} HOST:PORT (port 0: any)"))
    })?;
    Ok(Some(socket))
}

fn address(socket: Option<&TcpListener>) -> String {
    let local = socket.and_then(|socket| socket.local_addr().ok());
    local.map_or_else(|| String::from("off"), |address| address.to_string())
}

/// Lets the process open as many files as it may. Returns how many of them can be connections, and how many segments of jobs far
/// ahead.
fn raise_descriptor_limit(storage: StorageMode) -> (usize, usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let all = current.unwrap_or(1 << 20);
    let webhooks = if all >= MANY_DESCRIPTORS { WEBHOOKS as u64 } else { 0 };
    let far_files = (all / 4).clamp(2, FAR_DESCRIPTORS);
    let segments = match storage {
        StorageMode::Memory | StorageMode::Durable => 0,
        StorageMode::Lazy => OPEN_SEGMENTS as u64,
        StorageMode::Mapped => OPEN_SEGMENTS as u64 + far_files,
    };
    let connections = all.saturating_sub(OTHER_DESCRIPTORS + webhooks + segments).max(1);
    // A semaphore's counts end somewhere too.
    let connections = usize::try_from(connections).unwrap_or(usize::MAX).min(1 << 20);
    (connections, usize::try_from(far_files).unwrap_or(usize::MAX))
}

/// Ends when a snapshot was taken that SIGUSR1 asked for, and nothing was decided since. Puts are refused from when it is its
/// turn; if the snapshot fails, everything goes on as before.
async fn last_snapshot(host: &Host, taker: &Taker, mut told: Signal) {
    while told.recv().await.is_some() {
        let turn = match taker.turn() {
            Some(turn) => Ok(turn),
            None => {
                rota_net::note!("rota: SIGUSR1: a snapshot is being taken; the last one comes when that is over");
                taker.wait_for_turn().await
            }
        };
        let taken = match turn {
            Ok(turn) => {
                host.with(|shared, _| shared.facts.draining = true);
                rota_net::note!("rota: SIGUSR1: puts are refused from now on; the server takes a snapshot and stops");
                taker.take_last(turn).await
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(taken) => {
                let (jobs, bytes) = (taken.manifest.all_jobs(), taken.manifest.bytes());
                rota_net::say!("snapshot {}: {jobs} jobs, {bytes} bytes", taken.address);
                return;
            }
            Err(error) => {
                host.with(|shared, _| shared.facts.draining = false);
                report::failure(
                    &anyhow::Error::new(error).context("the snapshot failed, and the server goes on"),
                    false,
                );
            }
        }
    }
    std::future::pending().await
}

/// Gives free memory back to the system, for ever, now and then.
async fn give_memory_back() {
    let told = Arc::new(Notify::new());
    let tell = Arc::downgrade(&told);
    // With a timer of its own the runtime would set it and unset it each time that it waits for something to come.
    std::thread::spawn(move || {
        while let Some(told) = tell.upgrade() {
            told.notify_one();
            drop(told);
            std::thread::sleep(GIVE_BACK_EVERY);
        }
    });
    loop {
        told.notified().await;
        memory::give_back();
    }
}

/// Has certificates and tokens read again for every SIGHUP. Ends if it is the terminal that hung up, to which nothing can be
/// said any more: who started the server by hand has gone.
async fn hung_up(mut told: Signal, has_terminal: bool, again: watch::Sender<()>) {
    while told.recv().await.is_some() {
        if has_terminal && !io::stderr().is_terminal() {
            return;
        }
        rota_net::note!("rota: SIGHUP: certificates and tokens are read again");
        again.send_replace(());
    }
    std::future::pending().await
}

/// Looks after the files of TLS, for ever; at once when it is told to.
async fn watch(tls: Option<ServerTls>, again: watch::Receiver<()>) {
    match tls {
        Some(tls) => tls.watch(again).await,
        None => std::future::pending().await,
    }
}

/// What ends when the process is told to stop. It listens from the call on.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn facts(config: &ServeConfig, engine: &Engine, log: Option<&HostLog>) -> anyhow::Result<Facts> {
    let machine = rustix::system::uname();
    let stats = log.map(|log| log.writer.stats()).unwrap_or_default();
    Ok(Facts {
        max_job_bytes: u32::try_from(config.max_job_bytes).unwrap_or(u32::MAX),
        draining: false,
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        instance: u64::from_le_bytes(random()?),
        started_at: engine.now(),
        hostname: machine.nodename().to_string_lossy().into_owned(),
        os: machine.version().to_string_lossy().into_owned(),
        platform: machine.machine().to_string_lossy().into_owned(),
        processor_time,
        log: LogFacts {
            oldest_segment: stats.oldest_segment,
            current_segment: stats.newest_segment,
            segment_bytes: if log.is_some() { stats.segment_bytes } else { SEGMENT_BYTES },
            ..LogFacts::default()
        },
    })
}

fn processor_time() -> ProcessorTime {
    use nix::sys::resource::{UsageWho, getrusage};
    let span = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    getrusage(UsageWho::RUSAGE_SELF).map_or_else(
        |_| ProcessorTime::default(),
        |usage| ProcessorTime { user: span(usage.user_time()), system: span(usage.system_time()) },
    )
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    anyhow::ensure!(got.context("cannot get random bytes")? == N, "got too few random bytes");
    Ok(bytes)
}
