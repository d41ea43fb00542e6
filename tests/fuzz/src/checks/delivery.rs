//! One receiver's queues under forged answers, lost frames, purges and outages: each message is settled once (P2), in order
//! (P3), behind nothing that is not on record, with one frame open at a time (P4), by nobody's word but its receiver's about it
//! (P8), and all of them in the end.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use waypost::protocol::backoff::Backoff;
use waypost::protocol::delivery::{Action, Delivery, Event, Head, Limits, Reply, Settled, Unsent};
use waypost::protocol::frame::Verdict;
use waypost::protocol::origin::Origin;
use waypost::protocol::settling::Position;
use waypost::protocol::{Now, TopicId};
use waypost::{MessageId, NodeId, Priority, StoreId};

use super::choices::Choices;

const TOPICS: [(TopicId, Priority); 3] =
    [(TopicId(1), Priority::High), (TopicId(2), Priority::Normal), (TopicId(3), Priority::Normal)];
const STORE: StoreId = StoreId::from_u128(9);
/// More than this happens to no log of so many messages before all is settled.
const PATIENCE: usize = 20_000;

struct Model {
    delivery: Delivery<()>,
    receiver: NodeId,
    origin: Origin,
    start: Instant,
    now: Duration,
    log: Vec<Head<()>>,
    settled: BTreeMap<TopicId, u64>,
    /// What was settled without the receiver's word, and is not in the file yet.
    unrecorded: VecDeque<(TopicId, u64)>,
    /// The page that was asked for.
    page: Option<Page>,
    /// The frame that has neither been answered nor given up.
    open: Option<Open>,
    /// The last action was a publication: the transport can still refuse it.
    just_published: bool,
    /// What the event that is being handled says: the messages that it can acknowledge.
    acknowledges: Vec<MessageId>,
}

#[derive(Clone)]
struct Page {
    token: u64,
    /// Each from after this message.
    topics: Vec<(TopicId, u64)>,
    most: usize,
}

#[derive(Clone)]
struct Open {
    topic: TopicId,
    /// Its messages that are not settled.
    seqs: Vec<u64>,
    /// Those that were purged since it went out: the receiver can still refuse the frame by naming one of them.
    purged: Vec<u64>,
}

/// Bytes that choose what happens to a receiver's queues.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut model = Model::new(&mut choices);
    while !choices.is_empty() {
        model.step(&mut choices);
    }
    model.settles_in_the_end();
}

fn id(seq: u64) -> MessageId {
    MessageId::from_u128(u128::from(seq) * 3)
}

