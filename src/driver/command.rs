//! What handles ask of the driver.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Callback, Change};
use crate::incoming::{HandlerResult, Message};
use crate::message::{ChannelName, Mode, NodeId, StartAt};
use crate::protocol::election::Version;
use crate::protocol::orders::{Done, Task};
pub(crate) use crate::protocol::peers::ConsumerId;
use crate::protocol::report::{Report, Topology};
use crate::reason::Reason;
use crate::refusal::{ChannelError, HandOverError, NodeError, OrderError, SetStateError};
use crate::store::StoreError;

/// What a handler's call gives.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = HandlerResult> + Send>>;

/// A handler that is called in the node's own thread.
pub(crate) type Inline = Arc<dyn Fn(&Message) -> HandlerResult + Send + Sync>;

/// Who takes a channel's messages.
#[derive(Clone)]
pub(crate) enum Consumer {
    Handler(Arc<dyn Fn(Message) -> HandlerFuture + Send + Sync>),
    Inline(Inline),
    Stream(mpsc::Sender<Message>),
}

impl Consumer {
    /// Whether nobody reads the stream any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.is_closed())
    }

    pub(crate) fn inline(&self) -> Option<&Inline> {
        match self {
            Self::Inline(handler) => Some(handler),
            Self::Handler(_) | Self::Stream(_) => None,
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handler(_) => "Handler",
            Self::Inline(_) => "Inline",
            Self::Stream(_) => "Stream",
        })
    }
}

pub(crate) type Reply<T> = oneshot::Sender<T>;

#[derive(Debug)]
pub(crate) enum Command {
    Join {
        channel: ChannelName,
        mode: Mode,
        start: StartAt,
        reply: Reply<Result<(), ChannelError>>,
    },
    Leave {
        channel: ChannelName,
        reply: Reply<Result<(), ChannelError>>,
    },
    Pause {
        channel: ChannelName,
        paused: bool,
        reply: Reply<Result<(), ChannelError>>,
    },
    Attach {
        channel: ChannelName,
        consumer: Consumer,
        reply: Reply<Result<ConsumerId, ChannelError>>,
    },
    Detach {
        channel: ChannelName,
        consumer: ConsumerId,
    },
    /// Why messages don't move, looked at anew.
    Reasons {
        reply: Reply<Vec<Reason>>,
    },
    Topology {
        reply: Reply<Topology>,
    },
    Subscribers {
        channel: ChannelName,
        reply: Reply<Vec<NodeId>>,
    },
    /// Brings what is known to be settled into the store's accounts.
    SettleNow {
        reply: Reply<Result<(), StoreError>>,
    },
    /// Changes whenever the accounts do.
    WatchSettled {
        reply: Reply<watch::Receiver<u64>>,
    },
    Forget {
        node: NodeId,
        reply: Reply<Result<u64, NodeError>>,
    },
    /// Discards what waits for a receiver, in one channel or in all.
    Purge {
        node: NodeId,
        channel: Option<ChannelName>,
        reply: Reply<Result<u64, StoreError>>,
    },
    /// Has a node do this; this node itself, too.
    Order {
        to: NodeId,
        task: Task,
        within: Duration,
        reply: Reply<Result<Done, OrderError>>,
    },
    /// Asks a node about itself.
    Ask {
        to: NodeId,
        within: Duration,
        reply: Reply<Result<Box<Report>, OrderError>>,
    },
    /// Replaces the state, or a field of it.
    SetState {
        change: Change,
        reply: Reply<Result<Version, SetStateError>>,
    },
    /// Gives mastership up, to this node or the best one.
    HandOver {
        to: Option<NodeId>,
        reply: Reply<Result<NodeId, HandOverError>>,
    },
    /// Calls this when mastership changes.
    Register {
        callback: Callback,
        reply: Reply<()>,
    },
    Shutdown {
        deadline: Duration,
        reply: Reply<()>,
    },
}
