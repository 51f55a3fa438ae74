//! The table: each page of the API, and who may ask for it. Admins may everything that is in it.
//!
//! A page that is served and not here is refused to everybody, and a test fails.

use crate::access::Role::{self, Consumer, Operator, Producer, Viewer};
use axum::http::Method;

/// A page, by its method and path, and who may ask for it.
#[derive(Debug)]
pub(in crate::http) struct Page {
    pub(in crate::http) method: Method,
    /// As the router has it.
    pub(in crate::http) path: &'static str,
    /// Beside admins.
    pub(super) roles: &'static [Role],
    pub(super) reach: Reach,
}

/// What a page is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Reach {
    /// Queues, or jobs of queues: a token that is limited to some sees those.
    Queues,
    /// The whole server: a token that is limited to some queues may not.
    Server,
}

/// Pages that anybody may ask for: whether the server is well, and what there is to ask for.
pub(in crate::http) const OPEN: [&str; 6] =
    ["/healthz", "/readyz", "/v1/docs", "/v1/docs/style.css", "/v1/openapi.json", "/problems/{name}"];

const LOOK: &[Role] = &[Viewer, Operator];

/// Every page that is not open.
pub(in crate::http) const PAGES: &[Page] = &[
    page(Method::POST, "/v1/jobs", &[Producer]),
    page(Method::GET, "/v1/jobs", LOOK),
    page(Method::GET, "/v1/jobs/{id}", LOOK),
    page(Method::GET, "/v1/jobs/{id}/why", LOOK),
    page(Method::DELETE, "/v1/jobs/{id}", &[Operator]),
    page(Method::POST, "/v1/jobs/{id}/kick", &[Operator]),
    page(Method::POST, "/v1/jobs/kick", &[Operator]),
    page(Method::POST, "/v1/jobs/retry", &[Operator]),
    page(Method::POST, "/v1/jobs/cancel", &[Operator]),
    page(Method::GET, "/v1/queues/{queue}/keys/{key}", LOOK),
    page(Method::DELETE, "/v1/queues/{queue}/keys/{key}", &[Producer, Operator]),
    page(Method::POST, "/v1/leases", &[Consumer]),
    page(Method::POST, "/v1/leases/stream", &[Consumer]),
    page(Method::POST, "/v1/leases/{lease}/complete", &[Consumer]),
    page(Method::POST, "/v1/leases/{lease}/fail", &[Consumer]),
    page(Method::POST, "/v1/leases/{lease}/release", &[Consumer]),
    page(Method::POST, "/v1/leases/{lease}/bury", &[Consumer]),
    page(Method::POST, "/v1/leases/{lease}/touch", &[Consumer]),
    page(Method::GET, "/v1/queues", LOOK),
    page(Method::GET, "/v1/queues/{queue}", LOOK),
    page(Method::PUT, "/v1/queues/{queue}/settings", &[Operator]),
    page(Method::POST, "/v1/queues/{queue}/pause", &[Operator]),
    page(Method::POST, "/v1/queues/{queue}/resume", &[Operator]),
    page(Method::POST, "/v1/queues/{queue}/kick", &[Operator]),
    page(Method::GET, "/v1/schedules", LOOK),
    page(Method::GET, "/v1/schedules/{schedule}", LOOK),
    page(Method::PUT, "/v1/schedules/{schedule}", &[Operator]),
    page(Method::DELETE, "/v1/schedules/{schedule}", &[Operator]),
    page(Method::POST, "/v1/schedules/{schedule}/pause", &[Operator]),
    page(Method::POST, "/v1/schedules/{schedule}/resume", &[Operator]),
    page(Method::POST, "/v1/schedules/{schedule}/run", &[Operator]),
    of_server(Method::GET, "/v1/webhooks", LOOK),
    of_server(Method::GET, "/v1/webhooks/{webhook}", LOOK),
    // Whoever sets one up has the server call an address.
    of_server(Method::PUT, "/v1/webhooks/{webhook}", &[]),
    of_server(Method::DELETE, "/v1/webhooks/{webhook}", &[]),
    of_server(Method::POST, "/v1/webhooks/{webhook}/rotate", &[]),
    of_server(Method::DELETE, "/v1/webhooks/{webhook}/old-secret", &[]),
    of_server(Method::POST, "/v1/webhooks/{webhook}/pause", &[Operator]),
    of_server(Method::POST, "/v1/webhooks/{webhook}/resume", &[Operator]),
    of_server(Method::POST, "/v1/webhooks/{webhook}/test", &[Operator]),
    // With a place of the request's own, where the server writes with its own rights and credentials, it is for admins alone: the
    // handler sees to that.
    of_server(Method::POST, "/v1/snapshots", &[Operator]),
    of_server(Method::GET, "/v1/stats", LOOK),
    page(Method::GET, "/v1/events", LOOK),
    of_server(Method::GET, "/metrics", LOOK),
];

const fn page(method: Method, path: &'static str, roles: &'static [Role]) -> Page {
    Page { method, path, roles, reach: Reach::Queues }
}

const fn of_server(method: Method, path: &'static str, roles: &'static [Role]) -> Page {
    Page { method, path, roles, reach: Reach::Server }
}

impl Page {
    /// The page of a request; none if the table has none.
    pub(in crate::http) fn of(method: &Method, path: &str) -> Option<&'static Page> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        PAGES.iter().find(|page| page.method == *method && page.path == path)
    }

    /// The methods of a path, as the header `allow` has them; empty if the table does not know the path.
    pub(in crate::http) fn methods(path: &str) -> String {
        let methods = PAGES.iter().filter(|page| page.path == path).map(|page| match page.method {
            Method::GET => "GET,HEAD",
            ref other => other.as_str(),
        });
        methods.collect::<Vec<_>>().join(",")
    }

    /// The names of the roles that may ask for it.
    pub(in crate::http) fn role_names(&self) -> impl Iterator<Item = &'static str> {
        self.roles.iter().copied().chain([Role::Admin]).map(Role::name)
    }

    /// Who may ask for it: `viewer, operator or admin`.
    pub(in crate::http) fn roles_in_words(&self) -> String {
        if self.roles.is_empty() {
            return Role::Admin.name().to_owned();
        }
        let names: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        format!("{} or admin", names.join(", "))
    }
}
