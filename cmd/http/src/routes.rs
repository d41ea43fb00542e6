//! What is answered.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use waypost::management::{Check, CheckState};
use waypost::{Metrics, Node, NodeId};

/// When a node whose server is away is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadyWhen {
    /// As long as it lets messages wait: that is what it is for
    #[default]
    Queueing,
    /// Only while it is connected
    Connected,
}

const NO_STORE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");
const PATHS: &str = "/metrics: all metrics, for Prometheus\n/healthz: 200 while this process serves\n/readyz: 200 where the node can do its work, else 503 and why\n";

/// The paths of this node, to be served, or merged with others. Holds the node: it runs until the router is dropped too.
pub fn router(node: Node, ready_when: ReadyWhen) -> Router {
    Router::new()
        .route("/", get(async || PATHS))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route(
            "/readyz",
            get(async move |State(node): State<Node>| readyz(&node, ready_when).await),
        )
        .with_state(node)
}

async fn metrics(State(node): State<Node>) -> impl IntoResponse {
    let text = node.metrics().encode().await;
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE), NO_STORE], text)
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    node: NodeId,
    uptime_seconds: f64,
}

async fn healthz(State(node): State<Node>) -> impl IntoResponse {
    let status = node.status();
    let uptime_seconds = status.uptime.as_secs_f64();
    ([NO_STORE], Json(Health { status: "serving", node: status.id, uptime_seconds }))
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    node: NodeId,
    checks: Vec<Check>,
}

async fn readyz(node: &Node, ready_when: ReadyWhen) -> Response {
    let readiness = node.readiness().await;
    let ready = is_ready(readiness.state(), ready_when);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Ready { ready, node: readiness.node, checks: readiness.checks };
    (code, [NO_STORE], Json(body)).into_response()
}

fn is_ready(state: CheckState, ready_when: ReadyWhen) -> bool {
    match state {
        CheckState::Passed => true,
        CheckState::Waiting => ready_when == ReadyWhen::Queueing,
        _ => false,
    }
}
