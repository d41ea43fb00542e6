//! P1, P2, P5: the power fails at every place of a workload where the disk was told to make something durable, and whatever else
//! that disk kept, nothing is missing that anybody was told of.
//!
//! `WAYPOST_CUTS=all` tries more of what a disk may keep, and lets the two finish after every cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::nodes::{begin, settled};
use crate::power::expect::{self, Told};
use crate::power::workload::{Recorded, record};
use crate::power::{EXACT, Handled, PLAIN, SLOW, create_orders, join, quick, receive};
use crate::support::nats_server::NatsServer;
use crate::{NOWHERE, thorough};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use waypost::Mode;
use waypost_faultfs::{Image, Log, Op, Replay, Survival};

/// Nodes that are looked at side by side.
const SIDE_BY_SIDE: usize = 12;

/// A file after a cut.
struct Case {
    /// The last place of the log at which the file looked like this: whatever was told by then must be in it.
    place: usize,
    survival: Survival,
    folder: PathBuf,
}

/// What the disk may have kept, tried at one place of the log.
fn survivals(place: usize) -> Vec<Survival> {
    let seed = place as u64;
    let random = if place.is_multiple_of(2) { Survival::Some(seed) } else { Survival::Torn(seed) };
    let mut tried = vec![Survival::Nothing, random];
    if thorough() {
        tried.push(Survival::All);
        tried.extend((1..5).map(|n| Survival::Some(seed + n * 1_000_000)));
        tried.extend((1..5).map(|n| Survival::Torn(seed + n * 1_000_000)));
    }
    tried
}

/// Every file that a cut just before or just after a sync can leave, each once.
fn cases(recorded: &Recorded, into: &Path) -> (BTreeMap<(&'static str, u64), Case>, usize) {
    let mut cases: BTreeMap<(&'static str, u64), Case> = BTreeMap::new();
    let mut replay = Replay::new(&recorded.log);
    let mut cuts = 0;
    let mut add = |place: usize, survival: Survival, image: &Image| {
        cuts += 1;
        for node in ["alice", "bob"] {
            let key = (node, image.fingerprint(node));
            let known = cases.entry(key).or_insert_with(|| {
                let folder = into.join(format!("{node} {place} {survival:?}"));
                std::fs::create_dir(&folder).expect("a folder");
                image.write(node, &folder).expect("written");
                Case { place, survival, folder }
            });
            known.place = place;
        }
    };
    for sync in recorded.log.sync_points() {
        replay.advance_to(sync);
        for survival in survivals(sync) {
            add(sync, survival, &replay.image(survival));
        }
        replay.advance_to(sync + 1);
        add(sync + 1, Survival::Nothing, &replay.image(Survival::Nothing));
    }
    (cases, cuts)
}

/// Opens the file with a node that finds no server, sends a message, and checks all that the file must hold.
async fn wrong_with(recorded: &Recorded, node: &str, case: &Case) -> Vec<String> {
    let told = Told::before(&recorded.log, case.place);
    let file = case.folder.join(format!("{node}.db"));
    if let Err(error) = expect::is_sound(&file) {
        return vec![format!("before it was opened: {error}")];
    }
    let started = match quick(NOWHERE, "nowhere", &case.folder, node).start().await {
        Ok(started) => started,
        Err(error) => return vec![format!("it does not start: {error:?}")],
    };
    let mut wrong = Vec::new();
    let id = join(&started, "after", Mode::Writer).await.send("after the cut").await;
    match (id, told.last_id()) {
        (Ok(id), Some(last)) if node == "alice" && id.to_string() <= *last => {
            wrong.push(format!("the next id is {id}, not above {last}"));
        }
        (Ok(_), _) => {}
        (Err(error), _) => wrong.push(format!("it does not send: {error}")),
    }
    let accounts = started.statistics().await.expect("it runs").accounts;
    wrong.extend(
        accounts.iter().filter(|account| !account.is_balanced()).map(|it| format!("{it:?}")),
    );
    started.shutdown().await;
    wrong.extend(expect::is_sound(&file).err());
    wrong.extend(match node {
        "alice" => expect::wrong_with_sender(&file, &told),
        _ => expect::wrong_with_receiver(&file, &recorded.log, &told),
    });
    wrong
}

async fn check_all(
    recorded: &Arc<Recorded>,
    cases: BTreeMap<(&'static str, u64), Case>,
) -> Vec<String> {
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut checks = JoinSet::new();
    for ((node, _), case) in cases {
        let (recorded, places) = (Arc::clone(recorded), Arc::clone(&places));
        checks.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            let wrong = wrong_with(&recorded, node, &case).await;
            let Case { place, survival, folder } = case;
            std::fs::remove_dir_all(folder).expect("removed");
            let tell = move |wrong| format!("{node} at {place}, {survival:?}: {wrong}");
            wrong.into_iter().map(tell).collect::<Vec<_>>()
        });
    }
    checks.join_all().await.concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p1_p5_the_power_may_fail_at_every_sync() {
    let server = NatsServer::start();
    let began = Instant::now();
    let recorded = Arc::new(record(&server).await);
    let syncs = recorded.log.sync_points().len();
    let worked = began.elapsed();
    let folder = tempfile::tempdir().expect("a folder");
    let (cases, cuts) = cases(&recorded, folder.path());
    let files = cases.len();
    println!("recorded in {worked:?}: {} operations, {syncs} syncs", recorded.log.ops().len());
    assert_work_was_various(&recorded.log);
    let wrong = check_all(&recorded, cases).await;
    println!("{cuts} cuts, {files} different files, checked in {:?}", began.elapsed() - worked);
    let shown = wrong[..wrong.len().min(20)].join(
        "
",
    );
    assert!(
        wrong.is_empty(),
        "{} faults in {files} files:
{shown}",
        wrong.len()
    );
    let began = Instant::now();
    let finished = finish_some(&server, &recorded).await;
    println!("finished after {finished} of the cuts in {:?}", began.elapsed());
}

/// The workload did all that it is for, on both disks.
fn assert_work_was_various(log: &Log) {
    let marks =
        |kind: &str| log.marks(log.ops().len()).filter(|(_, m)| m.starts_with(kind)).count();
    assert!(marks("dead ") >= 2 && marks("purged ") >= 2 && marks("delivered ") > 50);
    for node in ["alice", "bob"] {
        let (database, wal) = (format!("{node}.db"), format!("{node}.db-wal"));
        let count = |is: &dyn Fn(&Op) -> bool| log.ops().iter().filter(|op| is(op)).count();
        let checkpoints = count(&|op| matches!(op, Op::Sync { file, .. } if **file == *database));
        let log_began = |op: &Op| matches!(op, Op::Write { file, offset: 0, .. } if **file == *wal);
        let restarts = count(&|op| matches!(op, Op::Delete { file, .. } if **file == *wal));
        assert!(checkpoints > 4 && count(&log_began) > 2 && restarts > 1, "{node}: {checkpoints}");
    }
}

/// After some of the cuts, the two start again and finish.
async fn finish_some(server: &NatsServer, recorded: &Arc<Recorded>) -> usize {
    let every = if thorough() { 1 } else { 8 };
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE / 2));
    let mut all = JoinSet::new();
    let mut replay = Replay::new(&recorded.log);
    for (count, place) in recorded.log.sync_points().into_iter().enumerate() {
        replay.advance_to(place);
        if count % every != every - 1 {
            continue;
        }
        let survival = survivals(place)[count / every % 2];
        let folder = tempfile::tempdir().expect("a folder");
        replay.image(survival).write("", folder.path()).expect("written");
        let (recorded, places, url) = (Arc::clone(recorded), Arc::clone(&places), server.url());
        all.spawn(async move {
            let _place = places.acquire().await.expect("never closed");
            let wrong = wrong_after_finishing(&url, &recorded, place, &folder).await;
            assert!(wrong.is_empty(), "at {place}, {survival:?}:\n{}", wrong.join("\n"));
        });
    }
    all.join_all().await.len()
}

