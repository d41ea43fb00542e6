use super::*;

fn json(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

fn set(ticket: u64, text: &str) -> Event {
    Event::SetState { ticket, json: json(text) }
}

fn done(actions: &[Action]) -> Vec<u64> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::SetDone { ticket, .. } => Some(*ticket),
            _ => None,
        })
        .collect()
}

fn failed(actions: &[Action]) -> Vec<(u64, &SetError)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::SetFailed { ticket, why } => Some((*ticket, why)),
            _ => None,
        })
        .collect()
}

fn stored(number: u64, rev: u64) -> Said {
    Said::StateStored { to: node("me"), version: version(number, rev) }
}

#[test]
fn a_state_is_set_once_a_majority_has_it_on_disk() {
    let mut bench = Bench::voter();
    bench.elect();
    let pushed = bench.say(set(1, "7"));
    let state = State { version: version(1, 1), json: json("7") };
    assert_eq!(said(&pushed), [&Said::State(state)]);
    // Our own disk is one of three.
    assert_eq!(done(&bench.write()), [] as [u64; 0]);
    assert_eq!(done(&bench.hears("b", 1, stored(1, 0))), [] as [u64; 0]);
    assert_eq!(done(&bench.hears("b", 1, stored(1, 1))), [1]);
}

#[test]
fn two_others_are_a_majority_while_our_own_disk_is_slow() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.say(set(1, "7"));
    let say = |bench: &mut Bench, from| bench.say(heard(from, 1, stored(1, 1), &bench.settings));
    assert_eq!(done(&say(&mut bench, "a")), [] as [u64; 0]);
    assert_eq!(done(&say(&mut bench, "b")), [1]);
}

#[test]
fn states_set_while_one_is_under_way_share_the_next_frame() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(set(1, "1"));
    let waiting = [bench.does(set(2, "2")), bench.does(set(3, "3"))].concat();
    assert_eq!(said(&waiting), [] as [&Said; 0]);
    let next = bench.hears("a", 1, stored(1, 1));
    assert_eq!(done(&next), [1]);
    let state = State { version: version(1, 3), json: json("3") };
    assert_eq!(said(&next), [&Said::State(state)]);
    assert_eq!(done(&bench.hears("a", 1, stored(1, 3))), [2, 3]);
}

#[test]
fn only_the_master_sets_the_state_and_others_name_it() {
    let mut bench = Bench::voter();
    let nobody = SetError::NotMaster { master: None };
    assert_eq!(failed(&bench.does(set(1, "1"))), [(1, &nobody)]);
    bench.hears("a", 4, beat(1, version(4, 0)));
    let refused = bench.does(set(2, "2"));
    let why = SetError::NotMaster { master: Some((node("a"), term(4))) };
    assert_eq!(failed(&refused), [(2, &why)]);
    assert_eq!(why.to_string(), "only the master sets the state, and that is a (term 4)");
}

#[test]
fn a_state_that_is_too_large_for_our_settings_is_not_set_here_and_taken_from_others() {
    let mut bench = Bench::voter();
    bench.elect();
    let large: Arc<[u8]> = vec![b'1'; 256 * 1024 + 1].into();
    let refused = bench.does(Event::SetState { ticket: 1, json: large.clone() });
    let why = SetError::TooLarge { actual: 262_145, limit: 262_144 };
    assert_eq!(failed(&refused), [(1, &why)]);
    // A master whose state nobody stored would stay master and never act.
    let mut bench = Bench::voter();
    let state = State { version: version(1, 0), json: large };
    let answer = Said::StateStored { to: node("a"), version: version(1, 0) };
    assert_eq!(said(&bench.hears("a", 1, Said::State(state))), [&answer]);
    let json = vec![b'1'; MAX_STATE_BYTES + 1].into();
    let beyond = State { version: version(1, 1), json };
    assert_eq!(bench.hears("a", 1, Said::State(beyond)), []);
    assert_eq!(bench.node.refused().malformed, 1);
}

#[test]
fn so_many_calls_wait_and_no_more() {
    let mut bench = Bench::voter();
    bench.elect();
    for ticket in 0..1_024 {
        assert_eq!(failed(&bench.does(set(ticket, "1"))), []);
    }
    let busy = SetError::Busy { limit: MAX_WAITING };
    assert_eq!(failed(&bench.does(set(2_000, "1"))), [(2_000, &busy)]);
}

