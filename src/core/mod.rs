//! The whole node as one machine: it is told what happened and when, and says what is to be done, in which order. It owns the parts that decide
//! (`protocol`), brings to each what concerns it, and does between them what follows from one for another. It waits for nothing, and does nothing
//! itself: `driver` performs what it says with a network, a file and handlers, and the simulation performs it in a world where all of those fail.
//!
//! Hidden, as `protocol` is: it is no part of the crate's interface.

use std::collections::VecDeque;
use std::ops::DerefMut;
use std::time::{Instant, SystemTime};

use crate::condition::Link;
use crate::message::{NodeId, TopicId};
use crate::protocol::Now;
use crate::protocol::admin::Admin;
use crate::protocol::frame::FrameMessage;
use crate::protocol::inbound::Inbound;
use crate::protocol::inbox::{Incoming, Source};
use crate::protocol::leadership::Leadership;
use crate::protocol::lifecycle::Lifecycle;
use crate::protocol::looks::Looks;
use crate::protocol::outbound::{Cursor, Outbound, Topic};
use crate::protocol::peers::Peers;
use crate::protocol::settling::Settling;
use crate::reason::Reason;

mod answered;
mod commands;
mod effect;
mod frames;
mod input;
mod link;
mod notices;
mod queries;
mod routes;

pub use effect::{Address, AuditRow, ELECTION, Effect, Job, NotDone, Output, Timer};
pub use input::{Answered, Command, Input, Notice, Port};
pub use link::ServerUp;

/// The moment of an input, by the clocks that matter.
#[derive(Debug, Clone, Copy)]
pub struct At {
    pub now: Now,
    /// By a clock that goes on while the machine is suspended, which `now.mono` need not do.
    pub counted: Instant,
    pub wall: SystemTime,
}

impl At {
    /// For those whose time passes while the machine is suspended: a lease, and who may give orders by it.
    fn of_leases(&self) -> Now {
        Now { mono: self.counted, ..self.now }
    }
}

/// What the core looks at while it decides, and does not own.
pub trait Outside {
    /// A message that waits to be sent, as the file has it.
    type Queued: Clone;
    /// A message on its way to its handlers.
    type Content;
    /// What has been settled and is not on record yet. The store's writer looks at it as well: it is held while something is decided, and never while
    /// anything is waited for.
    fn settling(&self) -> impl DerefMut<Target = Settling>;
    /// Whether somebody waits to hear what has been settled.
    fn is_awaited(&self) -> bool;
    /// Whether there is so little room that what is settled has to give way.
    fn is_tight(&self) -> bool;
    /// What hinders the file.
    fn hindrances(&self) -> Vec<Reason>;
    /// Whether the wall clock is far from what is known to have passed.
    fn wrong_clock(&self) -> Option<Reason>;
    /// Unpacks a message that is taken, or says why it cannot be. `attempt`: which one of its sender's this is.
    fn open(
        &self,
        source: &Source,
        message: FrameMessage,
        attempt: u32,
    ) -> Result<Incoming<Self::Content>, String>;
}

/// The parts of which it is made, from what the file held.
#[derive(Debug)]
pub struct Parts<B, C> {
    pub me: NodeId,
    pub outbound: Outbound<B>,
    pub inbound: Inbound<C>,
    pub peers: Peers,
    /// None: it takes part in no election.
    pub leadership: Option<Leadership>,
    pub admin: Admin,
    pub lifecycle: Lifecycle,
    pub looks: Looks,
}

/// A node.
#[derive(Debug)]
pub struct Core<B, C> {
    me: NodeId,
    /// Whether there is a connection, and how that is shown.
    link: bool,
    shown: Link,
    /// Most bytes of a frame that the server takes.
    max_frame: usize,
    outbound: Outbound<B>,
    inbound: Inbound<C>,
    peers: Peers,
    leadership: Option<Leadership>,
    admin: Admin,
    lifecycle: Lifecycle,
    looks: Looks,
}

/// One input's turn.
struct Turn<'a, O: Outside> {
    outside: &'a O,
    at: At,
    out: &'a mut VecDeque<Effect<O::Content>>,
}

impl<B: Clone, C> Core<B, C> {
    pub fn new(parts: Parts<B, C>) -> Self {
        let Parts { me, outbound, inbound, peers, leadership, admin, lifecycle, looks } = parts;
        let (link, shown, max_frame) = (false, Link::Connecting, usize::MAX);
        Self {
            me,
            link,
            shown,
            max_frame,
            outbound,
            inbound,
            peers,
            leadership,
            admin,
            lifecycle,
            looks,
        }
    }

