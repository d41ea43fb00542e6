//! P2: nothing vanishes. Random histories, compared with a naive model that keeps a state for every message and receiver.

use super::*;
use crate::inspect::Inspector;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NODES: [&str; 3] = ["a", "b", "c"];
const CHANNELS: [&str; 2] = ["x", "y"];
const LIMIT: usize = 6;
const RETENTION_MS: u64 = 15_000;

#[derive(Debug, Clone)]
enum Op {
    Send { channel: usize, target: Option<usize>, high: bool, ttl_ms: Option<u64>, count: usize },
    Settle { receiver: usize, topic: usize, count: usize, outcome: u8, stale: bool },
    Subscribe { node: usize, channel: usize, start: Start },
    Unsubscribe { node: usize, channel: usize },
    Forget { node: usize },
    Purge { node: usize, channel: Option<usize> },
    Wait { ms: u64 },
    Cleanup,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let ttl = prop_oneof![Just(None), (1_u64..20_000).prop_map(Some)];
    let send =
        (0..2_usize, prop::option::weighted(0.2, 0..3_usize), any::<bool>(), ttl, 1..4_usize)
            .prop_map(|(channel, target, high, ttl_ms, count)| Op::Send {
                channel,
                target,
                high,
                ttl_ms,
                count,
            });
    let settle = (0..3_usize, 0..8_usize, 1..5_usize, 0..4_u8, any::<bool>()).prop_map(
        |(receiver, topic, count, outcome, stale)| Op::Settle {
            receiver,
            topic,
            count,
            outcome,
            stale,
        },
    );
    let start = prop_oneof![
        Just(Start::Now),
        Just(Start::All),
        (0_u64..30_000).prop_map(|age_ms| Start::Since { age_ms })
    ];
    let subscribe = (0..3_usize, 0..2_usize, start)
        .prop_map(|(node, channel, start)| Op::Subscribe { node, channel, start });
    prop_oneof![
        8 => send,
        8 => settle,
        4 => subscribe,
        1 => (0..3_usize, 0..2_usize).prop_map(|(node, channel)| Op::Unsubscribe { node, channel }),
        1 => (0..3_usize).prop_map(|node| Op::Forget { node }),
        1 => (0..3_usize, prop::option::of(0..2_usize)).prop_map(|(node, channel)| Op::Purge { node, channel }),
        3 => (1_u64..10_000).prop_map(|ms| Op::Wait { ms }),
        2 => Just(Op::Cleanup),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Acknowledged,
    Expired,
    Dead,
    Purged,
}

/// Every message that was ever meant for a receiver, and what became of it; by topic.
#[derive(Debug, Default)]
struct Model {
    fates: BTreeMap<NodeId, BTreeMap<i64, BTreeMap<u64, State>>>,
    /// Where a reader that left a topic was.
    left_at: BTreeMap<(NodeId, i64), u64>,
    subscribed: BTreeSet<(usize, usize)>,
    /// When each dead letter died.
    dead: BTreeMap<(NodeId, u64), u64>,
    now_ms: u64,
    end_seq: u64,
}

impl Model {
    fn pending(&self, node: &NodeId) -> usize {
        let fates = self.fates.get(node).into_iter().flat_map(BTreeMap::values);
        fates.flat_map(BTreeMap::values).filter(|state| **state == State::Pending).count()
    }

    /// Ends what waits in a topic up to a seq; how many that were.
    fn end(&mut self, node: &NodeId, topic: i64, to: u64, how: State) -> u64 {
        let fates = self.fates.entry(node.clone()).or_default().entry(topic).or_default();
        let mut count = 0;
        for (seq, state) in fates.range_mut(..=to) {
            if *state == State::Pending {
                *state = how;
                count += 1;
                if how == State::Dead {
                    self.dead.entry((node.clone(), *seq)).or_insert(self.now_ms);
                }
            }
        }
        count
    }

    fn account(&self, node: &NodeId) -> Account {
        let mut account = Account { receiver: Some(node.clone()), ..Account::default() };
        for state in
            self.fates.get(node).into_iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values)
        {
            account.accepted += 1;
            *match state {
                State::Pending => &mut account.pending,
                State::Acknowledged => &mut account.acknowledged,
                State::Expired => &mut account.expired,
                State::Dead => &mut account.dead,
                State::Purged => &mut account.purged,
            } += 1;
        }
        account
    }
}

struct Run {
    bench: Option<Bench>,
    model: Model,
    overflow: Overflow,
}

impl Run {
    fn bench(&self) -> &Bench {
        self.bench.as_ref().expect("only away while it is reopened")
    }

    /// The broadcasts of a channel, and the channel's direct messages.
    fn topics(&self, of: &str) -> Vec<i64> {
        let sql = format!("SELECT topic FROM waypost_topics WHERE {of} ORDER BY topic");
        let conn = self.bench().sql();
        let mut select = conn.prepare(&sql).expect("a statement");
        let rows = select.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("numbers")
    }

