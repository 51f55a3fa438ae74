//! What came out of [`super::throughput`], as its part of the page.
//!
//! A ratio is taken pair by pair, between samples of the same round, so that a busy moment spoils one pair and not the
//! comparison. A goal is judged by the median of its pairs.

use std::fmt::{self, Write};

use super::disk::SyncCost;
use super::draw::{self, Group};
use super::machine::Machine;
use super::plan::{BODY_BYTES, Contender, Goal, Measure, Row, Work};
use super::spread::Spread;
use super::verdict;

/// One run of one contender.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Sample {
    /// Jobs through the whole of the row's work.
    pub(super) per_second: f64,
    /// Processor time of the server per job.
    pub(super) cpu_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Sample {
    fn of(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Throughput => self.per_second,
            Measure::Cpu => self.cpu_us,
        }
    }
}

/// A row with its samples: for each contender as many as there were rounds.
pub(super) struct Measured {
    pub(super) row: &'static Row,
    pub(super) samples: Vec<Vec<Sample>>,
}

/// Whether a goal is reached.
pub(super) struct Verdict {
    row: &'static Row,
    goal: Goal,
    ratio: f64,
}

impl Verdict {
    fn met(&self) -> bool {
        match self.goal.measure {
            Measure::Throughput => self.ratio >= self.goal.ratio,
            Measure::Cpu => self.ratio <= self.goal.ratio,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = verdict(self.met());
        let step = if self.goal.first_step { " (first step)" } else { "" };
        let bound = match self.goal.measure {
            Measure::Throughput => "throughput ≥",
            Measure::Cpu => "server CPU per job ≤",
        };
        let (row, goal) = (self.row, self.goal);
        let (title, against) = (row.work.title(), goal.against.name());
        write!(f, "{word}{step}: {title}, {}: {bound} {} × {against}: {:.2} ×", row.shape, goal.ratio, self.ratio)
    }
}

/// Everything that goes into the part.
pub(super) struct Report {
    pub(super) command: String,
    pub(super) machine: Machine,
    /// Before and after the rows.
    pub(super) disk: [SyncCost; 2],
    pub(super) rows: Vec<Measured>,
}

impl Report {
    /// Each goal of the rows that were measured.
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let of_row = |measured: &Measured| {
            let verdict = |goal: &Goal| Verdict {
                row: measured.row,
                goal: *goal,
                ratio: measured.ratios(goal.against, goal.measure).median,
            };
            measured.row.goals.iter().map(verdict).collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of_row).collect()
    }

    /// The rates of all rows, drawn.
    pub(super) fn drawing(&self) -> String {
        let group = |measured: &Measured| Group {
            title: format!("{}, {}", measured.row.work.title(), measured.row.shape),
            bars: measured.rates().collect(),
        };
        let groups: Vec<Group> = self.rows.iter().map(group).collect();
        draw::bars("Thousand jobs per second: median, least and most", &groups, 1)
    }

    /// The part, in Markdown.
    pub(super) fn part(&self) -> String {
        let mut page = String::new();
        self.write(&mut page).expect("a string takes everything");
        page
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        writeln!(page, "## Throughput and latency\n")?;
        writeln!(page, "Written by `{}`.\n", self.command)?;
        writeln!(page, "- {}", self.machine)?;
        writeln!(page, "- The load generator, `rota bench`, runs on the same machine and shares its cores.")?;
        writeln!(page, "- Bodies of {BODY_BYTES} bytes. A shape is connections × commands under way on each.")?;
        writeln!(
            page,
            "- Each sample has a server of its own. Contenders take turns; ratios are of samples of one turn."
        )?;
        writeln!(page, "- The rates are drawn in [throughput.svg](benchmarks/throughput.svg).")?;
        let [before, after] = &self.disk;
        writeln!(page, "- `fdatasync` of 512 appended bytes: {before}; after the runs: {after}.\n")?;

        writeln!(page, "### Goals\n")?;
        let verdicts = self.verdicts();
        let met = verdicts.iter().filter(|verdict| verdict.met()).count();
        writeln!(page, "{met} of {} met, by the median of the pairs.\n", verdicts.len())?;
        for verdict in &verdicts {
            writeln!(page, "- {verdict}")?;
        }
        let mut last: Option<Work> = None;
        for measured in &self.rows {
            if last != Some(measured.row.work) {
                last = Some(measured.row.work);
                write_heading(page, measured.row)?;
            }
            measured.write(page)?;
        }
        self.write_disk_limits(page)
    }

    /// What the disk allows, were every job that is under way at a time in one sync.
    fn write_disk_limits(&self, page: &mut String) -> fmt::Result {
        let durable = |measured: &&Measured| measured.row.work == Work::PutDurable;
        let [before, after] = &self.disk;
        let sync = before.median.min(after.median).as_secs_f64();
        for (number, measured) in self.rows.iter().filter(durable).enumerate() {
            if number == 0 {
                writeln!(page, "\n### What the disk allows\n")?;
                writeln!(
                    page,
                    "One sync at a time, at the lesser median of its cost above, with every job under way in it.\n"
                )?;
            }
            let row = measured.row;
            let jobs = f64::from(row.shape.connections * row.shape.depth);
            let ours = Spread::of(measured.samples[0].iter().map(|sample| sample.per_second));
            writeln!(
                page,
                "- {}: {:.1} thousand jobs per second; {} reached {:.1}",
                row.shape,
                jobs / sync / 1e3,
                row.contenders[0].name(),
                ours.median / 1e3
            )?;
            if row.shape.connections >= MANY_CONNECTIONS {
                let share = ours.median * sync / jobs;
                writeln!(
                    page,
                    "- {}: {}, {}: at least 80 % of what the disk allows: {:.0} %",
                    super::verdict(share >= 0.8),
                    row.work.title(),
                    row.shape,
                    share * 100.0
                )?;
            }
        }
        Ok(())
    }
}

