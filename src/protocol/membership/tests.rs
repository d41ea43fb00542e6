use super::absence::FORGET_AGAIN;
use super::questions::MAX_STRANGERS;
use super::rival::SAME_AGE;
use super::*;
use crate::message::Mode;
use crate::protocol::testing::Clock;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn keepalive(from: &str, incarnation: u128, counter: u64) -> Keepalive {
    Keepalive {
        from: node(from),
        incarnation: Incarnation::from_u128(incarnation),
        store: StoreId::from_u128(1),
        counter,
        session: 1,
        uptime_ms: 1_000,
        version: "0.1.0".to_owned(),
        host: "ship".to_owned(),
        channels: vec![ChannelPresence {
            name: ChannelName::new("c").expect("a valid name"),
            mode: Mode::Reader,
            age_ms: 0,
            paused: false,
            start: crate::message::StartAt::Joined,
        }],
        left: Vec::new(),
        draining: false,
        elects: false,
        goodbye: false,
        rival: None,
    }
}

struct Bench {
    clock: Clock,
    members: Membership,
}

const ME: u128 = 500;

impl Bench {
    fn new() -> Self {
        let mut bench = Self::with([]);
        bench.say(Event::LinkUp);
        bench.pass(Duration::from_millis(100));
        bench
    }

    /// Knows these from the file, and has no link yet.
    fn with(known: impl IntoIterator<Item = Known>) -> Self {
        let clock = Clock::new();
        let limits = Limits {
            interval: Duration::from_secs(10),
            offline_after: Duration::from_secs(30),
            expiry: Duration::from_secs(3600),
            max_peers: 3,
        };
        let incarnation = Incarnation::from_u128(ME);
        let members = Membership::new(node("me"), incarnation, limits, known, 7, clock.now());
        Self { clock, members }
    }

    fn say(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.members.handle(self.clock.now(), event, &mut out);
        out
    }

    /// Lets time pass, and wakes when that was asked for, and at the end.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.clock.now().mono + time;
        let mut out = Vec::new();
        while let Some(at) = self.members.wake_at().filter(|at| *at < end) {
            self.clock.pass(at.saturating_duration_since(self.clock.now().mono));
            out.extend(self.say(Event::Woke));
        }
        out.extend(self.stand_still(end.saturating_duration_since(self.clock.now().mono)));
        out
    }

    /// Lets time pass in which this node does not run.
    fn stand_still(&mut self, time: Duration) -> Vec<Action> {
        self.clock.pass(time);
        self.say(Event::Woke)
    }

    /// A node comes: it is heard, asked, and answers.
    fn meet(&mut self, from: &str, incarnation: u128) -> Vec<Action> {
        let asked = self.say(Event::Keepalive(keepalive(from, incarnation, 1)));
        let [Action::Hello { nonce, .. }] = asked[..] else { panic!("{asked:?}") };
        let keepalive = keepalive(from, incarnation, 2);
        self.say(Event::Welcome { nonce, keepalive })
    }
}

fn news(actions: &[Action]) -> Option<News> {
    actions.iter().find_map(|action| match action {
        Action::Heard { news, .. } => Some(*news),
        _ => None,
    })
}

/// The number in the question to this node, if there is one.
fn asked(actions: &[Action], node: &str) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Hello { to, nonce } if to.as_str() == node => Some(*nonce),
        _ => None,
    })
}

fn offline(actions: &[Action]) -> Vec<&NodeId> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Offline { node, .. } => Some(node),
            _ => None,
        })
        .collect()
}

#[test]
fn a_stranger_is_a_peer_once_it_has_answered() {
    let mut bench = Bench::new();
    let actions = bench.meet("bob", 1);
    let expected = News { online: true, first: true, ..News::default() };
    assert_eq!(news(&actions), Some(expected));
    let channel = ChannelName::new("c").expect("a valid name");
    assert_eq!(bench.members.readers(&channel).collect::<Vec<_>>(), [&node("bob")]);
    // And is told of us soon.
    assert_eq!(bench.pass(Duration::from_millis(60)), [Action::Beat { rival: None }]);
    assert_eq!(news(&bench.say(Event::Keepalive(keepalive("bob", 1, 3)))), Some(News::default()));
}

