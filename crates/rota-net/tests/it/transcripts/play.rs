//! Plays a transcript against a server, whichever it is, and says where the two part.

use super::page::{Step, Transcript, What};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A server that a transcript can be played against.
pub(super) trait Server {
    /// A client connects.
    fn connect(&mut self, connection: char);
    /// The client sends this in one piece. Sending on a connection that the server has closed goes nowhere.
    fn send(&mut self, connection: char, bytes: &[u8]);
    /// What the client is sent next; waits for it if `patiently`. Empty if there is nothing.
    fn receive(&mut self, connection: char, patiently: bool) -> Received;
    /// The client closes the connection, or only its sending half.
    fn close(&mut self, connection: char, only_half: bool);
    /// Time passes.
    fn advance(&mut self, span: Duration);
    /// The server is told to take no more jobs.
    fn drain(&mut self);
    /// Connections that are opened from now on are asked for tokens, and this is one.
    fn token(&mut self, name: &str, roles: &str, queues: Option<&str>);
    /// That token is valid no more.
    fn revoke(&mut self, name: &str);
    /// Whether it quotes names in its documents.
    fn quotes_names(&self) -> bool;
    /// Whether it is Rota, which sends a few lines more.
    fn is_rota(&self) -> bool;
}

/// What came in for a client.
pub(super) enum Received {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, so far.
    Nothing,
    /// The end of the connection.
    End,
}

/// Where what the clients send is cut in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Sent whole.
    Nowhere,
    /// Sent byte by byte.
    Everywhere,
    /// The nth send is cut in two before this byte; the others are sent whole.
    At { send: usize, byte: usize },
}

/// Plays it; the error says which line failed and how.
pub(super) fn play(transcript: &Transcript, cut: Cut, server: &mut dyn Server) -> Result<(), String> {
    let mut player = Player { server, cut, sends: 0, inboxes: BTreeMap::new(), values: HashMap::new() };
    for step in &transcript.steps {
        player.step(step).map_err(|failure| {
            let (line, section) = (step.page_line, &transcript.section);
            format!("docs/protocol/beanstalkd.md:{line} ({section}), cut: {cut:?}\n{failure}")
        })?;
    }
    player
        .nothing_is_left()
        .map_err(|failure| format!("at the end of a transcript in {}\n{failure}", transcript.section))
}

/// How many bytes each send of a transcript has, given the values that its answers give.
pub(super) fn send_lengths(transcript: &Transcript) -> Vec<usize> {
    let sends = transcript.steps.iter().filter_map(|step| match &step.what {
        What::Send { text, .. } => Some(text),
        _ => None,
    });
    // A value's length is at most a few digits: one stands for all.
    sends.map(|text| expand(text, &|_| Some("1".to_string())).expect("all values are known").len()).collect()
}

