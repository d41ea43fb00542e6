//! A disk that fails while room is short.

use std::sync::mpsc;

use tokio::task::JoinSet;
use waypost_faultfs::{Disk, Fault, Operation};

use super::space::{acknowledge, fill, limited, noise};
use super::*;
use crate::inspect::Inspector;

const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// Messages that become acknowledged, and new ones, in one go.
const BURST: u64 = 40;

/// A store at its storage limit, on a disk that can be told to fail.
struct Short {
    disk: Disk,
    bench: Bench,
    /// Up to where all is acknowledged.
    acknowledged: u64,
    sent: u64,
}

impl Short {
    async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let disk = Disk::watch(folder.path());
        let bench = limited(folder, LIMIT_BYTES, Overflow::Reject);
        bench.subscribe("a", "c", Start::Now).await;
        let (sent, error) = fill(&bench, 10_000).await;
        assert!(matches!(error, SendError::StorageLimit { .. }), "{error:?}");
        Self { disk, bench, acknowledged: 0, sent }
    }

    /// Lets all of these wait for the writer, so that it takes them as one group. How many were taken.
    async fn together<E: std::fmt::Debug + Send + 'static>(
        &self,
        jobs: impl IntoIterator<Item = impl Future<Output = Result<(), E>> + Send + 'static>,
    ) -> u64 {
        let (open, gate) = mpsc::channel();
        let (store, gate) = (self.bench.store.clone(), Arc::new(std::sync::Mutex::new(gate)));
        let first = tokio::spawn(async move {
            let wait = move |_: &mut Group<'_>| {
                gate.lock().expect("not poisoned").recv().expect("opened below");
                Ok(())
            };
            store.run::<(), StoreError, _>(Durability::Normal, wait).await
        });
        tokio::task::yield_now().await;
        let mut waiting: JoinSet<_> = jobs.into_iter().collect();
        // On this one thread each of them has its turn, and is in the queue then.
        tokio::task::yield_now().await;
        // A file that is down already lets nobody wait.
        let _ = open.send(());
        let mut taken = 0;
        while let Some(done) = waiting.join_next().await {
            taken += u64::from(done.expect("the writer lives").is_ok());
        }
        // It may have failed, too.
        drop(first.await.expect("the writer lives"));
        taken
    }

    async fn settle(&self) {
        let settle = |seq: u64| {
            let (store, ack) =
                (self.bench.store.clone(), self.bench.ack("a", TopicId(1), (seq, seq), 1));
            async move { store.settle(vec![ack], vec![]).await.map(drop) }
        };
        self.together((1..=BURST).map(|n| settle(self.acknowledged + n))).await;
    }

    async fn send(&mut self) {
        let send = || {
            let store = self.bench.store.clone();
            async move { store.send(vec![noise(10_000)]).await.map(drop) }
        };
        let taken = self.together((0..BURST).map(|_| send())).await;
        self.sent += taken;
    }

    /// The disk is well again: so is the store, by itself. What failed of it is done again.
    async fn recovered(&mut self) -> u64 {
        let struck = self.disk.heal();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while matches!(self.bench.store.health(), Health::Failed(_)) {
            assert!(std::time::Instant::now() < deadline, "{:?}", self.bench.store.health());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let account = self.bench.account("a").await;
        // A commit that failed may stand in the file all the same.
        assert!(account.accepted >= self.sent, "{account:?}, {}", self.sent);
        self.sent = account.accepted;
        let (from, to) = (account.acknowledged + 1, self.acknowledged + BURST);
        if from <= to {
            acknowledge(&self.bench, from, to).await;
        }
        self.acknowledged = to;
        // There is something to settle in the next go.
        while self.sent < self.acknowledged + 2 * BURST {
            self.bench.store.send(vec![noise(10_000)]).await.expect("what is settled gives way");
            self.sent += 1;
        }
        struck
    }

    async fn end(self) {
        let account = self.bench.account("a").await;
        assert_eq!((account.accepted, account.acknowledged), (self.sent, self.acknowledged));
        self.bench.store.close().await;
        let report = Inspector::open(self.bench.path()).and_then(|it| it.check(|_| ()));
        let report = report.expect("checked");
        assert!(report.is_sound(), "{:?}", report.findings);
    }
}

#[tokio::test]
async fn p6_a_disk_that_fails_while_room_is_short_is_survived_at_each_operation() {
    for operation in [Operation::Sync, Operation::Write, Operation::Truncate] {
        for lasting in [false, true] {
            let mut short = Short::new().await;
            let (mut nth, mut tried) = (1, 0);
            loop {
                let fault = Fault::nth(operation, nth);
                short.disk.fail(if lasting { fault.lasting() } else { fault });
                short.settle().await;
                short.send().await;
                if short.recovered().await == 0 {
                    break;
                }
                tried += 1;
                nth += if operation == Operation::Write { 97 } else { 1 };
            }
            assert!(tried > 0 || operation == Operation::Truncate, "{operation:?}");
            short.end().await;
        }
    }
}
