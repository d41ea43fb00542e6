//! A node's peers, for the tests of what they are shown to.

use std::time::Duration;

use super::{Around, Effect, Identity, Peers, Restored};
use crate::message::{Incarnation, NodeId, StoreId};
use crate::protocol::Now;
use crate::protocol::frame::{Frame, Keepalive};
use crate::protocol::membership::{Event, Limits};

pub(super) const ME: Incarnation = Incarnation::from_u128(100);
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Those of a node called `me`, which knows nobody.
pub(in crate::protocol) fn peers(now: Now) -> Peers {
    restored(Restored::default(), now)
}

/// The same, with what earlier runs have left.
pub(super) fn restored(restored: Restored, now: Now) -> Peers {
    let me = Identity {
        node: NodeId::new("me").expect("a valid name"),
        incarnation: ME,
        host: "here".to_owned(),
        version: "1".to_owned(),
        elects: false,
    };
    let limits = Limits {
        interval: INTERVAL,
        offline_after: 3 * INTERVAL,
        expiry: Duration::from_secs(3_600),
        max_peers: 10,
    };
    Peers::new(me, limits, restored, 1, now)
}

/// The word of a node of this name, which has joined nothing.
pub(in crate::protocol) fn keepalive(name: &str) -> Keepalive {
    Keepalive {
        from: NodeId::new(name).expect("a valid name"),
        incarnation: Incarnation::from_u128(9),
        store: StoreId::from_u128(7),
        counter: 1,
        session: 1,
        uptime_ms: 1_000,
        version: String::new(),
        host: "elsewhere".to_owned(),
        channels: Vec::new(),
        left: Vec::new(),
        draining: false,
        elects: false,
        goodbye: false,
        rival: None,
    }
}

/// This node's own word, of when it had run for so long.
pub(in crate::protocol) fn own_keepalive(uptime_ms: u64) -> Keepalive {
    Keepalive { incarnation: ME, uptime_ms, ..keepalive("me") }
}

/// Lets them meet a node of this name, which is online from then on.
pub(in crate::protocol) fn meet(peers: &mut Peers, now: Now, name: &str) {
    let node = NodeId::new(name).expect("a valid name");
    let asked = handle(peers, now, Event::Unknown(node));
    let [Effect::Say { frame, .. }, ..] = &asked[..] else { panic!("{asked:?}") };
    let Frame::Hello { nonce, .. } = **frame else { panic!("{frame:?}") };
    let keepalive = keepalive(name);
    handle(peers, now, Event::Welcome { nonce, keepalive });
}

/// Says this to them where this node sends and handles nothing.
pub(in crate::protocol) fn handle(peers: &mut Peers, now: Now, event: Event) -> Vec<Effect> {
    let mut out = Vec::new();
    let around = &mut Around {
        now,
        store: StoreId::from_u128(1),
        sends_to: &|_| false,
        works_for: &|_| false,
        out: &mut out,
    };
    peers.handle(around, event);
    out
}
