//! `cargo xtask bench build`: what each dependency costs: seconds of a build from nothing, and code in the program.
//!
//! Cargo's own timings tell the seconds; `nm` tells the symbols. Where std's generic code is made for a type of another crate,
//! it counts for that; what was inlined counts where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Options;
use super::machine::Machine;
use super::page::{self, Part};
use crate::process;

/// How many crates the table names.
const HEAVIEST: usize = 10;

/// What std and what has no path of Rust's are called.
const STD: &str = "std";
const OTHERS: &str = "C and assembler";

/// Seconds and bytes by the name of a package.
type Costs = BTreeMap<String, (f64, u64)>;

/// Builds from nothing, weighs, and writes the part of the page.
///
/// # Errors
///
/// It does not build, there is no `nm`, or cargo says something else than it used to.
pub(super) fn run(machine: &Machine, options: &Options) -> Result<()> {
    let folder = process::target().join("bench/build");
    let program = folder.join("release/rota");
    let mut took = None;
    // A short run looks at what a full one has built.
    if !options.quick || !program.exists() {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let mut build = process::cargo();
        build.args(["build", "--release", "--locked", "--package", "rota", "--timings", "--target-dir"]).arg(&folder);
        let begin = Instant::now();
        process::run(&mut build)?;
        took = Some(begin.elapsed());
    }
    let metadata = process::output(process::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata = serde_json::from_str(&metadata).context("`cargo metadata` wrote something that is not JSON")?;
    let graph = Graph::of(&metadata).context("`cargo metadata` lacks a field that is always there")?;

    let mut costs = Costs::new();
    let timings = newest_timings(&folder.join("cargo-timings"))?;
    for (name, seconds) in units(&timings).context("cargo's timings are written otherwise than they were")? {
        costs.entry(name).or_default().0 += seconds;
    }
    let symbols = process::output(Command::new("nm").args(["--demangle", "--print-size"]).arg(&program))?;
    let crates: BTreeSet<String> = costs.keys().map(|name| name.replace('-', "_")).collect();
    for (name, bytes) in code(&symbols, &crates) {
        let package = costs.keys().find(|package| package.replace('-', "_") == name).cloned();
        costs.entry(package.unwrap_or(name)).or_default().1 += bytes;
    }
    let length = std::fs::metadata(&program).with_context(|| format!("cannot look at {}", program.display()))?.len();
    let text = describe(machine, options, &costs, &graph, (took, length));
    let path = page::write(options.quick, Part::Build, &text)?;
    println!("{text}\nwrote {}", path.display());
    Ok(())
}

/// The newest of cargo's reports.
fn newest_timings(folder: &Path) -> Result<String> {
    let files = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let files = files.filter_map(|file| file.ok().map(|file| file.path()));
    let newest: Option<PathBuf> = files.filter(|file| file.extension().is_some_and(|end| end == "html")).max();
    let newest = newest.with_context(|| format!("cargo left no timings in {}", folder.display()))?;
    std::fs::read_to_string(&newest).with_context(|| format!("cannot read {}", newest.display()))
}

/// What was built, by package, and how many seconds each took, in cargo's report.
fn units(report: &str) -> Option<Vec<(String, f64)>> {
    let (_, data) = report.split_once("const UNIT_DATA = ")?;
    // The list ends where JSON says that it does.
    let units = serde_json::Deserializer::from_str(data).into_iter::<Value>().next()?.ok()?;
    let unit = |unit: &Value| Some((unit["name"].as_str()?.to_owned(), unit["duration"].as_f64()?));
    units.as_array()?.iter().map(unit).collect()
}

/// The bytes of code of each crate, in what `nm` lists.
fn code(symbols: &str, crates: &BTreeSet<String>) -> BTreeMap<String, u64> {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for line in symbols.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(size), Some(kind), Some(name)) = (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(size) = u64::from_str_radix(size, 16) else { continue };
        if matches!(kind, "t" | "T" | "w" | "W") {
            *bytes.entry(crate_of(name, crates)).or_default() += size;
        }
    }
    bytes
}

