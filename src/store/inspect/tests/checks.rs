//! Damage that is found, and none that is not there.

use super::*;

#[test]
fn a_sound_file_has_no_findings() {
    let fixture = Fixture::filled();
    let mut stages = Vec::new();
    let report = fixture.open().check(|progress| stages.push(progress.stage)).expect("checked");
    assert_eq!(report, Report { messages: 10, ..Report::default() });
    stages.dedup();
    assert_eq!(
        stages,
        [Stage::Log, Stage::Pages, Stage::References, Stage::Messages, Stage::Accounts]
    );
    // Settled messages that were deleted, and one that expired unread between two others.
    fixture.sql(
        "DELETE FROM waypost_outbox WHERE seq < 3; DELETE FROM waypost_outbox WHERE seq = 8;
         UPDATE waypost_topics SET unclaimed_expired = 3 WHERE topic = 4",
    );
    assert!(fixture.check().is_sound());
    assert!(Fixture::new().check().is_sound());
}

#[test]
fn a_flipped_bit_is_found() {
    for damage in [
        "payload = x'00'",
        "kind = 'writing'",
        "headers = NULL",
        "encoding = 1",
        "crc = crc + 1",
        "created_ms = created_ms + 1",
        "expires_ms = NULL",
        "kind = CAST(x'ff' AS TEXT)",
    ] {
        let fixture = Fixture::filled();
        fixture.sql(&format!("UPDATE waypost_outbox SET {damage} WHERE seq = 5"));
        let finding = fixture.finding();
        assert_eq!((finding.stage, finding.id), (Stage::Messages, Some(id(5))), "{damage}");
        assert!(finding.detail.contains("checksum"), "{}", finding.detail);
        assert!(!fixture.story(5).accepted.expect("in the log").intact, "{damage}");
    }
}

#[test]
fn broken_order_and_wrong_places_are_found() {
    for (damage, words) in [
        ("UPDATE waypost_outbox SET previous_seq = 2 WHERE seq = 5", "follows 2 of its topic"),
        ("UPDATE waypost_outbox SET previous_seq = 4 WHERE seq = 6", "follows 4 of its topic"),
        ("UPDATE waypost_outbox SET lane = 2 WHERE seq = 10", "in lane 2"),
        ("UPDATE waypost_topics SET last_seq = 9 WHERE topic = 1", "ends before it"),
        ("UPDATE waypost_topics SET accepted = 2 WHERE topic = 4", "2 messages were accepted"),
        ("UPDATE waypost_cursors SET base = 1 WHERE topic = 2", "should wait for bob"),
        ("UPDATE waypost_cursors SET acked_seq = 5 WHERE receiver = 'bob' AND topic = 1", "2 do"),
        ("UPDATE waypost_meta SET last_id = zeroblob(16)", "above the last one"),
        ("DELETE FROM waypost_stores", "no store id"),
        ("DELETE FROM waypost_meta", "whose file"),
        (
            "PRAGMA foreign_keys = OFF; UPDATE waypost_cursors SET topic = 9 WHERE receiver = 'dave'",
            "1 rows of waypost_cursors",
        ),
    ] {
        let fixture = Fixture::filled();
        fixture.sql(damage);
        let finding = fixture.finding();
        assert!(finding.detail.contains(words), "{damage}: {}", finding.detail);
    }
    let fixture = Fixture::filled();
    let connection = Connection::open(&fixture.path).expect("opened");
    connection
        .execute("UPDATE waypost_outbox SET id = ?1 WHERE seq = 6", [id(4).to_bytes()])
        .expect("changed");
    drop(connection);
    // The checksum covers these two.
    fixture.sql("UPDATE waypost_outbox SET created_ms = 1 WHERE seq = 5");
    let report = fixture.check();
    for words in ["is not above", "older than"] {
        assert!(report.findings.iter().any(|one| one.detail.contains(words)), "{report:?}");
    }
}

#[test]
fn damaged_pages_are_found_and_the_list_is_bounded() {
    let fixture = Fixture::filled();
    fixture.sql(
        "WITH RECURSIVE n (i) AS (SELECT 11 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO waypost_outbox SELECT i, zeroblob(16), 7, 1, 0, 9e15, NULL, 'k', NULL, 0, 0, randomblob(50) FROM n",
    );
    let report = fixture.check();
    assert_eq!(report.findings.len(), Report::MAX_FINDINGS);
    assert!(report.further > 2000, "{}", report.further);
    assert_eq!(report.messages, 3000);

    let mut bytes = fs::read(&fixture.path).expect("read");
    let end = bytes.len() - 4096 * 5;
    bytes[end - 4096 * 10..end].fill(0xa5);
    fs::write(&fixture.path, bytes).expect("written");
    let report = fixture.check();
    assert!(report.findings.iter().any(|one| one.stage == Stage::Pages), "{report:?}");
}
