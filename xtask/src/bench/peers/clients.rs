//! The smallest clients that put jobs and take them, each in the protocol of its server, pipelined.
//!
//! All are alike so that none is what is measured: a batch is written at once, then its answers are read and checked.
//! Bodies are all the same. A take ends with the server having forgotten the jobs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The body of every job.
pub(super) const BODY: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl";

const DEADLINE: Duration = Duration::from_secs(30);

/// A connection to a server of some kind.
pub(super) trait Client: Send {
    /// Puts so many jobs, each confirmed as the server's settings promise.
    fn put(&mut self, jobs: usize) -> Result<()>;

    /// Takes so many jobs that are there, and completes them.
    fn take(&mut self, jobs: usize) -> Result<()>;
}

fn open(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(BufReader::with_capacity(64 << 10, stream))
}

fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the server closed the connection");
    Ok(line.trim_end().to_owned())
}

/// beanstalkd's protocol.
pub(super) struct Beanstalk(BufReader<TcpStream>);

impl Beanstalk {
    pub(super) fn connect(address: SocketAddr) -> Result<Box<dyn Client>> {
        Ok(Box::new(Beanstalk(open(address)?)))
    }
}

impl Client for Beanstalk {
    fn put(&mut self, jobs: usize) -> Result<()> {
        let frame = [b"put 1024 0 3600 64\r\n", &BODY[..], b"\r\n"].concat();
        self.0.get_mut().write_all(&frame.repeat(jobs))?;
        for _ in 0..jobs {
            let line = line(&mut self.0)?;
            ensure!(line.starts_with("INSERTED "), "a put was answered with {line:?}");
        }
        Ok(())
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        self.0.get_mut().write_all(&b"reserve-with-timeout 0\r\n".repeat(jobs))?;
        let mut deletes = Vec::new();
        for _ in 0..jobs {
            let head = line(&mut self.0)?;
            let id = head.strip_prefix("RESERVED ").and_then(|rest| rest.split(' ').next());
            let id = id.with_context(|| format!("a reserve was answered with {head:?}"))?;
            write!(deletes, "delete {id}\r\n")?;
            ensure!(line(&mut self.0)?.as_bytes() == BODY, "a job came back with another body");
        }
        self.0.get_mut().write_all(&deletes)?;
        for _ in 0..jobs {
            ensure!(line(&mut self.0)? == "DELETED", "a delete failed");
        }
        Ok(())
    }
}

/// Redis, with a list: what is taken moves to a second list and is removed from there when it is done.
pub(super) struct RedisList(BufReader<TcpStream>);

impl RedisList {
    pub(super) fn connect(address: SocketAddr) -> Result<Box<dyn Client>> {
        Ok(Box::new(RedisList(open(address)?)))
    }
}

/// A reply: its strings and numbers in order, however they are nested.
fn reply(stream: &mut BufReader<TcpStream>, found: &mut Vec<String>) -> Result<()> {
    let head = line(stream)?;
    let (kind, rest) = head.split_at(1);
    match kind {
        "+" | ":" => found.push(rest.to_owned()),
        "$" | "*" if rest.starts_with('-') => bail!("there is nothing where a job was expected"),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>()? + 2];
            stream.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            found.push(String::from_utf8(text)?);
        }
        "*" => {
            for _ in 0..rest.parse::<usize>()? {
                reply(stream, found)?;
            }
        }
        _ => bail!("the server answered {head:?}"),
    }
    Ok(())
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn repeated(stream: &mut BufReader<TcpStream>, words: &[&[u8]], times: usize) -> Result<Vec<String>> {
    stream.get_mut().write_all(&command(words).repeat(times))?;
    let mut found = Vec::new();
    for _ in 0..times {
        reply(stream, &mut found)?;
    }
    Ok(found)
}

