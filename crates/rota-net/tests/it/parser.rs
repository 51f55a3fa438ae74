//! The beanstalkd parser: what each line means, and that it means the same however the bytes are cut.

use proptest::prelude::*;
use rota_net::beanstalkd::{BATCH_BYTES, BATCH_JOBS, BATCH_LINE_BYTES, LINE_BYTES, Parsed, Parser};

const MAX_JOB_BYTES: u32 = 100;

/// Parses `chunks` one after the other and gives what came out, one line each; the bounds are checked on the way.
fn parse<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut parser = Parser::new(MAX_JOB_BYTES);
    let mut outcomes = Vec::new();
    let mut arrived = 0;
    // Where in it what begins like a batch ends, all of it may be kept.
    let mut has_batches = false;
    let mut begin = Vec::new();
    for chunk in chunks {
        arrived += chunk.len();
        begin.extend_from_slice(chunk);
        has_batches |= begin.windows(6).any(|window| window == b"-batch");
        begin.drain(..begin.len().saturating_sub(5));
        let mut input = chunk;
        loop {
            let before = input.len();
            let parsed = parser.next(&mut input);
            match parsed {
                Parsed::NeedMore => {
                    break assert!(input.is_empty(), "asked for more with {} bytes left", input.len());
                }
                Parsed::Foreign(foreign) => {
                    outcomes.push(format!("{foreign:?}"));
                    return outcomes;
                }
                other => outcomes.push(format!("{other:?}")),
            }
            assert!(input.len() < before, "{outcomes:?} took no bytes");
        }
        let most = if has_batches { BATCH_BYTES } else { MAX_JOB_BYTES as usize };
        assert!(parser.buffer_bytes() <= 2 * arrived.min(most) + LINE_BYTES);
    }
    outcomes
}

/// One line and what it is understood as.
fn check(line: &[u8], expected: &str) {
    let framed = [line, b"\r\nquit\r\n"].concat();
    let outcomes = parse([&framed[..]]);
    let shown = line.escape_ascii();
    assert_eq!(outcomes.first().map(String::as_str), Some(expected), "{shown}");
    assert_eq!(outcomes.last().map(String::as_str), Some("Request(Quit)"), "out of step after {shown}");
    assert_eq!(parse(framed.chunks(1)), outcomes, "cut after every byte: {shown}");
}

const BAD: &str = "Refused(BadFormat)";
const UNKNOWN: &str = "Refused(UnknownCommand)";

#[test]
fn numbers_take_spaces_before_them_and_nothing_after() {
    check(b"delete 7", "Request(Delete { id: 7 })");
    check(b"delete   007", "Request(Delete { id: 7 })");
    check(b"delete 18446744073709551615", "Request(Delete { id: 18446744073709551615 })");
    for line in ["delete ", "delete x", "delete 7 ", "delete 7x", "delete -7", "delete +7", "delete \t7"] {
        check(line.as_bytes(), BAD);
    }
    check(b"delete 18446744073709551616", BAD);
    check(b"delete 99999999999999999999999999999999999999", BAD);
    check(b"release 1  2   3", "Request(Release { id: 1, priority: 2, delay: 3s })");
    check(b"release 1 4294967295 4294967295", "Request(Release { id: 1, priority: 4294967295, delay: 4294967295s })");
    for line in ["release 1", "release 1 2", "release 1 2 3 ", "release 1 4294967296 0", "release 1 0 4294967296"] {
        check(line.as_bytes(), BAD);
    }
    check(b"bury 1 2", "Request(Bury { id: 1, priority: 2 })");
    check(b"bury 1", BAD);
    check(b"bury 1 2 3", BAD);
    check(b"touch 1", "Request(Touch { id: 1 })");
    check(b"kick-job 1", "Request(KickJob { id: 1 })");
    check(b"peek 1", "Request(Peek { id: 1 })");
    check(b"stats-job 1", "Request(StatsJob { id: 1 })");
    check(b"reserve-job 1", "Request(ReserveJob { id: 1 })");
    check(b"cancel 1", "Request(Cancel { id: 1 })");
    check(b"cancel 1 ", BAD);
}

