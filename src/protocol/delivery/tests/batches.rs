//! Frames of several messages.

use super::*;

#[test]
fn p2_the_rest_of_a_frame_is_repeated_once_the_expiry_of_its_beginning_is_on_record() {
    let mut bench = Bench::new(Limits { frame_messages: 2, ..limits() });
    bench.append(B, 1);
    let expires_ms = Some(bench.clock.now().file_ms + 5_000);
    bench.say(Event::Appended([Head { expires_ms, ..head(A, 2) }].into()));
    bench.append(A, 3);
    assert_eq!(sent(&bench.ack(B, 1)), [(2, 1), (3, 1)]);
    let actions = bench.pass(Duration::from_secs(10));
    assert_eq!(settled(&actions), [(2, 2, 1, &Settled::Expired)]);
    bench.append(HIGH, 4);
    assert_eq!(sent(&bench.pass(Duration::from_secs(60))), []);
    assert_eq!(bench.delivery.wake_at(bench.clock.now()), None);
    assert_eq!(sent(&bench.record(A, 2)), [(3, 1)]);
    assert_eq!(sent(&bench.ack(A, 3)), [(4, 1)]);
}

#[test]
fn what_a_purge_leaves_of_a_frame_keeps_its_attempts() {
    let failed = || Verdict::Failed { detail: "no".to_owned() };
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    for seq in 1..=4 {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (3, 1), (4, 1)]);
    bench.say(Event::Dropped { topic: A, up_to_seq: 2, count: 1 });
    bench.answer(A, 3, failed());
    assert_eq!(sent(&bench.wake()), [(3, 2), (4, 2)]);
    // What lies before the frame is no part of it.
    bench.say(Event::Dropped { topic: A, up_to_seq: 2, count: 0 });
    assert!(matches!(bench.wake()[0], Action::Unanswered { seq: 3, attempt: 2, .. }));
    bench.answer(A, 3, failed());
    assert_eq!(sent(&bench.wake()), [(3, 3), (4, 3)]);
    assert_eq!(settled(&bench.answer(A, 3, failed())).len(), 1, "three attempts are the most");
}

#[test]
fn a_batch_that_a_new_server_does_not_take_is_sent_one_by_one_with_no_attempt_more() {
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    for seq in 1..=3 {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (3, 1)]);
    for _ in 0..2 {
        bench.answer(A, 2, Verdict::Failed { detail: "no".to_owned() });
        bench.wake();
    }
    let actions = bench.say(Event::Unsent(Unsent::TooLarge { size: 2, limit: 1 }));
    assert_eq!(sent(&actions), [(2, 3)]);
}

#[test]
fn a_refusal_of_a_later_message_is_no_attempt_of_those_before_it() {
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    for seq in 1..=3 {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (3, 1)]);
    for _ in 0..5 {
        bench.answer(A, 3, Verdict::Failed { detail: "no".to_owned() });
        assert_eq!(sent(&bench.wake()), [(2, 1), (3, 1)]);
    }
}

#[test]
fn a_batch_is_acknowledged_up_to_an_id() {
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    bench.append(A, 1);
    for seq in 2..=6 {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (3, 1), (4, 1), (5, 1)]);
    let actions = bench.ack(A, 3);
    assert_eq!(settled(&actions), [(2, 3, 2, &Settled::Acknowledged)]);
    assert_eq!(sent(&actions), []);
    assert_eq!(sent(&bench.wake()), [(4, 1), (5, 1)]);
    let judgement = Judgement::Fits;
    let verdict = Verdict::Failed { detail: "no".to_owned() };
    let last = Some(id(4));
    let actions =
        bench.say(Event::Answered(Reply { topic: A, id: id(5), last, verdict, judgement }));
    assert_eq!(settled(&actions), [(4, 4, 1, &Settled::Acknowledged)]);
    assert_eq!(sent(&bench.wake()), [(5, 2), (6, 2)]);
}

#[test]
fn what_is_committed_together_travels_together() {
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    let unread = TopicId(99);
    let run = [head(A, 1), head(unread, 2), head(A, 3), head(B, 4), head(A, 5)];
    assert_eq!(sent(&bench.say(Event::Appended(run.into()))), [(1, 1), (3, 1)]);
    assert_eq!(sent(&bench.ack(A, 3)), [(4, 1)]);
    assert_eq!(sent(&bench.ack(B, 4)), [(5, 1)]);
}

#[test]
fn what_has_no_room_is_left_in_the_file_with_all_behind_it() {
    let mut bench = Bench::new(Limits { buffer_messages: 2, ..limits() });
    let run: Vec<_> = (1..=5).map(|seq| head(A, seq)).collect();
    assert_eq!(sent(&bench.say(Event::Appended(run.into()))), [(1, 1)]);
    bench.say(Event::Appended([head(A, 6)].into()));
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1)]);
    assert_eq!(
        bench.asked.take().map(|(_, topics)| topics),
        Some(vec![(A, 2)]),
        "the rest is read"
    );
}

