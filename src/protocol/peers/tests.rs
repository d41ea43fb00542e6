use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::message::{Mode, StartAt};
use crate::protocol::frame::{ChannelPresence, MAX_CHANNELS};
use crate::protocol::stalls::Standing;
use crate::protocol::testing::Clock;
use testing::{INTERVAL, ME};

mod channels;
mod readers;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a valid name")
}

fn reads(name: &str) -> ChannelPresence {
    let (name, mode, start) = (channel(name), Mode::Reader, StartAt::Joined);
    ChannelPresence { name, mode, age_ms: 500, paused: false, start }
}

/// A peer's word.
fn word(from: &str, counter: u64, channels: &[ChannelPresence], left: &[&str]) -> Keepalive {
    Keepalive {
        from: node(from),
        incarnation: Incarnation::from_u128(7),
        store: StoreId::from_u128(8),
        counter,
        session: 1,
        uptime_ms: 60_000,
        version: "1".to_owned(),
        host: "host".to_owned(),
        channels: channels.to_vec(),
        left: left.iter().map(|name| channel(name)).collect(),
        draining: false,
        goodbye: false,
        elects: false,
        rival: None,
    }
}

struct Bench {
    clock: Clock,
    peers: Peers,
    /// To whose readers messages were sent, and for which messages are in work.
    sent: BTreeSet<ChannelName>,
    in_work: BTreeSet<ChannelName>,
}

impl Bench {
    fn new() -> Self {
        Self::restored(Restored::default())
    }

    fn restored(restored: Restored) -> Self {
        let clock = Clock::new();
        let peers = testing::restored(restored, clock.now());
        let mut bench = Self { clock, peers, sent: BTreeSet::new(), in_work: BTreeSet::new() };
        bench.say(Peers::link_up);
        bench
    }

