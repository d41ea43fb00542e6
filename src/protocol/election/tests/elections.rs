use super::*;

#[test]
fn a_new_node_listens_before_it_asks_and_asks_before_it_stands() {
    let mut bench = Bench::voter();
    let quiet = bench.pass(3 * SECOND);
    assert_eq!(said(&quiet), [] as [&Said; 0]);
    let asks = bench.pass(SECOND);
    assert!(matches!(said(&asks)[0], Said::PreVote { .. }), "{asks:?}");
    // Nobody answers: it asks again and again, and takes no term.
    bench.pass(60 * SECOND);
    assert_eq!(bench.node.term(), Term::ZERO);
}

#[test]
fn a_candidate_asks_for_votes_only_when_its_own_is_on_disk() {
    let mut bench = Bench::voter();
    let round = bench.until_it_asks();
    let granted = Said::PreVoteAnswer { to: node("me"), round, granted: true };
    let stands = bench.say(heard("a", 0, granted, &bench.settings));
    assert_eq!(said(&stands), [] as [&Said; 0]);
    // A vote that comes before anybody was asked counts for nothing.
    let early = Said::VoteAnswer { to: node("me"), granted: true };
    bench.say(heard("a", 1, early, &bench.settings));
    assert!(bench.node.office().is_none());
    let asks = bench.write();
    assert_eq!(said(&asks), [&vote_request()]);
    assert_eq!((bench.durable.term, bench.durable.vote.clone()), (term(1), Some(node("me"))));
}

#[test]
fn an_answer_to_an_earlier_round_of_pre_votes_counts_for_nothing() {
    let mut bench = Bench::voter();
    let round = bench.until_it_asks();
    let late = Said::PreVoteAnswer { to: node("me"), round: round - 1, granted: true };
    bench.hears("a", 0, late);
    assert_eq!(bench.node.term(), Term::ZERO);
}

#[test]
fn a_vote_is_on_disk_before_it_is_sent() {
    let mut bench = Bench::voter();
    bench.pass(3 * SECOND);
    let before = bench.say(heard("a", 1, vote_request(), &bench.settings));
    assert_eq!(voted(&before, "a"), None);
    assert_eq!(bench.durable.vote, None);
    let after = bench.write();
    assert_eq!(voted(&after, "a"), Some(true));
    assert_eq!((bench.durable.term, bench.durable.vote.clone()), (term(1), Some(node("a"))));
}

#[test]
fn a_vote_that_waits_for_the_disk_is_void_once_a_later_term_begins() {
    let mut bench = Bench::voter();
    bench.pass(3 * SECOND);
    bench.say(heard("a", 1, vote_request(), &bench.settings));
    bench.say(heard("b", 2, vote_request(), &bench.settings));
    let written = bench.write();
    assert_eq!(voted(&written, "a"), None);
    assert_eq!(voted(&written, "b"), Some(true));
}

#[test]
fn a_node_votes_once_a_term_also_after_a_restart() {
    let mut bench = Bench::voter();
    bench.pass(3 * SECOND);
    assert_eq!(voted(&bench.hears("a", 1, vote_request()), "a"), Some(true));
    assert_eq!(voted(&bench.hears("b", 1, vote_request()), "b"), Some(false));
    // The same one may ask twice.
    assert_eq!(voted(&bench.hears("a", 1, vote_request()), "a"), Some(true));
    bench.restart();
    bench.pass(3 * SECOND);
    assert_eq!(voted(&bench.hears("b", 1, vote_request()), "b"), Some(false));
    assert_eq!(voted(&bench.hears("a", 1, vote_request()), "a"), Some(true));
}

#[test]
fn nobody_votes_for_a_candidate_with_an_older_state() {
    let state = State { version: version(1, 5), json: Arc::from(&b"1"[..]) };
    let durable = Durable { term: term(1), vote: None, state };
    let mut bench = Bench::with(Settings::new(quorum(&["me", "a", "b"])), durable);
    bench.pass(3 * SECOND);
    let older = Said::VoteRequest { version: version(1, 4), handoff: None };
    assert_eq!(voted(&bench.hears("a", 2, older), "a"), Some(false));
    assert_eq!(pre_voted(&bench.hears("a", 2, pre_vote(3))), Some(false));
    let as_new = Said::VoteRequest { version: version(1, 5), handoff: None };
    assert_eq!(voted(&bench.hears("b", 2, as_new), "b"), Some(true));
}