    async fn apply(&mut self, op: &Op) {
        self.model.now_ms = self.bench().store.now_ms();
        match op.clone() {
            Op::Send { channel, target, high, ttl_ms, count } => {
                self.send(channel, target, high, ttl_ms, count).await;
            }
            Op::Settle { receiver, topic, count, outcome, stale } => {
                self.settle(NODES[receiver], topic, count, outcome, stale).await;
            }
            Op::Subscribe { node: reader, channel, start } => {
                self.subscribe(reader, channel, start).await;
            }
            Op::Unsubscribe { node: reader, channel } => {
                let receiver = node(NODES[reader]);
                let purged =
                    self.bench().store.unsubscribe(receiver.clone(), name(CHANNELS[channel])).await;
                let mut expected = 0;
                if self.model.subscribed.remove(&(reader, channel)) {
                    let of = format!("channel = '{}' AND target IS NULL", CHANNELS[channel]);
                    for topic in self.topics(&of) {
                        expected += self.model.end(&receiver, topic, u64::MAX, State::Purged);
                        self.model.left_at.insert((receiver.clone(), topic), self.model.end_seq);
                    }
                }
                assert_eq!(purged.expect("left"), expected);
            }
            Op::Forget { node: who } => {
                let receiver = node(NODES[who]);
                let account = self.model.account(&receiver);
                let forgotten =
                    self.bench().store.forget(receiver.clone()).await.expect("forgotten");
                assert_eq!(
                    (forgotten.pending, forgotten.acknowledged, forgotten.purged),
                    (account.pending, account.acknowledged, account.purged)
                );
                self.model.fates.remove(&receiver);
                self.model.left_at.retain(|(of, _), _| *of != receiver);
                self.model.subscribed.retain(|(of, _)| *of != who);
            }
            Op::Purge { node: who, channel } => {
                let receiver = node(NODES[who]);
                let of =
                    channel.map_or("true".to_owned(), |at| format!("channel = '{}'", CHANNELS[at]));
                let mut expected = 0;
                for topic in self.topics(&of) {
                    expected += self.model.end(&receiver, topic, u64::MAX, State::Purged);
                }
                let channel = channel.map(|at| name(CHANNELS[at]));
                let purged = self.bench().store.purge(receiver, channel).await.expect("purged");
                assert_eq!(purged, expected);
            }
            Op::Wait { ms } => self.bench().clock.advance(ms),
            Op::Cleanup => {
                self.bench().store.cleanup().await.expect("clean");
                let keep_from_ms = self.bench().store.now_ms() - RETENTION_MS;
                self.model.dead.retain(|_, died_ms| *died_ms >= keep_from_ms);
            }
            Op::Reopen => {
                let overflow = self.overflow;
                let bench = self.bench.take().expect("open");
                self.bench = Some(bench.reopened_with(|options| limited(options, overflow)).await);
            }
        }
    }

    async fn send(
        &mut self,
        channel: usize,
        target: Option<usize>,
        high: bool,
        ttl_ms: Option<u64>,
        count: usize,
    ) {
        let message = || {
            let mut message = NewMessage::text("x");
            if high {
                message = message.priority(Priority::High);
            }
            if let Some(target) = target {
                message = message.to(NODES[target]);
            }
            if let Some(ttl_ms) = ttl_ms {
                message = message.ttl(Duration::from_millis(ttl_ms));
            }
            prepared(CHANNELS[channel], message)
        };
        let readers: Vec<NodeId> = match target {
            Some(target) => vec![node(NODES[target])],
            None => {
                let readers = self.model.subscribed.iter().filter(|(_, of)| *of == channel);
                readers.map(|(reader, _)| node(NODES[*reader])).collect()
            }
        };
        self.bench().notices.take();
        let sent = self.bench().store.send((0..count).map(|_| message()).collect()).await;
        match sent {
            Err(SendError::QueueFull { receiver, limit, .. }) => {
                assert_eq!(limit, LIMIT as u64);
                if let Some(receiver) = receiver {
                    assert!(self.model.pending(&receiver) + count > LIMIT, "not full: {receiver}");
                }
                return;
            }
            Err(error) => panic!("{error}"),
            Ok(ids) => assert_eq!(ids.len(), count),
        }
        for notice in self.bench().notices.take() {
            match notice {
                Notice::Appended(entry) => {
                    self.model.end_seq = entry.seq;
                    for reader in &readers {
                        let fates = self.model.fates.entry(reader.clone()).or_default();
                        let fates = fates.entry(entry.topic.0).or_default();
                        fates.insert(entry.seq, State::Pending);
                    }
                }
                Notice::Dropped { receiver, topic, up_to_seq, count } => {
                    assert_eq!(self.overflow, Overflow::DropOldest);
                    let ended = self.model.end(&receiver, topic.0, up_to_seq, State::Purged);
                    assert_eq!(ended, count);
                }
                _ => {}
            }
        }
        for reader in &readers {
            assert!(self.model.pending(reader) <= LIMIT, "over the limit");
        }
    }

