//! Tests of the store as a whole, on real files.

mod accounts;
mod alone;
mod backlog;
mod clock;
mod elections;
mod failures;
mod faults;
mod foreign;
mod limits;
mod members;
mod space;
mod transactions;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::clock::hand::HandClock;
use super::*;
use crate::config::{Overflow, WallClock};
use crate::message::{
    ChannelName, MessageId, NewMessage, NodeId, Prepared, Priority, StoreId, TopicId,
};
use crate::protocol::report::Account;
use crate::store::error::SendError;

pub(super) const START_MS: u64 = 1_800_000_000_000;
pub(super) const DAY_MS: u64 = 86_400_000;

/// A folder, a clock, and the store in it.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) clock: HandClock,
    pub(super) store: Store,
    pub(super) notices: Notices,
    pub(super) restored: Restored,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let clock = HandClock::at(START_MS);
        Self::open(folder, clock, change)
    }

    fn open(folder: TempDir, clock: HandClock, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = options(&folder.path().join("node.db"));
        change(&mut options);
        let opened = Store::open_at(options, Box::new(clock.clone())).expect("the store opens");
        let Opened { store, notices, restored, .. } = opened;
        Self { folder, clock, store, notices, restored }
    }

    pub(super) async fn reopened(self) -> Self {
        self.reopened_with(|_| {}).await
    }

    pub(super) async fn reopened_with(self, change: impl FnOnce(&mut Options)) -> Self {
        self.store.close().await;
        Self::open(self.folder, self.clock, change)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("node.db")
    }

    /// Another connection to the file, for looking and for harm.
    pub(super) fn sql(&self) -> Connection {
        Connection::open(self.path()).expect("the file opens")
    }

    pub(super) fn count(&self, sql: &str) -> u64 {
        self.sql().query_row(sql, [], |row| row.get(0)).expect("a count")
    }

    pub(super) async fn send(&self, channel: &str, text: &str) -> MessageId {
        self.store.send(vec![text_to(channel, text)]).await.expect("accepted")[0]
    }

    pub(super) async fn send_many(&self, channel: &str, count: usize) -> Vec<MessageId> {
        let batch = (0..count).map(|n| text_to(channel, &n.to_string())).collect();
        self.store.send(batch).await.expect("accepted")
    }

    pub(super) async fn subscribe(&self, reader: &str, channel: &str, start: Start) -> Vec<Cursor> {
        self.store.subscribe(node(reader), name(channel), start).await.expect("subscribed")
    }

    pub(super) async fn account(&self, receiver: &str) -> Account {
        let accounts = self.store.accounts().await.expect("accounts");
        accounts
            .into_iter()
            .find(|account| account.receiver == Some(node(receiver)))
            .expect("an account")
    }

    /// The receiver acknowledges everything in this topic up to a seq, `count` messages.
    pub(super) fn ack(
        &self,
        receiver: &str,
        topic: TopicId,
        seqs: (u64, u64),
        count: u64,
    ) -> Settlement {
        Settlement {
            receiver: node(receiver),
            topic,
            first_seq: seqs.0,
            last_seq: seqs.1,
            last_id: MessageId::from_u128(1),
            outcome: Outcome::Acknowledged,
            count,
            at_ms: self.store.now_ms(),
        }
    }
}

pub(super) fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        id: None,
        fallback_id: node("home"),
        host: "host".to_owned(),
        durability: Durability::Normal,
        inbox_durability: Durability::Normal,
        queue_limit: 1_000_000,
        storage_limit: None,
        overflow: Overflow::Reject,
        retention: Duration::from_millis(3 * DAY_MS),
        audit_retention: Duration::from_millis(3 * DAY_MS),
        wall_clock: WallClock::Auto,
    }
}

pub(super) fn node(text: &str) -> NodeId {
    NodeId::new(text).expect("a valid name")
}

pub(super) fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("a valid name")
}

pub(super) fn prepared(channel: &str, message: NewMessage) -> Prepared {
    message.prepare(&name(channel), None, 100_000_000).expect("a valid message")
}

pub(super) fn text_to(channel: &str, text: &str) -> Prepared {
    prepared(channel, NewMessage::text(text))
}

pub(super) fn page_of(store: &Store, lane: Priority, topics: &[(TopicId, u64)]) -> Page {
    let request =
        PageRequest { lane, topics: topics.to_vec(), max_messages: 1_000, max_bytes: 1_000_000 };
    store.page(&request).expect("a page")
}

