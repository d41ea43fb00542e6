//! The shell: waits for one input, lets the state machines of `protocol` decide, performs what they say, waits again. It runs
//! with the NATS client on one current-thread runtime in a thread of the node's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{broadcast, oneshot, watch};

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
use crate::protocol::lapse::Lapses;
use crate::protocol::leadership::{Leadership, LeadershipView};
use crate::protocol::membership;
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::Peers;
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
mod laggards;
mod lapses;
mod leader;
mod line;
mod members;
mod outbound;
mod pages;
mod reports;
mod restore;
mod stalls;
mod stopping;

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
use laggards::Laggards;
use leader::Outlets;
use outbound::Body;
use stalls::Stalls;
use stopping::Stopping;

/// How long a start waits for the server, and for another node with our id to object.
const CONTACT: Duration = Duration::from_secs(1);
const OBJECTION: Duration = Duration::from_millis(150);
/// How often a node looks whether it stood still, and by how much it is then late. A newcomer of its name takes about as long as both to begin.
const LOOK: Duration = Duration::from_millis(500);
/// How often the wall clock is looked at, and whether the machine was suspended.
const WATCH_CLOCK: Duration = Duration::from_secs(60);
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
    CleanUp,
    Clock,
    Contact,
    Look,
    Admin,
    Laggards,
    Lapses,
    Stalls,
    Stop,
}

pub(crate) struct Driver<T> {
    config: Config,
    me: NodeId,
    host: String,
    incarnation: Incarnation,
    started: Instant,
    /// By both clocks, when they were compared last.
    compared: (Instant, Instant),
    peers_noted: Instant,
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
    /// When to look next whether this process stood still, by [`clock::now`].
    look_at: Instant,
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
    laggards: Laggards,
    lapses: Lapses,
    stalls: Stalls,
    consumers: BTreeMap<ChannelName, Vec<(ConsumerId, Consumer)>>,
    last_consumer: u64,

    jobs: FuturesUnordered<Job>,
    timers: BTreeSet<(Instant, Timer)>,
    armed: HashMap<Timer, Instant>,
    stopping: Option<Stopping>,
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
        self.arm(
            Timer::CleanUp,
            Some(Instant::now() + self.config.cleanup_interval.min(CLEAN_UP_FIRST)),
        );
        self.arm(Timer::Clock, Some(Instant::now() + WATCH_CLOCK));
        self.arm(Timer::Contact, Some(Instant::now() + CONTACT));
        self.look_for_stalls();
        self.with_leadership(Leadership::woke);
        self.with_admin(Admin::start);
        loop {
            let input = self.next().await;
            if self.is_late() {
                // Before anything is handled: another may have taken our place.
                self.look_whether_we_stood_still();
            }
            match input {
                Input::Transport(event) => self.transport_event(event),
                Input::Notices => self.take_notices(),
                Input::Command(Some(command)) => self.command(command),
                Input::Command(None) => return self.cancel().await,
                Input::Completed(completion) => self.completed(completion),
                Input::Handled(ended) => self.handled(ended),
                Input::Timer(timer) => self.fired(timer),
            }
            if let Some(reply) = self.stopped() {
                return self.finish(reply).await;
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
            Timer::CleanUp => self.clean_up(),
            Timer::Clock => self.watch_clock(),
            Timer::Contact => self.look_for_objections(),
            Timer::Look => self.look_whether_we_stood_still(),
            Timer::Admin => self.with_admin(Admin::woke),
            Timer::Laggards => self.look_for_laggards(),
            Timer::Lapses => self.look_for_lapses(),
            Timer::Stalls => self.look_for_stalls(),
            Timer::Stop => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.overdue = true;
                }
            }
        }
    }

    /// Lets `start` return, once a node with our id has had the time to object.
    fn look_for_objections(&mut self) {
        let until = || self.peers.objects_until(Instant::now(), OBJECTION);
        let wait = self.link.then(until).flatten();
        match wait {
            Some(_) => self.arm(Timer::Contact, wait),
            None => self.made_contact(Ok(())),
        }
    }

    /// Lets `start` return.
    fn made_contact(&mut self, result: Result<(), StartError>) {
        if let Some(contact) = self.contact.take() {
            let _ = contact.send(result);
            self.tell_stalls();
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

/// The first clean-up comes early: a node that runs for minutes at a time has to clean up too.
const CLEAN_UP_FIRST: Duration = Duration::from_secs(60);
