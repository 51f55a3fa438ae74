//! One script against both servers, and where the answers differ.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::script::{Output, Script};
use crate::server::Server;

/// No script has fewer steps; one that printed nothing would agree with everything.
const FEWEST_STEPS: usize = 100;

/// What a client's script gave against beanstalkd and against Rota.
pub(super) struct Comparison {
    /// Step, answer of beanstalkd, answer of Rota.
    differing: Vec<(String, Option<String>, Option<String>)>,
    failures: Vec<String>,
    steps: usize,
}

/// One step that was not answered alike; no answer where a script did not come to the step.
pub(super) struct Difference<'a> {
    pub(super) client: &'a str,
    pub(super) step: &'a str,
    pub(super) beanstalkd: Option<&'a str>,
    pub(super) rota: Option<&'a str>,
}

impl Comparison {
    /// Runs the script against a fresh beanstalkd and a fresh Rota at the same time.
    pub(super) fn run(client: &str, script: &Script) -> Comparison {
        let (beanstalkd, rota) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| {
                let server = Server::beanstalkd();
                script.run(server.address())
            });
            let ours = scope.spawn(|| {
                let server = Server::rota(&[]);
                let mut output = script.run(server.address());
                if let Some(failure) = &mut output.failure {
                    failure.push_str(&format!("\nRota wrote to stderr:\n{}", server.stderr()));
                }
                output
            });
            (join(theirs), join(ours))
        });
        Comparison::of(client, beanstalkd, rota)
    }

    /// Compares two outputs step by step.
    pub(super) fn of(client: &str, beanstalkd: Output, rota: Output) -> Comparison {
        let mut failures = Vec::new();
        let theirs = steps(client, "beanstalkd", &beanstalkd, &mut failures);
        let ours = steps(client, "Rota", &rota, &mut failures);
        if theirs.len() < FEWEST_STEPS {
            failures.push(format!("{client} against beanstalkd: only {} steps", theirs.len()));
        }

        let answers: HashMap<_, _> = ours.iter().copied().collect();
        let known: HashSet<_> = theirs.iter().map(|(step, _)| *step).collect();
        let common = |(step, _): &&(&str, &str)| known.contains(step) && answers.contains_key(step);
        let order = |steps: &[(&str, &str)]| -> Vec<String> {
            steps.iter().filter(common).map(|(step, _)| (*step).to_owned()).collect()
        };
        if let Some((expected, found)) = order(&theirs).iter().zip(order(&ours).iter()).find(|(a, b)| a != b) {
            failures.push(format!("{client}: where beanstalkd's run came to {expected}, Rota's came to {found}"));
        }

        let mut differing: Vec<_> = theirs
            .iter()
            .map(|(step, answer)| (*step, Some(*answer), answers.get(step).copied()))
            .chain(ours.iter().filter(|(step, _)| !known.contains(step)).map(|(step, own)| (*step, None, Some(*own))))
            .filter(|(_, theirs, ours)| theirs != ours)
            .map(|(step, theirs, ours)| (step.to_owned(), theirs.map(str::to_owned), ours.map(str::to_owned)))
            .collect();
        // After a script broke off, the steps it did not come to are no answers of that server.
        if beanstalkd.failure.is_some() {
            differing.retain(|(_, theirs, _)| theirs.is_some());
        }
        if rota.failure.is_some() {
            differing.retain(|(_, _, ours)| ours.is_some());
        }
        Comparison { steps: theirs.len(), differing, failures }
    }

    /// Where the answers differ, in the order of the script.
    pub(super) fn differences<'a>(&'a self, client: &'a str) -> impl Iterator<Item = Difference<'a>> {
        self.differing.iter().map(move |(step, beanstalkd, rota)| Difference {
            client,
            step,
            beanstalkd: beanstalkd.as_deref(),
            rota: rota.as_deref(),
        })
    }

    /// What keeps this from being two whole runs.
    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// How many steps the script has.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}", self.client, self.step)?;
        writeln!(f, "  beanstalkd  {}", self.beanstalkd.unwrap_or("(nothing)"))?;
        write!(f, "  Rota        {}", self.rota.unwrap_or("(nothing)"))
    }
}

/// Passes a panic on as it was, such as one that says what to install.
fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The steps of one run; what is wrong with it goes to `failures`.
fn steps<'a>(client: &str, server: &str, output: &'a Output, failures: &mut Vec<String>) -> Vec<(&'a str, &'a str)> {
    if let Some(failure) = &output.failure {
        let last = output.lines.last().map_or("nothing", String::as_str);
        failures.push(format!("{client} against {server}: {failure}\nIts last step was: {last}"));
    }
    split(&output.lines).unwrap_or_else(|complaint| {
        failures.push(format!("{client} against {server}: {complaint}"));
        Vec::new()
    })
}

/// The lines as pairs of step and answer.
fn split(lines: &[String]) -> Result<Vec<(&str, &str)>, String> {
    let mut seen = HashSet::new();
    let mut steps = Vec::new();
    for line in lines {
        let (step, answer) = line.split_once(": ").ok_or_else(|| format!("no `step: answer`: {line}"))?;
        if !seen.insert(step) {
            return Err(format!("two steps are called {step}"));
        }
        steps.push((step, answer.trim_end()));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(lines: &[&str], failure: Option<&str>) -> Output {
        let filler = (0..FEWEST_STEPS).map(|index| format!("filler-{index}: same"));
        let lines = filler.chain(lines.iter().map(|line| (*line).to_owned())).collect();
        Output { lines, failure: failure.map(str::to_owned) }
    }

    #[track_caller]
    fn check(beanstalkd: Output, rota: Output, differences: &[&str], failures: usize) {
        let compared = Comparison::of("some", beanstalkd, rota);
        let found: Vec<_> =
            compared.differences("some").map(|d| format!("{}|{:?}|{:?}", d.step, d.beanstalkd, d.rota)).collect();
        assert_eq!(found, differences);
        assert_eq!(compared.failures().len(), failures, "{:?}", compared.failures());
    }

    #[test]
    fn equal_outputs_do_not_differ() {
        check(output(&["a: 1"], None), output(&["a: 1"], None), &[], 0);
    }

    #[test]
    fn answers_and_missing_steps_differ() {
        check(
            output(&["a: 1", "b: 2"], None),
            output(&["a: 3", "c: 4"], None),
            &["a|Some(\"1\")|Some(\"3\")", "b|Some(\"2\")|None", "c|None|Some(\"4\")"],
            0,
        );
    }

    #[test]
    fn another_order_is_a_failure() {
        check(output(&["a: 1", "b: 2"], None), output(&["b: 2", "a: 1"], None), &[], 1);
    }

    #[test]
    fn a_script_that_broke_off_is_a_failure_and_hides_what_it_did_not_reach() {
        check(output(&["a: 1", "b: 2"], None), output(&["a: 3"], Some("killed")), &["a|Some(\"1\")|Some(\"3\")"], 1);
    }

    #[test]
    fn too_few_steps_and_doubled_steps_are_failures() {
        let none = || Output { lines: Vec::new(), failure: None };
        check(none(), none(), &[], 1);
        let doubled = || Output { lines: vec!["a: 1".into(), "a: 1".into()], failure: None };
        check(doubled(), doubled(), &[], 3);
    }
}
