use super::*;

fn presence<'a>(keepalive: &'a Keepalive, name: &str) -> &'a ChannelPresence {
    let found = keepalive.channels.iter().find(|presence| presence.name == channel(name));
    found.expect("it is told of")
}

#[test]
fn two_modes_of_one_channel_merge() {
    for (first, second, both) in [
        (Mode::Reader, Mode::Writer, Mode::ReadWrite),
        (Mode::Writer, Mode::Reader, Mode::ReadWrite),
        (Mode::ReadWrite, Mode::Reader, Mode::ReadWrite),
        (Mode::Reader, Mode::Reader, Mode::Reader),
        (Mode::Writer, Mode::Writer, Mode::Writer),
    ] {
        let mut bench = Bench::new();
        bench.join("c", first);
        bench.join("c", second);
        assert_eq!(presence(&bench.beat(), "c").mode, both, "{first:?}, then {second:?}");
    }
}

#[test]
fn a_second_join_keeps_the_handlers_and_the_pause() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Reader);
    bench.attach("c", 1);
    assert_eq!(brief(&bench.join("c", Mode::Reader)), ["c: Some(Ready)"]);
    bench.say(|it, around| it.pause(around, &channel("c"), true));
    assert_eq!(brief(&bench.join("c", Mode::Writer)), ["c: Some(Paused)"]);
    bench.leave("c");
    assert_eq!(brief(&bench.join("c", Mode::Reader)), ["c: Some(Paused)"], "there is no handler");
}

#[test]
fn messages_are_taken_while_there_is_a_handler_and_no_pause() {
    let mut bench = Bench::new();
    let pause = |bench: &mut Bench, paused| {
        bench.say(|it, around| it.pause(around, &channel("c"), paused).expect("it is joined"))
    };
    let detach = |bench: &mut Bench, id| {
        bench.say(|it, around| it.detach(around, &channel("c"), ConsumerId(id)))
    };
    assert_eq!(brief(&bench.join("c", Mode::Reader)), ["c: Some(Paused)"]);
    assert_eq!(bench.peers.deaf().collect::<Vec<_>>(), [&channel("c")]);
    assert!(presence(&bench.beat(), "c").paused);

    assert_eq!(brief(&bench.attach("c", 1)), ["c: Some(Ready)"]);
    assert!(bench.attach("c", 2).is_empty(), "nothing changes");
    assert!(!presence(&bench.beat(), "c").paused);
    assert!(bench.peers.deaf().next().is_none());

    assert_eq!(brief(&pause(&mut bench, true)), ["c: Some(Paused)"]);
    assert!(presence(&bench.beat(), "c").paused);
    assert_eq!(brief(&pause(&mut bench, false)), ["c: Some(Ready)"]);
    assert!(detach(&mut bench, 1).is_empty(), "the other one is there");
    assert_eq!(brief(&detach(&mut bench, 2)), ["c: Some(Paused)"]);
    assert!(detach(&mut bench, 2).is_empty(), "it was gone");
}

#[test]
fn what_is_not_read_has_no_handlers() {
    let mut bench = Bench::new();
    let attach = |bench: &mut Bench, name: &str| {
        let mut result = Ok(());
        bench.say(|it, around| result = it.attach(around, &channel(name), ConsumerId(1)));
        result
    };
    assert_eq!(brief(&bench.join("w", Mode::Writer)), ["w: None"]);
    assert_eq!(attach(&mut bench, "w"), Err(Refused::NotAReader));
    assert_eq!(attach(&mut bench, "x"), Err(Refused::NotJoined));
    assert!(!presence(&bench.beat(), "w").paused, "only who reads can pause");
    assert!(bench.peers.deaf().next().is_none());
    let mut result = Ok(());
    bench.say(|it, around| result = it.pause(around, &channel("x"), true));
    assert_eq!(result, Err(Refused::NotJoined));
}

#[test]
fn a_keepalive_has_room_for_so_many_channels() {
    let mut bench = Bench::new();
    for number in 0..MAX_CHANNELS {
        bench.join(&format!("c{number}"), Mode::Writer);
    }
    assert_eq!(bench.peers.may_join(&channel("another")), Err(Refused::TooMany));
    assert_eq!(bench.peers.may_join(&channel("c7")), Ok(()), "it is joined already");
    assert_eq!(bench.beat().channels.len(), MAX_CHANNELS);
}