#[test]
fn nobody_helps_to_unseat_a_master_that_he_hears() {
    let mut bench = Bench::voter();
    bench.hears("a", 1, beat(1, version(1, 0)));
    bench.pass(ms(2_900));
    assert_eq!(pre_voted(&bench.hears("b", 7, pre_vote(8))), Some(false));
    assert_eq!(voted(&bench.hears("b", 8, vote_request()), "b"), None);
    assert_eq!(bench.node.term(), term(1));
    bench.pass(ms(101));
    assert_eq!(pre_voted(&bench.hears("b", 7, pre_vote(8))), Some(true));
    assert_eq!(voted(&bench.hears("b", 8, vote_request()), "b"), Some(true));
}

#[test]
fn a_restarted_voter_waits_as_long_as_a_forgotten_promise_could_hold() {
    let mut bench = Bench::voter();
    bench.hears("a", 1, beat(1, version(1, 0)));
    bench.restart();
    bench.pass(ms(2_999));
    assert_eq!(pre_voted(&bench.hears("b", 1, pre_vote(2))), Some(false));
    assert_eq!(voted(&bench.hears("b", 2, vote_request()), "b"), None);
    bench.pass(ms(1));
    assert_eq!(pre_voted(&bench.hears("b", 1, pre_vote(2))), Some(true));
    assert_eq!(voted(&bench.hears("b", 2, vote_request()), "b"), Some(true));
}

#[test]
fn a_beat_is_answered_with_its_number_once_its_term_is_on_disk() {
    let mut bench = Bench::voter();
    let before = bench.say(heard("a", 3, beat(7, Version::default()), &bench.settings));
    assert_eq!(said(&before), [] as [&Said; 0]);
    let after = bench.write();
    let answer = Said::BeatAnswer { to: node("a"), number: 7, version: Version::default() };
    assert_eq!(said(&after), [&answer]);
    assert_eq!(bench.durable.term, term(3));
}

#[test]
fn the_lease_counts_from_the_sending_of_the_beat_that_was_answered() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.pass(SECOND);
    bench.answer_the_beat("a");
    let sent = bench.node.lease_until().expect("a lease") - ms(2_500);
    // The answer to the next beat takes long: what counts is when that beat was sent.
    let beats = bench.pass(ms(1_500));
    assert!(beats.iter().any(|a| matches!(a, Action::Send(f) if matches!(f.said, Said::Beat(_)))));
    bench.answer_the_beat("a");
    let next = bench.node.lease_until().expect("a lease") - ms(2_500);
    let apart = next - sent;
    assert!(apart >= SECOND && apart < ms(1_100), "{apart:?}");
    // And nothing more comes: it ends to the moment.
    let left = bench.node.lease_until().expect("a lease") - bench.clock.now().mono;
    bench.clock.pass(left - ms(1));
    assert!(bench.is_master());
    bench.clock.pass(ms(1));
    assert!(!bench.is_master());
    let over = bench.does(Event::Woke);
    let reason = Deposed::LeaseOver;
    assert_eq!(notices(&over), [&Notice::BecameFollower { term: term(1), reason }]);
}

#[test]
fn an_answer_to_an_old_beat_does_not_extend_the_lease() {
    let mut bench = Bench::voter();
    bench.elect();
    let until = bench.node.lease_until();
    bench.pass(SECOND);
    let version = bench.node.state().version;
    for number in [0, 1, 99] {
        bench.hears("b", 1, Said::BeatAnswer { to: node("me"), number, version });
        assert_eq!(bench.node.lease_until(), until);
    }
}

#[test]
fn a_master_that_stood_still_steps_down_before_anything_else() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.clock.pass(30 * SECOND);
    assert!(!bench.is_master(), "by the clock alone");
    let json = Arc::from(&b"1"[..]);
    let set = bench.say(Event::SetState { ticket: 1, json });
    let [Action::Notice(Notice::BecameFollower { .. }), rest @ ..] = &set[..] else {
        panic!("{set:?}")
    };
    assert!(matches!(rest, [Action::SetFailed { why: SetError::NotMaster { master: None }, .. }]));
    // An answer from before does not bring it back.
    let mut bench = Bench::voter();
    bench.elect();
    let number = bench.node.beat_number().expect("elected");
    bench.clock.pass(30 * SECOND);
    let version = version(1, 0);
    bench.hears("a", 1, Said::BeatAnswer { to: node("me"), number, version });
    assert!(!bench.is_master());
}

#[test]
fn a_follower_that_stood_still_listens_before_it_stands() {
    let mut bench = Bench::voter();
    bench.hears("a", 1, beat(1, version(1, 0)));
    let woke = bench.stand_still(30 * SECOND);
    assert_eq!(said(&woke), [] as [&Said; 0]);
    assert_eq!(said(&bench.pass(ms(900))), [] as [&Said; 0]);
    bench.hears("a", 1, beat(9, version(1, 0)));
    assert_eq!(bench.node.master(bench.clock.now().mono), Some((node("a"), term(1))));
}

