//! `cargo xtask bench latency`: how soon a waiting consumer has its job, how late delayed jobs come, how fast jobs are
//! cancelled.
//!
//! All by `rota bench`, in rounds in which the contenders take turns, each sample with a server of its own. Puts are paced,
//! so that nothing but the server's own delay is measured, and due times are spread as the puts are: beanstalkd knows
//! whole seconds only, and gets the same commands.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::draw::{self, Group};
use super::machine::{self, Machine};
use super::page::{self, Part};
use super::server::{Server, Subject};
use super::spread::Spread;
use super::{Options, Programs, load, verdict};

/// What is measured of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// From a put to the consumer that waited for it.
    Wake,
    /// From the moment when a job is due to its consumer.
    Late,
    /// Deletes of delayed jobs in random order.
    Cancel,
}

struct Scene {
    title: &'static str,
    what: What,
    /// Arguments of `rota bench`, for a run of full length and for a short one.
    arguments: &'static str,
    jobs: [&'static str; 2],
}

const SCENES: [Scene; 4] = [
    Scene {
        title: "Put to waiting consumer: 1 producer, 1 consumer, 1,000 jobs per second",
        what: What::Wake,
        arguments: "--mix delayed --delay-range 0s..0s --connections 1 --rate 1000",
        jobs: ["3000", "300"],
    },
    Scene {
        title: "Put to waiting consumer: 20 producers, 20 consumers, 5,000 jobs per second",
        what: What::Wake,
        arguments: "--mix delayed --delay-range 0s..0s --connections 20 --rate 5000",
        jobs: ["15000", "1500"],
    },
    Scene {
        title: "Lateness of delayed jobs: delays of 1 and 2 s, 10 producers, 10 consumers, 3,000 jobs per second",
        what: What::Late,
        arguments: "--mix delayed --delay-range 1s..2s --connections 10 --rate 3000",
        jobs: ["9000", "900"],
    },
    Scene {
        title: "Cancel: deletes of delayed jobs in random order, 10 connections × 64, for at most 2 s",
        what: What::Cancel,
        arguments: "--mix cancel --connections 10 --depth 64 --time 2s",
        jobs: ["1000000", "20000"],
    },
];

/// One run: microseconds, or for [`What::Cancel`] thousand jobs per second.
#[derive(Clone, Copy)]
struct Sample {
    p50: f64,
    p99: f64,
    most: f64,
    early: f64,
    cpu_us: f64,
    per_second: f64,
}

/// Measures the scenes and writes their part of the page.
///
/// # Errors
///
/// A server does not start, or a sample fails. A goal that is missed is no error: the page says so.
pub(super) fn run(programs: &Programs, machine: &Machine, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let subjects = [
        Subject::rota("memory", None).named("rota, memory"),
        Subject::rota("durable", Some("always")).named("rota, --sync always"),
        Subject::beanstalkd().named("beanstalkd, memory"),
    ];
    let mut tables = String::new();
    let mut goals = Vec::new();
    let mut groups = Vec::new();
    for (number, scene) in SCENES.iter().enumerate() {
        println!("\n[{}/{}] {}", number + 1, SCENES.len(), scene.title);
        let mut samples = vec![Vec::new(); subjects.len()];
        for round in 1..=options.rounds() {
            let mut line = format!("  round {round}:");
            machine::wait_for_quiet()?;
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                let sample = sample(programs, subject, scene, options.quick)
                    .with_context(|| format!("while measuring {}", subject.name))?;
                line.push_str(&match scene.what {
                    What::Cancel => format!("  {} {:.1} k/s", subject.name, sample.per_second / 1e3),
                    _ => format!("  {} {:.0}/{:.0} µs", subject.name, sample.p50, sample.p99),
                });
                samples.push(sample);
            }
            println!("{line}");
        }
        goals.extend(judge(scene, &samples));
        groups.extend(drawn(scene, &subjects, &samples));
        write_table(&mut tables, scene, &subjects, &samples)?;
    }
    let mut page = String::new();
    writeln!(page, "## Waiting, lateness, cancelling\n\nWritten by `{}`.\n\n- {machine}", options.command())?;
    writeln!(
        page,
        "- Times are from before the write of the put, or from when the job is due, to after the read of it."
    )?;
    writeln!(
        page,
        "- Least, median and most of {} rounds; drawn in [latency.svg](benchmarks/latency.svg).",
        options.rounds()
    )?;
    writeln!(page, "\n### Goals\n")?;
    for goal in &goals {
        writeln!(page, "- {goal}")?;
    }
    page.push_str(&tables);
    let title = "Waiting, lateness, cancelling: median, least and most";
    page::write_beside(options.quick, "latency.svg", &draw::bars(title, &groups, 0))?;
    let path = page::write(options.quick, Part::Latency, &page)?;
    println!("\nlatency in {:.0} s\n{}\nwrote {}", begin.elapsed().as_secs_f64(), goals.join("\n"), path.display());
    Ok(())
}

fn sample(programs: &Programs, subject: &Subject, scene: &Scene, quick: bool) -> Result<Sample> {
    let server = Server::start(programs, subject)?;
    let before = server.cpu()?;
    let arguments: Vec<&str> = scene.arguments.split(' ').chain(["--jobs", scene.jobs[usize::from(quick)]]).collect();
    let round = load::round(programs, &server, &arguments)?;
    let cpu = server.cpu()?.saturating_sub(before).as_secs_f64();
    read(&round, scene.what, cpu).with_context(|| format!("`rota bench` reported something else than agreed:\n{round}"))
}

