//! The power cut under the real binary, again and again: what was promised is on the disk.
//!
//! The server's data lies on a real file system of this kernel, on a loop device, on a disk that this process plays
//! (`disk/device.rs`): it has a cache, and a cut loses of what was not flushed whatever it likes, in any order. From the
//! cut on every write and every sync fails, so that whatever the server still answers rests on what was there before.
//! Then the server is killed, or ends itself; what the disk holds is mounted again (the file system repairs itself), the
//! next server starts on it, and the ledger (`ledger.rs`) looks at every job:
//!
//! - under `--sync always`, everything that was ever answered is there;
//! - under a span and under `never`, what is there is what had been at some moment before the cut: a suffix is missing,
//!   never a hole; under a span, the oldest answer that is missing came not much longer than that before the cut;
//! - after an orderly stop, everything is there in every mode; ids only rise in every mode.
//!
//! Cuts fall under load, while a server starts and recovers, and just after it has stopped.
//!
//! How often is set from outside: `ROTA_POWER_CUTS=1000 cargo test -p rota --test it power`. It takes root, FUSE and loop
//! devices; a file system that this machine can't make or mount is not run, and counted so.

use std::fmt;
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::disk::device::{Cut, Device, Image, Kept};
use crate::disk::{KINDS, Kind, Mounted, not_run};
use crate::ledger::{Ledger, Load, Past};
use crate::process::{self, Rota, number};
use crate::strace;
use crate::wire::Wire;

/// Cuts where nothing else is said.
const CUTS: u64 = 108;

/// Cuts that one disk lives through, at the most.
const CUTS_OF_A_DISK: u64 = 20;

/// Bytes on a disk that is used no more: recovery reads the whole log, which only grows.
const KEPT_OF_A_DISK: u64 = 192 << 20;

/// How long a server is under load before the cut, in milliseconds.
const LOAD_MS: std::ops::Range<u64> = 1..150;

/// One in so many loads is long enough to tell a window from the whole run.
const LONG_EVERY: u8 = 12;

const LONG_MS: std::ops::Range<u64> = 1_500..3_000;

/// How long before a cut the oldest lost answer may have come under a span, beyond that span: a machine at its limit
/// wakes its threads late, and a sync takes its time.
const LATE: Duration = Duration::from_millis(950);

/// Why it may be that a part is not run.
const NEEDS: &str = "it takes root, FUSE, loop devices, the file system in the kernel, and its mkfs";

/// How a server keeps what it promises.
#[derive(Clone, Copy)]
struct Mode {
    flags: &'static [&'static str],
    loses: Loses,
}

/// What a power cut may take of what was answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loses {
    Nothing,
    /// What was answered within this span before it.
    Window(Duration),
    ASuffix,
}

const WINDOW: Loses = Loses::Window(Duration::from_millis(50));

/// Every one there is, and each with segments so short that many are begun and reclaimed.
const MODES: [Mode; 8] = [
    Mode { flags: &["--sync", "always"], loses: Loses::Nothing },
    Mode { flags: &["--sync", "50ms"], loses: WINDOW },
    Mode { flags: &["--sync", "never"], loses: Loses::ASuffix },
    Mode { flags: &["--sync", "always", "--segment-size", "64KiB"], loses: Loses::Nothing },
    Mode { flags: &["--sync", "50ms", "--segment-size", "64KiB", "--history", "0"], loses: WINDOW },
    Mode { flags: &["--sync", "never", "--segment-size", "64KiB", "--history", "0"], loses: Loses::ASuffix },
    Mode {
        flags: &["--storage", "lazy", "--sync", "always", "--segment-size", "64KiB", "--history", "0"],
        loses: Loses::Nothing,
    },
    Mode {
        flags: &[
            "--storage",
            "mapped",
            "--near",
            "1s",
            "--sync",
            "always",
            "--segment-size",
            "64KiB",
            "--history",
            "0",
        ],
        loses: Loses::Nothing,
    },
];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.flags.join(" "))
    }
}