#[test]
fn commands_are_told_by_how_the_line_begins() {
    for (line, request) in [
        ("stats", "Stats"),
        ("reserve", "Reserve"),
        ("peek-ready", "PeekReady"),
        ("peek-delayed", "PeekDelayed"),
        ("peek-buried", "PeekBuried"),
        ("list-tubes", "ListTubes"),
        ("list-tube-used", "ListTubeUsed"),
        ("list-tubes-watched", "ListTubesWatched"),
    ] {
        check(line.as_bytes(), &format!("Request({request})"));
        check(format!("{line}foo").as_bytes(), BAD);
        check(format!("{line} ").as_bytes(), BAD);
        check(format!(" {line}").as_bytes(), UNKNOWN);
        check(line.to_uppercase().as_bytes(), UNKNOWN);
    }
    for line in ["stats-job", "stats-foo 1", "reserve-job", "reserve-with-timeout", "reserve-foo", "pause-tube"] {
        check(line.as_bytes(), BAD);
    }
    for line in ["", "put", "put0 0 0 0", "use", "used", "peek", "peek-", "kick", "kickx", "delete", "cancel", "put-in"]
    {
        check(line.as_bytes(), UNKNOWN);
    }
    check(b"quitfoo", "Request(Quit)");
}

#[test]
fn names_follow_the_command_at_once() {
    check(b"use a", "Request(Use { tube: \"a\" })");
    check(b"watch A-Za-z0-9-+/;.$_()", "Request(Watch { tube: \"A-Za-z0-9-+/;.$_()\" })");
    check(b"ignore a-", "Request(Ignore { tube: \"a-\" })");
    let longest = "a".repeat(200);
    check(format!("stats-tube {longest}").as_bytes(), &format!("Request(StatsTube {{ tube: {longest:?} }})"));
    for name in ["", " a", "a ", "-a", "a b", "a@b", "a\tb", "\u{e9}", &"a".repeat(201)] {
        check(format!("use {name}").as_bytes(), BAD);
        check(format!("stats-tube {name}").as_bytes(), BAD);
    }
    check(b"pause-tube a 0", "Request(PauseTube { tube: \"a\", delay: 0ns })");
    check(b"pause-tube  a  4294967295", "Request(PauseTube { tube: \"a\", delay: 4294967295s })");
    check(b"pause-tubea 1", "Request(PauseTube { tube: \"a\", delay: 1s })");
    for line in
        ["pause-tube a", "pause-tube a ", "pause-tube a 1 ", "pause-tube a x", "pause-tube -a 1", "pause-tube a@b 1"]
    {
        check(line.as_bytes(), BAD);
    }
}

#[test]
fn kick_reads_its_bound_as_c_does() {
    for (line, bound) in [
        ("kick 5", 5),
        ("kick  5", 5),
        ("kick \t\n5", 5),
        ("kick 5 junk", 5),
        ("kick 5junk", 5),
        ("kick +5", 5),
        ("kick 0", 0),
        ("kick -0", 0),
        ("kick -1", u32::MAX),
        ("kick 4294967296", u32::MAX),
    ] {
        check(line.as_bytes(), &format!("Request(Kick {{ bound: {bound} }})"));
    }
    for line in ["kick ", "kick x", "kick - 5", "kick +-5", "kick 18446744073709551616"] {
        check(line.as_bytes(), BAD);
    }
}

#[test]
fn a_time_out_may_be_followed_by_anything() {
    check(b"reserve-with-timeout 0", "Request(ReserveWithTimeout { seconds: 0 })");
    check(b"reserve-with-timeout 1.5", "Request(ReserveWithTimeout { seconds: 1 })");
    check(b"reserve-with-timeout 2147483647 x", "Request(ReserveWithTimeout { seconds: 2147483647 })");
    for number in ["", "x", "-1", "2147483648", "4294967296"] {
        check(format!("reserve-with-timeout {number}").as_bytes(), BAD);
    }
}

