//! A server under measurement: started on a free loopback port with a fresh directory, ended by its own process id.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Programs;
use super::plan::Contender;
use crate::process;

/// How long a server may take until it accepts connections.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// A running server. Dropping it kills the process, waits for it and removes its directory.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) directory: PathBuf,
}

impl Server {
    /// Starts the contender and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// It cannot be started, ends at once, or does not listen within ten seconds; with what it wrote.
    pub(super) fn start(programs: &Programs, contender: Contender) -> Result<Server> {
        let address = free_address()?;
        let directory = programs.scratch.join(format!("{}-{}", std::process::id(), address.port()));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let log = File::create(directory.join("output")).context("cannot make a file for a server's output")?;
        let mut command = command(programs, contender, address, &directory);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share a file")?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", contender.name()))?;
        let mut server = Server { child, address, directory };
        server.wait_until_it_listens().with_context(|| format!("{} did not start", contender.name()))?;
        Ok(server)
    }

    /// The processor time it has used so far, in user and in kernel mode.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        cpu_ticks(&stat)
            .map(|ticks| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
            .with_context(|| format!("{path} is not as proc(5) says: {stat}"))
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait().context("cannot wait for it")? {
                bail!("it ended with {status}\n{}", self.output());
            }
            if Instant::now() > deadline {
                bail!("it does not listen on {} after {START_DEADLINE:?}\n{}", self.address, self.output());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.directory.join("output")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already, and a directory left over is removed with target/.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn command(programs: &Programs, contender: Contender, address: SocketAddr, directory: &Path) -> Command {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let rota = |options: &[&str]| {
        let mut rota = ends_with_us(&programs.rota);
        rota.args(["serve", "--http", "off", "--beanstalkd", &address.to_string()]).args(options);
        rota.arg("--data").arg(directory.join("data"));
        // What the user has set for other servers is not for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROTA_")) {
            rota.env_remove(name);
        }
        rota
    };
    let beanstalkd = || {
        let mut beanstalkd = ends_with_us(&programs.beanstalkd);
        beanstalkd.args(["-l", &ip, "-p", &port]);
        beanstalkd
    };
    match contender {
        Contender::RotaMemory => rota(&["--storage", "memory"]),
        Contender::RotaAlways => rota(&["--storage", "durable", "--sync", "always"]),
        Contender::Rota50ms => rota(&["--storage", "durable", "--sync", "50ms"]),
        Contender::Beanstalkd => beanstalkd(),
        Contender::BeanstalkdFsync => {
            let mut beanstalkd = beanstalkd();
            beanstalkd.arg("-b").arg(directory).arg("-f0");
            beanstalkd
        }
        Contender::AnswerOnly => {
            let mut answer_only = ends_with_us(&programs.xtask);
            answer_only.arg("answer-only").arg(address.to_string());
            answer_only
        }
    }
}

/// The program, by way of `setpriv` where there is one: then it is killed with this tool even if nobody drops it.
fn ends_with_us(program: &Path) -> Command {
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
fn free_address() -> Result<SocketAddr> {
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

#[cfg(test)]
mod tests {
    use super::cpu_ticks;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(12));
        assert_eq!(cpu_ticks("42 (a"), None);
    }
}
