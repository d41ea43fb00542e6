//! P2, P6: bits that flip in a node's file. A damaged message is never delivered: it becomes a dead letter, is counted and told, and the
//! queue goes on behind it. What a log loses is told, too.
//!
//! `WAYPOST_CUTS=all` flips every bit instead of some.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::nodes::{account, begin, settled};
use crate::power::join;
use crate::rot::fate::{self, Fate};
use crate::rot::place::{self, Cell, PAGE_BYTES};
use crate::rot::{Arrived, READER, Stock, Told, builder};
use crate::support::nats_server::NatsServer;
use crate::{NOWHERE, thorough};
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use waypost::inspect::{InspectError, Inspector};
use waypost::{LogCut, MessageId, Mode};
use waypost_faultfs::{Disk, Image, Replay, Survival};

const SIDE_BY_SIDE: usize = 8;
/// For hundreds of dead letters, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// So many bytes of a row are tried; none is longer.
const ROW_BYTES: usize = 220;

/// The bits of the byte at this place that are flipped, each alone.
fn masks(place: usize) -> impl Iterator<Item = u8> {
    let all = thorough();
    let few = [place % 8, (place * 3 + 5) % 8].map(|bit| 1 << bit);
    (0..8).map(|bit| 1 << bit).filter(move |mask| all || few.contains(mask))
}

/// One bit of a message.
#[derive(Debug)]
struct Flip {
    id: MessageId,
    column: &'static str,
    /// In the file.
    at: usize,
    page: usize,
    mask: u8,
}

/// Flips for every second message of these, each at another place or bit.
fn flips(messages: &[(MessageId, String)], cell: impl Fn(MessageId) -> Cell) -> Vec<Flip> {
    let mut victims = messages.iter().skip(1).step_by(2).map(|(id, _)| *id);
    let mut flips = Vec::new();
    for place in 0..ROW_BYTES {
        for mask in masks(place) {
            let Some(id) = victims.next() else { panic!("too few messages, at {place}") };
            let cell = cell(id);
            let at = cell.body.start + place;
            if cell.body.contains(&at) {
                flips.push(Flip { id, column: cell.column(at), at, page: cell.page, mask });
            }
        }
    }
    flips
}

/// So many messages are enough for [`flips`].
fn wanted() -> usize {
    2 * (0..ROW_BYTES).map(|place| masks(place).count()).sum::<usize>() + 1
}

/// What says where a message belongs, and not what it is.
const OF_ITS_PLACE: [&str; 2] = ["topic", "previous_seq"];

