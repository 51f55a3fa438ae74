//! What a listener hears as server-sent events: the body of an answer that goes on as long as it may.

use super::listener::{Heard, Listener, Opening};
use super::shown;
use axum::body::Bytes;
use hyper::body::{Body, Frame};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Listener)>> + Send>>;

/// The body.
pub(super) struct Events(Option<Next>);

impl Events {
    pub(super) fn of(listener: Listener) -> Events {
        Events(Some(Box::pin(next(listener))))
    }
}

async fn next(mut listener: Listener) -> Option<(Bytes, Listener)> {
    let heard = listener.hear().await?;
    Some((Bytes::from(said(&heard)), listener))
}

fn said(heard: &Heard) -> String {
    let mut said = String::new();
    let _ = match heard {
        Heard::Opening(opening) => return opened(opening),
        Heard::Events(told) => told.iter().try_for_each(|told| {
            write!(said, "id: {}\nevent: {}\ndata: {}\n\n", told.news.seq, told.news.kind.name(), told.text)
        }),
        Heard::Quiet(seen) => write!(said, ":\nid: {seen}\n\n"),
        Heard::Lagged(seen) => write!(said, "event: lagged\ndata: {}\n\n", shown::lagged(*seen)),
        Heard::End(seen) => write!(said, "id: {seen}\nevent: end\ndata: {}\n\n", shown::end(*seen)),
    };
    said
}

fn opened(Opening { seen, is_gone, restarted, started, is_from_log }: &Opening) -> String {
    let mut said = String::new();
    let _ = if *is_gone {
        // Whoever comes back before anything happened does not miss it again.
        write!(said, "id: {seen}\nevent: gone\ndata: {}\n\n", shown::gone(*seen, *restarted, *is_from_log))
    } else if *is_from_log {
        write!(said, "id: {seen}\nevent: resumed\ndata: {}\n\n", shown::resumed(*seen))
    } else {
        write!(said, ": listening\nid: {seen}\n\n")
    };
    if let Some(started) = started {
        // Its own number is among those that are gone.
        let _ = write!(said, "id: {seen}\nevent: {}\ndata: {}\n\n", started.kind.name(), shown::text(started));
    }
    said
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(awaited) = &mut self.0 else { return Poll::Ready(None) };
        let said = ready!(awaited.as_mut().poll(context));
        self.0 = None;
        let Some((bytes, listener)) = said else { return Poll::Ready(None) };
        self.0 = Some(Box::pin(next(listener)));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}
