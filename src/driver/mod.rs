//! The shell: waits for one input, lets the state machines of `protocol` decide, performs what they say, waits again. It runs
//! with the NATS client on one current-thread runtime in a thread of the node's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock;
use crate::condition::{Link, Tally};
use crate::config::Config;
use crate::event::election::ElectionEvent;
use crate::event::{Event, Status};
use crate::gate::Gate;
use crate::message::{ChannelName, Incarnation, NodeId};
use crate::metering::Flights;
use crate::protocol::Now;
use crate::protocol::admin::Admin;
use crate::protocol::delivery;
use crate::protocol::inbound::Inbound;
use crate::protocol::leadership::{Leadership, LeadershipView};
use crate::protocol::lifecycle::Lifecycle;
use crate::protocol::looks::Looks;
use crate::protocol::membership;
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::Peers;
use crate::reason::Reason;
use crate::refusal::StartError;
use crate::store::{Notes, Notices, Opened, Store, StoreError, UnderWay};
use crate::transport::{Transport, TransportEvent};

mod admin;
mod callbacks;
mod channels;
mod command;
mod election;
mod frames;
mod handlers;
mod inbound;
mod inline;
mod inside;
mod jobs;
mod leader;
mod lifecycle;
mod line;
mod looks;
mod members;
mod outbound;
mod outcome;
mod pages;
mod reports;
mod restore;

pub(crate) use crate::protocol::leadership::Change;
pub(crate) use callbacks::Callback;
pub(crate) use command::{Command, Consumer, ConsumerId, HandlerFuture, Inline};
pub(crate) use inside::is_inside;
pub(crate) use leader::{Leader, leader};
pub(crate) use line::{Commands, Line, line};

use admin::Asker;
use frames::Ahead;
use handlers::{Ended, Handlers};
use inbound::Held;
use jobs::{Completion, Job};
use leader::Outlets;
use outbound::Body;

/// Least time between two events about refused bytes, so that a stranger cannot drown the others.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// Between two log lines about dead letters: a receiver may refuse a hundred thousand messages.
const DEAD_LETTER_PAUSE: Duration = Duration::from_secs(10);

/// What a driver is given at its start.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) opened: Opened,
    pub(crate) host: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) tally: Arc<Tally>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) commands: Commands,
    /// Where the election shows itself.
    pub(crate) view: watch::Sender<LeadershipView>,
    pub(crate) elections: broadcast::Sender<ElectionEvent>,
    /// The runtime on which handlers run.
    pub(crate) handlers: tokio::runtime::Handle,
    /// Told once the node has met its server, or has not.
    pub(crate) contact: oneshot::Sender<Result<(), StartError>>,
}

/// A timer's owner; each has at most one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Receiver(NodeId),
    Inbox,
    Membership,
    Election,
    Record,
    Lifecycle,
    Admin,
    Looks,
}

pub(crate) struct Driver<T> {
    config: Config,
    me: NodeId,
    host: String,
    incarnation: Incarnation,
    started: Instant,
    store: Store,
    notices: Notices,
    transport: T,
    tally: Arc<Tally>,
    events: broadcast::Sender<Event>,
    status: watch::Sender<Status>,
    commands: Commands,
    contact: Option<oneshot::Sender<Result<(), StartError>>>,

    link: bool,
    /// Most bytes of a frame that the server takes.
    max_frame: usize,
    refusal_told: Option<Instant>,
    dead_letter_told: Option<Instant>,
    /// Dead letters since then.
    dead_letters_untold: u64,

    outbound: Outbound<Body>,
    ahead: Ahead,
    flights: Flights,
    /// What the store does not know yet, and looks at before it gives up what waits for a receiver.
    settling: UnderWay,
    settle_waiters: Vec<command::Reply<Result<(), StoreError>>>,
    settled: watch::Sender<u64>,

    peers: Peers,
    leadership: Option<Leadership>,
    outlets: Outlets,

    inbound: Inbound<Held>,
    begun: Notes,
    handlers: Handlers,
    gate: Arc<Gate>,
    admin: Admin,
    /// Who waits for the answers to orders and questions of ours.
    askers: HashMap<u64, Asker>,
    looks: Looks,
    /// Who waits for all reasons.
    asking_for_reasons: Vec<oneshot::Sender<Vec<Reason>>>,
    consumers: BTreeMap<ChannelName, Vec<(ConsumerId, Consumer)>>,
    last_consumer: u64,

