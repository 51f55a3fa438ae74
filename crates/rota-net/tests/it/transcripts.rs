//! Runs every transcript of `docs/protocol/beanstalkd.md`: the page says nothing that was not tried.
//!
//! Those that claim to hold for beanstalkd too run against the real one.

mod page;

mod play;

mod real;

mod simulated;

use page::{Transcript, What};
use play::{Cut, play, send_lengths};
use real::RealServer;
use rota_net::beanstalkd::{COMMANDS, Verb, Word};
use simulated::{SimulatedServer, Storage};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many real servers run side by side. They mostly sleep.
const REAL_SERVERS: usize = 24;

#[test]
fn the_page_is_true_of_beanstalkd() {
    let transcripts = page::transcripts();
    let queue: Mutex<Vec<&Transcript>> = Mutex::new(transcripts.iter().filter(|t| !t.only_rota).collect());
    let failures = Mutex::new(Vec::new());
    let next = || queue.lock().expect("no holder of the lock panics").pop();
    std::thread::scope(|scope| {
        for _ in 0..REAL_SERVERS {
            scope.spawn(|| {
                while let Some(transcript) = next() {
                    if let Err(failure) = play_for_real(transcript) {
                        failures.lock().expect("no holder of the lock panics").push(failure);
                    }
                }
            });
        }
    });
    report("beanstalkd", failures.into_inner().expect("no holder of the lock panics"));
}

/// Plays it to a real server, again where it failed and took so much longer than its time that a second here or there may have been
/// too late: all spans of the page are of a second and more.
fn play_for_real(transcript: &Transcript) -> Result<(), String> {
    let spans = transcript.steps.iter().map(|step| match step.what {
        What::Advance(span) => span,
        What::Silence { .. } => real::SILENCE,
        _ => Duration::ZERO,
    });
    let time = spans.sum::<Duration>() + Duration::from_millis(400);
    let mut played = Ok(());
    for _ in 0..30 {
        let mut server = RealServer::start()?;
        let begun = Instant::now();
        played = play(transcript, Cut::Nowhere, &mut server);
        if played.is_ok() || begun.elapsed() < time {
            break;
        }
    }
    played
}

#[test]
fn the_page_is_true_of_rota() {
    is_true_of_rota(Storage::Memory);
}

#[test]
fn the_page_is_true_of_rota_with_its_bodies_in_the_log() {
    is_true_of_rota(Storage::Lazy);
}

#[track_caller]
fn is_true_of_rota(storage: Storage) {
    let transcripts = page::transcripts();
    let played = transcripts.iter().map(|t| play(t, Cut::Nowhere, &mut SimulatedServer::start(storage)));
    report("Rota", played.filter_map(Result::err).collect());
}

#[test]
fn the_page_is_true_of_rota_wherever_its_bytes_are_cut() {
    let mut failures = Vec::new();
    for transcript in page::transcripts() {
        let lengths = send_lengths(&transcript);
        let places = lengths.iter().enumerate().flat_map(|(send, &bytes)| {
            // Of a body of many bytes, the beginning, the end and a few between stand for all.
            let near_an_end = move |byte: &usize| *byte < 300 || bytes - byte < 300 || byte.is_multiple_of(4093);
            (1..bytes).filter(near_an_end).map(move |byte| Cut::At { send, byte })
        });
        let cuts = std::iter::once(Cut::Everywhere).chain(places);
        // The first cut that fails says enough. Every eighth has the bodies in the log.
        let storage = |n: usize| if n.is_multiple_of(8) { Storage::Lazy } else { Storage::Memory };
        let mut played =
            cuts.enumerate().map(|(n, cut)| play(&transcript, cut, &mut SimulatedServer::start(storage(n))));
        failures.extend(played.find_map(Result::err));
    }
    report("Rota", failures);
}

#[test]
fn every_command_and_answer_has_a_conversation() {
    let transcripts = page::transcripts();
    let steps = || transcripts.iter().flat_map(|transcript| &transcript.steps);
    let sent = |command: &str| {
        let begins =
            |line: &str| line.strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        steps().any(|step| matches!(&step.what, What::Send { text, .. } if text.split("\\r\\n").any(begins)))
    };
    for command in COMMANDS {
        assert!(sent(command), "no conversation shows the command {command}");
    }
    assert!(Verb::ALL.iter().all(|verb| COMMANDS.contains(&verb.word())));
    let answered = |answer: &str| steps().any(|step| matches!(&step.what, What::Answer { line, .. } if line == answer));
    // A server without room is shown by the tests of what fills up.
    for word in Word::ALL.iter().filter(|word| **word != Word::OutOfMemory) {
        assert!(answered(word.text()), "no conversation shows the answer {}", word.text());
    }
}

fn report(server: &str, mut failures: Vec<String>) {
    failures.sort();
    assert!(failures.is_empty(), "{server} answers otherwise than the page says:\n\n{}", failures.join("\n\n"));
}
