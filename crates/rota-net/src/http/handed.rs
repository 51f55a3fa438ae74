//! Leases on their way to who asked for them: whoever is gone before they were sent leaves nothing behind.
//!
//! A lease is given to a [`Holder`], which gives it up when it is dropped. The answer's body carries the holder along; when
//! its bytes are with the connection it waits in the connection's [`Outgoing`], and once they are with the kernel the
//! leases are the client's. Between there and the client nobody can know: there the job's TTR counts. A stream hands out its
//! leases by the [`Portion`], the next one when the last is with the kernel.

use super::room::Part;
use crate::host::{Host, Shared};
use crate::limits::SHORT_ANSWER_BYTES;
use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use rota_engine::job::{JobId, LeaseToken, Time};
use rota_engine::session::SessionId;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tokio::time::Instant;

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

/// Leases that are a part of those of a session, on their way: gives them up when it is dropped before they were sent.
pub(super) struct Portion {
    host: Arc<Host>,
    leases: Vec<(JobId, LeaseToken)>,
    /// When it is too late to send them.
    by: Option<Instant>,
    /// The room that what is told with them takes.
    room: Option<Part>,
}

impl Portion {
    pub(super) fn new(host: Arc<Host>) -> Portion {
        Portion { host, leases: Vec::new(), by: None, room: None }
    }

    /// It has that lease from now on.
    pub(super) fn add(&mut self, job: JobId, token: LeaseToken) {
        self.leases.push((job, token));
    }

    /// It is to be sent by then, or not at all.
    pub(super) fn hurry(&mut self, by: Instant) {
        self.by = Some(self.by.map_or(by, |before| before.min(by)));
    }

    /// What is told with it takes that room, until it was sent.
    pub(super) fn keep(&mut self, room: Part) {
        self.room = Some(room);
    }

    /// What is told with it turned out to have so many bytes. Where there is no room for them all, it is sent all the same.
    pub(super) fn fit(&self, bytes: usize) {
        let bytes = if bytes > SHORT_ANSWER_BYTES { bytes } else { 0 };
        let _ = self.room.as_ref().map(|room| room.fit(bytes));
    }

    /// What it has so far, which it has no more.
    pub(super) fn take(&mut self) -> Portion {
        let empty = Portion::new(Arc::clone(&self.host));
        std::mem::replace(self, empty)
    }

    /// Gives them up: without fault, and the jobs are ready again.
    pub(super) fn give_up(&mut self, shared: &mut Shared, now: Time) {
        for (job, token) in self.leases.drain(..) {
            shared.engine.drop_lease(job, token, now);
        }
    }

    /// The client has the leases.
    fn sent(&mut self) {
        self.leases.clear();
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if !self.leases.is_empty() {
            let host = Arc::clone(&self.host);
            host.with(|shared, now| self.give_up(shared, now));
        }
    }
}

/// What a connection was given to send, and has not given to the kernel.
#[derive(Default)]
pub(super) struct Outgoing {
    parcels: Mutex<Vec<Parcel>>,
    /// Told when there is nothing any more.
    is_flushed: Notify,
}

/// Leases that were given to a connection, and what else goes when they are sent.
enum Parcel {
    /// All that a session has.
    Session(Holder),
    /// Some, or none: a part of a stream.
    Portion(Portion),
    /// None: the room that an answer takes.
    Room(#[expect(dead_code, reason = "it is kept")] Arc<Part>),
}

impl Outgoing {
    /// Everything before this is with the kernel.
    pub(super) fn flushed(&self) {
        let parcels = std::mem::take(&mut *self.parcels());
        if parcels.is_empty() {
            return;
        }
        for parcel in parcels {
            match parcel {
                Parcel::Session(mut holder) => holder.sent(),
                Parcel::Portion(mut portion) => portion.sent(),
                Parcel::Room(_) => {}
            }
        }
        self.is_flushed.notify_one();
    }

    /// Waits until everything is with the kernel; there may be one who waits.
    pub(super) async fn until_flushed(&self) {
        while !self.parcels().is_empty() {
            self.is_flushed.notified().await;
        }
    }

    /// When it is too late for something of it.
    pub(super) fn by(&self) -> Option<Instant> {
        let by = |parcel: &Parcel| match parcel {
            Parcel::Session(_) | Parcel::Room(_) => None,
            Parcel::Portion(portion) => portion.by,
        };
        self.parcels().iter().filter_map(by).min()
    }

    /// It was given a part of a stream.
    pub(super) fn push(&self, portion: Portion) {
        self.parcels().push(Parcel::Portion(portion));
    }

    /// It was given an answer, which takes that room.
    pub(super) fn keep(&self, room: Arc<Part>) {
        self.parcels().push(Parcel::Room(room));
    }

    fn parcels(&self) -> MutexGuard<'_, Vec<Parcel>> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.outgoing.parcels().push(Parcel::Session(holder));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |(bytes, _)| bytes.len() as u64))
    }
}
