//! Names and addresses, and what the client does with a server that answers wrongly.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use proptest::prelude::*;

use super::*;

/// A client of a server that answers with `answers`, whatever it is asked, and then closes; joining the thread
/// gives what the server read.
fn scripted(answers: &'static [u8]) -> (Client, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answers).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        read
    });
    (Client::connect(&address).expect("the listener accepts"), server)
}

fn queue(name: &str) -> QueueName {
    name.parse().unwrap()
}

proptest! {
    /// Whatever text is given, what gets through as a name or key is one word of one line.
    #[test]
    fn nothing_that_ends_a_word_gets_into_a_name(text in any::<String>(), bad in "[\r\n \0\t]", at in 0usize..300) {
        for candidate in [text.clone(), insert(&text, &bad, at), insert("jobs", &bad, at)] {
            if candidate.contains(['\r', '\n', ' ', '\0', '\t']) {
                prop_assert!(candidate.parse::<QueueName>().is_err());
                prop_assert!(candidate.parse::<Key>().is_err());
            }
            if let Ok(name) = candidate.parse::<QueueName>() {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!((1..=200).contains(&name.as_str().len()));
                prop_assert!(!name.as_str().starts_with('-'));
            }
        }
    }

    /// Every name of the protocol's alphabet is taken as it is.
    #[test]
    fn every_name_of_the_alphabet_is_taken(name in "[A-Za-z0-9+/;.$_()][-A-Za-z0-9+/;.$_()]{0,199}") {
        prop_assert_eq!(name.parse::<QueueName>().map(|queue| queue.to_string()), Ok(name));
    }

    /// Every printable key is taken as it is.
    #[test]
    fn every_printable_key_is_taken(key in "[!-~]{1,200}") {
        prop_assert_eq!(key.parse::<Key>().map(|key| key.to_string()), Ok(key));
    }
}

fn insert(text: &str, piece: &str, at: usize) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = at.min(characters.len());
    characters.splice(at..at, piece.chars());
    characters.into_iter().collect()
}

#[test]
fn refused_names_say_why() {
    let long = "x".repeat(201);
    let cases = [
        ("", "it is empty"),
        (long.as_str(), "it has 201 bytes, and may have 200"),
        ("-x", "it starts with '-'"),
        ("a b", "' ' can't be in it, only letters, digits and - + / ; . $ _ ( )"),
        ("a\r\nquit", "'\\r' can't be in it, only letters, digits and - + / ; . $ _ ( )"),
        ("a\0", "'\\0' can't be in it, only letters, digits and - + / ; . $ _ ( )"),
    ];
    for (name, reason) in cases {
        assert_eq!(name.parse::<QueueName>().map_err(|error| error.to_string()), Err(reason.to_owned()));
    }
    let reason = "'\\n' can't be in it, only printable ASCII without spaces";
    assert_eq!("a\nb".parse::<Key>().map_err(|error| error.to_string()), Err(reason.to_owned()));
    assert!("-key".parse::<Key>().is_ok());
}

#[test]
fn addresses_in_every_form() {
    let cases = [
        ("beanstalkd://127.0.0.1:11300", "beanstalkd://127.0.0.1:11300"),
        ("beanstalkd://example.org/", "beanstalkd://example.org:11300"),
        ("beanstalk://example.org:1", "beanstalkd://example.org:1"),
        ("localhost", "beanstalkd://localhost:11300"),
        ("localhost:7", "beanstalkd://localhost:7"),
        ("beanstalkd://[::1]:7", "beanstalkd://[::1]:7"),
        ("[::1]", "beanstalkd://[::1]:11300"),
        ("tls://example.org", "tls://example.org:11301"),
        ("tls://[::1]:7/", "tls://[::1]:7"),
    ];
    for (text, expected) in cases {
        let address = text.parse::<ServerAddress>();
        assert_eq!(address.map(|address| address.to_string()), Ok(expected.to_owned()), "{text}");
    }
    for text in ["", "redis://x", "beanstalkd://", "x:", "x:0", "x:y", "x:99999", "[::1]7", "a b", "beanstalkd://u@x"] {
        assert!(text.parse::<ServerAddress>().is_err(), "{text:?}");
    }
}

