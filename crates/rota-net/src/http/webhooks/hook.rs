//! What a webhook is: read, checked, and as it is kept.
//!
//! A secret is in here as it is signed with, and leaves by [`Webhook::kept`] and [`Webhook::secrets`] alone: nothing that is
//! printed has it. There are two of them while a new one takes the place of an old one.

use super::super::events::Chosen;
use super::super::fields::BASE64;
use super::super::problem::{Kind, Problem};
use crate::access::Pattern;
use axum::http::Uri;
use base64::Engine as _;
use rota_engine::job::{QueueName, Time};
use rota_engine::limits::{LISTENER_NAMES, WEBHOOK_URL_BYTES};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What a secret begins with, as Standard Webhooks has it.
const SECRET_PREFIX: &str = "whsec_";

/// How long a secret is, in bytes, as Standard Webhooks has it.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;

/// A webhook as a file has it: texts and numbers, not checked yet.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeptWebhook {
    /// Its name.
    pub name: String,
    /// What is called.
    pub url: String,
    /// The kinds of events.
    pub events: Vec<String>,
    /// Patterns of queues; none of them for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// `whsec_`, and base64.
    pub secret: String,
    /// The one before, while it signs along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<KeptSecret>,
    /// Why it is paused, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// When it was set up for the first time, in nanoseconds since 1970.
    pub created_at_ns: u64,
    /// When it was set up last: tells its place from that of another of the same name.
    pub set_at_ns: u64,
    /// After the event of which number it began then.
    pub after: u64,
}

/// A secret from before, as a file has it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSecret {
    /// `whsec_`, and base64.
    pub secret: String,
    /// When another one took its place, in nanoseconds since 1970.
    pub since_ns: u64,
    /// Until when it signs along, in nanoseconds since 1970; until it is dropped, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ns: Option<u64>,
}

/// Why a webhook is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pause {
    /// Somebody asked for it.
    Asked,
    /// Its address answered 410: it is to be called no more.
    Gone,
}

/// A webhook that can be called.
#[derive(Clone)]
pub struct Webhook {
    pub(super) name: QueueName,
    pub(super) url: Arc<str>,
    pub(super) events: Vec<String>,
    pub(super) queues: Vec<Pattern>,
    secret: Arc<[u8]>,
    old_secret: Option<OldSecret>,
    pub(super) pause: Option<Pause>,
    pub(super) created_at: Time,
    pub(super) set_at: Time,
    pub(super) after: u64,
    pub(super) chosen: Chosen,
}

/// A secret that another one took the place of, and that signs along.
#[derive(Clone)]
pub(super) struct OldSecret {
    secret: Arc<[u8]>,
    pub(super) since: Time,
    /// Until when; until it is dropped, if there is none.
    pub(super) until: Option<Time>,
}

/// What is wrong with a webhook.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct BadWebhook {
    /// The member that is wrong: `url`, `events/3`.
    pub field: String,
    /// What is wrong with it. It never has a secret in it.
    pub detail: String,
    /// What to try.
    pub hint: Option<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

impl BadWebhook {
    fn new(field: impl Into<String>, detail: impl Into<String>, hint: &str) -> BadWebhook {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        BadWebhook { field: field.into(), detail: detail.into(), hint }
    }
}