#[test]
fn puts_carry_their_bodies() {
    let put = |when: &str, ttr: &str, key: &str, body: &[u8]| {
        format!("Request(Put(Put {{ priority: 1, when: {when}, ttr: {ttr}, key: {key}, after: [], body: {body:?} }}))")
    };
    check(b"put 1 2 3 2\r\nab", &put("In(2s)", "3s", "None", b"ab"));
    check(b"put  1  2  3  2\r\n\r\n", &put("In(2s)", "3s", "None", b"\r\n"));
    check(b"put 1 0 0 0\r\n", &put("In(0ns)", "1s", "None", b""));
    check(b"put-in 1 1500 250 1\r\n\x00", &put("In(1.5s)", "250ms", "None", b"\0"));
    check(b"put-in 1 0 0 1 k-1\r\nx", &put("In(0ns)", "1ms", "Some([107, 45, 49])", b"x"));
    check(b"put-at 1 1700000000000 5 1 k\r\nx", &put("At { unix_ms: 1700000000000 }", "5ms", "Some([107])", b"x"));
    let put_after =
        |ids: &str, key: &str| put("In(1.5s)", "250ms", key, b"x").replace("after: []", &format!("after: [{ids}]"));
    check(b"put-after 7 1 1500 250 1\r\nx", &put_after("7", "None"));
    check(
        b"put-after 7,9,7,18446744073709551615 1 1500 250 1 k\r\nx",
        &put_after("7, 9, 7, 18446744073709551615", "Some([107])"),
    );
    for ids in ["", ",", "1,", ",1", "1,,2", "1;2", "1, 2", "-1", "x", "18446744073709551616"] {
        check(format!("put-after {ids} 0 0 60000 0").as_bytes(), BAD);
    }
    for numbers in ["", "0", "0 0", "0 0 0", "-1 0 0 0", "4294967296 0 0 0", "0 4294967296 0 0", "0 0 4294967296 0"] {
        check(format!("put {numbers}").as_bytes(), BAD);
    }
    for junk in [" ", " x", "x", "\t", " \0"] {
        check(format!("put 0 0 0 1{junk}").as_bytes(), BAD);
    }
    check(b"put 0 0 0 4294967296", BAD);
    check(b"put-in 0 4294967295999 0 0\r\n", &put("In(4294967295.999s)", "1ms", "None", b"").replace("y: 1", "y: 0"));
    check(b"put-in 0 4294967296000 0 0", BAD);
    check(b"put-at 0 18446744073710 0 0", BAD);
    for key in ["  k", " ", " k l", " k ", " \u{e9}", " \x7f", &format!(" {}", "k".repeat(201))] {
        check(format!("put-in 0 0 0 0{key}").as_bytes(), BAD);
    }
}

/// A batch of these puts, which say how many they are.
fn batch(count: usize, puts: &[u8]) -> Vec<u8> {
    // What `check` adds ends the last put.
    let head = format!("put-batch {count} {}\r\n", puts.len() + 2);
    [head.as_bytes(), puts].concat()
}

#[test]
fn batches_of_puts_are_taken_whole() {
    let put = |when: &str, ttr: &str, key: &str, body: &[u8]| {
        format!("Some(Put {{ priority: 1, when: {when}, ttr: {ttr}, key: {key}, after: [], body: {body:?} }})")
    };
    let a = put("In(2s)", "3s", "None", b"ab");
    let b = put("In(1.5s)", "250ms", "Some([107])", b"\r\n");
    let c = put("At { unix_ms: 7 }", "1ms", "None", b"");
    let all = b"put 1 2 3 2\r\nab\r\nput-in 1 1500 250 2 k\r\n\r\n\r\nput-at 1 7 0 0\r\n";
    check(&batch(3, all), &format!("Request(PutBatch([{a}, {b}, {c}]))"));
    let big = [&b"put 1 0 0 101 junk\r\n"[..], &[b'x'; 101], b"..put 1 2 3 2\r\nab"].concat();
    check(&batch(2, &big), &format!("Request(PutBatch([None, {a}]))"));

    let in_batch = |item: usize, fault: &str| format!("Refused(InBatch {{ item: {item}, fault: {fault} }})");
    let one = b"put 1 2 3 2\r\nab";
    check(&batch(2, one), &in_batch(2, "BadFormat"));
    check(&batch(1, &[&one[..], b"\r\nstats"].concat()), &in_batch(2, "BadFormat"));
    for wrong in
        ["stats", "PUT 1 2 3 2\r\nab", "put 1 2 3 2 \r\nab", "put 1 2 3 3\r\nab", "put 1 2 3 4294967295\r\nab", ""]
    {
        check(&batch(1, wrong.as_bytes()), &in_batch(1, "BadFormat"));
    }
    check(&batch(1, b"put 1 2 3 1\r\nab"), &in_batch(1, "ExpectedCrlf"));
    check(&batch(2, b"put 1 2 3 2\r\nab\r\nput 1 2 3 2\r\nab\n"), &in_batch(2, "ExpectedCrlf"));
    for head in ["", "1", "1 ", "0 0", "1001 0", "1 4294967296", "-1 0", "1 0 ", "1 0 x"] {
        check(format!("put-batch {head}").as_bytes(), BAD);
    }
    let most = [format!("put-batch 1 {BATCH_BYTES}\r\n").into_bytes(), vec![b'x'; BATCH_BYTES - 2]].concat();
    check(&most, &in_batch(1, "BadFormat"));
    let more = [format!("put-batch 1 {}\r\n", BATCH_BYTES + 1).into_bytes(), vec![b'x'; BATCH_BYTES - 1]].concat();
    check(&more, "Refused(BatchTooBig)");
}