struct Player<'a> {
    server: &'a mut dyn Server,
    cut: Cut,
    sends: usize,
    /// What came in and was not looked at yet, and whether that is all there will be.
    inboxes: BTreeMap<char, (Vec<u8>, bool)>,
    values: HashMap<String, String>,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.what {
            What::Send { connection, text } => self.send(*connection, text),
            What::Answer { connection, line } => self.answer(*connection, line),
            What::Document { connection, line, body } => self.document(*connection, line, body),
            What::Silence { connection } => self.silence(*connection),
            What::Close { connection } => {
                self.server.close(*connection, false);
                self.inboxes.remove(connection);
                Ok(())
            }
            What::HalfClose { connection } => {
                self.server.close(*connection, true);
                Ok(())
            }
            What::Closed { connection } => self.closed(*connection),
            What::Advance(span) => {
                self.server.advance(*span);
                Ok(())
            }
            What::Drain => {
                self.server.drain();
                Ok(())
            }
            What::Token { name, roles, queues } => {
                self.server.token(name, roles, queues.as_deref());
                Ok(())
            }
            What::Revoke { name } => {
                self.server.revoke(name);
                Ok(())
            }
        }
    }

    fn send(&mut self, connection: char, text: &str) -> Result<(), String> {
        if !self.inboxes.contains_key(&connection) {
            self.server.connect(connection);
            self.inboxes.insert(connection, Default::default());
        }
        let bytes = expand(text, &|name| self.values.get(name).cloned())?;
        let pieces: Vec<&[u8]> = match self.cut {
            Cut::Everywhere => bytes.chunks(1).collect(),
            Cut::At { send, byte } if send == self.sends && byte < bytes.len() => {
                let (first, second) = bytes.split_at(byte);
                vec![first, second]
            }
            _ => vec![&bytes],
        };
        for piece in pieces {
            self.server.send(connection, piece);
        }
        self.sends += 1;
        Ok(())
    }

    fn answer(&mut self, connection: char, pattern: &str) -> Result<(), String> {
        let expected = format!("expected {connection}< {pattern}");
        let Some(line) = self.line(connection) else {
            return Err(format!("{expected}\nbut only got {}", self.rest(connection)));
        };
        self.compare(pattern, &line)
            .map_err(|why| format!("{expected}\n     got {connection}< {}{why}", line.escape_ascii()))
    }

    fn document(&mut self, connection: char, head: &str, body: &[String]) -> Result<(), String> {
        let Some(line) = self.line(connection) else {
            return Err(format!("expected {connection}< {head}\nbut only got {}", self.rest(connection)));
        };
        let text = String::from_utf8_lossy(&line).into_owned();
        let size = text.strip_prefix("OK ").and_then(|size| size.parse::<usize>().ok());
        let Some(size) = size else {
            return Err(format!("expected {connection}< {head}\n     got {connection}< {text}"));
        };
        let head = if self.server.quotes_names() { head } else { "OK {*}" };
        self.compare(head, &line).map_err(|why| format!("expected {head}\n     got {text}{why}"))?;
        self.fill(connection, size + 2);
        let inbox = &mut self.inboxes.get_mut(&connection).expect("the connection is open").0;
        if inbox.len() < size + 2 || &inbox[size..size + 2] != b"\r\n" {
            return Err(format!("expected {size} bytes and CRLF\n     got {}", inbox.escape_ascii()));
        }
        let document = String::from_utf8_lossy(&inbox[..size]).into_owned();
        inbox.drain(..size + 2);
        let got: Vec<&str> = document.split_terminator('\n').collect();
        let is_rota = self.server.is_rota();
        let body: Vec<&str> = body.iter().filter_map(|line| expected_line(line, is_rota)).collect();
        for (index, pattern) in body.iter().copied().enumerate() {
            let line = got.get(index).copied().unwrap_or("(nothing)");
            let unquoted;
            let pattern = if self.server.quotes_names() {
                pattern
            } else {
                unquoted = pattern.replace('"', "");
                &unquoted
            };
            self.compare(pattern, line.as_bytes()).map_err(|why| {
                format!("expected line {} to be {pattern}\n     got {line}{why}\nin\n{document}", index + 1)
            })?;
        }
        if !document.ends_with('\n') || got.len() != body.len() {
            return Err(format!("expected {} lines\n     got {}:\n{document}", body.len(), got.len()));
        }
        Ok(())
    }

    fn silence(&mut self, connection: char) -> Result<(), String> {
        self.take_in(connection, false);
        let (inbox, ended) = &self.inboxes[&connection];
        if inbox.is_empty() && !ended {
            return Ok(());
        }
        Err(format!("expected nothing more on {connection}\n     got {}", self.rest(connection)))
    }

    fn closed(&mut self, connection: char) -> Result<(), String> {
        while self.take_in(connection, true) {}
        let (inbox, ended) = &self.inboxes[&connection];
        if inbox.is_empty() && *ended {
            return Ok(());
        }
        Err(format!("expected {connection} to be closed by the server\n     got {}", self.rest(connection)))
    }

    fn nothing_is_left(&mut self) -> Result<(), String> {
        let connections: Vec<char> = self.inboxes.keys().copied().collect();
        for connection in connections {
            self.take_in(connection, false);
            if !self.inboxes[&connection].0.is_empty() {
                return Err(format!("{connection} got more than the page says: {}", self.rest(connection)));
            }
        }
        Ok(())
    }

    /// The next line that came in, waiting for it; without its CRLF.
    fn line(&mut self, connection: char) -> Option<Vec<u8>> {
        loop {
            let inbox = &mut self.inboxes.get_mut(&connection)?.0;
            if let Some(end) = inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line = inbox[..end].to_vec();
                inbox.drain(..end + 2);
                return Some(line);
            }
            if !self.take_in(connection, true) {
                return None;
            }
        }
    }

    fn fill(&mut self, connection: char, bytes: usize) {
        while self.inboxes[&connection].0.len() < bytes && self.take_in(connection, true) {}
    }

    /// Takes in what the server sent; true if that was anything.
    fn take_in(&mut self, connection: char, patiently: bool) -> bool {
        let (inbox, ended) = self.inboxes.get_mut(&connection).expect("the connection is open");
        if *ended {
            return false;
        }
        match self.server.receive(connection, patiently) {
            Received::Bytes(bytes) => {
                inbox.extend_from_slice(&bytes);
                true
            }
            Received::Nothing => false,
            Received::End => {
                *ended = true;
                false
            }
        }
    }

    fn rest(&self, connection: char) -> String {
        match self.inboxes.get(&connection) {
            Some((bytes, ended)) => {
                format!("{:?}{}", bytes.escape_ascii().to_string(), if *ended { " and the end" } else { "" })
            }
            None => "nothing: the connection is not open".to_string(),
        }
    }

    /// Compares a line with the page's, in which `{name}` is a value, known or to be kept, and `{*}` is any.
    fn compare(&mut self, pattern: &str, line: &[u8]) -> Result<(), String> {
        let mut rest = line;
        let mut pieces = pattern;
        while let Some(open) = pieces.find('{') {
            let close = open + pieces[open..].find('}').ok_or("\nthe page has a { without }")?;
            let (literal, name) = (&pieces[..open], &pieces[open + 1..close]);
            pieces = &pieces[close + 1..];
            rest = rest.strip_prefix(&expand(literal, &|_| None)?[..]).ok_or("")?;
            if let Some(bytes) = repeated(name) {
                rest = rest.strip_prefix(&bytes[..]).ok_or("")?;
                continue;
            }
            let next = pieces.split('{').next().unwrap_or("");
            let end = if next.is_empty() { rest.len() } else { find(rest, next.as_bytes()).ok_or("")? };
            let value = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end..];
            if name != "*" {
                if !value.bytes().all(|byte| byte.is_ascii_digit()) || value.is_empty() {
                    return Err(format!("\n{{{name}}} should be a number"));
                }
                let known = self.values.entry(name.to_string()).or_insert_with(|| value.clone());
                if *known != value {
                    return Err(format!("\n{{{name}}} was {known} before"));
                }
            }
        }
        if rest == &expand(pieces, &|_| None)?[..] { Ok(()) } else { Err(String::new()) }
    }
}

