use std::collections::BTreeMap;

use super::*;
use crate::message::{Kind, Priority, StoreId};
use crate::protocol::frame::{Keepalive, Stream};
use crate::protocol::inbox::{Consumer, Done};
use crate::protocol::peers::{self, testing};
use crate::protocol::testing::Clock;
use crate::protocol::{Body, membership};

const STORE: StoreId = StoreId::from_u128(7);
/// What cannot be taken.
const BAD: u128 = 66;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel() -> ChannelName {
    ChannelName::new("work").expect("a valid name")
}

fn id(n: u128) -> MessageId {
    MessageId::from_u128(n)
}

fn source(sender: &str) -> Source {
    let stream = Stream { channel: channel(), direct: false, lane: Priority::Normal };
    Source { sender: node(sender), store: STORE, stream }
}

struct Bench {
    clock: Clock,
    peers: Peers,
    inbound: Inbound<()>,
    /// How many messages were unpacked.
    opened: usize,
}

impl Bench {
    /// Reads a channel, and knows this peer.
    fn new() -> Self {
        let clock = Clock::new();
        let peers = testing::peers(clock.now());
        let limits = Limits { handlers: 8, held_bytes: 1_000_000 };
        let inbound = Inbound::new(node("me"), limits, []);
        let mut bench = Self { clock, peers, inbound, opened: 0 };
        bench.meet(membership::Event::LinkUp);
        for peer in ["ann", "bob"] {
            testing::meet(&mut bench.peers, bench.clock.now(), peer);
        }
        let consumer = Some(Consumer::Ready);
        bench.say(Event::Consumer { channel: channel(), consumer });
        bench
    }

    fn meet(&mut self, event: membership::Event) -> Vec<peers::Effect> {
        testing::handle(&mut self.peers, self.clock.now(), event)
    }

