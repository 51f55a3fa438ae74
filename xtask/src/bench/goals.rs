//! All goals of all benches in one table, read from what the parts of the page say.
//!
//! [`super::page`] writes it anew with each part, so that it never says anything else than the parts.

use std::fmt::Write;

/// One goal, as a part tells it: `- met: what is meant to be reached: what was measured`.
#[derive(Debug, PartialEq, Eq)]
struct Goal<'a> {
    verdict: &'a str,
    goal: &'a str,
    measured: &'a str,
}

/// The table of these parts, in Markdown; `None` if they have no goal.
pub(super) fn table(parts: &[&str]) -> Option<String> {
    let of_part = |part| goals(part).map(move |goal| (goal, command(part)));
    let goals: Vec<(Goal<'_>, &str)> = parts.iter().copied().flat_map(of_part).collect();
    let met = goals.iter().filter(|(goal, _)| goal.verdict.starts_with(super::verdict(true))).count();
    let mut text = format!(
        "## All goals\n\n{met} of {} are met, as the parts above say, each with when and where that was measured.\n\n\
         | goal | measured | | command |\n|---|---|---|---|\n",
        goals.len()
    );
    for (Goal { verdict, goal, measured }, command) in &goals {
        writeln!(text, "| {goal} | {measured} | {verdict} | {command} |").expect("a string takes everything");
    }
    (!goals.is_empty()).then_some(text)
}

/// The command that wrote a part.
fn command(part: &str) -> &str {
    let written = part.lines().find_map(|line| line.strip_prefix("Written by ")?.strip_suffix('.'));
    written.unwrap_or("–")
}

fn goals(part: &str) -> impl Iterator<Item = Goal<'_>> {
    part.lines().filter_map(|line| {
        let (verdict, rest) = line.strip_prefix("- ")?.split_once(": ")?;
        let is_one = [true, false].map(super::verdict).contains(&verdict.split(' ').next()?);
        let (goal, measured) = rest.rsplit_once(": ").filter(|_| is_one)?;
        Some(Goal { verdict, goal, measured })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_read_from_the_parts() {
        let one = "## One\n\nWritten by `cargo xtask bench one`.\n\n- 2030-01-01; 2 cores: quiet\n\
                   - met (first step): put, 1×1: ≥ 2 ×: 2.50 ×\n- missed: put, 1×1: ≥ 8 ×: 7.50 ×\n";
        let expected = "1 of 2 are met, as the parts above say, each with when and where that was measured.\n\n\
                        | goal | measured | | command |\n|---|---|---|---|\n\
                        | put, 1×1: ≥ 2 × | 2.50 × | met (first step) | `cargo xtask bench one` |\n\
                        | put, 1×1: ≥ 8 × | 7.50 × | missed | `cargo xtask bench one` |\n";
        assert_eq!(
            table(&["## None\n\n- a line: of another kind\n", one]),
            Some(format!("## All goals\n\n{expected}"))
        );
        assert_eq!(table(&["## None\n"]), None);
    }
}