    /// Takes up what the file held of topics, and of who is how far in them. Before any input.
    pub fn restore<O: Outside<Queued = B, Content = C>>(
        &mut self,
        (outside, at): (&O, At),
        topics: impl IntoIterator<Item = (TopicId, Topic)>,
        cursors: Vec<Cursor>,
        out: &mut VecDeque<Effect<C>>,
    ) {
        for (id, topic) in topics {
            self.outbound.know_topic(id, topic);
        }
        let pending = cursors.iter().map(|cursor| (&cursor.receiver, cursor.pending));
        self.looks.restored(at.now.mono, pending);
        let turn = &mut Turn { outside, at, out };
        for cursor in cursors {
            self.with_outbound(turn, |it, around| it.open(around, cursor));
        }
    }

    /// Decides what follows from this. Effects are performed in the order of the decisions. Where performing one tells something at once (a frame did not
    /// leave, a handler has ended, a receipt is written), that is said before the next is performed, and what follows from it is done
    /// after what is there already.
    pub fn handle<O: Outside<Queued = B, Content = C>>(
        &mut self,
        (outside, at): (&O, At),
        input: Input<B>,
        out: &mut VecDeque<Effect<C>>,
    ) {
        let turn = &mut Turn { outside, at, out };
        if self.lifecycle.is_late(at.counted) {
            // Before anything is handled: another may have taken our place.
            self.with_lifecycle(turn, Lifecycle::look);
        }
        match input {
            Input::Start => self.start(turn),
            Input::LinkUp(server) => self.link_up(turn, server),
            Input::LinkDown { reason, outage } => self.link_down(turn, reason, outage),
            Input::Unauthorized { reason } => self.unauthorized(turn, reason),
            Input::Denied { reason } => self.denied(turn, reason),
            Input::Room => {
                // Where nobody waits, nobody sends.
                let _ = self.with_outbound(turn, Outbound::send_next);
            }
            Input::RoomEnds => self.outbound.end_turns(),
            Input::Unsent { receiver, why } => {
                self.with_outbound(turn, |it, around| it.unsent(around, &receiver, why));
            }
            Input::Frame { port, from, frame } => self.frame(turn, (port, from), frame),
            Input::Notice(notice) => self.notice(turn, notice),
            Input::Answered(answered) => self.answered(turn, answered),
            Input::Finished { source, results } => {
                let finished = crate::protocol::inbox::Event::Finished { source, results };
                self.receive(turn, finished);
            }
            Input::ToldOfShutdown => self.with_leadership(turn, Leadership::told_of_shutdown),
            Input::Look => {}
            Input::Woke(timer) => self.woke(turn, timer),
            Input::LeaveNext => self.with_peers(turn, Peers::leave_next),
            Input::Command(command) => self.command(turn, command),
            Input::NotePeers => self.with_peers(turn, |it, around| it.note(around, None)),
            Input::Resign => {
                self.with_leadership(turn, Leadership::close);
                self.leadership = None;
            }
            Input::Goodbye => self.with_peers(turn, Peers::goodbye),
        }
    }

    fn start<O: Outside<Queued = B, Content = C>>(&mut self, turn: &mut Turn<'_, O>) {
        self.with_lifecycle(turn, Lifecycle::start);
        self.with_looks(turn, Looks::start);
        self.with_leadership(turn, Leadership::woke);
        self.with_admin(turn, Admin::start);
    }

    fn woke<O: Outside<Queued = B, Content = C>>(&mut self, turn: &mut Turn<'_, O>, timer: Timer) {
        match timer {
            Timer::Receiver(node) => {
                self.deliver(turn, &node, crate::protocol::delivery::Event::Woke)
            }
            Timer::Inbox => self.receive(turn, crate::protocol::inbox::Event::Woke),
            Timer::Membership => self.meet(turn, crate::protocol::membership::Event::Woke),
            Timer::Election => self.with_leadership(turn, Leadership::woke),
            Timer::Record => self.with_outbound(turn, Outbound::record),
            Timer::Lifecycle => self.with_lifecycle(turn, Lifecycle::woke),
            Timer::Admin => self.with_admin(turn, Admin::woke),
            Timer::Looks => self.with_looks(turn, Looks::woke),
        }
    }
}
