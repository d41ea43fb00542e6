use super::*;

/// As the file answers.
impl Bench {
    fn noted(&mut self, who: &str, name: &str, taken: bool) {
        self.peers.subscribed(node(who), channel(name), taken);
    }

    fn reader(&mut self, who: &str, name: &str) {
        self.meet(word(who, 1, &[reads(name)], &[]));
        self.noted(who, name, true);
    }

    fn leave_next(&mut self) -> Vec<Effect> {
        self.say(Peers::leave_next)
    }
}

fn start(effects: &[Effect]) -> Vec<Start> {
    let starts = effects.iter().filter_map(|effect| match effect {
        Effect::Subscribe { start, .. } => Some(*start),
        _ => None,
    });
    starts.collect()
}

#[test]
fn who_reads_what_is_written_here_gets_a_cursor() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.join("r", Mode::Reader);
    bench.sent.insert(channel("s"));
    let writes = ChannelPresence { mode: Mode::Writer, ..reads("c") };
    let all = [reads("c"), reads("r"), reads("s"), reads("x")];
    let met = bench.meet(word("ann", 1, &all, &[]));
    assert_eq!(brief(&met), ["ann reads c", "ann reads s", "ann is heard"]);
    assert_eq!(brief(&bench.meet(word("bob", 1, &[writes], &[]))), ["bob is heard"]);

    let again = bench.hear(word("ann", 2, &all, &[]));
    assert_eq!(brief(&again), ["ann is heard"], "it is being noted");
    bench.noted("ann", "c", true);
    bench.noted("ann", "s", true);
    assert_eq!(brief(&bench.hear(word("ann", 3, &all, &[]))), ["ann is heard"]);
}

#[test]
fn what_the_file_knows_is_not_asked_for() {
    let subscriptions = vec![(node("ann"), channel("c"))];
    let mut bench = Bench::restored(Restored { subscriptions, ..Restored::default() });
    bench.join("c", Mode::Writer);
    assert_eq!(brief(&bench.meet(word("ann", 1, &[reads("c")], &[]))), ["ann is heard"]);
}

#[test]
fn a_cursor_that_could_not_be_noted_is_tried_again_with_the_next_keepalive() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.meet(word("ann", 1, &[reads("c")], &[]));
    bench.noted("ann", "c", false);
    let again = bench.hear(word("ann", 2, &[reads("c")], &[]));
    assert_eq!(brief(&again), ["ann reads c", "ann is heard"]);
}

#[test]
fn a_new_cursor_begins_where_its_reader_asked_for_it() {
    let margin = INTERVAL.as_millis() as u64;
    for (at, expected) in [
        (StartAt::Now, Start::Now),
        (StartAt::All, Start::All),
        (StartAt::Joined, Start::Joined { age_ms: 500 + margin }),
        (StartAt::SinceMs(60_000), Start::Since { age_ms: 60_500 }),
        (StartAt::SinceMs(u64::MAX), Start::Since { age_ms: u64::MAX }),
    ] {
        let mut bench = Bench::new();
        bench.join("c", Mode::Writer);
        let presence = ChannelPresence { start: at, ..reads("c") };
        assert_eq!(start(&bench.meet(word("ann", 1, &[presence], &[]))), [expected]);
    }
}

#[test]
fn who_begins_to_write_gives_cursors_to_the_readers_it_knows() {
    let mut bench = Bench::new();
    bench.meet(word("ann", 1, &[reads("c"), reads("d")], &[]));
    bench.clock.pass(Duration::from_secs(3));
    assert_eq!(brief(&bench.join("c", Mode::Reader)), ["c: Some(Paused)"]);
    bench.clock.pass(Duration::from_millis(500));
    let joined = bench.join("c", Mode::Writer);
    assert_eq!(brief(&joined), ["c: Some(Paused)", "ann reads c"]);
    // What it said is as old as that by now.
    assert_eq!(start(&joined), [Start::Joined { age_ms: 500 + 3_500 + 10_000 }]);
}

