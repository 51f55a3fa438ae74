//! What the screen has: lines for any size of it, the order of the queues, and what keys do. No terminal is known here.

use std::cmp::Ordering;
use std::time::Duration;

use super::look::{Look, Queue};
use super::text::{bytes, clean, count, rate, span};

/// The longest text that a filter may have.
const FILTER_BYTES: usize = 200;

/// As many columns as a name has at most where the screen is live.
const NAME_WIDTH: usize = 32;

/// What a column sorts by. What is not known is less than everything else.
enum Value {
    Name,
    Number(u64),
    Rate(Option<f64>),
    Span(Option<Duration>),
    Flag(bool),
}

/// A column of the table: its title, its least width, and what it has of a queue.
struct Column {
    title: &'static str,
    width: usize,
    value: fn(&Queue) -> Value,
}

const COLUMNS: [Column; 13] = [
    Column { title: "QUEUE", width: 8, value: |_| Value::Name },
    Column { title: "READY", width: 7, value: |queue| Value::Number(queue.number(&["jobs", "ready"])) },
    Column { title: "HELD", width: 7, value: |queue| Value::Number(queue.number(&["jobs", "reserved"])) },
    Column { title: "DELAYED", width: 8, value: |queue| Value::Number(queue.number(&["jobs", "delayed"])) },
    Column { title: "BURIED", width: 7, value: |queue| Value::Number(queue.number(&["jobs", "buried"])) },
    Column { title: "BLOCKED", width: 8, value: |queue| Value::Number(queue.number(&["jobs", "blocked"])) },
    Column { title: "WAITING", width: 8, value: |queue| Value::Number(queue.number(&["waiting"])) },
    Column { title: "AGE", width: 7, value: |queue| Value::Span(queue.span(&["head_age"])) },
    Column { title: "LAT99", width: 7, value: |queue| Value::Span(queue.span(&["latency", "p99"])) },
    Column { title: "RUN99", width: 7, value: |queue| Value::Span(queue.span(&["run_time", "p99"])) },
    Column { title: "PUT/S", width: 7, value: |queue| Value::Rate(queue.puts) },
    Column { title: "END/S", width: 7, value: |queue| Value::Rate(queue.ends) },
    Column { title: "PAUSED", width: 7, value: |queue| Value::Flag(queue.is_paused()) },
];

impl Column {
    fn text(&self, queue: &Queue) -> String {
        match (self.value)(queue) {
            Value::Name => clean(&queue.name),
            Value::Number(number) => count(number),
            Value::Rate(per_second) => rate(per_second),
            Value::Span(time) => span(time),
            Value::Flag(is_so) => String::from(if is_so { "yes" } else { "-" }),
        }
    }

    /// Names from a to z, all else from the most to the least; equals by name.
    fn order(&self, a: &Queue, b: &Queue) -> Ordering {
        let by_value = match ((self.value)(a), (self.value)(b)) {
            (Value::Number(a), Value::Number(b)) => b.cmp(&a),
            (Value::Rate(a), Value::Rate(b)) => b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0)),
            (Value::Span(a), Value::Span(b)) => b.cmp(&a),
            (Value::Flag(a), Value::Flag(b)) => b.cmp(&a),
            _ => Ordering::Equal,
        };
        by_value.then_with(|| a.name.cmp(&b.name))
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Head,
    Alarm,
    Faint,
}

/// A line of the screen: printable ASCII, no longer than the screen is wide.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) style: Style,
    /// Whether it reaches the last column.
    pub(super) is_full: bool,
}

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Interrupt,
    Other,
}

/// What is looked at, and how.
#[derive(Debug)]
pub(super) struct View {
    server: String,
    look: Look,
    /// Why there is nothing newer.
    trouble: Option<String>,
    /// An index of [`COLUMNS`].
    sort: usize,
    is_reversed: bool,
    is_held: bool,
    filter: String,
    is_filter_edited: bool,
    /// How many queues are above the first that is shown.
    scroll: usize,
    /// How many queues the last drawing had room for.
    page: usize,
}