#[test]
fn a_candidate_that_was_elected_is_master_once_a_majority_has_the_state_and_answers() {
    let mut bench = Bench::voter();
    let round = bench.until_it_asks();
    bench.hears("a", 0, Said::PreVoteAnswer { to: node("me"), round, granted: true });
    let granted = Said::VoteAnswer { to: node("me"), granted: true };
    let elected = bench.hears("a", 1, granted);
    let state = State { version: version(1, 0), ..State::default() };
    assert!(said(&elected).contains(&&Said::State(state.clone())));
    assert!(!bench.is_master());
    // A lease alone is not enough.
    let old = Said::BeatAnswer { to: node("me"), number: 1, version: Version::default() };
    assert_eq!(notices(&bench.hears("a", 1, old)), [] as [&Notice; 0]);
    let stored = Said::StateStored { to: node("me"), version: version(1, 0) };
    let ready = bench.hears("a", 1, stored);
    let (term, reason) = (term(1), Accession::Elected);
    assert_eq!(notices(&ready), [&Notice::BecameMaster { term, reason, state }]);
    let tells = |said: &&Said| matches!(said, Said::Beat(Beat { ready: true, .. }));
    assert!(said(&ready).into_iter().any(|said| tells(&said)), "{ready:?}");
    assert!(bench.is_master());
}

#[test]
fn the_only_voter_is_master_at_once_and_stays_it() {
    let mut bench = Bench::new(quorum(&["me"]));
    let first = bench.pass(ms(1));
    let state = State { version: version(1, 0), ..State::default() };
    let (reason, json) = (Accession::OnlyNode, Arc::from(&b"1"[..]));
    assert_eq!(notices(&first), [&Notice::BecameMaster { term: term(1), reason, state }]);
    bench.stand_still(30 * SECOND);
    assert!(bench.is_master());
    let set = bench.does(Event::SetState { ticket: 4, json });
    assert!(set.contains(&Action::SetDone { ticket: 4, version: version(1, 1) }), "{set:?}");
}

#[test]
fn a_node_that_is_no_voter_follows_and_never_stands_or_votes() {
    let mut bench = Bench::new(quorum(&["a", "b", "c"]));
    assert!(!bench.node.is_voter());
    let long = bench.pass(60 * SECOND);
    assert_eq!(said(&long), [] as [&Said; 0]);
    let followed = bench.hears("a", 3, beat(1, version(3, 2)));
    let master = node("a");
    assert_eq!(notices(&followed), [&Notice::MasterChanged { master, term: term(3) }]);
    // It asks for the state that it lacks, keeps it, and answers nothing.
    let request = Said::StateRequest { to: node("a"), have: Version::default() };
    assert_eq!(said(&followed), [&request]);
    let state = State { version: version(3, 2), json: Arc::from(&b"5"[..]) };
    let kept = bench.hears("a", 3, Said::State(state.clone()));
    assert_eq!(said(&kept), [] as [&Said; 0]);
    assert_eq!(bench.durable.state, state);
    assert_eq!(said(&bench.hears("b", 4, vote_request())), [] as [&Said; 0]);
    assert_eq!(said(&bench.hears("b", 4, pre_vote(5))), [] as [&Said; 0]);
    let lost = bench.pass(4 * SECOND);
    assert_eq!(notices(&lost), [&Notice::MasterLost { master: node("a"), term: term(3) }]);
}

#[test]
fn what_a_node_without_a_vote_says_is_ignored_and_counted() {
    let mut bench = Bench::voter();
    bench.pass(3 * SECOND);
    let to = node("me");
    let all = [
        beat(1, version(9, 0)),
        vote_request(),
        pre_vote(2),
        Said::VoteAnswer { to: to.clone(), granted: true },
        Said::Behind { to },
        Said::State(State { version: version(9, 0), json: Arc::from(&b"1"[..]) }),
    ];
    let count = all.len() as u64;
    for said_by_stranger in all {
        let out = bench.say(heard("stranger", 9, said_by_stranger, &bench.settings));
        assert_eq!(out, []);
    }
    assert_eq!(bench.node.refused().no_voter, count);
    assert_eq!((bench.node.term(), bench.writing.is_none()), (Term::ZERO, true));
}

