//! `cargo xtask bench batches`: what Rota's commands for many jobs bring beside the same work one by one, and pipelined.
//!
//! All by `rota bench`, on Rota alone, in rounds in which the ways take turns, each sample with a server of its own.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::machine::{self, Machine};
use super::page::{self, Part};
use super::server::{Server, Subject};
use super::spread::Spread;
use super::{Options, Programs, load};

/// Some work, and the ways to do it.
struct Scene {
    title: &'static str,
    storage: &'static str,
    sync: Option<&'static str>,
    /// Arguments of `rota bench`.
    arguments: &'static str,
    /// The number of jobs of each way, in thousands; a tenth for a short run.
    ways: &'static [Way],
}

/// One way, by name, with what it adds to the arguments.
struct Way {
    name: &'static str,
    arguments: &'static str,
    thousands: u64,
}

const fn way(name: &'static str, arguments: &'static str, thousands: u64) -> Way {
    Way { name, arguments, thousands }
}

const ONE_CONNECTION: &[Way] = &[
    way("one by one", "--depth 1", 20),
    way("64 pipelined", "--depth 64", 600),
    way("batches of 64", "--batch 64", 600),
    way("batches of 1,000", "--batch 1000", 1_000),
];

const FIFTY_CONNECTIONS: &[Way] = &[
    way("one by one", "--depth 1", 100),
    way("16 pipelined", "--depth 16", 600),
    way("batches of 16", "--batch 16", 600),
];

const SCENES: [Scene; 5] = [
    Scene {
        title: "Put, memory, 1 connection",
        storage: "memory",
        sync: None,
        arguments: "--mix put --connections 1",
        ways: ONE_CONNECTION,
    },
    Scene {
        title: "Put, on the disk before the answer, 1 connection",
        storage: "durable",
        sync: Some("always"),
        arguments: "--mix put --connections 1",
        ways: &[
            way("one by one", "--depth 1", 5),
            way("64 pipelined", "--depth 64", 200),
            way("batches of 64", "--batch 64", 200),
            way("batches of 1,000", "--batch 1000", 600),
        ],
    },
    Scene {
        title: "Put-reserve-delete cycle, memory, 1 connection",
        storage: "memory",
        sync: None,
        arguments: "--mix cycle --connections 1",
        ways: ONE_CONNECTION,
    },
    Scene {
        title: "Put-reserve-delete cycle, memory, 50 connections",
        storage: "memory",
        sync: None,
        arguments: "--mix cycle --connections 50",
        ways: FIFTY_CONNECTIONS,
    },
    Scene {
        title: "Delete of delayed jobs in random order, memory, 10 connections",
        storage: "memory",
        sync: None,
        arguments: "--mix cancel --connections 10",
        ways: &[
            way("one by one", "--depth 1", 100),
            way("64 pipelined", "--depth 64", 600),
            way("batches of 64", "--batch 64", 600),
        ],
    },
];

/// One run: jobs per second, and the server's processor time for each in µs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    per_second: f64,
    cpu_us: f64,
}

/// Measures the scenes and writes their part of the page.
///
/// # Errors
///
/// A server does not start, or a sample fails.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut tables = String::new();
    for (number, scene) in SCENES.iter().enumerate() {
        println!("\n[{}/{}] {}", number + 1, SCENES.len(), scene.title);
        let mut samples = vec![Vec::new(); scene.ways.len()];
        for round in 1..=options.rounds() {
            let mut line = format!("  round {round}:");
            machine::wait_for_quiet()?;
            for (way, samples) in scene.ways.iter().zip(&mut samples) {
                let sample = sample(programs, scene, way, options.quick)
                    .with_context(|| format!("while measuring {}", way.name))?;
                line.push_str(&format!("  {} {:.1} k/s", way.name, sample.per_second / 1e3));
                samples.push(sample);
            }
            println!("{line}");
        }
        write_table(&mut tables, scene, &samples)?;
    }
    let mut page = String::new();
    writeln!(page, "## Batches\n\nWritten by `{}`.\n\n- {machine}", options.command())?;
    writeln!(
        page,
        "- Bodies of 64 bytes. Least, median and most of {} rounds, in which the ways take turns.",
        options.rounds()
    )?;
    page.push_str(&tables);
    let path = page::write(options.quick, Part::Batches, &page)?;
    println!("\nbatches in {:.0} s\nwrote {}", begin.elapsed().as_secs_f64(), path.display());
    Ok(())
}

fn sample(programs: &Programs, scene: &Scene, way: &Way, quick: bool) -> Result<Sample> {
    let server = Server::start(programs, &Subject::rota(scene.storage, scene.sync))?;
    let before = server.cpu()?;
    let jobs = if quick { way.thousands * 100 } else { way.thousands * 1_000 };
    let jobs = jobs.to_string();
    let arguments = scene.arguments.split(' ').chain(way.arguments.split(' ')).chain(["--jobs", &jobs]);
    let round = load::round(programs, &server, &arguments.collect::<Vec<_>>())?;
    let cpu = server.cpu()?.saturating_sub(before).as_secs_f64();
    read(&round, cpu).with_context(|| format!("`rota bench` reported something else than agreed:\n{round}"))
}

fn read(round: &Value, cpu: f64) -> Option<Sample> {
    let jobs = round["operations"].as_f64().filter(|jobs| *jobs > 0.0)?;
    let seconds = round["elapsed_s"].as_f64().filter(|seconds| *seconds > 0.0)?;
    Some(Sample { per_second: jobs / seconds, cpu_us: cpu * 1e6 / jobs })
}

fn write_table(page: &mut String, scene: &Scene, samples: &[Vec<Sample>]) -> Result<()> {
    writeln!(page, "\n### {}\n", scene.title)?;
    writeln!(
        page,
        "| way | thousand jobs per second: least / **median** / most | beside one by one | CPU, µs per job |"
    )?;
    writeln!(page, "|---|---:|---:|---:|")?;
    for (way, ours) in scene.ways.iter().zip(samples) {
        let rate = Spread::of(ours.iter().map(|sample| sample.per_second / 1e3));
        let pairs = ours.iter().zip(&samples[0]).map(|(ours, single)| ours.per_second / single.per_second);
        // That of a cancel is mostly filling.
        let cpu = match scene.arguments.contains("cancel") {
            true => String::from("–"),
            false => format!("{:.2}", Spread::of(ours.iter().map(|sample| sample.cpu_us)).median),
        };
        writeln!(
            page,
            "| {} | {:.1} / **{:.1}** / {:.1} | {:.1} × | {cpu} |",
            way.name,
            rate.least,
            rate.median,
            rate.most,
            Spread::of(pairs).median,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_stand_beside_the_first() {
        let round = serde_json::json!({ "operations": 1000, "elapsed_s": 2.0 });
        let single = read(&round, 0.01).expect("all of it is there");
        assert_eq!(single, Sample { per_second: 500.0, cpu_us: 10.0 });
        let faster = Sample { per_second: 4_000.0, cpu_us: 1.0 };
        let mut page = String::new();
        write_table(&mut page, &SCENES[3], &[vec![single; 3], vec![faster; 3], vec![faster; 3]]).unwrap();
        assert!(page.contains("| one by one | 0.5 / **0.5** / 0.5 | 1.0 × | 10.00 |"), "{page}");
        assert!(page.contains("| batches of 16 | 4.0 / **4.0** / 4.0 | 8.0 × | 1.00 |"), "{page}");
    }
}
