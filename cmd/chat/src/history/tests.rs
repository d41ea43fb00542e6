use proptest::prelude::*;

use super::*;
use crate::room::tests::changes;
use crate::room::{Content, Room};

const CHANNEL: &str = "c";

fn file() -> (tempfile::TempDir, Connection, Reader) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.db");
    let connection = Connection::open(&path).expect("a file");
    connection.pragma_update(None, "journal_mode", "wal").expect("a log");
    prepare(&connection).expect("tables");
    let reader = Reader::open(&path).expect("a reader");
    (folder, connection, reader)
}

fn write(connection: &Connection, sender: &str, number: u128, change: &Change) -> Recorded {
    let (kind, body) = change.encode().expect("JSON");
    let event = Event {
        sender: NodeId::new(sender).expect("a name"),
        id: MessageId::from_u128(number << 80),
        kind: kind.to_owned(),
        to: None,
        body,
        seq: 0,
    };
    record(connection, CHANNEL, &event, change).expect("a row")
}

fn text(text: &str) -> Change {
    Change::Text(text.to_owned())
}

fn target(number: u128) -> MessageId {
    MessageId::from_u128(number << 80)
}

#[test]
fn a_page_is_the_last_messages_with_all_that_belongs_to_them() {
    let (_folder, connection, reader) = file();
    for number in 1..=5 {
        write(&connection, "alice", number, &text(&number.to_string()));
    }
    let alice = NodeId::new("alice").expect("a name");
    write(&connection, "alice", 6, &Change::Edit { target: target(2), text: "two".into() });
    let key = Key { id: target(2), sender: alice.clone() };
    write(&connection, "bob", 7, &Change::React { target: key, emoji: "x".into(), on: true });
    write(&connection, "bob", 8, &Change::Read([(alice.clone(), target(2))].into()));
    let last = reader.page(CHANNEL, None, 3).expect("a page").view();
    assert_eq!(last.iter().map(|post| post.key.id).collect::<Vec<_>>(), [3, 4, 5].map(target));
    let before = reader.page(CHANNEL, Some(last[0].seq), 3).expect("a page").view();
    assert_eq!(before.iter().map(|post| post.key.id).collect::<Vec<_>>(), [1, 2].map(target));
    assert_eq!(before[1].content, Content::Text("two".to_owned()));
    assert_eq!(before[1].reactions.len() + before[1].read_by.len(), 2);
    assert!(reader.page("other", None, 3).expect("a page").view().is_empty());
}

#[test]
fn what_was_deleted_is_no_longer_in_the_file_whatever_came_first() {
    let (_folder, connection, reader) = file();
    let delete = Change::Delete { target: target(1) };
    let edit = Change::Edit { target: target(1), text: "secret 2".into() };
    let orders: [&[(u128, &Change)]; 2] = [
        &[(1, &text("secret 1")), (2, &edit), (3, &delete)],
        &[(3, &delete), (2, &edit), (1, &text("secret 1"))],
    ];
    for order in orders {
        connection.execute("DELETE FROM chat_events", []).expect("empty");
        for (number, change) in order {
            write(&connection, "alice", *number, change);
        }
        let view = reader.page(CHANNEL, None, 9).expect("a page").view();
        assert_eq!(view[0].content, Content::Deleted);
        let left: u64 = connection
            .query_row("SELECT count(*) FROM chat_events WHERE instr(body, 'secret')", [], |row| {
                row.get(0)
            })
            .expect("a count");
        assert_eq!(left, 0);
    }
}

#[test]
fn a_message_finds_the_edit_that_came_in_an_earlier_run() {
    let (_folder, connection, _reader) = file();
    write(&connection, "alice", 2, &Change::Edit { target: target(1), text: "b".into() });
    write(&connection, "alice", 3, &Change::Edit { target: target(1), text: "c".into() });
    let Recorded { notes, .. } = write(&connection, "alice", 1, &text("a"));
    assert_eq!(notes.len(), 1, "only the latest is kept");
    assert_eq!(notes[0].id, target(3));
}