    /// What came of it, but for wake-ups.
    fn say<R>(&mut self, decide: impl FnOnce(&mut Peers, &mut Around<'_>) -> R) -> Vec<Effect> {
        let (now, mut out) = (self.clock.now(), Vec::new());
        let Self { peers, sent, in_work, .. } = self;
        let around = &mut Around {
            now,
            store: StoreId::from_u128(1),
            sends_to: &|channel| sent.contains(channel),
            works_for: &|channel| in_work.contains(channel),
            out: &mut out,
        };
        decide(peers, around);
        out.retain(|effect| !matches!(effect, Effect::Wake));
        out
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        self.say(|it, around| it.handle(around, event))
    }

    /// The next keepalive.
    #[track_caller]
    fn beat(&mut self) -> Keepalive {
        let mut effects = self.handle(Event::Changed);
        self.clock.pass(Duration::from_millis(100));
        effects.append(&mut self.handle(Event::Woke));
        let beats = effects.into_iter().filter_map(|effect| match effect {
            Effect::Beat(keepalive) => Some(*keepalive),
            _ => None,
        });
        beats.last().expect("something changed")
    }

    /// A peer introduces itself, and what came of its first word.
    fn meet(&mut self, word: Keepalive) -> Vec<Effect> {
        let asked = self.handle(Event::Unknown(word.from.clone()));
        let Some(Effect::Say { frame, .. }) = asked.first() else {
            panic!("it is asked: {asked:?}")
        };
        let Frame::Hello { nonce, .. } = **frame else { panic!("{frame:?}") };
        self.handle(Event::Welcome { nonce, keepalive: word })
    }

    fn hear(&mut self, word: Keepalive) -> Vec<Effect> {
        self.handle(Event::Keepalive(word))
    }

    fn join(&mut self, name: &str, mode: Mode) -> Vec<Effect> {
        let joined_ms = self.clock.now().file_ms;
        self.say(|it, around| it.joined(around, channel(name), (mode, StartAt::Joined), joined_ms))
    }

    fn leave(&mut self, name: &str) -> Vec<Effect> {
        self.say(|it, around| it.left(around, channel(name)))
    }

    fn attach(&mut self, name: &str, id: u64) -> Vec<Effect> {
        self.say(|it, around| it.attach(around, &channel(name), ConsumerId(id)).expect("it reads"))
    }
}

/// The effects as short words, in their order, but for keepalives and what is noted.
fn brief(effects: &[Effect]) -> Vec<String> {
    let brief = effects.iter().filter_map(|effect| match effect {
        Effect::Subscribe { node, channel, .. } => Some(format!("{node} reads {channel}")),
        Effect::Unsubscribe { node, channel } => Some(format!("{node} left {channel}")),
        Effect::Heard { node, .. } => Some(format!("{node} is heard")),
        Effect::Offline { node, .. } => Some(format!("{node} is gone")),
        Effect::Consumer { channel, consumer } => Some(format!("{channel}: {consumer:?}")),
        Effect::Forget { node } => Some(format!("forget {node}")),
        _ => None,
    });
    brief.collect()
}

#[test]
fn a_keepalive_says_who_and_since_when() {
    let mut bench = Bench::new();
    let first = bench.beat();
    assert_eq!((first.from, first.incarnation, first.counter), (node("me"), ME, 2));
    assert_eq!((first.session, first.uptime_ms, first.host.as_str()), (1, 100, "here"));
    assert!(!first.draining && !first.goodbye && !first.elects);

    bench.say(Peers::link_up);
    let second = bench.beat();
    assert_eq!((second.counter, second.session), (3, 2), "another connection");

    bench.say(Peers::stop);
    assert!(bench.beat().draining, "it takes nothing any more");
    let last = bench.say(Peers::goodbye);
    let [Effect::Beat(last)] = &last[..] else { panic!("{last:?}") };
    assert!(last.goodbye && last.counter == 5, "{last:?}");
}

#[test]
fn an_answer_to_a_question_counts_as_a_keepalive() {
    let mut bench = Bench::new();
    let before = bench.beat().counter;
    let hello = Event::Hello { nonce: 5, keepalive: word("ann", 1, &[], &[]) };
    let said = bench.handle(hello);
    let frames: Vec<&Frame> = said
        .iter()
        .filter_map(|effect| match effect {
            Effect::Say { to, frame } if *to == node("ann") => Some(&**frame),
            _ => None,
        })
        .collect();
    let [Frame::Welcome { nonce: 5, keepalive }, Frame::Hello { .. }] = frames[..] else {
        panic!("{said:?}")
    };
    assert_eq!(keepalive.counter, before + 1);
    assert_eq!(bench.beat().counter, before + 3);
}

#[test]
fn a_rival_that_was_there_first_silences_us() {
    let mut bench = Bench::new();
    bench.beat();
    let rival = Keepalive { rival: Some(ME), ..word("me", 9, &[], &[]) };
    let met = bench.hear(rival);
    let rivals: Vec<bool> = met
        .iter()
        .filter_map(|effect| match effect {
            Effect::Rival { stop, .. } => Some(*stop),
            _ => None,
        })
        .collect();
    assert_eq!(rivals, [true]);
    assert!(bench.peers.has_stood_back());

    bench.clock.pass(Duration::from_millis(900));
    for event in [
        Event::Changed,
        Event::Woke,
        Event::Hello { nonce: 5, keepalive: word("ann", 1, &[], &[]) },
    ] {
        let said = bench.handle(event);
        let is_said = |it: &Effect| matches!(it, Effect::Beat(_) | Effect::Say { .. });
        assert!(!said.iter().any(is_said), "{said:?}");
    }
    assert!(bench.say(Peers::goodbye).is_empty());
    assert!(bench.say(Peers::link_up).is_empty(), "a connection is of no use");
}

#[test]
fn a_rival_that_came_later_does_not() {
    let mut bench = Bench::new();
    bench.clock.pass(Duration::from_millis(900));
    bench.beat();
    let incarnation = Incarnation::from_u128(101);
    let rival = Keepalive { incarnation, rival: Some(ME), uptime_ms: 0, ..word("me", 9, &[], &[]) };
    bench.hear(rival);
    assert!(!bench.peers.has_stood_back());
    assert_eq!(bench.beat().rival, Some(incarnation), "it is told");
}

#[test]
fn a_new_peer_is_noted_before_it_is_sent_anything() {
    let mut bench = Bench::new();
    bench.join("c", Mode::Writer);
    let met = bench.meet(word("ann", 1, &[reads("c")], &[]));
    let [
        Effect::Note(known),
        Effect::Subscribe { .. },
        Effect::Heard { news, .. },
        Effect::Changed,
    ] = &met[..]
    else {
        panic!("{met:?}")
    };
    assert_eq!(known[0].node, node("ann"));
    assert!(news.first && news.online);
    assert!(bench.say(|it, around| it.note(around, None)).is_empty(), "it is noted");
}

#[test]
fn a_peer_that_says_goodbye_is_noted_and_gone() {
    let mut bench = Bench::new();
    bench.meet(word("ann", 1, &[], &[]));
    bench.clock.pass(Duration::from_secs(1));
    let said = bench.hear(Keepalive { goodbye: true, ..word("ann", 2, &[], &[]) });
    let [Effect::Note(_), Effect::Offline { why: Departure::Goodbye, .. }, ..] = &said[..] else {
        panic!("{said:?}")
    };
    assert!(said.iter().any(|effect| matches!(effect, Effect::Changed)));
    assert_eq!(bench.peers.online(), 0);
}

#[test]
fn what_hinders_a_receiver_is_known_from_its_last_word() {
    let mut bench = Bench::new();
    let hindrance = |bench: &Bench, name: &str| {
        bench.peers.hindrance(bench.clock.now().file_ms, &node("ann"), &channel(name))
    };
    assert_eq!(hindrance(&bench, "c"), Some(Standing::NeverHeard));
    let paused = ChannelPresence { paused: true, ..reads("p") };
    let writes = ChannelPresence { mode: Mode::Writer, ..reads("w") };
    bench.meet(word("ann", 1, &[reads("c"), paused, writes], &[]));
    assert_eq!(hindrance(&bench, "c"), None);
    assert_eq!(hindrance(&bench, "p"), Some(Standing::Paused));
    for other in ["w", "x"] {
        assert_eq!(hindrance(&bench, other), Some(Standing::NotJoined));
    }
    let takes = |name: &str| bench.peers.takes(&node("ann"), &channel(name));
    assert_eq!(
        [takes("c"), takes("p"), takes("w"), takes("x")],
        [true, false, false, false].map(Some)
    );
    assert_eq!(bench.peers.takes(&node("bob"), &channel("c")), None);
    assert_eq!(bench.peers.readers(&channel("p")).collect::<Vec<_>>(), [&node("ann")]);

    bench.hear(Keepalive { goodbye: true, ..word("ann", 2, &[], &[]) });
    bench.clock.pass(Duration::from_millis(70));
    assert_eq!(hindrance(&bench, "c"), Some(Standing::Offline { heard_ms_ago: 70 }));
}
