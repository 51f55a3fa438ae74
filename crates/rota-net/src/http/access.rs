//! Who may do what: roles, what a token grants, and the table of the pages with who may ask for each.
//!
//! [`super::guard`] asks here before any handler runs. What is not in the table is refused to everybody, so that a page that
//! was forgotten is closed and not open. Which queues a token is limited to is held against the path by `request`, and
//! against jobs and commands by `api`. Where tokens are kept is the binary's business, which hands in a [`Door`].

mod pages;
mod pattern;

use pages::Reach;
pub(super) use pages::{OPEN, Page};
pub use pattern::{BadPattern, Pattern};

use super::problem::{Kind, Problem};
use rota_engine::job::QueueName;
use std::str::FromStr;
use std::sync::Arc;

/// What a token's bearer is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// May do everything.
    Admin,
    /// Looks, kicks, cancels, pauses, sets queues up, takes snapshots.
    Operator,
    /// Puts jobs, and cancels them by their keys.
    Producer,
    /// Reserves jobs, and says what became of them.
    Consumer,
    /// Looks.
    Viewer,
}

/// What whoever asks may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    roles: Arc<[Role]>,
    /// The queues; none for all of them.
    queues: Option<Arc<[Pattern]>>,
}

/// Who says what a token grants.
pub trait Door: Send + Sync + 'static {
    /// What whoever shows that token, or none, may do. It is called for every request, on the thread that serves all of them.
    ///
    /// # Errors
    /// [`NotAdmitted`], which has nothing of the token in it.
    fn admit(&self, token: Option<&str>) -> Result<Grant, NotAdmitted>;
}

/// Why somebody is not let in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// The server asks for a token.
    #[error("the request shows no token")]
    NoToken,
    /// It is none of the server's.
    #[error("the server does not know that token")]
    Unknown,
    /// It was valid.
    #[error("the token {id} has expired")]
    Expired {
        /// Which one: not the token itself.
        id: String,
    },
    /// It was called off.
    #[error("the token {id} was revoked")]
    Revoked {
        /// Which one: not the token itself.
        id: String,
    },
    /// Nobody can be told from anybody.
    #[error("the server cannot read its tokens")]
    Unreadable,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Admin, Role::Operator, Role::Producer, Role::Consumer, Role::Viewer];

    /// Its name, as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Operator => "operator",
            Role::Producer => "producer",
            Role::Consumer => "consumer",
            Role::Viewer => "viewer",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let names = Role::ALL.map(Role::name).join(", ");
            format!("{text:?} is no role: the roles are {names}")
        })
    }
}

impl Grant {
    /// What a token of these roles grants, in the queues of these patterns; none for all queues.
    #[must_use]
    pub fn new(roles: &[Role], queues: Option<&[Pattern]>) -> Grant {
        Grant { roles: roles.into(), queues: queues.map(Arc::from) }
    }

    /// What everybody may do where nobody is asked for a token.
    #[must_use]
    pub fn everything() -> Grant {
        Grant::new(&[Role::Admin], None)
    }

    /// Whether it is limited to some queues.
    pub(super) fn is_limited(&self) -> bool {
        self.queues.is_some()
    }

    /// Whether it reaches that queue.
    pub(super) fn covers(&self, queue: &QueueName) -> bool {
        let covers = |patterns: &Arc<[Pattern]>| patterns.iter().any(|pattern| pattern.matches(queue.as_str()));
        self.queues.as_ref().is_none_or(covers)
    }

    /// Refuses a queue that somebody named and this does not reach. It says nothing of whether the queue is there.
    pub(super) fn check_queue(&self, queue: &QueueName) -> Result<(), Problem> {
        if self.covers(queue) {
            return Ok(());
        }
        let patterns: Vec<&str> = self.queues.iter().flat_map(|all| all.iter()).map(Pattern::as_str).collect();
        let detail = format!("{queue} is not among the token's queues: {}", patterns.join(", "));
        Err(Problem::new(Kind::QueueNotAllowed, detail))
    }

    /// Refuses a page that this does not reach.
    pub(super) fn check_page(&self, page: &Page) -> Result<(), Problem> {
        let Page { method, path, roles, reach } = page;
        let may = |role: &Role| *role == Role::Admin || roles.contains(role);
        if !self.roles.iter().any(may) {
            let own = self.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
            let problem = Problem::new(Kind::NotAllowed, format!("{method} {path} is not for the role {own}"));
            return Err(problem.hint(format!("ask with a token of the role {}", page.roles_in_words())));
        }
        if *reach == Reach::Server && self.is_limited() {
            let detail = format!("{method} {path} is about all queues, and the token is limited to some");
            return Err(Problem::new(Kind::NotAllowed, detail).hint("ask with a token that is for all queues"));
        }
        Ok(())
    }
}

impl From<NotAdmitted> for Problem {
    fn from(not: NotAdmitted) -> Problem {
        let kind = match not {
            NotAdmitted::NoToken => Kind::NoToken,
            NotAdmitted::Unknown | NotAdmitted::Expired { .. } | NotAdmitted::Revoked { .. } => Kind::BadToken,
            NotAdmitted::Unreadable => Kind::TokensUnreadable,
        };
        Problem::new(kind, not.to_string())
    }
}

#[cfg(test)]
mod tests;