#[test]
fn votes_of_nodes_without_one_elect_nobody() {
    let mut bench = Bench::voter();
    let round = bench.until_it_asks();
    bench.hears("a", 0, Said::PreVoteAnswer { to: node("me"), round, granted: true });
    for stranger in ["x", "y", "z"] {
        bench.hears(stranger, 1, Said::VoteAnswer { to: node("me"), granted: true });
    }
    assert_eq!(bench.node.office(), None);
    // Nor does one voter twice, in a list of five.
    let mut bench = Bench::new(quorum(&["me", "a", "b", "c", "d"]));
    let round = bench.until_it_asks();
    for voter in ["a", "b"] {
        bench.hears(voter, 0, Said::PreVoteAnswer { to: node("me"), round, granted: true });
    }
    for _ in 0..3 {
        bench.hears("a", 1, Said::VoteAnswer { to: node("me"), granted: true });
    }
    assert_eq!(bench.node.office(), None);
    bench.hears("b", 1, Said::VoteAnswer { to: node("me"), granted: true });
    assert_eq!(bench.node.office(), Some(term(1)));
}

#[test]
fn terms_from_nowhere_are_refused() {
    let mut bench = Bench::voter();
    bench.pass(3 * SECOND);
    for number in [1_000_001, Term::LAST.get()] {
        for said_far_away in [beat(1, version(number, 0)), vote_request(), pre_vote(2)] {
            bench.hears("a", number, said_far_away);
        }
        assert_eq!(pre_voted(&bench.hears("a", 0, pre_vote(number))), None);
    }
    assert_eq!(bench.node.refused().far_term, 8);
    assert_eq!(bench.node.term(), Term::ZERO);
    bench.hears("a", 1_000_000, beat(1, version(1_000_000, 0)));
    assert_eq!(bench.node.term(), term(1_000_000));
}

#[test]
fn after_the_last_term_nobody_stands() {
    let durable = Durable { term: Term::LAST, ..Durable::default() };
    let mut bench = Bench::with(Settings::new(quorum(&["me"])), durable);
    bench.does(Event::Woke);
    assert!(!bench.is_master());
    assert_eq!(bench.node.term(), Term::LAST);
}

#[test]
fn our_own_name_under_another_incarnation_is_counted_and_our_own_echo_is_not() {
    let mut bench = Bench::voter();
    bench.hears("me", 5, beat(1, version(5, 0)));
    assert_eq!(bench.node.refused().own_name, 1);
    assert_eq!(bench.node.term(), Term::ZERO);
    let Event::Frame(frame) = heard("me", 5, Said::Resign, &bench.settings) else { return };
    let echo = Frame { incarnation: Incarnation::from_u128(1), ..frame };
    bench.does(Event::Frame(echo));
    assert_eq!(bench.node.refused().own_name, 1);
}

#[test]
fn a_voter_with_another_list_is_told_of_once() {
    let mut bench = Bench::voter();
    let other = Settings::new(quorum(&["me", "a", "c"]));
    let told = bench.does(heard("a", 1, beat(1, version(1, 0)), &other));
    assert!(notices(&told).contains(&&Notice::OtherVoters { node: node("a") }));
    let again = bench.does(heard("a", 1, beat(2, version(1, 0)), &other));
    assert_eq!(notices(&again), [] as [&Notice; 0]);
}

#[test]
fn a_master_of_an_earlier_term_is_told_that_it_is_behind_and_not_obeyed() {
    let durable = Durable { term: term(5), ..Durable::default() };
    let mut bench = Bench::with(Settings::new(quorum(&["me", "a", "b"])), durable);
    let answer = bench.hears("a", 4, beat(1, version(4, 0)));
    assert_eq!(said(&answer), [&Said::Behind { to: node("a") }]);
    assert_eq!(bench.node.master(bench.clock.now().mono), None);
    assert_eq!(bench.node.refused().stale, 1);
}

#[test]
fn a_master_that_is_told_to_be_behind_takes_a_higher_term_without_an_interruption() {
    let mut bench = Bench::voter();
    bench.elect();
    let renews = bench.hears("b", 9, Said::Behind { to: node("me") });
    let flagged = Said::VoteRequest { version: version(1, 0), handoff: Some(term(1)) };
    assert_eq!(said(&renews), [&flagged]);
    let token = |bench: &Bench| bench.node.token(bench.clock.now().mono).map(|token| token.term);
    assert_eq!((bench.node.term(), token(&bench)), (term(10), Some(term(1))));
    bench.hears("b", 10, Said::VoteAnswer { to: node("me"), granted: true });
    assert_eq!(token(&bench), Some(term(1)));
    let ready = bench.answer_the_beat("b");
    assert_eq!(token(&bench), Some(term(10)));
    let master = node("me");
    assert_eq!(notices(&ready), [&Notice::MasterChanged { master, term: term(10) }]);
}