/// Lets the receiver come back, and checks what becomes of damaged messages and of all others.
async fn check_quarantine(
    stock: &Stock,
    alice: &waypost::Node,
    server: &NatsServer,
    prefix: &str,
    flips: &[Flip],
    keeps_pages: bool,
) {
    let told = Told::by(alice);
    let bob = begin(builder(&server.url(), prefix, stock.folder.path(), READER)).await;
    let arrived = Arrived::at(&bob).await;
    // Each dead letter is on record before what is behind it is sent.
    let flushed = alice.flush(PATIENCE).await.expect("it runs");
    assert!(flushed.is_complete(), "{flushed:?}");
    let account = account(alice, READER).await;
    let letters = alice.dead_letters(usize::MAX).await.expect("readable");
    bob.shutdown().await;
    assert_eq!(arrived.wrong(&stock.sent), Vec::<String>::new());

    let mut harmed: Vec<&Flip> =
        flips.iter().filter(|flip| !OF_ITS_PLACE.contains(&flip.column)).collect();
    if keeps_pages {
        // To put a message back, a page is written as the node has it in memory.
        let written = |flip: &Flip| {
            flips.iter().any(|other| other.column == "topic" && other.page == flip.page)
        };
        harmed.retain(|flip| !written(flip));
    }
    let places: BTreeMap<MessageId, u64> =
        (1..).zip(&stock.sent).map(|(seq, (id, _))| (*id, seq)).collect();
    let dead: BTreeSet<u64> = letters.iter().map(|letter| letter.seq).collect();
    let arrived = arrived.ids();
    for flip in &harmed {
        assert!(!arrived.contains(&flip.id), "delivered: {flip:?}");
        assert!(dead.contains(&places[&flip.id]), "no dead letter: {flip:?}");
    }
    for (id, text) in &stock.sent {
        let is_harmed = harmed.iter().any(|flip| flip.id == *id);
        assert!(is_harmed || arrived.contains(id), "missing: {id} {text}");
    }
    let (all, lost) = (stock.sent.len() as u64, harmed.len() as u64);
    assert_eq!((account.accepted, account.pending), (all, 0));
    assert_eq!((account.dead, account.acknowledged), (lost, all - lost));
    let told = told.dead();
    for flip in harmed.iter().filter(|flip| flip.column != "id") {
        assert!(told.contains(&flip.id), "not told: {flip:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_rots_in_the_file_is_put_aside_and_told() {
    let server = NatsServer::start();
    let stock = Stock::at_rest(&server, "file", wanted()).await;
    let path = stock.path("alice.db");
    let mut file = std::fs::read(&path).expect("readable");
    let flips = flips(&stock.sent, |id| place::in_database(&file, id));
    for flip in &flips {
        file[flip.at] ^= flip.mask;
    }
    std::fs::write(&path, &file).expect("written");
    let columns: BTreeSet<&str> = flips.iter().map(|flip| flip.column).collect();
    println!("{} flips in {} messages: {columns:?}", flips.len(), stock.sent.len());

    let inspector = Inspector::open(&path).expect("opened");
    let report = inspector.check(|_| ()).expect("checked");
    let found = report.findings.len() as u64 + report.further;
    assert!(found >= flips.len() as u64, "{report:?}");
    for flip in flips.iter().filter(|flip| ["payload", "headers", "kind"].contains(&flip.column)) {
        let story = inspector.why(flip.id).expect("readable").expect("known");
        assert!(!story.accepted.expect("accepted").intact, "{flip:?}");
    }
    drop(inspector);
    let alice = begin(builder(&server.url(), "file", stock.folder.path(), "alice")).await;
    check_quarantine(&stock, &alice, &server, "file", &flips, false).await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_rots_in_the_log_of_a_running_node_is_put_aside_and_told() {
    let server = NatsServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let (mut stock, alice) = Stock::begin(&server, "running", folder).await;
    // As many as the sender keeps in memory, where they do not rot.
    stock.send(&alice, 300).await;
    let kept = stock.sent.len();
    stock.send(&alice, wanted()).await;
    let log = disk.log();
    let mut replay = Replay::new(&log);
    replay.advance_to(log.ops().len());
    let image = replay.image(Survival::All);
    let wal = image.file("alice.db-wal").expect("a log");
    let flips = flips(&stock.sent[kept..], |id| place::in_log(wal, id));
    for flip in &flips {
        disk.rot("alice.db-wal", flip.at as u64, flip.mask);
    }
    println!("{} flips in a log of {} bytes", flips.len(), wal.len());
    check_quarantine(&stock, &alice, &server, "running", &flips, true).await;
    alice.shutdown().await;
}

/// A log that was left behind, with what was sent into it.
struct Left {
    image: Image,
    sent: Vec<String>,
}

/// The files of a node that was killed after so many messages.
async fn left(messages: usize) -> Left {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let alice = begin(builder(NOWHERE, "left", folder.path(), "alice")).await;
    let channel = join(&alice, "work", Mode::Writer).await;
    let mut sent = Vec::new();
    for n in 0..messages {
        sent.push(channel.send(format!("message {n}")).await.expect("sent").to_string());
    }
    let log = disk.log();
    let mut replay = Replay::new(&log);
    replay.advance_to(log.ops().len());
    let image = replay.image(Survival::All);
    alice.shutdown().await;
    Left { image, sent }
}

/// Starts a node where one bit of the log flipped while it was stopped. What is wrong, or how much was told to be lost.
async fn starts_with_damaged_log(
    left: &Left,
    at: usize,
    mask: u8,
) -> Result<Option<LogCut>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    left.image.write("alice", folder.path()).expect("written");
    let (file, wal) = (folder.path().join("alice.db"), folder.path().join("alice.db-wal"));
    let mut bytes = std::fs::read(&wal).expect("readable");
    bytes[at] ^= mask;
    std::fs::write(&wal, bytes).expect("written");
    let report = Inspector::open(&file).and_then(|it| it.check(|_| ()));
    let found = match &report {
        Ok(report) => report.log.is_some(),
        // Nothing is left of a file that never left its log.
        Err(InspectError::NoNode { .. }) => true,
        Err(error) => return Err(format!("not checked: {error}")),
    };
    let begin = || begin(builder(NOWHERE, "left", folder.path(), "alice"));
    let alice = begin().await;
    let cut = alice.status().log_cut;
    alice.shutdown().await;
    if found != cut.is_some() {
        return Err(format!("{cut:?}, and the check says {report:?}"));
    }
    let kept = outbox(&file);
    if !left.sent.starts_with(&kept) {
        return Err(format!("not a beginning of what was sent: {kept:?}"));
    }
    let missing = left.sent.len() - kept.len();
    if let Some(cut) = cut {
        let last = kept.last().cloned().unwrap_or(MessageId::ZERO.to_string());
        if cut.last_id.to_string() != last
            || (cut.transactions as usize) < missing.saturating_sub(1)
        {
            return Err(format!("{cut:?}, with {missing} missing, the last one is {last}"));
        }
        let noted = Inspector::open(&file).and_then(|it| it.audit(100)).expect("readable");
        if noted.iter().filter(|entry| entry.action == LogCut::ACTION).count() != 1 {
            return Err(format!("not on record: {noted:?}"));
        }
    } else if missing > 1 {
        return Err(format!("{missing} messages are missing, and nobody says so"));
    }
    let alice = begin().await;
    if let Some(again) = alice.status().log_cut {
        return Err(format!("told again: {again:?}"));
    }
    alice.shutdown().await;
    Ok(cut)
}

fn outbox(file: &Path) -> Vec<String> {
    let sql = Connection::open(file).expect("opened");
    let mut statement = sql.prepare("SELECT id FROM waypost_outbox ORDER BY seq").expect("a table");
    let ids = statement.query_map([], |row| Ok(MessageId::from_bytes(row.get(0)?).to_string()));
    ids.expect("readable").collect::<Result<_, _>>().expect("readable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_log_lost_while_the_node_was_stopped_is_told_once() {
    let left = Arc::new(left(12).await);
    let wal = left.image.file("alice.db-wal").expect("a log").to_vec();
    let pages: Vec<usize> = place::frames(&wal).collect();
    let mut places: Vec<usize> = (0..32).step_by(if thorough() { 1 } else { 7 }).collect();
    for (number, page) in pages.iter().enumerate() {
        // Of each frame's header: page, size, salts, checksum; and of the page.
        let each = [
            page - 21,
            page - 18,
            page - 13,
            page - 5,
            page + number * 61 % PAGE_BYTES,
            page + PAGE_BYTES - 1,
        ];
        places.extend(each.into_iter().skip(number % 3).step_by(if thorough() { 1 } else { 3 }));
    }
    let last_page = *pages.last().expect("frames");
    let (flips, side_by_side) = (places.len(), Arc::new(Semaphore::new(SIDE_BY_SIDE)));
    let mut cases = JoinSet::new();
    for at in places {
        let (left, turns) = (Arc::clone(&left), Arc::clone(&side_by_side));
        cases.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            let cut = starts_with_damaged_log(&left, at, 1 << (at % 8)).await;
            (at, cut.unwrap_or_else(|wrong| panic!("at {at}: {wrong}")))
        });
    }
    let cuts = cases.join_all().await;
    let told = cuts.iter().filter(|(_, cut)| cut.is_some()).count();
    println!("{flips} flips in {} frames, {told} told", pages.len());
    // What is left is the last transaction, of a few frames: a bad end of it looks like a write that the power cut short.
    let unseen: Vec<usize> =
        cuts.iter().filter(|(_, cut)| cut.is_none()).map(|(at, _)| *at).collect();
    assert!(
        unseen.iter().all(|at| at + 8 * (PAGE_BYTES + 24) > last_page),
        "{unseen:?} of {}",
        wal.len()
    );
}

/// Flips in what holds a row and a page together, and anywhere.
fn anywhere(file: &[u8], id: MessageId) -> Vec<(usize, u8)> {
    let cell = place::in_database(file, id);
    let page_head = cell.page..cell.page + 24;
    let mut flips: Vec<(usize, u8)> =
        page_head.chain(cell.head).flat_map(|at| masks(at).map(move |mask| (at, mask))).collect();
    let mut dice = fastrand::Rng::with_seed(11);
    let count = if thorough() { 1_500 } else { 240 };
    // Most of so small a file is empty.
    let used: Vec<usize> = (0..file.len()).filter(|at| file[*at] != 0).collect();
    flips.extend((0..count).map(|_| (used[dice.usize(..used.len())], 1 << dice.u8(..8))));
    flips
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bit_that_flips_anywhere_in_a_file_delivers_nothing_damaged_and_is_not_passed_over() {
    let server = NatsServer::start();
    let stock = Arc::new(Stock::at_rest(&server, "anywhere", 12).await);
    let file = Arc::new(std::fs::read(stock.path("alice.db")).expect("readable"));
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut cases = JoinSet::new();
    for (number, (at, mask)) in anywhere(&file, stock.sent[6].0).into_iter().enumerate() {
        let (stock, file, turns) = (Arc::clone(&stock), Arc::clone(&file), Arc::clone(&turns));
        let url = server.url();
        cases.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            let stock = stock.copied();
            let mut bytes = file.to_vec();
            bytes[at] ^= mask;
            std::fs::write(stock.path("alice.db"), bytes).expect("written");
            let fate = fate::of(&stock, &url, &format!("anywhere-{number}")).await;
            fate.map_err(|wrong| format!("at {at}, {mask:#x}: {wrong}"))
        });
    }
    let (mut fates, mut wrong) = (BTreeMap::<Fate, usize>::new(), Vec::new());
    for fate in cases.join_all().await {
        match fate {
            Ok(fate) => *fates.entry(fate).or_default() += 1,
            Err(error) => wrong.push(error),
        }
    }
    println!("{fates:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lets both run on with a receiver's file in which one bit of its place in the sender's messages flipped. What is wrong.
async fn goes_on_from(
    stock: &Stock,
    taken: usize,
    at: usize,
    mask: u8,
    url: &str,
    prefix: &str,
) -> Vec<String> {
    let path = stock.path("bob.db");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[at] ^= mask;
    std::fs::write(&path, bytes).expect("written");
    let report = Inspector::open(&path).expect("opened").check(|_| ()).expect("checked");
    let bob = begin(builder(url, prefix, stock.folder.path(), READER)).await;
    let arrived = Arrived::at(&bob).await;
    let alice = begin(builder(url, prefix, stock.folder.path(), "alice")).await;
    settled(&alice).await;
    alice.shutdown().await;
    bob.shutdown().await;
    let ids = arrived.ids();
    let mut wrong = arrived.wrong(&stock.sent);
    if report.is_sound() {
        wrong.push("the check finds nothing".to_owned());
    }
    let known = |id: &MessageId| stock.sent[..taken].iter().any(|(taken, _)| taken == id);
    wrong.extend(ids.iter().filter(|id| known(id)).map(|id| format!("{id} came again")));
    let missing = stock.sent[taken..].iter().filter(|(id, _)| !ids.contains(id));
    wrong.extend(missing.map(|(id, _)| format!("{id} is missing")));
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_receivers_place_that_rots_passes_over_nothing() {
    let server = NatsServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (mut stock, alice) = Stock::begin(&server, "place", folder).await;
    stock.send(&alice, 5).await;
    let taken = stock.sent.len();
    let bob = begin(builder(&server.url(), "place", stock.folder.path(), READER)).await;
    let arrived = Arrived::at(&bob).await;
    settled(&alice).await;
    assert_eq!(arrived.ids().len(), taken);
    bob.shutdown().await;
    // So that a place a little further on lies among them.
    for count in [5, 4, 3, 2, 1] {
        stock.send(&alice, count).await;
    }
    alice.shutdown().await;

    let file = std::fs::read(stock.path("bob.db")).expect("readable");
    let place = stock.sent[taken - 1].0.to_bytes();
    let places: Vec<usize> =
        (0..file.len() - 16).filter(|at| file[*at..*at + 16] == place).collect();
    let [place] = places[..] else { panic!("where is it? {places:?}") };
    let (stock, turns) = (Arc::new(stock), Arc::new(Semaphore::new(SIDE_BY_SIDE)));
    let mut cases = JoinSet::new();
    for (at, mask) in
        (place..place + 16).flat_map(|at| masks(at - place).map(move |mask| (at, mask)))
    {
        let (stock, turns, url) = (Arc::clone(&stock), Arc::clone(&turns), server.url());
        cases.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            let stock = stock.copied();
            let wrong =
                goes_on_from(&stock, taken, at, mask, &url, &format!("place-{at}-{mask}")).await;
            wrong
                .into_iter()
                .map(move |wrong| format!("at {}, {mask:#x}: {wrong}", at - place))
                .collect::<Vec<_>>()
        });
    }
    println!("{} flips", cases.len());
    let wrong = cases.join_all().await.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
