//! One run of a node: the core that ships, with a shell of this world around it. What `src/driver` does with tokio, this does with a scheduler: one
//! input at a time, then the effects in their order, each of which can be the last one before a crash.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use waypost::core::{self, At, Core, Effect, Output};
use waypost::protocol::admin::Admin;
use waypost::protocol::delivery;
use waypost::protocol::election;
use waypost::protocol::inbound::Inbound;
use waypost::protocol::inbox::{self, Done, Source};
use waypost::protocol::leadership::{Audited, Change, Leadership};
use waypost::protocol::lifecycle::Lifecycle;
use waypost::protocol::looks::{Filled, Limits, Looks, Pending};
use waypost::protocol::membership;
use waypost::protocol::orders::Task;
use waypost::protocol::origin::Origin;
use waypost::protocol::outbound::{Outbound, PageRequest};
use waypost::protocol::peers::{self, Identity, Peers};
use waypost::protocol::settling::Settling;
use waypost::protocol::{Body, Now};
use waypost::{ChannelName, Incarnation, Management, MessageId, Mode, NodeId, StartAt};

use crate::file::{Answer, Restored, Row, Work};
use crate::network::Sent;
use crate::world::World;

mod answers;
mod asking;
mod executing;
mod finish;
mod frames;
mod handing;
mod notices;
mod outside;
mod perform;

pub(crate) use frames::MESSAGE_BYTES;
pub(crate) use handing::Content;

use asking::Askers;

/// Settings of a node, as far as they matter here.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) delivery: delivery::Limits,
    pub(crate) inbox: inbox::Limits,
    pub(crate) membership: membership::Limits,
    pub(crate) cleanup_interval: Duration,
    /// None: it takes part in no election.
    pub(crate) election: Option<election::Settings>,
}

/// A timer's owner; each has at most one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Core(core::Timer),
    Leaving,
}

/// What a program asks of its node.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Join(ChannelName, Mode, StartAt),
    Leave(ChannelName),
    Pause(ChannelName, bool),
    Attach(ChannelName),
    Detach(ChannelName),
    /// Has a node do this.
    Order(NodeId, Task),
    /// Ends whatever keeps it out.
    Readmit,
    Forget(NodeId),
    Purge(NodeId, Option<ChannelName>),
    /// Has functions called when mastership changes.
    Listen,
    SetState(Change),
    HandOver(Option<NodeId>),
    /// Its function for a stop has returned.
    Returned,
    Stop {
        within: Duration,
    },
}

/// A page of a backlog.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) age: u64,
    pub(crate) request: PageRequest,
    /// `None`: it could not be read.
    pub(crate) rows: Option<(Vec<Rc<Row>>, u64, bool)>,
}

/// What the file says when it is asked.
#[derive(Debug)]
pub(crate) enum Found {
    /// `None`: it failed.
    Counted(Option<Vec<Pending>>),
    Measured(Option<Filled>),
}

/// What it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Count,
    Measure,
}

pub(crate) enum Input {
    /// With what the server refuses on this connection.
    LinkUp(Vec<String>),
    LinkDown,
    /// The connection takes messages again.
    Room,
    Frame(Rc<Sent>),
    Notices,
    Completed(Work, Answer),
    Page(Page),
    Found(Found),
    Handled {
        source: Source,
        id: MessageId,
        result: Result<Done, String>,
    },
    Timer(Timer, Duration),
    Command(Command),
}

pub(crate) struct Process {
    me: usize,
    id: NodeId,
    pub(crate) run: u64,
    settings: Settings,
    /// Whether its server refuses something.
    is_denied: bool,
    core: Core<Rc<Row>, Content>,
    settling: RefCell<Settling>,
    effects: VecDeque<Effect<Content>>,
    performing: bool,
    askers: Askers,
    handing: BTreeMap<Source, handing::Handing>,
    /// By the numbers of the orders.
    executing: BTreeMap<u64, executing::Executing>,
    /// The channels for which there is a handler.
    handled_here: BTreeSet<ChannelName>,
    armed: BTreeMap<Timer, Duration>,
}

impl Process {
    /// A process from what the file held.
    pub(crate) fn start(world: &mut World, me: usize, run: u64, restored: Restored) -> Self {
        let settings = world.machines[me].settings.clone();
        let id = world.machines[me].id.clone();
        let parts = parts(world, me, &settings, &restored);
        let mut process = Self {
            me,
            id,
            run,
            is_denied: false,
            core: Core::new(parts),
            settling: RefCell::default(),
            effects: VecDeque::new(),
            performing: false,
            askers: Askers::default(),
            handing: BTreeMap::new(),
            executing: BTreeMap::new(),
            handled_here: BTreeSet::new(),
            armed: BTreeMap::new(),
            settings,
        };
        let noted = std::mem::take(&mut world.machines[me].notes).into_values().collect();
        world.machines[me].notes = process.core.noted(noted).into_iter().collect();
        let topics = restored.topics.into_iter().map(|(topic, row)| (topic, row.into()));
        let cursors = restored.cursors.into_iter().map(Into::into).collect();
        let (around, at) = (process.around(world), process.at(world));
        let (core, effects) = (&mut process.core, &mut process.effects);
        core.restore((&around.with(&process.settling), at), topics, cursors, effects);
        process.say(world, core::Input::Start);
        process.readmit(world);
        process
    }