#[test]
fn invented_nodes_cost_a_bounded_table_and_displace_nobody() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    for n in 0..10_000 {
        let actions = bench.say(Event::Keepalive(keepalive(&format!("x{n}"), 1, 1)));
        assert_eq!(news(&actions), None);
        let wrong = Event::Welcome { nonce: n, keepalive: keepalive(&format!("x{n}"), 1, 1) };
        assert_eq!(news(&bench.say(wrong)), None);
    }
    assert!(bench.members.strangers.len() <= MAX_STRANGERS);
    assert_eq!(bench.members.peers().map(|peer| peer.node).collect::<Vec<_>>(), [node("bob")]);
}

#[test]
fn there_is_room_for_so_many_peers_and_no_more() {
    let mut bench = Bench::new();
    for name in ["a", "b", "c"] {
        assert!(news(&bench.meet(name, 1)).is_some());
    }
    assert_eq!(bench.meet("d", 1), [Action::Full { refused: node("d") }]);
    assert_eq!(bench.meet("e", 1), []);
    bench.say(Event::Forget(node("a")));
    assert!(news(&bench.meet("d", 1)).is_some());
}

#[test]
fn a_silent_peer_is_offline_and_later_forgotten() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    assert_eq!(offline(&bench.pass(Duration::from_secs(29))), Vec::<&NodeId>::new());
    assert_eq!(offline(&bench.pass(Duration::from_secs(1))), [&node("bob")]);
    let actions = bench.pass(Duration::from_secs(3600));
    assert!(actions.contains(&Action::Expired { node: node("bob") }));
    // Until the file has done so.
    let actions = bench.pass(FORGET_AGAIN);
    assert!(actions.contains(&Action::Expired { node: node("bob") }));
    bench.say(Event::Forget(node("bob")));
    assert!(!bench.members.is_peer(&node("bob")));
}

/// Lets link and time pass for an absent peer; what was done about it.
fn fate(bench: &mut Bench, time: Duration) -> (usize, bool) {
    let actions = bench.pass(time);
    let asked = |it: &&Action| matches!(it, Action::Hello { to, .. } if *to == node("bob"));
    let forgotten = actions.contains(&Action::Expired { node: node("bob") });
    (actions.iter().filter(asked).count(), forgotten)
}

fn known(seen_ms: u64) -> Known {
    Known {
        node: node("bob"),
        incarnation: Incarnation::from_u128(1),
        store: StoreId::from_u128(1),
        host: "ship".to_owned(),
        version: "1.2.3".to_owned(),
        channels: keepalive("bob", 1, 1).channels,
        seen_ms,
        linked: Duration::ZERO,
        questions: 0,
    }
}

#[test]
fn a_peer_that_was_heard_ten_days_ago_is_asked_before_it_is_forgotten() {
    let mut bench = Bench::with([known(0)]);
    bench.clock.pass(Duration::from_secs(10 * 86_400));
    bench.say(Event::LinkUp);
    assert_eq!(fate(&mut bench, Duration::from_secs(29)), (2, false), "and once at the start");
    assert_eq!(fate(&mut bench, Duration::from_secs(2)), (0, true));
    // One that answers stays.
    let mut bench = Bench::with([known(0)]);
    bench.clock.pass(Duration::from_secs(10 * 86_400));
    let question = bench.say(Event::LinkUp);
    let nonce = asked(&question, "bob").expect("asked at once");
    bench.say(Event::Welcome { nonce, keepalive: keepalive("bob", 2, 1) });
    assert!(!fate(&mut bench, Duration::from_secs(60)).1);
}