/// The crate whose code a symbol is: the first that it names which is none of std's.
fn crate_of(symbol: &str, crates: &BTreeSet<String>) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = symbol;
    let mut is_std = false;
    while let Some(start) = rest.find(is_word) {
        // A word behind `::` goes on with a path; only what begins one is a crate.
        let begins = !rest[..start].ends_with("::");
        rest = &rest[start..];
        let (word, behind) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        rest = behind;
        if begins && (behind.starts_with("::") || behind.starts_with('[')) {
            if crates.contains(word) {
                return word.to_owned();
            }
            is_std |= matches!(word, "std" | "core" | "alloc");
        }
    }
    String::from(if is_std { STD } else { OTHERS })
}

/// Who depends on whom, tests and benches aside.
#[derive(Debug, Default)]
struct Graph {
    /// By the name of a package: ids would tell versions apart, which the program has side by side but seldom.
    dependencies: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeSet<String>,
}

/// The package that the program is.
const ROOT: &str = "rota";

impl Graph {
    fn of(metadata: &Value) -> Option<Graph> {
        let mut names = BTreeMap::new();
        for package in metadata["packages"].as_array()? {
            names.insert(package["id"].as_str()?, package["name"].as_str()?);
        }
        let ours = metadata["workspace_members"].as_array()?.iter();
        let ours = ours.filter_map(|id| names.get(id.as_str()?)).map(|name| (*name).to_owned()).collect();
        let mut dependencies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let mine = dependencies.entry((*names.get(node["id"].as_str()?)?).to_owned()).or_default();
            for dependency in node["deps"].as_array()? {
                let kinds = dependency["dep_kinds"].as_array()?;
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    mine.insert((*names.get(dependency["pkg"].as_str()?)?).to_owned());
                }
            }
        }
        Some(Graph { dependencies, ours })
    }

    /// What the program needs, without one.
    fn reachable(&self, without: Option<&str>) -> BTreeSet<&str> {
        let mut seen = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(name) = open.pop() {
            for next in self.dependencies.get(name).into_iter().flatten() {
                if Some(next.as_str()) != without && seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    }

    /// The direct dependencies of what is ours in the program, each with all that would be gone without it.
    fn brought(&self) -> Vec<(&str, BTreeSet<&str>)> {
        let all = self.reachable(None);
        let direct = all.iter().filter(|name| self.ours.contains(**name)).flat_map(|name| &self.dependencies[*name]);
        let direct: BTreeSet<&str> = direct.map(String::as_str).filter(|name| !self.ours.contains(*name)).collect();
        let gone = |name: &str| all.difference(&self.reachable(Some(name))).copied().collect();
        direct.into_iter().map(|name| (name, gone(name))).collect()
    }
}

/// The longest that a build from nothing should take, and the most bytes that the program should have.
const MOST_TIME: Duration = Duration::from_secs(6 * 60);
const MOST_BYTES: u64 = 25_000_000;

/// The part of the page; `took` is how long the build took, if there was one, and `length` that of the program.
fn describe(
    machine: &Machine,
    options: &Options,
    costs: &Costs,
    graph: &Graph,
    (took, length): (Option<Duration>, u64),
) -> String {
    let mut goals = String::new();
    if let Some(took) = took {
        let (verdict, minutes) = (super::verdict(took <= MOST_TIME), took.as_secs_f64() / 60.0);
        let _ = writeln!(goals, "- {verdict}: build of the program from nothing: at most 6 min: {minutes:.1} min");
    }
    let (verdict, mb) = (super::verdict(length <= MOST_BYTES), length as f64 / 1e6);
    let _ = writeln!(goals, "- {verdict}: the program: at most 25 MB: {mb:.1} MB");
    let (seconds, bytes) = costs.values().fold((0.0, 0), |(s, b), (seconds, bytes)| (s + seconds, b + bytes));
    let kib = |bytes: u64| format!("{:.0}", bytes as f64 / 1024.0);
    let mut text = format!(
        "## What dependencies cost\n\nWritten by `{}`.\n\n- {machine}\n\
         - `cargo build --release --package rota --timings` from nothing: {} crates take {seconds:.0} seconds, one behind the \
         other; two or more are built at a time.\n\
         - The program has {} KiB, of which {} are code. std's generic code counts for the crate whose type it is made \
         for; what was inlined counts where it is.\n\n{goals}\n\
         ### The {HEAVIEST} heaviest to build\n\n\
         | crate | build, s | of all | code, KiB | of all |\n|---|---:|---:|---:|---:|\n",
        options.command(),
        costs.values().filter(|(seconds, _)| *seconds > 0.0).count(),
        kib(length),
        kib(bytes),
    );
    let percent = |part: f64, all: f64| format!("{:.1} %", part * 100.0 / all.max(f64::MIN_POSITIVE));
    let mut row = |name: &str, (s, b): (f64, u64)| {
        let (of_seconds, of_bytes) = (percent(s, seconds), percent(b as f64, bytes as f64));
        let _ = writeln!(text, "| {name} | {s:.1} | {of_seconds} | {} | {of_bytes} |", kib(b));
    };
    let (ours, mut heaviest): (Vec<_>, Vec<_>) = costs.iter().partition(|(name, _)| graph.ours.contains(*name));
    heaviest.sort_by(|(_, one), (_, other)| other.0.total_cmp(&one.0));
    for (name, cost) in heaviest.iter().take(HEAVIEST) {
        row(name, **cost);
    }
    for name in [STD, OTHERS] {
        row(name, costs.get(name).copied().unwrap_or_default());
    }
    for (name, cost) in ours {
        row(&format!("`{name}`"), *cost);
    }
    text.push_str(
        "\n### What would be gone without one\n\nEach with all that nothing else brings, the ten heaviest.\n\n\
         | dependency | crates | build, s | code, KiB |\n|---|---:|---:|---:|\n",
    );
    let cost = |gone: &BTreeSet<&str>| {
        let each = gone.iter().filter_map(|name| costs.get(*name));
        each.fold((0.0, 0), |(s, b), (seconds, bytes)| (s + seconds, b + bytes))
    };
    let mut brought: Vec<_> = graph.brought().into_iter().map(|(name, gone)| (name, gone.len(), cost(&gone))).collect();
    brought.sort_by(|(_, _, one), (_, _, other)| other.0.total_cmp(&one.0));
    for (name, crates, (seconds, bytes)) in brought.into_iter().take(HEAVIEST) {
        let _ = writeln!(text, "| `{name}` | {crates} | {seconds:.1} | {} |", kib(bytes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_belong_to_the_first_crate_that_they_name() {
        let crates = ["tokio", "rota_net", "axum"].map(String::from).into();
        for (symbol, expected) in [
            ("tokio::runtime::park", "tokio"),
            ("tokio[b1d63fe6a5e1c2d3]::runtime::park", "tokio"),
            ("<rota_net::host::Host>::look_up::{closure#0}", "rota_net"),
            ("core::ptr::drop_in_place<alloc::vec::Vec<axum::Router>>", "axum"),
            ("<alloc::vec::Vec<u8> as core::fmt::Debug>::fmt", STD),
            ("core::fmt::tokio::write", STD),
            ("ring_core_0_17_14__bn_mul_mont", OTHERS),
        ] {
            assert_eq!(crate_of(symbol, &crates), expected, "{symbol}");
        }
        let listed = "0000000000000010 0000000000000020 t tokio::a\n\
                      0000000000000030 0000000000000008 T tokio::b\n\
                      0000000000000040 0000000000000100 r tokio::A_TABLE\n\
                      0000000000000050 t without_a_size\n                 U undefined\n";
        assert_eq!(code(listed, &crates), [("tokio".to_owned(), 0x28)].into());
    }

    #[test]
    fn cargos_report_is_read() {
        let report = "<script>const UNIT_DATA = [{\"name\":\"ring\",\"duration\":1.5},{\"name\":\"ring\",\"duration\":2}];\nconst X";
        assert_eq!(units(report), Some(vec![("ring".into(), 1.5), ("ring".into(), 2.0)]));
        assert_eq!(units("const OTHER = [];"), None);
    }

    #[test]
    fn what_something_else_brings_too_is_not_gone() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let graph = Graph {
            dependencies: [
                ("rota", set(&["rota-net", "web"])),
                ("rota-net", set(&["socket"])),
                ("web", set(&["tls", "socket"])),
                ("tls", set(&["ring"])),
                ("xtask", set(&["only-here"])),
            ]
            .map(|(name, of)| (name.to_owned(), of))
            .into(),
            ours: set(&["rota", "rota-net", "xtask"]),
        };
        let brought = graph.brought();
        assert_eq!(brought, [("socket", ["socket"].into()), ("web", ["ring", "tls", "web"].into())]);
    }
}
