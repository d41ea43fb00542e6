//! The accounts.

use super::*;

#[test]
fn the_queue_is_the_account_of_each_receiver() {
    let fixture = Fixture::filled();
    let rows = fixture.queue();
    for row in &rows {
        let sum = row.pending + row.acknowledged + row.expired + row.dead + row.purged;
        assert_eq!(row.accepted, sum, "{row:?}");
    }
    let oldest = |seq| Some(Oldest { id: id(seq), created_ms: T0 + seq });
    let [bob, carol, dave, nobody] = rows.try_into().expect("four rows");
    let answer = "handler failed: no stock".to_owned();
    let last_failure = Some(Failure { attempt: 2, at_ms: 1600, answer });
    assert_eq!(
        bob,
        QueueRow {
            receiver: Some(node("bob")),
            accepted: 8,
            pending: 4,
            acknowledged: 3,
            dead: 1,
            oldest: oldest(5),
            last_failure,
            ..QueueRow::default()
        }
    );
    let row = QueueRow::default();
    let (receiver, oldest_carol) = (Some(node("carol")), oldest(9));
    assert_eq!(carol, QueueRow { receiver, accepted: 2, pending: 2, oldest: oldest_carol, ..row });
    // A receiver that left has nothing pending.
    let (row, receiver) = (QueueRow::default(), Some(node("dave")));
    assert_eq!(dave, QueueRow { receiver, accepted: 2, acknowledged: 1, expired: 1, ..row });
    let (row, oldest) = (QueueRow::default(), oldest(8));
    assert_eq!(nobody, QueueRow { accepted: 3, pending: 1, expired: 2, oldest, ..row });
}

#[test]
fn what_a_reader_left_behind_when_it_was_the_last_waits_for_nobody() {
    let fixture = Fixture::new();
    fixture
        .sql("INSERT INTO waypost_topics (topic, channel, target, lane) VALUES (1, 'c', NULL, 1)");
    (1..=3).for_each(|seq| fixture.message(seq, 1));
    fixture.sql("INSERT INTO waypost_cursors VALUES ('bob', 1, 0, 1, NULL, 0, 1, 0, 0, 0)");
    let [bob, nobody] = fixture.queue().try_into().expect("two rows");
    assert_eq!((bob.pending, bob.accepted), (0, 1));
    assert_eq!((nobody.receiver, nobody.pending), (None, 2));
    assert_eq!(nobody.oldest.map(|oldest| oldest.id), Some(id(2)));
}

#[test]
fn the_oldest_message_is_found_forwards_and_backwards() {
    let fixture = Fixture::new();
    fixture.sql(
        "INSERT INTO waypost_topics (topic, channel, target, lane) VALUES (1, 'c', NULL, 1), (2, 'd', NULL, 1)",
    );
    fixture.message(1, 2);
    fixture.message(2, 1);
    // More than are walked back, between two of another topic.
    fixture.sql(
        "WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
         INSERT INTO waypost_outbox SELECT i, zeroblob(16), 1, 1, i - 1, 1, NULL, 'k', NULL, 0, 0, x'' FROM n;
         UPDATE waypost_topics SET accepted = 1499, last_seq = 1500 WHERE topic = 1",
    );
    fixture.message(1501, 2);
    fixture.sql(
        "INSERT INTO waypost_cursors VALUES
           ('bob', 1, 1, 0, NULL, 0, 0, 0, 0, 0), ('carol', 2, 1, 0, NULL, 0, 0, 0, 0, 0),
           ('dave', 2, 1, 1, NULL, 0, 1, 0, 0, 0)",
    );
    let rows = fixture.queue();
    let oldest: Vec<_> = rows.into_iter().map(|row| row.oldest.map(|oldest| oldest.id)).collect();
    assert_eq!(oldest, [Some(id(2)), Some(id(1)), Some(id(1501))]);
}
