//! `cargo xtask counts`: instructions per job, counted, beside those of `docs/instructions.md`.
//!
//! `crates/rota-net/examples/counts.rs` does the work; valgrind counts what the processor is told. Unlike time, that is the
//! same on a busy machine, so that `ci` can tell a change that costs a few per cent. What it cannot tell is how long an
//! instruction takes: that is what `bench` is for.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::process;

/// How many more instructions than agreed are a failure, in per cent. A change elsewhere that has something inlined otherwise
/// makes a difference of one or two.
const TOLERANCE: f64 = 5.0;

/// How often the work is done in the two runs of which the difference is taken.
const TIMES: [u64; 2] = [4_096, 12_288];

const PAGE: &str = "docs/instructions.md";

/// What came of it.
pub(crate) enum Counted {
    /// Nothing costs more than was agreed.
    Agreed,
    /// This machine cannot count, and why.
    NotRun(String),
}

/// `cargo xtask counts` with its arguments: counts, or with `--accept` writes the page anew.
///
/// # Errors
///
/// As for [`run`], another argument, or nothing can be counted here.
pub(crate) fn asked_for(arguments: &[String]) -> Result<()> {
    let accept = match arguments {
        [] => false,
        [word] if word == "--accept" => true,
        _ => bail!("`cargo xtask counts` takes nothing but --accept"),
    };
    match run(accept)? {
        Counted::Agreed => Ok(()),
        Counted::NotRun(why) => bail!("nothing was counted: {why}"),
    }
}

/// Builds, counts, prints a table, and writes the page or holds the counts against it.
///
/// # Errors
///
/// It does not build or run, or something costs more than agreed; the message says what and how to accept it.
pub(crate) fn run(accept: bool) -> Result<Counted> {
    let Some(valgrind) = process::find("valgrind") else {
        return Ok(Counted::NotRun("there is no valgrind; `cargo xtask setup` installs Debian's".into()));
    };
    let path = process::root().join(PAGE);
    let agreed = Page::parse(&std::fs::read_to_string(&path).unwrap_or_default());
    let architecture = std::env::consts::ARCH;
    if !accept && !agreed.architecture.is_empty() && agreed.architecture != architecture {
        return Ok(Counted::NotRun(format!("{PAGE} is for {}, and this is {architecture}", agreed.architecture)));
    }
    let example = build()?;
    let list = process::output(Command::new(&example).arg("--list"))?;
    let work: Vec<&str> = list.lines().collect();
    let counts = count_all(&valgrind, &example, &work)?;
    let compiler = process::output(Command::new("rustc").arg("--version").current_dir(process::root()))?;
    let compiler = compiler.trim().to_owned();
    let rows = work.iter().zip(&counts).map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let counted = Page { architecture: architecture.to_owned(), compiler, rows };
    println!("{}", table(&agreed, &counted));
    if accept {
        std::fs::write(&path, counted.text()).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {PAGE}");
        return Ok(Counted::Agreed);
    }
    judge(&agreed, &counted)?;
    Ok(Counted::Agreed)
}

fn build() -> Result<PathBuf> {
    let arguments = ["build", "--locked", "--profile", "counts", "--package", "rota-net", "--example", "counts"];
    process::run(process::cargo().args(arguments))?;
    Ok(process::target().join("counts/examples/counts"))
}

/// Counts all kinds of work, as many at once as there are processors.
fn count_all(valgrind: &Path, example: &Path, work: &[&str]) -> Result<Vec<u64>> {
    let next = Mutex::new(work.iter().enumerate());
    let counts = Mutex::new(vec![0; work.len()]);
    let lanes = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let lane = || -> Result<()> {
        loop {
            let Some((index, work)) = next.lock().expect("nobody panics with it").next() else { return Ok(()) };
            let [few, many] = TIMES.map(|times| count(valgrind, example, work, times));
            let per_job = (many? - few?) / (TIMES[1] - TIMES[0]);
            counts.lock().expect("nobody panics with it")[index] = per_job;
        }
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().expect("it does not panic"))
    })?;
    Ok(counts.into_inner().expect("nobody panics with it"))
}

/// The instructions of one run.
fn count(valgrind: &Path, example: &Path, work: &str, times: u64) -> Result<u64> {
    let mut command = Command::new(valgrind);
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-fd=1"]);
    command.arg(example).args([work, &times.to_string()]);
    // What the C library picks by the processor it finds, it picks alike on all of them.
    command.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX2_Usable,-ERMS,-FSRM");
    let text = process::output(&mut command)?;
    instructions(&text).with_context(|| format!("valgrind told no number of instructions:\n{text}"))
}

/// The number in valgrind's `==1234== I   refs:      1,234,567`.
fn instructions(text: &str) -> Option<u64> {
    let (_, number) = text.lines().find(|line| line.contains("I ") && line.contains("refs:"))?.rsplit_once(' ')?;
    number.replace(',', "").parse().ok()
}

/// The page: what was agreed on, or counted now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    architecture: String,
    compiler: String,
    /// Instructions per job by kind of work.
    rows: Vec<(String, u64)>,
}