impl Client for RedisList {
    fn put(&mut self, jobs: usize) -> Result<()> {
        repeated(&mut self.0, &[b"LPUSH", b"jobs", BODY], jobs).map(|_| ())
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        let bodies = repeated(&mut self.0, &[b"LMOVE", b"jobs", b"taken", b"RIGHT", b"LEFT"], jobs)?;
        ensure!(bodies.iter().all(|body| body.as_bytes() == BODY), "a job came back with another body");
        let removed = repeated(&mut self.0, &[b"LREM", b"taken", b"1", BODY], jobs)?;
        ensure!(removed.iter().all(|removed| removed == "1"), "a job was not there to be removed");
        Ok(())
    }
}

/// Redis, with a stream and a group of consumers.
pub(super) struct RedisStream(BufReader<TcpStream>);

impl RedisStream {
    pub(super) fn connect(address: SocketAddr) -> Result<Box<dyn Client>> {
        let mut stream = open(address)?;
        // Another connection may have made it.
        let _ = repeated(&mut stream, &[b"XGROUP", b"CREATE", b"stream", b"group", b"0", b"MKSTREAM"], 1);
        Ok(Box::new(RedisStream(stream)))
    }
}

impl Client for RedisStream {
    fn put(&mut self, jobs: usize) -> Result<()> {
        repeated(&mut self.0, &[b"XADD", b"stream", b"*", b"b", BODY], jobs).map(|_| ())
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        let most = jobs.to_string();
        let read: [&[u8]; 9] =
            [b"XREADGROUP", b"GROUP", b"group", b"one", b"COUNT", most.as_bytes(), b"STREAMS", b"stream", b">"];
        let found = repeated(&mut self.0, &read, 1)?;
        // The stream's name, then of each entry its id, its field's name and the body.
        let ids: Vec<&[u8]> = found[1..].chunks(3).map(|entry| entry[0].as_bytes()).collect();
        ensure!(ids.len() == jobs, "{jobs} jobs were there and {} came", ids.len());
        let acknowledge = command(&[&[&b"XACK"[..], b"stream", b"group"], &ids[..]].concat());
        let delete = command(&[&[&b"XDEL"[..], b"stream"], &ids[..]].concat());
        self.0.get_mut().write_all(&[acknowledge, delete].concat())?;
        let mut counts = Vec::new();
        reply(&mut self.0, &mut counts)?;
        reply(&mut self.0, &mut counts)?;
        ensure!(counts.iter().all(|count| *count == most), "not all were acknowledged and deleted: {counts:?}");
        Ok(())
    }
}

/// AMQP 0-9-1, on one channel that confirms what is published.
pub(super) struct Amqp {
    stream: BufReader<TcpStream>,
    published: u64,
    confirmed: u64,
    publish: Vec<u8>,
}

const METHOD: u8 = 1;
const QUEUE: &[u8] = b"\x04jobs";

impl Amqp {
    /// Declares a durable queue, and has messages written to the disk if they are to be `persistent`.
    pub(super) fn connect(address: SocketAddr, persistent: bool) -> Result<Box<dyn Client>> {
        let mut amqp = Amqp { stream: open(address)?, published: 0, confirmed: 0, publish: Vec::new() };
        amqp.stream.get_mut().write_all(b"AMQP\x00\x00\x09\x01")?;
        amqp.expect(10, 10)?;
        let start_ok = b"\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
        amqp.send(0, 10, 11, start_ok)?;
        let tune = amqp.expect(10, 30)?;
        amqp.send(0, 10, 31, &[&tune[..6], &[0, 0]].concat())?;
        amqp.send(0, 10, 40, b"\x01/\0\0")?;
        amqp.expect(10, 41)?;
        amqp.send(1, 20, 10, b"\0")?;
        amqp.expect(20, 11)?;
        amqp.send(1, 85, 10, b"\0")?;
        amqp.expect(85, 11)?;
        amqp.send(1, 50, 10, &[b"\0\0", QUEUE, b"\x02\0\0\0\0"].concat())?;
        amqp.expect(50, 11)?;
        let mode = if persistent { 2 } else { 1 };
        let size = (BODY.len() as u64).to_be_bytes();
        // A delivery mode is the only property.
        let header = [&[0, 60, 0, 0][..], &size, &[0x10, 0, mode]].concat();
        let method = [&[0, 60, 0, 40, 0, 0, 0][..], QUEUE, &[0]].concat();
        amqp.publish = [frame(METHOD, 1, &method), frame(2, 1, &header), frame(3, 1, BODY)].concat();
        Ok(Box::new(amqp))
    }

