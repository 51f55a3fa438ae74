//! A server under measurement: started on a free loopback port with a directory, ended by its own process id.
//!
//! [`Subject`] says what to start, [`Folder`] is where it keeps its files, so that one can be started again where
//! another ended. A server counts as started when it has answered a command: a socket that listens may do so long
//! before.

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Programs;
use super::peers::nsqd_options;
use crate::process;

/// How long a server may take until it answers: it may have ten million jobs to read back.
const START_DEADLINE: Duration = Duration::from_secs(600);
/// How long a server may take to stop in good order.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// A server with its options.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// What it is called on the page.
    pub(super) name: String,
    program: Program,
    /// Where it is, if that is nowhere in particular.
    installed: Option<PathBuf>,
    options: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Program {
    Rota,
    /// By way of HTTP, with nothing else served.
    RotaHttp,
    Beanstalkd,
    /// With its log in the server's directory.
    BeanstalkdWithLog,
    AnswerOnly,
    /// By way of HTTP.
    Nsqd,
}

impl Subject {
    /// Rota in a storage mode; with no `sync`, at its default.
    pub(super) fn rota(storage: &str, sync: Option<&str>) -> Subject {
        Subject::rota_by(Program::Rota, storage, sync)
    }

    /// The same, which speaks HTTP alone.
    pub(super) fn rota_http(storage: &str, sync: Option<&str>) -> Subject {
        Subject::rota_by(Program::RotaHttp, storage, sync)
    }

    fn rota_by(program: Program, storage: &str, sync: Option<&str>) -> Subject {
        let mut options = vec!["--storage", storage];
        options.extend(sync.iter().flat_map(|sync| ["--sync", sync]));
        Subject::new(&format!("rota {}", options.join(" ")), program, &options)
    }

    /// beanstalkd without a log.
    pub(super) fn beanstalkd() -> Subject {
        Subject::new("beanstalkd", Program::Beanstalkd, &[])
    }

    /// beanstalkd with a log; the option says when it syncs.
    pub(super) fn beanstalkd_with_log(sync: &str) -> Subject {
        Subject::new(&format!("beanstalkd -b DIR {sync}"), Program::BeanstalkdWithLog, &[sync])
    }

    /// The server that answers and does nothing.
    pub(super) fn answer_only() -> Subject {
        Subject::new("answer-only", Program::AnswerOnly, &[])
    }

    /// nsqd, which is installed there: its HTTP port, and all messages on the disk, each of them synced.
    pub(super) fn nsqd(installed: PathBuf) -> Subject {
        Subject { installed: Some(installed), ..Subject::new("nsqd", Program::Nsqd, &[]) }
    }

    fn new(name: &str, program: Program, options: &[&str]) -> Subject {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Subject { name: name.to_owned(), program, installed: None, options }
    }

    /// The same under another name.
    pub(super) fn named(self, name: &str) -> Subject {
        Subject { name: name.to_owned(), ..self }
    }

    /// The same, and it takes bodies of so many bytes.
    pub(super) fn with_bodies_of(mut self, bytes: u64) -> Subject {
        let option = match self.program {
            Program::Rota | Program::RotaHttp => "--max-job-size",
            Program::Beanstalkd | Program::BeanstalkdWithLog => "-z",
            Program::AnswerOnly | Program::Nsqd => return self,
        };
        self.options.extend([option.to_owned(), bytes.to_string()]);
        self
    }

    /// The same with more options.
    pub(super) fn with(mut self, options: &[&str]) -> Subject {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Whether it is Rota.
    pub(super) fn is_rota(&self) -> bool {
        matches!(self.program, Program::Rota | Program::RotaHttp)
    }

    fn command(&self, programs: &Programs, address: SocketAddr, directory: &Path) -> Command {
        let mut command = ends_with_us(match self.program {
            Program::Rota | Program::RotaHttp => &programs.rota,
            Program::Beanstalkd | Program::BeanstalkdWithLog => &programs.beanstalkd,
            Program::AnswerOnly => &programs.xtask,
            Program::Nsqd => self.installed.as_ref().expect("it is made with its path"),
        });
        match self.program {
            Program::Rota | Program::RotaHttp => {
                let (served, off) = match self.program {
                    Program::RotaHttp => ("--http", "--beanstalkd"),
                    _ => ("--beanstalkd", "--http"),
                };
                command.args(["serve", off, "off", served, &address.to_string()]);
                command.arg("--data").arg(directory.join("data"));
                // What the user has set for other servers is not for these.
                for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROTA_")) {
                    command.env_remove(name);
                }
            }
            Program::Beanstalkd | Program::BeanstalkdWithLog => {
                command.args(["-l", &address.ip().to_string(), "-p", &address.port().to_string()]);
                if self.program == Program::BeanstalkdWithLog {
                    command.arg("-b").arg(directory);
                }
            }
            Program::AnswerOnly => {
                command.arg("answer-only").arg(address.to_string());
            }
            Program::Nsqd => {
                let tcp = SocketAddr::from(([127, 0, 0, 1], 0));
                nsqd_options(&mut command, tcp, address, directory, true);
            }
        }
        command.args(&self.options);
        command
    }
}

