//! Who may ask at all: what every request goes through before its handler, and every answer behind it.
//!
//! A page of another site can make its reader's browser send requests here, or, by a name of its own that it has point
//! here, read the answers. So the server answers to its addresses and its own names alone, and refuses what a browser
//! marks as another site's, and what says in two ways where it ends (see [`super::framing`]). Then whoever asks is held against the table of pages: see [`super::access`].

use super::access::{Door, Grant, OPEN, Page};
use super::answers::{bounded, check_room};
use super::api::{Api, whose};
use super::framing::Fault;
use super::handed::Outgoing;
use super::problem::{Kind, Problem};
use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

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
pub(super) async fn check(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (route, method) = (request.extensions().get::<MatchedPath>().cloned(), request.method().clone());
    let fault = request.extensions().get::<Fault>().copied();
    let checked = check_framing(fault).and_then(|()| check_host(&request, &api.names));
    let checked = checked.and_then(|()| check_origin(&request));
    let checked = checked.and_then(|()| check_access(&mut request, &*api.door));
    let (whose, outgoing) = (whose(request.extensions()), request.extensions().get::<Arc<Outgoing>>().cloned());
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    // Who asks whether the server is well is told in any case.
    let checked =
        checked.and_then(|passed| if is_safe { Ok(passed) } else { check_room(&api, &whose).map(|()| passed) });
    let mut response = match checked {
        Ok(Passed::On) => bounded(&api, &whose, outgoing, is_safe, next.run(request).await),
        Ok(Passed::NoSuchMethod(allowed)) => {
            let mut response =
                super::method_not_allowed(request.method().clone(), request.uri().clone()).await.into_response();
            let allowed = HeaderValue::try_from(allowed).expect("names of methods are plain letters");
            response.headers_mut().insert(header::ALLOW, allowed);
            response
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if fault.is_some() {
        // What comes behind it may be its body as well as a request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status().as_u16();
    api.counts.answered(status);
    let route = route.as_ref().map(MatchedPath::as_str);
    api.counts.durations.count(route, method.as_str(), status, begun.elapsed());
    response
}

/// Refuses what a proxy in front may have taken for something else: where that ends is not said, or in two ways.
fn check_framing(fault: Option<Fault>) -> Result<(), Problem> {
    let Some(fault) = fault else { return Ok(()) };
    let problem = Problem::new(Kind::MalformedRequest, fault.says());
    Err(problem.hint("send one content-length, or transfer-encoding: chunked, and not both"))
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

/// What becomes of a request that nothing is wrong with.
enum Passed {
    /// It goes on to its page, or to none.
    On,
    /// The page does not take its method, but these.
    NoSuchMethod(String),
}

/// Refuses whom the door does not admit, and who may not do that; hands on what the others may. The token goes no further.
fn check_access(request: &mut Request, door: &dyn Door) -> Result<Passed, Problem> {
    let path = request.extensions().get::<MatchedPath>().cloned();
    if path.as_ref().is_some_and(|path| OPEN.contains(&path.as_str())) {
        return Ok(Passed::On);
    }
    let admitted = door.admit(token(request.headers())?);
    request.headers_mut().remove(header::AUTHORIZATION);
    let grant: Grant = admitted?;
    let Some(path) = path else { return Ok(Passed::On) };
    let Some(page) = Page::of(request.method(), path.as_str()) else {
        return match Page::methods(path.as_str()) {
            none if none.is_empty() => Err(Problem::new(Kind::NotAllowed, format!("{} is for nobody", path.as_str()))),
            allowed => Ok(Passed::NoSuchMethod(allowed)),
        };
    };
    grant.check_page(page)?;
    request.extensions_mut().insert(grant);
    Ok(Passed::On)
}

/// The token that a request shows.
fn token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Problem::new(Kind::MalformedRequest, "a request has one header authorization"));
    }
    // What cannot be taken apart is no token that anybody knows, and may be a secret of another kind: it is not said again.
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    Ok(match parts {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        Some(_) => None,
        None => Some(""),
    })
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