impl Page {
    fn text(&self) -> String {
        let mut text = String::from(
            "# Instructions per job\n\n\
             Counted by `cargo xtask counts`, which is a part of `cargo xtask ci`: it fails where something takes more than\n\
             here. If that is meant, `cargo xtask counts --accept` writes this page anew; do not edit it. The work is in\n\
             `crates/rota-net/examples/counts.rs`: bodies of 64 bytes, the protocol and the engine, without sockets and the\n\
             disk. Counts are no times: an instruction that waits for memory counts as any other.\n\n",
        );
        let Page { architecture, compiler, rows } = self;
        write!(
            text,
            "- processor: {architecture}\n- compiler: {compiler}\n\n| work | instructions per job |\n|---|---:|\n"
        )
        .expect("a string takes everything");
        for (name, count) in rows {
            writeln!(text, "| {name} | {count} |").expect("a string takes everything");
        }
        text
    }

    /// Reads the page again; what is not there is empty.
    fn parse(text: &str) -> Page {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
        let row = |line: &str| {
            let (name, count) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let rows = text.lines().filter_map(row).collect();
        Page { architecture: value("- processor: "), compiler: value("- compiler: "), rows }
    }

    fn row(&self, name: &str) -> Option<u64> {
        self.rows.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }
}

/// How much more, in per cent.
fn growth(agreed: u64, counted: u64) -> f64 {
    (counted as f64 / agreed.max(1) as f64 - 1.0) * 100.0
}

fn table(agreed: &Page, counted: &Page) -> String {
    let mut text = format!("\n{:<46} {:>8} {:>8} {:>8}\n", "instructions per job", "agreed", "now", "");
    for (name, now) in &counted.rows {
        let (before, change) = match agreed.row(name) {
            Some(before) => (before.to_string(), format!("{:+.1} %", growth(before, *now))),
            None => (String::from("–"), String::from("new")),
        };
        writeln!(text, "{name:<46} {before:>8} {now:>8} {change:>8}").expect("a string takes everything");
    }
    text
}

/// # Errors
///
/// What costs more than agreed, or is not agreed on.
fn judge(agreed: &Page, counted: &Page) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, now) in &counted.rows {
        match agreed.row(name) {
            None => wrong.push(format!("{name}: {now}, and {PAGE} has no row for it")),
            Some(before) if growth(before, *now) > TOLERANCE => {
                wrong.push(format!("{name}: {now} instead of {before}, {:+.1} %", growth(before, *now)));
            }
            Some(before) if growth(before, *now) < -TOLERANCE => {
                println!("{name} takes less than agreed; `cargo xtask counts --accept` keeps it so");
            }
            Some(_) => {}
        }
    }
    for (name, _) in agreed.rows.iter().filter(|(name, _)| counted.row(name).is_none()) {
        wrong.push(format!("{name}: it has a row in {PAGE} and is not counted"));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let compiler = if agreed.compiler == counted.compiler {
        String::new()
    } else {
        format!("\n  the compiler is another: {} instead of {}", counted.compiler, agreed.compiler)
    };
    bail!(
        "instructions per job are more than {TOLERANCE} % above what was agreed:\n  {}{compiler}\n  \
         hint: look with `valgrind --tool=callgrind target/counts/examples/counts WORK {}`; if it is meant, \
         `cargo xtask counts --accept` and say why in the commit",
        wrong.join("\n  "),
        TIMES[1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rows: &[(&str, u64)]) -> Page {
        let rows = rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Page { architecture: "x86_64".into(), compiler: "rustc 1.95.0".into(), rows }
    }

    #[test]
    fn the_page_is_read_as_it_is_written() {
        let page = page(&[("put", 2_000), ("reserve, delete", 3_001)]);
        assert_eq!(Page::parse(&page.text()), page);
        assert_eq!(Page::parse(""), Page::default());
    }

    #[test]
    fn only_what_grows_past_the_tolerance_fails() {
        let agreed = page(&[("put", 1_000), ("cancel", 1_000)]);
        assert!(judge(&agreed, &page(&[("put", 1_049), ("cancel", 500)])).is_ok());
        let error = judge(&agreed, &page(&[("put", 1_051), ("cancel", 1_000)])).expect_err("it grew").to_string();
        assert!(error.contains("put: 1051 instead of 1000, +5.1 %\n") && error.contains("--accept"), "{error}");
        assert!(!error.contains("cancel:"), "{error}");
        for other in [page(&[("put", 1_000)]), page(&[("put", 1_000), ("cancel", 1_000), ("new", 1)])] {
            assert!(judge(&agreed, &other).is_err(), "{other:?}");
        }
        let other_compiler = Page { compiler: "rustc 1.96.0".into(), ..page(&[("put", 2_000), ("cancel", 1_000)]) };
        let error = judge(&agreed, &other_compiler).expect_err("it grew").to_string();
        assert!(error.contains("rustc 1.96.0 instead of rustc 1.95.0"), "{error}");
    }

    #[test]
    fn valgrinds_number_is_found() {
        let text = "==7== Cachegrind, a cache and branch-prediction profiler\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(instructions(text), Some(1_234_567));
        assert_eq!(instructions("==7== I refs:        89\n"), Some(89));
        assert_eq!(instructions("nothing"), None);
    }
}
