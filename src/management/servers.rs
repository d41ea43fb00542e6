//! Whether the servers of the settings are one cluster: only then does it not matter to which of them a node is connected.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::observer::{ObserveError, Observer};
use super::{Outcome, ServerCheck, Verdict};
use crate::config::{Config, mask_url};
use crate::message::NodeId;
use crate::protocol::frame::Frame;
use crate::transport::{Audience, Subject, Transport, TransportEvent};

/// How long a frame may take from one server to another.
const PASSAGE: Duration = Duration::from_secs(2);
/// It is said again this often: a server that has just learnt of a subscription needs a moment to tell the others.
const REPEAT: Duration = Duration::from_millis(250);
/// How long nodes get to answer.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// What one address of the settings leads to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ServerAt {
    /// The address, without credentials.
    pub address: String,
    /// The server; none where it could not be used.
    pub server: Option<ServerCheck>,
    /// Why it could not.
    pub trouble: Option<String>,
    /// Messages pass between the servers with the same number.
    pub group: Option<usize>,
    /// The nodes that answer there. Only where there are several groups, and the login may ask.
    pub nodes: Vec<NodeId>,
}

/// Connects to each server of the settings under this node's name, a node of which may be running, and tries whether messages pass between
/// them. Nothing is changed. Takes some seconds, and two more for each two addresses between which nothing passes. Must be called in a tokio runtime.
///
/// # Errors
/// The settings themselves.
pub async fn servers(config: &Config, node: &NodeId) -> Result<Vec<ServerAt>, ObserveError> {
    config.validate()?;
    let connecting = config.nats.iter().map(|url| {
        let mut config = config.clone();
        config.nats = vec![url.clone()];
        config.id = Some(node.clone());
        async move { Observer::connect(&config).await }
    });
    let (mut found, mut observers): (Vec<ServerAt>, Vec<Option<Observer>>) =
        (Vec::new(), Vec::new());
    for (url, connected) in config.nats.iter().zip(join_all(connecting).await) {
        let (observer, trouble) = match connected {
            Ok(observer) => (Some(observer), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let server = observer.as_ref().map(Observer::server);
        let address = mask_url(url);
        found.push(ServerAt { address, server, trouble, group: None, nodes: Vec::new() });
        observers.push(observer);
    }
    let groups = group(&mut found, &mut observers).await;
    if groups > 1 {
        call_the_roll(&mut found, &mut observers).await;
    }
    join_all(observers.into_iter().flatten().map(Observer::close)).await;
    Ok(found)
}

/// Numbers the groups between whose servers messages pass; how many there are.
async fn group(found: &mut [ServerAt], observers: &mut [Option<Observer>]) -> usize {
    // One of each.
    let mut firsts: Vec<usize> = Vec::new();
    for place in 0..found.len() {
        if observers[place].is_none() {
            continue;
        }
        let mut group = None;
        for (number, first) in firsts.iter().enumerate() {
            let id = |place: usize| found[place].server.as_ref().map(|server| &server.server_id);
            let (before, behind) = observers.split_at_mut(place);
            let (Some(one), Some(other)) = (&mut before[*first], &mut behind[0]) else { continue };
            if id(*first) == id(place) || pass(one, other).await {
                group = Some(number);
                break;
            }
        }
        found[place].group = Some(group.unwrap_or(firsts.len()));
        if group.is_none() {
            firsts.push(place);
        }
    }
    firsts.len()
}

/// Whether what one connection says is heard over the other: an outcome of an order that nobody gave, which a node ignores.
async fn pass(one: &mut Observer, other: &mut Observer) -> bool {
    let (from, to) = (one.me.clone(), other.me.clone());
    let result = Verdict::Refused("only a look".to_owned());
    let outcome = Outcome { node: from.clone(), to: to.clone(), order: fastrand::u64(..), result };
    let frame = Frame::Outcome(outcome).encode();
    let subject = Subject::Management { to: Audience::Node(to), from };
    let end = Instant::now() + PASSAGE;
    let mut again = Instant::now();
    let heard = async {
        loop {
            tokio::select! {
                event = other.transport.next() => {
                    if matches!(&event, TransportEvent::Frame { bytes, .. } if *bytes == frame) {
                        return;
                    }
                }
                _ = one.transport.next() => {}
                () = sleep_until(again) => {
                    again += REPEAT;
                    // It is said again.
                    let _ = one.transport.try_publish(&subject, frame.clone());
                }
            }
        }
    };
    timeout_at(end, heard).await.is_ok()
}

async fn call_the_roll(found: &mut [ServerAt], observers: &mut [Option<Observer>]) {
    let asking = observers.iter_mut().map(|observer| async move {
        let reports = observer.as_mut()?.reports(ROLL_CALL, &[]).await;
        Some(reports.ok()?.into_iter().map(|report| report.node).collect())
    });
    for (at, nodes) in found.iter_mut().zip(join_all(asking).await) {
        at.nodes = nodes.unwrap_or_default();
    }
}
