//! What is told of one message.

use super::*;

fn state(story: &Story, receiver: &str) -> ReceiverState {
    let found = story.receivers.iter().find(|one| one.receiver == node(receiver));
    found.unwrap_or_else(|| panic!("{receiver} is not in {story:?}")).state.clone()
}

#[test]
fn a_story_says_where_the_message_is_for_each_receiver() {
    let fixture = Fixture::filled();
    let settled =
        |outcome: &str, at_ms| ReceiverState::Settled { outcome: outcome.to_owned(), at_ms };
    let story = fixture.story(2);
    assert_eq!(state(&story, "bob"), settled("acknowledged", 1111));
    assert_eq!(state(&story, "dave"), settled("expired", 4444));
    assert_eq!(state(&story, "carol"), ReceiverState::NotForIt);
    let accepted = story.accepted.expect("in the log");
    assert_eq!((accepted.seq, accepted.created_ms), (2, T0 + 2));
    assert_eq!(accepted.expires_ms, Some(T0 + 1002));
    assert_eq!((accepted.channel.as_str(), accepted.kind.as_str()), ("orders", "reading"));
    assert_eq!(accepted.headers.get("unit").map(String::as_str), Some("percent"));
    assert_eq!((accepted.stored_bytes, accepted.intact), (9, true));
    assert!(accepted.store_id.is_some());

    // Only the urgent one goes before 5; 6 and 10 wait behind it as well.
    assert_eq!(state(&fixture.story(5), "bob"), ReceiverState::Waiting { behind: 1 });
    assert_eq!(state(&fixture.story(6), "bob"), ReceiverState::Waiting { behind: 2 });
    assert_eq!(state(&fixture.story(7), "bob"), ReceiverState::Next);
    assert_eq!(state(&fixture.story(10), "bob"), ReceiverState::Waiting { behind: 3 });
    // The direct message 9 is of the same lane.
    assert_eq!(state(&fixture.story(9), "carol"), ReceiverState::Next);
    assert_eq!(state(&fixture.story(10), "carol"), ReceiverState::Waiting { behind: 1 });
    assert_eq!(state(&fixture.story(10), "dave"), ReceiverState::NotForIt);
    assert!(fixture.story(8).receivers.is_empty(), "nobody reads that channel");
}

#[test]
fn a_story_has_the_failures_and_the_dead_letter() {
    let fixture = Fixture::filled();
    let story = fixture.story(4);
    assert_eq!(
        state(&story, "bob"),
        ReceiverState::Settled { outcome: "dead".to_owned(), at_ms: 2222 }
    );
    let bob = &story.receivers[0];
    assert_eq!(bob.failures.len(), 2);
    assert_eq!(bob.dead_letter.as_ref().map(|letter| letter.reason.as_str()), Some("no stock"));
    let json = serde_json::to_value(&story).expect("JSON");
    assert_eq!(json["receivers"][0]["state"], "settled");
    assert_eq!(json["id"], id(4).to_string());

    // The message is gone, its letter stays.
    fixture.sql("DELETE FROM waypost_outbox WHERE seq <= 4; DELETE FROM waypost_settlements");
    let story = fixture.story(4);
    assert_eq!(story.accepted, None);
    assert_eq!(
        state(&story, "bob"),
        ReceiverState::Settled { outcome: "dead".to_owned(), at_ms: 2222 }
    );
    fixture.sql("UPDATE waypost_dead_letters SET redriven_as = zeroblob(16)");
    let letters = fixture.open().dead_letters(10).expect("letters");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id, letters[0].redriven_as), (id(4), Some(MessageId::ZERO)));
    assert_eq!(letters[0].stored_bytes, Some(9));
}

#[test]
fn every_message_is_found_although_places_are_missing() {
    let fixture = Fixture::filled();
    fixture.sql("DELETE FROM waypost_outbox WHERE seq IN (1, 3, 4, 8)");
    for seq in 1..=11 {
        let story = fixture.open().why(id(seq)).expect("read");
        let found = story.and_then(|story| story.accepted).map(|accepted| accepted.seq);
        let there = ![1, 3, 4, 8, 11].contains(&seq);
        assert_eq!(found, there.then_some(seq));
    }
    fixture.sql("DELETE FROM waypost_outbox");
    assert_eq!(fixture.open().why(id(5)).expect("read"), None);
}

#[test]
fn a_received_message_is_told_by_its_sender() {
    let fixture = Fixture::filled();
    let connection = Connection::open(&fixture.path).expect("opened");
    connection
        .execute(
            "INSERT INTO waypost_inbox VALUES ('erin', zeroblob(16), 'orders', 0, 1, ?1, ?2, 2, 99, NULL)",
            (id(100).to_bytes(), id(200).to_bytes()),
        )
        .expect("inserted");
    drop(connection);
    let story = fixture.story(150);
    assert!(story.accepted.is_none() && story.receivers.is_empty());
    let span = &story.received[0];
    assert_eq!((&span.sender, span.last_id, span.at_ms), (&node("erin"), id(200), 99));
    assert_eq!(fixture.open().why(id(201)).expect("read"), None);
    assert!(fixture.story(5).received.is_empty());
}

#[test]
fn the_audit_is_read_from_its_end() {
    let fixture = Fixture::filled();
    let audit = fixture.open().audit(1).expect("audit");
    assert_eq!((audit.len(), audit[0].action.as_str()), (1, "purge"));
    assert_eq!(fixture.open().audit(10).expect("audit").len(), 2);
}
