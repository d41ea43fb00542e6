//! The shell: waits for one input, lets the core decide, performs what it says, waits again. It runs
//! with the NATS client on one current-thread runtime in a thread of the node's own.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock;
use crate::condition::Tally;
use crate::config::Config;
use crate::core::{At, Core, Effect, Input, Timer};
use crate::event::election::ElectionEvent;
use crate::event::{Event, Status};
use crate::gate::Gate;
use crate::message::{ChannelName, Incarnation, NodeId};
use crate::metering::Flights;
use crate::protocol::Now;
use crate::protocol::leadership::{LeadershipView, Ticket};
use crate::reason::Reason;
use crate::refusal::StartError;
use crate::store::{Notes, Notices, Opened, Store, StoreError};
use crate::transport::{Transport, TransportEvent};

mod ahead;
mod asking;
mod callbacks;
mod command;
mod convert;
mod end;
mod handlers;
mod inline;
mod inside;
mod jobs;
mod leader;
mod line;
mod notices;
mod outcome;
mod outside;
mod perform;
mod reports;
mod restore;
mod telling;
mod traffic;

pub(crate) use crate::protocol::leadership::Change;
pub(crate) use callbacks::Callback;
pub(crate) use command::{Command, Consumer, ConsumerId, HandlerFuture, Inline};
pub(crate) use inside::is_inside;
pub(crate) use leader::{Leader, leader};
pub(crate) use line::{Commands, Line, line};

use ahead::Ahead;
use asking::{Asker, Ordering};
use convert::{Body, Held};
use handlers::{Handlers, Said};
use jobs::{Completion, Job};
use leader::Outlets;
use outside::Surroundings;
use telling::Told;

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
    told: Told,

    core: Core<Body, Held>,
    around: Surroundings,
    /// To be performed, in this order.
    effects: VecDeque<Effect<Held>>,
    performing: bool,

    ahead: Ahead,
    flights: Flights,
    /// Who waits until what is settled now is on record.
    settle_waiters: Vec<command::Reply<Result<(), StoreError>>>,
    outlets: Outlets,
    begun: Notes,
    handlers: Handlers,
    gate: Arc<Gate>,
    consumers: BTreeMap<ChannelName, Vec<(ConsumerId, Consumer)>>,
    last_consumer: u64,
    /// Who waits for what came of a command.
    askers: HashMap<Ticket, Asker>,
    last_ticket: u64,
    /// Who waits for the answers to orders and questions of ours.
    ordering: HashMap<u64, Ordering>,
    /// Who waits for all reasons.
    asking_for_reasons: Vec<oneshot::Sender<Vec<Reason>>>,

    jobs: FuturesUnordered<Job>,
    timers: BTreeSet<(Instant, Timer)>,
    armed: HashMap<Timer, Instant>,
    /// Who waits for the end of a stop.
    stop_reply: Option<command::Reply<()>>,
}

/// What the loop waited for.
enum Awaited {
    Transport(TransportEvent),
    Notices,
    Command(Option<Command>),
    Completed(Completion),
    Handled(Said),
    Timer(Timer),
}

impl<T: Transport> Driver<T> {
    /// Runs until the node is shut down or nobody holds it any more.
    pub(crate) async fn run(mut self) {
        self.say(Input::Start);
        loop {
            match self.next().await {
                Awaited::Transport(event) => self.transport_event(event),
                Awaited::Notices => self.take_notices(),
                Awaited::Command(Some(command)) => self.command(command),
                Awaited::Command(None) => return self.end().await,
                Awaited::Completed(completion) => self.completed(completion),
                Awaited::Handled(said) => self.handled(said),
                Awaited::Timer(timer) => self.say(Input::Woke(timer)),
            }
            if self.core.is_stopping() && self.core.has_stopped(Instant::now()) {
                return self.end().await;
            }
        }
    }

    /// What is there already comes first: of many receivers that answer together, the frames leave together. Only then are the next ones
    /// made.
    async fn next(&mut self) -> Awaited {
        while let Some(by) = self.core.leaves_by() {
            if Instant::now() < by
                && let Some(awaited) = self.wait().now_or_never()
            {
                return awaited;
            }
            self.say(Input::LeaveNext);
        }
        if self.ahead.is_wanted() {
            if let Some(awaited) = self.wait().now_or_never() {
                return awaited;
            }
            self.make_ahead().await;
        }
        self.wait().await
    }

    /// The next input. Everything here is cancel-safe.
    async fn wait(&mut self) -> Awaited {
        if let Some(said) = self.handlers.said_soon() {
            return Awaited::Handled(said);
        }
        let next = self.timers.first().map(|(at, _)| *at);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = self.transport.next() => Awaited::Transport(event),
            () = self.notices.wait() => Awaited::Notices,
            Some(completion) = self.jobs.next() => Awaited::Completed(completion),
            said = self.handlers.said() => Awaited::Handled(said),
            command = self.commands.next() => Awaited::Command(command),
            () = timer => {
                let (_, timer) = self.timers.pop_first().expect("it was the first");
                self.armed.remove(&timer);
                Awaited::Timer(timer)
            }
        }
    }

    /// Tells the core, and performs what follows. Where that is being done already, what follows comes after it.
    fn say(&mut self, input: Input<Body>) {
        self.decide(input);
        if std::mem::replace(&mut self.performing, true) {
            return;
        }
        while let Some(effect) = self.effects.pop_front() {
            if let Some(input) = self.perform(effect) {
                self.decide(input);
            }
        }
        self.performing = false;
    }

    fn decide(&mut self, input: Input<Body>) {
        let at = self.at();
        self.core.handle((&self.around, at), input, &mut self.effects);
    }

    fn at(&self) -> At {
        let now = Now { mono: Instant::now(), file_ms: self.store.now_ms() };
        At { now, counted: clock::now(), wall: SystemTime::now() }
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
}