#[test]
fn a_leaving_waits_for_what_was_there_before_but_not_for_ever() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.reader("ann", "c");
    bench.reader("bob", "c");
    assert_eq!(bench.peers.leaves_by(), None);
    assert_eq!(brief(&bench.hear(word("ann", 2, &[], &["c"]))), ["ann is heard"]);
    let by = bench.clock.now().mono + PATIENCE;
    bench.clock.pass(Duration::from_millis(10));
    bench.hear(word("bob", 2, &[], &["c"]));
    bench.hear(word("ann", 3, &[], &["c"]));

    assert_eq!(bench.peers.leaves_by(), Some(by));
    assert_eq!(brief(&bench.leave_next()), ["ann left c"]);
    assert_eq!(bench.peers.leaves_by(), Some(by + Duration::from_millis(10)));
    assert_eq!(brief(&bench.leave_next()), ["bob left c"]);
    assert_eq!(bench.peers.leaves_by(), None, "it was said once");
    assert!(bench.leave_next().is_empty());
}

#[test]
fn a_reader_that_is_back_has_left_before() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.join("d", Mode::Writer);
    bench.meet(word("ann", 1, &[reads("c"), reads("d")], &[]));
    bench.noted("ann", "c", true);
    bench.noted("ann", "d", true);
    bench.reader("bob", "c");
    bench.hear(word("bob", 2, &[], &["c"]));
    bench.hear(word("ann", 2, &[], &["c", "d"]));

    let back = bench.hear(word("ann", 3, &[reads("c")], &["d"]));
    assert_eq!(brief(&back), ["ann left c", "ann reads c", "ann is heard"]);
    assert_eq!(brief(&bench.leave_next()), ["bob left c"], "others are not hurried");
    assert_eq!(brief(&bench.leave_next()), ["ann left d"]);
    assert!(bench.leave_next().is_empty());
}

#[test]
fn a_channel_that_is_listed_as_joined_and_left_is_joined() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.reader("ann", "c");
    bench.hear(word("ann", 2, &[reads("c")], &["c"]));
    assert_eq!(bench.peers.leaves_by(), None);
}

#[test]
fn a_leaving_that_could_not_be_noted_is_tried_again_with_the_next_keepalive() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.reader("ann", "c");
    bench.hear(word("ann", 2, &[], &["c"]));
    bench.leave_next();
    bench.peers.unsubscribed(node("ann"), channel("c"), false);
    bench.hear(word("ann", 3, &[], &["c"]));
    assert_eq!(brief(&bench.leave_next()), ["ann left c"]);
    bench.peers.unsubscribed(node("ann"), channel("c"), true);
    bench.hear(word("ann", 4, &[], &["c"]));
    assert_eq!(bench.peers.leaves_by(), None);
}

#[test]
fn whoever_is_back_while_nobody_knows_whether_it_left_gets_a_cursor_in_any_case() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.reader("ann", "c");
    bench.hear(word("ann", 2, &[], &["c"]));
    bench.leave_next();
    // The commit failed, and may stand in the file all the same: then it has no cursor there.
    bench.peers.unsubscribed(node("ann"), channel("c"), false);
    let back = bench.hear(word("ann", 3, &[reads("c")], &[]));
    assert_eq!(brief(&back), ["ann reads c", "ann is heard"]);
    // The same the other way round: a cursor that failed to be noted may be there, and has to go.
    bench.noted("ann", "c", false);
    bench.hear(word("ann", 4, &[], &["c"]));
    assert_eq!(brief(&bench.leave_next()), ["ann left c"]);
    bench.peers.unsubscribed(node("ann"), channel("c"), true);
    bench.hear(word("ann", 5, &[], &["c"]));
    assert_eq!(bench.peers.leaves_by(), None);
}

#[test]
fn a_peer_that_failed_to_be_forgotten_gets_its_cursors_with_its_next_word() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.reader("ann", "c");
    bench.reader("bob", "c");
    bench.peers.not_forgotten(&node("ann"));
    let said = bench.hear(word("ann", 2, &[reads("c")], &[]));
    assert_eq!(brief(&said), ["ann reads c", "ann is heard"]);
    let said = bench.hear(word("bob", 2, &[reads("c")], &[]));
    assert_eq!(brief(&said), ["bob is heard"]);
}

#[test]
fn a_forgotten_peer_is_met_anew() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    bench.reader("ann", "c");
    let said = bench.say(|it, around| it.forgotten(around, node("ann")));
    assert!(said.iter().any(|effect| matches!(effect, Effect::Changed)), "{said:?}");
    assert!(!bench.peers.is_peer(&node("ann")));
    bench.clock.pass(Duration::from_secs(1));
    let met = bench.meet(word("ann", 2, &[reads("c")], &[]));
    assert_eq!(brief(&met), ["ann reads c", "ann is heard"]);
}
