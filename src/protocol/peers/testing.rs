//! A node's peers, for the tests of what they are shown to.

use std::time::Duration;

use super::{Around, Effect, Identity, Peers, Restored};
use crate::message::{Incarnation, NodeId, StoreId};
use crate::protocol::Now;
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
