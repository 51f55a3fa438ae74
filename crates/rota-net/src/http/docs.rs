//! The API's description for programs, at `/v1/openapi.json`, and for people, at `/v1/docs`: one document, shown twice.
//!
//! The page is made once, at the start, out of the same description. It loads nothing but its own style sheet, runs no
//! script, and whatever is shown in it is escaped.

use super::problem::{Kind, Problem};
use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use std::fmt::Write;
use utoipa::openapi::OpenApi;

const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
h2 { margin-top: 2.5rem; }
section { border-top: 1px solid; margin-top: 1.5rem; padding-top: 0.5rem; overflow-x: auto; }
table { border-collapse: collapse; }
td, th { text-align: left; vertical-align: top; padding: 0.15rem 1.5rem 0.15rem 0; }
";

/// The pages, which depend on nothing.
pub(super) fn router(description: &OpenApi) -> Router {
    let value = serde_json::to_value(description).expect("a description is JSON");
    let page = page(&value);
    let json = format!("{value}\n");
    let html = |text: String| move || async move { html(text.clone()) };
    Router::new()
        .route("/v1/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], json) }))
        .route("/v1/docs", get(html(page)))
        .route("/v1/docs/style.css", get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE) }))
        .route("/problems/{name}", get(problem))
}

fn html(text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (StatusCode::OK, headers, text).into_response()
}

/// A kind of problem, by the end of its type.
async fn problem(path: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Result<Response, Problem> {
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let kind = Kind::ALL.iter().map(|kind| kind.row()).find(|row| row.name == name);
    let row = kind.ok_or_else(|| Problem::new(Kind::NoSuchPage, format!("there is no problem {name:?}")))?;
    let (status, hint) = (row.status, escape(row.hint));
    let body = format!("<p>Status {status}. What to try: {hint}.</p><p><a href=\"/v1/docs\">All pages</a></p>");
    Ok(html(document(row.title, &body)))
}

fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"/v1/docs/style.css\"></head><body><main><h1>{title}</h1>\n{body}</main></body></html>\n"
    )
}

/// What stands for itself in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A sentence or two, with what stands in backquotes as code.
fn prose(text: &str) -> String {
    let mut parts = escape(text).split('`').map(str::to_owned).collect::<Vec<_>>();
    for code in parts.iter_mut().skip(1).step_by(2) {
        *code = format!("<code>{code}</code>");
    }
    parts.concat().replace("\n\n", "</p><p>")
}

fn page(description: &Value) -> String {
    let mut body = format!("<p>{}</p>\n", prose(text(&description["info"]["description"])));
    body.push_str("<p>For programs: <a href=\"/v1/openapi.json\">openapi.json</a></p>\n");
    for tag in description["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        let _ = writeln!(body, "<h2>{}</h2><p>{}</p>", escape(name), prose(text(&tag["description"])));
        for (path, methods) in description["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"][0] == name {
                    show_operation(&mut body, path, method, operation);
                }
            }
        }
    }
    body.push_str("<h2>types</h2>\n");
    for (name, schema) in description["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = write!(body, "<section id=\"{0}\"><h3>{0}</h3>", escape(name));
        let _ = write!(body, "<p>{}</p>", prose(text(&schema["description"])));
        show_schema(&mut body, schema);
        body.push_str("</section>\n");
    }
    body.push_str("<h2>problems</h2>\n<table><tr><th>status</th><th>type</th><th></th></tr>");
    for row in Kind::ALL.iter().map(|kind| kind.row()) {
        let (status, name, title) = (row.status, row.name, escape(row.title));
        let _ = write!(
            body,
            "<tr><td>{status}</td><td><a href=\"/problems/{name}\">/problems/{name}</a></td><td>{title}</td></tr>"
        );
    }
    body.push_str("</table>\n");
    document(&format!("Rota {}", text(&description["info"]["version"])), &body)
}

fn show_operation(body: &mut String, path: &str, method: &str, operation: &Value) {
    let (method, path) = (method.to_uppercase(), escape(path));
    let _ = write!(body, "<section><h3><code>{method} {path}</code></h3><p>{}</p>", prose(text(&operation["summary"])));
    let _ = write!(body, "<p>{}</p><table>", prose(text(&operation["description"])));
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let (name, place) = (escape(text(&parameter["name"])), escape(text(&parameter["in"])));
        let what = prose(text(&parameter["description"]));
        let _ = write!(body, "<tr><td><code>{name}</code></td><td>{place}</td><td>{what}</td></tr>");
    }
    let content = |of: &Value| of["content"].as_object().and_then(|content| content.values().next().cloned());
    if let Some(request) = content(&operation["requestBody"]) {
        let _ = write!(body, "<tr><td>request</td><td></td><td>{}</td></tr>", type_of(&request["schema"]));
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let what = prose(text(&response["description"]));
        let kind = content(response).map(|content| type_of(&content["schema"])).unwrap_or_default();
        let _ = write!(body, "<tr><td>{}</td><td>{kind}</td><td>{what}</td></tr>", escape(status));
    }
    body.push_str("</table></section>\n");
}

fn show_schema(body: &mut String, schema: &Value) {
    let parts = [&schema["allOf"], &schema["oneOf"]].into_iter().filter_map(Value::as_array).flatten();
    parts.filter(|part| part["properties"].is_object()).for_each(|part| show_schema(body, part));
    let Some(members) = schema["properties"].as_object() else {
        let _ = write!(body, "<p>{}</p>", type_of(schema));
        return;
    };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().map(text).collect();
    body.push_str("<table>");
    for (name, member) in members {
        let need = if required.contains(&name.as_str()) { "" } else { "may be missing" };
        let (name, kind, what) = (escape(name), type_of(member), prose(text(&member["description"])));
        let _ = write!(body, "<tr><td><code>{name}</code></td><td>{kind}</td><td>{need}</td><td>{what}</td></tr>");
    }
    body.push_str("</table>");
}

/// A schema in a few words, with links to the types that it names.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#{0}\">{0}</a>", escape(name));
    }
    let several = ["oneOf", "allOf", "anyOf"].into_iter().find_map(|word| schema[word].as_array());
    if let Some(parts) = several {
        let parts: Vec<String> = parts.iter().map(type_of).filter(|part| part != "null").collect();
        return parts.join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("<code>{}</code>", escape(&value.to_string())))
            .collect::<Vec<_>>()
            .join(" ");
    }
    let name = |kind: &Value| match kind {
        Value::String(kind) => escape(kind),
        Value::Array(kinds) => {
            kinds.iter().map(text).filter(|kind| *kind != "null").map(escape).collect::<Vec<_>>().join(" or ")
        }
        _ => String::from("any"),
    };
    if schema["type"] == "array" {
        return format!("list of {}", type_of(&schema["items"]));
    }
    name(&schema["type"])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
