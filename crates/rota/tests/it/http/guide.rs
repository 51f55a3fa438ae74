//! The guide, `docs/http.md`: its requests are sent, in their order, and answered as it says.

use std::io::Write;

use super::client::{Answer, Http};
use super::{escape, server};

/// A request of the guide, as its curl line has it.
struct Line {
    text: String,
    request: String,
    headers: String,
    body: String,
    /// Whether the answer goes on without end: `-N`.
    goes_on: bool,
}

/// The lines that begin with `curl`, whole.
fn lines(guide: &str) -> Vec<Line> {
    let blocks = guide.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let whole = blocks.map(|block| block.replace("\\\n", ""));
    let all = whole.collect::<Vec<_>>();
    all.iter().flat_map(|block| block.lines()).filter_map(|line| line.strip_prefix("curl ")).map(read).collect()
}

fn read(line: &str) -> Line {
    let (mut method, mut headers, mut body, mut path) = (None, String::new(), String::new(), None);
    let (mut query, mut goes_on) = (String::new(), false);
    let mut words = words(line).into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-N" => goes_on = true,
            "-X" => method = words.next(),
            "-H" => headers.push_str(&format!("{}\r\n", words.next().unwrap())),
            "-G" => method = Some("GET".to_owned()),
            "--data-urlencode" => {
                let (name, value) =
                    words.next().unwrap().split_once('=').map(|(a, b)| (a.to_owned(), escape(b))).unwrap();
                query = format!("?{name}={value}");
            }
            "-d" => body = words.next().unwrap(),
            "#" => break,
            url => path = Some(url.strip_prefix("localhost:11380").unwrap_or_else(|| panic!("{line}")).to_owned()),
        }
    }
    let method = method.unwrap_or_else(|| if body.is_empty() { "GET" } else { "POST" }.to_owned());
    let request = format!("{method} {}{query}", path.unwrap());
    Line { text: line.to_owned(), request, headers, body, goes_on }
}

/// The words of a line of the shell: blanks part them, but for those between single quotes.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn every_request_of_the_guide_is_answered_as_it_says() {
    let guide = include_str!("../../../../../docs/http.md");
    let (_data, _rota, http) = server(&["--webhook-allow", "localhost"]);
    let answers: Vec<(Line, Answer)> = lines(guide).into_iter().map(|line| ask(&http, line)).collect();
    assert!(answers.len() > 20, "the guide has {} requests", answers.len());
    let (refused, done): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.status >= 400);
    for (line, answer) in &done {
        assert!(answer.status < 300, "{}: {answer:?}", line.text);
    }
    // One shows an error, and the guide shows what is answered.
    let [(line, answer)] = &refused[..] else {
        panic!("{:?}", refused.iter().map(|(line, answer)| (&line.text, answer)).collect::<Vec<_>>());
    };
    assert!(line.body.contains("quue"), "{}", line.text);
    assert!(guide.contains(answer.body.trim()), "{answer:?}");
}

fn ask(http: &Http, line: Line) -> (Line, Answer) {
    let answer = if line.goes_on {
        let mut stream = http.connect();
        stream.write_all(http.bytes(&line.request, &line.headers, &line.body).as_bytes()).unwrap();
        Answer::begun(&mut stream)
    } else {
        http.ask(&line.request, &line.headers, &line.body)
    };
    (line, answer)
}