    fn send(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) -> Result<()> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        Ok(self.stream.get_mut().write_all(&frame(METHOD, channel, &payload))?)
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; length + 1];
        self.stream.read_exact(&mut payload)?;
        ensure!(payload.pop() == Some(0xce), "a frame does not end where it should");
        Ok((head[0], payload))
    }

    fn expect(&mut self, class: u16, method: u16) -> Result<Vec<u8>> {
        loop {
            let (kind, payload) = self.receive()?;
            if kind == 8 {
                continue;
            }
            let expected = [class.to_be_bytes(), method.to_be_bytes()].concat();
            ensure!(kind == METHOD && payload.starts_with(&expected), "{class}.{method} was expected, not {payload:?}");
            return Ok(payload[4..].to_vec());
        }
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short");
    [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[0xce]].concat()
}

impl Client for Amqp {
    fn put(&mut self, jobs: usize) -> Result<()> {
        let batch = self.publish.repeat(jobs);
        self.stream.get_mut().write_all(&batch)?;
        self.published += jobs as u64;
        // One acknowledgement may stand for many, and they may come out of order.
        let mut singles = 0;
        while self.confirmed + singles < self.published {
            let ack = self.expect(60, 80)?;
            let tag = u64::from_be_bytes(*ack.first_chunk().context("an acknowledgement without a tag")?);
            if ack[8] & 1 == 1 {
                singles = 0;
                self.confirmed = self.confirmed.max(tag);
            } else {
                singles += 1;
            }
        }
        self.confirmed = self.published;
        Ok(())
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        let get = frame(METHOD, 1, &[&[0, 60, 0, 70, 0, 0][..], QUEUE, &[0]].concat());
        self.stream.get_mut().write_all(&get.repeat(jobs))?;
        let mut last = [0; 8];
        for _ in 0..jobs {
            let got = self.expect(60, 71)?;
            last.copy_from_slice(&got[..8]);
            self.receive()?;
            ensure!(self.receive()?.1 == BODY, "a job came back with another body");
        }
        self.send(1, 60, 80, &[&last[..], &[1]].concat())
    }
}

/// NATS with JetStream: a stream from which a message is gone when it was acknowledged.
pub(super) struct Nats {
    stream: BufReader<TcpStream>,
    inbox: String,
}

impl Nats {
    pub(super) fn connect(address: SocketAddr, storage: &str) -> Result<Box<dyn Client>> {
        let mut stream = open(address)?;
        line(&mut stream)?;
        let inbox = format!("inbox{}", stream.get_ref().local_addr()?.port());
        write!(stream.get_mut(), "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {inbox} 1\r\n")?;
        let mut nats = Nats { stream, inbox };
        let make = format!(
            "{{\"name\":\"S\",\"subjects\":[\"jobs\"],\"retention\":\"workqueue\",\"storage\":\"{storage}\",\
             \"num_replicas\":1}}"
        );
        nats.ask("$JS.API.STREAM.CREATE.S", &make)?;
        let consumer = "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"C\",\"ack_policy\":\"explicit\",\
                        \"max_ack_pending\":100000}}";
        nats.ask("$JS.API.CONSUMER.DURABLE.CREATE.S.C", consumer)?;
        Ok(Box::new(nats))
    }