/// The storage modes that `rota serve` knows, as its help lists them: a new one is measured without a change here.
///
/// # Errors
///
/// It cannot be started, or its help has no such list.
pub(super) fn storage_modes(programs: &Programs) -> Result<Vec<String>> {
    let help = process::output(Command::new(&programs.rota).args(["serve", "--help"]))?;
    modes_in(&help).context("`rota serve --help` does not list the modes of --storage")
}

fn modes_in(help: &str) -> Option<Vec<String>> {
    let (_, behind) = help.split_once("--storage <")?;
    let (modes, _) = behind.split_once('>')?;
    Some(modes.split('|').map(str::to_owned).collect())
}

/// A fresh directory for a server's files, removed when nobody has it any more.
pub(super) struct Folder {
    pub(super) path: PathBuf,
}

impl Folder {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// The scratch directory cannot be written to.
    pub(super) fn new(programs: &Programs) -> Result<Rc<Folder>> {
        for number in 0_u64.. {
            let path = programs.scratch.join(format!("{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Rc::new(Folder { path })),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
        unreachable!("numbers do not end")
    }

    /// The length of all files in it, in bytes.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(super) fn bytes(&self) -> Result<u64> {
        let mut left = vec![self.path.clone()];
        let mut bytes = 0;
        while let Some(directory) = left.pop() {
            let failed = || format!("cannot read {}", directory.display());
            for entry in std::fs::read_dir(&directory).with_context(failed)? {
                let entry = entry.with_context(failed)?;
                // The server may remove a file meanwhile.
                match entry.metadata() {
                    Ok(found) if found.is_dir() => left.push(entry.path()),
                    Ok(found) => bytes += found.len(),
                    Err(_) => {}
                }
            }
        }
        Ok(bytes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left over goes with target/.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// How long a start took, from before the process was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Startup {
    /// Until it said that it was ready; only Rota says so.
    pub(super) ready_line: Option<Duration>,
    /// Until it had answered a command.
    pub(super) first_answer: Duration,
}

/// How a server is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// SIGTERM, and waited for.
    Orderly,
    /// SIGKILL.
    Killed,
}

/// Memory that a process has, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    /// All that lies in memory, mapped files included.
    pub(super) resident: u64,
    /// What is the process's own: heap and stacks.
    pub(super) anonymous: u64,
}

/// A running server. Dropping it kills the process and waits for it.
pub(super) struct Server {
    child: Child,
    output: Arc<Mutex<Output>>,
    pub(super) address: SocketAddr,
    pub(super) startup: Startup,
    /// Behind the child: the files go when the process has gone.
    folder: Rc<Folder>,
}

#[derive(Default)]
struct Output {
    text: String,
    ready_at: Option<Instant>,
}

impl Server {
    /// Starts the subject with a fresh directory and waits until it answers.
    ///
    /// # Errors
    ///
    /// It cannot be started, ends at once, or does not answer in time; with what it wrote.
    pub(super) fn start(programs: &Programs, subject: &Subject) -> Result<Server> {
        Server::start_in(programs, subject, &Folder::new(programs)?)
    }

    /// Starts the subject where another one may have been and waits until it answers.
    ///
    /// # Errors
    ///
    /// As for [`Server::start`].
    pub(super) fn start_in(programs: &Programs, subject: &Subject, folder: &Rc<Folder>) -> Result<Server> {
        let address = free_address()?;
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let mut command = subject.command(programs, address, &folder.path);
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer);
        let begin = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", subject.name))?;
        // The command holds the pipe's writing ends, and only their closing ends the reading.
        drop(command);
        let output = Arc::new(Mutex::new(Output::default()));
        let startup = Startup { ready_line: None, first_answer: Duration::ZERO };
        let mut server = Server { child, output: Arc::clone(&output), address, startup, folder: Rc::clone(folder) };
        thread::spawn(move || collect(reader, &output));
        server
            .wait_until_it_answers(begin, subject.program)
            .with_context(|| format!("{} did not start", subject.name))?;
        server.startup.first_answer = begin.elapsed();
        if subject.is_rota() {
            server.startup.ready_line = Some(server.ready_at()?.duration_since(begin));
        }
        Ok(server)
    }

    /// Where it keeps its files.
    pub(super) fn directory(&self) -> &Path {
        &self.folder.path
    }

    /// The length of its files, in bytes.
    ///
    /// # Errors
    ///
    /// Its directory cannot be read.
    pub(super) fn bytes(&self) -> Result<u64> {
        self.folder.bytes()
    }

    /// The processor time it has used so far, in user and in kernel mode.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        cpu_ticks(&stat)
            .map(|ticks| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
            .with_context(|| format!("/proc/PID/stat is not as proc(5) says: {stat}"))
    }

    /// The processor time of all its threads so far, to the nanosecond; of threads that have ended it knows nothing.
    ///
    /// # Errors
    ///
    /// The process is gone, or the kernel keeps no such count.
    pub(super) fn exact_cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/task", self.child.id());
        let mut nanos = 0;
        for thread in std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))? {
            let file = thread.with_context(|| format!("cannot read {path}"))?.path().join("schedstat");
            // A thread may end meanwhile.
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let spent = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            nanos += spent.with_context(|| format!("{} is not as expected: {text}", file.display()))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The memory it has now.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(super) fn memory(&self) -> Result<Memory> {
        let text = self.proc("smaps_rollup")?;
        Ok(Memory { resident: bytes_of(&text, "Rss:")?, anonymous: bytes_of(&text, "Anonymous:")? })
    }

    /// The most memory it has had, in bytes.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(super) fn peak_memory(&self) -> Result<u64> {
        bytes_of(&self.proc("status")?, "VmHWM:")
    }

    /// Ends it and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It cannot be ended, or does not stop in good order within a minute.
    pub(super) fn end(mut self, ending: Ending) -> Result<()> {
        if ending == Ending::Killed {
            self.child.kill().context("cannot kill a server")?;
            self.child.wait().context("cannot wait for a server")?;
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot end a server")?;
        let deadline = Instant::now() + STOP_DEADLINE;
        while self.child.try_wait().context("cannot wait for a server")?.is_none() {
            if Instant::now() > deadline {
                bail!("a server still runs {STOP_DEADLINE:?} after SIGTERM\n{}", self.text());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn wait_until_it_answers(&mut self, begin: Instant, program: Program) -> Result<()> {
        loop {
            let failed = match first_answer(self.address, program) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait().context("cannot wait for it")? {
                bail!("it ended with {status}\n{}", self.text());
            }
            if begin.elapsed() > START_DEADLINE {
                let address = self.address;
                bail!("it does not answer on {address} after {START_DEADLINE:?}: {failed}\n{}", self.text());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// When it said that it was ready: before it answered, but its line may still be on its way here.
    fn ready_at(&self) -> Result<Instant> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(at) = self.output.lock().unwrap_or_else(PoisonError::into_inner).ready_at {
                return Ok(at);
            }
            if Instant::now() > deadline {
                bail!("it answers, but never said that it is ready\n{}", self.text());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn text(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what a server writes until it ends, and when it said that it was ready.
fn collect(reader: PipeReader, output: &Mutex<Output>) {
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let now = Instant::now();
        let text = String::from_utf8_lossy(&line).into_owned();
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        if text.contains(" ready: ") {
            output.ready_at.get_or_insert(now);
        }
        output.text.push_str(&text);
        line.clear();
    }
}

/// Asks what the server understands and changes nothing.
fn first_answer(address: SocketAddr, program: Program) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(START_DEADLINE))?;
    let (question, length) = match program {
        Program::Nsqd => (&b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n".len()),
        Program::RotaHttp => (&b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n".len()),
        _ => (&b"use default\r\n"[..], b"USING default\r\n".len()),
    };
    stream.write_all(question)?;
    stream.read_exact(&mut vec![0; length])
}

/// The program, by way of `setpriv` where there is one: then it is killed with this tool even if nobody drops it.
pub(super) fn ends_with_us(program: &Path) -> Command {
    match process::find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// A port that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free loopback port")?;
    listener.local_addr().context("cannot find a free loopback port")
}

/// User and kernel time out of a line of `/proc/PID/stat`: the program's name may hold anything, also parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

/// A line of kilobytes in a file of `/proc/PID`, in bytes.
fn bytes_of(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("there is no {name} among\n{text}"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(12));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Rss:                 748 kB\nAnonymous:           100 kB\n";
        assert_eq!(bytes_of(text, "Anonymous:").ok(), Some(102_400));
        assert!(bytes_of(text, "Pss:").is_err());
    }

    #[test]
    fn storage_modes_come_from_the_help() {
        let help = "  --http <ADDR|off>  Serve\n  --storage <memory|durable|lazy>\n    Keep";
        assert_eq!(modes_in(help), Some(vec!["memory".into(), "durable".into(), "lazy".into()]));
        assert_eq!(modes_in("--http <ADDR|off>"), None);
    }
}
