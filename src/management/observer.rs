//! Asking running nodes without being one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{About, Query, Report};
use crate::condition::Outage;
use crate::config::{Config, ConfigError};
use crate::fresh;
use crate::message::NodeId;
use crate::protocol::frame::Frame;
use crate::reason::Reason;
use crate::transport::nats::{ConnectError, NatsTransport};
use crate::transport::{Audience, Role, ServerInfo, Subject, Transport, TransportEvent};

mod orders;

/// How long to wait for the server.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the connection may take.
pub(super) const FAREWELL: Duration = Duration::from_millis(200);
/// Once everybody who was known has answered, another one gets this long to be heard.
const QUIET: Duration = Duration::from_millis(250);
/// Most nodes whose answers are collected.
const MAX_REPORTS: usize = 10_000;

/// The network could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate, key or credentials file cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No server could be reached, or the connection was lost.
    #[error("{}", outage.reason(reason.clone()))]
    NotConnected {
        /// What the client or the server says, with the address where there is one.
        reason: String,
        /// What kind of reason that is.
        outage: Outage,
    },
    /// The server refuses our credentials.
    #[error("{}", Reason::Unauthorized { said: reason.clone() })]
    Unauthorized {
        /// What the server says.
        reason: String,
    },
    /// The server's permissions or limits are too narrow.
    #[error("{}", Reason::refused(reason.clone()))]
    Denied {
        /// What the server says.
        reason: String,
    },
}

impl ObserveError {
    /// What hinders a node with the same settings; none where the settings themselves are wrong.
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Config(_) | Self::Connect(_) => return None,
            Self::NotConnected { reason, outage } => outage.reason(reason.clone()),
            Self::Unauthorized { reason } => Reason::Unauthorized { said: reason.clone() },
            Self::Denied { reason } => Reason::refused(reason.clone()),
        })
    }
}

/// A server, as it was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct ServerCheck {
    /// The server's name.
    pub server: String,
    /// The id that it drew at its start.
    pub server_id: String,
    /// Its cluster's name; none where it is in none.
    pub cluster: Option<String>,
    /// Its version.
    pub version: String,
    /// Where it is, without credentials.
    pub address: String,
    /// Largest frame that it takes, in bytes.
    pub max_payload_bytes: usize,
    /// From publishing a token to its return.
    pub rtt: Duration,
}

impl ServerCheck {
    pub(super) fn new(server: ServerInfo, max_payload_bytes: usize) -> Self {
        let ServerInfo { name, id, cluster, version, address, rtt } = server;
        Self { server: name, server_id: id, cluster, version, address, max_payload_bytes, rtt }
    }
}

/// `last`: what was said last, if anything was.
pub(super) fn unreachable(config: &Config, last: Option<(String, Outage)>) -> ObserveError {
    let (reason, outage) = last.unwrap_or_else(|| {
        let servers: Vec<_> = config.nats.iter().map(|url| crate::config::mask_url(url)).collect();
        let time = PATIENCE.as_secs();
        (format!("{}: no answer within {time} s", servers.join(", ")), Outage::NoServer)
    });
    ObserveError::NotConnected { reason, outage }
}

/// Asks running nodes about themselves. It is no node: it has no file and takes part in nothing.
pub struct Observer {
    pub(super) transport: NatsTransport,
    pub(super) me: NodeId,
    server: ServerInfo,
    max_payload_bytes: usize,
    queries: u64,
}

