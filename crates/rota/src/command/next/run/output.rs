//! What a command writes, passed on as it comes, and kept as far as that is bounded.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the end of it is waited for once the command has ended: something that it left behind may still have it.
const END_WAIT: Duration = Duration::from_secs(1);

/// How much is kept, in bytes, and which part of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    Begin(usize),
    End(usize),
}

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    /// Whether there was more.
    pub(super) is_cut: bool,
}

/// What is being written.
pub(super) struct Output {
    said: Arc<Mutex<Said>>,
    /// Told when no more is written.
    is_over: Receiver<()>,
}

impl Output {
    /// Passes all of it on.
    pub(super) fn follow(
        mut from: impl Read + Send + 'static,
        mut to: impl Write + Send + 'static,
        keep: Keep,
    ) -> Output {
        let said = Arc::<Mutex<Said>>::default();
        let (sender, is_over) = mpsc::sync_channel(1);
        let shared = said.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                // Nobody is left to be told if this fails.
                to.write_all(&buffer[..read]).and_then(|()| to.flush()).ok();
                shared.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..read], keep);
            }
            // Whoever started the command may not wait for this any more.
            sender.send(()).ok();
        });
        Output { said, is_over }
    }

    /// What came of a command that has ended.
    pub(super) fn said(self) -> Said {
        self.is_over.recv_timeout(END_WAIT).ok();
        std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Said {
    fn add(&mut self, bytes: &[u8], keep: Keep) {
        match keep {
            Keep::Begin(most) => {
                let room = bytes.len().min(most.saturating_sub(self.bytes.len()));
                self.bytes.extend_from_slice(&bytes[..room]);
                self.is_cut |= room < bytes.len();
            }
            Keep::End(most) => {
                self.bytes.extend_from_slice(bytes);
                let over = self.bytes.len().saturating_sub(most);
                self.bytes.drain(..over);
                self.is_cut |= over > 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_is_kept_and_all_is_passed_on() {
        for (keep, kept, is_cut) in
            [(Keep::Begin(3), "abc", true), (Keep::End(3), "fgh", true), (Keep::Begin(8), "abcdefgh", false)]
        {
            let (mut said, parts) = (Said::default(), ["ab", "cde", "f", "gh"]);
            parts.iter().for_each(|part| said.add(part.as_bytes(), keep));
            assert_eq!((&said.bytes[..], said.is_cut), (kept.as_bytes(), is_cut), "{keep:?}");
        }
        let said = Output::follow(&b"all of it"[..], std::io::sink(), Keep::End(2)).said();
        assert_eq!(said.bytes, b"it");
    }
}
