//! What is settled and what failed, on its way to the file.

use super::*;

/// Sends this message to "ann" and has it acknowledged.
fn acknowledged(bench: &mut Bench, seq: u64) -> Came {
    bench.append(A, seq);
    bench.answer("ann", A, seq)
}

fn due_in(bench: &Bench) -> Option<Duration> {
    bench.record_at.map(|at| at - bench.clock.now().mono)
}

fn counts(written: Option<(Vec<Run>, Vec<Attempt>)>) -> Option<(u64, usize)> {
    written.map(|(runs, attempts)| (runs.iter().map(|run| run.count).sum(), attempts.len()))
}

#[test]
fn few_settlements_wait_two_seconds_many_fifty_milliseconds_and_more_put_nothing_off() {
    let mut bench = Bench::with(&["ann"]);
    assert!(acknowledged(&mut bench, 1).written.is_none());
    assert_eq!(due_in(&bench), Some(Duration::from_secs(2)));
    bench.clock.pass(Duration::from_secs(1));
    acknowledged(&mut bench, 2);
    assert_eq!(due_in(&bench), Some(Duration::from_secs(1)));
    for seq in 3..=100 {
        acknowledged(&mut bench, seq);
    }
    assert_eq!(due_in(&bench), Some(Duration::from_millis(50)));
    let came = bench.say(Outbound::record);
    assert_eq!((counts(came.written), due_in(&bench)), (Some((100, 0)), None));
    assert!(bench.recorded(true).written.is_none());
    assert!(bench.outbound.is_recorded(&bench.settling));
}

#[test]
fn where_room_is_tight_little_waits_no_longer_than_much() {
    let mut bench = Bench::with(&["ann"]);
    bench.hurry = (false, true);
    acknowledged(&mut bench, 1);
    assert_eq!(due_in(&bench), Some(Duration::from_millis(50)));
}

#[test]
fn the_last_settlement_of_a_receiver_is_written_at_once_for_whoever_waits() {
    let mut bench = Bench::with(&["ann"]);
    bench.hurry = (true, false);
    bench.append(A, 1);
    bench.append(A, 2);
    assert!(bench.answer("ann", A, 1).written.is_none());
    assert_eq!(due_in(&bench), Some(Duration::from_millis(50)));
    assert_eq!(counts(bench.answer("ann", A, 2).written), Some((2, 0)));
    // What comes while that is being written follows it.
    assert!(acknowledged(&mut bench, 3).written.is_none());
    assert_eq!(counts(bench.recorded(true).written), Some((1, 0)));
}

#[test]
fn an_attempt_that_failed_is_written_at_once_and_silence_in_a_while() {
    let mut bench = Bench::with(&["ann", "bob"]);
    bench.append(A, 1);
    let failed = Verdict::Failed { detail: "no".to_owned() };
    let came = bench.reply("ann", A, 1, failed.clone());
    let (runs, attempts) = came.written.expect("at once");
    assert_eq!((runs.len(), attempts.len()), (0, 1));
    let of = (attempts[0].receiver.as_str(), attempts[0].seq, attempts[0].attempt);
    assert_eq!((of, attempts[0].answer.as_str()), (("ann", 1, 1), "the handler failed: no"));
    // Another one while that is being written is not put off either.
    assert!(bench.reply("bob", A, 1, failed).written.is_none());
    assert_eq!(counts(bench.recorded(true).written), Some((0, 1)));
    bench.recorded(true);

    let mut bench = Bench::with(&["ann"]);
    bench.append(A, 1);
    bench.clock.pass(Duration::from_secs(10));
    let came = bench.say(|it, around| {
        // It is there, and says nothing of what it was sent.
        it.deliver(around, &node("ann"), Event::Heard);
        it.deliver(around, &node("ann"), Event::Woke);
    });
    assert!(matches!(came.effects[..], [Effect::Unanswered { times: 1, .. }]), "{came:?}");
    assert!(came.written.is_none());
    assert_eq!(due_in(&bench), Some(Duration::from_secs(2)));
    assert!(!bench.outbound.is_recorded(&bench.settling));
}

#[test]
fn what_the_file_refuses_is_tried_again_after_a_pause_and_before_what_came_since() {
    let mut bench = Bench::with(&["ann"]);
    bench.append(A, 1);
    let failed = Verdict::Failed { detail: "no".to_owned() };
    assert_eq!(counts(bench.reply("ann", A, 1, failed).written), Some((0, 1)));
    assert!(bench.recorded(false).written.is_none());
    assert_eq!(due_in(&bench), Some(Duration::from_millis(500)));
    bench.answer("ann", A, 1);
    for seq in 2..=200 {
        acknowledged(&mut bench, seq);
    }
    assert_eq!(due_in(&bench), Some(Duration::from_millis(500)), "much is no reason to hurry");
    assert_eq!(counts(bench.say(Outbound::record).written), Some((200, 1)));
    assert!(!bench.outbound.is_recorded(&bench.settling));
    bench.recorded(true);
    assert!(bench.outbound.is_recorded(&bench.settling));
}

#[test]
fn who_asks_while_it_is_being_written_gets_another_turn_even_for_nothing() {
    let mut bench = Bench::with(&["ann"]);
    assert_eq!(counts(bench.say(Outbound::record).written), Some((0, 0)));
    assert!(bench.say(Outbound::record).written.is_none());
    assert_eq!(counts(bench.recorded(true).written), Some((0, 0)));
    assert!(bench.recorded(true).written.is_none());
}

#[test]
fn at_the_end_all_is_given_that_the_file_has_not_said_to_have() {
    let mut bench = Bench::with(&["ann", "bob"]);
    bench.append(A, 1);
    bench.reply("ann", A, 1, Verdict::Failed { detail: "no".to_owned() });
    bench.answer("bob", A, 1);
    let mut left = None;
    bench.say(|it, around| left = Some(it.unrecorded(around)));
    assert_eq!(counts(left), Some((1, 1)));
}