/// With so many, durable puts are to be bound by the disk.
const MANY_CONNECTIONS: u32 = 64;

fn write_heading(page: &mut String, row: &Row) -> fmt::Result {
    let title = row.work.title();
    let (first, rest) = title.split_at(1);
    writeln!(page, "\n### {}{rest}\n", first.to_uppercase())?;
    writeln!(
        page,
        "Thousand jobs per second; server CPU in µs per job; latency of a {} in µs, medians of the runs.\n",
        row.work.verb()
    )?;
    writeln!(
        page,
        "| shape | server | best | median | worst | CPU | p50 | p99 | Rota's ratio to it: least / median / most |"
    )?;
    writeln!(page, "|---|---|---:|---:|---:|---:|---:|---:|---:|")
}

impl Measured {
    fn write(&self, page: &mut String) -> fmt::Result {
        for (contender, samples) in self.row.contenders.iter().zip(&self.samples) {
            let of = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
            let rate = of(|sample| sample.per_second / 1e3);
            let ratio = if *contender == self.row.contenders[0] {
                String::new()
            } else {
                let ratios = self.ratios(*contender, Measure::Throughput);
                format!("{:.2} / **{:.2}** / {:.2}", ratios.least, ratios.median, ratios.most)
            };
            writeln!(
                page,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} | {ratio} |",
                self.row.shape,
                contender.name(),
                rate.most,
                rate.median,
                rate.least,
                of(|sample| sample.cpu_us).median,
                of(|sample| sample.p50_us).median,
                of(|sample| sample.p99_us).median,
            )?;
        }
        Ok(())
    }

    /// The contenders by name, with their thousand jobs per second.
    fn rates(&self) -> impl Iterator<Item = (String, Spread)> {
        let rate = |samples: &Vec<Sample>| Spread::of(samples.iter().map(|sample| sample.per_second / 1e3));
        self.row
            .contenders
            .iter()
            .zip(&self.samples)
            .map(move |(contender, of)| (contender.name().to_owned(), rate(of)))
    }

    /// The first contender's samples divided by those of another, round by round.
    fn ratios(&self, against: Contender, measure: Measure) -> Spread {
        let index = self.row.contenders.iter().position(|contender| *contender == against);
        let others = &self.samples[index.expect("a row is compared within itself")];
        Spread::of(self.samples[0].iter().zip(others).map(|(ours, other)| ours.of(measure) / other.of(measure)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::plan::ROWS;
    use super::*;

    fn sample(per_second: f64, cpu_us: f64) -> Sample {
        Sample { per_second, cpu_us, p50_us: 10.0, p99_us: 20.0 }
    }

    fn report(rows: Vec<Measured>) -> Report {
        let text = String::from;
        let disk = || SyncCost {
            best: Duration::from_micros(50),
            median: Duration::from_micros(90),
            worst: Duration::from_millis(2),
        };
        Report {
            command: "cargo xtask bench all".into(),
            machine: Machine {
                date: text("2030-01-01"),
                kernel: text("6.1"),
                processor: text("Some"),
                cores: 2,
                load: text("0.10"),
                busy: 0.0,
                beanstalkd: text("beanstalkd 1.12"),
                rota: text("abc"),
            },
            disk: [disk(), disk()],
            rows,
        }
    }

    /// The row of single puts: at least as fast as beanstalkd, at no more CPU.
    fn single_puts(ours: [Sample; 3], theirs: [Sample; 3]) -> Measured {
        let row = &ROWS[0];
        assert_eq!(row.contenders, [Contender::RotaMemory, Contender::Beanstalkd, Contender::AnswerOnly]);
        Measured { row, samples: vec![ours.to_vec(), theirs.to_vec(), theirs.to_vec()] }
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The last round was slow for both: the pair is as good as the others.
        let ours = [sample(110e3, 3.0), sample(120e3, 3.0), sample(24e3, 3.0)];
        let theirs = [sample(100e3, 4.0), sample(100e3, 4.0), sample(20e3, 4.0)];
        let measured = single_puts(ours, theirs);
        let ratios = measured.ratios(Contender::Beanstalkd, Measure::Throughput);
        assert_eq!(ratios, Spread { least: 1.1, median: 1.2, most: 1.2 });
    }

    #[test]
    fn goals_are_judged_in_their_own_direction() {
        let fast_and_hungry = single_puts([sample(2e5, 8.0); 3], [sample(1e5, 4.0); 3]);
        let slow_and_frugal = single_puts([sample(5e4, 2.0); 3], [sample(1e5, 4.0); 3]);
        let report = report(vec![fast_and_hungry, slow_and_frugal]);
        let met: Vec<bool> = report.verdicts().iter().map(Verdict::met).collect();
        assert_eq!(met, [true, false, false, true]);
        let page = report.part();
        assert!(page.contains("2 of 4 met"), "{page}");
        assert!(
            page.contains("- missed: put, memory, 1×1: server CPU per job ≤ 1 × beanstalkd, memory: 2.00 ×"),
            "{page}"
        );
        assert!(
            page.contains(
                "| 1×1 | beanstalkd, memory | 100.0 | 100.0 | 100.0 | 4.00 | 10 | 20 | 2.00 / **2.00** / 2.00 |"
            ),
            "{page}"
        );
        assert_eq!(page.matches("### Put, memory").count(), 1);
    }
}
