//! Giving up what waits for a receiver, because it left, is forgotten, or its messages are purged.
//!
//! What it acknowledged before stays acknowledged: the store takes over what is known before it gives up the rest, and from the order to its
//! commit the receiver's deliveries stand still, so that nothing becomes known in between.

use super::{Around, Event, Outbound};
use crate::message::{NodeId, TopicId};

/// What happens to a receiver's deliveries while they stand still.
#[derive(Debug)]
pub(super) struct Hold<B> {
    /// So many jobs of the store give something up.
    jobs: usize,
    /// What these jobs came to, which is told before the rest.
    first: Vec<Event<B>>,
    pub(super) later: Vec<Event<B>>,
}

impl<B> Default for Hold<B> {
    fn default() -> Self {
        Self { jobs: 0, first: Vec::new(), later: Vec::new() }
    }
}

impl<B: Clone> Outbound<B> {
    /// The store is about to give up what waits for this receiver: the deliveries to it stand still until [`given_up`](Self::given_up).
    pub fn stand_still(&mut self, receiver: NodeId) {
        self.holds.entry(receiver).or_default().jobs += 1;
    }

    /// A job for which this one was held has ended, in one way or another; what the store told of it was said before.
    pub fn given_up(&mut self, around: &mut Around<'_>, receiver: &NodeId) {
        let Some(hold) = self.holds.get_mut(receiver) else { return };
        hold.jobs = hold.jobs.saturating_sub(1);
        if hold.jobs > 0 {
            return;
        }
        let Hold { first, later, .. } = self.holds.remove(receiver).unwrap_or_default();
        self.deliver_together(around, receiver, first);
        for event in later {
            self.deliver(around, receiver, event);
        }
        self.let_go(around, receiver);
    }

    /// A topic that was opened since this receiver was held is closed: it never was open, as far as its delivery goes.
    pub(super) fn never_opened(&mut self, receiver: &NodeId, closed: TopicId) {
        if let Some(hold) = self.holds.get_mut(receiver) {
            let opens =
                |event: &Event<B>| matches!(event, Event::Opened { topic, .. } if *topic == closed);
            hold.later.retain(|event| !opens(event));
        }
    }

    /// Says what the store gave up, before anything that happened meanwhile.
    pub(super) fn deliver_first(
        &mut self,
        around: &mut Around<'_>,
        receiver: &NodeId,
        event: Event<B>,
    ) {
        match self.holds.get_mut(receiver) {
            Some(hold) => hold.first.push(event),
            None => self.deliver(around, receiver, event),
        }
    }
}