fn gathering() -> Limits {
    Limits { frame_messages: 3, frame_wait: Duration::from_millis(20), ..limits() }
}

#[test]
fn a_message_waits_for_others_to_travel_with_but_no_longer_than_it_may() {
    let mut bench = Bench::new(gathering());
    assert_eq!(bench.append(A, 1), []);
    bench.clock.pass(Duration::from_millis(15));
    assert_eq!(bench.append(A, 2), []);
    let now = bench.clock.now();
    assert_eq!(bench.delivery.wake_at(now), Some(now.mono + Duration::from_millis(5)));
    assert_eq!(sent(&bench.wake()), [(1, 1), (2, 1)]);
    // What came meanwhile has waited long enough.
    assert_eq!(bench.append(A, 3), []);
    bench.clock.pass(Duration::from_millis(20));
    assert_eq!(sent(&bench.ack(A, 2)), [(3, 1)]);
}

#[test]
fn a_full_frame_does_not_wait_and_neither_does_what_was_sent_before() {
    let mut bench = Bench::new(gathering());
    bench.append(A, 1);
    bench.append(A, 2);
    assert_eq!(sent(&bench.append(A, 3)), [(1, 1), (2, 1), (3, 1)]);
    bench.answer(A, 2, Verdict::Failed { detail: "no".to_owned() });
    assert_eq!(sent(&bench.wake()), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(bench.ack(A, 3).len(), 1);
    // By its bytes.
    bench.append(A, 4);
    let large = Head { bytes: 1000, ..head(A, 5) };
    assert_eq!(sent(&bench.say(Event::Appended([large].into()))), [(4, 1)]);
}

#[test]
fn another_topic_of_the_lane_does_not_wait_for_one_that_gathers() {
    let mut bench = Bench::new(gathering());
    bench.append(A, 1);
    bench.clock.pass(Duration::from_millis(10));
    bench.append(B, 2);
    assert_eq!(sent(&bench.append(HIGH, 3)), []);
    assert_eq!(sent(&bench.pass(Duration::from_millis(10))), [(1, 1)]);
    bench.clock.pass(Duration::from_millis(10));
    assert_eq!(sent(&bench.ack(A, 1)), [(3, 1)]);
}

#[test]
fn frames_become_smaller_where_the_server_takes_less_and_grow_again_with_a_new_connection() {
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    for seq in 1..=12 {
        bench.append(A, seq);
    }
    let four = [(2, 1), (3, 1), (4, 1), (5, 1)];
    assert_eq!(sent(&bench.ack(A, 1)), four);
    let too_large = Unsent::TooLarge { size: 400, limit: 250 };
    assert_eq!(sent(&bench.say(Event::Unsent(too_large))), [(2, 1), (3, 1)]);
    assert_eq!(sent(&bench.ack(A, 3)), [(4, 1), (5, 1)]);
    bench.say(Event::LinkDown);
    assert_eq!(sent(&bench.say(Event::LinkUp)), [(4, 1), (5, 1)]);
    assert_eq!(sent(&bench.ack(A, 5)).len(), 4);
}

#[test]
fn what_fits_into_a_frame_but_not_into_its_header_travels_apart() {
    let mut bench = Bench::new(Limits { frame_messages: 4, frame_header_bytes: 12, ..limits() });
    for seq in 1..=5 {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (3, 1)]);
}

/// Its answer names one store id: a message that travels under another would never be settled by it.
#[test]
fn a_frame_holds_messages_of_one_store_id() {
    let mut bench = Bench::new(Limits { frame_messages: 4, ..limits() });
    bench.delivery.stores = vec![MessageId::ZERO, id(4)];
    for seq in 1..=7 {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (3, 1)]);
    assert_eq!(sent(&bench.ack(A, 3)), [(4, 1), (5, 1), (6, 1), (7, 1)]);
    // What was in flight as one frame goes on as two.
    assert_eq!(sent(&bench.say(Event::StoreChanged { from: id(6) })), [(4, 1), (5, 1)]);
    assert_eq!(sent(&bench.ack(A, 5)), [(6, 1), (7, 1)]);
    assert_eq!(sent(&bench.say(Event::StoreChanged { from: id(6) })), [(6, 1), (7, 1)]);
    assert_eq!(settled(&bench.ack(A, 7)), [(6, 7, 2, &Settled::Acknowledged)]);
}

