//! A reader of server-sent events, as they come in an answer in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::http::client::Http;

/// A stream of events that is open.
pub(in crate::http) struct Stream {
    reader: BufReader<TcpStream>,
    /// What came in chunks and is not taken.
    text: String,
    opening: Option<Said>,
}

/// One block: what stands between two empty lines.
#[derive(Debug)]
pub(in crate::http) struct Said {
    pub(in crate::http) text: String,
    pub(in crate::http) event: String,
    pub(in crate::http) id: Option<u64>,
    pub(in crate::http) data: Value,
}

impl Said {
    #[track_caller]
    pub(in crate::http) fn id(&self) -> u64 {
        self.id.unwrap_or_else(|| panic!("no id: {self:?}"))
    }
}

impl Stream {
    /// Asks for events with these headers, each with its line end, and waits until the server listens.
    #[track_caller]
    pub(in crate::http) fn open(http: &Http, path: &str, headers: &str) -> Stream {
        Stream::try_open(http, path, headers).unwrap_or_else(|answer| panic!("{answer}"))
    }

    pub(in crate::http) fn try_open(http: &Http, path: &str, headers: &str) -> Result<Stream, String> {
        let mut stream = http.connect();
        let request = http.bytes(&format!("GET {path}"), headers, "");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        Stream::of(stream)
    }

    /// The stream that was asked for on that connection; else the status line, or why there is none.
    pub(in crate::http) fn of(stream: TcpStream) -> Result<Stream, String> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).map_err(|error| error.to_string())? == 0 {
                return Err(format!("no answer: {head:?}"));
            }
        }
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head);
        }
        assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
        Ok(Stream { reader, text: String::new(), opening: None })
    }

    /// The block that says where it begins.
    #[track_caller]
    pub(in crate::http) fn opening(&mut self) -> &Said {
        if self.opening.is_none() {
            let said = self.block().expect("the server goes on").expect("the stream goes on");
            assert!(said.event.is_empty(), "{said:?}");
            self.opening = Some(said);
        }
        self.opening.as_ref().expect("it was just read")
    }

    /// The next event.
    #[track_caller]
    pub(in crate::http) fn event(&mut self) -> Said {
        loop {
            let said = self.block().expect("the server goes on").expect("the stream goes on");
            if !said.event.is_empty() {
                return said;
            }
        }
    }

    /// Whether no event comes any more.
    pub(in crate::http) fn ended(&mut self) -> bool {
        loop {
            match self.block() {
                Ok(Some(said)) if said.event.is_empty() => {}
                Ok(Some(_)) => return false,
                Ok(None) => return true,
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }

    /// The next block; `None` at the end.
    fn block(&mut self) -> io::Result<Option<Said>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let said = read(block);
                self.text = rest.to_owned();
                return Ok(Some(said));
            }
            if !self.chunk()? {
                return Ok(None);
            }
        }
    }

    fn chunk(&mut self) -> io::Result<bool> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let Ok(length) = usize::from_str_radix(line.trim_end(), 16) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes)?;
        self.text.push_str(std::str::from_utf8(&bytes[..length]).expect("events are text"));
        Ok(length > 0)
    }
}

fn read(block: &str) -> Said {
    let field = |name: &str| {
        let start = format!("{name}: ");
        let mut values = block.lines().filter_map(|line| line.strip_prefix(&start));
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice: {block}");
        value
    };
    let known = ["id: ", "event: ", "data: ", ":"];
    assert!(block.lines().all(|line| known.iter().any(|known| line.starts_with(known))), "{block}");
    Said {
        text: block.to_owned(),
        event: field("event").unwrap_or_default().to_owned(),
        id: field("id").map(|id| id.parse().expect("an id is a number")),
        data: field("data").map_or(Value::Null, |data| serde_json::from_str(data).expect("data is JSON")),
    }
}
