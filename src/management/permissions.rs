//! Whether a NATS server lets a node do what a node does.

use std::time::Duration;

use tokio::time::Instant;

use super::observer::{FAREWELL, ObserveError, PATIENCE, unreachable};
use super::{Query, ServerCheck};
use crate::config::{Config, Election};
use crate::fresh;
use crate::message::{MessageId, NodeId};
use crate::protocol::election::{self, Said, Term, Version};
use crate::protocol::frame::{Answer, Frame, Keepalive, Stream, Verdict};
use crate::transport::nats::NatsTransport;
use crate::transport::{Audience, Role, Subject, Transport, TransportEvent};

/// After the last word of the server, how long a refusal may still be on its way.
const QUIET: Duration = Duration::from_millis(300);

/// What a server lets a node do.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Permissions {
    /// The server; none where it let nothing of the node's through.
    pub server: Option<ServerCheck>,
    /// What it refused, in its words; empty when a node can work.
    pub refused: Vec<String>,
}

/// Tries, under this node's name, every subscription and every kind of publication of a node. Nothing is changed: a node of that name may
/// be running, and what is published is of no meaning to anybody. Takes some hundred milliseconds, five seconds at most. Must be called
/// in a tokio runtime.
///
/// # Errors
/// There is no server, or it refuses our credentials.
pub async fn permissions(config: &Config, node: &NodeId) -> Result<Permissions, ObserveError> {
    config.validate()?;
    let elects = config.election != Election::Off;
    let mut transport = NatsTransport::connect(config, node, Role::Node { elects }).await?;
    let result = probe(&mut transport, config, node).await;
    transport.close(FAREWELL).await;
    result
}

async fn probe(
    transport: &mut NatsTransport,
    config: &Config,
    node: &NodeId,
) -> Result<Permissions, ObserveError> {
    let mut found = Permissions { server: None, refused: Vec::new() };
    let mut end = Instant::now() + PATIENCE;
    let mut last = None;
    while let Ok(event) = tokio::time::timeout_at(end, transport.next()).await {
        match event {
            TransportEvent::Up { max_payload, server, .. } => {
                found.server = Some(ServerCheck::new(server, max_payload));
                for (subject, frame) in attempts(node, config.election != Election::Off) {
                    // A refusal comes as an event; one that did not leave is told by the loss of the connection.
                    let _ = transport.try_publish(&subject, frame.encode());
                }
                end = Instant::now() + QUIET;
            }
            TransportEvent::Denied { reason } => {
                found.refused.push(reason);
                end = end.min(Instant::now() + QUIET * 2);
            }
            TransportEvent::Unauthorized { reason } => {
                return Err(ObserveError::Unauthorized { reason });
            }
            TransportEvent::Down { reason, outage } => last = Some((reason, outage)),
            TransportEvent::Room
            | TransportEvent::Slow
            | TransportEvent::Stray
            | TransportEvent::Frame { .. } => {}
        }
    }
    match found.server.is_some() || !found.refused.is_empty() {
        true => Ok(found),
        false => Err(unreachable(config, last)),
    }
}

/// One frame for each kind of subject that a node publishes to. They go to a node that does not exist, or say goodbye for a run that
/// nobody knows.
fn attempts(node: &NodeId, elects: bool) -> Vec<(Subject, Frame)> {
    let nobody = NodeId::new(format!("nobody-{}", fresh::incarnation())).expect("a valid name");
    let (to, from) = (nobody, node.clone());
    let query = || Frame::Query(Query { from: from.clone(), query: 0, state: false, about: None });
    let answer = Answer {
        from: from.clone(),
        to: to.clone(),
        store: fresh::store_id(),
        stream: Stream::nowhere(),
        id: MessageId::ZERO,
        last: None,
        verdict: Verdict::NotJoined,
    };
    let goodbye = Keepalive {
        from: from.clone(),
        incarnation: fresh::incarnation(),
        store: fresh::store_id(),
        counter: 1,
        session: 0,
        uptime_ms: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: String::new(),
        channels: Vec::new(),
        left: Vec::new(),
        draining: true,
        goodbye: true,
        elects: false,
        rival: None,
    };
    let audience = Audience::Node(to.clone());
    // "Send me the state", to nobody.
    let said = Said::StateRequest { to: to.clone(), have: Version::default() };
    let (incarnation, term) = (fresh::incarnation(), Term::ZERO);
    let question = election::Frame { from: from.clone(), incarnation, term, voters: 0, said };
    let asking = (Subject::Election { from: from.clone() }, Frame::Election(question));
    let mut attempts = vec![
        (Subject::Message { to: to.clone(), from: from.clone() }, Frame::Answer(answer.clone())),
        (Subject::Ack { to, from: from.clone() }, Frame::Answer(answer)),
        (Subject::Keepalive { from: from.clone() }, Frame::Keepalive(goodbye)),
        (Subject::Management { to: audience, from: from.clone() }, query()),
    ];
    attempts.extend(elects.then_some(asking));
    attempts
}