/// Found by the simulation, in a file that had gone back: the receiver had something later than the first, from the lost part, and the
/// second failed for ever without an attempt that counted.
#[test]
fn what_lies_before_the_last_of_the_receiver_is_settled_by_a_refusal_of_what_follows() {
    let mut bench = Bench::new(Limits { frame_messages: 4, max_attempts: 2, ..limits() });
    for seq in [1, 2, 5] {
        bench.append(A, seq);
    }
    assert_eq!(sent(&bench.ack(A, 1)), [(2, 1), (5, 1)]);
    let failed = |bench: &mut Bench| {
        let verdict = Verdict::Failed { detail: "no".to_owned() };
        let (last, judgement) = (Some(id(4)), Judgement::Fits);
        bench.say(Event::Answered(Reply { topic: A, id: id(5), last, verdict, judgement }))
    };
    let actions = failed(&mut bench);
    assert_eq!(settled(&actions), [(2, 2, 1, &Settled::Acknowledged)]);
    bench.pass(limits().backoff.first);
    assert!(matches!(settled(&failed(&mut bench))[..], [(5, 5, 1, Settled::Dead { .. })]));
}

#[test]
fn what_was_acknowledged_under_an_older_store_id_is_not_told_as_the_message_before() {
    let mut bench = Bench::new(limits());
    bench.delivery.stores = vec![MessageId::ZERO, id(3)];
    let mut actions = bench.append(A, 1);
    (2..=4).for_each(|seq| drop(bench.append(A, seq)));
    let mut previous = Vec::new();
    for seq in 1..=4 {
        previous.extend(actions.iter().filter_map(|action| match action {
            Action::Publish { previous, .. } => Some(*previous),
            _ => None,
        }));
        actions = bench.ack(A, seq);
    }
    assert_eq!(previous, [None, Some(id(1)), None, Some(id(3))]);
    bench.say(Event::StoreChanged { from: id(4) });
    let actions = bench.append(A, 5);
    assert!(matches!(actions[..], [Action::Publish { previous: None, .. }]), "{actions:?}");
}

/// Whether this is the publication that was foreseen.
fn came_true(foreseen: &Foreseen<()>, actions: &[Action<()>]) -> bool {
    actions.iter().any(|action| match action {
        Action::Publish { topic, heads, attempt: 1, previous, skipped, .. } => {
            let place = (foreseen.topic, foreseen.previous, foreseen.skipped);
            (*topic, *previous, *skipped) == place && *heads == foreseen.heads
        }
        _ => false,
    })
}

#[test]
fn a_full_frame_is_foreseen_as_it_goes_out_after_the_acknowledgement() {
    let mut bench = Bench::new(Limits { frame_messages: 2, ..limits() });
    let run: Vec<_> = (1..=5).map(|seq| head(A, seq)).collect();
    assert_eq!(sent(&bench.say(Event::Appended(run.into()))), [(1, 1), (2, 1)]);
    let foreseen = bench.delivery.foresee(bench.clock.now()).expect("two more wait");
    assert_eq!(bench.delivery.in_flight(), 2, "and nothing changed");
    let actions = bench.ack(A, 2);
    assert_eq!(sent(&actions), [(3, 1), (4, 1)]);
    assert!(came_true(&foreseen, &actions));
    bench.answer(A, 3, Verdict::Failed { detail: "no".to_owned() });
    assert!(!came_true(&foreseen, &bench.wake()), "another attempt says that it is one");
    assert!(bench.delivery.foresee(bench.clock.now()).is_none(), "it can still grow");
}

#[test]
fn what_happens_otherwise_was_not_foreseen() {
    let bench = || {
        let mut bench = Bench::new(Limits { frame_messages: 2, ..limits() });
        let run: Vec<_> = (1..=4).map(|seq| head(A, seq)).collect();
        bench.say(Event::Appended(run.into()));
        let foreseen = bench.delivery.foresee(bench.clock.now()).expect("two more wait");
        (bench, foreseen)
    };
    // Acknowledged in part; purged; overtaken by an urgent one.
    let (mut in_part, foreseen) = bench();
    assert!(!came_true(&foreseen, &in_part.ack(A, 1)));
    let (mut purged, foreseen) = bench();
    let dropped = Event::Dropped { topic: A, up_to_seq: 2, count: 2 };
    assert!(!came_true(&foreseen, &purged.say(dropped)), "the receiver is told of a gap");
    let (mut overtaken, foreseen) = bench();
    overtaken.append(HIGH, 5);
    assert!(!came_true(&foreseen, &overtaken.ack(A, 2)));
    assert!(came_true(&foreseen, &overtaken.ack(HIGH, 5)), "and then it comes");
    // What ends in time says how much of it is left, and that changes.
    let mut expiring = Bench::new(limits());
    let expires_ms = Some(expiring.clock.now().file_ms + 5_000);
    let run = [head(A, 1), Head { expires_ms, ..head(A, 2) }];
    expiring.say(Event::Appended(run.into()));
    assert!(expiring.delivery.foresee(expiring.clock.now()).is_none());
}