    async fn settle(&mut self, receiver: &str, topic: usize, count: usize, how: u8, stale: bool) {
        let fates = self.model.fates.get(&node(receiver));
        let Some((topic, fates)) =
            fates.and_then(|fates| fates.iter().nth(topic % fates.len().max(1)))
        else {
            return;
        };
        let waiting: Vec<u64> = fates
            .iter()
            .filter(|(_, state)| **state == State::Pending)
            .map(|(seq, _)| *seq)
            .take(count)
            .collect();
        let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else { return };
        let (outcome, state) = match how {
            0 => (Outcome::Acknowledged, State::Acknowledged),
            1 => (Outcome::Expired, State::Expired),
            2 => (Outcome::Dead { reason: "refused".to_owned() }, State::Dead),
            _ => (Outcome::Purged, State::Purged),
        };
        // A driver that was behind tells of more than is new, and counts it wrongly.
        let (first_seq, told) = if stale { (1, 99) } else { (*first, waiting.len() as u64) };
        let settlement = Settlement {
            outcome,
            ..self.bench().ack(receiver, TopicId(*topic), (first_seq, *last), told)
        };
        let (topic, last) = (*topic, *last);
        self.bench().store.settle(vec![settlement.clone()], vec![]).await.expect("settled");
        self.bench().store.settle(vec![settlement], vec![]).await.expect("ignored");
        self.model.end(&node(receiver), topic, last, state);
    }

    async fn subscribe(&mut self, reader: usize, channel: usize, start: Start) {
        let receiver = node(NODES[reader]);
        let of = format!("channel = '{}' AND target IS NULL", CHANNELS[channel]);
        let now_ms = self.bench().store.now_ms();
        let mut meant = BTreeMap::new();
        for topic in self.topics(&of) {
            let after = self.model.left_at.get(&(receiver.clone(), topic)).copied().unwrap_or(0);
            let from_ms = match start {
                Start::Now => u64::MAX,
                Start::All => 0,
                Start::Since { age_ms } => now_ms - age_ms,
                Start::Joined { .. } => unreachable!("not drawn: see the tests of members"),
            };
            let conn = self.bench().sql();
            let mut select = conn
                .prepare("SELECT seq FROM waypost_outbox WHERE topic = ?1 AND seq > ?2 AND created_ms >= ?3")
                .expect("a statement");
            let from_ms = i64::try_from(from_ms).unwrap_or(i64::MAX);
            let rows = select.query_map((topic, after, from_ms), |row| row.get(0)).expect("rows");
            meant.insert(topic, rows.collect::<Result<Vec<u64>, _>>().expect("numbers"));
        }
        let opened = self.bench().subscribe(NODES[reader], CHANNELS[channel], start).await;
        if !self.model.subscribed.insert((reader, channel)) {
            assert!(opened.is_empty());
            return;
        }
        for cursor in opened {
            let seqs = meant.remove(&cursor.topic.0).expect("a topic of the channel");
            assert_eq!(cursor.pending, seqs.len() as u64);
            let fates = self.model.fates.entry(receiver.clone()).or_default();
            let fates = fates.entry(cursor.topic.0).or_default();
            fates.extend(seqs.into_iter().map(|seq| (seq, State::Pending)));
        }
    }

    async fn check(&self) {
        let bench = self.bench();
        let accounts = bench.store.accounts().await.expect("accounts");
        for who in NODES {
            let account = accounts.iter().find(|account| account.receiver == Some(node(who)));
            let found = account.cloned().unwrap_or_else(|| Model::default().account(&node(who)));
            assert_eq!(found.oldest_pending_ms.is_some(), found.pending > 0);
            let found = Account { oldest_pending_ms: None, ..found };
            assert_eq!(found, self.model.account(&node(who)));
            assert_eq!(
                found.accepted,
                found.pending + found.acknowledged + found.expired + found.dead + found.purged
            );
        }
        // The same from the file alone.
        let wrong = "SELECT count(*) FROM waypost_cursors c JOIN waypost_topics t USING (topic) WHERE c.open AND t.accepted - c.base - c.acknowledged - c.expired - c.dead - c.purged <> (SELECT count(*) FROM waypost_outbox o WHERE o.topic = c.topic AND o.seq > c.acked_seq)";
        assert_eq!(bench.count(wrong), 0, "a cursor whose pending messages are not in the log");
        let dead = bench.count("SELECT count(*) FROM waypost_dead_letters");
        assert_eq!(dead, self.model.dead.len() as u64);
    }
}

fn limited(options: &mut Options, overflow: Overflow) {
    options.queue_limit = LIMIT;
    options.overflow = overflow;
    options.retention = Duration::from_millis(RETENTION_MS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn p2_every_message_ends_in_exactly_one_recorded_way(
        ops in prop::collection::vec(op(), 1..60),
        drops in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let overflow = if drops { Overflow::DropOldest } else { Overflow::Reject };
            let bench = Bench::with(|options| limited(options, overflow));
            let mut run = Run { bench: Some(bench), model: Model::default(), overflow };
            for op in &ops {
                run.apply(op).await;
                run.check().await;
            }
            // What the operator's check makes of it.
            let inspector = Inspector::open(run.bench().path()).expect("an inspector");
            let report = inspector.check(|_| {}).expect("a report");
            assert!(report.is_sound(), "{report:?}");
        });
    }
}
