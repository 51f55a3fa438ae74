//! The table of answers that differ on purpose: read from the protocol page, so that every difference has a reason that
//! users can read, and matched against what the scripts saw. `tests/clients/README.md` describes the form of a row.

use std::fmt;
use std::path::Path;

use super::comparison::Difference;

/// The page with the table, from the root of the repository.
pub(super) const PAGE: &str = "docs/protocol/beanstalkd.md";

const HEADING: &str = "## Where Rota answers differently";
const HEADER: [&str; 4] = ["client step", "beanstalkd", "Rota", "why"];
/// Stands for any text within an answer.
const ANYTHING: char = '…';
/// Stands for a step that a script did not come to.
const NOTHING: &str = "(nothing)";

/// The rows of the page.
#[derive(Debug)]
pub(super) struct Table(Vec<Row>);

/// One allowed difference.
#[derive(Debug)]
pub(super) struct Row {
    client: Option<String>,
    step: Option<String>,
    beanstalkd: String,
    rota: String,
}

impl Table {
    /// Reads the page of this repository.
    ///
    /// # Panics
    ///
    /// If there is no such page, no such table on it, or a row is malformed.
    pub(super) fn load() -> Table {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Table::parse(&text).unwrap_or_else(|complaint| panic!("{PAGE}: {complaint}"))
    }

    fn parse(page: &str) -> Result<Table, String> {
        let mut lines = page.lines().skip_while(|line| line.trim_end() != HEADING).skip(1);
        let header = lines
            .by_ref()
            .take_while(|line| !line.starts_with('#'))
            .find(|line| line.starts_with('|'))
            .ok_or_else(|| format!("no table under `{HEADING}`"))?;
        if cells(header) != HEADER {
            return Err(format!("the table's columns are not {HEADER:?}: {header}"));
        }
        let mut rows = lines.take_while(|line| line.starts_with('|'));
        let rule = rows.next().unwrap_or_default();
        if !cells(rule).iter().all(|cell| cell.len() >= 3 && cell.chars().all(|c| matches!(c, '-' | ':'))) {
            return Err(format!("no rule under the table's columns: {rule}"));
        }
        rows.map(Row::parse).collect::<Result<_, _>>().map(Table)
    }

    /// The rows in the order of the page.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.iter()
    }
}

impl Row {
    fn parse(line: &str) -> Result<Row, String> {
        let cells: [String; 4] = cells(line).try_into().map_err(|_| format!("not four cells: {line}"))?;
        let [place, beanstalkd, rota, why] = cells.map(|cell| uncoded(&cell));
        let (client, step) = place.split_once(':').ok_or_else(|| format!("no `client:step`: {line}"))?;
        if [client, step, &beanstalkd, &rota, &why].contains(&"") {
            return Err(format!("an empty cell, client or step: {line}"));
        }
        let named = |name: &str| (name != "*").then(|| name.to_owned());
        Ok(Row { client: named(client), step: named(step), beanstalkd, rota })
    }

    /// The client the row is for; none if it is for all of them.
    pub(super) fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Whether the row is about this step and both answers are what it says.
    pub(super) fn fits(&self, difference: &Difference<'_>) -> bool {
        self.client.as_deref().is_none_or(|client| client == difference.client)
            && self.step.as_deref().is_none_or(|step| step == difference.step)
            && matches(&self.beanstalkd, difference.beanstalkd)
            && matches(&self.rota, difference.rota)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [client, step] = [&self.client, &self.step].map(|name| name.as_deref().unwrap_or("*"));
        write!(f, "| `{client}:{step}` | `{}` | `{}` |", self.beanstalkd, self.rota)
    }
}

/// The cells of a table's line, without the spaces around them; `\|` is a bar within a cell.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut characters = line.trim().trim_start_matches('|').chars().peekable();
    while let Some(character) = characters.next() {
        let last = cells.last_mut().expect("there is always a cell");
        match character {
            '\\' if characters.peek() == Some(&'|') => last.extend(characters.next()),
            '|' => cells.push(String::new()),
            _ => last.push(character),
        }
    }
    // What follows the closing bar.
    cells.pop();
    cells.into_iter().map(|cell| cell.trim().to_owned()).collect()
}