#[test]
fn a_peer_is_forgotten_by_many_short_runs_as_by_a_long_one() {
    let (mut peers, mut runs) = (vec![known(0)], 0);
    let mut at = Duration::from_secs(3_600);
    loop {
        let mut bench = Bench::with(peers);
        bench.clock.pass(at);
        bench.say(Event::LinkUp);
        if fate(&mut bench, Duration::from_secs(4)).1 {
            break;
        }
        let now = bench.clock.now();
        peers = bench.members.note_due(now, None);
        runs += 1;
        at += Duration::from_secs(60);
        assert!(runs < 20 && peers.len() <= 1);
        // What did not change is in the file.
        if peers.is_empty() {
            peers = vec![Known { linked: Duration::from_secs(30), questions: 3, ..known(0) }];
        }
    }
    assert!(runs >= 7, "{runs} runs of 4 s are less than 30 s of link");
}

#[test]
fn short_runs_without_a_link_forget_nobody() {
    let mut bench = Bench::with([known(0)]);
    bench.clock.pass(Duration::from_secs(30 * 86_400));
    assert_eq!(fate(&mut bench, Duration::from_secs(3_600)), (0, false));
    let now = bench.clock.now();
    assert_eq!(bench.members.note_due(now, None), []);
    assert!(bench.members.forgets_soon(now), "what a run counts decides now");
    assert!(!Bench::with([known(now.file_ms)]).members.forgets_soon(now));
}

#[test]
fn what_was_last_said_of_an_absent_peer_outlives_a_restart() {
    let mut bench = Bench::with([known(5)]);
    let peer = bench.members.peers().next().expect("there");
    assert_eq!((&*peer.version, peer.seen_ms, peer.online), ("1.2.3", 5, false));
    assert_eq!(peer.channels, known(5).channels);
    // Nothing of it counts as said in this run.
    assert_eq!(bench.members.peer(&node("bob")), None);
    bench.say(Event::LinkUp);
    bench.meet("bob", 2);
    let now = bench.clock.now();
    let noted = bench.members.note_due(now, None);
    assert_eq!((noted.len(), noted[0].seen_ms, &*noted[0].version), (1, now.file_ms, "0.1.0"));
    assert_eq!(bench.members.note_due(now, None), [], "once");
}

#[test]
fn while_we_are_cut_off_ourselves_nobody_goes_offline_or_is_forgotten() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    bench.say(Event::LinkDown);
    assert_eq!(bench.pass(Duration::from_secs(30 * 86_400)), []);
    let actions = bench.say(Event::LinkUp);
    assert_eq!(offline(&actions), Vec::<&NodeId>::new());
    assert_eq!(offline(&bench.pass(Duration::from_secs(31))), [&node("bob")]);
}

#[test]
fn a_goodbye_counts_at_once_and_a_late_keepalive_does_not_undo_it() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let goodbye = Keepalive { goodbye: true, ..keepalive("bob", 1, 5) };
    let why = Departure::Goodbye;
    let gone = [Action::Offline { node: node("bob"), why }];
    assert_eq!(bench.say(Event::Keepalive(goodbye)), gone);
    let late = bench.say(Event::Keepalive(keepalive("bob", 1, 4)));
    assert!(matches!(late[..], [Action::Hello { .. }]), "{late:?}");
    assert!(!bench.members.is_online(&node("bob")));
}

#[test]
fn a_restarted_peer_has_to_prove_itself_anew() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let restarted = News { restarted: true, ..News::default() };
    assert_eq!(news(&bench.meet("bob", 2)), Some(restarted));
    // A late keepalive of the run before is only a question.
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(news(&bench.say(Event::Keepalive(keepalive("bob", 1, 99)))), None);
    assert!(bench.members.peers().any(|peer| peer.incarnation == Incarnation::from_u128(2)));
}

#[test]
fn a_peer_that_has_connected_anew_is_noticed() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let again = Keepalive { session: 2, ..keepalive("bob", 1, 3) };
    let reconnected = News { reconnected: true, ..News::default() };
    assert_eq!(news(&bench.say(Event::Keepalive(again.clone()))), Some(reconnected));
    let still = Keepalive { counter: 4, ..again };
    assert_eq!(news(&bench.say(Event::Keepalive(still))), Some(News::default()));
}