    jobs: FuturesUnordered<Job>,
    timers: BTreeSet<(Instant, Timer)>,
    armed: HashMap<Timer, Instant>,
    lifecycle: Lifecycle,
    /// Who waits for the end of a stop.
    stop_reply: Option<command::Reply<()>>,
}

/// What the loop waited for.
enum Input {
    Transport(TransportEvent),
    Notices,
    Command(Option<Command>),
    Completed(Completion),
    Handled(Ended),
    Timer(Timer),
}

impl<T: Transport> Driver<T> {
    /// Runs until the node is shut down or nobody holds it any more.
    pub(crate) async fn run(mut self) {
        self.with_lifecycle(Lifecycle::start);
        self.with_looks(Looks::start);
        self.with_leadership(Leadership::woke);
        self.with_admin(Admin::start);
        loop {
            let input = self.next().await;
            if self.lifecycle.is_late(clock::now()) {
                // Before anything is handled: another may have taken our place.
                self.with_lifecycle(Lifecycle::look);
            }
            match input {
                Input::Transport(event) => self.transport_event(event),
                Input::Notices => self.take_notices(),
                Input::Command(Some(command)) => self.command(command),
                Input::Command(None) => return self.end().await,
                Input::Completed(completion) => self.completed(completion),
                Input::Handled(ended) => self.handled(ended),
                Input::Timer(timer) => self.fired(timer),
            }
            if self.has_stopped() {
                return self.end().await;
            }
        }
    }

    /// What is there already comes first: of many receivers that answer together, the frames leave together. Only then are the next ones
    /// made.
    async fn next(&mut self) -> Input {
        while let Some(by) = self.peers.leaves_by() {
            if Instant::now() < by
                && let Some(input) = self.wait().now_or_never()
            {
                return input;
            }
            self.with_peers(Peers::leave_next);
        }
        if self.ahead.is_wanted() {
            if let Some(input) = self.wait().now_or_never() {
                return input;
            }
            self.make_ahead().await;
        }
        self.wait().await
    }

    /// The next input. Everything here is cancel-safe.
    async fn wait(&mut self) -> Input {
        if let Some(ended) = self.handlers.ended_soon() {
            return Input::Handled(ended);
        }
        let next = self.timers.first().map(|(at, _)| *at);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.transport.next() => Input::Transport(event),
            () = self.notices.wait() => Input::Notices,
            Some(completion) = self.jobs.next() => Input::Completed(completion),
            ended = self.handlers.ended() => Input::Handled(ended),
            command = self.commands.next() => Input::Command(command),
            () = timer => {
                let (_, timer) = self.timers.pop_first().expect("it was the first");
                self.armed.remove(&timer);
                Input::Timer(timer)
            }
        }
    }

    fn now(&self) -> Now {
        Now { mono: Instant::now(), file_ms: self.store.now_ms() }
    }

    /// Sets this timer, or takes it away.
    fn arm(&mut self, timer: Timer, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.armed.insert(timer.clone(), at),
            None => self.armed.remove(&timer),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, timer.clone()));
        }
        if let Some(at) = at {
            self.timers.insert((at, timer));
        }
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Receiver(node) => self.deliver(&node, delivery::Event::Woke),
            Timer::Inbox => self.receive(crate::protocol::inbox::Event::Woke),
            Timer::Membership => self.meet(membership::Event::Woke),
            Timer::Election => self.with_leadership(Leadership::woke),
            Timer::Record => self.settle(),
            Timer::Lifecycle => self.with_lifecycle(Lifecycle::woke),
            Timer::Admin => self.with_admin(Admin::woke),
            Timer::Looks => self.with_looks(Looks::woke),
        }
    }

    fn tell(&self, event: Event) {
        tracing::debug!(node = %self.me, ?event);
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    fn set_link(&mut self, link: Link) {
        self.status.send_modify(|status| status.link = link);
        self.tell_stalls();
    }

    /// Bytes from the network that are none of ours.
    fn refuse(&mut self, from: Option<NodeId>, reason: String) {
        self.tally.refused_frames.add(1);
        let now = Instant::now();
        if self.refusal_told.is_none_or(|told| told + REFUSAL_PAUSE <= now) {
            self.refusal_told = Some(now);
            tracing::warn!(node = %self.me, ?from, reason, "refused bytes from the network");
            self.tell(Event::Refused { from, reason });
        }
    }
}
