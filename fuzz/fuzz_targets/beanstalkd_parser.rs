//! Any bytes from a client: the parser never panics, always moves on, keeps no more than has arrived, and understands the
//! same however the bytes are cut.
#![no_main]

use rota_net::beanstalkd::{BATCH_BYTES, LINE_BYTES, Parsed, Parser};

const MAX_JOB_BYTES: u32 = 64;

fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, has_batches: bool) -> Vec<String> {
    let mut parser = Parser::new(MAX_JOB_BYTES);
    let mut outcomes = Vec::new();
    let mut arrived = 0;
    for piece in pieces {
        arrived += piece.len();
        let mut input = piece;
        loop {
            let before = input.len();
            match parser.next(&mut input) {
                Parsed::NeedMore => {
                    assert!(input.is_empty(), "it asks for more and leaves some");
                    break;
                }
                Parsed::Foreign(foreign) => {
                    outcomes.push(format!("{foreign:?}"));
                    return outcomes;
                }
                other => outcomes.push(format!("{other:?}")),
            }
            assert!(input.len() < before, "it takes nothing and asks for nothing");
        }
        // All of a batch may be kept, and at most twice what has arrived of it.
        let most = if has_batches { BATCH_BYTES } else { MAX_JOB_BYTES as usize };
        assert!(parser.buffer_bytes() <= 2 * most.min(arrived) + LINE_BYTES);
    }
    outcomes
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [cut, input @ ..] = bytes else { return };
    let has_batches = input.windows(6).any(|window| window == b"-batch");
    let whole = parse([input], has_batches);
    assert_eq!(parse(input.chunks(usize::from(*cut) + 1), has_batches), whole);
    assert_eq!(parse(input.chunks(1), has_batches), whole);
});
