//! The API's own description: OpenAPI 3.1, made from the handlers and the types of their requests and answers.

use super::access::{OPEN, Page};
use super::api::Api;
use super::problem::ProblemDocument;
use super::{events, jobs, leases, queues, schedules, snapshots, stats, webhooks};
use axum::http::Method;
use std::sync::Arc;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What a token is called among the schemes of security.
const TOKEN: &str = "token";

/// What is the same for all pages.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Rota",
        description = "Jobs, queues and leases over HTTP. Ids are texts of digits; spans of time are texts with a unit, \
                       `90s`; moments are RFC 3339. Every error is a problem (RFC 9457) that says what is wrong, where, \
                       and what to try. A server that asks for tokens takes them as `authorization: Bearer TOKEN`.",
        license(name = "Apache-2.0 OR MIT"),
    ),
    tags(
        (name = "jobs", description = "Put them, look at them, call them off."),
        (name = "leases", description = "Reserve jobs, and say what became of them."),
        (name = "queues", description = "What is in them, and their pauses."),
        (name = "schedules", description = "Jobs that are put again and again."),
        (name = "webhooks", description = "Addresses that are called with what happens."),
        (name = "server", description = "How it does."),
    ),
    components(schemas(ProblemDocument)),
)]
struct Described;

/// Every page of the API, and its description.
pub(super) fn router() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(jobs::put, jobs::list))
        .routes(routes!(jobs::show, jobs::cancel))
        .routes(routes!(jobs::kick))
        .routes(routes!(jobs::why::why))
        .routes(routes!(jobs::many::kick))
        .routes(routes!(jobs::many::retry))
        .routes(routes!(jobs::many::cancel))
        .routes(routes!(jobs::show_by_key, jobs::cancel_by_key))
        .routes(routes!(leases::reserve))
        .routes(routes!(leases::stream::stream))
        .routes(routes!(leases::complete))
        .routes(routes!(leases::fail))
        .routes(routes!(leases::release))
        .routes(routes!(leases::bury))
        .routes(routes!(leases::touch))
        .routes(routes!(queues::list))
        .routes(routes!(queues::show))
        .routes(routes!(queues::configure))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::kick))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::show, schedules::set, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::show, webhooks::set, webhooks::delete))
        .routes(routes!(webhooks::pause))
        .routes(routes!(webhooks::resume))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::drop_old_secret))
        .routes(routes!(webhooks::test))
        .routes(routes!(events::events))
        .routes(routes!(snapshots::take))
        .routes(routes!(stats::stats))
        .routes(routes!(stats::healthz))
        .routes(routes!(stats::readyz))
        .routes(routes!(stats::show_metrics))
}

/// Completes the description: whatever goes wrong anywhere is a problem, and each page says who may ask for it.
pub(super) fn complete(mut description: OpenApi, version: &str) -> OpenApi {
    version.clone_into(&mut description.info.version);
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("rota_…");
    let token =
        token.description(Some("A token of `rota token create`. With each page stand the roles that it takes."));
    let components = description.components.get_or_insert_default();
    components.security_schemes.insert(TOKEN.into(), SecurityScheme::Http(token.build()).into());
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(ProblemDocument::name()))));
    for (path, item) in &mut description.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PUT, &mut item.put),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let who = match Page::of(&method, path) {
                Some(page) => {
                    // A server that does not ask takes requests without one.
                    let asked = SecurityRequirement::new(TOKEN, page.role_names());
                    operation.security = Some(vec![asked, SecurityRequirement::default()]);
                    format!("Where the server asks for tokens, for one of the role {}.", page.roles_in_words())
                }
                None if OPEN.contains(&path.as_str()) => String::from("For everybody."),
                None => String::from("For nobody."),
            };
            let said = operation.description.take().map(|said| said + "\n\n").unwrap_or_default();
            operation.description = Some(said + &who);
            let mut problem = Response::new("Why it was not done, and what to try.");
            problem.content.insert("application/problem+json".into(), RefOr::T(content.clone()));
            operation.responses.responses.insert("default".into(), RefOr::T(problem));
        }
    }
    description
}
