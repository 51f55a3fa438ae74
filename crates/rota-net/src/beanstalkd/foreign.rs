//! Tells a client of another protocol by the first bytes of its connection, so that not one line of what follows runs.
//!
//! A web page can make a browser send an HTTP request to a port of the reader's own machine, with commands in its body.
//! beanstalkd answers the head's lines with errors and runs the body's. Only [`super::Parser`] calls in here, with the
//! first line of a connection and never a later one: there, an HTTP request is a line like any other.

/// Another protocol, spoken by mistake or by malice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// An HTTP request line, of any method and version.
    Http,
    /// A TLS handshake.
    Tls,
}

/// Reads a connection's first line as it comes, a byte or all of it at a time.
#[derive(Debug)]
pub(super) struct Sniffer {
    seen: Seen,
}

/// What the bytes so far could still be the start of.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Nothing,
    TlsRecordType,
    /// A token: a method, or a command's name.
    Method,
    /// A space after the method, and then this many bytes of `HTTP/`; `None` elsewhere in the line.
    AfterMethod(Option<usize>),
}

/// What the sniffer knows after some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// All bytes belong to the first line, and it is not decided yet.
    Undecided,
    /// The rest of the connection need not be looked at.
    Ours,
    /// Close it.
    Theirs(Foreign),
}

const TLS_HANDSHAKE: u8 = 0x16;
const TLS_MAJOR_VERSION: u8 = 0x03;
const HTTP: &[u8] = b"HTTP/";

impl Sniffer {
    pub(super) fn new() -> Sniffer {
        Sniffer { seen: Seen::Nothing }
    }

    /// Looks at the next bytes of the connection.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Verdict {
        for &byte in bytes {
            self.seen = match (self.seen, byte) {
                (Seen::Nothing, TLS_HANDSHAKE) => Seen::TlsRecordType,
                (Seen::TlsRecordType, TLS_MAJOR_VERSION) => return Verdict::Theirs(Foreign::Tls),
                (Seen::Nothing | Seen::Method, _) if is_token(byte) => Seen::Method,
                (Seen::Method, b' ') => Seen::AfterMethod(Some(0)),
                (Seen::Nothing | Seen::TlsRecordType | Seen::Method, _) | (_, b'\n') => {
                    return Verdict::Ours;
                }
                (Seen::AfterMethod(_), b' ') => Seen::AfterMethod(Some(0)),
                (Seen::AfterMethod(Some(matched)), _) if byte == HTTP[matched] => {
                    if matched + 1 == HTTP.len() {
                        return Verdict::Theirs(Foreign::Http);
                    }
                    Seen::AfterMethod(Some(matched + 1))
                }
                (Seen::AfterMethod(_), _) => Seen::AfterMethod(None),
            };
        }
        Verdict::Undecided
    }
}

/// The bytes of an HTTP token (RFC 9110, section 5.6.2): a method may be any of them.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