#[test]
fn a_peer_with_another_file_is_noticed() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let asked = bench.say(Event::Keepalive(keepalive("bob", 2, 1)));
    let [Action::Hello { nonce, .. }] = asked[..] else { panic!("{asked:?}") };
    let keepalive = Keepalive { store: StoreId::from_u128(9), ..keepalive("bob", 2, 2) };
    let heard = bench.say(Event::Welcome { nonce, keepalive });
    assert!(news(&heard).is_some_and(|news| news.other_store && news.restarted));
}

#[test]
fn keepalives_are_regular_and_prompt_when_something_changed_and_never_a_flood() {
    let mut bench = Bench::new();
    let mut beats = 0;
    for _ in 0..100 {
        beats += bench.pass(Duration::from_secs(1)).len();
    }
    assert!((10..=12).contains(&beats), "{beats}");
    bench.say(Event::Changed);
    assert_eq!(bench.pass(Duration::from_millis(70)), [Action::Beat { rival: None }]);
    let mut beats = 0;
    for _ in 0..1000 {
        beats += bench.say(Event::Changed).len();
        beats += bench.pass(Duration::from_millis(1)).len();
    }
    assert!((10..=21).contains(&beats), "{beats}");
}

#[test]
fn the_younger_of_two_nodes_with_one_id_stands_back_and_only_on_the_word_of_a_living_one() {
    let mut bench = Bench::new();
    // A late keepalive of an earlier run of ours proves nothing; whoever sent it is asked.
    let older = Keepalive { uptime_ms: 1_000_000, ..keepalive("me", 1, 7) };
    assert_eq!(bench.say(Event::Keepalive(older.clone())), []);
    let rival = Some(Incarnation::from_u128(1));
    assert_eq!(bench.pass(Duration::from_millis(60)), [Action::Beat { rival }]);
    let speaks_of_us = Keepalive { rival: Some(Incarnation::from_u128(ME)), ..older };
    let conflict = |stop| {
        let incarnation = Incarnation::from_u128(1);
        [Action::Conflict { host: "ship".to_owned(), incarnation, stop }]
    };
    assert_eq!(bench.say(Event::Keepalive(speaks_of_us.clone())), conflict(true));
    bench.clock.pass(SAME_AGE);
    let younger = Keepalive { uptime_ms: 0, ..speaks_of_us.clone() };
    assert_eq!(bench.say(Event::Keepalive(younger))[..1], conflict(false));
    // Long after the start nobody can silence us, a new connection or not.
    bench.say(Event::LinkDown);
    bench.clock.pass(PROBE);
    bench.say(Event::LinkUp);
    let late = bench.say(Event::Keepalive(speaks_of_us.clone()));
    assert_eq!(late[..1], conflict(false));
    // A stranger that invents keepalives does not hear the question. Whoever answers it has our name.
    let [_, Action::Hello { nonce, .. }] = late[..] else { panic!("{late:?}") };
    let welcome = |nonce| Event::Welcome { nonce, keepalive: speaks_of_us.clone() };
    assert_eq!(bench.say(welcome(nonce ^ 1)), []);
    assert_eq!(bench.say(welcome(nonce)), conflict(true));
    assert_eq!(bench.say(welcome(nonce)), [], "it is answered once");
}

#[test]
fn a_node_that_is_established_gives_way_to_nobody_who_was_there_before() {
    let mut bench = Bench::new();
    bench.pass(Duration::from_secs(31));
    let rival = Some(Incarnation::from_u128(ME));
    let older = Keepalive { uptime_ms: 1_000_000, rival, ..keepalive("me", 1, 7) };
    let actions = bench.say(Event::Keepalive(older));
    assert!(matches!(actions[..], [Action::Conflict { stop: false, .. }]), "{actions:?}");
}

/// Our own keepalive, as it comes back.
/// Our own word, come back.
fn echo(counter: u64) -> Event {
    Event::Keepalive(keepalive("me", ME, counter))
}