    fn ask(&mut self, subject: &str, body: &str) -> Result<()> {
        let inbox = &self.inbox;
        write!(self.stream.get_mut(), "PUB {subject} {inbox} {}\r\n{body}\r\n", body.len())?;
        let (_, answer) = self.message()?;
        ensure!(!String::from_utf8_lossy(&answer).contains("\"error\""), "{}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// The next message: where its answer goes, and its body.
    fn message(&mut self) -> Result<(String, Vec<u8>)> {
        loop {
            let head = line(&mut self.stream)?;
            if head == "PING" {
                self.stream.get_mut().write_all(b"PONG\r\n")?;
                continue;
            }
            ensure!(head.starts_with("MSG "), "the server said {head:?}");
            let words: Vec<&str> = head.split(' ').collect();
            let length: usize = words[words.len() - 1].parse()?;
            let mut body = vec![0; length + 2];
            self.stream.read_exact(&mut body)?;
            body.truncate(length);
            return Ok((words[words.len() - 2].to_owned(), body));
        }
    }
}

impl Client for Nats {
    fn put(&mut self, jobs: usize) -> Result<()> {
        let head = format!("PUB jobs {} 64\r\n", self.inbox);
        let frame = [head.as_bytes(), BODY, b"\r\n"].concat();
        self.stream.get_mut().write_all(&frame.repeat(jobs))?;
        for _ in 0..jobs {
            let (_, answer) = self.message()?;
            ensure!(answer.windows(5).any(|window| window == b"\"seq\""), "{}", String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        let batch = format!("{{\"batch\":{jobs},\"expires\":20000000000}}");
        let inbox = &self.inbox;
        let head = format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.C {inbox} {}\r\n{batch}\r\n", batch.len());
        self.stream.get_mut().write_all(head.as_bytes())?;
        let mut acknowledgements = Vec::new();
        for _ in 0..jobs {
            let (reply, body) = self.message()?;
            ensure!(body == BODY, "a job came back with another body");
            write!(acknowledgements, "PUB {reply} 4\r\n+ACK\r\n")?;
        }
        // What was acknowledged is handled before the answer to this.
        acknowledgements.extend_from_slice(b"PING\r\n");
        self.stream.get_mut().write_all(&acknowledgements)?;
        let line = line(&mut self.stream)?;
        ensure!(line == "PONG", "a ping was answered with {line:?}");
        Ok(())
    }
}

/// Faktory, as producer and worker at once.
pub(super) struct Faktory {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    last_put: Instant,
    pushed: u64,
}

/// A worker that says nothing for a minute is taken for gone; while others have their turns, this one says nothing.
const FAKTORY_PATIENCE: Duration = Duration::from_secs(10);

impl Faktory {
    pub(super) fn connect(address: SocketAddr) -> Result<Box<dyn Client>> {
        Ok(Box::new(Faktory { address, stream: Faktory::greet(address)?, last_put: Instant::now(), pushed: 0 }))
    }

    fn greet(address: SocketAddr) -> Result<BufReader<TcpStream>> {
        let mut stream = open(address)?;
        let greeting = line(&mut stream)?;
        ensure!(greeting.starts_with("+HI {"), "the server greets with {greeting:?}");
        stream
            .get_mut()
            .write_all(b"HELLO {\"v\":2,\"wid\":\"benchmark\",\"hostname\":\"localhost\",\"pid\":1}\r\n")?;
        Faktory::expect_ok(&mut stream, 1)?;
        Ok(stream)
    }

    fn expect_ok(stream: &mut BufReader<TcpStream>, times: usize) -> Result<()> {
        for _ in 0..times {
            let line = line(stream)?;
            ensure!(line == "+OK", "the server answered {line:?}");
        }
        Ok(())
    }
}

impl Client for Faktory {
    fn put(&mut self, jobs: usize) -> Result<()> {
        if std::mem::replace(&mut self.last_put, Instant::now()).elapsed() > FAKTORY_PATIENCE {
            self.stream = Faktory::greet(self.address)?;
        }
        let body = std::str::from_utf8(BODY)?;
        let mut batch = Vec::new();
        for _ in 0..jobs {
            self.pushed += 1;
            let id = self.pushed;
            write!(batch, "PUSH {{\"jid\":\"job-{id:012}\",\"jobtype\":\"t\",\"args\":[\"{body}\"]}}\r\n")?;
        }
        self.stream.get_mut().write_all(&batch)?;
        Faktory::expect_ok(&mut self.stream, jobs)
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        self.stream.get_mut().write_all(&b"FETCH default\r\n".repeat(jobs))?;
        let mut acknowledgements = Vec::new();
        for _ in 0..jobs {
            let mut found = Vec::new();
            reply(&mut self.stream, &mut found)?;
            let job = &found[0];
            ensure!(job.as_bytes().windows(BODY.len()).any(|part| part == BODY), "a job came back as {job}");
            let id = job.split("\"jid\":\"").nth(1).and_then(|rest| rest.split('"').next());
            write!(acknowledgements, "ACK {{\"jid\":\"{}\"}}\r\n", id.context("a job without its id")?)?;
        }
        self.stream.get_mut().write_all(&acknowledgements)?;
        Faktory::expect_ok(&mut self.stream, jobs)
    }
}

/// nsqd, publishing to a topic and subscribed to it by the one connection.
pub(super) struct Nsq {
    stream: BufReader<TcpStream>,
    /// What came while something else was waited for: ids.
    early: Vec<[u8; 16]>,
}

impl Nsq {
    pub(super) fn connect(address: SocketAddr) -> Result<Box<dyn Client>> {
        let mut nsq = Nsq { stream: open(address)?, early: Vec::new() };
        nsq.stream.get_mut().write_all(b"  V2SUB jobs all\n")?;
        nsq.expect_ok(1)?;
        Ok(Box::new(nsq))
    }

    /// The next frame that is of use: an answer, or a message, which is kept apart.
    fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let [length, kind] = [0, 4].map(|at| u32::from_be_bytes(*head[at..].first_chunk().expect("four bytes")));
        let mut payload = vec![0; (length as usize).checked_sub(4).context("a frame without a kind")?];
        self.stream.read_exact(&mut payload)?;
        match kind {
            0 if payload == b"_heartbeat_" => self.stream.get_mut().write_all(b"NOP\n")?,
            0 => return Ok(Some(payload)),
            2 => {
                // The time, the attempts, then the id.
                ensure!(payload.get(26..) == Some(&BODY[..]), "a job came back with another body");
                self.early.push(*payload[10..].first_chunk().context("a message without an id")?);
            }
            _ => bail!("the server answered {:?}", String::from_utf8_lossy(&payload)),
        }
        Ok(None)
    }

    fn expect_ok(&mut self, times: usize) -> Result<()> {
        let mut left = times;
        while left > 0 {
            if let Some(answer) = self.receive()? {
                ensure!(answer == b"OK", "the server answered {:?}", String::from_utf8_lossy(&answer));
                left -= 1;
            }
        }
        Ok(())
    }
}

impl Client for Nsq {
    fn put(&mut self, jobs: usize) -> Result<()> {
        let frame = [b"PUB jobs\n\0\0\0\x40", &BODY[..]].concat();
        self.stream.get_mut().write_all(&[b"RDY 0\n", &frame.repeat(jobs)[..]].concat())?;
        self.expect_ok(jobs)
    }

    fn take(&mut self, jobs: usize) -> Result<()> {
        writeln!(self.stream.get_mut(), "RDY {jobs}")?;
        while self.early.len() < jobs {
            self.receive()?;
        }
        let mut finish: Vec<u8> = self.early.drain(..jobs).flat_map(|id| [b"FIN ", &id[..], b"\n"].concat()).collect();
        // What is finished is not confirmed: this is, and comes after it.
        finish.extend_from_slice(b"PUB done#ephemeral\n\0\0\0\x01x");
        self.stream.get_mut().write_all(&finish)?;
        self.expect_ok(1)
    }
}
