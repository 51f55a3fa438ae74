//! What the numbers were taken on: the line that stands above every table, and how much room the machine has.
//!
//! Each bench looks before it builds anything, whose load is not what the reader wants to know of.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// How much of its processors a machine may use on which nothing else runs.
const QUIET: f64 = 0.05;

/// What the numbers were taken on.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) date: String,
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    /// Load average at the start.
    pub(super) load: String,
    /// The part of all processors' time that others used in the second before, 0 to 1.
    pub(super) busy: f64,
    pub(super) beanstalkd: String,
    pub(super) rota: String,
}

impl Machine {
    /// Asks the system; takes a second.
    ///
    /// # Errors
    ///
    /// `date`, `beanstalkd` or `git` cannot be started, or `/proc` is not there.
    pub(super) fn look() -> Result<Machine> {
        let ask = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            process::output(command.args(arguments).current_dir(process::root())).map(|text| text.trim().to_owned())
        };
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let processors = read("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Machine {
            date: ask("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processor: model.map_or("processor", |(_, name)| name).trim().to_owned(),
            cores: std::thread::available_parallelism().context("cannot count the cores")?.get(),
            load: read("/proc/loadavg")?.split(' ').next().unwrap_or("?").to_owned(),
            busy: busy(Duration::from_secs(1))?,
            beanstalkd: ask("beanstalkd", &["-v"])?,
            // A checkout without a commit has no name yet.
            rota: ask("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(|_| "not committed".into()),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { date, kernel, processor, cores, load, busy, beanstalkd, rota } = self;
        write!(f, "{date}; {cores} cores of {processor}, Linux {kernel}, load average {load} at the start")?;
        if *busy > QUIET {
            write!(f, " (**preliminary**: other programs used {:.0} % of the processors)", busy * 100.0)?;
        }
        write!(f, "; {beanstalkd}; Rota at {rota}")
    }
}

/// What part of the processors' time is used while this tool does nothing.
fn busy(span: Duration) -> Result<f64> {
    let read = || std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat");
    let before = read()?;
    thread::sleep(span);
    let after = read()?;
    let [(idle, all), (idle_later, all_later)] = [ticks(&before), ticks(&after)];
    let passed = all_later.saturating_sub(all).max(1);
    Ok(1.0 - idle_later.saturating_sub(idle) as f64 / passed as f64)
}

/// Waits until other programs leave the processors alone, as long as patience lasts: a minute and a half over the whole
/// run. Called while this tool has nothing running.
///
/// # Errors
///
/// `/proc` is not there.
pub(super) fn wait_for_quiet() -> Result<()> {
    static WAITED_MS: AtomicU64 = AtomicU64::new(0);
    const PATIENCE_MS: u64 = 90_000;
    const LOOK: Duration = Duration::from_millis(100);
    let mut is_told = false;
    while WAITED_MS.load(Ordering::Relaxed) < PATIENCE_MS {
        if busy(LOOK)? <= 3.0 * QUIET {
            return Ok(());
        }
        if !std::mem::replace(&mut is_told, true) {
            println!("  waiting for other programs to leave the processors alone");
        }
        WAITED_MS.fetch_add(LOOK.as_millis() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// The idle ticks and all ticks in the first line of `/proc/stat`.
fn ticks(stat: &str) -> (u64, u64) {
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // Idle and waiting for a disk; the guests' time behind the eighth is in the first two as well.
    let idle = fields.iter().skip(3).take(2).sum();
    (idle, fields.iter().take(8).sum())
}

/// Half of the memory that programs can still have, in bytes: what is kept free is for the load generator and for
/// whatever else runs.
///
/// # Errors
///
/// `/proc/meminfo` does not say.
pub(super) fn half_of_the_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo has no MemAvailable")? * 1024 / 2)
}

/// Half of what is free on the disk that holds a directory, in bytes.
///
/// # Errors
///
/// The directory is not there.
pub(super) fn half_of_the_disk(directory: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(directory);
    let found = found.with_context(|| format!("cannot ask how much is free below {}", directory.display()))?;
    Ok(found.f_bavail * found.f_frsize / 2)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn waiting_for_a_disk_is_idle_and_guests_count_once() {
        assert_eq!(ticks("cpu  10 0 5 80 5 0 0 0 7 7\ncpu0 1 2 3 4"), (85, 100));
    }
}
