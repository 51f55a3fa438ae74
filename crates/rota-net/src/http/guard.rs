//! Who may ask at all: what every request goes through before its handler, and every answer behind it.
//!
//! A page of another site can make its reader's browser send requests here, or, by a name of its own that it has point
//! here, read the answers. So the server answers to its addresses and its own names alone, and refuses what a browser
//! marks as another site's.

use super::api::Api;
use super::problem::{Kind, Problem};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// The names that a server may be called by, beside its addresses and localhost.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    any: bool,
    names: Vec<String>,
}

impl Names {
    /// `*` stands for any name.
    pub(super) fn new(names: &[String]) -> Names {
        let any = names.iter().any(|name| name == "*");
        Names { any, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    fn knows(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().to_ascii_lowercase();
        if self.any {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        let name = host.strip_suffix('.').unwrap_or(&host);
        let is_local = name == "localhost" || name.ends_with(".localhost");
        is_local || bare.parse::<IpAddr>().is_ok() || self.names.iter().any(|known| known == name)
    }
}

/// Refuses what must not be asked, and marks every answer.
pub(super) async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let checked = check_host(&request, &api.names).and_then(|()| check_origin(&request));
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    api.counts.answered(response.status().as_u16());
    response
}

fn check_host(request: &Request, names: &Names) -> Result<(), Problem> {
    // Who asks whether the server is well learns nothing, and may call it what it likes.
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return Ok(());
    }
    let mut given = request.headers().get_all(header::HOST).iter();
    let host = given.next();
    if given.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        return Err(Problem::new(Kind::MalformedRequest, "a request has one header host"));
    }
    let in_header = host.map(|host| host.to_str().unwrap_or("?"));
    let in_line = request.uri().authority().map(Authority::as_str);
    match in_header.into_iter().chain(in_line).find(|name| !names.knows(name)) {
        Some(name) => Err(Problem::new(Kind::UnknownHost, format!("{name:?} is none of the server's names"))),
        None => Ok(()),
    }
}

fn check_origin(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let is_own = |origin: &HeaderValue| own_origin(headers, origin);
    if let Some(origin) = headers.get(header::ORIGIN).filter(|origin| !is_own(origin)) {
        let detail = format!("{origin:?} is not this server's own origin");
        return Err(Problem::new(Kind::ForeignOrigin, detail));
    }
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let site = headers.get("sec-fetch-site").filter(|site| *site != "same-origin" && *site != "none");
    match site {
        Some(site) if !is_safe => {
            Err(Problem::new(Kind::ForeignOrigin, format!("a browser marked the request as {site:?}")))
        }
        _ => Ok(()),
    }
}

/// Whether a page of that origin came from where the request goes.
fn own_origin(headers: &HeaderMap, origin: &HeaderValue) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(header::HOST).map(HeaderValue::to_str)) else {
        return false;
    };
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_own_names_are_known() {
        let names = Names::new(&["Rota.example".into()]);
        for known in
            ["127.0.0.1:11380", "10.1.2.3", "[::1]:80", "localhost:1", "LOCALHOST", "a.localhost", "rota.EXAMPLE:8"]
        {
            assert!(names.knows(known), "{known}");
        }
        for other in
            ["", "evil.example", "rota.example.evil", "localhost.evil", "127.0.0.1.evil", "a b", "127.0.0.1:x/"]
        {
            assert!(!names.knows(other), "{other}");
        }
        assert!(Names::new(&["*".into()]).knows("evil.example"));
    }
}
