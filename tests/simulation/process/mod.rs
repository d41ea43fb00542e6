//! One run of a node: the parts of `protocol`, put together as the driver puts them together.
//!
//! What `src/driver` does with tokio, this does with a scheduler: one input at a time, then the actions in their order, each of which can be
//! the last one before a crash. A machine that joins later gets a field, a timer, and an arm in `frame` and `fired`.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use waypost::protocol::Now;
use waypost::protocol::admin::Admin;
use waypost::protocol::delivery;
use waypost::protocol::election;
use waypost::protocol::frame::{Frame, Stream};
use waypost::protocol::inbound::Inbound;
use waypost::protocol::inbox::{self, Done, Source};
use waypost::protocol::leadership::{Audited, Change, Leadership};
use waypost::protocol::lifecycle::Lifecycle;
use waypost::protocol::looks::{Limits, Looks};
use waypost::protocol::membership;
use waypost::protocol::orders::Task;
use waypost::protocol::origin::Origin;
use waypost::protocol::outbound::{Outbound, PageRequest, Topic};
use waypost::protocol::peers::{self, Identity, Peers};
use waypost::protocol::settling::Settling;
use waypost::{ChannelName, Incarnation, Management, MessageId, Mode, NodeId, StartAt};

use crate::file::{Answer, By, Restored, Row, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

mod admin;
mod channels;
mod inbound;
mod leadership;
mod lifecycle;
mod looks;
mod members;
mod outbound;

pub(crate) use inbound::Content;
pub(crate) use looks::{Found, Question};
pub(crate) use outbound::MESSAGE_BYTES;

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
    Receiver(NodeId),
    Inbox,
    Membership,
    Election,
    Leaving,
    Record,
    Lifecycle,
    Admin,
    Looks,
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
    link: bool,
    /// Whether there was a connection before.
    was_linked: bool,
    /// Whether its server refuses something.
    is_denied: bool,
    lifecycle: Lifecycle,
    looks: Looks,
    outbound: Outbound<Rc<Row>>,
    settling: Settling,
    peers: Peers,
    inbound: Inbound<Content>,
    leadership: Option<Leadership>,
    askers: leadership::Askers,
    handing: BTreeMap<Source, inbound::Handing>,
    admin: Admin,
    /// By the numbers of the orders.
    executing: BTreeMap<u64, admin::Executing>,
    /// The channels for which there is a handler.
    handled_here: BTreeSet<ChannelName>,
    armed: BTreeMap<Timer, Duration>,
}

impl Process {
    /// A process from what the file held.
    pub(crate) fn start(world: &mut World, me: usize, run: u64, restored: Restored) -> Self {
        let id = world.machines[me].id.clone();
        let settings = world.machines[me].settings.clone();
        let start_ms = world.file_ms(me);
        let wall_ms = world.wall_ms(me);
        let incarnation = MessageId::after(MessageId::ZERO, wall_ms, world.dice.wide());
        let incarnation = Incarnation::from_u128(incarnation.as_u128());
        let now = Now { mono: world.instant(me), file_ms: start_ms };
        let identity = Identity {
            node: id.clone(),
            incarnation,
            host: "simulated".to_owned(),
            version: "0".to_owned(),
            elects: settings.election.is_some(),
        };
        let of_peers = peers::Restored {
            known: restored.peers,
            subscriptions: restored.subscriptions,
            left: restored.left,
            held: restored.draining.is_some(),
        };
        let limits = world.machines[me].limits;
        let looks = Looks::new(Limits { queue: limits.queue, rejects: !limits.drop_oldest });
        let peers = Peers::new(identity, settings.membership, of_peers, world.dice.draw(), now);
        let inbound = Inbound::new(id.clone(), settings.inbox, restored.inbox);
        let admin =
            Admin::new(id.clone(), incarnation, Management::Anyone, true, restored.draining);
        let leadership = settings.election.clone().map(|election| {
            let (me, seed) = ((id.clone(), incarnation), world.dice.draw());
            let audited = Audited { elections: true, states: true };
            let now = Now { mono: world.truly(), ..now };
            Leadership::new(me, election, restored.election, audited, seed, now)
        });
        let mut process = Self {
            me,
            id,
            run,
            link: false,
            was_linked: false,
            is_denied: false,
            lifecycle: Lifecycle::new(settings.cleanup_interval, now.mono, world.truly()),
            looks,
            outbound: Outbound::new(
                settings.delivery.clone(),
                world.dice.draw(),
                Origin::new(restored.stores, restored.last_id),
            ),
            settling: Settling::default(),
            peers,
            inbound,
            leadership,
            askers: leadership::Askers::default(),
            handing: BTreeMap::new(),
            admin,
            executing: BTreeMap::new(),
            handled_here: BTreeSet::new(),
            armed: BTreeMap::new(),
            settings,
        };
        let noted = std::mem::take(&mut world.machines[me].notes).into_values().collect();
        world.machines[me].notes = process.inbound.noted(noted).into_iter().collect();
        for (topic, row) in restored.topics {
            process.outbound.know_topic(topic, row.into());
        }
        let pending = restored.cursors.iter().map(|cursor| (&cursor.receiver, cursor.pending));
        process.looks.restored(now.mono, pending);
        for cursor in restored.cursors {
            process.with_outbound(world, |it, around| it.open(around, cursor.into()));
        }
        process.with_lifecycle(world, Lifecycle::start);
        process.with_looks(world, Looks::start);
        process.with_leadership(world, Leadership::woke);
        process.with_admin(world, Admin::start);
        process.readmit(world);
        process
    }