#[test]
fn a_channel_that_was_left_is_told_of_until_it_is_joined_again() {
    let left = vec![channel("before")];
    let mut bench = Bench::restored(Restored { left, ..Restored::default() });
    bench.join("c", Mode::ReadWrite);
    assert_eq!(bench.beat().left, [channel("before")]);
    assert_eq!(brief(&bench.leave("c")), ["c: None"]);
    let told = bench.beat();
    assert_eq!((told.channels.len(), told.left), (0, vec![channel("before"), channel("c")]));

    bench.join("c", Mode::ReadWrite);
    let told = bench.beat();
    assert_eq!((told.channels.len(), told.left), (1, vec![channel("before")]));
}

#[test]
fn what_is_still_in_work_is_told_of_as_left_when_it_has_ended() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Reader);
    bench.in_work.insert(channel("c"));
    bench.leave("c");
    let told = bench.beat();
    assert!(told.channels.is_empty() && told.left.is_empty(), "{told:?}");
    assert!(bench.peers.is_parting());
    bench.say(Peers::part);
    assert!(bench.peers.is_parting(), "it goes on");

    bench.in_work.clear();
    bench.say(Peers::part);
    assert!(!bench.peers.is_parting());
    assert_eq!(bench.beat().left, [channel("c")]);

    // Joined again before its work has ended.
    bench.in_work.insert(channel("d"));
    bench.join("d", Mode::Reader);
    bench.leave("d");
    bench.join("d", Mode::Reader);
    assert!(!bench.peers.is_parting());
    assert_eq!(bench.beat().left, [channel("c")]);
}

#[test]
fn so_many_channels_that_were_left_are_remembered() {
    let names = (0..MAX_CHANNELS + 5).map(|number| channel(&format!("c{number:04}")));
    let restored = Restored { left: names.collect(), ..Restored::default() };
    let mut bench = Bench::restored(restored);
    assert_eq!(bench.beat().left.len(), MAX_CHANNELS);
    bench.join("d", Mode::Reader);
    bench.leave("d");
    let told = bench.beat().left;
    assert_eq!(told.len(), MAX_CHANNELS);
    assert_eq!((&told[0], told.last()), (&channel("c0001"), Some(&channel("d"))));
}

#[test]
fn the_names_of_channels_that_were_left_take_so_many_bytes() {
    let long = "x".repeat(90);
    let names = (0..MAX_CHANNELS).map(|number| channel(&format!("{number:04}{long}")));
    let mut bench = Bench::restored(Restored { left: names.collect(), ..Restored::default() });
    let told = bench.beat().left;
    assert_eq!(told.len(), 64 * 1024 / (94 + 3));
}

#[test]
fn a_drained_node_says_that_it_takes_nothing() {
    let mut bench = Bench::new();
    bench.join("r", Mode::Reader);
    bench.join("w", Mode::Writer);
    bench.attach("r", 1);
    assert!(!bench.beat().draining);

    let held = bench.say(|it, around| it.hold(around, true));
    assert_eq!(brief(&held), ["r: Some(Paused)", "w: None"]);
    let told = bench.beat();
    assert!(told.draining && presence(&told, "r").paused, "{told:?}");
    assert!(bench.peers.deaf().next().is_none(), "it is not the program's doing");

    assert_eq!(brief(&bench.join("r2", Mode::Reader)), ["r2: Some(Paused)"]);
    assert!(bench.attach("r2", 2).is_empty(), "joined meanwhile, it is held as well");
    let held = bench.say(|it, around| it.hold(around, false));
    assert_eq!(brief(&held), ["r: Some(Ready)", "r2: Some(Ready)", "w: None"]);
    let told = bench.beat();
    assert!(!told.draining && !presence(&told, "r").paused, "{told:?}");
}

#[test]
fn a_drain_outlives_the_process() {
    let mut bench = Bench::restored(Restored { held: true, ..Restored::default() });
    bench.join("r", Mode::Reader);
    assert!(bench.attach("r", 1).is_empty());
    let told = bench.beat();
    assert!(told.draining && presence(&told, "r").paused, "{told:?}");
}
