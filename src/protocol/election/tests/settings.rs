use super::*;

#[test]
fn the_defaults_agree_with_each_other() {
    assert_eq!(Settings::new(quorum(&["a", "b", "c"])).validate(), Ok(()));
    assert_eq!(Settings::new(Mode::Visible).validate(), Ok(()));
    assert_eq!(Times::default().lease(), ms(2_500));
}

#[test]
fn times_that_contradict_are_refused_with_names_and_values() {
    let times = Times::default();
    let shown = |times: Times| times.validate().expect_err("a contradiction").to_string();
    assert_eq!(
        shown(Times { beat: ms(1_300), ..times }),
        "election_times: two beats (2.6s) must not be longer than lost_after less lease_margin (2.5s)"
    );
    assert_eq!(
        shown(Times { lease_margin: ms(1_600), ..times }),
        "election_times: lease_margin (1.6s) must not be longer than half of lost_after (1.5s)"
    );
    assert_eq!(
        shown(Times { lease_margin: ms(10), ..times }),
        "election_times: a hundredth of lost_after (30ms) must not be longer than lease_margin (10ms)"
    );
    assert_eq!(
        shown(Times { jitter: Duration::ZERO, ..times }),
        "election_times.jitter (0ns) must be above zero and at most 3600s"
    );
    let days = Times { lost_after: 86_400 * SECOND, ..times };
    assert!(matches!(days.validate(), Err(SettingsError::OutOfRange { name: "lost_after", .. })));
}

#[test]
fn voters_that_cannot_elect_are_refused() {
    let check = |voters: &[&str]| Settings::new(quorum(voters)).validate();
    assert_eq!(check(&[]), Err(SettingsError::NoVoters));
    assert_eq!(check(&["a", "b", "a"]), Err(SettingsError::Duplicate(node("a"))));
    let many: Vec<String> = (0..=MAX_VOTERS).map(|n| format!("n{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(check(&many), Err(SettingsError::TooMany { actual: MAX_VOTERS + 1 }));
    assert_eq!(check(&["a"]), Ok(()));
}

#[test]
fn settings_that_surprise_people_are_warned_of() {
    let warnings = |mode| Settings::new(mode).warnings(&node("me"));
    assert_eq!(warnings(quorum(&["me", "a", "b"])), []);
    assert_eq!(warnings(quorum(&["me"])), [Warning::NoFailover]);
    assert_eq!(warnings(quorum(&["me", "a"])), [Warning::TwoCannotFailOver]);
    assert_eq!(warnings(quorum(&["me", "a", "b", "c"])), [Warning::Even { voters: 4 }]);
    let observer = Warning::NotAVoter { me: node("me") };
    assert_eq!(warnings(quorum(&["a", "b", "c"])), [observer]);
    assert_eq!(warnings(Mode::Visible), [Warning::OneMasterPerSide]);
    assert!(Warning::TwoCannotFailOver.to_string().contains("cannot fail over"));
}

#[test]
fn the_order_of_voters_does_not_matter_and_their_names_do() {
    let hash = |voters: &[&str]| Settings::new(quorum(voters)).voters_hash();
    assert_eq!(hash(&["a", "b", "c"]), hash(&["c", "a", "b"]));
    assert_ne!(hash(&["a", "b", "c"]), hash(&["a", "b", "d"]));
    assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
}

#[test]
fn terms_end_far_below_what_a_file_can_hold() {
    assert!(Term::new(u64::MAX).is_err());
    assert_eq!(Term::LAST.next(), None);
    assert!(i64::try_from(Term::LAST.get()).is_ok());
    assert!(serde_json::from_str::<Term>("18446744073709551615").is_err());
    assert_eq!(serde_json::from_str::<Term>("7").expect("a term"), term(7));
}

#[test]
fn a_fence_takes_no_token_below_the_highest_it_has_seen() {
    let token = |number, name| Token { term: term(number), node: node(name) };
    let highest = token(5, "b");
    assert_eq!(admit(None, &highest), Ok(Admission::Newer));
    assert_eq!(admit(Some(&highest), &highest), Ok(Admission::Same));
    assert_eq!(admit(Some(&highest), &token(6, "a")), Ok(Admission::Newer));
    assert_eq!(admit(Some(&highest), &token(5, "c")), Ok(Admission::Newer));
    let stale = admit(Some(&highest), &token(4, "z")).expect_err("a lower one");
    assert_eq!(
        stale.to_string(),
        "the token of z in term 4 is stale: b was seen in term 5; ask for the master again"
    );
    assert!(admit(Some(&highest), &token(5, "a")).is_err());
}

#[test]
fn every_frame_survives_the_wire_and_fields_of_later_versions_are_ignored() {
    let to = node("b");
    let all = [
        beat(3, version(2, 1)),
        Said::BeatAnswer { to: to.clone(), number: 3, version: version(2, 1) },
        Said::Behind { to: to.clone() },
        pre_vote(4),
        Said::PreVoteAnswer { to: to.clone(), round: 1, granted: true },
        Said::VoteRequest { version: version(2, 1), handoff: Some(term(2)) },
        vote_request(),
        Said::VoteAnswer { to: to.clone(), granted: false },
        Said::State(State { version: version(3, 0), json: Arc::from(&b"{\"a\":1}"[..]) }),
        Said::StateStored { to: to.clone(), version: version(3, 0) },
        Said::StateRequest { to: to.clone(), have: version(0, 0) },
        Said::Handoff { to },
        Said::Resign,
    ];
    for said in all {
        let incarnation = Incarnation::from_u128(5);
        let frame = Frame { from: node("a"), incarnation, term: term(3), voters: u64::MAX, said };
        let (header, behind) = frame.clone().strip();
        let mut json = serde_json::to_value(&header).expect("a header");
        json["later"] = serde_json::json!({ "deep": [1, 2] });
        let header: Header = serde_json::from_str(&json.to_string()).expect("its own bytes");
        let behind = behind.as_deref().unwrap_or_default();
        assert_eq!(header.clone().join(behind, 100), Ok(frame));
        let long = FrameError::Length { declared: behind.len(), actual: 101, limit: 100 };
        assert_eq!(header.join(&[b' '; 101], 100), Err(long));
    }
}

#[test]
fn a_state_that_is_not_json_is_no_frame() {
    let state = State { version: version(3, 0), json: Arc::from(&b"{oops"[..]) };
    let incarnation = Incarnation::from_u128(5);
    let said = Said::State(state);
    let frame = Frame { from: node("a"), incarnation, term: term(3), voters: 0, said };
    let (header, behind) = frame.strip();
    let behind = behind.expect("the state");
    assert_eq!(header.clone().join(&behind, 100), Err(FrameError::NotJson));
    assert!(matches!(header.join(&behind, 4), Err(FrameError::Length { .. })));
}
