//! Reads along what `cargo test` prints, and counts.
//!
//! Nothing is run here: lines come in, one [`Outcome`] comes out.

/// What came of a run of the tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// The names of what failed, each with its binary, and of binaries that ended without a result.
    failures: Vec<String>,
    /// Parts of tests that this machine could not run, each as its test said it.
    not_run: Vec<String>,
    cargo_succeeded: bool,
}

impl Outcome {
    /// The tests did not compile: counted as one failure, since nothing could be run.
    pub(crate) fn not_built() -> Outcome {
        Outcome { failed: 1, failures: vec!["the tests did not build".into()], ..Outcome::default() }
    }

    /// Whether every test ran and passed, and there was one at all.
    pub(crate) fn passes(&self) -> bool {
        self.cargo_succeeded && self.failed == 0 && self.ignored == 0 && self.passed > 0
    }

    /// Both runs as one.
    pub(crate) fn and(self, other: Outcome) -> Outcome {
        Outcome {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
            failures: [self.failures, other.failures].concat(),
            not_run: [self.not_run, other.not_run].concat(),
            // A run in which there was no test at all is no success.
            cargo_succeeded: self.cargo_succeeded && other.cargo_succeeded && self.passed > 0 && other.passed > 0,
        }
    }

    /// Counts a part that was not a test's and could not be run here.
    pub(crate) fn leave_out(&mut self, part: String) {
        self.not_run.push(part);
    }

    /// Prints what failed and, as the last line and alone on it, the count.
    pub(crate) fn print(&self) {
        println!();
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        if self.ignored > 0 {
            println!("{} tests are marked as ignored; this project has none that are", self.ignored);
        }
        for part in &self.not_run {
            println!("not run: {part}");
        }
        println!("{}", self.count());
    }

    /// The count; what was not run is not hidden in it.
    fn count(&self) -> String {
        let Outcome { passed, failed, not_run, .. } = self;
        let skipped = if not_run.is_empty() { String::new() } else { format!(", {} skipped", not_run.len()) };
        format!("{passed} passed, {failed} failed{skipped}")
    }
}

/// What a test writes, past the runner that keeps a passing test's output to itself, before what it could not run here.
const NOT_RUN: &str = "NOT RUN: 1 part, ";

/// Turns lines into an [`Outcome`].
#[derive(Default)]
pub(crate) struct Reader {
    outcome: Outcome,
    /// The binary that runs now and has given no result yet.
    running: Option<String>,
}

impl Reader {
    /// Takes one line; gives the name of the test binary if this line ends its run.
    pub(crate) fn line(&mut self, line: &str) -> Option<String> {
        if let Some((_, part)) = line.split_once(NOT_RUN) {
            self.outcome.not_run.push(part.into());
        }
        if let Some(binary) = binary_named_by(line) {
            self.close_without_result();
            self.running = Some(binary);
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.outcome.passed += number_before(counts, " passed");
            self.outcome.failed += number_before(counts, " failed");
            self.outcome.ignored += number_before(counts, " ignored");
            return self.running.take();
        } else if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            let binary = self.running.as_deref().unwrap_or("?");
            self.outcome.failures.push(format!("{binary}: {test}"));
        }
        None
    }

    /// The end of the output.
    pub(crate) fn finish(mut self, cargo_succeeded: bool) -> Outcome {
        self.close_without_result();
        self.outcome.cargo_succeeded = cargo_succeeded;
        if !cargo_succeeded && self.outcome.failed == 0 {
            self.outcome.failed = 1;
            self.outcome.failures.push("cargo test failed without naming a test: see above".into());
        }
        self.outcome
    }

    /// A binary that was started and said nothing at its end has crashed or was killed: one failure.
    fn close_without_result(&mut self) {
        if let Some(binary) = self.running.take() {
            self.outcome.failed += 1;
            self.outcome.failures.push(format!("{binary}: ended without a result"));
        }
    }
}

