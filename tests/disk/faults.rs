//! P1, P2, P5, P6: every write, sync and truncation of a workload fails once, one after the other. Whoever called gets an error that
//! says what it is; nothing is acknowledged after a failed sync until the file was opened again; the node recovers by itself; and
//! what it said Ok to is there, also if the power fails right afterwards.
//!
//! `WAYPOST_CUTS=all` lets each single one fail of those of which otherwise a part is tried.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::nodes::{begin, event, reader_is_known};
use crate::power::expect::{self, Told};
use crate::power::faults::{
    check_cut, check_cuts_after_failures, check_silence, is_of_the_disk, place_order, send,
    send_all, start,
};
use crate::power::wear;
use crate::power::{EXACT, Handled, PATIENCE, PLAIN, create_orders, join, quick, receive};
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use crate::{NOWHERE, thorough};
use tempfile::TempDir;
use tokio::task::JoinSet;
use waypost::error::{NodeError, TransactionError};
use waypost::{Builder, Channel, Event, Health, Mode, Node};
use waypost_faultfs::{Disk, Fault, Files, Op, Operation};

/// The whole life of a node that has no server, with one failure in it. Whether it was reached.
async fn live(fault: Fault) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    disk.fail(fault);
    let builder = || quick(NOWHERE, "nowhere", folder.path(), "alice");
    let alice = start(builder).await;
    let made = async || match alice
        .transaction(|tx| tx.execute("CREATE TABLE orders (n INTEGER PRIMARY KEY, id TEXT)", []))
        .await
    {
        Ok(_) => true,
        Err(TransactionError::Storage(error)) if is_of_the_disk(&error) => false,
        Err(error) => panic!("{error:?}"),
    };
    eventually_async(PATIENCE, "a table is made", made).await;
    let plain = join(&alice, PLAIN, Mode::Writer).await;
    let exact = join(&alice, EXACT, Mode::Writer).await;
    send(&plain, "one", &disk).await;
    place_order(&alice, &exact, &AtomicU32::new(0), &disk).await;
    send_all(&plain, 3, &disk).await;
    check_silence(&disk.log(), "alice");
    check_cut(&disk.log(), "alice");
    alice.shutdown().await;
    check_cut(&disk.log(), "alice");
    let struck = disk.heal() > 0;
    let file = folder.path().join("alice.db");
    // SQLite's file format: 2 is a write-ahead log.
    assert_eq!(std::fs::read(&file).expect("readable")[18..20], [2, 2]);

    let told = Told::before(&disk.log(), disk.log().ops().len());
    let alice = begin(builder()).await;
    let id = join(&alice, PLAIN, Mode::Writer).await.send("after").await.expect("sent");
    assert!(told.last_id().is_some_and(|last| id.to_string() > *last));
    alice.shutdown().await;
    expect::is_sound(&file).expect("sound");
    assert_eq!(expect::wrong_with_sender(&file, &told), Vec::<String>::new());
    struck
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p1_p6_each_operation_in_a_nodes_life_may_fail() {
    let mut kinds = JoinSet::new();
    for (operation, full) in [
        (Operation::Write, false),
        (Operation::Write, true),
        (Operation::Sync, false),
        (Operation::Truncate, false),
    ] {
        kinds.spawn(async move {
            // A commit writes many small pages: a part of them will do, and less where it is the same write that fails, only otherwise.
            let step = match operation {
                Operation::Write if !thorough() => 3 + 4 * u64::from(full),
                _ => 1,
            };
            let mut nth = 1;
            loop {
                let fault = Fault::nth(operation, nth);
                if !live(if full { fault.full() } else { fault }).await {
                    return (operation, full, nth - 1);
                }
                nth += step;
            }
        });
    }
    for (operation, full, failures) in kinds.join_all().await {
        println!("{operation:?}, full: {full}: {failures} operations");
        assert!(failures > 1, "{operation:?}: only {failures} to try");
    }
}

