//! Sending: what the store commits goes to the deliveries, and what they decide is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::jobs::Written;
use super::{Completion, DEAD_LETTER_PAUSE, Driver, Timer};
use crate::condition::Health;
use crate::config::Config;
use crate::event::Event;
use crate::message::{Entry, MessageId, NodeId, StoreId};
use crate::protocol::backoff::Backoff;
use crate::protocol::delivery::{self, Head, Limits, Settled, Unsent};
use crate::protocol::frame::{Answer, MAX_HEADER_BYTES, Verdict};
use crate::protocol::inbox;
use crate::protocol::outbound::{self, Around, BUFFER_BYTES_EACH, Effect, Outbound};
use crate::protocol::settling::{Attempt, Position, Run};
use crate::store::{Cursor, Notice, Settlement, Topic};
use crate::transport::Transport;

/// Messages of one queue that are kept in memory: enough that the next page is there before they run out.
const BUFFER_MESSAGES: usize = 256;
/// The same in frames, where these hold many.
const FRAMES_AHEAD: usize = 8;
/// What a message costs in a frame's header besides its own headers, at most: names, numbers and the kind.
const MESSAGE_BYTES: usize = 256;
/// Most messages that are shown to the receivers at once, so that the first of them does not wait for a whole full mailbox.
const RUN: usize = 256;
/// A frame's own part of its header, at most: two node ids, a channel whose every character is escaped, numbers.
const FRAME_BYTES: usize = 4 * 1024;

pub(super) type Body = Arc<Entry>;

pub(super) fn head(entry: Arc<Entry>) -> Head<Body> {
    // In JSON every character of a header may be escaped, and has quotes around it.
    let own = entry.headers.iter().map(|(name, value)| name.len() + 2 * value.len() + 6);
    let header_bytes = MESSAGE_BYTES + own.sum::<usize>();
    Head {
        seq: entry.seq,
        id: entry.id,
        topic: entry.topic,
        expires_ms: entry.expires_ms,
        bytes: entry.body.data.len() + header_bytes,
        header_bytes,
        body: Some(entry),
    }
}

pub(super) fn delivery_limits(config: &Config) -> Limits {
    Limits {
        ack_timeout: config.ack_timeout,
        backoff: Backoff { first: config.retry_delay, cap: config.max_retry_delay },
        max_attempts: config.max_attempts.get(),
        frame_messages: config.batching.max_messages.get(),
        frame_bytes: config.max_payload_bytes,
        frame_header_bytes: MAX_HEADER_BYTES - FRAME_BYTES,
        frame_wait: config.batching.max_wait,
        buffer_messages: BUFFER_MESSAGES.max(FRAMES_AHEAD * config.batching.max_messages.get()),
        buffer_bytes: BUFFER_BYTES_EACH,
    }
}

impl From<Topic> for outbound::Topic {
    fn from(Topic { channel, target, lane, .. }: Topic) -> Self {
        Self { channel, target, lane }
    }
}