/// The test binary in cargo's `Running unittests src/lib.rs (target/debug/deps/name-hash)` or `Doc-tests name`.
fn binary_named_by(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (source, file) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let file = file.rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
    Some(format!("{name} ({})", source.trim_start_matches("unittests ")))
}

/// The number that stands before `label` in a line such as `ok. 3 passed; 0 failed; …`, or 0.
fn number_before(counts: &str, label: &str) -> u64 {
    counts
        .split(['.', ';'])
        .find_map(|part| part.trim().strip_suffix(label.trim_start()))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, cargo_succeeded: bool) -> (Outcome, Vec<String>) {
        let mut reader = Reader::default();
        let finished = text.lines().filter_map(|line| reader.line(line)).collect();
        (reader.finish(cargo_succeeded), finished)
    }

    #[test]
    fn sums_over_the_binaries_and_names_them() {
        let (outcome, finished) = read(
            "     Running unittests src/lib.rs (target/debug/deps/rota_engine-0a1b)\n\
             test job::tests::order ... ok\n\
             test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             \x20    Running tests/it/main.rs (target/debug/deps/it-77)\n\
             test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.50s\n\
             \x20  Doc-tests rota_engine\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.30s\n",
            true,
        );
        assert_eq!((outcome.passed, outcome.failed), (43, 0));
        assert!(outcome.passes());
        assert_eq!(finished, ["rota_engine (src/lib.rs)", "it (tests/it/main.rs)", "rota_engine (documentation)"]);
    }

    #[test]
    fn a_failed_test_is_named() {
        let (outcome, _) = read(
            "     Running tests/it/main.rs (target/debug/deps/it-77)\n\
             test wire::put ... FAILED\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.50s\n",
            false,
        );
        assert_eq!((outcome.passed, outcome.failed), (3, 1));
        assert_eq!(outcome.failures, ["it (tests/it/main.rs): wire::put"]);
        assert!(!outcome.passes());
    }

    #[test]
    fn a_binary_that_dies_counts_as_a_failure() {
        let (outcome, _) = read(
            "     Running tests/it/main.rs (target/debug/deps/it-77)\n\
             error: test failed, to rerun pass `-p rota --test it`\n\
             \x20    Running unittests src/lib.rs (target/debug/deps/other-12)\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            false,
        );
        assert_eq!((outcome.passed, outcome.failed), (2, 1));
        assert_eq!(outcome.failures, ["it (tests/it/main.rs): ended without a result"]);
    }

    #[test]
    fn ignored_tests_and_empty_runs_do_not_pass() {
        let ignored = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s";
        assert!(!read(ignored, true).0.passes());
        assert!(!read("", true).0.passes());
        assert!(!Outcome::not_built().passes());
    }

    #[test]
    fn two_runs_pass_if_each_does() {
        let good = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s";
        let both = read(good, true).0.and(read(good, true).0);
        assert!(both.passes());
        assert_eq!(both.count(), "4 passed, 0 failed");
        for other in [read("", true).0, read(good, false).0, Outcome::not_built()] {
            assert!(!read(good, true).0.and(other).passes());
        }
    }

    #[test]
    fn what_was_not_run_is_counted() {
        let text = "NOT RUN: 1 part, the full disk: it takes root\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s\n";
        let (outcome, _) = read(text, true);
        assert!(outcome.passes());
        assert_eq!(outcome.not_run, ["the full disk: it takes root"]);
        assert_eq!(outcome.count(), "2 passed, 0 failed, 1 skipped");
        assert_eq!(Outcome { passed: 3, ..Outcome::default() }.count(), "3 passed, 0 failed");
    }

    #[test]
    fn a_failing_cargo_without_a_failed_test_is_a_failure() {
        let (outcome, _) = read("error: could not compile\n", false);
        assert_eq!((outcome.passed, outcome.failed), (0, 1));
    }
}
