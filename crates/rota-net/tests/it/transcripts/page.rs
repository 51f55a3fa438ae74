//! Reads the transcripts out of the protocol page. The page itself explains their notation, in its first section.

use std::time::Duration;

const PAGE: &str = include_str!("../../../../../docs/protocol/beanstalkd.md");

/// One fenced block of the page.
#[derive(Debug)]
pub(super) struct Transcript {
    /// The heading it stands under.
    pub(super) section: String,
    /// Whether beanstalkd answers otherwise, and the page says so.
    pub(super) only_rota: bool,
    /// What happens, in order.
    pub(super) steps: Vec<Step>,
}

/// One thing that happens, and the line of the page that says so.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) page_line: usize,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// The client sends this in one piece, unless it is cut on purpose.
    Send { connection: char, text: String },
    /// The client is answered this line.
    Answer { connection: char, line: String },
    /// The client is answered `OK` with a document of these lines.
    Document { connection: char, line: String, body: Vec<String> },
    /// Nothing else has come in for the client.
    Silence { connection: char },
    /// The client closes its connection.
    Close { connection: char },
    /// The client closes its sending half.
    HalfClose { connection: char },
    /// The server has closed the connection.
    Closed { connection: char },
    /// Time passes.
    Advance(Duration),
    /// The server is told to take no more jobs.
    Drain,
    /// The server asks for tokens from then on, and knows this one: who may do what, in which queues.
    Token { name: String, roles: String, queues: Option<String> },
    /// That token is valid no more.
    Revoke { name: String },
}

/// All transcripts of the page.
pub(super) fn transcripts() -> Vec<Transcript> {
    let mut transcripts = Vec::new();
    let mut section = String::new();
    let mut block: Option<Transcript> = None;
    let mut fenced = false;
    for (index, line) in PAGE.lines().enumerate() {
        let page_line = index + 1;
        if let Some(info) = line.strip_prefix("```") {
            if fenced {
                transcripts.extend(block.take());
            } else {
                block = match info {
                    "transcript" | "transcript rota" => {
                        let only_rota = info.ends_with("rota");
                        Some(Transcript { section: section.clone(), only_rota, steps: Vec::new() })
                    }
                    other => {
                        assert!(!other.contains("transcript"), "line {page_line}: unknown kind of block {other:?}");
                        None
                    }
                };
            }
            fenced = !fenced;
        } else if let Some(transcript) = &mut block {
            add_line(transcript, page_line, line);
        } else if !fenced && line.starts_with('#') {
            section = line.trim_start_matches('#').trim().to_string();
        }
    }
    for transcript in transcripts.iter().filter(|transcript| transcript.only_rota) {
        let first = transcript.steps.first().expect("a transcript has steps").page_line;
        let opening = PAGE.lines().nth(first - 2).expect("a line stands before the first step");
        assert!(opening.starts_with("# "), "line {first}: say with a `# …` line why beanstalkd is not asked");
    }
    transcripts
}

fn add_line(transcript: &mut Transcript, page_line: usize, line: &str) {
    if line.starts_with("# ") {
        return;
    }
    let Some(what) = what(line) else {
        match transcript.steps.last_mut() {
            Some(Step { what: What::Document { body, .. }, .. }) => body.push(line.to_string()),
            _ => panic!("line {page_line}: {line:?} is no step of a transcript"),
        }
        return;
    };
    // What one client sends without waiting goes out together.
    if let (What::Send { connection, text }, Some(Step { what: What::Send { connection: same, text: before }, .. })) =
        (&what, transcript.steps.last_mut())
        && connection == same
    {
        before.push_str(text);
        return;
    }
    transcript.steps.push(Step { page_line, what });
}

fn what(line: &str) -> Option<What> {
    if line == "drain" {
        return Some(What::Drain);
    }
    if let Some((name, grants)) = line.strip_prefix("token ").and_then(|rest| rest.split_once(": ")) {
        let (roles, queues) = match grants.split_once(" of ") {
            Some((roles, queues)) => (roles, Some(queues.to_string())),
            None => (grants, None),
        };
        return Some(What::Token { name: name.to_string(), roles: roles.to_string(), queues });
    }
    if let Some(name) = line.strip_prefix("revoke ") {
        return Some(What::Revoke { name: name.to_string() });
    }
    if let Some(span) = line.strip_prefix("advance ") {
        return Some(What::Advance(duration(span)));
    }
    let connection = line.chars().next().filter(char::is_ascii_uppercase)?;
    let rest = &line[1..];
    if let Some(text) = rest.strip_prefix(">> ") {
        return Some(What::Send { connection, text: text.to_string() });
    }
    if let Some(text) = rest.strip_prefix('>') {
        return Some(What::Send { connection, text: format!("{}\\r\\n", text.strip_prefix(' ').unwrap_or(text)) });
    }
    if let Some(text) = rest.strip_prefix('<') {
        let line = text.strip_prefix(' ').unwrap_or(text).to_string();
        let is_document = line.starts_with("OK ");
        return Some(if is_document {
            What::Document { connection, line, body: Vec::new() }
        } else {
            What::Answer { connection, line }
        });
    }
    match rest {
        "." => Some(What::Silence { connection }),
        "! close" => Some(What::Close { connection }),
        "! half-close" => Some(What::HalfClose { connection }),
        "! closed" => Some(What::Closed { connection }),
        _ => None,
    }
}

fn duration(span: &str) -> Duration {
    let (number, unit) = span.split_at(span.find(|c: char| !c.is_ascii_digit()).unwrap_or(span.len()));
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{span:?} is no span of time"));
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => panic!("{span:?} is no span of time"),
    }
}