/// What was done.
#[derive(Clone, Copy, Default, Debug)]
struct Cuts {
    at_work: u64,
    at_start: u64,
    /// Just after an orderly stop.
    at_rest: u64,
    /// Servers killed without a cut, in between.
    kills: u64,
    /// Servers that ended by themselves, with the code of a failed log.
    failed: u64,
    /// Blocks in the disk's cache at the cuts, and those of them that were lost.
    cached: u64,
    lost_blocks: u64,
    /// Cuts by which part of the cache they kept: nothing, everything, another part.
    kept: [u64; 3],
    /// Segments begun behind the first, and those whose open jobs were written again.
    segments: u64,
    reclaimed: u64,
    /// Starts that cut off a torn tail.
    torn: u64,
    flushes: u64,
    answers: u64,
    looked_at: u64,
    /// Cuts that took some of what was answered, how much in all, the longest time before the cut that it was, and the
    /// longest from the first that was lost to the last.
    losses: u64,
    lost: u64,
    age: Duration,
    span: Duration,
}

impl Cuts {
    fn all(&self) -> u64 {
        self.at_work + self.at_start + self.at_rest
    }

    fn add(&mut self, more: &Cuts) {
        self.at_work += more.at_work;
        self.at_start += more.at_start;
        self.at_rest += more.at_rest;
        self.kills += more.kills;
        self.failed += more.failed;
        self.cached += more.cached;
        self.lost_blocks += more.lost_blocks;
        for (mine, theirs) in self.kept.iter_mut().zip(more.kept) {
            *mine += theirs;
        }
        self.segments += more.segments;
        self.reclaimed += more.reclaimed;
        self.torn += more.torn;
        self.flushes += more.flushes;
        self.answers += more.answers;
        self.looked_at += more.looked_at;
        self.losses += more.losses;
        self.lost += more.lost;
        self.age = self.age.max(more.age);
        self.span = self.span.max(more.span);
    }
}

impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cuts { at_work, at_start, at_rest, kills, failed, cached, lost_blocks, .. } = self;
        let Cuts { kept: [nothing, everything, part], torn, flushes, answers, looked_at, .. } = self;
        let Cuts { segments, reclaimed, losses, lost, age, span, .. } = self;
        write!(
            f,
            "{at_work} cuts at work, {at_start} while it started, {at_rest} after an orderly stop, {kills} kills between \
             them; the cache kept in {everything}, lost in {nothing}, in part in {part}: {lost_blocks} of {cached} blocks \
             lost; {failed} servers ended by themselves; {segments} more segments, {reclaimed} reclaimed, {torn} torn tails; {flushes} flushes, {answers} commands of the \
             lanes answered, {looked_at} jobs looked at; {losses} cuts took answers, {lost} in all, at most {age:.0?} old and of {span:.0?}"
        )
    }
}

