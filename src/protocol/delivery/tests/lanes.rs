//! The order among topics and lanes.

use super::*;

#[test]
fn topics_of_a_lane_share_one_order_and_urgent_ones_go_first() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.append(B, 2);
    bench.append(A, 3);
    bench.append(HIGH, 4);
    assert_eq!(sent(&bench.ack(A, 1)), [(4, 1)]);
    assert_eq!(sent(&bench.ack(HIGH, 4)), [(2, 1)]);
    assert_eq!(sent(&bench.ack(B, 2)), [(3, 1)]);
}

#[test]
fn a_lower_lane_does_not_overtake_what_is_still_to_be_read() {
    let mut bench = Bench::new(limits());
    let (backlog, low) = (TopicId(9), TopicId(10));
    bench.open(backlog, Priority::Normal, 100, 200);
    bench.say(Event::Activity { topic: backlog, active: true });
    bench.open(low, Priority::Low, 0, 0);
    bench.say(Event::Activity { topic: low, active: true });
    assert_eq!(bench.append(low, 300), [], "a page of the normal lane is on its way");
    assert_eq!(sent(&bench.page(vec![head(backlog, 101)], 101, false)), [(101, 1)]);
    // The next page takes its time.
    assert_eq!(sent(&bench.ack(backlog, 101)), []);
    assert!(bench.delivery.foresee(bench.clock.now()).is_none());
    // What is urgent goes out meanwhile, and waits for nothing.
    assert_eq!(sent(&bench.append(HIGH, 301)), [(301, 1)]);
    assert_eq!(sent(&bench.ack(HIGH, 301)), []);
    assert_eq!(sent(&bench.page(vec![head(backlog, 102)], 200, true)), [(102, 1)]);
    assert_eq!(sent(&bench.ack(backlog, 102)), [(300, 1)]);
}
