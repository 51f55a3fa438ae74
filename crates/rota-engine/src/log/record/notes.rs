//! The record of a note: what was changed beside the state.

use super::fields::{Fields, put_name, put_optional};
use super::rest::text;
use super::{RecordFault, kind};
use crate::job::QueueName;
use crate::limits::ACTOR_BYTES;
use crate::note::{Note, Noted, NotedWhy};
use crate::session::Actor;

mod tag {
    pub(super) const NAME: u8 = 1;
    pub(super) const WHY: u8 = 2;
}

pub(super) fn put_note(out: &mut Vec<u8>, note: &Note) {
    let Note { what, subject, name, why } = note;
    out.push(match what {
        Noted::TokenCreated => 1,
        Noted::TokenRevoked => 2,
        Noted::WebhookCreated => 3,
        Noted::WebhookChanged => 4,
        Noted::WebhookPaused => 5,
        Noted::WebhookResumed => 6,
        Noted::WebhookDeleted => 7,
        Noted::SnapshotTaken => 8,
    });
    put_name(out, subject);
    if let Some(name) = name {
        put_optional(out, tag::NAME, name.as_str().as_bytes());
    }
    if let Some(why) = why {
        put_optional(
            out,
            tag::WHY,
            &[match why {
                NotedWhy::Asked => 1,
                NotedWhy::Gone => 2,
            }],
        );
    }
}

/// Reads a note; `None` if it is of something that a newer server notes: a reader may pass over that.
pub(super) fn take_note(fields: &mut Fields<'_>) -> Result<Option<Note>, RecordFault> {
    let what = match fields.u8()? {
        1 => Noted::TokenCreated,
        2 => Noted::TokenRevoked,
        3 => Noted::WebhookCreated,
        4 => Noted::WebhookChanged,
        5 => Noted::WebhookPaused,
        6 => Noted::WebhookResumed,
        7 => Noted::WebhookDeleted,
        8 => Noted::SnapshotTaken,
        _ => return Ok(None),
    };
    let subject = std::str::from_utf8(fields.name()?).ok().and_then(|name| QueueName::new(name).ok());
    let mut note = Note::new(what, subject.ok_or(RecordFault::BadField("subject of a note"))?);
    fields.each_optional(kind::NOTED, |tag, mut value| {
        match tag {
            tag::NAME => {
                let name = text(value.rest(), ACTOR_BYTES, "name of a token")?;
                note.name = Some(Actor::new(&name).map_err(|_| RecordFault::BadField("name of a token"))?);
            }
            tag::WHY => {
                note.why = Some(match value.u8()? {
                    1 => NotedWhy::Asked,
                    2 => NotedWhy::Gone,
                    _ => return Err(RecordFault::BadField("reason")),
                });
            }
            _ => return Ok(false),
        }
        value.end().map(|()| true)
    })?;
    Ok(Some(note))
}