async fn wrong_after_finishing(
    url: &str,
    recorded: &Recorded,
    place: usize,
    folder: &TempDir,
) -> Vec<String> {
    let told = Told::before(&recorded.log, place);
    let (sender, receiver) = (folder.path().join("alice.db"), folder.path().join("bob.db"));
    let taken = if receiver.exists() { expect::taken(&receiver, PLAIN) } else { BTreeMap::new() };
    let prefix = format!("cut-{place}");
    let bob = begin(quick(url, &prefix, folder.path(), "bob")).await;
    let handled = Handled::default();
    receive(&bob, &handled, None).await;
    let alice = begin(quick(url, &prefix, folder.path(), "alice")).await;
    create_orders(&alice).await;
    for channel in [PLAIN, EXACT] {
        join(&alice, channel, Mode::Writer).await;
        crate::nodes::reader_is_known(&alice, channel, "bob").await;
    }
    crate::nodes::reader_is_known(&alice, SLOW, "bob").await;
    alice.purge("bob", Some(SLOW)).await.expect("purged");
    settled(&alice).await;
    alice.shutdown().await;
    bob.shutdown().await;

    let mut wrong = expect::unsettled(&sender);
    wrong.extend(expect::is_sound(&sender).err());
    wrong.extend(expect::is_sound(&receiver).err());
    wrong.extend(expect::wrong_with_sender(&sender, &told));
    // Whatever was sent must have had its effect by now.
    let everything = Told {
        effects: told.sent.get(EXACT).into_iter().flatten().cloned().collect(),
        ..Told::before(&recorded.log, place)
    };
    wrong.extend(expect::wrong_with_receiver(&receiver, &recorded.log, &everything));
    wrong.extend(expect::wrong_with_handling(&told, &handled, &taken));
    wrong
}