impl Model {
    fn new(choices: &mut Choices) -> Self {
        let limits = Limits {
            ack_timeout: Duration::from_secs(10),
            backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) },
            max_attempts: 3,
            frame_messages: 1 + choices.below(4),
            frame_bytes: 100,
            frame_header_bytes: 100_000,
            frame_wait: Duration::ZERO,
            buffer_messages: 4,
            buffer_bytes: 100,
        };
        let origin = Origin::new(vec![(MessageId::ZERO, STORE)], MessageId::ZERO);
        let mut model = Self {
            delivery: Delivery::new(limits, 1, vec![MessageId::ZERO]),
            receiver: NodeId::new("bob").expect("a valid name"),
            origin,
            start: Instant::now(),
            now: Duration::ZERO,
            log: Vec::new(),
            settled: TOPICS.iter().map(|(topic, _)| (*topic, 0)).collect(),
            unrecorded: VecDeque::new(),
            page: None,
            open: None,
            just_published: false,
            acknowledges: Vec::new(),
        };
        for (topic, _) in TOPICS {
            model.reopen(topic);
        }
        model
    }

    fn now(&self) -> Now {
        let file_ms = 1_000_000 + u64::try_from(self.now.as_millis()).expect("some decades");
        Now { mono: self.start + self.now, file_ms }
    }

    fn step(&mut self, choices: &mut Choices) {
        let (topic, _) = TOPICS[choices.below(TOPICS.len())];
        match choices.below(22) {
            0..=3 => self.append(topic, choices),
            4..=7 => self.answer(topic, choices),
            8 | 9 => self.load(choices),
            10 => self.say(Event::LinkUp),
            11 => self.say(Event::Online),
            12 | 13 => {
                let events =
                    [Event::Offline, Event::Heard, Event::LinkDown, Event::Restarted, Event::Woke];
                match events.into_iter().nth(choices.below(6)) {
                    Some(event) => self.say(event),
                    None => self.change_store(choices),
                }
            }
            14 if self.just_published => self.refuse_to_send(choices),
            14 | 15 => self.say(Event::Activity { topic, active: choices.below(4) > 0 }),
            16 => self.purge(topic, choices),
            17 if choices.below(8) == 0 => self.reopen(topic),
            17 | 18 => {
                let now = self.now();
                let wait =
                    self.delivery.wake_at(now).map(|at| at.saturating_duration_since(now.mono));
                self.now += wait.unwrap_or_default();
                self.say(Event::Woke);
            }
            19 | 20 => self.record(),
            _ => {
                self.now += choices.time();
                self.say(Event::Woke);
            }
        }
    }

    fn append(&mut self, topic: TopicId, choices: &mut Choices) {
        let seq = self.log.last().map_or(1, |head| head.seq + 1);
        let how = choices.byte();
        let ttl_ms = u64::from(how & 63) * 1000;
        let head = Head {
            seq,
            id: id(seq),
            topic,
            expires_ms: (how & 64 != 0).then(|| self.now().file_ms + ttl_ms),
            bytes: 10 + usize::from(how & 63),
            header_bytes: 5,
            // Damaged in the file.
            body: (how & 31 != 31).then_some(()),
        };
        self.log.push(head.clone());
        let shown = how & 128 == 0 && head.body.is_some();
        self.say(if shown {
            Event::Appended([head].into())
        } else {
            Event::Missed { end_seq: seq }
        });
    }

    /// Of a frame that is in flight only those before the change stay there, if there are any.
    fn change_store(&mut self, choices: &mut Choices) {
        let from = id(choices.number());
        if let Some(open) = &mut self.open {
            let before = open.seqs.partition_point(|seq| id(*seq) < from);
            if before > 0 {
                open.seqs.truncate(before);
            }
        }
        self.say(Event::StoreChanged { from });
    }

    /// From the receiver, or forged: about any message, under any store id.
    fn answer(&mut self, topic: TopicId, choices: &mut Choices) {
        let any = |choices: &mut Choices| match choices.below(3) {
            0 => MessageId::from_u128(choices.id()),
            _ => id(choices.number()),
        };
        let open = self.open.as_ref().and_then(|open| choices.pick(&open.seqs).copied());
        let about = match open.filter(|_| choices.coin()) {
            Some(seq) => id(seq),
            None => any(choices),
        };
        let last = choices.coin().then(|| any(choices));
        let store = if choices.below(4) == 0 { StoreId::from_u128(choices.id()) } else { STORE };
        let verdict = match choices.below(8) {
            0..=2 => Verdict::Ack,
            3 => Verdict::Working,
            4 => Verdict::Busy { retry_ms: choices.number() },
            5 => Verdict::Paused,
            6 => Verdict::Failed { detail: String::new() },
            _ => Verdict::Refused { detail: String::new() },
        };
        let unknown = choices.below(16) == 0;
        self.reply(if unknown { TopicId(77) } else { topic }, about, last, store, verdict);
    }

    fn reply(
        &mut self,
        topic: TopicId,
        about: MessageId,
        last: Option<MessageId>,
        store: StoreId,
        verdict: Verdict,
    ) {
        let judgement = self.origin.judge((&self.receiver, topic), store, about, last);
        self.acknowledges = match verdict {
            _ if store != STORE => Vec::new(),
            Verdict::Working => Vec::new(),
            Verdict::Ack => vec![about],
            _ => last.into_iter().filter(|last| *last < about).collect(),
        };
        if !matches!(verdict, Verdict::Ack | Verdict::Working) && store == STORE {
            // A refusal gives the frame back, where it is about one of its messages.
            self.open.take_if(|open| {
                open.topic == topic && open.seqs.iter().chain(&open.purged).any(|s| id(*s) == about)
            });
        }
        self.say(Event::Answered(Reply { topic, id: about, last, verdict, judgement }));
        self.acknowledges.clear();
    }

    fn load(&mut self, choices: &mut Choices) {
        let Some(Page { token, topics, most }) = self.page.clone() else {
            return self.say(Event::LoadFailed { token: choices.number() });
        };
        if choices.below(8) == 0 {
            self.page = None;
            return self.say(Event::LoadFailed { token });
        }
        let wanted = |head: &&Head<()>| {
            topics.iter().any(|(topic, after)| *topic == head.topic && head.seq > *after)
        };
        let heads: Vec<_> = self.log.iter().filter(wanted).take(most).cloned().collect();
        let end = heads.len() < most;
        let newest = self.log.last().map_or(0, |head| head.seq);
        let scanned_to = if end { newest } else { heads.last().map_or(newest, |head| head.seq) };
        self.page = None;
        self.say(Event::Loaded { token, topics, heads, scanned_to, end });
    }

    fn refuse_to_send(&mut self, choices: &mut Choices) {
        let reason = match choices.below(3) {
            0 => Unsent::Busy,
            1 => Unsent::NotConnected,
            _ => {
                self.open = None;
                Unsent::TooLarge { size: 2, limit: 1 }
            }
        };
        self.say(Event::Unsent(reason));
    }

    fn purge(&mut self, topic: TopicId, choices: &mut Choices) {
        let settled = self.settled[&topic];
        let up_to_seq = choices.number().min(self.log.last().map_or(0, |head| head.seq));
        let gone =
            |head: &&Head<()>| head.topic == topic && head.seq > settled && head.seq <= up_to_seq;
        let count = self.log.iter().filter(gone).count() as u64;
        let purged = match self.open.as_ref().filter(|open| open.topic == topic) {
            Some(open) => open.seqs.iter().copied().filter(|seq| *seq <= up_to_seq).collect(),
            None => Vec::new(),
        };
        self.settle(topic, settled.max(up_to_seq));
        if let Some(open) = &mut self.open {
            open.purged.extend(purged);
        }
        self.say(Event::Dropped { topic, up_to_seq, count });
    }

    /// The file has taken the oldest settlement that it was told.
    fn record(&mut self) {
        if let Some((topic, up_to_seq)) = self.unrecorded.pop_front() {
            self.say(Event::Recorded { topic, up_to_seq });
        }
    }

    /// The file tells a cursor, new, or anew where it was: what is in flight stays there, and what is not on record is still waited for.
    fn reopen(&mut self, topic: TopicId) {
        let of_topic = |head: &&Head<()>| head.topic == topic;
        let last_seq = self.log.iter().rfind(of_topic).map_or(0, |head| head.seq);
        let lane = TOPICS.iter().find(|(t, _)| *t == topic).expect("one of ours").1;
        let at = Position { acked_seq: self.settled[&topic], acked_id: None, skipped: 0 };
        self.say(Event::Opened { topic, lane, at, last_seq });
    }

    fn settle(&mut self, topic: TopicId, seq: u64) {
        self.settled.insert(topic, seq);
        if let Some(open) = self.open.as_mut().filter(|open| open.topic == topic) {
            open.seqs.retain(|s| *s > seq);
        }
        self.open.take_if(|open| open.seqs.is_empty());
    }

    fn say(&mut self, event: Event<()>) {
        let (now, mut actions) = (self.now(), Vec::new());
        self.delivery.handle(now, event, &mut actions);
        self.just_published = matches!(actions.last(), Some(Action::Publish { .. }));
        for action in actions {
            self.judge(action);
        }
        let wake_at = self.delivery.wake_at(now);
        assert!(wake_at.is_none_or(|at| at > now.mono), "a timer that is due was not acted upon");
    }

    fn judge(&mut self, action: Action<()>) {
        match action {
            Action::Load { token, topics, max_messages: most, .. } => {
                assert!(self.page.is_none() && most > 0, "one page at a time");
                self.page = Some(Page { token, topics, most });
            }
            Action::Publish { topic, heads, .. } => self.published(topic, &heads),
            Action::Settle { topic, first_seq, last_seq, last_id, count, how } => {
                let settled = self.settled[&topic];
                let these = |head: &&Head<()>| {
                    head.topic == topic && head.seq > settled && head.seq <= last_seq
                };
                let these: Vec<_> = self.log.iter().filter(these).collect();
                assert_eq!(these.len() as u64, count, "each message is settled once");
                assert_eq!(these.first().map(|head| head.seq), Some(first_seq));
                assert_eq!(these.last().map(|head| head.id), Some(last_id));
                if how != Settled::Acknowledged {
                    self.unrecorded.push_back((topic, last_seq));
                }
                match how {
                    Settled::Acknowledged => {
                        assert!(
                            self.acknowledges.contains(&last_id),
                            "nobody acknowledged {last_id}"
                        );
                    }
                    Settled::Expired => {
                        let file_ms = self.now().file_ms;
                        assert!(these.iter().all(|h| h.expires_ms.is_some_and(|at| at <= file_ms)));
                    }
                    Settled::Dead { .. } => {
                        assert_eq!(count, 1);
                        // A frame whose first message is given up is sent anew without it.
                        self.open.take_if(|open| open.topic == topic);
                    }
                }
                self.settle(topic, last_seq);
            }
            Action::Unanswered { attempt, times, .. } => {
                assert!(times > 0 && (1..=3).contains(&attempt));
            }
            Action::Attempted { attempt, .. } => assert!((1..=3).contains(&attempt)),
            Action::WentBack { .. } | Action::Unmatched => {}
        }
    }

    fn published(&mut self, topic: TopicId, heads: &[Head<()>]) {
        let seqs: Vec<u64> = heads.iter().map(|head| head.seq).collect();
        self.origin.sent(&self.receiver, topic, id(seqs.last().copied().unwrap_or(0)));
        let settled = self.settled[&topic];
        let next = self.log.iter().filter(|head| head.topic == topic && head.seq > settled);
        let next: Vec<u64> = next.take(seqs.len()).map(|head| head.seq).collect();
        assert_eq!(seqs, next, "the next messages, in order, and none that is settled");
        let recorded = self.unrecorded.iter().all(|(other, _)| *other != topic);
        assert!(recorded, "it is not in the file yet what became of the messages before it");
        assert!(!seqs.is_empty() && heads.iter().all(|head| head.body.is_some()));
        if let Some(open) = &self.open {
            assert_eq!((open.topic, &open.seqs), (topic, &seqs), "one frame at a time");
        }
        self.open = Some(Open { topic, seqs, purged: Vec::new() });
    }

    /// Once the receiver answers what it is sent, nothing waits for ever.
    fn settles_in_the_end(&mut self) {
        self.say(Event::LinkUp);
        self.say(Event::Online);
        for (topic, _) in TOPICS {
            self.say(Event::Activity { topic, active: true });
        }
        let waits =
            |model: &Self| model.log.iter().any(|head| head.seq > model.settled[&head.topic]);
        for _ in 0..PATIENCE {
            if !waits(self) {
                return;
            }
            if !self.unrecorded.is_empty() {
                self.record();
            } else if self.page.is_some() {
                self.load(&mut Choices::new(&[1]));
            } else if let Some(Open { topic, seqs, .. }) = self.open.clone() {
                let newest = id(*seqs.last().expect("not empty"));
                self.reply(topic, newest, Some(newest), STORE, Verdict::Ack);
            } else {
                let now = self.now();
                let at = self.delivery.wake_at(now).expect("something waits, so does a timer");
                self.now += at.saturating_duration_since(now.mono);
                self.say(Event::Woke);
            }
        }
        panic!("not settled: {:?} of {:?}", self.settled, self.log);
    }
}