#[test]
fn a_body_is_sent_only_to_a_server_that_has_the_command() {
    let (mut client, server) = scripted(b"USING q\r\nUNKNOWN_COMMAND\r\n");
    let error = client
        .put(&Put {
            queue: &queue("q"),
            body: b"quit",
            priority: 0,
            when: When::In(Duration::from_millis(1)),
            ttr: Duration::from_secs(1),
            key: None,
            after: &[],
        })
        .expect_err("the server has no put-in");
    assert!(matches!(error, ClientError::NoSuchCommand { command: "put-in", .. }), "{error:?}");
    drop(client);
    assert_eq!(server.join().unwrap(), b"use q\r\ncancel 0\r\n");
}

#[test]
fn an_extended_put_rounds_up_to_milliseconds_and_carries_its_key() {
    let (mut client, server) = scripted(b"USING q\r\nNOT_FOUND\r\nINSERTED 7\r\nUSING q\r\nKEY_TAKEN 7\r\n");
    let key = "k".parse().unwrap();
    let queue = queue("q");
    let mut put = Put {
        queue: &queue,
        body: b"b",
        priority: 9,
        when: When::In(Duration::from_micros(1_500)),
        ttr: Duration::from_secs(2),
        key: Some(&key),
        after: &[],
    };
    assert_eq!(client.put(&put).unwrap(), 7);
    put.when = When::At(std::time::UNIX_EPOCH + Duration::from_nanos(1_000_000_100));
    let error = client.put(&put).expect_err("the key is taken");
    assert_eq!(error.to_string(), "the key k is taken in queue q: job 7 has it");
    drop(client);
    let sent = b"use q\r\ncancel 0\r\nput-in 9 2 2000 1 k\r\nb\r\nuse q\r\nput-at 9 1001 2000 1 k\r\nb\r\n";
    assert_eq!(String::from_utf8(server.join().unwrap()), String::from_utf8(sent.to_vec()));
}

#[test]
fn rotas_own_answers_are_understood() {
    let (mut client, server) = scripted(b"NOT_FOUND\r\nCANCELLED\r\nNOT_FOUND\r\nCANCELLED 12\r\nNOT_FOUND\r\n");
    let (queue, key) = (queue("q"), "k".parse().unwrap());
    assert!(client.cancel(5).unwrap());
    assert!(!client.cancel(6).unwrap());
    assert_eq!(client.cancel_key(&queue, &key).unwrap(), Some(12));
    assert_eq!(client.cancel_key(&queue, &key).unwrap(), None);
    drop(client);
    let sent = "cancel 0\r\ncancel 5\r\ncancel 6\r\ncancel-key q k\r\ncancel-key q k\r\n";
    assert_eq!(String::from_utf8(server.join().unwrap()).unwrap(), sent);
}