    /// Takes one input, and does all that follows from it at once. Returns whether a graceful stop is complete.
    pub(crate) fn take(&mut self, world: &mut World, input: Input) -> bool {
        if self.lifecycle.is_late(world.truly()) {
            self.with_lifecycle(world, Lifecycle::look);
        }
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
                    self.fired(world, timer);
                }
            }
            Input::Command(command) => self.command(world, command),
        }
        self.leave_soon(world);
        self.has_stopped(world)
    }

    pub(crate) fn file_ms(&self, world: &World) -> u64 {
        world.file_ms(self.me)
    }

    fn now(&self, world: &World) -> Now {
        Now { mono: world.instant(self.me), file_ms: self.file_ms(world) }
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

    fn fired(&mut self, world: &mut World, timer: Timer) {
        match timer {
            Timer::Receiver(node) => self.deliver(world, &node, delivery::Event::Woke),
            Timer::Inbox => self.receive(world, inbox::Event::Woke),
            Timer::Membership => self.meet(world, membership::Event::Woke),
            Timer::Election => self.with_leadership(world, Leadership::woke),
            Timer::Leaving => self.with_peers(world, Peers::leave_next),
            Timer::Record => self.with_outbound(world, Outbound::record),
            Timer::Lifecycle => self.with_lifecycle(world, Lifecycle::woke),
            Timer::Admin => self.with_admin(world, Admin::woke),
            Timer::Looks => self.with_looks(world, Looks::woke),
        }
    }

    fn frame(&mut self, world: &mut World, sent: &Sent) {
        match (sent.kind, sent.frame.clone()) {
            (Kind::Message, Frame::Messages(frame)) => self.messages(world, frame),
            (Kind::Ack, Frame::Answer(answer)) => {
                self.peers.spoke(self.now(world), &answer.from);
                self.answered(world, answer);
            }
            (Kind::Keepalive, Frame::Keepalive(keepalive)) => {
                if keepalive.from == self.id {
                    world.oracle.lives.hears_itself(self.me, keepalive.counter);
                }
                self.meet(world, membership::Event::Keepalive(keepalive));
            }
            (Kind::Management, Frame::Hello { nonce, keepalive }) => {
                self.meet(world, membership::Event::Hello { nonce, keepalive });
            }
            (Kind::Management, Frame::Welcome { nonce, keepalive }) => {
                self.meet(world, membership::Event::Welcome { nonce, keepalive });
            }
            (Kind::Order, Frame::Order(order)) => {
                let obeys = |it: &Leadership| it.obeys(world.truly(), &order.from, order.term);
                let by_master = self.leadership.as_ref().is_some_and(obeys);
                self.with_admin(world, |it, around| it.ordered(around, order, by_master));
            }
            (Kind::Management, Frame::Outcome(outcome)) => {
                self.with_admin(world, |it, around| it.outcome_came(around, outcome));
            }
            (Kind::Election, Frame::Election(frame)) => {
                self.with_leadership(world, |it, around| it.heard(around, frame));
            }
            (kind, frame) => world.violated(format!("{kind:?} carries {frame:?}")),
        }
    }

    fn given_up(&mut self, world: &mut World, node: &NodeId) {
        self.with_outbound(world, |it, around| it.given_up(around, node));
    }

    /// What the file told with its commits came before its answers, and is taken first.
    fn completed(&mut self, world: &mut World, work: Work, answer: Answer) {
        self.take_notices(world);
        let failed = matches!(answer, Answer::Failed);
        match work {
            Work::Accept { source, by: By::Runner, .. } => self.run_is_noted(world, source, failed),
            Work::Accept { source, id, by: By::Node, .. } => {
                let event = match failed {
                    false => inbox::Event::Committed { source, id },
                    true => inbox::Event::CommitFailed { source, id },
                };
                self.receive(world, event);
            }
            // `Message::ack` and `ack_in` tell their handler; what the file did not take is no fault of the message's.
            Work::Accept { source, id, .. } | Work::AcceptIn { source, id, .. } => {
                let done = if failed { Done::Returned } else { Done::Committed };
                world.handler_answered(self.me, self.run, source, id, done);
            }
            Work::Settle(..) => {
                self.with_outbound(world, |it, around| it.recorded(around, !failed));
            }
            Work::Subscribe(node, channel, _) => self.peers.subscribed(node, channel, !failed),
            Work::Unsubscribe(node, channel) => {
                self.given_up(world, &node);
                self.peers.unsubscribed(node, channel, !failed);
            }
            Work::Forget(node) => {
                self.given_up(world, &node);
                match failed {
                    false => self.with_peers(world, |it, around| it.forgotten(around, node)),
                    true => self.peers.not_forgotten(&node),
                }
            }
            Work::Purge(node, _) => self.given_up(world, &node),
            Work::Join(channel, mode, start) => {
                if let Answer::Joined { joined_ms } = answer {
                    if !self.may_join(&channel) {
                        // It was kicked while it joined.
                        world.submit(self.me, Work::Leave(channel.clone()));
                        return world.join_later(self.me, channel, mode, start);
                    }
                    let how = (mode, start);
                    self.with_peers(world, |it, around| {
                        it.joined(around, channel, how, joined_ms);
                    });
                }
            }
            Work::Leave(channel) if !failed && self.peers.has_joined(&channel) => {
                self.has_left(world, channel);
            }
            Work::RaiseLastId { from, .. } => match failed {
                false => world.submit(self.me, Work::NewStore { from }),
                true => self.outbound.no_new_store(),
            },
            Work::NewStore { from } => match answer {
                Answer::Store(store) => self.new_store(world, from, store),
                _ => self.outbound.no_new_store(),
            },
            Work::SaveElection { seq, record } => {
                if !failed {
                    world.oracle.elections.confirmed(self.me, &record);
                }
                self.with_leadership(world, |it, around| it.saved(around, seq, !failed));
            }
            Work::CleanUp => self.with_lifecycle(world, Lifecycle::cleaned),
            Work::ExpireUnclaimed => {
                let next_ms = match answer {
                    Answer::Expires(next_ms) => Ok(next_ms),
                    _ => Err(()),
                };
                let took = Duration::ZERO;
                self.with_looks(world, |it, around| it.expired(around, took, next_ms));
            }
            Work::NoteOrder(order) => {
                let result = if failed { Err(None) } else { Ok(()) };
                self.with_admin(world, |it, around| it.noted(around, *order, result));
            }
            Work::Step(key, _) => self.step_done(world, key, &answer),
            Work::Count => {
                let waiting = match answer {
                    Answer::Waiting(waiting) => Some(waiting),
                    _ => None,
                };
                self.with_admin(world, |it, around| it.waiting(around, waiting));
            }
            Work::Send(_) | Work::KnowPeer(..) | Work::Leave(_) | Work::NoteClock => {}
        }
    }

    /// What it has in memory, for a story that ends badly.
    pub(crate) fn memory(&self) -> String {
        let Self { id, outbound, settling, armed, .. } = self;
        format!("{id}: {outbound:#?}\n{settling:#?}\ntimers: {armed:?}")
    }

    /// What it has seen settled and not brought into the file.
    pub(crate) fn settling(&self) -> &Settling {
        &self.settling
    }

    /// Whether it believes that it has a connection.
    pub(crate) fn is_linked(&self) -> bool {
        self.link
    }

    /// Whether everything that it decided is in the file.
    pub(crate) fn is_settled(&self) -> bool {
        self.outbound.is_recorded(&self.settling) && !self.awaits_an_answer()
    }
}

/// The order that a topic's messages have for its receivers.
fn stream_of(topic: &Topic) -> Stream {
    Stream { channel: topic.channel.clone(), direct: topic.target.is_some(), lane: topic.lane }
}
