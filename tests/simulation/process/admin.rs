//! Orders: does what the part that decides about them wants done, one step of the file after the other.

use std::time::Duration;

use waypost::protocol::admin::{
    Admin, Answer as Answered, Around, Closed, Effect, Step, Work as Order,
};
use waypost::protocol::frame::Frame;
use waypost::protocol::orders::{Done, Task};
use waypost::protocol::outbound::Outbound;
use waypost::{ChannelName, NodeId};

use super::{Command, Process, Timer};
use crate::file::{Answer, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

/// How long an answer is waited for.
const WITHIN: Duration = Duration::from_secs(8);
/// An order that the file works at.
pub(super) struct Executing {
    order: Box<Order>,
    /// Steps that have been done.
    steps: usize,
    done: Done,
}

fn left_by(step: &Step) -> &[ChannelName] {
    match step {
        Step::Leave(channels) => channels,
        _ => &[],
    }
}

impl Process {
    /// Has it decided what follows from something, and does that, up to a crash.
    pub(super) fn with_admin<R>(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Admin, &mut Around<'_>) -> R,
    ) -> R {
        let (now, link, mut out) = (self.now(world), self.link, Vec::new());
        let Self { admin, peers, outbound, .. } = self;
        let receivers = || outbound.receivers().cloned().collect();
        let around =
            &mut Around { now, link, term: None, peers, receivers: &receivers, out: &mut out };
        let decided = decide(admin, around);
        for effect in out {
            if !world.goes_on(self.me) {
                break;
            }
            self.perform_for_admin(world, effect);
        }
        decided
    }

    fn perform_for_admin(&mut self, world: &mut World, effect: Effect) {
        match effect {
            Effect::Note { order, .. } => world.submit(self.me, Work::NoteOrder(order)),
            Effect::Close(closed) => self.close(world, &closed),
            Effect::Hold(held) => self.with_peers(world, |it, around| it.hold(around, held)),
            Effect::StandStill(receiver) => self.outbound.stand_still(receiver),
            Effect::GoOn(receiver) => self.given_up(world, &receiver),
            Effect::Execute(order) => self.execute(world, order),
            Effect::Left(channel) => {
                self.has_left(world, channel);
                if world.calm {
                    world.rejoin_later(self.me);
                }
            }
            Effect::Say { to, frame } => {
                let kind = match *frame {
                    Frame::Order(_) => Kind::Order,
                    _ => Kind::Management,
                };
                // A lost one is made good by the next.
                let _ = world.publish(self.me, Sent::new(kind, self.id.clone(), Some(to), *frame));
            }
            Effect::Answer { number, node, answer } => self.answer(world, number, &node, &answer),
            Effect::Report(query) => world.violated(format!("nobody asked {query:?}")),
            Effect::Count => {
                self.with_outbound(world, Outbound::record);
                world.submit(self.me, Work::Count);
            }
            Effect::WakeAt(at) => {
                let at = at.map(|at| world.since_base(at));
                self.arm(world, Timer::Admin, at);
            }
            Effect::Settled => self.tell_stalls(world),
            Effect::Enter(_) | Effect::Tell(_) => {}
        }
    }

    /// Once there are no faults any more, an operator readmits whoever was kept out.
    fn close(&mut self, world: &mut World, closed: &Closed) {
        if world.calm && *closed != Closed::default() {
            let command = Command::Order(self.id.clone(), Task::Readmit);
            world.command_later(self.me, command);
        }
    }

    /// The same, of what holds already.
    pub(super) fn readmit(&mut self, world: &mut World) {
        let closed = self.admin.closed().clone();
        self.close(world, &closed);
    }

    pub(super) fn give(&mut self, world: &mut World, to: NodeId, task: Task) {
        let number = world.dice.draw();
        self.with_admin(world, |it, around| it.give(around, number, to, task, WITHIN));
    }

    fn answer(&mut self, world: &mut World, number: u64, node: &NodeId, answer: &Answered) {
        let is_done = matches!(answer, Answered::Done(_));
        if let Err(what) = world.oracle.order_answered(&(self.id.clone(), number), is_done) {
            world.violated(format!("{} hears of {node} about its order: {what}", self.id));
        }
        if !is_done {
            // The file may have failed; it is tried again, as long as it is needed.
            self.readmit(world);
        }
    }

    fn execute(&mut self, world: &mut World, order: Box<Order>) {
        if let Err(what) = world.oracle.order_begins(order.key()) {
            world.violated(format!("{}: {what}", self.id));
        }
        for step in order.steps() {
            match step {
                Step::Forget(node) => self.forget(world, node.clone()),
                Step::Settle => self.with_outbound(world, Outbound::record),
                _ => {}
            }
        }
        let executing = Executing { order, steps: 0, done: Done::default() };
        self.next_step(world, executing);
    }

    fn next_step(&mut self, world: &mut World, executing: Executing) {
        let Executing { order, steps, done } = executing;
        if let Some(step) = order.steps().get(steps).cloned() {
            let key = order.key().1;
            self.executing.insert(key, Executing { order, steps, done });
            return world.submit(self.me, Work::Step(key, step));
        }
        world.oracle.order_is_done(order.key());
        let left: Vec<ChannelName> = order.steps().iter().flat_map(left_by).cloned().collect();
        self.with_admin(world, |it, around| it.executed(around, *order, Some(done)));
        if world.machines[self.me].fuse.is_none()
            && let Some(channel) = left.iter().find(|channel| self.peers.has_joined(channel))
        {
            world.violated(format!("{} reads {channel}, which it has left at an order", self.id));
        }
    }

    pub(super) fn step_done(&mut self, world: &mut World, key: u64, answer: &Answer) {
        let Some(mut executing) = self.executing.remove(&key) else { return };
        match *answer {
            Answer::Failed => {
                let order = *executing.order;
                return self.with_admin(world, |it, around| it.executed(around, order, None));
            }
            Answer::Waiting(waiting) => executing.done.waiting = waiting,
            _ => {}
        }
        executing.steps += 1;
        self.next_step(world, executing);
    }

    /// Whether this program may join it; one that may not asks again where nothing else goes wrong.
    pub(super) fn may_join(&self, channel: &ChannelName) -> bool {
        self.admin.closed().out_of(channel).is_none()
    }

    /// Whether messages are taken from its program.
    pub(crate) fn admits(&self, channel: &ChannelName) -> bool {
        self.may_join(channel) && self.admin.closed().draining.is_none()
    }
}
