//! The webhooks that there are, and their deliveries.
//!
//! One change is made at a time: it is written down first, and counts then; the log is told of it, before anybody else is. A change
//! goes on when whoever asked for it is gone.

use super::super::api::Api;
use super::super::events::Following;
use super::super::notes::{check_room, tell};
use super::super::problem::{Kind, Problem};
use super::course::{Course, WebhookFigures, wall_now};
use super::deliver::Delivery;
use super::hook::{KeptWebhook, Pause, Webhook, write_secret};
use super::outside::{Place, Webhooks};
use rota_engine::engine::DependsOn;
use rota_engine::job::QueueName;
use rota_engine::limits::WEBHOOKS;
use rota_engine::note::{Note, Noted, NotedWhy};
use rota_engine::session::Actor;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

/// How long places that moved wait for others to move, too, before they are written down.
const PLACES_EVERY: Duration = Duration::from_secs(1);

/// The most calls at a time that somebody asked for to try a webhook.
const TESTS: usize = 8;

/// All webhooks.
pub(in crate::http) struct Book {
    pub(super) outside: Arc<dyn Webhooks>,
    entries: Mutex<BTreeMap<QueueName, Entry>>,
    /// Held by who changes what there is.
    changing: tokio::sync::Mutex<()>,
    /// Told when one of them is further than before.
    pub(super) moved: Notify,
    pub(super) tests: Semaphore,
}

struct Entry {
    webhook: Arc<Webhook>,
    course: Arc<Mutex<Course>>,
    /// None while it is paused.
    _delivery: Option<Task>,
}

/// A task that ends when this is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A webhook, and how it does.
pub(super) struct Seen {
    pub(super) webhook: Arc<Webhook>,
    pub(super) course: Course,
}

/// What somebody wants a webhook to be.
pub(super) struct Wish {
    pub(super) name: QueueName,
    pub(super) url: String,
    pub(super) events: Vec<String>,
    pub(super) queues: Vec<String>,
    /// As before, or made, if there is none.
    pub(super) secret: Option<String>,
    /// As before, or not, if it is not said.
    pub(super) paused: Option<bool>,
    /// As before, or from now on, if there is none.
    pub(super) after: Option<u64>,
}

/// A webhook that was set up.
pub(super) struct Set {
    pub(super) seen: Seen,
    pub(super) is_new: bool,
    /// The secret, if it was made: nobody knows it yet.
    pub(super) made: Option<String>,
}

/// Who pauses a webhook, or has it go on.
pub(super) enum By {
    /// Whoever asks for it, in that name.
    Asker(Option<Actor>),
    /// Its delivery, of which that is the course: the address is gone. By now there may be another webhook of the name.
    Delivery(Arc<Mutex<Course>>),
}

