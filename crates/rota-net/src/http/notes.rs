//! What is done beside the engine's state, told to the log all the same: who changed a webhook, who took a snapshot.

use super::api::Api;
use super::problem::Problem;
use super::refused;
use rota_engine::command::Refusal;
use rota_engine::note::Note;
use rota_engine::session::Actor;

/// Refuses what the log could not be told of.
///
/// # Errors
/// [`Problem`]: the disk is full.
pub(super) fn check_room(api: &Api) -> Result<(), Problem> {
    let has_room = api.host.look(|shared| shared.engine.has_room_to_tell());
    if has_room { Ok(()) } else { Err(refused(Refusal::NoRoom)) }
}

/// Tells the log what was done, in that name, and waits until everybody may know. False where it had no room.
pub(super) async fn tell(api: &Api, notes: Vec<Note>, actor: Option<&Actor>) -> bool {
    let (told, depends_on) = api.host.with_and_wait(|shared, now| {
        let mut told = notes.into_iter().map(|note| shared.engine.tell(note, actor.cloned(), now));
        (told.try_for_each(|told| told), true)
    });
    if told.is_err() {
        crate::note!(
            "rota: a webhook was changed, or a snapshot taken, and the disk has become so full that it is not told of among the \
             events"
        );
    }
    api.leaves(depends_on).await;
    told.is_ok()
}
