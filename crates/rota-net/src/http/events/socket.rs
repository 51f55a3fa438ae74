//! What a listener hears over a WebSocket (RFC 6455): a text for each event, the same as the data of a server-sent one.
//!
//! Nothing is asked for over it: whoever sends a message is sent away. While nothing happens it is pinged, with the number of
//! the last event that was passed, and has to answer; the connection is its own from then on, and keeps its place among those
//! that are counted.

use super::super::connections::Place;
use super::listener::{Heard, Listener, Opening};
use super::shown;
use crate::limits::{GOODBYE_PATIENCE, MESSAGE_BYTES, SILENCE};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::time::Instant;

/// The answer that turns the connection into one of messages.
pub(super) fn answer(upgrade: WebSocketUpgrade, listener: Listener, place: Option<Place>) -> Response {
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES).write_buffer_size(0);
    upgrade.on_upgrade(move |mut socket| async move {
        let farewell = tell(&mut socket, listener).await;
        if let Some((code, reason)) = farewell {
            let frame = CloseFrame { code, reason: reason.into() };
            let goodbye = async {
                let _ = socket.send(Message::Close(Some(frame))).await;
                // Whoever closes at once may have what was sent thrown away with what was not read.
                while socket.recv().await.is_some_and(|message| message.is_ok()) {}
            };
            let _ = tokio::time::timeout(GOODBYE_PATIENCE, goodbye).await;
        }
        drop(place);
    })
}

/// Tells what is heard until one side is done; why, if the peer is to be told.
async fn tell(socket: &mut WebSocket, mut listener: Listener) -> Option<(u16, &'static str)> {
    let mut heard_of = Instant::now();
    loop {
        let heard = tokio::select! {
            biased;
            message = socket.recv() => match message {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    heard_of = Instant::now();
                    continue;
                }
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    return Some((close_code::UNSUPPORTED, "nothing is asked for here: choose in the address"));
                }
                Some(Ok(Message::Close(_))) | None => return None,
                Some(Err(_)) => return Some((close_code::SIZE, "a message of at most 4096 bytes is read")),
            },
            heard = listener.hear() => heard,
        };
        let Some(heard) = heard else {
            return Some((close_code::AWAY, "the server stops, or the token is valid no more"));
        };
        if heard_of.elapsed() > SILENCE {
            return Some((close_code::POLICY, "no answer to pings"));
        }
        let (messages, farewell): (Vec<Message>, _) = match heard {
            Heard::Opening(opening) => (opened(&opening), None),
            Heard::Events(told) => (told.iter().map(|told| text(&told.text)).collect(), None),
            Heard::Quiet(seen) => (vec![Message::Ping(seen.to_string().into())], None),
            Heard::Lagged(seen) => (vec![text(&shown::lagged(seen))], Some((close_code::AGAIN, "too slow"))),
            Heard::End(seen) => (vec![text(&shown::end(seen))], Some((close_code::NORMAL, "that is all"))),
        };
        for message in messages {
            socket.send(message).await.ok()?;
        }
        if farewell.is_some() {
            return farewell;
        }
    }
}

fn opened(Opening { seen, is_gone, restarted, started, is_from_log }: &Opening) -> Vec<Message> {
    let first = match (is_gone, is_from_log) {
        (true, _) => shown::gone(*seen, *restarted, *is_from_log),
        (false, true) => shown::resumed(*seen),
        (false, false) => shown::listening(*seen),
    };
    let started = started.as_ref().map(|started| text(&shown::text(started)));
    std::iter::once(text(&first)).chain(started).collect()
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}
