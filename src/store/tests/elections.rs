//! What was promised in elections, as the file keeps it.

use super::*;
use crate::protocol::election::{Durable, Record, State, Term, Token, Version};
use crate::store::Entry;

fn record(term: u64, vote: Option<&str>, state: Option<(u64, &str)>) -> Record {
    let term = Term::new(term).expect("a term");
    let state = state
        .map(|(rev, json)| State { version: Version { term, rev }, json: json.as_bytes().into() });
    Record { term, vote: vote.map(node), state }
}

#[tokio::test]
async fn the_term_the_vote_and_the_state_are_there_after_a_restart_and_always_fsynced() {
    let bench = Bench::new();
    assert_eq!(bench.restored.election, Some(Durable::default()));
    let mut durable = Durable::default();
    for record in [
        record(1, Some("a"), None),
        record(2, Some("b"), Some((0, "null"))),
        record(2, Some("b"), Some((1, r#"{"a":1}"#))),
        record(3, None, None),
    ] {
        durable.write(record.clone());
        bench.store.save_election(record, Vec::new()).await.expect("kept");
    }
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.election, Some(durable));
}

#[tokio::test]
async fn why_is_kept_in_the_same_commit() {
    let bench = Bench::new();
    let entry = Entry {
        action: "election",
        subject: "a".to_owned(),
        detail: "state 1.0, 4 bytes".to_owned(),
        term: Some(1),
    };
    bench.store.save_election(record(1, None, None), vec![entry]).await.expect("kept");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_audit WHERE term = 1"), 1);
}

#[tokio::test]
async fn a_bit_that_flips_anywhere_in_the_row_is_noticed() {
    let bench = Bench::new();
    let written = record(5, Some("alice"), Some((2, r#"{"n":7}"#)));
    bench.store.save_election(written, Vec::new()).await.expect("kept");
    let mut bench = bench.reopened().await;
    assert!(bench.restored.election.is_some());
    for harm in [
        "term = term + 1",
        "vote = 'alicf'",
        "vote = NULL",
        "state_term = state_term - 1",
        "state_rev = 3",
        "state = x'7b7d'",
        "crc = crc + 1",
        "term = 9223372036854775807",
    ] {
        let keep = "CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM waypost_election";
        bench.sql().execute_batch(keep).expect("kept");
        bench.sql().execute(&format!("UPDATE waypost_election SET {harm}"), []).expect("harmed");
        bench = bench.reopened().await;
        assert_eq!(bench.restored.election, None, "{harm}");
        let mend = "DELETE FROM waypost_election; INSERT INTO waypost_election SELECT * FROM kept";
        bench.sql().execute_batch(mend).expect("mended");
        bench = bench.reopened().await;
        assert!(bench.restored.election.is_some(), "mended after {harm}");
    }
}

#[tokio::test]
async fn a_fence_in_a_transaction_is_raised_with_its_commit_and_only_then() {
    let bench = Bench::new();
    let token = |term, name| Token { term: Term::new(term).expect("a term"), node: node(name) };
    let admit = async |term, name: &'static str, keep: bool| {
        let token = token(term, name);
        let work = move |tx: &crate::store::Tx<'_>| match tx.fence("valve", &token) {
            Ok(()) if keep => Ok(()),
            _ => Err("refused or undone"),
        };
        bench.store.transaction(work).await.is_ok()
    };
    assert!(admit(3, "a", true).await);
    assert!(!admit(9, "z", false).await, "it is rolled back");
    assert!(admit(3, "a", true).await, "and has left nothing behind");
    assert!(!admit(2, "b", true).await);
    assert!(admit(4, "b", true).await);
    assert!(!admit(3, "a", true).await);
    let work = |tx: &crate::store::Tx<'_>| tx.execute("DELETE FROM waypost_fences", []);
    bench.store.transaction(work).await.expect_err("the node's own tables are not the program's");
}

#[tokio::test]
async fn an_order_of_a_master_of_before_is_neither_obeyed_nor_on_record_after_a_restart_either() {
    let token = |term, name| Token { term: Term::new(term).expect("a term"), node: node(name) };
    let entry = || Entry {
        action: "order received",
        subject: "a".to_owned(),
        detail: "kick".to_owned(),
        term: None,
    };
    let noted = async |bench: &Bench, token| {
        bench.store.note_order(token, vec![entry()]).await.expect("the file works").is_ok()
    };
    let bench = Bench::new();
    assert!(noted(&bench, None).await, "without a term nothing is compared");
    assert!(noted(&bench, Some(token(5, "a"))).await);
    assert!(noted(&bench, Some(token(6, "b"))).await);
    let bench = bench.reopened().await;
    assert!(!noted(&bench, Some(token(5, "a"))).await);
    assert!(noted(&bench, Some(token(6, "b"))).await);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_audit"), 4);
}
