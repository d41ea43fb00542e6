//! What is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use waypost::management::{Check, CheckState, Readiness};
use waypost::{Metrics, Node, NodeId};

use crate::kept::Kept;

/// How long an answer is kept that the node's writing thread has to work for.
const KEPT_FOR: Duration = Duration::from_secs(1);

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

/// What all requests share.
struct Shared {
    node: Node,
    ready_when: ReadyWhen,
    metrics: Kept<Bytes>,
    readiness: Kept<Readiness>,
}

type Answering = State<Arc<Shared>>;

/// The paths of this node, to be served, or merged with others. Metrics and readiness are worked out at most once a second. Holds the node: it
/// runs until the router is dropped too.
pub fn router(node: Node, ready_when: ReadyWhen) -> Router {
    let (metrics, readiness) = (Kept::new(KEPT_FOR), Kept::new(KEPT_FOR));
    Router::new()
        .route("/", get(async || PATHS))
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(Shared { node, ready_when, metrics, readiness }))
}

async fn metrics_page(State(shared): Answering) -> impl IntoResponse {
    let text = shared.metrics.get(async || shared.node.metrics().encode().await.into()).await;
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE), NO_STORE], text)
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    node: NodeId,
    uptime_seconds: f64,
}

async fn healthz(State(shared): Answering) -> impl IntoResponse {
    let status = shared.node.status();
    let uptime_seconds = status.uptime.as_secs_f64();
    ([NO_STORE], Json(Health { status: "serving", node: status.id, uptime_seconds }))
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    node: NodeId,
    checks: Vec<Check>,
}

async fn readyz(State(shared): Answering) -> Response {
    let readiness = shared.readiness.get(async || shared.node.readiness().await).await;
    let ready = is_ready(readiness.state(), shared.ready_when);
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