impl View {
    pub(super) fn new(server: &str, look: Look) -> View {
        View {
            server: server.to_owned(),
            look,
            trouble: None,
            sort: 1,
            is_reversed: false,
            is_held: false,
            filter: String::new(),
            is_filter_edited: false,
            scroll: 0,
            page: 1,
        }
    }

    /// Shows a new look, unless the picture is held.
    pub(super) fn take(&mut self, look: Look) {
        self.trouble = None;
        if !self.is_held {
            self.look = look;
        }
    }

    /// Says why there is no new look.
    pub(super) fn trouble(&mut self, why: &str) {
        self.trouble = Some(why.to_owned());
    }

    /// Does what a key asks for; whether that is the end.
    pub(super) fn press(&mut self, key: Key) -> bool {
        if self.is_filter_edited && key != Key::Interrupt {
            self.edit(key);
            return false;
        }
        match key {
            Key::Interrupt | Key::Char('q') => return true,
            Key::Up | Key::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            Key::Down | Key::Char('j') => self.scroll += 1,
            Key::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            Key::PageDown => self.scroll += self.page,
            Key::Home => self.scroll = 0,
            Key::End => self.scroll = self.look.queues.len(),
            Key::Char('>' | 's') => self.sort = (self.sort + 1) % COLUMNS.len(),
            Key::Char('<') => self.sort = (self.sort + COLUMNS.len() - 1) % COLUMNS.len(),
            Key::Char('r') => self.is_reversed = !self.is_reversed,
            Key::Char(' ') => self.is_held = !self.is_held,
            Key::Char('/') => self.is_filter_edited = true,
            Key::Escape => self.filter.clear(),
            _ => {}
        }
        self.scroll = self.scroll.min(self.last_scroll());
        false
    }

    fn edit(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_filter_edited = false,
            Key::Escape => {
                self.filter.clear();
                self.is_filter_edited = false;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(c) if self.filter.len() < FILTER_BYTES => self.filter.push(c),
            _ => {}
        }
        self.scroll = 0;
    }

    /// The queues that pass the filter, in their order.
    fn queues(&self) -> Vec<&Queue> {
        let mut queues: Vec<&Queue> =
            self.look.queues.iter().filter(|queue| queue.name.contains(self.filter.as_str())).collect();
        queues.sort_by(|a, b| {
            let order = COLUMNS[self.sort].order(a, b);
            if self.is_reversed { order.reverse() } else { order }
        });
        queues
    }

    /// The most that can be scrolled: the last page is full.
    fn last_scroll(&self) -> usize {
        self.queues().len().saturating_sub(self.page)
    }

    /// What the server says of itself.
    fn head(&self) -> Vec<(String, Style)> {
        let look = &self.look;
        let jobs = |state| count(look.number(&["jobs", state]));
        let total = |name| count(look.number(&["totals", name]));
        let [puts, completions, cancels] = look.rates.map_or([None; 3], |rates| rates.map(Some));
        let uptime = span(look.span(&["uptime"]));
        let mut states = format!(
            "jobs: {} ready, {} held, {} delayed, {} buried, {} blocked; {} waiting",
            jobs("ready"),
            jobs("reserved"),
            jobs("delayed"),
            jobs("buried"),
            jobs("blocked"),
            count(look.number(&["waiting"])),
        );
        match look.queues_left_out() {
            0 => {}
            more => states.push_str(&format!("; {} more queues are not shown", count(more))),
        }
        let mut rest = format!(
            "connections: {} beanstalkd, {} http",
            count(look.number(&["connections", "beanstalkd"])),
            count(look.number(&["connections", "http"])),
        );
        if look.stats.contains_key("log") {
            rest.push_str(&format!("; log: {}", bytes(look.number(&["log", "bytes"]))));
        }
        let mut lines = vec![
            (
                format!(
                    "rota {} at {}, up {uptime} since {}",
                    look.text("version"),
                    self.server,
                    look.text("started_at")
                ),
                Style::Plain,
            ),
            (states, Style::Plain),
            (
                format!(
                    "per second: {} put, {} completed, {} cancelled; so far: {} lost leases, {} expired",
                    rate(puts),
                    rate(completions),
                    rate(cancels),
                    total("lost_leases"),
                    total("expired"),
                ),
                Style::Plain,
            ),
            (rest, Style::Plain),
        ];
        if look.is(&["log", "disk_full"]) {
            lines.push((String::from("THE DISK IS FULL: puts may be refused"), Style::Alarm));
        }
        if look.is(&["draining"]) {
            lines.push((String::from("DRAINING: puts are refused, the server is about to stop"), Style::Alarm));
        }
        if let Some(trouble) = &self.trouble {
            lines.push((format!("{trouble}; what is shown is old, and it is tried again"), Style::Alarm));
        }
        lines
    }

