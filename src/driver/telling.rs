//! What is told to the node's monitors, its log and its counters.

use std::time::{Duration, Instant};

use super::Driver;
use crate::event::Event;
use crate::event::election::ElectionEvent;
use crate::message::{MessageId, NodeId};
use crate::protocol::delivery::Settled;
use crate::protocol::election::Notice;
use crate::protocol::settling::Run;
use crate::protocol::stalls::News;
use crate::transport::Transport;

/// Least time between two events about refused bytes, so that a stranger cannot drown the others.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// Between two log lines about dead letters: a receiver may refuse a hundred thousand messages.
const DEAD_LETTER_PAUSE: Duration = Duration::from_secs(10);

/// What has been told, as far as that is rationed.
#[derive(Default)]
pub(super) struct Told {
    refusal: Option<Instant>,
    dead_letter: Option<Instant>,
    /// Dead letters since then.
    dead_letters_untold: u64,
}

impl<T: Transport> Driver<T> {
    pub(super) fn tell(&self, event: Event) {
        self.count_and_log(&event);
        tracing::debug!(node = %self.me, ?event);
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    fn count_and_log(&self, event: &Event) {
        let (node, tally) = (&self.me, &self.tally);
        match event {
            Event::ExpiredUnclaimed { count, .. } | Event::Expired { count, .. } => {
                tally.expired.add(*count);
            }
            Event::DroppedUnclaimed { count, .. } => tally.dropped.add(*count),
            Event::Delivered { count, .. } => tally.delivered.add(*count),
            Event::Repeated { .. } => tally.repeated.add(1),
            Event::PeerLostItsFile { node: peer } => {
                tracing::warn!(%node, %peer, "a peer came back with another file");
            }
            Event::PeersFull { refused } => {
                tracing::warn!(%node, %refused, "no room for another peer: raise max_peers");
            }
            Event::Conflict { host, incarnation, stopped: false } => {
                tracing::error!(%node, host, %incarnation, "another node with our id is alive");
            }
            Event::OutboxWentBack { receiver, newest } => {
                tracing::error!(%node, %receiver, %newest, "our file is an older copy of itself");
            }
            Event::Drained => {
                tracing::warn!(%node, "nothing waits any more in this node, which is being drained");
            }
            Event::LimitNear(near) => tracing::warn!(%node, "{}", near.reason()),
            _ => {}
        }
    }

    pub(super) fn tell_of_stall(&self, news: News) {
        match news {
            News::Begins(reason) => {
                tracing::warn!(node = %self.me, "{reason}");
                self.tell(Event::Stalled { reason });
            }
            News::Ends(reason) => {
                tracing::warn!(node = %self.me, "{}", reason.over());
                self.tell(Event::Resumed { reason });
            }
        }
    }

    pub(super) fn tell_of_election(&self, notice: &Notice) {
        let event = ElectionEvent::from(notice);
        tracing::info!(node = %self.me, ?event, "election");
        if let Notice::OtherVoters { node } = notice {
            tracing::warn!(node = %self.me, other = %node, "its settings name other voters: give all nodes the same list");
        }
        self.outlets.tell(event.clone());
        self.tell(Event::Election(event));
    }

    /// Bytes from the network that are none of ours.
    pub(super) fn refuse(&mut self, from: Option<NodeId>, reason: String) {
        self.tally.refused_frames.add(1);
        let now = Instant::now();
        if self.told.refusal.is_none_or(|told| told + REFUSAL_PAUSE <= now) {
            self.told.refusal = Some(now);
            tracing::warn!(node = %self.me, ?from, reason, "refused bytes from the network");
            self.tell(Event::Refused { from, reason });
        }
    }

    /// Whoever hears of it may ask for its account at once.
    pub(super) fn settled(&mut self, run: Run) {
        let Run { receiver, topic, last_id: id, count, how, at_ms, .. } = run;
        match how {
            Settled::Acknowledged => {
                self.flights.acknowledged(self.store.meter(), (&receiver, topic), id, at_ms);
                self.tell(Event::Delivered { receiver, id, count });
            }
            Settled::Expired => {
                let Some(topic) = self.core.topic(topic) else {
                    return self.tally.expired.add(count);
                };
                let (channel, lane) = (topic.channel.clone(), topic.lane);
                self.tell(Event::Expired { receiver, channel, lane, id, count });
            }
            Settled::Dead { reason } => {
                self.tally.dead_lettered.add(count);
                self.log_dead_letter(&receiver, id, &reason);
                self.tell(Event::DeadLettered { receiver, id, reason });
            }
        }
    }

    fn log_dead_letter(&mut self, receiver: &NodeId, id: MessageId, reason: &str) {
        let (now, told) = (Instant::now(), &mut self.told);
        if told.dead_letter.is_some_and(|last| last + DEAD_LETTER_PAUSE > now) {
            told.dead_letters_untold += 1;
            tracing::debug!(node = %self.me, %receiver, %id, reason, "dead letter");
            return;
        }
        told.dead_letter = Some(now);
        let others = std::mem::take(&mut told.dead_letters_untold);
        tracing::warn!(node = %self.me, %receiver, %id, reason, others, "dead letter");
    }
}