#[test]
fn a_set_that_is_under_way_when_mastership_is_lost_has_an_unknown_outcome() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(set(1, "1"));
    let lost = bench.pass(3 * SECOND);
    assert_eq!(failed(&lost), [(1, &SetError::Unknown)]);
}

#[test]
fn a_set_that_is_under_way_is_answered_in_the_term_that_the_master_takes_instead() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(set(1, "1"));
    bench.hears("b", 9, Said::Behind { to: node("me") });
    // Also one that comes meanwhile.
    bench.does(set(2, "2"));
    bench.hears("b", 10, Said::VoteAnswer { to: node("me"), granted: true });
    assert_eq!(done(&bench.answer_the_beat("b")), [1, 2]);
    assert_eq!(bench.durable.state, State { version: version(10, 0), json: json("2") });
}

#[test]
fn a_new_master_makes_the_state_that_it_found_its_own() {
    let state = State { version: version(3, 8), json: json("42") };
    let durable = Durable { term: term(5), vote: None, state };
    let mut bench = Bench::with(Settings::new(quorum(&["me", "a", "b"])), durable);
    let now = bench.elect();
    assert_eq!(now, term(6));
    assert_eq!(bench.durable.state, State { version: version(6, 0), json: json("42") });
}

#[test]
fn what_others_stored_of_an_earlier_term_counts_for_nothing() {
    let state = State { version: version(3, 8), json: json("42") };
    let durable = Durable { term: term(5), vote: None, state };
    let mut bench = Bench::with(Settings::new(quorum(&["me", "a", "b"])), durable);
    let round = bench.until_it_asks();
    bench.hears("a", 5, Said::PreVoteAnswer { to: node("me"), round, granted: true });
    bench.hears("a", 6, Said::VoteAnswer { to: node("me"), granted: true });
    for number in [1, 2] {
        let version = version(3, 8);
        for voter in ["a", "b"] {
            bench.hears(voter, 6, Said::BeatAnswer { to: node("me"), number, version });
        }
    }
    assert!(!bench.is_master());
}

#[test]
fn a_follower_answers_for_a_state_once_it_is_on_disk() {
    let mut bench = Bench::voter();
    let state = State { version: version(1, 0), json: json("1") };
    let push = heard("a", 1, Said::State(state.clone()), &bench.settings);
    assert_eq!(said(&bench.say(push.clone())), [] as [&Said; 0]);
    let written = bench.write();
    let answer = Said::StateStored { to: node("a"), version: version(1, 0) };
    assert_eq!(said(&written), [&answer]);
    assert_eq!(notices(&written), [&Notice::StateChanged { version: version(1, 0) }]);
    // The same again is only answered.
    let again = bench.say(push);
    assert_eq!((said(&again), bench.writing.is_none()), (vec![&answer], true));
}

#[test]
fn a_master_that_has_its_link_again_says_at_once_what_nobody_has_heard() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(Event::LinkDown);
    bench.does(set(1, "7"));
    bench.clock.pass(ms(300));
    let again = bench.does(Event::LinkUp);
    let state = Said::State(State { version: version(1, 1), json: json("7") });
    assert!(said(&again).contains(&&state), "{again:?}");
    assert!(said(&again).iter().any(|said| matches!(said, Said::Beat(_))), "{again:?}");
    assert_eq!(done(&bench.hears("a", 1, stored(1, 1))), [1]);
}

#[test]
fn an_older_state_does_not_replace_a_newer_one() {
    let mut bench = Bench::voter();
    let push = |rev, text| Said::State(State { version: version(1, rev), json: json(text) });
    bench.hears("a", 1, push(2, "2"));
    bench.hears("a", 1, push(1, "1"));
    assert_eq!(bench.durable.state, State { version: version(1, 2), json: json("2") });
}

#[test]
fn a_state_of_another_term_than_its_masters_is_refused() {
    let mut bench = Bench::voter();
    for odd in [version(7, 0), version(1, u64::MAX)] {
        let state = State { version: odd, json: json("1") };
        assert_eq!(bench.hears("a", 1, Said::State(state)), []);
    }
    assert_eq!(bench.node.refused().malformed, 2);
    assert_eq!(bench.durable, Durable::default());
}