fn read(round: &Value, what: What, cpu: f64) -> Option<Sample> {
    let latency = if what == What::Cancel { &round["verbs"]["delete"] } else { &round["lateness"] };
    let jobs = round["operations"].as_f64().filter(|jobs| *jobs > 0.0)?;
    Some(Sample {
        p50: latency["p50_us"].as_f64()?,
        p99: latency["p99_us"].as_f64()?,
        most: latency["max_us"].as_f64()?,
        early: round["early"].as_f64().unwrap_or(0.0),
        cpu_us: cpu * 1e6 / jobs,
        per_second: jobs / round["elapsed_s"].as_f64()?,
    })
}

/// What the goals say to the first contender, in memory; the last is beanstalkd.
fn judge(scene: &Scene, samples: &[Vec<Sample>]) -> Vec<String> {
    let (ours, theirs) = (&samples[0], &samples[samples.len() - 1]);
    let median = |value: fn(&Sample) -> f64| Spread::of(ours.iter().map(value)).median;
    let ratio = |value: fn(&Sample) -> f64| {
        Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs))).median
    };
    let goal = |is_met: bool, text: String| format!("{}: {}: {text}", verdict(is_met), scene.title);
    match scene.what {
        What::Wake => {
            let (ratio, p99) = (ratio(|sample| sample.p50), median(|sample| sample.p99));
            vec![
                goal(ratio <= 1.0, format!("p50 ≤ beanstalkd's: {ratio:.2} ×")),
                goal(p99 <= 1_000.0, format!("p99 ≤ 1 ms: {p99:.0} µs")),
            ]
        }
        What::Late => {
            let (p50, p99, cpu) =
                (median(|sample| sample.p50), median(|sample| sample.p99), median(|sample| sample.cpu_us));
            let early: f64 = samples[..2].iter().flatten().map(|sample| sample.early).sum();
            vec![
                goal(p50 <= 500.0, format!("p50 ≤ 0.5 ms: {p50:.0} µs")),
                goal(p99 <= 2_000.0, format!("p99 ≤ 2 ms: {p99:.0} µs")),
                goal(early == 0.0, format!("never early: {early} jobs were")),
                goal(cpu <= 20.0, format!("put, due, reserved and deleted in ≤ 20 µs of server CPU: {cpu:.1} µs")),
            ]
        }
        What::Cancel => {
            let ratio = ratio(|sample| sample.per_second);
            vec![goal(ratio >= 5.0, format!("≥ 5 × beanstalkd: {ratio:.2} ×"))]
        }
    }
}

/// The numbers of a scene, as they are drawn.
fn drawn(scene: &Scene, subjects: &[Subject], samples: &[Vec<Sample>]) -> Vec<Group> {
    let group = |what: &str, value: fn(&Sample) -> f64| Group {
        title: format!("{}: {what}", scene.title),
        bars: subjects
            .iter()
            .zip(samples)
            .map(|(subject, samples)| (subject.name.clone(), Spread::of(samples.iter().map(value))))
            .collect(),
    };
    match scene.what {
        What::Cancel => vec![group("thousand jobs per second", |sample| sample.per_second / 1e3)],
        What::Wake | What::Late => {
            vec![group("p50, µs", |sample| sample.p50), group("p99, µs", |sample| sample.p99)]
        }
    }
}

fn write_table(page: &mut String, scene: &Scene, subjects: &[Subject], samples: &[Vec<Sample>]) -> Result<()> {
    writeln!(page, "\n### {}\n", scene.title)?;
    let is_cancel = scene.what == What::Cancel;
    let first = if is_cancel { "thousand jobs per second" } else { "p50, µs" };
    writeln!(
        page,
        "| server | {first}: least / **median** / most | p99, µs | longest, µs | early | CPU, µs per job |"
    )?;
    writeln!(page, "|---|---:|---:|---:|---:|---:|")?;
    for (subject, samples) in subjects.iter().zip(samples) {
        let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
        let (first, digits) =
            if is_cancel { (of(|sample| sample.per_second / 1e3), 1) } else { (of(|sample| sample.p50), 0) };
        let p99 = of(|sample| sample.p99);
        writeln!(
            page,
            "| {} | {:.digits$} / **{:.digits$}** / {:.digits$} | {:.0} / **{:.0}** / {:.0} | {:.0} | {:.0} | {} |",
            subject.name,
            first.least,
            first.median,
            first.most,
            p99.least,
            p99.median,
            p99.most,
            of(|sample| sample.most).median,
            samples.iter().map(|sample| sample.early).sum::<f64>(),
            // That of the cancel scene is mostly filling.
            if is_cancel { String::from("–") } else { format!("{:.1}", of(|sample| sample.cpu_us).median) },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_read_where_the_load_generator_reports_it() {
        let round = serde_json::json!({
            "operations": 1000, "elapsed_s": 2.0, "early": 3, "lateness": {"p50_us": 5.0, "p99_us": 9.0, "max_us": 11.0},
        });
        let sample = read(&round, What::Late, 0.01).expect("all of it is there");
        assert_eq!((sample.p50, sample.p99, sample.early, sample.cpu_us), (5.0, 9.0, 3.0, 10.0));
        assert!(read(&round, What::Cancel, 0.01).is_none());
        let goals = judge(&SCENES[2], &[vec![sample], vec![sample], vec![sample]]);
        assert_eq!(goals.iter().filter(|goal| goal.starts_with("met")).count(), 3, "{goals:?}");
    }
}
