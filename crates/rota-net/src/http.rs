//! The HTTP port: whether the server is well, and its metrics. It changes nothing.

use crate::host::Host;
use crate::metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves `/healthz` and `/metrics` on a socket until `stop` says true (or is gone).
pub async fn serve(host: Arc<Host>, socket: TcpListener, mut stop: watch::Receiver<bool>) {
    let router = Router::new().route("/healthz", get(healthz)).route("/metrics", get(show_metrics)).with_state(host);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::select! {
        // It ends only if the socket is closed under it.
        _ = axum::serve(socket, router).into_future() => {}
        () = stopped => {}
    }
}

async fn healthz(State(host): State<Arc<Host>>) -> impl IntoResponse {
    match host.failed() {
        None => (StatusCode::OK, String::from("ok\n")),
        Some(failed) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failed}\n")),
    }
}

async fn show_metrics(State(host): State<Arc<Host>>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, metrics::render(&host))
}