#[test]
fn every_statement_prepares_against_a_fresh_file() {
    use super::{
        audit, cleanup, cursors, dead_letters, drain, election, inbox, limits, members, meta,
        outbox,
    };
    use super::{clock::rows, pager, strays, writer};
    let folder = TempDir::new().expect("a folder");
    let holder = Holder { node: "a".to_owned(), pid: 1, host: "h".to_owned() };
    let file = open::open(&folder.path().join("node.db"), &holder).expect("the file opens");
    let statements = [
        audit::INSERT,
        drain::SELECT,
        drain::BEGIN,
        drain::END,
        cleanup::SCAN,
        cleanup::SETTLEMENTS_STEP,
        cleanup::DELETE_SETTLEMENTS,
        cleanup::ATTEMPTS_STEP,
        cleanup::DELETE_ATTEMPTS,
        cleanup::DELETE_AUDIT,
        cleanup::DEAD_LETTERS_STEP,
        cleanup::DELETE_DEAD_LETTERS,
        cleanup::SURPLUS_DEAD_LETTERS,
        cleanup::DELETE_DEAD_LETTER,
        cleanup::OPTIMIZE,
        cursors::UPSERT,
        cursors::DELETE_OF,
        cursors::INSERT_SETTLEMENT,
        cursors::INSERT_ATTEMPT,
        dead_letters::INSERT,
        dead_letters::SELECT,
        dead_letters::FIND,
        dead_letters::REDRIVEN,
        election::SELECT,
        election::UPSERT,
        election::SELECT_FENCED,
        election::SELECT_FENCE,
        election::UPSERT_FENCE,
        inbox::ADVANCE,
        inbox::BEGIN,
        inbox::TRIM,
        inbox::SELECT,
        inbox::SEALED,
        inbox::FORGET,
        limits::DELETE,
        limits::RELINK,
        members::UPSERT_PEER,
        members::SELECT_PEERS,
        members::DELETE_PEER,
        members::SUBSCRIBE,
        members::UNSUBSCRIBE,
        members::UNSUBSCRIBE_ALL,
        members::SELECT_SUBSCRIPTIONS,
        members::JOIN,
        members::SELECT_JOINED,
        members::SELECT_LEFT,
        members::LEAVE,
        meta::SELECT_META,
        meta::INSERT_META,
        meta::RAISE_LAST,
        meta::SELECT_STORES,
        meta::INSERT_STORE,
        open::SELECT_END_SEQ,
        meta::SELECT_LAST_CREATED,
        meta::SELECT_TOPICS,
        meta::SELECT_CURSORS,
        meta::SELECT_SETTLED,
        cursors::SELECT_SKIPPED,
        meta::SELECT_FAILED,
        outbox::INSERT_TOPIC,
        outbox::UPDATE_TOPIC,
        outbox::INSERT,
        outbox::LINK,
        outbox::NEXT,
        outbox::COUNT,
        outbox::AT_OR_AFTER,
        outbox::RUN,
        pager::NORMAL,
        pager::OTHER,
        pager::TOPIC,
        pager::TIMES,
        open::generation::SELECT,
        open::generation::UPDATE,
        strays::FIND,
        strays::PUT_BACK,
        tx::SAVEPOINT,
        tx::RELEASE,
        tx::ROLLBACK,
        writer::BEGIN,
        writer::COMMIT,
        writer::ROLLBACK,
        file::FULL,
        file::NORMAL,
        checkpoint::LOG_PAGES,
        checkpoint::COPY_LOG,
        limits::OLDEST,
        cleanup::RECORDS[0],
        cleanup::RECORDS[1],
        room::PAGE_SIZE,
        room::PAGE_COUNT,
        room::FREE_PAGES,
        checkpoint::TRUNCATE_LOG,
        rows::SELECT,
        rows::UPSERT,
        rows::SELECT_SEGMENTS,
        rows::UPSERT_SEGMENT,
        rows::DELETE_SEGMENT,
        rows::AGE_JOINS,
    ];
    for sql in statements {
        file.writer.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[test]
fn the_lanes_that_are_not_normal_are_found_by_their_index() {
    let folder = TempDir::new().expect("a folder");
    let holder = Holder { node: "a".to_owned(), pid: 1, host: "h".to_owned() };
    let file = open::open(&folder.path().join("node.db"), &holder).expect("the file opens");
    let plan: String = file
        .writer
        .query_row(&format!("EXPLAIN QUERY PLAN {}", super::pager::OTHER), [0, 0], |row| row.get(3))
        .expect("a plan");
    assert!(
        plan.contains("waypost_outbox_lanes (lane=? AND seq>?)")
            || plan.contains("waypost_outbox_lanes (lane=? AND rowid>?)"),
        "{plan}"
    );
}