    /// The line of titles and those of the queues, with as many whole columns as `width` has room for.
    fn table(&self, queues: &[&Queue], width: usize, most: usize) -> (String, Vec<String>) {
        let longest = queues.iter().map(|queue| queue.name.chars().count()).max().unwrap_or(0);
        let name = longest.clamp(COLUMNS[0].width, most);
        let mut room = width.saturating_sub(name);
        let shown = COLUMNS[1..].iter().take_while(|column| {
            let fits = room > column.width;
            room = room.saturating_sub(column.width + 1);
            fits
        });
        let shown = 1 + shown.count();
        let row = |cells: &dyn Fn(&Column) -> String| {
            let first = cells(&COLUMNS[0]);
            let mut line = format!("{first:name$.name$}");
            for column in &COLUMNS[1..shown] {
                line.push_str(&format!(" {:>width$}", cells(column), width = column.width));
            }
            line
        };
        let rows = queues.iter().map(|queue| row(&|column| column.text(queue))).collect();
        (row(&|column| column.title.to_owned()), rows)
    }

    /// The lines for a screen of that many columns and rows, one for each row.
    pub(super) fn draw(&mut self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = self.head();
        // The titles and the line of keys take a row each.
        self.page = height.saturating_sub(lines.len() + 2).max(1);
        self.scroll = self.scroll.min(self.last_scroll());
        let queues = self.queues();
        let (titles, rows) =
            self.table(&queues[self.scroll..queues.len().min(self.scroll + self.page)], width, NAME_WIDTH);
        lines.push((titles, Style::Head));
        lines.extend(rows.into_iter().map(|row| (row, Style::Plain)));
        lines.resize(height.saturating_sub(1), (String::new(), Style::Plain));
        lines.push((self.foot(queues.len()), Style::Faint));
        lines.truncate(height);
        let fit = |(text, style): (String, Style)| {
            let mut text = clean(&text);
            text.truncate(width);
            if style == Style::Head {
                text = format!("{text:width$}");
            }
            Line { is_full: text.len() == width, text, style }
        };
        lines.into_iter().map(fit).collect()
    }

    /// What can be pressed, and how the table is chosen.
    fn foot(&self, queues: usize) -> String {
        if self.is_filter_edited {
            return format!("/{}_  (enter keeps it, escape drops it)", self.filter);
        }
        let order = if self.is_reversed { ", reversed" } else { "" };
        let held = if self.is_held { "HELD; " } else { "" };
        let filter = if self.filter.is_empty() { String::new() } else { format!(" with /{}", self.filter) };
        let title = COLUMNS[self.sort].title;
        let last = (self.scroll + self.page).min(queues);
        let first = (self.scroll + 1).min(queues);
        format!(
            "{held}{first}-{last} of {queues} queues{filter} by {title}{order}; q quit, jk scroll, <> sort, r reverse, space hold, / filter"
        )
    }