#[test]
fn whoever_is_told_to_hand_over_while_it_takes_a_term_resigns_and_says_so() {
    let over = |actions: &[Action]| {
        actions.iter().filter(|action| **action == Action::HandoffDone { to: None }).count()
    };
    for event in [Event::Stop, Event::HandOver { to: Some(node("a")) }] {
        // In office, and on the way to a higher term.
        let mut bench = Bench::voter();
        bench.elect();
        bench.hears("b", 9, Said::Behind { to: node("me") });
        let resigned = bench.does(event.clone());
        assert_eq!(over(&resigned), 1, "{event:?}: {resigned:?}");
        bench.hears("b", 10, Said::VoteAnswer { to: node("me"), granted: true });
        assert!(bench.node.token(bench.clock.now().mono).is_none());
        // Elected there, and not acting yet.
        let mut bench = Bench::voter();
        bench.elect();
        bench.hears("b", 9, Said::Behind { to: node("me") });
        bench.hears("b", 10, Said::VoteAnswer { to: node("me"), granted: true });
        assert_eq!(over(&bench.does(event.clone())), 1, "{event:?}");
    }
}

#[test]
fn a_master_that_cannot_take_a_higher_term_steps_down_when_its_lease_is_over() {
    let mut bench = Bench::voter();
    bench.elect();
    bench.hears("b", 9, Said::Behind { to: node("me") });
    let over = bench.pass(ms(2_500));
    let reason = Deposed::LeaseOver;
    assert!(notices(&over).contains(&&Notice::BecameFollower { term: term(1), reason }));
}

#[test]
fn orders_are_a_masters_where_nobody_later_is_known_and_no_leap_led_there() {
    let mut bench = Bench::new(quorum(&["a", "b", "c"]));
    let beat = Beat { number: 1, version: version(5, 0), ready: true, handing_over: false };
    bench.hears("a", 5, Said::Beat(beat));
    let now = bench.clock.now().mono;
    let obeys = |name: &str, number: u64| bench.node.commands(now, &node(name), term(number));
    assert!(obeys("a", 5), "the one that is heard");
    assert!(obeys("b", 6), "one that was elected since");
    for (name, number) in [("b", 5), ("a", 4), ("b", 4), ("b", 5_000_000), ("eve", 6)] {
        assert!(!obeys(name, number), "{name} in {number}");
    }
    assert!(bench.node.may_lead(&node("a")) && !bench.node.may_lead(&node("eve")));
    assert!(!bench.node.may_lead(&node("me")));
}

#[test]
fn a_master_steps_down_for_one_of_a_higher_term() {
    let mut bench = Bench::voter();
    bench.elect();
    let out = bench.hears("b", 2, beat(1, version(2, 0)));
    let reason = Deposed::HigherTerm;
    let (master, term1) = (node("b"), term(1));
    let expected = [
        &Notice::BecameFollower { term: term1, reason },
        &Notice::MasterChanged { master, term: term(2) },
    ];
    assert_eq!(notices(&out), expected);
}

#[test]
fn a_node_without_a_link_does_not_stand() {
    let mut bench = Bench::voter();
    bench.say(Event::LinkDown);
    assert_eq!(said(&bench.pass(60 * SECOND)), [] as [&Said; 0]);
    bench.say(Event::LinkUp);
    assert_eq!(said(&bench.pass(ms(900))), [] as [&Said; 0]);
    bench.until_it_asks();
}

#[test]
fn without_a_quorum_the_higher_of_two_masters_in_one_term_stays() {
    let elected = |bench: &mut Bench| {
        bench.pass(5 * SECOND);
        assert!(bench.is_master());
        bench.say(Event::Visible([node("a"), node("z")].into()));
        bench.node.term().get()
    };
    let mut bench = Bench::new(Mode::Visible);
    let number = elected(&mut bench);
    let met = bench.hears("z", number, beat(1, version(number, 0)));
    let reason = Deposed::HigherTerm;
    let split = Notice::SplitSeen { other: node("z"), term: term(number) };
    let follower = Notice::BecameFollower { term: term(number), reason };
    assert_eq!(notices(&met)[..2], [&split, &follower]);
    let mut bench = Bench::new(Mode::Visible);
    let number = elected(&mut bench);
    let met = bench.hears("a", number, beat(1, version(number, 0)));
    assert_eq!(notices(&met), [&Notice::SplitSeen { other: node("a"), term: term(number) }]);
    // It stays, and takes a term of its own, so that its state is above the other's.
    assert!(bench.is_master());
    assert_eq!(bench.node.term(), term(number + 1));
}
