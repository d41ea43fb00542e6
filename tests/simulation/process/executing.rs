//! Orders that are obeyed: one step of the file after the other.

use waypost::ChannelName;
use waypost::core::{Answered, Input};
use waypost::protocol::admin::{Step, Work as Order};
use waypost::protocol::orders::Done;

use super::Process;
use crate::file::{Answer, Work};
use crate::world::World;

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
    pub(super) fn execute(&mut self, world: &mut World, order: Box<Order>) {
        if let Err(what) = world.oracle.order_begins(order.key()) {
            world.violated(format!("{}: {what}", self.id));
        }
        for step in order.steps() {
            if let Step::Forget(node) = step {
                world.submit(self.me, Work::Forget(node.clone()));
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
        self.say(world, Input::Answered(Answered::Executed { work: order, done: Some(done) }));
        if world.machines[self.me].fuse.is_none()
            && let Some(channel) = left.iter().find(|channel| self.core.has_joined(channel))
        {
            world.violated(format!("{} reads {channel}, which it has left at an order", self.id));
        }
        if world.calm && !left.is_empty() {
            world.rejoin_later(self.me);
        }
    }

    pub(super) fn step_done(&mut self, world: &mut World, key: u64, answer: &Answer) {
        let Some(mut executing) = self.executing.remove(&key) else { return };
        match *answer {
            Answer::Failed => {
                let work = executing.order;
                let failed = Answered::Executed { work, done: None };
                return self.say(world, Input::Answered(failed));
            }
            Answer::Waiting(waiting) => executing.done.waiting = waiting,
            _ => {}
        }
        executing.steps += 1;
        self.next_step(world, executing);
    }
}