#[test]
fn a_power_cut_takes_no_more_than_was_said() {
    let cuts = number("ROTA_POWER_CUTS").unwrap_or(CUTS);
    let seed = number("ROTA_POWER_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let each = cuts.div_ceil((MODES.len() * KINDS.len()) as u64);
    let done: Vec<Vec<Option<Cuts>>> = thread::scope(|scope| {
        let modes = MODES.map(|mode| {
            scope.spawn(move || KINDS.iter().map(|&kind| live(mode, kind, seed, each)).collect::<Vec<_>>())
        });
        modes.into_iter().map(|mode| mode.join().expect("a disk failed: see above")).collect()
    });
    for (place, kind) in KINDS.iter().enumerate() {
        for (mode, done) in MODES.iter().zip(&done) {
            match &done[place] {
                Some(cuts) => eprintln!("{} {mode}: {cuts}", kind.name),
                None => {
                    not_run(&format!("power cuts on {} with {mode}", kind.name), NEEDS);
                }
            }
        }
    }
}

#[test]
fn what_a_sync_only_pretended_is_lost_in_a_cut() {
    // As a disk that lies would have it: otherwise the test above could not fail.
    let lies = "inject=fdatasync,fsync:retval=0";
    let kind = KINDS[0];
    let device = Image::made(kind).and_then(|image| Device::on(image, Duration::ZERO));
    let mounted = device.as_ref().filter(|_| strace::is_here()).and_then(|device| device.mount(kind));
    let (Some(device), Some(mounted)) = (device, mounted) else {
        return not_run("a sync that lies", "it takes strace; root, FUSE, loop devices and ext4");
    };
    let mut rota = Rota::ready(mounted.inside(&strace::injecting(&process::on(&mounted.data(), &[]), &[lies])));
    let mut wire = Wire::to(rota.address());
    let ids: Vec<u64> = (0..100).map(|_| wire.put("put 0 0 60", b"x")).collect();
    let cut = device.cut_keeping(Kept::Nothing, &mut Rng::new());
    rota.kill();
    drop(mounted);
    let device = Device::on(cut.image, Duration::ZERO).expect("one was on before");
    let mounted = device.mount(kind).expect("one was mounted before");
    let rota = Rota::ready(mounted.on(&[]));
    let mut wire = Wire::to(rota.address());
    assert_eq!(wire.ask(&format!("peek {}", ids[99])).line, "NOT_FOUND");
}

/// One disk after the other, until the power was cut so often; none if this machine can't.
fn live(mode: Mode, kind: Kind, seed: u64, cuts: u64) -> Option<Cuts> {
    let made = Image::made(kind)?;
    let mut total = Cuts::default();
    let mut lives = 0;
    while total.all() < cuts {
        // Every other disk is new again soon: the first start has the most to make durable.
        let most = if lives % 2 == 0 { 3 } else { CUTS_OF_A_DISK };
        let cuts = (cuts - total.all()).min(most);
        let life = Life { mode, kind, seed: seed + lives };
        total.add(&life.live(made.clone(), cuts)?);
        lives += 1;
    }
    Some(total)
}

/// A disk to live through.
struct Life {
    mode: Mode,
    kind: Kind,
    seed: u64,
}

impl Drop for Life {
    fn drop(&mut self) {
        if thread::panicking() {
            let Life { mode, kind, seed } = self;
            eprintln!(
                "{mode} on {} failed; to repeat it: ROTA_POWER_SEED={seed} ROTA_POWER_CUTS=1000 \
                 cargo test -p rota --test it power",
                kind.name
            );
        }
    }
}

impl Life {
    fn live(&self, mut image: Image, cuts: u64) -> Option<Cuts> {
        // Each mode and file system goes its own way from one seed.
        let own = self.mode.flags.iter().chain([&self.kind.name]).flat_map(|word| word.bytes());
        let own = own.fold(self.seed, |own, byte| own.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut rng = Rng::with_seed(own);
        let mut ledger = Ledger::new(rng.u64(..));
        let mut done = Cuts::default();
        let mut past = Past::Killed;
        while done.all() < cuts && image.bytes_kept() < KEPT_OF_A_DISK {
            let device = Device::on(image, Duration::from_micros([0, 500, 4_000][rng.usize(..3)]))?;
            let mounted = device.mount(self.kind)?;
            let command = || mounted.on(self.mode.flags);
            if rng.u8(..4) == 0 {
                let mut rota = Rota::spawn(command());
                thread::sleep(Duration::from_micros(rng.u64(..25_000)));
                let cut = device.cut(&mut rng);
                let came_up = rota.is_ready();
                rota.kill();
                *if came_up { &mut done.at_work } else { &mut done.at_start } += 1;
                // It had taken its share of ids, used or not.
                past = if past == Past::Stopped { Past::Killed } else { past };
                image = done.note(&device, cut);
                continue;
            }
            let mut rota = Rota::ready(command());
            loop {
                done.torn += u64::from(rota.stderr().contains("never acknowledged"));
                let seen = ledger.look(rota.address(), past);
                done.saw(seen, self.mode);
                if rng.u8(..4) > 0 {
                    break;
                }
                done.kills += 1;
                let span = Duration::from_millis(rng.u64(LOAD_MS));
                ledger.work(&mut rota, Load { span, single: false, at_rest: false }, Rota::kill);
                past = Past::Killed;
                rota = Rota::ready(command());
            }
            let disk = (&device, &mounted);
            let (cut, next) = self.cut(rota, disk, &mut ledger, &mut rng, &mut done);
            past = next;
            image = done.note(&device, cut);
        }
        done.answers = ledger.answers();
        Some(done)
    }

    /// Lets everybody work, and cuts the power.
    fn cut(
        &self,
        mut rota: Rota,
        (device, mounted): (&Device, &Mounted),
        ledger: &mut Ledger,
        rng: &mut Rng,
        done: &mut Cuts,
    ) -> (Cut, Past) {
        let long = rng.u8(..LONG_EVERY) == 0;
        let span = Duration::from_millis(rng.u64(if long { LONG_MS } else { LOAD_MS }));
        let stop = rng.u8(..8) == 0;
        // What fails ends a server by itself; where nothing waits for the disk it would go on for a while.
        let by_itself = self.mode.loses == Loses::Nothing && rng.bool();
        let may_lose = self.mode.loses != Loses::Nothing;
        let mut cut = None;
        let load = Load { span, single: stop, at_rest: false };
        ledger.work(&mut rota, load, |rota| {
            if stop {
                let status = rota.terminate();
                assert_eq!(status.code(), Some(0), "{}", rota.stderr());
            }
            // Where nothing waits for the disk, the kernel writes in its own time and order: the cut comes while it does.
            let sync = (may_lose && rng.u8(..4) > 0).then(|| mounted.in_background("sync -f ."));
            if sync.is_some() || rng.bool() {
                device.wait_for_writes();
                thread::sleep(Duration::from_micros(rng.u64(..3_000)));
            }
            cut = Some(device.cut(rng));
            if let Some(mut sync) = sync {
                sync.wait().expect("a child of this process");
            }
            if by_itself && !stop {
                let status = rota.wait();
                assert_eq!(status.code(), Some(4), "{}", rota.stderr());
                done.failed += 1;
            } else if !stop {
                rota.kill();
            }
        });
        *if stop { &mut done.at_rest } else { &mut done.at_work } += 1;
        let cut = cut.expect("the load ends with it");
        let past = match self.mode.loses {
            _ if stop => Past::Stopped,
            Loses::Nothing => Past::Killed,
            Loses::Window(_) | Loses::ASuffix => Past::Cut(cut.at),
        };
        (cut, past)
    }
}

impl Cuts {
    /// Counts a cut, and gives what it left.
    fn note(&mut self, device: &Device, cut: Cut) -> Image {
        self.cached += cut.cached;
        self.lost_blocks += cut.lost;
        self.flushes += device.flushes();
        let place = match cut.kept {
            Kept::Nothing => 0,
            Kept::Everything => 1,
            Kept::First | Kept::Writes | Kept::Blocks => 2,
        };
        self.kept[place] += 1;
        cut.image
    }

    fn saw(&mut self, seen: crate::ledger::Seen, mode: Mode) {
        self.looked_at += seen.jobs;
        (self.segments, self.reclaimed) = (seen.newest_segment - 1, seen.oldest_segment - 1);
        self.losses += u64::from(seen.lost > 0);
        self.lost += seen.lost;
        self.age = self.age.max(seen.age);
        self.span = self.span.max(seen.span);
        if let Loses::Window(window) = mode.loses {
            assert!(seen.age <= window + LATE, "an answer {:?} old is lost", seen.age);
        }
    }
}
