//! What a node's handles share with each other and with its driver.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};

use crate::condition::Tally;
use crate::config::Config;
use crate::driver::{Leader, Line};
use crate::event::election::ElectionEvent;
use crate::event::{Event, Status};
use crate::gate::Gate;
use crate::message::NodeId;
#[cfg(feature = "metrics")]
use crate::metering::Named;
use crate::store::Store;

/// What the handles and the driver share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) gate: Arc<Gate>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) line: Line,
    /// Kept only to begin others from: the driver has the sender, so that they end with it.
    pub(crate) events: broadcast::Receiver<Event>,
    /// From the start on, for who comes first.
    pub(crate) first_events: Mutex<Option<broadcast::Receiver<Event>>>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) elections: broadcast::Receiver<ElectionEvent>,
    pub(crate) leader: Leader,
    pub(crate) started: Instant,
    /// Where handlers run.
    pub(crate) handlers: Handle,
    pub(crate) id: NodeId,
    #[cfg(feature = "metrics")]
    pub(crate) named: Named,
    /// Taken by whoever shuts down, to wait for its end, and what is dropped right before that.
    pub(crate) thread: tokio::sync::Mutex<Option<(JoinHandle<()>, oneshot::Receiver<()>)>>,
}