#[test]
fn a_node_that_stood_still_handles_nothing_before_its_own_word_came_back() {
    let mut bench = Bench::new();
    bench.pass(Duration::from_secs(60));
    let doubts = |bench: &Bench| bench.members.is_in_doubt();
    assert!(!doubts(&bench));
    bench.clock.pass(Duration::from_secs(3));
    bench.say(Event::StoodStill { spoken: 7 });
    assert!(doubts(&bench));
    // What it said before it stood still proves nothing, also where the clock stood still as well.
    bench.say(echo(7));
    assert!(doubts(&bench));
    bench.say(echo(8));
    assert!(!doubts(&bench));
    // Without an echo it goes on all the same.
    bench.clock.pass(Duration::from_secs(3));
    bench.say(Event::StoodStill { spoken: 7 });
    bench.pass(PROBE + Duration::from_millis(1));
    assert!(!doubts(&bench));
}

#[test]
fn a_node_that_stood_still_tells_a_newcomer_to_stand_back_and_gives_way_to_one_that_took_its_place()
{
    for (uptime, stops) in [(Duration::from_secs(20), false), (Duration::from_secs(40), true)] {
        let mut bench = Bench::new();
        bench.pass(Duration::from_secs(60));
        bench.clock.pass(uptime + Duration::from_secs(3));
        bench.say(Event::StoodStill { spoken: 7 });
        let uptime_ms = uptime.as_millis() as u64;
        let other = Keepalive { uptime_ms, ..keepalive("me", 900, 1) };
        let asked = bench.say(Event::Keepalive(other.clone()));
        let hello = asked.iter().find_map(|it| match it {
            Action::Hello { to, nonce } if *to == node("me") => Some(*nonce),
            _ => None,
        });
        let nonce = hello.unwrap_or_else(|| panic!("{asked:?}"));
        // Its echo is not enough now.
        bench.say(echo(120));
        assert!(bench.members.is_in_doubt());
        let told = bench.say(Event::Welcome { nonce, keepalive: other });
        let [Action::Conflict { stop, .. }, ..] = told[..] else { panic!("{told:?}") };
        assert_eq!(stop, stops, "{uptime:?}");
        if !stops {
            let rival = Some(Incarnation::from_u128(900));
            let said = bench.pass(Duration::from_millis(100));
            assert!(told.iter().chain(&said).any(|it| *it == Action::Beat { rival }), "{said:?}");
            bench.pass(Duration::from_secs(1));
            assert!(!bench.members.is_in_doubt());
        }
    }
}

#[test]
fn a_question_under_our_own_name_is_answered_unless_it_is_our_own() {
    let mut bench = Bench::new();
    let hello = |from| Event::Hello { nonce: 9, keepalive: keepalive("me", from, 1) };
    assert_eq!(bench.say(hello(ME)), []);
    assert_eq!(bench.say(hello(900)), [Action::Welcome { to: node("me"), nonce: 9 }]);
}

#[test]
fn a_start_waits_for_objections_as_long_as_its_own_word_takes_to_come_back() {
    let least = Duration::from_millis(150);
    // The last one stood still for an hour meanwhile.
    for (took_ms, waits_ms) in [(100, 200), (400, 800), (3_600_000, 4_000)] {
        let mut bench = Bench::new();
        assert_eq!(bench.members.objects_until(least), None);
        // The link has been there for the first 100.
        bench.clock.pass(Duration::from_millis(took_ms - 100));
        bench.say(echo(1));
        let until = bench.clock.now().mono + Duration::from_millis(waits_ms);
        assert_eq!(bench.members.objects_until(least), Some(until), "{took_ms}");
    }
}

/// A younger node that hears the older one before it has spoken itself only ever speaks of it.
#[test]
fn an_older_node_that_hears_of_itself_first_tells_the_younger_to_stand_back() {
    let mut bench = Bench::new();
    bench.pass(SAME_AGE);
    let rival = Some(Incarnation::from_u128(ME));
    let younger = Keepalive { uptime_ms: 10, rival, ..keepalive("me", 900, 1) };
    let actions = bench.say(Event::Keepalive(younger));
    assert!(matches!(actions[..], [Action::Conflict { stop: false, .. }]), "{actions:?}");
    let told = Action::Beat { rival: Some(Incarnation::from_u128(900)) };
    assert_eq!(bench.pass(Duration::from_millis(60)), [told]);
}