impl From<Cursor> for outbound::Cursor {
    fn from(cursor: Cursor) -> Self {
        let Cursor { receiver, topic, acked_seq, acked_id, pending, skipped, failed, last_seq } =
            cursor;
        let at = Position { acked_seq, acked_id, skipped };
        Self { receiver, topic, at, pending, last_seq, failed }
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn take_notices(&mut self) {
        let mut notices = self.notices.take().into_iter().peekable();
        while let Some(notice) = notices.next() {
            if matches!(
                notice,
                Notice::Dropped { .. }
                    | Notice::DroppedUnclaimed { .. }
                    | Notice::ExpiredUnclaimed { .. }
            ) {
                self.settled.send_modify(|changes| *changes += 1);
            }
            match notice {
                Notice::TopicOpened(topic) => self.outbound.know_topic(topic.topic, topic.into()),
                Notice::CursorOpened(cursor) => {
                    self.with_outbound(|it, around| it.open(around, cursor.into()));
                }
                Notice::CursorBehind(cursor) => {
                    self.with_outbound(|it, around| it.begin_anew(around, cursor.into()));
                }
                Notice::CursorClosed { receiver, topic } => {
                    self.with_outbound(|it, around| it.close(around, &receiver, topic));
                }
                Notice::Appended(entry) => {
                    let more = || match notices.next_if(|next| matches!(next, Notice::Appended(_)))
                    {
                        Some(Notice::Appended(entry)) => Some(entry),
                        _ => None,
                    };
                    let run = std::iter::once(entry).chain(std::iter::from_fn(more));
                    let heads = run.take(RUN).map(head).collect();
                    self.with_outbound(|it, around| it.appended(around, heads));
                }
                Notice::Missed { end_seq } => {
                    self.deliver_all(|| delivery::Event::Missed { end_seq });
                }
                Notice::Dropped { receiver, topic, up_to_seq, count } => {
                    let what = (topic, up_to_seq, count);
                    self.with_outbound(|it, around| it.dropped(around, &receiver, what));
                    self.tell(Event::Dropped { receiver, count });
                }
                Notice::DroppedUnclaimed { channel, count } => {
                    self.tally.dropped.add(count);
                    self.tell(Event::DroppedUnclaimed { channel, count });
                }
                Notice::ExpiredUnclaimed { channel, count } => {
                    self.tally.expired.add(count);
                    self.tell(Event::ExpiredUnclaimed { channel, count });
                }
                Notice::UnclaimedExpires { at_ms } => self.unclaimed_expires(at_ms),
                Notice::Filling => self.look_for_laggards_soon(),
                Notice::Down => {
                    self.outbound.outdate_pages();
                    self.receive(inbox::Event::Suspended);
                }
                Notice::Up { received } => {
                    let known = received.into_iter().map(super::inbound::received).collect();
                    self.receive(inbox::Event::Resumed { known });
                }
                Notice::StorageFull => self.storage_changed(Event::StorageFull),
                Notice::StorageLimitReached(storage) => {
                    self.storage_changed(Event::StorageLimitReached(storage));
                }
                Notice::StorageRecovered => self.storage_changed(Event::StorageRecovered),
                Notice::StorageFailed(reason) => {
                    self.storage_changed(Event::StorageFailed { reason });
                }
                Notice::LogHeld { bytes, readers } => {
                    self.storage_changed(Event::LogHeld { bytes, readers });
                }
                Notice::LogReleased => self.tell_stalls(),
                Notice::LogCut(cut) => self.tell(Event::LogCut(cut)),
                Notice::ClockJumped { by_ms } => {
                    self.storage_changed(Event::ClockJumped { by_ms });
                }
            }
        }
    }

    /// Has it decided what follows from something, and does that.
    pub(super) fn with_outbound<R>(
        &mut self,
        decide: impl FnOnce(&mut Outbound<Body>, &mut Around<'_>) -> R,
    ) -> R {
        let (decided, effects) = self.decide(decide);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let Some((receiver, why)) = self.perform(effect) else { continue };
            let ((), first) = self.decide(|it, around| it.unsent(around, &receiver, why));
            first.into_iter().rev().for_each(|effect| effects.push_front(effect));
        }
        decided
    }

    fn decide<R>(
        &mut self,
        decide: impl FnOnce(&mut Outbound<Body>, &mut Around<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let (now, mut out) = (self.now(), Vec::new());
        // Held while something is decided, and never while anything is waited for: the store's writer may want it.
        let mut settling = self.settling.lock();
        let around = &mut Around {
            now,
            link: self.link,
            peers: &self.peers,
            settling: &mut settling,
            awaited: self.settled.receiver_count() > 0,
            tight: self.store.health() != Health::Healthy,
            out: &mut out,
        };
        let decided = decide(&mut self.outbound, around);
        self.outbound.finish(around);
        (decided, out)
    }

    /// Says this to one delivery.
    pub(super) fn deliver(&mut self, receiver: &NodeId, event: delivery::Event<Body>) {
        self.with_outbound(|it, around| it.deliver(around, receiver, event));
    }

    pub(super) fn deliver_all(&mut self, event: impl Fn() -> delivery::Event<Body>) {
        self.with_outbound(|it, around| it.deliver_all(around, event));
    }

    /// Whose frame did not leave, and why.
    fn perform(&mut self, effect: Effect) -> Option<(NodeId, Unsent)> {
        match effect {
            Effect::Publish { receiver } => {
                let why = self.publish_messages(&receiver).err()?;
                return Some((receiver, why));
            }
            Effect::Load { age, request } => self.load(age, request),
            Effect::Settled(run) => self.note_settled(run),
            Effect::Attempted { receiver, id, attempt, answer } => {
                self.tell(Event::AttemptFailed { receiver, id, attempt, answer });
            }
            Effect::Unanswered { receiver, id, times } => {
                self.tell(Event::Unanswered { receiver, id, times });
            }
            Effect::Record { runs, attempts } => self.record(runs, attempts),
            Effect::RecordAt { at } => self.arm(Timer::Record, at),
            Effect::WentBack { receiver, newest, from } => self.go_back(&receiver, newest, from),
            Effect::Unmatched => self.tally.unmatched_answers.add(1),
            Effect::Wake { receiver } => {
                let at = self.outbound.wake_at(&receiver, self.now());
                self.arm(Timer::Receiver(receiver), at);
            }
            Effect::Gone { receiver } => {
                self.ahead.forget(&receiver);
                self.flights.forget(&receiver);
                self.arm(Timer::Receiver(receiver), None);
            }
        }
        None
    }

    fn note_settled(&mut self, run: Run) {
        let (receiver, id, count) = (run.receiver.clone(), run.last_id, run.count);
        let told = match &run.how {
            Settled::Acknowledged => {
                self.tally.delivered.add(count);
                let whose = (&receiver, run.topic);
                self.flights.acknowledged(self.store.meter(), whose, id, run.at_ms);
                Some(Event::Delivered { receiver: receiver.clone(), id, count })
            }
            Settled::Expired => {
                self.tally.expired.add(count);
                self.outbound.topic(run.topic).map(|topic| Event::Expired {
                    receiver: receiver.clone(),
                    channel: topic.channel.clone(),
                    lane: topic.lane,
                    id,
                    count,
                })
            }
            Settled::Dead { reason } => {
                self.tally.dead_lettered.add(count);
                let (receiver, reason) = (receiver.clone(), reason.clone());
                self.log_dead_letter(&receiver, id, &reason);
                Some(Event::DeadLettered { receiver, id, reason })
            }
        };
        // Whoever hears of it may ask for its account at once.
        if let Some(told) = told {
            self.tell(told);
        }
    }

    fn log_dead_letter(&mut self, receiver: &NodeId, id: MessageId, reason: &str) {
        let now = Instant::now();
        if self.dead_letter_told.is_some_and(|told| told + DEAD_LETTER_PAUSE > now) {
            self.dead_letters_untold += 1;
            tracing::debug!(node = %self.me, %receiver, %id, reason, "dead letter");
            return;
        }
        self.dead_letter_told = Some(now);
        let others = std::mem::take(&mut self.dead_letters_untold);
        tracing::warn!(node = %self.me, %receiver, %id, reason, others, "dead letter");
    }

    /// Has all written that is settled and not on record, or what came since when that is being done.
    pub(super) fn settle(&mut self) {
        self.with_outbound(Outbound::record);
    }

    fn record(&mut self, runs: Vec<Run>, attempts: Vec<Attempt>) {
        let waiters = std::mem::take(&mut self.settle_waiters);
        if runs.is_empty() && attempts.is_empty() {
            let nothing = std::future::ready(Ok(Written::Nothing));
            return self.await_job(nothing, |result| Completion::Settled { result, waiters });
        }
        let settlements = runs.into_iter().map(Settlement::from).collect();
        let answer = self.store.settle(settlements, attempts);
        self.await_job(answer, |result| {
            let result = result.map(|()| Written::Some);
            Completion::Settled { result, waiters }
        });
    }

    /// Our file turned out to be an older copy of itself: messages of this run travel under a new store id.
    fn go_back(&mut self, receiver: &NodeId, newest: MessageId, from: MessageId) {
        tracing::error!(node = %self.me, %receiver, %newest, "our file is an older copy of itself");
        self.tell(Event::OutboxWentBack { receiver: receiver.clone(), newest });
        let answer = self.store.new_store(from, newest);
        self.await_job(answer, move |result| Completion::NewStore { from, result });
    }

    pub(super) fn new_store(&mut self, from: MessageId, store: StoreId) {
        self.ahead.clear();
        self.with_outbound(|it, around| it.new_store(around, from, store));
        self.meet(crate::protocol::membership::Event::Changed);
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        match answer.verdict {
            Verdict::Ack => self.tally.acks_received.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_received.add(1),
        }
        self.with_outbound(|it, around| it.answered(around, answer));
    }
}