impl From<BadWebhook> for Problem {
    fn from(bad: BadWebhook) -> Problem {
        let BadWebhook { field, detail, hint } = bad;
        let problem = Problem::new(Kind::BadValue, detail).at(format!("/{field}"));
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl Webhook {
    /// Checks one as it was written down, or asked for.
    ///
    /// # Errors
    /// [`BadWebhook`], of the first member that is wrong.
    pub fn check(kept: KeptWebhook) -> Result<Webhook, BadWebhook> {
        let KeptWebhook { name, url, events, queues, secret, old_secret, paused, created_at_ns, set_at_ns, after } =
            kept;
        let name = QueueName::new(&name).map_err(|_| {
            BadWebhook::new(
                "name",
                format!("{name:?} is no name of a webhook"),
                "names keep the rule for names of queues",
            )
        })?;
        check_url(&url)?;
        for (field, count) in [("events", events.len()), ("queues", queues.len())] {
            if count > LISTENER_NAMES {
                return Err(BadWebhook::new(field, format!("a list has at most {LISTENER_NAMES} entries"), ""));
            }
        }
        if events.is_empty() {
            let hint = "leave it away for all, or write the kinds: [\"job.failed\", \"lease.*\"]";
            return Err(BadWebhook::new("events", "the list of kinds of events is empty", hint));
        }
        if let Some(at) = events.iter().position(|kind| kind.contains(',')) {
            let hint = "make each kind an entry of the list";
            return Err(BadWebhook::new(format!("events/{at}"), "there is a comma in a kind of event", hint));
        }
        let pattern = |(at, text): (usize, &String)| {
            let read: Result<Pattern, _> = text.parse();
            read.map_err(|error| BadWebhook::new(format!("queues/{at}"), error.to_string(), ""))
        };
        let queues = queues.iter().enumerate().map(pattern).collect::<Result<Vec<_>, _>>()?;
        let chosen = Chosen::new(&events, &queues).map_err(|(at, problem)| {
            let (detail, hint) = problem.into_words();
            BadWebhook { field: format!("events/{at}"), detail, hint }
        })?;
        let secret = read_secret(&secret)?.into();
        let old_secret = old_secret.map(|old| {
            let secret =
                read_secret(&old.secret).map_err(|bad| BadWebhook { field: "old_secret/secret".into(), ..bad })?;
            Ok(OldSecret { secret: secret.into(), since: Time(old.since_ns), until: old.until_ns.map(Time) })
        });
        let old_secret = old_secret.transpose()?;
        let (created_at, set_at) = (Time(created_at_ns), Time(set_at_ns));
        let url = url.into();
        Ok(Webhook { name, url, events, queues, secret, old_secret, pause: paused, created_at, set_at, after, chosen })
    }

    /// It as it is kept, with its secret.
    #[must_use]
    pub fn kept(&self) -> KeptWebhook {
        KeptWebhook {
            name: self.name.to_string(),
            url: self.url.to_string(),
            events: self.events.clone(),
            queues: self.queues.iter().map(Pattern::to_string).collect(),
            secret: write_secret(&self.secret),
            old_secret: self.old_secret.as_ref().map(|old| KeptSecret {
                secret: write_secret(&old.secret),
                since_ns: old.since.0,
                until_ns: old.until.map(|until| until.0),
            }),
            paused: self.pause,
            created_at_ns: self.created_at.0,
            set_at_ns: self.set_at.0,
            after: self.after,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// What its calls are signed with at that moment of the wall clock: the newest first.
    pub(super) fn secrets(&self, now: Time) -> Vec<Arc<[u8]>> {
        let old = self.old_secret(now).map(|old| old.secret.clone());
        [self.secret.clone()].into_iter().chain(old).collect()
    }

    /// The secret from before, if one signs along at that moment.
    pub(super) fn old_secret(&self, now: Time) -> Option<&OldSecret> {
        self.old_secret.as_ref().filter(|old| old.until.is_none_or(|until| now < until))
    }

    /// The same, with another secret. The one that it had signs along until that moment, or until it is dropped.
    ///
    /// # Errors
    /// [`BadWebhook`]: it is no secret, or the one that it has.
    pub(super) fn with_secret(&self, secret: &str, now: Time, until: Option<Time>) -> Result<Webhook, BadWebhook> {
        let secret: Arc<[u8]> = read_secret(secret)?.into();
        if secret == self.secret {
            return Err(BadWebhook::new("secret", "that is the secret it has", "name another, or leave it away"));
        }
        let old_secret = OldSecret { secret: self.secret.clone(), since: now, until };
        Ok(Webhook { secret, old_secret: Some(old_secret), ..self.clone() }.without_ended(now))
    }

    /// The same, without a secret from before.
    pub(super) fn without_old_secret(self) -> Webhook {
        Webhook { old_secret: None, ..self }
    }

    /// The same, without a secret from before that signs along no more at that moment.
    pub(super) fn without_ended(self, now: Time) -> Webhook {
        match self.old_secret(now) {
            Some(_) => self,
            None => self.without_old_secret(),
        }
    }
}

/// A secret as it is written.
pub(super) fn write_secret(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", BASE64.encode(secret))
}

fn read_secret(text: &str) -> Result<Vec<u8>, BadWebhook> {
    let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
    let hint = format!(
        "leave it away, and the server makes one; or write {SECRET_PREFIX} and {least} to {most} random bytes in base64"
    );
    let bad = |detail: &str| BadWebhook::new("secret", detail, &hint);
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or_else(|| bad("the secret does not begin with whsec_"))?;
    let secret = BASE64.decode(encoded).map_err(|_| bad("what is behind whsec_ is not base64"))?;
    if !SECRET_BYTES.contains(&secret.len()) {
        return Err(bad(&format!("a secret has {least} to {most} bytes, and that one has {}", secret.len())));
    }
    Ok(secret)
}

/// Refuses what is no address to call. What it refuses may have a password in it, and is not said again.
fn check_url(url: &str) -> Result<(), BadWebhook> {
    const FORM: &str = "write https://host/path, or http:// where nobody can listen";
    let bad = |detail: &str, hint: &str| Err(BadWebhook::new("url", detail, hint));
    if url.len() > WEBHOOK_URL_BYTES {
        return bad(&format!("an address has at most {WEBHOOK_URL_BYTES} bytes, and that one has {}", url.len()), "");
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return bad(
            "an address has no blanks and no letters beyond ASCII",
            "write other bytes as %20, and a host's name in punycode",
        );
    }
    if url.contains('#') {
        return bad("the address has a fragment, which is never sent", "leave # and what is behind it away");
    }
    let Ok(parsed) = url.parse::<Uri>() else {
        return bad("that is not the address of a page", FORM);
    };
    match parsed.scheme_str() {
        Some("http" | "https") => {}
        Some(scheme) => return bad(&format!("{scheme:?} cannot be called"), FORM),
        None => return bad("the address does not begin with https:// or http://", FORM),
    }
    let authority = parsed.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return bad(
            "the address has a user or a password in it",
            "leave them away: the signature says who calls, and a word in the query is sent as it is",
        );
    }
    if parsed.host().is_none_or(str::is_empty) {
        return bad("the address names no host", FORM);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> KeptWebhook {
        KeptWebhook {
            name: "hook".into(),
            url: "https://example.com/a?b=c".into(),
            events: vec!["job.*".into()],
            queues: vec!["mail*".into()],
            secret: write_secret(&[7; 32]),
            old_secret: None,
            paused: None,
            created_at_ns: 1,
            set_at_ns: 2,
            after: 3,
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let webhook = Webhook::check(kept()).unwrap();
        let again = Webhook::check(webhook.kept()).unwrap();
        assert_eq!(serde_json::to_string(&again.kept()).unwrap(), serde_json::to_string(&kept()).unwrap());
        assert_eq!(again.secrets(Time(9)), [Arc::from([7; 32])]);
        assert!(!format!("{again:?}").contains("whsec"));
    }

    #[test]
    fn a_secret_from_before_signs_along_until_it_ends() {
        let one = Webhook::check(kept()).unwrap();
        let [first, second]: [Arc<[u8]>; 2] = [[7; 32], [8; 32]].map(Arc::from);
        let two = one.with_secret(&write_secret(&[8; 32]), Time(10), Some(Time(20))).unwrap();
        let again = Webhook::check(two.kept()).unwrap();
        assert_eq!(serde_json::to_string(&again.kept()).unwrap(), serde_json::to_string(&two.kept()).unwrap());
        assert_eq!(again.secrets(Time(19)), [Arc::clone(&second), Arc::clone(&first)]);
        assert_eq!(again.secrets(Time(20)), [Arc::clone(&second)]);
        assert!(again.clone().without_ended(Time(19)).kept().old_secret.is_some());
        assert!(again.without_ended(Time(20)).kept().old_secret.is_none());
        let for_good = one.with_secret(&write_secret(&[8; 32]), Time(10), None).unwrap();
        assert_eq!(for_good.secrets(Time(u64::MAX)), [Arc::clone(&second), first]);
        assert_eq!(for_good.without_old_secret().secrets(Time(11)), [Arc::clone(&second)]);
        let at_once = one.with_secret(&write_secret(&[8; 32]), Time(10), Some(Time(10))).unwrap();
        assert!(at_once.secrets(Time(0)) == [second] && at_once.kept().old_secret.is_none());
        let same = one.with_secret(&write_secret(&[7; 32]), Time(10), None).unwrap_err();
        assert!(same.field == "secret" && same.hint.is_some(), "{same}");
    }

    #[test]
    fn addresses_that_cannot_be_called_are_refused() {
        for good in ["http://a", "https://a.example:8443/x/y?z=%20", "http://[::1]:80/", "HTTP://127.0.0.1/"] {
            let checked = Webhook::check(KeptWebhook { url: good.into(), ..kept() });
            assert!(checked.is_ok(), "{good}: {checked:?}");
        }
        for (bad, words) in [
            ("", "not the address"),
            ("/path", "does not begin"),
            ("example.com", "does not begin"),
            ("ftp://example.com/", "\"ftp\" cannot"),
            ("file:///etc/passwd", "that is not"),
            ("http://", "that is not"),
            ("http://user:pass@example.com/", "a user or a password"),
            ("http://user@example.com/", "a user or a password"),
            ("http://example.com/#x", "a fragment"),
            ("http://example.com/a b", "no blanks"),
            ("http://exämple.com/", "no blanks"),
        ] {
            let refused = Webhook::check(KeptWebhook { url: bad.into(), ..kept() }).expect_err(bad);
            assert!(refused.field == "url" && refused.detail.contains(words), "{bad}: {refused}");
            assert!(refused.hint.is_some() && !refused.to_string().contains("pass@"), "{bad}: {refused}");
        }
        let long = format!("http://a/{}", "x".repeat(WEBHOOK_URL_BYTES));
        assert!(Webhook::check(KeptWebhook { url: long, ..kept() }).is_err());
    }

    #[test]
    fn a_bad_secret_is_refused_and_not_said_again() {
        for bad in ["", "x", "whsec_", "whsec_?", "whsec_c2hvcnQ=", &write_secret(&[1; 65]), &write_secret(&[1; 23])] {
            let refused = Webhook::check(KeptWebhook { secret: bad.into(), ..kept() }).expect_err(bad);
            assert_eq!(refused.field, "secret");
            assert!(bad.len() < 10 || !refused.to_string().contains(bad), "{refused}");
            let old = KeptSecret { secret: bad.into(), since_ns: 1, until_ns: None };
            let refused = Webhook::check(KeptWebhook { old_secret: Some(old), ..kept() }).expect_err(bad);
            assert_eq!(refused.field, "old_secret/secret");
            assert!(bad.len() < 10 || !refused.to_string().contains(bad), "{refused}");
        }
    }
}