#[test]
fn the_file_of_a_newer_program_is_refused() {
    let (_folder, connection, _reader) = file();
    connection.execute("UPDATE chat_version SET version = 9", []).expect("a change");
    assert!(matches!(prepare(&connection), Err(HistoryError::Newer(9))));
}

#[test]
fn an_order_is_carried_out_once() {
    let (_folder, connection, _reader) = file();
    let begun = |nonce| begin_order(&connection, nonce).expect("a row");
    assert!(begun("a") && begun("b") && !begun("a"));
}

#[test]
fn marks_are_kept_until_they_are_settled() {
    let (_folder, connection, reader) = file();
    begin_mark(&connection, CHANNEL, target(1)).expect("a mark");
    begin_mark(&connection, CHANNEL, target(2)).expect("a mark");
    assert_eq!(reader.open_marks(CHANNEL, 9).expect("ids"), [target(2), target(1)]);
    assert!(reader.open_marks("other", 9).expect("ids").is_empty());
    let mark = Mark { delivered: 1, failed: 1, readers: 2, settled: true, read: 0 };
    let names = vec![NodeId::new("bob").expect("a name")];
    let standing = Standing { mark, names };
    let marks = [(target(1), Some(standing.clone())), (target(2), None)];
    set_marks(&connection, &marks).expect("a mark");
    assert!(reader.open_marks(CHANNEL, 9).expect("ids").is_empty());
    assert_eq!(reader.standing(target(1)).expect("a row"), Some(standing));
    let gone = reader.standing(target(2)).expect("a row").expect("its row").mark;
    assert!(gone.settled && gone.delivered == 0, "what was known of it stays");
}

#[test]
fn who_reacts_with_everything_hides_no_edit() {
    let (_folder, connection, reader) = file();
    write(&connection, "alice", 1, &text("a"));
    let key = Key { id: target(1), sender: NodeId::new("alice").expect("a name") };
    for number in 2..40 {
        let emoji = format!("e{number}");
        for name in ["bob", "carol"] {
            let on = Change::React { target: key.clone(), emoji: emoji.clone(), on: true };
            write(&connection, name, number, &on);
        }
    }
    write(&connection, "alice", 2, &Change::Edit { target: target(1), text: "b".into() });
    let post = reader.post(CHANNEL, &key).expect("read").expect("it is there");
    assert_eq!(post.content, Content::Text("b".to_owned()));
    let reactions: usize = post.reactions.values().map(Vec::len).sum();
    assert_eq!(reactions, 2 * MAX_OWN_REACTIONS);
}

#[test]
fn what_is_not_known_here_is_not_kept() {
    let (_folder, connection, _reader) = file();
    let change = text("short");
    let (kind, _) = change.encode().expect("JSON");
    let body = format!("{{\"text\":\"short\",\"more\":\"{}\"}}", "x".repeat(90_000)).into_bytes();
    let (sender, id) = (NodeId::new("bob").expect("a name"), target(1));
    let event = Event { sender, id, kind: kind.to_owned(), to: None, body, seq: 0 };
    record(&connection, CHANNEL, &event, &change).expect("a row");
    let length = "SELECT length(body) FROM chat_events";
    let kept: u64 = connection.query_row(length, [], |row| row.get(0)).expect("a length");
    assert!(kept < 100, "{kept}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A restart shows what was shown before, whatever came in whatever order.
    #[test]
    fn file_and_memory_tell_the_same(senders in changes(), seed in any::<u64>(), limit in 1..30usize) {
        let (_folder, connection, reader) = file();
        let mut events = senders.concat();
        fastrand::Rng::with_seed(seed).shuffle(&mut events);
        let mut room = Room::new(limit);
        for event in &events {
            let Ok(change) = Change::of(event) else { continue };
            let recorded = record(&connection, CHANNEL, event, &change).expect("a row");
            for note in &recorded.notes {
                let _ = room.handle(note);
            }
            room.apply(&Event { seq: recorded.seq, ..event.clone() }, change);
        }
        let page = reader.page(CHANNEL, None, limit).expect("a page");
        prop_assert_eq!(room.view(), page.view());
    }
}