    fn decide(
        &mut self,
        decide: impl FnOnce(&mut Inbound<()>, &mut Around<'_, ()>),
    ) -> Vec<Effect<()>> {
        let (now, mut out) = (self.clock.now(), Vec::new());
        let Self { peers, inbound, .. } = self;
        decide(inbound, &mut Around { now, peers, out: &mut out });
        // When to be woken is a matter of the inbox's own tests, but for the one below.
        out.retain(|effect| !matches!(effect, Effect::WakeAt { .. }));
        out
    }

    fn say(&mut self, event: Event<()>) -> Vec<Effect<()>> {
        self.decide(|it, around| it.say(around, event))
    }

    fn frame(&mut self, from: &str, ids: &[u128]) -> Vec<Effect<()>> {
        let (frame, mut opened) = (frame(from, ids), 0);
        let effects = self.decide(|it, around| {
            it.messages(around, frame, |_, message| {
                opened += 1;
                match message.id == id(BAD) {
                    true => Err("too large".to_owned()),
                    false => Ok(Incoming { id: message.id, bytes: 10, body: () }),
                }
            });
        });
        self.opened += opened;
        effects
    }

    fn finished(&mut self, from: &str, n: u128) -> Vec<Effect<()>> {
        let results = vec![(id(n), Ok(Done::Handled))];
        self.say(Event::Finished { source: source(from), results })
    }
}

fn frame(from: &str, ids: &[u128]) -> MessageFrame {
    let message = |n: &u128| FrameMessage {
        id: id(*n),
        kind: Kind::default(),
        headers: BTreeMap::new(),
        created_ms: 0,
        ttl_left_ms: None,
        body: Body::new(Vec::new().into()),
    };
    MessageFrame {
        from: node(from),
        to: node("me"),
        store: STORE,
        stream: source(from).stream,
        previous: None,
        skipped: 0,
        attempt: 1,
        ack_timeout_ms: 10_000,
        messages: ids.iter().map(message).collect(),
    }
}

/// The messages that are to be handled, whether beside others.
#[track_caller]
fn handled(effects: &[Effect<()>]) -> (Vec<u128>, bool) {
    let [Effect::Handle { messages, beside_others, .. }] = effects else { panic!("{effects:?}") };
    (messages.iter().map(|(id, ())| id.as_u128()).collect(), *beside_others)
}

#[track_caller]
fn answered(effect: &Effect<()>, to: &str, of: u128) -> Verdict {
    let Effect::Answer(answer) = effect else { panic!("{effect:?}") };
    assert_eq!((answer.from.as_str(), answer.to.as_str()), ("me", to));
    assert_eq!((answer.id, answer.store, &answer.stream), (id(of), STORE, &source(to).stream));
    answer.verdict.clone()
}

#[test]
fn a_stranger_is_asked_for_its_name_and_to_come_again_and_nothing_of_it_is_unpacked() {
    let mut bench = Bench::new();
    let effects = bench.frame("eve", &[1, 2]);
    assert_eq!(answered(&effects[0], "eve", 1), Verdict::Busy { retry_ms: 250 });
    assert_eq!(effects[1..], [Effect::Unknown { sender: node("eve") }]);
    assert_eq!(bench.opened, 0);
    assert_eq!(bench.inbound.busy(), 0);
}

#[test]
fn a_peer_that_was_thought_away_is_taken_at_its_word_and_asked_whether_it_is_there() {
    let mut bench = Bench::new();
    let goodbye = Keepalive { goodbye: true, counter: 2, ..testing::keepalive("ann") };
    bench.meet(membership::Event::Keepalive(goodbye));
    assert!(!bench.peers.is_online(&node("ann")));
    let effects = bench.frame("ann", &[1]);
    assert_eq!(effects[0], Effect::Unknown { sender: node("ann") });
    assert_eq!(handled(&effects[1..]), (vec![1], false));
}

#[test]
fn while_another_node_may_have_taken_our_place_nothing_is_taken() {
    let mut bench = Bench::new();
    bench.meet(membership::Event::StoodStill { spoken: 1 });
    assert!(bench.peers.is_in_doubt());
    let effects = bench.frame("ann", &[1]);
    assert_eq!(effects.len(), 1);
    assert_eq!(answered(&effects[0], "ann", 1), Verdict::Busy { retry_ms: 250 });
    assert_eq!(bench.opened, 0);
}

#[test]
fn what_cannot_be_unpacked_is_refused_when_it_is_the_first_and_until_then_those_before_it_are_taken()
 {
    let mut bench = Bench::new();
    assert_eq!(handled(&bench.frame("ann", &[1, 2, BAD, 70])), (vec![1, 2], false));
    let results = vec![(id(1), Ok(Done::Handled)), (id(2), Ok(Done::Handled))];
    bench.say(Event::Finished { source: source("ann"), results });
    let effects = bench.say(Event::Committed { source: source("ann"), id: id(2) });
    assert_eq!(answered(&effects[0], "ann", 2), Verdict::Ack);
    let effects = bench.frame("ann", &[BAD, 70]);
    let refused = Effect::Refused { sender: node("ann"), reason: "too large".to_owned() };
    assert_eq!(effects[0], refused);
    let verdict = Verdict::Refused { detail: "too large".to_owned() };
    assert_eq!(answered(&effects[1], "ann", BAD), verdict);
    assert_eq!(effects.len(), 2);
}

#[test]
fn a_frame_without_messages_is_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.frame("ann", &[]), []);
    assert_eq!(bench.frame("eve", &[]), []);
}

#[test]
fn only_the_receipt_of_what_ran_alone_is_committed_alone_and_others_share_a_commit() {
    let mut bench = Bench::new();
    let commit =
        |sender: &str, n, alone| Effect::Commit { source: source(sender), id: id(n), alone };
    assert_eq!(handled(&bench.frame("ann", &[1])), (vec![1], false));
    assert_eq!(handled(&bench.frame("bob", &[5])), (vec![5], true));
    assert_eq!(bench.finished("ann", 1), [commit("ann", 1, false)]);
    bench.say(Event::Committed { source: source("ann"), id: id(1) });
    assert_eq!(bench.finished("bob", 5), [commit("bob", 5, true)]);
    bench.say(Event::Committed { source: source("bob"), id: id(5) });
    assert_eq!(handled(&bench.frame("bob", &[6])), (vec![6], false));
}

#[test]
fn the_time_to_be_woken_is_told_when_it_changes_and_anew_when_it_came_too_early() {
    let mut bench = Bench::new();
    let now = bench.clock.now();
    let Bench { peers, inbound, .. } = &mut bench;
    let mut woken = |event: Option<Event<()>>| {
        let mut out = Vec::new();
        let around = &mut Around { now, peers, out: &mut out };
        match event {
            Some(event) => inbound.say(around, event),
            None => inbound.messages(around, frame("ann", &[1]), |_, message| {
                Ok(Incoming { id: message.id, bytes: 10, body: () })
            }),
        }
        out.iter().filter(|effect| matches!(effect, Effect::WakeAt { .. })).count()
    };
    let consumer = Some(Consumer::Ready);
    let other = Event::Consumer { channel: channel(), consumer };
    assert_eq!((woken(None), woken(Some(other)), woken(Some(Event::Woke))), (1, 0, 1));
}