#[test]
fn of_two_nodes_with_one_id_that_start_together_exactly_one_stands_back() {
    for latency_ms in [0, 1, 300, 900] {
        for (rival, stands_back) in [(ME - 1, true), (ME + 1, false)] {
            let mut bench = Bench::new();
            // Both started at the same moment; what the other says of its age is as old as the frame.
            bench.pass(Duration::from_millis(900));
            let other = Keepalive {
                uptime_ms: 1_000 - latency_ms,
                rival: Some(Incarnation::from_u128(ME)),
                ..keepalive("me", rival, 1)
            };
            let actions = bench.say(Event::Keepalive(other));
            let [Action::Conflict { stop, .. }, ..] = actions[..] else { panic!("{actions:?}") };
            assert_eq!(stop, stands_back, "{latency_ms} ms");
        }
    }
}

#[test]
fn a_rival_that_is_heard_without_a_link_is_asked_once_there_is_one() {
    let mut bench = Bench::new();
    bench.pass(PROBE);
    bench.say(Event::LinkDown);
    let rival = Some(Incarnation::from_u128(ME));
    let speaks_of_us = |counter| {
        Event::Keepalive(Keepalive { uptime_ms: 10, rival, ..keepalive("me", 900, counter) })
    };
    let asks = |actions: &[Action]| actions.iter().any(|it| matches!(it, Action::Hello { .. }));
    let actions = bench.say(speaks_of_us(1));
    assert!(!asks(&actions), "{actions:?}");
    bench.say(Event::LinkUp);
    let actions = bench.say(speaks_of_us(2));
    assert!(asks(&actions), "{actions:?}");
}

/// A subscription is live before the link counts as up, and what is published then does not leave.
#[test]
fn nobody_is_taken_for_asked_whom_a_question_cannot_have_reached() {
    let mut bench = Bench::new();
    let asks = |actions: &[Action]| matches!(actions, [Action::Hello { .. }]);
    assert!(asks(&bench.say(Event::Keepalive(keepalive("bob", 1, 1)))));
    bench.say(Event::LinkDown);
    assert_eq!(bench.say(Event::Keepalive(keepalive("bob", 1, 2))), []);
    assert_eq!(bench.say(Event::Keepalive(keepalive("eve", 2, 1))), []);
    bench.say(Event::LinkUp);
    assert!(asks(&bench.say(Event::Keepalive(keepalive("bob", 1, 3)))));
    assert!(asks(&bench.say(Event::Keepalive(keepalive("eve", 2, 2)))));
}