    /// Takes one input, and does all that follows from it at once. Returns whether a graceful stop is complete.
    pub(crate) fn take(&mut self, world: &mut World, input: Input) -> bool {
        match input {
            Input::LinkUp(denied) => self.link_up(world, denied),
            Input::LinkDown => self.link_down(world),
            Input::Room => self.send_unsent(world),
            Input::Frame(sent) => self.frame(world, &sent),
            Input::Notices => self.take_notices(world),
            Input::Completed(work, answer) => self.completed(world, work, answer),
            Input::Page(page) => self.page_read(world, page),
            Input::Found(found) => self.found(world, found),
            Input::Handled { source, id, result } => {
                self.handled(world, source, id, result);
            }
            Input::Timer(timer, at) => {
                if self.armed.get(&timer) == Some(&at) {
                    self.armed.remove(&timer);
                    self.say(
                        world,
                        match timer {
                            Timer::Core(timer) => core::Input::Woke(timer),
                            Timer::Leaving => core::Input::LeaveNext,
                        },
                    );
                }
            }
            Input::Command(command) => self.command(world, command),
        }
        self.leave_soon(world);
        self.core.has_stopped(world.instant(self.me))
    }

    /// Tells the core, and performs what follows, up to a crash.
    fn say(&mut self, world: &mut World, input: core::Input<Rc<Row>>) {
        self.decide(world, input);
        if std::mem::replace(&mut self.performing, true) {
            return;
        }
        while let Some(effect) = self.effects.pop_front() {
            if leaves_something(&effect) && !world.goes_on(self.me) {
                self.effects.clear();
                break;
            }
            if let Some(input) = self.perform(world, effect) {
                self.decide(world, input);
            }
        }
        self.performing = false;
    }

    fn decide(&mut self, world: &World, input: core::Input<Rc<Row>>) {
        let (around, at) = (self.around(world), self.at(world));
        self.core.handle((&around.with(&self.settling), at), input, &mut self.effects);
    }

    fn at(&self, world: &World) -> At {
        let now = Now { mono: world.instant(self.me), file_ms: self.file_ms(world) };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(world.wall_ms(self.me));
        At { now, counted: world.truly(), wall }
    }

    pub(crate) fn file_ms(&self, world: &World) -> u64 {
        world.file_ms(self.me)
    }

    /// Sets this timer, or takes it away.
    fn arm(&mut self, world: &mut World, timer: Timer, at: Option<Duration>) {
        let Some(at) = at else {
            self.armed.remove(&timer);
            return;
        };
        if self.armed.insert(timer.clone(), at) != Some(at) {
            world.set_timer(self.me, self.run, timer, at);
        }
    }

    /// What it has in memory, for a story that ends badly.
    pub(crate) fn memory(&self) -> String {
        let Self { id, core, settling, armed, .. } = self;
        format!("{id}: {core:#?}\n{settling:#?}\ntimers: {armed:?}")
    }

    /// What it has seen settled and not brought into the file.
    pub(crate) fn settling(&self) -> Ref<'_, Settling> {
        self.settling.borrow()
    }

    /// Whether it believes that it has a connection.
    pub(crate) fn is_linked(&self) -> bool {
        self.core.is_linked()
    }

    /// Whether everything that it decided is in the file.
    pub(crate) fn is_settled(&self) -> bool {
        self.core.is_recorded(&self.settling.borrow()) && !self.askers.wait()
    }
}

/// To set a timer, or to show something, leaves nothing behind.
fn leaves_something(effect: &Effect<Content>) -> bool {
    !matches!(
        effect,
        Effect::WakeAt { .. } | Effect::Output(Output::Link(_) | Output::Peers { .. })
    )
}

/// The parts of a node, as its settings and its file have them.
fn parts(
    world: &mut World,
    me: usize,
    settings: &Settings,
    restored: &Restored,
) -> core::Parts<Rc<Row>, Content> {
    let id = world.machines[me].id.clone();
    let wall_ms = world.wall_ms(me);
    let incarnation = MessageId::after(MessageId::ZERO, wall_ms, world.dice.wide());
    let incarnation = Incarnation::from_u128(incarnation.as_u128());
    let (counted, limits) = (world.truly(), world.machines[me].limits);
    let now = Now { mono: world.instant(me), file_ms: world.file_ms(me) };
    let identity = Identity {
        node: id.clone(),
        incarnation,
        host: "simulated".to_owned(),
        version: "0".to_owned(),
        elects: settings.election.is_some(),
    };
    let of_peers = peers::Restored {
        known: restored.peers.clone(),
        subscriptions: restored.subscriptions.clone(),
        left: restored.left.clone(),
        held: restored.draining.is_some(),
    };
    let peers = Peers::new(identity, settings.membership, of_peers, world.dice.draw(), now);
    let leadership = settings.election.clone().map(|election| {
        let (me, seed) = ((id.clone(), incarnation), world.dice.draw());
        let audited = Audited { elections: true, states: true };
        let now = Now { mono: counted, ..now };
        Leadership::new(me, election, restored.election.clone(), audited, seed, now)
    });
    let draining = restored.draining.clone();
    core::Parts {
        outbound: Outbound::new(
            settings.delivery.clone(),
            world.dice.draw(),
            Origin::new(restored.stores.clone(), restored.last_id),
        ),
        inbound: Inbound::new(id.clone(), settings.inbox, restored.inbox.iter().cloned()),
        peers,
        leadership,
        admin: Admin::new(id.clone(), incarnation, Management::Anyone, true, draining),
        lifecycle: Lifecycle::new(settings.cleanup_interval, now.mono, counted),
        looks: Looks::new(Limits { queue: limits.queue, rejects: !limits.drop_oldest }),
        me: id,
    }
}

/// What a message carries here: its number.
fn payload(row: &Row) -> Body {
    Body::new(row.uid.to_be_bytes().to_vec().into())
}