    /// All of it as text, with every queue and every column, as wide as it takes.
    pub(super) fn plain(&self) -> String {
        let queues = self.queues();
        let (titles, rows) = self.table(&queues, usize::MAX, usize::MAX);
        let head = self.head().into_iter().map(|(line, _)| clean(&line));
        head.chain([titles]).chain(rows).map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::look;
    use super::*;

    fn view(queues: &[(&str, u64, u64)]) -> View {
        View::new("http://here", look(1_000, 0, queues, None))
    }

    /// The names of the queues on a screen of that size.
    fn names(view: &mut View, height: usize) -> Vec<String> {
        let lines = view.draw(200, height);
        let table = lines.iter().skip_while(|line| line.style != Style::Head).skip(1);
        let names = table.filter(|line| line.style == Style::Plain).filter_map(|line| line.text.split(' ').next());
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn every_size_of_a_screen_is_filled_and_not_more() {
        let names: Vec<String> = (0..50).map(|n| format!("queue-with-a-name-{n}")).collect();
        let queues: Vec<(&str, u64, u64)> = names.iter().map(|name| (name.as_str(), 1, 1)).collect();
        let mut view = view(&queues);
        for width in 0..140 {
            for height in 0..60 {
                let lines = view.draw(width, height);
                assert_eq!(lines.len(), height);
                assert!(lines.iter().all(|line| line.text.len() <= width), "{width}x{height}: {lines:?}");
            }
        }
        assert!(view.draw(130, 20)[4].text.contains("PAUSED"));
        let narrow = &view.draw(60, 20)[4].text;
        assert!(narrow.contains("BURIED") && !narrow.contains("BLO"), "{narrow}");
    }

    #[test]
    fn keys_sort_filter_scroll_and_quit() {
        let mut view = view(&[("b", 3, 0), ("a", 3, 0), ("c", 9, 0), ("d", 0, 0)]);
        assert_eq!(names(&mut view, 20), ["c", "a", "b", "d"]);
        assert!(!view.press(Key::Char('r')));
        assert_eq!(names(&mut view, 20), ["d", "b", "a", "c"]);
        view.press(Key::Char('<'));
        assert_eq!(names(&mut view, 20), ["d", "c", "b", "a"]);
        view.press(Key::Char('r'));
        assert_eq!(names(&mut view, 8), ["a", "b"]);
        view.press(Key::Down);
        assert_eq!(names(&mut view, 8), ["b", "c"]);
        view.press(Key::End);
        assert_eq!(names(&mut view, 8), ["c", "d"]);
        view.press(Key::Down);
        assert_eq!(names(&mut view, 8), ["c", "d"], "the last page stays full");
        for key in [Key::Char('/'), Key::Char('q'), Key::Backspace, Key::Char('b')] {
            assert!(!view.press(key));
        }
        assert_eq!(names(&mut view, 8), ["b"]);
        view.press(Key::Escape);
        assert_eq!(names(&mut view, 8), ["a", "b"]);
        assert!(view.press(Key::Char('q')));
    }

    #[test]
    fn a_held_picture_stays_and_trouble_is_said() {
        let mut view = view(&[("a", 1, 0)]);
        view.press(Key::Char(' '));
        view.take(look(2_000, 0, &[("b", 1, 0)], None));
        assert_eq!(names(&mut view, 20), ["a"]);
        view.press(Key::Char(' '));
        view.take(look(3_000, 0, &[("b", 1, 0)], None));
        assert_eq!(names(&mut view, 20), ["b"]);
        view.trouble("no answer from http://here");
        let lines = view.draw(100, 20);
        let said = lines.iter().find(|line| line.style == Style::Alarm).expect("a line of it");
        assert!(said.text.starts_with("no answer from http://here"));
        view.take(look(4_000, 0, &[], None));
        assert!(view.draw(100, 20).iter().all(|line| line.style != Style::Alarm));
    }

    #[test]
    fn a_plain_table_has_every_queue_and_column() {
        let plain = view(&[("a", 1, 0), ("a\x1b[2J", 2, 0)]).plain();
        assert!(plain.contains("END/S  PAUSED\na?[2J"), "{plain}");
        assert_eq!(plain.lines().count(), 7);
    }
}