/// Subjects overtake each other: the broadcast that told of a channel is not believed yet, and the answer is older than that.
#[test]
fn a_stranger_that_told_more_before_its_answer_came_is_asked_again() {
    let mut bench = Bench::new();
    let asked = bench.say(Event::Keepalive(keepalive("bob", 1, 1)));
    let [Action::Hello { nonce, .. }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(bench.say(Event::Keepalive(keepalive("bob", 1, 3))), []);
    let before = Keepalive { channels: Vec::new(), ..keepalive("bob", 1, 2) };
    let actions = bench.say(Event::Welcome { nonce, keepalive: before.clone() });
    let [Action::Heard { .. }, Action::Hello { nonce, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    // A newer broadcast may come first again; the answer does not undo it.
    let heard = bench.say(Event::Keepalive(keepalive("bob", 1, 5)));
    assert!(news(&heard).is_some(), "{heard:?}");
    let late = Keepalive { counter: 4, ..before };
    assert_eq!(news(&bench.say(Event::Welcome { nonce, keepalive: late })), None);
    let channel = ChannelName::new("c").expect("a valid name");
    assert_eq!(bench.members.readers(&channel).collect::<Vec<_>>(), [&node("bob")]);
}

#[test]
fn p8_only_so_many_hellos_are_answered_in_a_second() {
    let mut bench = Bench::new();
    let mut welcomes = 0;
    for n in 0..10_000 {
        let keepalive = keepalive(&format!("x{n}"), 1, 1);
        let actions = bench.say(Event::Hello { nonce: 1, keepalive });
        welcomes += actions.iter().filter(|a| matches!(a, Action::Welcome { .. })).count();
    }
    assert_eq!(welcomes, WELCOMES_A_SECOND as usize);
    bench.pass(Duration::from_secs(1));
    let actions = bench.say(Event::Hello { nonce: 1, keepalive: keepalive("bob", 1, 1) });
    assert!(matches!(actions[0], Action::Welcome { .. }));
}

#[test]
fn a_hello_is_answered() {
    let mut bench = Bench::new();
    let hello = Event::Hello { nonce: 42, keepalive: keepalive("bob", 1, 1) };
    let actions = bench.say(hello);
    assert_eq!(actions[0], Action::Welcome { to: node("bob"), nonce: 42 });
    assert!(matches!(actions[1], Action::Hello { .. }));
}

#[test]
fn p8_a_peer_whose_keepalives_are_lost_is_asked_and_its_answer_keeps_it_online() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let mut counter = 2;
    for _ in 0..20 {
        let actions = bench.pass(Duration::from_secs(20));
        let nonce = asked(&actions, "bob").expect("it is asked whether it lives");
        assert_eq!(offline(&actions), Vec::<&NodeId>::new());
        counter += 1;
        let keepalive = keepalive("bob", 1, counter);
        let heard = bench.say(Event::Welcome { nonce, keepalive });
        assert_eq!(news(&heard), Some(News::default()));
    }
    // The first question or its answer can be lost like everything else.
    let actions = bench.pass(Duration::from_secs(29));
    let to_bob = |action: &&Action| matches!(action, Action::Hello { .. });
    assert_eq!(actions.iter().filter(to_bob).count(), 3);
    assert_eq!(offline(&bench.pass(Duration::from_secs(1))), [&node("bob")]);
}

#[test]
fn p8_every_frame_of_a_peer_is_a_sign_of_life() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    for _ in 0..10 {
        let actions = bench.pass(Duration::from_secs(19));
        assert_eq!((asked(&actions, "bob"), offline(&actions)), (None, Vec::new()));
        assert!(bench.members.spoke(bench.clock.now(), &node("bob")));
    }
    bench.pass(Duration::from_secs(31));
    // Not of one that is offline, or was never met: those have to be asked first.
    assert!(!bench.members.spoke(bench.clock.now(), &node("bob")));
    assert!(!bench.members.spoke(bench.clock.now(), &node("carol")));
    assert!(asked(&bench.say(Event::Unknown(node("bob"))), "bob").is_some());
}

#[test]
fn p8_a_forged_counter_does_not_make_the_true_keepalives_late_for_ever() {
    for goodbye in [false, true] {
        let mut bench = Bench::new();
        bench.meet("bob", 1);
        let forged = Keepalive { goodbye, ..keepalive("bob", 1, u64::MAX) };
        bench.say(Event::Keepalive(forged));
        let nonce = asked(&bench.say(Event::Keepalive(keepalive("bob", 1, 3))), "bob");
        let (nonce, keepalive_4) = (nonce.expect("it is asked"), keepalive("bob", 1, 4));
        let actions = bench.say(Event::Welcome { nonce, keepalive: keepalive_4 });
        assert_eq!(news(&actions).map(|news| news.online), Some(goodbye));
        let actions = bench.say(Event::Keepalive(keepalive("bob", 1, 5)));
        assert_eq!(news(&actions), Some(News::default()));
    }
}

#[test]
fn a_keepalive_that_overtakes_an_answer_is_not_taken_back_by_it() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let actions = bench.pass(Duration::from_secs(20));
    let nonce = asked(&actions, "bob").expect("it is asked whether it lives");
    bench.say(Event::Keepalive(Keepalive { draining: true, ..keepalive("bob", 1, 4) }));
    let answer = Event::Welcome { nonce, keepalive: keepalive("bob", 1, 3) };
    assert_eq!(bench.say(answer), []);
    assert!(bench.members.peers().next().expect("bob").draining);
}

