//! The web page: embedded files, and a WebSocket for each tab that shows it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{Query, Request, State, WebSocketUpgrade};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use waypost_http::Listener;

mod guard;
mod socket;
mod wire;

use guard::Guard;
pub(crate) use socket::Tabs;

use crate::args::Args;
use crate::hub::Hub;

/// Largest frame that a page may send: a text in its longest JSON form, and room for the rest.
const MAX_FRAME_BYTES: usize = 128 * 1024;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/app.js", JAVASCRIPT, include_str!("page/app.js")),
    ("/coming.js", JAVASCRIPT, include_str!("page/coming.js")),
    ("/connection.js", JAVASCRIPT, include_str!("page/connection.js")),
    ("/posts.js", JAVASCRIPT, include_str!("page/posts.js")),
    ("/network.js", JAVASCRIPT, include_str!("page/network.js")),
    ("/health.js", JAVASCRIPT, include_str!("page/health.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
/// What a page may do is said once for all: its own scripts and styles, its own socket, and nothing from elsewhere.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What the handlers share.
pub(crate) struct Web {
    hub: Arc<Hub>,
    guard: Guard,
    tabs: Arc<Tabs>,
}

/// A page that is about to be served.
pub(crate) struct Page {
    listener: TcpListener,
    guard: Guard,
    tabs: Arc<Tabs>,
    /// Its address for a browser on this machine.
    pub(crate) url: String,
}

impl Page {
    /// Takes the port; none where no page is wanted.
    ///
    /// # Errors
    /// The port is taken.
    pub(crate) async fn bind(args: &Args) -> anyhow::Result<Option<Self>> {
        if args.web == 0 {
            return Ok(None);
        }
        let address = SocketAddr::new(args.web_listen, args.web);
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "the web page cannot be served at {address}: give another --web PORT, or 0 for none"
            )
        })?;
        let address = listener.local_addr()?;
        let guard = Guard::new(address, args.web_token.clone(), &args.web_origin);
        let host = if address.ip().is_unspecified() {
            "localhost".to_owned()
        } else {
            guard::host(address.ip())
        };
        let url = format!("http://{host}:{}/", address.port());
        Ok(Some(Self { listener, guard, tabs: Arc::new(Tabs::new()), url }))
    }

    /// The tabs that will show it.
    pub(crate) fn tabs(&self) -> Arc<Tabs> {
        self.tabs.clone()
    }

    /// Serves it for as long as the program runs.
    ///
    /// # Errors
    /// The listening socket fails.
    pub(crate) async fn serve(self, hub: Arc<Hub>) -> std::io::Result<()> {
        let web = Arc::new(Web { hub, guard: self.guard, tabs: self.tabs });
        let mut router = Router::new().route("/socket", get(open_socket));
        for (path, media_type, text) in FILES {
            let file = move |State(web): State<Arc<Web>>,
                             query: Query<Token>,
                             headers: HeaderMap| async move {
                send_file(&web, &query.0, &headers, path, media_type, text)
            };
            router = router.route(path, get(file));
        }
        let router =
            router.layer(middleware::from_fn_with_state(web.clone(), guarded)).with_state(web);
        let _server = Listener::new(self.listener)?.serve_router(router);
        std::future::pending().await
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
}

/// Refuses requests that were meant for another host, and says with every answer what a page may do.
async fn guarded(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let mut response = match web.guard.is_our_host(request.headers()) {
        true => next.run(request).await,
        false => refuse(StatusCode::MISDIRECTED_REQUEST, "this host is not ours; see --web-origin"),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn send_file(
    web: &Web,
    query: &Token,
    headers: &HeaderMap,
    path: &str,
    media_type: &'static str,
    text: &'static str,
) -> Response {
    if path == "/"
        && let Some(token) = &query.token
        && let Some(cookie) = web.guard.cookie(token)
    {
        // The token leaves the address, which is shown and kept by browsers.
        return (
            StatusCode::SEE_OTHER,
            [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)],
        )
            .into_response();
    }
    if !web.guard.knows(headers) {
        return refuse(StatusCode::UNAUTHORIZED, "open this page once with /?token=TOKEN");
    }
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}

async fn open_socket(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    if !web.guard.is_our_origin(&headers) {
        return refuse(StatusCode::FORBIDDEN, "this page's origin is not ours; see --web-origin");
    }
    if !web.guard.knows(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, "open the page once with /?token=TOKEN");
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(place) = web.tabs.place() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many tabs are open");
    };
    upgrade.max_message_size(MAX_FRAME_BYTES).max_frame_size(MAX_FRAME_BYTES).on_upgrade(
        move |socket| async move {
            socket::run(&web.hub, &web.tabs, socket).await;
            drop(place);
        },
    )
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], why).into_response()
}