impl Book {
    pub(in crate::http) fn new(outside: Arc<dyn Webhooks>) -> Book {
        Book {
            outside,
            entries: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            moved: Notify::new(),
            tests: Semaphore::new(TESTS),
        }
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Seen> {
        self.entries().values().map(Entry::seen).collect()
    }

    /// The one of that name.
    pub(super) fn find(&self, name: &QueueName) -> Result<Seen, Problem> {
        self.entries().get(name).map(Entry::seen).ok_or_else(|| no_such_webhook(name))
    }

    /// What is measured of all of them.
    pub(in crate::http) fn figures(&self) -> Vec<WebhookFigures> {
        let figures = |seen: Seen| seen.course.figures(seen.webhook.name.to_string(), seen.webhook.pause.is_some());
        self.all().into_iter().map(figures).collect()
    }

    /// Those there are, but for one that is to be another, or none. Secrets that have ended are no longer kept.
    fn with(&self, name: &QueueName, other: Option<&Webhook>) -> Vec<Webhook> {
        let (entries, now) = (self.entries(), wall_now());
        let rest = entries.values().filter(|entry| entry.webhook.name != *name).map(|entry| (*entry.webhook).clone());
        rest.chain(other.cloned()).map(|webhook| webhook.without_ended(now)).collect()
    }

    fn places(&self) -> Vec<Place> {
        let place = |Seen { webhook, course }| Place {
            name: webhook.name.to_string(),
            set_at_ns: webhook.set_at.0,
            seq: course.seq,
        };
        self.all().into_iter().map(place).collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<QueueName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// An entry whose delivery begins, if there is a place that it follows from.
    fn begin(api: &Arc<Api>, webhook: Webhook, course: Course, following: Option<Following>) -> Entry {
        let (webhook, course) = (Arc::new(webhook), Arc::new(Mutex::new(course)));
        let delivery = following.map(|following| {
            let delivery = Delivery { api: api.clone(), webhook: webhook.clone(), course: course.clone(), following };
            Task(tokio::spawn(delivery.run()))
        });
        Entry { webhook, course, _delivery: delivery }
    }

    fn course(&self) -> Course {
        self.course.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> Seen {
        Seen { webhook: self.webhook.clone(), course: self.course() }
    }
}

/// Goes on with those that were kept.
pub(in crate::http) fn begin(api: &Arc<Api>) {
    for (webhook, seq) in api.webhooks.outside.kept() {
        let following = webhook.pause.is_none().then(|| follow_or_wait(api, &webhook, seq));
        let entry = Entry::begin(api, webhook, Course::at(seq), following);
        api.webhooks.entries().insert(entry.webhook.name.clone(), entry);
    }
}

/// Writes down how far they are, about once a second while they move, until the server stops, and then once more.
pub(in crate::http) async fn keep_places(api: &Api) {
    let book = &api.webhooks;
    loop {
        tokio::select! {
            () = api.stops() => break,
            () = book.moved.notified() => {}
        }
        book.outside.keep_places(book.places()).await;
        tokio::select! {
            () = api.stops() => break,
            () = tokio::time::sleep(PLACES_EVERY) => {}
        }
    }
    let places = book.places();
    if !places.is_empty() {
        book.outside.keep_places(places).await;
    }
}

/// Does what changes the book, whether who asked for it waits or not.
async fn change<T, F>(api: &Arc<Api>, what: impl FnOnce(Arc<Api>) -> F + Send + 'static) -> Result<T, Problem>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Problem>> + Send + 'static,
{
    let changed = tokio::spawn(change_now(api.clone(), what)).await;
    changed.unwrap_or_else(|_| Err(Problem::new(Kind::Stopping, "the server stops")))
}

async fn change_now<T, F: Future<Output = Result<T, Problem>>>(
    api: Arc<Api>,
    what: impl FnOnce(Arc<Api>) -> F,
) -> Result<T, Problem> {
    let _changing = api.webhooks.changing.lock().await;
    // While a last snapshot is taken, nothing happens any more that the log would have to be told of.
    while api.host.look(|shared| shared.is_frozen) {
        api.wait_until_thawed().await?;
    }
    what(api.clone()).await
}

/// Tells the log what became of a webhook, which is another from now on, or none.
async fn tell_of(api: &Api, notes: Vec<Note>, (name, now): (&QueueName, Option<&Webhook>), actor: Option<&Actor>) {
    if tell(api, notes, actor).await {
        api.webhooks.outside.keep_told(api.webhooks.with(name, now)).await;
    }
}

/// What is to be told of a webhook that is set up.
fn notes(webhook: &Webhook, before: Option<&KeptWebhook>, is_moved: bool) -> Vec<Note> {
    let KeptWebhook { url, events, queues, secret, paused, .. } = webhook.kept();
    let what = match before {
        None => Some(Noted::WebhookCreated),
        Some(old) => {
            let is_as_before = (&old.url, &old.events, &old.queues, &old.secret) == (&url, &events, &queues, &secret);
            (is_moved || !is_as_before).then_some(Noted::WebhookChanged)
        }
    };
    let was_paused = before.is_some_and(|old| old.paused.is_some());
    let pause = (paused.is_some() != was_paused).then(|| pause_note(webhook, paused));
    what.map(|what| Note::new(what, webhook.name.clone())).into_iter().chain(pause).collect()
}

fn pause_note(webhook: &Webhook, pause: Option<Pause>) -> Note {
    let what = if pause.is_some() { Noted::WebhookPaused } else { Noted::WebhookResumed };
    let why = pause.map(|pause| match pause {
        Pause::Asked => NotedWhy::Asked,
        Pause::Gone => NotedWhy::Gone,
    });
    Note { why, ..Note::new(what, webhook.name.clone()) }
}

/// Sets one up, whether it is there or not.
pub(super) async fn set(api: &Arc<Api>, wish: Wish, actor: Option<Actor>) -> Result<Set, Problem> {
    change(api, move |api| async move {
        let book = &api.webhooks;
        check_room(&api)?;
        let before = book.find(&wish.name).ok();
        if before.is_none() && book.entries().len() >= WEBHOOKS {
            return Err(Problem::new(Kind::TooManyWebhooks, format!("there are {WEBHOOKS} webhooks")));
        }
        let old = before.as_ref().map(|seen| seen.webhook.kept());
        let made = match (&wish.secret, &old) {
            (None, None) => Some(write_secret(&book.outside.random()?)),
            _ => None,
        };
        let now = wall_now().0;
        let pause = old.as_ref().and_then(|old| old.paused);
        let mut webhook = Webhook::check(KeptWebhook {
            name: wish.name.to_string(),
            url: wish.url,
            events: wish.events,
            queues: wish.queues,
            secret: wish.secret.or(made.clone()).or(old.as_ref().map(|old| old.secret.clone())).unwrap_or_default(),
            old_secret: old.as_ref().and_then(|old| old.old_secret.clone()),
            paused: match wish.paused {
                Some(true) => pause.or(Some(Pause::Asked)),
                Some(false) => None,
                None => pause,
            },
            created_at_ns: old.as_ref().map_or(now, |old| old.created_at_ns),
            set_at_ns: now,
            after: 0,
        })?;
        book.outside.check_url(&webhook.url)?;
        let after = wish.after.or(before.as_ref().map(|seen| seen.course.seq));
        // What happens from here on is told, though it takes a while until the webhook is written down.
        let (following, depends_on) = follow(&api, &webhook, after)?;
        let seq = after.unwrap_or(following.after());
        webhook.after = seq;
        book.outside.keep(book.with(&webhook.name, Some(&webhook))).await?;
        let notes = notes(&webhook, old.as_ref(), wish.after.is_some());
        tell_of(&api, notes, (&webhook.name, Some(&webhook)), actor.as_ref()).await;
        api.leaves(depends_on).await;
        let course = before.as_ref().map_or_else(|| Course::at(seq), |seen| seen.course.again(seq));
        let following = webhook.pause.is_none().then_some(following);
        let entry = Entry::begin(&api, webhook, course, following);
        let seen = entry.seen();
        book.entries().insert(wish.name, entry);
        book.moved.notify_one();
        Ok(Set { seen, is_new: before.is_none(), made })
    })
    .await
}

fn follow(api: &Arc<Api>, webhook: &Webhook, after: Option<u64>) -> Result<(Following, DependsOn), Problem> {
    let following = Following::begin(api, webhook.chosen.clone(), after);
    following.ok_or_else(|| Problem::new(Kind::Busy, "there are as many listeners as there can be"))
}

/// The same, for one that is there: it begins as soon as there is a place for it.
fn follow_or_wait(api: &Arc<Api>, webhook: &Webhook, after: u64) -> Following {
    let began = Following::begin(api, webhook.chosen.clone(), Some(after));
    began.map_or_else(|| Following::begin_late(api, webhook.chosen.clone(), after), |(following, _)| following)
}

/// Pauses one, or has it go on and try at once.
pub(super) async fn set_pause(api: &Arc<Api>, name: &QueueName, pause: Option<Pause>, by: By) -> Result<Seen, Problem> {
    let name = name.clone();
    change(api, move |api| async move {
        let book = &api.webhooks;
        let Seen { webhook, .. } = book.find(&name)?;
        let is_meant = |entry: &Entry| match &by {
            By::Asker(_) => true,
            By::Delivery(course) => Arc::ptr_eq(course, &entry.course),
        };
        if !book.entries().get(&name).is_some_and(is_meant) {
            return Err(no_such_webhook(&name));
        }
        let mut webhook = (*webhook).clone();
        if webhook.pause.is_none() != pause.is_none() {
            webhook.pause = pause;
            let note = pause_note(&webhook, pause);
            if let By::Asker(_) = by {
                check_room(&api)?;
            }
            let kept = book.outside.keep(book.with(&name, Some(&webhook))).await;
            // An address that is gone is not called again, though that could not be written down.
            let actor = match &by {
                By::Asker(actor) => {
                    kept?;
                    actor.as_ref()
                }
                By::Delivery(_) => None,
            };
            tell_of(&api, vec![note], (&name, Some(&webhook)), actor).await;
        }
        replace(&api, webhook)
    })
    .await
}

/// Has one sign with another secret, made here unless told; how it is then, and the secret that was made. The one from before
/// signs along for that long, or until it is dropped.
pub(super) async fn rotate(
    api: &Arc<Api>,
    name: &QueueName,
    secret: Option<String>,
    keep: Option<Duration>,
    actor: Option<Actor>,
) -> Result<(Seen, Option<String>), Problem> {
    let name = name.clone();
    change(api, move |api| async move {
        let book = &api.webhooks;
        let Seen { webhook, .. } = book.find(&name)?;
        let now = wall_now();
        if webhook.old_secret(now).is_some() {
            let detail = format!("the calls of {name} are still signed with the secret from before, too");
            return Err(Problem::new(Kind::SecretRotating, detail));
        }
        let made = secret.is_none().then(|| book.outside.random()).transpose()?.map(|secret| write_secret(&secret));
        let secret = secret.or(made.clone()).unwrap_or_default();
        let webhook = webhook.with_secret(&secret, now, keep.map(|keep| now.after(keep)))?;
        keep_changed(&api, &webhook, actor.as_ref()).await?;
        Ok((replace(&api, webhook)?, made))
    })
    .await
}

/// Has one sign with its newest secret alone, whether another one signs along or not.
pub(super) async fn drop_old_secret(api: &Arc<Api>, name: &QueueName, actor: Option<Actor>) -> Result<Seen, Problem> {
    let name = name.clone();
    change(api, move |api| async move {
        let book = &api.webhooks;
        let seen = book.find(&name)?;
        if seen.webhook.kept().old_secret.is_none() {
            return Ok(seen);
        }
        let webhook = (*seen.webhook).clone().without_old_secret();
        keep_changed(&api, &webhook, actor.as_ref()).await?;
        replace(&api, webhook)
    })
    .await
}

/// Writes down that one has other secrets, and tells of it.
async fn keep_changed(api: &Arc<Api>, webhook: &Webhook, actor: Option<&Actor>) -> Result<(), Problem> {
    let book = &api.webhooks;
    check_room(api)?;
    book.outside.keep(book.with(&webhook.name, Some(webhook))).await?;
    tell(api, vec![Note::new(Noted::WebhookChanged, webhook.name.clone())], actor).await;
    Ok(())
}

/// Has a webhook take the place of the one of its name: it goes on where that one stopped, and tries at once.
fn replace(api: &Arc<Api>, webhook: Webhook) -> Result<Seen, Problem> {
    let book = &api.webhooks;
    let name = webhook.name.clone();
    // Nothing moves on between this look and the end of the delivery before.
    let before = match book.entries().remove(&name) {
        Some(entry) => entry.course(),
        None => return Err(no_such_webhook(&name)),
    };
    let seq = before.seq;
    let following = webhook.pause.is_none().then(|| follow_or_wait(api, &webhook, seq));
    let entry = Entry::begin(api, webhook, before.again(seq), following);
    let seen = entry.seen();
    book.entries().insert(name, entry);
    Ok(seen)
}

/// Takes one away; how it was.
pub(super) async fn remove(api: &Arc<Api>, name: &QueueName, actor: Option<Actor>) -> Result<Seen, Problem> {
    let name = name.clone();
    change(api, move |api| async move {
        let book = &api.webhooks;
        let seen = book.find(&name)?;
        check_room(&api)?;
        book.outside.keep(book.with(&name, None)).await?;
        let note = Note::new(Noted::WebhookDeleted, name.clone());
        tell_of(&api, vec![note], (&name, None), actor.as_ref()).await;
        book.entries().remove(&name);
        book.moved.notify_one();
        Ok(seen)
    })
    .await
}

fn no_such_webhook(name: &QueueName) -> Problem {
    Problem::new(Kind::WebhookNotFound, format!("there is no webhook {name}"))
}