#[test]
fn a_batch_of_deletes_has_a_longer_line() {
    let in_batch = |item: usize| format!("Refused(InBatch {{ item: {item}, fault: BadFormat }})");
    check(b"delete-batch 7", "Request(DeleteBatch([7]))");
    check(b"delete-batch   7  8", "Request(DeleteBatch([7, 8]))");
    check(b"delete-batch ", BAD);
    for (line, item) in [("x", 1), ("7 ", 2), ("7x 8", 1), ("7 8\t9", 2), ("7 -8 9", 2), ("7 18446744073709551616", 2)]
    {
        check(format!("delete-batch {line}").as_bytes(), &in_batch(item));
    }
    let longest = format!("delete-batch{}", format!(" {}", u64::MAX).repeat(BATCH_JOBS));
    assert_eq!(longest.len() + 2, BATCH_LINE_BYTES);
    check(longest.as_bytes(), &format!("Request(DeleteBatch({:?}))", vec![u64::MAX; BATCH_JOBS]));
    check(format!("{longest}0").as_bytes(), BAD);
    check(format!("delete-batch{}", " 1".repeat(BATCH_JOBS + 1)).as_bytes(), &in_batch(BATCH_JOBS + 1));
    check(format!("delete-batch 1\0{}", " 1".repeat(500)).as_bytes(), BAD);
    // No other line may be as long.
    for other in ["delete-batcx", "delete-batch", "delete", "xdelete-batch 1"] {
        check(format!("{other}{}", "x".repeat(230)).as_bytes(), BAD);
    }
    check(b"reserve-batch 1 0", "Request(ReserveBatch { most: 1, seconds: 0 })");
    check(b"reserve-batch  1000  2147483647", "Request(ReserveBatch { most: 1000, seconds: 2147483647 })");
    for line in ["", " ", " 1", " 0 0", " 1001 0", " 1 2147483648", " 1 0 ", " 1 0x", " -1 0", "x"] {
        check(format!("reserve-batch{line}").as_bytes(), BAD);
    }
}

#[test]
fn refused_bodies_are_skipped() {
    let too_big = "Refused(JobTooBig)";
    let expected_crlf = "Refused(ExpectedCrlf)";
    let body = |bytes: usize| "x".repeat(bytes);
    check(format!("put 0 0 0 101\r\n{}", body(101)).as_bytes(), too_big);
    check(format!("put 0 0 0 101 junk\r\n{}", body(101)).as_bytes(), too_big);
    check(format!("put-in 0 0 0 101  k\r\n{}", body(101)).as_bytes(), too_big);
    check(b"put 0 0 0 101 \0", BAD);
    check(b"put 0 0 0 2\r\nabcdquit", expected_crlf);
    assert_eq!(parse([&b"put 0 0 0 2\r\nabcdquit\r\n"[..]]), [expected_crlf, "Request(Quit)"]);
    assert_eq!(parse([&b"put 0 0 0 2\r\nab\rdquit\r\n"[..]]), [expected_crlf, "Request(Quit)"]);
    assert_eq!(parse([&b"put 0 0 0 2\r\nab\n\nquit\r\n"[..]]), [expected_crlf, "Request(Quit)"]);
}