impl Observer {
    /// Connects to the server that the settings name, within five seconds. Must be called in a tokio runtime. Cancelling is safe.
    ///
    /// It asks under the name in the settings, where there is one, so that a server's permissions can bind it; a node of that name may run.
    ///
    /// # Errors
    /// There is no server, or it refuses us.
    pub async fn connect(config: &Config) -> Result<Self, ObserveError> {
        config.validate()?;
        let me = config.id.clone().unwrap_or_else(|| {
            NodeId::new(format!("observer-{}", fresh::incarnation())).expect("letters and digits")
        });
        let mut transport = NatsTransport::connect(config, &me, Role::Observer).await?;
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            let Ok(event) = tokio::time::timeout_at(end, transport.next()).await else {
                transport.close(Duration::ZERO).await;
                return Err(unreachable(config, last));
            };
            match event {
                TransportEvent::Up { max_payload, server, .. } => {
                    return Ok(Self {
                        transport,
                        me,
                        server,
                        max_payload_bytes: max_payload,
                        // Not one that somebody else who asks under this name has used.
                        queries: fastrand::u64(..u64::MAX / 2),
                    });
                }
                TransportEvent::Down { reason, outage } => last = Some((reason, outage)),
                TransportEvent::Unauthorized { reason } => {
                    transport.close(Duration::ZERO).await;
                    return Err(ObserveError::Unauthorized { reason });
                }
                TransportEvent::Denied { reason } => {
                    transport.close(Duration::ZERO).await;
                    return Err(ObserveError::Denied { reason });
                }
                _ => {}
            }
        }
    }

    /// The server that was found.
    pub fn server(&self) -> ServerCheck {
        ServerCheck::new(self.server.clone(), self.max_payload_bytes)
    }

    /// Asks all nodes, and collects their answers until the time is over, or all of `expected` have answered. Cancelling is safe.
    ///
    /// # Errors
    /// The connection is gone, or the server does not let us ask.
    pub async fn reports(
        &mut self,
        within: Duration,
        expected: &[NodeId],
    ) -> Result<Vec<Report>, ObserveError> {
        self.ask(Audience::All, (false, None), within, expected).await
    }

    /// Asks one node, also for the newest state of a master that it has; none where it did not answer in time.
    ///
    /// # Errors
    /// As [`reports`](Self::reports).
    pub async fn state_of(
        &mut self,
        node: &NodeId,
        within: Duration,
    ) -> Result<Option<Report>, ObserveError> {
        self.ask_one(node, (true, None), within).await
    }

    /// Asks one node why messages don't move there, all of them or these; none where it did not answer in time.
    ///
    /// # Errors
    /// As [`reports`](Self::reports).
    pub async fn reasons_of(
        &mut self,
        node: &NodeId,
        about: Option<About>,
        within: Duration,
    ) -> Result<Option<Report>, ObserveError> {
        self.ask_one(node, (false, about), within).await
    }

    async fn ask_one(
        &mut self,
        node: &NodeId,
        what: (bool, Option<About>),
        within: Duration,
    ) -> Result<Option<Report>, ObserveError> {
        let expected = std::slice::from_ref(node);
        let reports = self.ask(Audience::Node(node.clone()), what, within, expected).await?;
        Ok(reports.into_iter().find(|report| report.node == *node))
    }

    async fn ask(
        &mut self,
        whom: Audience,
        (state, about): (bool, Option<About>),
        within: Duration,
        expected: &[NodeId],
    ) -> Result<Vec<Report>, ObserveError> {
        self.queries += 1;
        let query = Query { from: self.me.clone(), query: self.queries, state, about };
        let to = Subject::Management { to: whom, from: self.me.clone() };
        let lost = |reason: String, outage| ObserveError::NotConnected { reason, outage };
        let asked = self.transport.try_publish(&to, Frame::Query(query).encode());
        asked.map_err(|error| lost(error.to_string(), Outage::NoServer))?;
        let mut reports: BTreeMap<NodeId, Report> = BTreeMap::new();
        let mut end = Instant::now() + within;
        while let Ok(event) = tokio::time::timeout_at(end, self.transport.next()).await {
            match event {
                TransportEvent::Frame { from: Subject::Management { from, .. }, bytes } => {
                    let Ok(Frame::Report(report)) = Frame::decode(&bytes) else { continue };
                    let ours = report.query == self.queries && report.to == self.me;
                    if ours && report.node == from && reports.len() < MAX_REPORTS {
                        reports.insert(from, *report);
                    }
                }
                TransportEvent::Down { reason, outage } => return Err(lost(reason, outage)),
                TransportEvent::Unauthorized { reason } => {
                    return Err(ObserveError::Unauthorized { reason });
                }
                TransportEvent::Denied { reason } => return Err(ObserveError::Denied { reason }),
                _ => {}
            }
            if !expected.is_empty() && expected.iter().all(|node| reports.contains_key(node)) {
                return Ok(reports.into_values().collect());
            }
            let known = |report: &Report| {
                report.peers.iter().all(|p| !p.online || reports.contains_key(&p.node))
            };
            if expected.is_empty() && !reports.is_empty() && reports.values().all(known) {
                end = end.min(Instant::now() + QUIET);
            }
        }
        Ok(reports.into_values().collect())
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.transport.close(FAREWELL).await;
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("me", &self.me).finish_non_exhaustive()
    }
}