/// A sync fails, and so do some of those with which the file is given up and opened again. `shared`: another program has it open, too.
async fn survive_failed_syncs(times: u64, shared: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let alice = begin(quick(NOWHERE, "nowhere", folder.path(), "alice")).await;
    let plain = join(&alice, PLAIN, Mode::Writer).await;
    let other = shared.then(|| {
        let other = rusqlite::Connection::open(folder.path().join("alice.db")).expect("opened");
        let read = |row: &rusqlite::Row<'_>| row.get::<_, u64>(0);
        other.query_row("SELECT COUNT(*) FROM waypost_outbox", [], read).expect("it reads");
        other
    });
    disk.fail(Fault::nth(Operation::Sync, 1).on(Files::Log).times(times));
    send_all(&plain, 3, &disk).await;
    assert_eq!(disk.heal(), times);
    let is_well = async || alice.status().storage == Health::Healthy;
    eventually_async(PATIENCE, "it recovers", is_well).await;
    check_cuts_after_failures(&disk.log(), "alice");
    for _ in 0..3 {
        send(&plain, "one", &disk).await;
        check_silence(&disk.log(), "alice");
        check_cut(&disk.log(), "alice");
    }
    drop(other);
    alice.shutdown().await;
    check_cut(&disk.log(), "alice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p1_syncs_of_the_log_may_fail_several_times_in_a_row() {
    for times in 1..=4 {
        for shared in [false, true] {
            survive_failed_syncs(times, shared).await;
        }
    }
}

/// A sender and a receiver, on a disk that is told to fail.
struct Pair {
    folder: TempDir,
    url: String,
    prefix: String,
    disk: Disk,
    alice: Node,
    plain: Channel,
    exact: Channel,
    bob: Node,
    handled: Handled,
    orders: AtomicU32,
}

impl Pair {
    async fn start(server: &NatsServer, prefix: String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (disk, url) = (Disk::watch(folder.path()), server.url());
        let bob = begin(quick(&url, &prefix, folder.path(), "bob")).await;
        let handled = Handled::default();
        receive(&bob, &handled, Some(&disk)).await;
        let alice = begin(quick(&url, &prefix, folder.path(), "alice")).await;
        create_orders(&alice).await;
        let plain = join(&alice, PLAIN, Mode::Writer).await;
        let exact = join(&alice, EXACT, Mode::Writer).await;
        for channel in [PLAIN, EXACT] {
            reader_is_known(&alice, channel, "bob").await;
        }
        let orders = AtomicU32::new(0);
        Self { folder, url, prefix, disk, alice, plain, exact, bob, handled, orders }
    }

    fn builder(&self, id: &str) -> Builder {
        quick(&self.url, &self.prefix, self.folder.path(), id)
    }

    /// A bit of everything, until it is settled.
    async fn work(&self) {
        send(&self.plain, "one", &self.disk).await;
        place_order(&self.alice, &self.exact, &self.orders, &self.disk).await;
        send_all(&self.plain, 2, &self.disk).await;
        let is_settled = async || match self.alice.statistics().await {
            Ok(statistics) => {
                assert!(statistics.accounts.iter().all(|account| account.is_balanced()));
                statistics.accounts.iter().all(|account| account.pending == 0)
            }
            Err(NodeError::Storage(error)) if is_of_the_disk(&error) => false,
            Err(error) => panic!("{error:?}"),
        };
        eventually_async(PATIENCE, "all is settled", is_settled).await;
    }

    /// Works until the node's log was copied into its database, which is done with each clean-up, or something failed.
    async fn work_to_the_clean_up(&self, node: &str) {
        let (place, database) = (self.disk.place(), format!("{node}.db"));
        let is_copied = |op: &Op| match op {
            Op::Sync { file, .. } => **file == *database,
            Op::Failed { .. } => true,
            _ => false,
        };
        loop {
            self.work().await;
            if self.disk.has_happened(place, is_copied) {
                return;
            }
        }
    }

    async fn stop(&self, node: &str) {
        match node {
            "alice" => self.alice.shutdown().await,
            _ => self.bob.shutdown().await,
        }
    }

    async fn start_again(&mut self, node: &str) {
        let again = begin(self.builder(node)).await;
        if node == "alice" {
            self.plain = join(&again, PLAIN, Mode::Writer).await;
            self.exact = join(&again, EXACT, Mode::Writer).await;
            self.alice = again;
        } else {
            receive(&again, &self.handled, Some(&self.disk)).await;
            self.bob = again;
        }
    }

    /// Waits until both say that they are well.
    async fn recovered(&self) {
        eventually_async(PATIENCE, "both recover", async || {
            [&self.alice, &self.bob].iter().all(|it| it.status().storage == Health::Healthy)
        })
        .await;
    }

    fn check(&self) {
        let log = self.disk.log();
        for node in ["alice", "bob"] {
            check_silence(&log, node);
            check_cut(&log, node);
        }
    }

    async fn end(self) {
        self.alice.shutdown().await;
        self.bob.shutdown().await;
        let log = self.disk.log();
        let told = Told::before(&log, log.ops().len());
        let file = |node: &str| self.folder.path().join(format!("{node}.db"));
        let mut wrong = expect::unsettled(&file("alice"));
        wrong.extend(expect::is_sound(&file("alice")).err());
        wrong.extend(expect::is_sound(&file("bob")).err());
        wrong.extend(expect::wrong_with_sender(&file("alice"), &told));
        let effects = told.sent.get(EXACT).into_iter().flatten().cloned().collect();
        let everything = Told { effects, ..Told::before(&log, log.ops().len()) };
        wrong.extend(expect::wrong_with_receiver(&file("bob"), &log, &everything));
        // A plain message may come twice where its receipt could not be written; it never comes after a later one.
        wrong.extend(expect::wrong_with_handling_of_retries(&told, &self.handled));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// What sender and receiver write for each of so many messages, beside a plain row of the same bytes that is committed alone.
/// `each`: every settlement is waited for, and so has a commit of its own, as if messages came once in a while.
async fn wear(server: &NatsServer, each: bool) -> [f64; 2] {
    const MESSAGES: u64 = 150;
    let (folder, body) = (tempfile::tempdir().expect("a folder"), "x".repeat(90));
    let (disk, prefix) = (Disk::watch(folder.path()), format!("wear-{each}"));
    let builder = |id| {
        let file = folder.path().join("{id}.db");
        Node::builder().id(id).nats([server.url()]).prefix(&prefix).storage(file)
    };
    let bob = begin(builder("bob")).await;
    let read = join(&bob, PLAIN, Mode::Reader).await;
    read.on_message(|_| std::future::ready(Ok(()))).await.expect("attached");
    let alice = begin(builder("alice")).await;
    let plain = join(&alice, PLAIN, Mode::Writer).await;
    reader_is_known(&alice, PLAIN, "bob").await;
    let settle = async || {
        let flushed = alice.flush(PATIENCE).await.expect("flushed");
        assert!(flushed.waiting.is_empty(), "{flushed:?}");
    };
    plain.send("the first one makes topics and receipts").await.expect("sent");
    settle().await;
    let place = disk.place();
    let mut events = alice.events();
    for _ in 0..MESSAGES {
        let sent = plain.send(body.as_str()).await.expect("sent");
        let is_it = |event: &Event| matches!(event, Event::Delivered { id, .. } if *id == sent);
        event(&mut events, "it is delivered", |event| is_it(event).then_some(())).await;
        if each {
            settle().await;
        }
    }
    settle().await;
    let written = ["alice.db", "bob.db"].map(|file| wear::written(&disk, place, file));
    alice.shutdown().await;
    bob.shutdown().await;

    let rows = rusqlite::Connection::open(folder.path().join("rows.db")).expect("opened");
    let table = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (row INTEGER PRIMARY KEY, body TEXT)";
    rows.execute_batch(table).expect("a table");
    let place = disk.place();
    for _ in 0..MESSAGES {
        rows.execute("INSERT INTO rows (body) VALUES (?1)", [&body]).expect("a row");
    }
    let row = wear::written(&disk, place, "rows.db");
    // Two blocks: a page and its header never lie in one.
    assert!((8_000..9_500).contains(&(row / MESSAGES)), "{row}");
    written.map(|written| written as f64 / row as f64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_writes_little_more_than_a_plain_row() {
    let server = NatsServer::start();
    for each in [false, true] {
        let [sender, receiver] = wear(&server, each).await;
        println!(
            "sender {sender:.2}, receiver {receiver:.2} times a plain row, each settled alone: {each}"
        );
        assert!(sender <= 1.5, "the sender writes {sender} times a plain row");
        assert!(receiver <= 0.75, "the receiver writes {receiver} times a plain row");
    }
}

/// Of how many failures one is tried.
fn step(operation: Operation) -> u64 {
    match operation {
        _ if thorough() => 1,
        Operation::Write => 3,
        Operation::Sync | Operation::Truncate => 1,
    }
}

/// Lets operations of one node fail, one after the other. How many there are, and how many were tried.
async fn fail_each(server: &NatsServer, node: &str, operation: Operation) -> (u64, u64) {
    let mut pair = Pair::start(server, format!("{node}-{operation:?}")).await;
    let (mut nth, mut tried) = (1, 0);
    loop {
        pair.disk.fail(Fault::nth(operation, nth).of(node));
        pair.work_to_the_clean_up(node).await;
        // A file is cut where it is closed.
        let stops = operation == Operation::Truncate;
        if stops {
            pair.stop(node).await;
        }
        let struck = pair.disk.heal() > 0;
        if stops {
            pair.start_again(node).await;
        }
        pair.recovered().await;
        // Before a new log is written to, a power cut would be a second fault that nothing survives: see docs/reliability.md.
        pair.work().await;
        pair.check();
        if !struck {
            pair.end().await;
            return (nth - 1, tried);
        }
        tried += 1;
        nth += step(operation);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p1_p5_p6_each_operation_of_a_running_sender_or_receiver_may_fail() {
    let server = Arc::new(NatsServer::start());
    let mut kinds = JoinSet::new();
    for node in ["alice", "bob"] {
        for operation in [Operation::Write, Operation::Sync, Operation::Truncate] {
            let server = Arc::clone(&server);
            kinds
                .spawn(async move { (node, operation, fail_each(&server, node, operation).await) });
        }
    }
    for (node, operation, (all, tried)) in kinds.join_all().await {
        println!("{node}, {operation:?}: {tried} of {all} failed");
        assert!(tried > 0, "{node}, {operation:?}");
    }
}