#[test]
fn a_line_ends_with_crlf_within_224_bytes() {
    check(&[b'x'; 222], UNKNOWN);
    for length in [223, 224, 225, 226, 447, 448, 449, 1000] {
        check(&vec![b'x'; length], BAD);
    }
    check(&[&[b'x'; 222][..], b"\r"].concat(), BAD);
    check(&[&[b'x'; 300][..], b"\n"].concat(), BAD);
    check(b"stats\nstats", BAD);
    check(b"stats\rstats", BAD);
    check(b"a\rb", UNKNOWN);
    check(b"\r", UNKNOWN);
    check(b"\n", UNKNOWN);
    check(b"sta\0ts", BAD);
    check(b"\0", BAD);
    check(b"quit\0", BAD);
}

#[test]
fn other_protocols_are_told_by_the_first_line() {
    let long_target = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1000));
    for first in [
        &b"GET / HTTP/1.1\r\nkick 1\r\n"[..],
        b"POST / HTTP/1.0\n\nquit\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"kick / HTTP/1.1\r\n",
        b"X-Y_Z /a b HTTP/1.1\r\n",
        long_target.as_bytes(),
    ] {
        assert_eq!(parse([first]), ["Http"], "{}", first.escape_ascii());
        assert_eq!(parse(first.chunks(1)), ["Http"], "{}", first.escape_ascii());
        let later = [b"stats\r\n", first].concat();
        assert_eq!(parse([&later[..]])[0], "Request(Stats)");
        assert!(!parse([&later[..]]).contains(&"Http".to_string()));
    }
    assert_eq!(parse([&b"\x16\x03\x01\x02\x00\x01\r\n"[..]]), ["Tls"]);
    assert_eq!(parse(b"\x16\x03".chunks(1)), ["Tls"]);
    check(b"\x16\x04", UNKNOWN);
    check(b"PUT 0 0 0 1", UNKNOWN);
    check(b"GET /", UNKNOWN);
    check(b"GET / HTTP", UNKNOWN);
    check(b"HTTP/1.1", UNKNOWN);
}

/// Bytes that are likely to be commands, nearly commands, or to sit on a boundary.
pub(crate) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "put 0 0 0 3\r\nabc\r\n", "put 1 0 1 0\r\n\r\n", "put 0 0 0 101\r\n", "put-in 0 9 9 2 k\r\nab\r\n",
            "put 0 0 0 99\r\n", "put 0 0 0 4294967295\r\n", "reserve\r\n", "reserve-with-timeout ", "delete ", "use ",
            "kick ", "pause-tube ", "stats", "list-tubes", "GET / HTTP/1.1\r\n", "cancel-key a k\r\n",
            "put-batch 1 18\r\nput 0 0 0 3\r\nabc\r\n", "put-batch 2 36\r\n", "put-batch 1 1048577\r\n",
            "reserve-batch 3 0\r\n", "reserve-batch 3 1\r\n", "delete-batch 1 2\r\n", "delete-batch 1", "delete-batch ",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        4 => prop::sample::select(vec!["\r\n", "\r", "\n", " ", "\0", "1", "x", "\x16\x03"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => (prop::sample::select(b"x\r\n 0".to_vec()), 0..460usize).prop_map(|(byte, n)| vec![byte; n]),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn cutting_the_stream_changes_nothing(bytes in stream(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let whole = parse([&bytes[..]]);
        prop_assert_eq!(&parse(bytes.chunks(1)), &whole, "{}", bytes.escape_ascii());
        cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
        let mut chunks = Vec::new();
        let mut start = 0;
        for cut in cuts {
            let cut = cut.index(bytes.len() + 1);
            chunks.push(&bytes[start..cut]);
            start = cut;
        }
        chunks.push(&bytes[start..]);
        prop_assert_eq!(&parse(chunks), &whole);
    }
}
