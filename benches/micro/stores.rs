//! The file by itself: reading a page of a backlog, and noting what was received.

use std::cell::{Cell, LazyCell};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::config::{Durability, Overflow, WallClock};
use crate::message::{ChannelName, MessageId, NewMessage, NodeId, Priority, StoreId, TopicId};
use crate::store::{InboxAdvance, Notice, Opened, Options, Page, PageRequest, Store};
use crate::{PAYLOAD_BYTES, folder, noise};

const BACKLOG: u64 = 100_000;
/// What a delivery asks for.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 1024 * 1024;
const CHANNELS: u64 = 64;
const SENDERS: u64 = 64;

pub(crate) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a backlog of 100,000");
    group.throughput(Throughput::Elements(PAGE as u64));
    pages(&mut group, "256 messages of the only channel", 1);
    pages(&mut group, "256 messages of one channel in 64", CHANNELS);
    group.finish();
    let mut group = criterion.benchmark_group("note what was received");
    let bench = LazyCell::new(Bench::new);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one message", |b| b.iter_custom(|n| bench.receive(1, n)));
    group.throughput(Throughput::Elements(SENDERS));
    let name = "one message each of 64 senders";
    group.bench_function(name, |b| b.iter_custom(|n| bench.receive(SENDERS, n)));
    group.finish();
}

/// Reads what stands at the head of one channel, of so many that take turns.
fn pages(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, channels: u64) {
    let filled = LazyCell::new(|| {
        let bench = Bench::new();
        let topic = bench.fill(channels);
        (bench, topic)
    });
    group.bench_function(name, |b| {
        let (bench, topic) = &*filled;
        b.iter(|| bench.first_of(*topic));
    });
}

/// A store without a node.
struct Bench {
    runtime: Runtime,
    opened: Opened,
    /// The last message that was noted, of whichever sender.
    received: Cell<u64>,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let folder = folder();
        let options = Options {
            path: folder.path().join("bob.db"),
            id: None,
            fallback_id: node("bob"),
            host: "host".to_owned(),
            durability: Durability::Normal,
            inbox_durability: Durability::Normal,
            queue_limit: usize::MAX,
            overflow: Overflow::Reject,
            storage_limit: None,
            retention: Duration::from_secs(86_400),
            audit_retention: Duration::from_secs(86_400),
            wall_clock: WallClock::Auto,
        };
        let opened = Store::open(options).expect("the store opens");
        Self { runtime, opened, received: Cell::new(0), _folder: folder }
    }

    /// Sends the backlog, to each channel in turn. Returns the first one's topic.
    fn fill(&self, channels: u64) -> TopicId {
        let names: Vec<ChannelName> = (0..channels).map(|n| channel(&format!("c-{n}"))).collect();
        let payload = noise(PAYLOAD_BYTES);
        let mut topics = Vec::new();
        let mut turns = names.iter().cycle();
        for _ in 0..BACKLOG / 1_000 {
            let batch = turns.by_ref().take(1_000).map(|channel| {
                let message = NewMessage::bytes(payload.clone());
                message.prepare(channel, None, PAGE_BYTES).expect("a valid message")
            });
            let sent = self.opened.store.send(batch.collect());
            self.runtime.block_on(sent).expect("sent");
            topics.extend(self.opened.notices.take().into_iter().filter_map(
                |notice| match notice {
                    Notice::TopicOpened(topic) => Some(topic.topic),
                    _ => None,
                },
            ));
        }
        topics[0]
    }

    /// As many messages as a delivery asks for. A page that takes too long ends early, and is followed by another.
    fn first_of(&self, topic: TopicId) -> Vec<Page> {
        let (mut pages, mut after, mut missing) = (Vec::new(), 0, PAGE);
        while missing > 0 {
            let page = self.page(topic, after, missing);
            assert!(!page.end, "there is more");
            after = page.scanned_to;
            missing -= page.entries.len();
            pages.push(page);
        }
        pages
    }

    fn page(&self, topic: TopicId, after: u64, max_messages: usize) -> Page {
        let (lane, topics) = (Priority::Normal, vec![(topic, after)]);
        let request = PageRequest { lane, topics, max_messages, max_bytes: PAGE_BYTES };
        self.opened.store.page(&request).expect("a page")
    }

    /// Notes so many messages of each of so many senders, a sender's one after the other.
    fn receive(&self, senders: u64, messages_each: u64) -> Duration {
        // What was noted before would not be written again.
        let first = self.received.get() + 1;
        let last = self.received.get() + messages_each;
        self.received.set(last);
        self.runtime.block_on(async {
            let begin = Instant::now();
            let tasks: Vec<_> = (0..senders)
                .map(|sender| {
                    let store = self.opened.store.clone();
                    tokio::spawn(receive(store, format!("sender-{sender}"), first..=last))
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
            begin.elapsed()
        })
    }
}

async fn receive(store: Store, sender: String, messages: RangeInclusive<u64>) {
    let advance = InboxAdvance {
        sender: node(&sender),
        store_id: StoreId::from_u128(1),
        channel: channel("readings"),
        direct: false,
        lane: Priority::Normal,
        id: MessageId::ZERO,
    };
    for n in messages {
        let id = MessageId::from_u128(u128::from(n));
        store.accept(InboxAdvance { id, ..advance.clone() }).await.expect("noted");
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a valid name")
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runtime.block_on(self.opened.store.close());
    }
}
