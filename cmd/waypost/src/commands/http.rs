//! Metrics and health of this command's node, where `--http` says.

use tracing::info;
use waypost::Node;
use waypost_http::{Listener, ReadyWhen, Server};

use crate::args::{Http, Ready};

/// Takes the port, before anything else is begun.
///
/// # Errors
/// It is not to be had.
pub(super) async fn listen(http: &Http) -> anyhow::Result<Option<Listener>> {
    match &http.address {
        Some(address) => Ok(Some(address.bind().await?)),
        None => Ok(None),
    }
}

/// Answers there for this node.
pub(super) fn serve(listener: Option<Listener>, http: &Http, node: &Node) -> Option<Server> {
    let listener = listener?;
    let address = listener.address();
    info!("metrics and health on http://{address}");
    if http.address.as_ref().is_some_and(|asked| asked.as_str().ends_with(":0")) {
        eprintln!("waypost: metrics and health on http://{address}");
    }
    let ready_when = match http.ready_when {
        Ready::Queueing => ReadyWhen::Queueing,
        Ready::Connected => ReadyWhen::Connected,
    };
    Some(listener.serve(node.clone(), ready_when))
}

pub(super) async fn stop(server: Option<Server>) {
    if let Some(server) = server {
        server.stop().await;
    }
}