#[test]
fn a_node_that_is_behind_asks_and_the_master_answers_everybody_at_once() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(set(1, "1"));
    let request = Said::StateRequest { to: node("me"), have: Version::default() };
    // What was just sent is on its way.
    assert_eq!(said(&bench.hears("a", 1, request.clone())), [] as [&Said; 0]);
    bench.pass(ms(250));
    let answers = bench.hears("observer", 1, request.clone());
    assert_eq!(said(&answers).len(), 1);
    assert_eq!(said(&bench.hears("b", 1, request)), [] as [&Said; 0]);
}

#[test]
fn a_disk_that_fails_ends_mastership_and_nothing_rests_on_it_until_it_works_again() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.say(set(1, "1"));
    let (seq, _) = bench.writing.take().expect("it is written");
    let failure = bench.say(Event::PersistFailed { seq });
    assert_eq!(failed(&failure), [(1, &SetError::Unknown)]);
    let reason = Deposed::Disk;
    assert_eq!(notices(&failure), [&Notice::BecameFollower { term: term(1), reason }]);
    // No vote leaves, no beat is answered.
    let beat = heard("a", 1, beat(1, version(1, 0)), &bench.settings);
    assert_eq!(said(&bench.say(beat)), [] as [&Said; 0]);
    // A second later all of it is written anew.
    bench.clock.pass(SECOND);
    bench.say(Event::Woke);
    let again = bench.write();
    assert!(matches!(said(&again)[..], [Said::BeatAnswer { .. }]), "{again:?}");
    assert_eq!(bench.durable.state.json, json("1"));
}

#[test]
fn a_master_hands_over_to_the_voter_that_has_its_state_and_answered_last() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(set(1, "1"));
    bench.hears("a", 1, stored(1, 1));
    bench.pass(SECOND);
    // `b` answers later, and lacks the state.
    let number = bench.node.beat_number().expect("elected");
    let answer = Said::BeatAnswer { to: node("me"), number, version: version(1, 0) };
    bench.hears("b", 1, answer);
    let handed = bench.does(Event::HandOver { to: None });
    let reason = Deposed::HandedOver { to: node("a") };
    assert_eq!(notices(&handed), [&Notice::BecameFollower { term: term(1), reason }]);
    assert!(said(&handed).contains(&&Said::Handoff { to: node("a") }));
    assert!(!bench.is_master());
    // It votes for the successor although it was master itself a moment ago.
    let flagged = Said::VoteRequest { version: version(1, 1), handoff: Some(term(1)) };
    assert_eq!(voted(&bench.hears("a", 2, flagged), "a"), Some(true));
    let over = bench.hears("a", 2, beat(1, version(2, 0)));
    assert!(over.contains(&Action::HandoffDone { to: Some(node("a")) }), "{over:?}");
}

#[test]
fn handing_over_waits_until_callers_have_their_majority_and_takes_no_more_of_them() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(set(1, "1"));
    let waits = bench.does(Event::HandOver { to: None });
    assert!(bench.is_master() && notices(&waits).is_empty());
    assert_eq!(failed(&bench.does(set(2, "2"))), [(2, &SetError::HandingOver)]);
    let answered = bench.hears("a", 1, stored(1, 1));
    assert_eq!(done(&answered), [1]);
    assert!(said(&answered).contains(&&Said::Handoff { to: node("a") }), "{answered:?}");
}

#[test]
fn a_master_that_finds_no_successor_resigns() {
    let mut bench = Bench::voter();
    bench.elect();
    let other = bench.does(Event::HandOver { to: Some(node("b")) });
    assert!(bench.is_master(), "{other:?}");
    let resigned = bench.pass(ms(1_001));
    let reason = Deposed::Resigned;
    assert_eq!(notices(&resigned), [&Notice::BecameFollower { term: term(1), reason }]);
    assert!(said(&resigned).contains(&&Said::Resign));
    assert_eq!(resigned.last(), Some(&Action::HandoffDone { to: None }));
}

