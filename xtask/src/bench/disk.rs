//! What one sync costs on the disk that the servers write to: no durable number means anything without it.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What a small group of records takes.
const APPENDED: [u8; 512] = [b'x'; 512];

/// How long an append with `fdatasync` takes.
pub(super) struct SyncCost {
    pub(super) best: Duration,
    pub(super) median: Duration,
    pub(super) worst: Duration,
}

impl fmt::Display for SyncCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |span: Duration| span.as_micros();
        write!(f, "best {} µs, median {} µs, worst {} µs", us(self.best), us(self.median), us(self.worst))
    }
}

/// Appends and syncs for that long, at least once.
///
/// # Errors
///
/// The directory cannot be written to.
pub(super) fn measure(directory: &Path, time: Duration) -> Result<SyncCost> {
    let path = directory.join(format!("sync-{}", std::process::id()));
    let costs = appends(&path, time).with_context(|| format!("cannot write and sync {}", path.display()));
    // Left over only if it was never made.
    let _ = std::fs::remove_file(&path);
    let mut costs = costs?;
    costs.sort_unstable();
    let last = costs.len() - 1;
    Ok(SyncCost { best: costs[0], median: costs[last / 2], worst: costs[last] })
}

fn appends(path: &Path, time: Duration) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let mut costs = Vec::new();
    let start = Instant::now();
    while costs.is_empty() || start.elapsed() < time {
        let before = Instant::now();
        file.write_all(&APPENDED)?;
        file.sync_data()?;
        costs.push(before.elapsed());
    }
    Ok(costs)
}
