//! Leases on their way to who asked for them: whoever is gone before they were sent leaves nothing behind.
//!
//! A lease is given to a [`Holder`], which gives it up when it is dropped. The answer's body carries the holder along; when
//! its bytes are with the connection it waits in the connection's [`Outgoing`], and once they are with the kernel the
//! leases are the client's. Between there and the client nobody can know: there the job's TTR counts.

use crate::host::Host;
use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use rota_engine::session::SessionId;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// A session that a request waits and holds jobs in.
pub(super) struct Holder {
    host: Arc<Host>,
    session: Option<SessionId>,
    is_left: bool,
}

impl Holder {
    pub(super) fn new(host: Arc<Host>) -> Holder {
        Holder { host, session: None, is_left: false }
    }

    /// It has that session from now on.
    pub(super) fn holds(&mut self, session: SessionId) {
        self.session = Some(session);
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The engine was told that the session is left: what it holds is held by tokens.
    pub(super) fn left(&mut self) {
        self.is_left = true;
    }

    /// The client has the leases.
    fn sent(&mut self) {
        self.session = None;
    }
}

impl Drop for Holder {
    /// Gives up what it holds: without fault, and ready again.
    fn drop(&mut self) {
        let Some(session) = self.session else { return };
        self.host.with(|shared, now| {
            if self.is_left {
                shared.engine.take_back(session, now);
            } else {
                shared.await_nothing(session);
                shared.engine.close_session(session, now);
            }
        });
    }
}

/// What a connection was given to send, and has not given to the kernel.
#[derive(Default)]
pub(super) struct Outgoing(Mutex<Vec<Holder>>);

impl Outgoing {
    /// Everything before this is with the kernel.
    pub(super) fn flushed(&self) {
        let mut holders = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        holders.iter_mut().for_each(Holder::sent);
    }

    fn push(&self, holder: Holder) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(holder);
    }
}

/// The body of an answer that hands out leases.
pub(super) struct Handed {
    bytes: Option<(Bytes, Holder)>,
    outgoing: Arc<Outgoing>,
}

impl Handed {
    pub(super) fn new(bytes: Bytes, holder: Holder, outgoing: Arc<Outgoing>) -> Handed {
        Handed { bytes: Some((bytes, holder)), outgoing }
    }
}

impl Body for Handed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((bytes, holder)) = self.bytes.take() else { return Poll::Ready(None) };
        self.outgoing.push(holder);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64))
    }
}
