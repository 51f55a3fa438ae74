//! Who may do what, whichever the protocol: roles, what a token grants, and the door that says so.
//!
//! Both front ends ask here. Which page or command is for which role they say themselves, in a table each; where tokens are kept
//! is the binary's business, which hands in a [`Door`]. A token's own text stays with who shows it: what goes on is its hash.

mod pattern;

pub use pattern::{BadPattern, Pattern};

use rota_engine::job::QueueName;
use rota_engine::session::Actor;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::watch;

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
    /// What it was granted for; none where nobody was asked.
    pass: Option<Pass>,
    /// In whose name whoever asks does so; none where nobody was asked.
    actor: Option<Actor>,
}

/// The longest id of a token, in bytes.
pub const PASS_ID_BYTES: usize = 54;

/// Which token was shown: enough to ask for it again, and no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pass {
    /// The token's id: at most [`PASS_ID_BYTES`], and never another token's.
    pub id: Arc<str>,
    /// SHA-256 of the token.
    pub digest: [u8; 32],
}

/// Who says what a token grants.
pub trait Door: Send + Sync + 'static {
    /// What whoever shows that token, or none, may do. It is called for every request, on the thread that serves all of them.
    ///
    /// # Errors
    /// [`NotAdmitted`], which has nothing of the token in it.
    fn admit(&self, token: Option<&str>) -> Result<Grant, NotAdmitted>;

    /// What whoever was granted that may do by now.
    ///
    /// # Errors
    /// [`NotAdmitted`]: nothing any more.
    fn renew(&self, grant: &Grant) -> Result<Grant, NotAdmitted>;

    /// Changes, within a second, whenever somebody may have lost what was granted.
    fn changes(&self) -> watch::Receiver<u64>;
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
        Grant { roles: roles.into(), queues: queues.map(Arc::from), pass: None, actor: None }
    }

    /// The same, and which token it was granted for.
    #[must_use]
    pub fn for_pass(self, pass: Pass) -> Grant {
        Grant { pass: Some(pass), ..self }
    }

    /// The same, and in whose name whoever shows the token asks.
    #[must_use]
    pub fn in_name_of(self, actor: Actor) -> Grant {
        Grant { actor: Some(actor), ..self }
    }

    /// What everybody may do where nobody is asked for a token.
    #[must_use]
    pub fn everything() -> Grant {
        Grant::new(&[Role::Admin], None)
    }

    /// Which token it was granted for; none where nobody was asked.
    #[must_use]
    pub fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// In whose name whoever asks does so; none where nobody was asked.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// Whether it is of one of those roles, or of an admin.
    pub(crate) fn has_role(&self, roles: &[Role]) -> bool {
        self.roles.iter().any(|role| *role == Role::Admin || roles.contains(role))
    }

    pub(crate) fn roles(&self) -> &[Role] {
        &self.roles
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.queues.iter().flat_map(|all| all.iter())
    }

    /// Whether it is limited to some queues.
    pub(crate) fn is_limited(&self) -> bool {
        self.queues.is_some()
    }

    /// Whether it reaches that queue.
    pub(crate) fn covers(&self, queue: &QueueName) -> bool {
        let covers = |patterns: &Arc<[Pattern]>| patterns.iter().any(|pattern| pattern.matches(queue.as_str()));
        self.queues.as_ref().is_none_or(covers)
    }
}