#[test]
fn a_successor_that_does_not_come_up_is_not_waited_for() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.does(Event::HandOver { to: None });
    let gone = bench.pass(ms(1_001));
    assert!(said(&gone).contains(&&Said::Handoff { to: node("a") }), "said again: {gone:?}");
    let last: Vec<&Action> = gone.iter().rev().take(2).collect();
    assert_eq!(*last[0], Action::HandoffDone { to: None });
    assert!(matches!(last[1], Action::Send(Frame { said: Said::Resign, .. })));
}

#[test]
fn a_successor_stands_at_once_and_is_voted_for_by_those_who_heard_the_master() {
    let mut bench = Bench::voter();
    bench.hears("a", 1, beat(1, Version::first_of(term(1))));
    let stands = bench.hears("a", 1, Said::Handoff { to: node("me") });
    let flagged = Said::VoteRequest { version: Version::default(), handoff: Some(term(1)) };
    assert!(said(&stands).contains(&&flagged), "{stands:?}");
    bench.hears("b", 2, Said::VoteAnswer { to: node("me"), granted: true });
    let ready = bench.answer_the_beat("b");
    let became = |notice: &&Notice| {
        matches!(notice, Notice::BecameMaster { reason: Accession::HandedOver, .. })
    };
    assert!(notices(&ready).iter().any(became), "{ready:?}");
}

#[test]
fn voters_let_a_successor_in_only_for_the_term_that_was_given_up() {
    let flagged = |of| Said::VoteRequest { version: Version::default(), handoff: Some(term(of)) };
    let mut bench = Bench::voter();
    bench.hears("a", 3, beat(1, Version::first_of(term(3))));
    // A late one of an earlier term unseats nobody.
    assert_eq!(voted(&bench.hears("b", 4, flagged(2)), "b"), None);
    assert_eq!(voted(&bench.hears("b", 4, flagged(4)), "b"), None);
    assert_eq!(voted(&bench.hears("b", 4, flagged(3)), "b"), Some(true));
}

#[test]
fn a_beat_from_before_the_master_gave_up_does_not_bring_it_back() {
    let mut bench = Bench::voter();
    bench.pass(3 * SECOND);
    bench.hears("a", 1, beat(1, Version::first_of(term(1))));
    let resigned = bench.hears("a", 1, Said::Resign);
    let (master, term1) = (node("a"), term(1));
    assert_eq!(notices(&resigned), [&Notice::MasterLost { master, term: term1 }]);
    bench.hears("a", 1, beat(2, Version::first_of(term(1))));
    assert_eq!(bench.node.master(bench.clock.now().mono), None);
    assert!(!said(&bench.pass(SECOND)).is_empty(), "it stands soon");
}

#[test]
fn a_node_that_stops_hands_over_and_never_stands_again() {
    let mut bench = Bench::voter();
    let idle = bench.does(Event::Stop);
    assert_eq!(idle, [Action::HandoffDone { to: None }]);
    assert_eq!(said(&bench.pass(60 * SECOND)), [] as [&Said; 0]);
    // But it votes, as long as it is there.
    assert_eq!(voted(&bench.hears("a", 1, vote_request()), "a"), Some(true));
}

/// Found by the simulation: both called theirs 1.0, and kept them.
#[test]
fn without_a_quorum_the_state_of_another_master_of_the_same_term_is_not_ours() {
    let mut bench = Bench::new(Mode::Visible);
    bench.pass(10 * SECOND);
    assert!(bench.is_master(), "nobody else is there");
    bench.does(set(1, "1"));
    bench.does(Event::Visible([node("a")].into()));
    bench.stand_still(10 * SECOND);
    assert!(!bench.is_master());

    let theirs = State { version: version(1, 1), json: json("2") };
    let heard = bench.hears("a", 1, beat(1, theirs.version));
    let asks = |said: &&Said| matches!(said, Said::StateRequest { to, .. } if *to == node("a"));
    assert!(said(&heard).into_iter().any(|it| asks(&it)), "{heard:?}");
    bench.hears("a", 1, Said::State(theirs.clone()));
    assert_eq!((bench.node.state(), &bench.durable.state), (&theirs, &theirs));
    // From then on it is known from whom it has it.
    let heard = bench.hears("a", 1, beat(2, theirs.version));
    assert!(!said(&heard).into_iter().any(|it| asks(&it)), "{heard:?}");
}
