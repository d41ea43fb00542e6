//! `send` as a program calls it, on a node that has no server: from the call to the commit.

use std::cell::LazyCell;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use waypost::{Channel, Durability, Mode, NewMessage, Node};

use crate::{PAYLOAD_BYTES, folder, noise};

const BATCH: u64 = 1_000;
const TASKS: u64 = 64;

pub(crate) fn measure(criterion: &mut Criterion) {
    for (name, durability) in
        [("send, fsynced", Durability::Full), ("send, not fsynced", Durability::Normal)]
    {
        let mut group = criterion.benchmark_group(name);
        // Short, since what is sent stays in the file.
        group.sample_size(20).warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        let sender = LazyCell::new(move || Sender::new(durability));
        one(&mut group, &sender);
        batch(&mut group, &sender);
        tasks(&mut group, &sender);
        group.finish();
    }
}

type Lazy<F> = LazyCell<Sender, F>;

fn one<F: FnOnce() -> Sender>(group: &mut BenchmarkGroup<'_, WallTime>, sender: &Lazy<F>) {
    group.throughput(Throughput::Elements(1));
    group.bench_function("one message", |b| {
        let Sender { runtime, channel, .. } = &**sender;
        let send = |message| runtime.block_on(channel.send(message)).expect("sent");
        b.iter_batched(message, send, BatchSize::SmallInput);
    });
}

fn batch<F: FnOnce() -> Sender>(group: &mut BenchmarkGroup<'_, WallTime>, sender: &Lazy<F>) {
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("1,000 messages together", |b| {
        let Sender { runtime, channel, .. } = &**sender;
        let make = || (0..BATCH).map(|_| message()).collect();
        let send = |messages| runtime.block_on(channel.send_all(messages)).expect("sent");
        b.iter_batched(make, send, BatchSize::LargeInput);
    });
}

/// One iteration is one message of each task; each sends its next one as soon as the one before is committed.
fn tasks<F: FnOnce() -> Sender>(group: &mut BenchmarkGroup<'_, WallTime>, sender: &Lazy<F>) {
    group.throughput(Throughput::Elements(TASKS));
    group.bench_function("one message each of 64 tasks", |b| {
        b.iter_custom(|iterations| sender.all_tasks(iterations));
    });
}

fn message() -> NewMessage {
    thread_local!(static PAYLOAD: bytes::Bytes = noise(PAYLOAD_BYTES));
    NewMessage::bytes(PAYLOAD.with(Clone::clone))
}

/// A node that sends to a channel that nobody reads.
struct Sender {
    runtime: Runtime,
    node: Node,
    channel: Channel,
    _folder: TempDir,
}

impl Sender {
    fn new(durability: Durability) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let folder = folder();
        let (node, channel) = runtime.block_on(async {
            let builder = Node::builder()
                .id("alice")
                .nats(["nats://127.0.0.1:1"])
                .storage(folder.path().join("alice.db"))
                .durability(durability)
                .queue_limit(NonZeroUsize::MAX);
            let node = builder.start().await.expect("it starts without a server");
            let channel = node.join("readings", Mode::Writer).await.expect("joined");
            (node, channel)
        });
        Self { runtime, node, channel, _folder: folder }
    }

    fn all_tasks(&self, messages_each: u64) -> Duration {
        self.runtime.block_on(async {
            let begin = Instant::now();
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let channel = self.channel.clone();
                    tokio::spawn(async move {
                        for _ in 0..messages_each {
                            channel.send(message()).await.expect("sent");
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
            begin.elapsed()
        })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.runtime.block_on(self.node.shutdown());
    }
}