/// What a line of a document must be, if this server is to send it.
fn expected_line(line: &str, is_rota: bool) -> Option<&str> {
    match line.strip_prefix("{rota} ") {
        Some(line) => is_rota.then_some(line),
        None => Some(line),
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// `bytes:N`: N times an `x`.
fn repeated(name: &str) -> Option<Vec<u8>> {
    name.strip_prefix("bytes:").map(|count| vec![b'x'; count.parse().expect("{bytes:N} has a number")])
}

/// The bytes of a text of the page: its escapes and values replaced.
fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (taken, replaced) = if rest.as_bytes()[at] == b'{' {
            let close = at + rest[at..].find('}').ok_or("the page has a { without }")?;
            let name = &rest[at + 1..close];
            let known = repeated(name).or_else(|| value(name).map(String::into_bytes));
            (close + 1, known.ok_or_else(|| format!("{{{name}}} has no value yet"))?)
        } else {
            match rest.as_bytes().get(at + 1) {
                Some(b'r') => (at + 2, vec![b'\r']),
                Some(b'n') => (at + 2, vec![b'\n']),
                Some(b't') => (at + 2, vec![b'\t']),
                Some(b'\\') => (at + 2, vec![b'\\']),
                Some(b'x') => {
                    let byte = rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    (at + 4, vec![byte.ok_or("the page has a \\x without two hex digits")?])
                }
                _ => return Err("the page has an unknown escape".to_string()),
            }
        };
        bytes.extend_from_slice(&replaced);
        rest = &rest[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}