fn uncoded(cell: &str) -> String {
    let inner = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    inner.unwrap_or(cell).trim().to_owned()
}

/// Whether the answer is the pattern, where `…` stands for any text.
fn matches(pattern: &str, answer: Option<&str>) -> bool {
    let Some(answer) = answer else { return pattern == NOTHING };
    let parts: Vec<&str> = pattern.split(ANYTHING).collect();
    let (Some((first, rest)), Some(last)) = (parts.split_first(), parts.last()) else { return false };
    if rest.is_empty() {
        return answer == pattern;
    }
    let Some(mut remaining) = answer.strip_prefix(first).and_then(|inner| inner.strip_suffix(last)) else {
        return false;
    };
    for part in &rest[..rest.len() - 1] {
        let Some(at) = remaining.find(part) else { return false };
        remaining = &remaining[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "\
# Some page

## Where Rota answers differently

A sentence.

| client step | beanstalkd | Rota | why |
|---|---|---|---|
| `jackd:stats` | `a …` | `b` | because |
| `*:put` | `1 \\| 2` | (nothing) | because |

| another | table |
";

    #[track_caller]
    fn check(row: usize, client: &str, step: &str, beanstalkd: Option<&str>, rota: Option<&str>, fits: bool) {
        let table = Table::parse(PAGE_TEXT).unwrap();
        let difference = Difference { client, step, beanstalkd, rota };
        assert_eq!(table.0[row].fits(&difference), fits, "{} and {difference}", table.0[row]);
    }

    #[test]
    fn a_row_fits_its_step_and_both_answers() {
        check(0, "jackd", "stats", Some("a and more"), Some("b"), true);
        check(0, "pystalk", "stats", Some("a and more"), Some("b"), false);
        check(0, "jackd", "stats-tube", Some("a and more"), Some("b"), false);
        check(0, "jackd", "stats", Some("and more"), Some("b"), false);
        check(0, "jackd", "stats", Some("a and more"), Some("b and more"), false);
        check(0, "jackd", "stats", Some("a and more"), None, false);
    }

    #[test]
    fn a_row_for_all_clients_fits_each_and_bars_and_nothing_are_read() {
        check(1, "jackd", "put", Some("1 | 2"), None, true);
        check(1, "pystalk", "put", Some("1 | 2"), None, true);
        check(1, "pystalk", "put", Some("1 | 2"), Some("(something)"), false);
    }

    #[test]
    fn the_rows_end_with_the_table() {
        assert_eq!(Table::parse(PAGE_TEXT).unwrap().0.len(), 2);
    }

    #[test]
    fn anything_stands_for_any_text() {
        for (pattern, answer, expected) in [
            ("…", "", true),
            ("…", "x", true),
            ("…b…", "abc", true),
            ("…b…", "ac", false),
            ("a…c", "abc", true),
            ("a…c", "abcd", false),
            ("ab…bc", "abc", false),
            ("a…b…c…d", "a-b-c-d", true),
            ("a…b…c…d", "a-c-b-d", false),
        ] {
            assert_eq!(matches(pattern, Some(answer)), expected, "{pattern} and {answer}");
        }
    }

    #[test]
    fn a_malformed_table_is_refused() {
        for (from, to) in [
            ("## Where Rota answers differently", "## Where Rota is different"),
            ("| client step |", "| client |"),
            ("|---|---|---|---|\n", ""),
            ("| because |\n| `*", "| |\n| `*"),
            ("`jackd:stats`", "`stats`"),
            ("| `b` | because |", "| because |"),
        ] {
            let page = PAGE_TEXT.replacen(from, to, 1);
            assert_ne!(page, PAGE_TEXT);
            assert!(Table::parse(&page).is_err(), "{from} as {to}");
        }
    }
}
