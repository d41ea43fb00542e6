//! P2, P6: bits that flip in a node's file. A damaged message is never delivered: it becomes a dead letter, is counted and told, and the
//! queue goes on behind it. What a log loses is told, too.
//!
//! `WAYPOST_CUTS=all` flips every bit instead of some.

mod nodes;
mod power;
mod rot;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use nodes::{account, begin, settled};
use rot::place::{self, Cell};
use rot::{Arrived, READER, Stock, Told, builder};
use support::nats_server::NatsServer;
use waypost::MessageId;
use waypost::inspect::Inspector;

/// So many bytes of a row are tried; none is longer.
const ROW_BYTES: usize = 220;

fn thorough() -> bool {
    std::env::var("WAYPOST_CUTS").is_ok_and(|value| value == "all")
}

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
                flips.push(Flip { id, column: cell.column(at), at, mask });
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
) {
    let told = Told::by(alice);
    let bob = begin(builder(&server.url(), prefix, stock.folder.path(), READER)).await;
    let arrived = Arrived::at(&bob).await;
    settled(alice).await;
    let account = account(alice, READER).await;
    let letters = alice.dead_letters(usize::MAX).await.expect("readable");
    bob.shutdown().await;
    assert_eq!(arrived.wrong(&stock.sent), Vec::<String>::new());

    let harmed: Vec<&Flip> =
        flips.iter().filter(|flip| !OF_ITS_PLACE.contains(&flip.column)).collect();
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
    assert_eq!(
        report.findings.len() as u64 + report.further >= flips.len() as u64,
        true,
        "{report:?}"
    );
    for flip in flips.iter().filter(|flip| ["payload", "headers", "kind"].contains(&flip.column)) {
        let story = inspector.why(flip.id).expect("readable").expect("known");
        assert!(!story.accepted.expect("accepted").intact, "{flip:?}");
    }
    drop(inspector);
    let alice = begin(builder(&server.url(), "file", stock.folder.path(), "alice")).await;
    check_quarantine(&stock, &alice, &server, "file", &flips).await;
    alice.shutdown().await;
}
