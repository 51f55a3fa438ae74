//! Answers on their way: what is long takes room, which all answers share, until it is with the kernel.
//!
//! Whoever asks and does not read keeps what they asked for in memory. So a handler whose answer may be long takes its room
//! before ([`Asker::room`]), where it can still say no; what others made is held against the room here, and given up where
//! nothing was done for it. Short answers are bounded by the connections, of which each has one.

use super::api::{Api, Asker};
use super::handed::Outgoing;
use super::problem::Problem;
use super::room::{Part, Whose};
use crate::limits::SHORT_ANSWER_BYTES;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Room that an answer has; it goes along with the answer.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Part>);

impl Asker {
    /// Room for an answer of about so many bytes.
    ///
    /// # Errors
    /// [`Problem`] if there is not so much.
    pub(super) fn room(&self, bytes: usize) -> Result<Room, Problem> {
        let part = self.answers.part(self.whose());
        if bytes > SHORT_ANSWER_BYTES {
            part.grow(bytes)?;
        }
        Ok(Room(Arc::new(part)))
    }
}

impl Room {
    /// The answer that it was taken for.
    pub(super) fn holds(self, mut answer: Response) -> Response {
        answer.extensions_mut().insert(self);
        answer
    }
}

/// Refuses who has as much on its way as it may, before anything is done.
///
/// # Errors
/// [`Problem`], where that is so.
pub(super) fn check_room(api: &Api, whose: &Whose) -> Result<(), Problem> {
    api.answers.part(whose).grow(1)
}

/// The answer with the room that it takes. Where there is none a problem is in its place, if `nothing_was_done`.
pub(super) fn bounded(
    api: &Api,
    whose: &Whose,
    outgoing: Option<Arc<Outgoing>>,
    nothing_was_done: bool,
    mut answer: Response,
) -> Response {
    let taken = answer.extensions_mut().remove::<Room>();
    // What goes on without an end says what it has, and no more before that was sent.
    let Some(length) = answer.body().size_hint().exact() else { return answer };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some(outgoing) = outgoing.filter(|_| length > SHORT_ANSWER_BYTES) else { return answer };
    let part = taken.map_or_else(|| Arc::new(api.answers.part(whose)), |Room(part)| part);
    if let Err(problem) = part.fit(length)
        && nothing_was_done
    {
        return problem.into_response();
    }
    answer.map(|body| Body::new(Held { body, part: Some(part), outgoing }))
}

/// The body of an answer that has room.
struct Held {
    body: Body,
    part: Option<Arc<Part>>,
    outgoing: Arc<Outgoing>,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        // From here on the bytes are the connection's, which keeps them until they are with the kernel.
        if frame.is_ready()
            && let Some(part) = self.part.take()
        {
            self.outgoing.keep(part);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
