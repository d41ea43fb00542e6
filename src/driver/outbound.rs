//! Sending: what the store commits goes to the deliveries, and what they decide is done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frames::Outgoing;
use super::jobs::Written;
use super::pages::BUFFER_BYTES_EACH;
use super::{Completion, DEAD_LETTER_PAUSE, Driver, SETTLE_EVERY, SETTLE_FEW, Timer};
use crate::condition::Health;
use crate::event::Event;
use crate::message::{Entry, MessageId, NodeId, StoreId, TopicId};
use crate::protocol::backoff::Backoff;
use crate::protocol::delivery::{self, Action, Delivery, Head, Limits, Settled};
use crate::protocol::frame::{Answer, MAX_HEADER_BYTES, Verdict};
use crate::protocol::inbox;
use crate::protocol::settling::{Position, Run};
use crate::spans;
use crate::store::{Attempt, Cursor, Notice, Topic};
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

impl<T: Transport> Driver<T> {
    pub(super) async fn take_notices(&mut self) {
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
                Notice::TopicOpened(topic) => self.know_topic(topic),
                Notice::CursorOpened(cursor) => self.open(cursor).await,
                Notice::CursorBehind(cursor) => {
                    self.pages.outdate();
                    let Cursor { receiver, topic, .. } = &cursor;
                    self.settling.runs().forget(receiver, *topic);
                    self.deliver(receiver, delivery::Event::Closed { topic: *topic }).await;
                    self.open(cursor).await;
                }
                Notice::CursorClosed { receiver, topic } => self.close(&receiver, topic).await,
                Notice::Appended(entry) => {
                    let more = || match notices.next_if(|next| matches!(next, Notice::Appended(_)))
                    {
                        Some(Notice::Appended(entry)) => Some(entry),
                        _ => None,
                    };
                    let run = std::iter::once(entry).chain(std::iter::from_fn(more));
                    self.appended(run.take(RUN).collect()).await;
                }
                Notice::Missed { end_seq } => {
                    self.deliver_all(|| delivery::Event::Missed { end_seq }).await;
                }
                Notice::Dropped { receiver, topic, up_to_seq, count } => {
                    let dropped = delivery::Event::Dropped { topic, up_to_seq, count };
                    self.deliver_first(&receiver, dropped).await;
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
                    self.pages.outdate();
                    self.receive(inbox::Event::Suspended).await;
                }
                Notice::Up { received } => {
                    let known = received.into_iter().map(super::restore::received).collect();
                    self.receive(inbox::Event::Resumed { known }).await;
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

    /// Says what was appended to all who read any of it.
    async fn appended(&mut self, entries: Vec<Arc<Entry>>) {
        let ends: BTreeMap<TopicId, u64> = entries.iter().map(|e| (e.topic, e.seq)).collect();
        let heads: Arc<[_]> = entries.into_iter().map(head).collect();
        for receiver in self.readers.appended(ends.clone()) {
            self.deliver(&receiver, delivery::Event::Appended(heads.clone())).await;
            let Some(delivery) = self.receivers.get(&receiver) else { continue };
            for topic in ends.keys().filter(|topic| delivery.may_sleep(**topic)) {
                self.readers.put_to_sleep(*topic, &receiver);
            }
        }
    }

    pub(super) fn know_topic(&mut self, topic: Topic) {
        let name = (topic.channel.clone(), topic.target.clone(), topic.lane);
        self.topic_names.insert(name, topic.topic);
        self.topics.insert(topic.topic, topic);
    }

    /// A receiver takes the messages of a topic from here on.
    pub(super) async fn open(&mut self, cursor: Cursor) {
        let Some(lane) = self.topics.get(&cursor.topic).map(|topic| topic.lane) else { return };
        let last_seq = if cursor.pending > 0 { cursor.last_seq } else { cursor.acked_seq };
        self.readers.add(cursor.topic, cursor.receiver.clone());
        let receiver = cursor.receiver;
        if !self.receivers.contains_key(&receiver) {
            self.add_receiver(&receiver).await;
        }
        let Cursor { topic, acked_seq, acked_id, skipped, failed, .. } = cursor;
        let at = Position { acked_seq, acked_id, skipped };
        let at = self.settling.runs().ahead(&receiver, topic, at);
        let opened = delivery::Event::Opened { topic, lane, at, last_seq };
        self.deliver(&receiver, opened).await;
        if let Some((seq, attempt)) = failed {
            self.deliver(&receiver, delivery::Event::Failed { topic, seq, attempt }).await;
        }
        if let Some(active) = self.is_active(&receiver, topic) {
            self.deliver(&receiver, delivery::Event::Activity { topic, active }).await;
        }
    }

    async fn add_receiver(&mut self, receiver: &NodeId) {
        let limits = self.delivery_limits();
        self.receivers.insert(
            receiver.clone(),
            Delivery::new(limits, fastrand::u64(..), self.origin.beginnings()),
        );
        if self.link {
            self.deliver(receiver, delivery::Event::LinkUp).await;
        }
        if self.membership.is_online(receiver) {
            self.deliver(receiver, delivery::Event::Online).await;
        }
    }

    pub(super) async fn close(&mut self, receiver: &NodeId, topic: TopicId) {
        self.readers.remove(topic, receiver);
        self.settling.runs().forget(receiver, topic);
        self.deliver_first(receiver, delivery::Event::Closed { topic }).await;
        self.let_go(receiver);
    }

    /// Lets go of a receiver that has no topic any more.
    pub(super) fn let_go(&mut self, receiver: &NodeId) {
        if self.holds.contains_key(receiver) {
            // A topic of its may be about to be opened.
            return;
        }
        if self.receivers.get(receiver).is_some_and(|delivery| delivery.topics().next().is_none()) {
            self.receivers.remove(receiver);
            self.ahead.forget(receiver);
            self.flights.forget(receiver);
            self.arm(Timer::Receiver(receiver.clone()), None);
        }
    }

    fn delivery_limits(&self) -> Limits {
        let config = &self.config;
        Limits {
            ack_timeout: config.ack_timeout,
            backoff: Backoff { first: config.retry_delay, cap: config.max_retry_delay },
            max_attempts: config.max_attempts.get(),
            frame_messages: config.batching.max_messages.get(),
            frame_bytes: config.max_payload_bytes,
            frame_header_bytes: MAX_HEADER_BYTES - FRAME_BYTES,
            frame_wait: config.batching.max_wait,
            buffer_messages: BUFFER_MESSAGES.max(FRAMES_AHEAD * config.batching.max_messages.get()),
            buffer_bytes: *BUFFER_BYTES_EACH.end(),
        }
    }

    /// Says this to one delivery, and does what it decides.
    pub(super) async fn deliver(&mut self, receiver: &NodeId, event: delivery::Event<Body>) {
        if let Some(hold) = self.holds.get_mut(receiver) {
            return hold.later.push(event);
        }
        self.deliver_together(receiver, vec![event]).await;
    }

    /// The same with several events of one moment.
    pub(super) async fn deliver_together(
        &mut self,
        receiver: &NodeId,
        events: Vec<delivery::Event<Body>>,
    ) {
        let slept = self.readers.wake(receiver).into_iter();
        let slept = slept.map(|(topic, end_seq)| delivery::Event::Slept { topic, end_seq });
        let mut together: Vec<_> = slept.chain(events).collect();
        let mut events = VecDeque::new();
        while !together.is_empty() {
            let now = self.now();
            let Some(delivery) = self.receivers.get_mut(receiver) else { return };
            let mut actions = Vec::new();
            delivery.handle_together(now, together.drain(..), &mut actions);
            for action in actions {
                events.extend(self.perform(receiver, action).await);
            }
            together.extend(events.pop_front());
        }
        let now = self.now();
        let wake_at = self.receivers.get(receiver).and_then(|delivery| delivery.wake_at(now));
        self.arm(Timer::Receiver(receiver.clone()), wake_at);
    }

    pub(super) async fn deliver_all(&mut self, event: impl Fn() -> delivery::Event<Body>) {
        let receivers: Vec<NodeId> = self.receivers.keys().cloned().collect();
        for receiver in receivers {
            self.deliver(&receiver, event()).await;
        }
    }

    async fn perform(
        &mut self,
        receiver: &NodeId,
        action: Action<Body>,
    ) -> Option<delivery::Event<Body>> {
        match action {
            Action::Load { token, lane, topics, max_messages } => {
                self.load(receiver.clone(), token, (lane, topics), max_messages)
            }
            Action::Publish { topic, heads, attempt, repeated, previous, skipped } => {
                let outgoing = Outgoing { receiver, topic, heads, attempt, previous, skipped };
                let id = outgoing.heads.first()?.id;
                let count = outgoing.heads.len();
                let span = spans::publish((&self.me, receiver), id, count, attempt);
                let _entered = span.entered();
                self.publish_messages(outgoing, repeated)
            }
            Action::Settle { topic, first_seq, last_seq, last_id, count, how } => {
                let receiver = receiver.clone();
                let at_ms = self.store.now_ms();
                let run = Run { receiver, topic, first_seq, last_seq, last_id, count, how, at_ms };
                self.note_settled(run);
                None
            }
            Action::Attempted { topic: _, seq, id, attempt, answer } => {
                let at_ms = self.store.now_ms();
                let receiver = receiver.clone();
                self.tell(Event::AttemptFailed {
                    receiver: receiver.clone(),
                    id,
                    attempt,
                    answer: answer.clone(),
                });
                self.settling.attempted(Attempt { receiver, seq, attempt, at_ms, answer });
                self.settle_soon();
                None
            }
            Action::Unanswered { topic: _, seq, id, attempt, times } => {
                self.unanswered(receiver, (seq, id), attempt, times);
                None
            }
            Action::WentBack { newest } => {
                self.go_back(receiver, newest);
                None
            }
            Action::Unmatched => {
                self.tally.unmatched_answers.add(1);
                None
            }
        }
    }

    /// The receiver is there, and says nothing about what it was sent.
    fn unanswered(
        &mut self,
        receiver: &NodeId,
        (seq, id): (u64, crate::message::MessageId),
        attempt: u32,
        times: u32,
    ) {
        let receiver = receiver.clone();
        self.tell(Event::Unanswered { receiver: receiver.clone(), id, times });
        let answer = format!("no answer ({times} in a row): it may have been handled");
        let at_ms = self.store.now_ms();
        self.settling.attempted(Attempt { receiver, seq, attempt, at_ms, answer });
        self.settle_soon();
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
                self.topics.get(&run.topic).map(|topic| Event::Expired {
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
        self.settling.runs().add(run);
        // Whoever hears of it may ask for its account at once.
        if let Some(told) = told {
            self.tell(told);
        }
        let is_last = !self.receivers.get(&receiver).is_some_and(Delivery::is_busy);
        if self.settling.runs().is_urgent() || (is_last && self.settled.receiver_count() > 0) {
            self.settle();
        } else {
            self.settle_soon();
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

    /// These settlements are in the file: what waited for it goes on.
    pub(super) async fn recorded(&mut self) {
        let written = self.settling.runs().written();
        for Run { receiver, topic, last_seq: up_to_seq, how, .. } in written {
            if how != Settled::Acknowledged {
                let recorded = delivery::Event::Recorded { topic, up_to_seq };
                self.deliver(&receiver, recorded).await;
            }
        }
    }

    /// Has what is settled written in a while: soon where it is much, somebody waits for it, or settled messages have to give way on a full
    /// disk.
    pub(super) fn settle_soon(&mut self) {
        let armed = self.armed.get(&Timer::Settle).copied();
        let many = self.settling.runs().is_many();
        if self.settle_running || (armed.is_some() && (!many || self.settle_retries)) {
            return;
        }
        let waited_for = self.settled.receiver_count() > 0;
        let few = !many && !waited_for && self.store.health() == Health::Healthy;
        let at = Instant::now() + if few { SETTLE_FEW } else { SETTLE_EVERY };
        if armed.is_none_or(|armed| at < armed) {
            self.arm(Timer::Settle, Some(at));
        }
    }

    /// Writes what has been settled since the last time, unless that is still being done.
    pub(super) fn settle(&mut self) {
        if self.settle_running {
            return;
        }
        self.arm(Timer::Settle, None);
        self.settle_retries = false;
        let waiters = std::mem::take(&mut self.settle_waiters);
        let (settlements, attempts) = self.settling.take();
        let store = self.store.clone();
        self.settle_running = true;
        self.jobs.push(Box::pin(async move {
            let result = match settlements.is_empty() && attempts.is_empty() {
                true => Ok(Written::Nothing),
                false => store.settle(settlements, attempts.clone()).await.map(|()| Written::Some),
            };
            Completion::Settled { result, attempts, waiters }
        }));
    }

    /// Our file turned out to be an older copy of itself: messages of this run travel under a new store id.
    fn go_back(&mut self, receiver: &NodeId, newest: crate::message::MessageId) {
        if std::mem::replace(&mut self.going_back, true) {
            return;
        }
        tracing::error!(node = %self.me, %receiver, %newest, "our file is an older copy of itself");
        self.tell(Event::OutboxWentBack { receiver: receiver.clone(), newest });
        let (store, from) = (self.store.clone(), self.origin.opened_at());
        self.jobs.push(Box::pin(async move {
            let result = match store.raise_last_id(newest).await {
                Ok(()) => store.new_store(from).await,
                Err(error) => Err(error),
            };
            Completion::NewStore { from, result }
        }));
    }

    pub(super) async fn new_store(&mut self, from: crate::message::MessageId, store: StoreId) {
        let from = self.origin.take(from, store);
        self.ahead.clear();
        self.deliver_all(|| delivery::Event::StoreChanged { from }).await;
        self.meet(crate::protocol::membership::Event::Changed).await;
    }

    pub(super) async fn answered(&mut self, answer: Answer) {
        match answer.verdict {
            Verdict::Ack => self.tally.acks_received.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_received.add(1),
        }
        let Answer { from, stream, id, last, verdict, store, .. } = answer;
        let target = stream.direct.then(|| from.clone());
        let Some(topic) = self.topic_names.get(&(stream.channel, target, stream.lane)).copied()
        else {
            return self.tally.unmatched_answers.add(1);
        };
        let judgement = self.origin.judge((&from, topic), store, id, last);
        let event =
            delivery::Event::Answered(delivery::Reply { topic, id, last, verdict, judgement });
        if self.receivers.contains_key(&from) {
            self.deliver(&from, event).await;
        } else {
            self.tally.unmatched_answers.add(1);
        }
    }

    /// Retries of what the store refused, after a pause.
    pub(super) fn settle_later(&mut self) {
        self.settle_retries = true;
        self.arm(Timer::Settle, Some(Instant::now() + Duration::from_millis(500)));
    }
}