#[test]
fn wrong_answers_are_errors_that_show_them() {
    let cases: [(&[u8], &str); 8] = [
        (b"HTTP/1.1 400 Bad Request\r\n", "answered delete with \"HTTP/1.1 400 Bad Request\", which is not"),
        (b"DELETED 5\r\n", "answered delete with \"DELETED 5\", which is not"),
        (b"DELETED\n", "answered delete with \"DELETED\\n\", which is not"),
        (b"DELETE", "answered delete with \"DELETE\", which is not"),
        (b"\xff\xfe\r\n", "which is not of the beanstalkd protocol"),
        (b"", "closed the connection during delete"),
        (b"INTERNAL_ERROR\r\n", "refused delete: INTERNAL_ERROR"),
        (b"OUT_OF_MEMORY\r\n", "refused delete: OUT_OF_MEMORY"),
    ];
    for (answer, expected) in cases {
        let (mut client, _server) = scripted(answer);
        let error = client.delete(5).expect_err("a wrong answer").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn bodies_must_be_as_long_as_announced() {
    let cases: [(&[u8], &str); 4] = [
        (b"FOUND 5 3\r\nab\r\n", "closed the connection"),
        (b"FOUND 5 3\r\nabcde", "a body without a line end"),
        (b"FOUND 5 99999999999\r\n", "a body of 99999999999 bytes"),
        (b"FOUND 5 x\r\n", "FOUND 5 x"),
    ];
    for (answer, expected) in cases {
        let (mut client, _server) = scripted(answer);
        let error = client.peek(5).expect_err("a wrong answer").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let (mut client, _server) = scripted(b"FOUND 5 4\r\n\r\n\0x\r\n");
    assert_eq!(client.peek(5).unwrap(), Some(Job { id: 5, body: b"\r\n\0x".to_vec() }));
}

#[test]
fn what_was_to_be_inside_tls_is_never_said_in_plain() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let refused = [
        (Client::builder().ca(pem), format!("{address}"), "the address can't be used for TLS"),
        (
            Client::builder().ca("none"),
            format!("tls://{address}"),
            "what was given as authorities can't be used for TLS",
        ),
        (Client::builder().ca(pem), format!("tls://{address}"), "what was given as authorities can't be used for TLS"),
        (
            Client::builder().client_cert(pem, "none"),
            format!("tls://{address}"),
            "the key of the client's certificate can't be used for TLS",
        ),
    ];
    for (builder, address, expected) in refused {
        let error = builder.token("secret").connect(&address).expect_err("nothing to speak TLS with");
        assert_eq!(error.to_string(), expected, "{error:?}");
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().map(drop).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn tokens_are_shown_to_the_server_and_to_nobody_else() {
    let error = Client::connect("tls://rota_secret@example.org").expect_err("a token in the address");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    assert!(matches!(error, ClientError::Address { source: AddressError::Token, .. }));
    assert!(!format!("{:?}", Client::builder().token("rota_secret")).contains("secret"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"AUTHENTICATED\r\n").unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        read
    });
    drop(Client::builder().token("rota_secret").connect(&address).unwrap());
    assert_eq!(server.join().unwrap(), b"auth rota_secret\r\n");
}

#[test]
fn what_comes_late_is_never_taken_for_the_next_answer() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Client::builder().timeout(Duration::from_millis(20)).connect(&address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    assert!(matches!(client.delete(1), Err(ClientError::TimedOut { command: "delete", .. })));
    server.write_all(b"DELETED\r\nNOT_FOUND\r\n").unwrap();
    let error = client.delete(2).expect_err("the answer is that to the first");
    assert!(matches!(error, ClientError::Unusable { command: "delete", .. }), "{error:?}");
    let mut read = [0; 10];
    server.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"delete 1\r\n");
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.read(&mut read).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn answers_to_batches_are_checked() {
    let terms = Terms::new(queue("q"));
    for answer in ["BATCH_INSERTED 2 1", "BATCH_INSERTED 1 x", "BATCH_INSERTED", "INSERTED 1", "BAD_FORMAT 1"] {
        let answers = format!("NOT_FOUND\r\nUSING q\r\n{answer}\r\n").leak();
        let (mut client, _server) = scripted(answers.as_bytes());
        let error = client.put_batch(&["a", "b"], &terms).expect_err(answer);
        assert!(matches!(error, ClientError::Unexpected { command: "put-batch", .. }), "{error:?}");
    }
    for answer in ["BATCH_DELETED x", "BATCH_DELETED 1 NOT_FOUND x", "DELETED"] {
        let answers = format!("NOT_FOUND\r\n{answer}\r\n").leak();
        let (mut client, _server) = scripted(answers.as_bytes());
        let error = client.delete_batch(&[1, 2]).expect_err(answer);
        assert!(matches!(error, ClientError::Unexpected { command: "delete-batch", .. }), "{error:?}");
    }
    let answers = b"NOT_FOUND\r\nWATCHING 2\r\nWATCHING 1\r\nBATCH_RESERVED 3\r\n";
    let (mut client, _server) = scripted(answers);
    let error = client.reserve_batch(&queue("q"), 2, Duration::ZERO).expect_err("more than were asked for");
    assert!(matches!(error, ClientError::Unexpected { command: "reserve-batch", .. }), "{error:?}");
    // Nothing is sent to a server that would take the puts for commands.
    let (mut client, server) = scripted(b"UNKNOWN_COMMAND\r\n");
    let error = client.put_batch(&["quit"], &terms).expect_err("the server has no batches");
    assert!(matches!(error, ClientError::NoSuchCommand { need: Need::Batch, .. }), "{error:?}");
    drop(client);
    assert_eq!(server.join().unwrap(), b"cancel 0\r\n");
}