#[test]
fn p8_a_flood_of_strangers_does_not_push_out_the_questions_to_peers() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let nonce = asked(&bench.pass(Duration::from_secs(20)), "bob").expect("it is asked");
    for n in 0..10_000 {
        bench.say(Event::Keepalive(keepalive(&format!("x{n}"), 1, 1)));
        let hello = keepalive(&format!("x{n}"), 1, 2);
        bench.say(Event::Hello { nonce: 1, keepalive: hello });
    }
    // And a peer that asks us is answered, whoever else asks.
    let actions = bench.say(Event::Hello { nonce: 9, keepalive: keepalive("bob", 1, 3) });
    assert!(actions.contains(&Action::Welcome { to: node("bob"), nonce: 9 }), "{actions:?}");
    bench.pass(Duration::from_secs(9));
    bench.say(Event::Welcome { nonce, keepalive: keepalive("bob", 1, 4) });
    assert_eq!(offline(&bench.pass(Duration::from_secs(15))), Vec::<&NodeId>::new());
}

#[test]
fn only_so_many_strangers_are_asked_in_a_second() {
    let mut bench = Bench::new();
    let mut count = 0;
    for n in 0..10_000 {
        let actions = bench.say(Event::Unknown(node(&format!("x{n}"))));
        count += usize::from(asked(&actions, &format!("x{n}")).is_some());
    }
    assert!(count > 0 && count <= MAX_STRANGERS, "{count}");
    bench.pass(Duration::from_secs(1));
    assert!(asked(&bench.say(Event::Unknown(node("bob"))), "bob").is_some());
}

#[test]
fn a_question_is_repeated_with_its_number_so_that_a_slow_answer_still_fits() {
    let mut bench = Bench::new();
    let first = asked(&bench.say(Event::Unknown(node("bob"))), "bob").expect("asked");
    bench.pass(Duration::from_millis(300));
    assert_eq!(asked(&bench.say(Event::Unknown(node("bob"))), "bob"), Some(first));
    let answer = Event::Welcome { nonce: first, keepalive: keepalive("bob", 1, 1) };
    assert!(news(&bench.say(answer)).is_some());
    // An answer counts once.
    let again = Event::Welcome { nonce: first, keepalive: keepalive("bob", 2, 9) };
    assert_eq!(news(&bench.say(again)), None);
}

#[test]
fn p6_the_time_in_which_this_node_stood_still_counts_against_nobody() {
    let mut bench = Bench::new();
    bench.meet("bob", 1);
    let actions = bench.stand_still(Duration::from_secs(30 * 86_400));
    assert_eq!(offline(&actions), Vec::<&NodeId>::new());
    assert!(!actions.contains(&Action::Expired { node: node("bob") }), "{actions:?}");
    assert_eq!(offline(&bench.pass(Duration::from_secs(31))), [&node("bob")]);
}

/// Else a peer that restarts at once would be known as such only by its next keepalive.
#[test]
fn who_speaks_just_after_it_was_asked_is_asked_again() {
    let mut bench = Bench::new();
    bench.meet("a", 1);
    let asked_first = asked(&bench.say(Event::Unknown(node("a"))), "a").expect("asked");
    // It dies before it can answer, and another incarnation speaks.
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.say(Event::Keepalive(keepalive("a", 2, 1))), []);
    let again = bench.pass(Duration::from_millis(150));
    let nonce = asked(&again, "a").expect("asked again");
    assert_eq!(nonce, asked_first);
    assert_eq!(asked(&bench.pass(Duration::from_secs(1)), "a"), None, "once");
    let told = bench.say(Event::Welcome { nonce, keepalive: keepalive("a", 2, 2) });
    assert!(news(&told).is_some_and(|news| news.restarted));
    // A stranger too: its first answer may have been lost before it could hear.
    bench.say(Event::Keepalive(keepalive("b", 1, 1)));
    bench.pass(Duration::from_millis(50));
    bench.say(Event::Keepalive(keepalive("b", 1, 2)));
    assert!(asked(&bench.pass(Duration::from_millis(200)), "b").is_some());
}
