//! What this node says of itself.

use std::time::Instant;

use super::{Around, Effect, Peers};
use crate::message::{Incarnation, NodeId};
use crate::protocol::frame::{Frame, Keepalive};

/// What keepalives count.
#[derive(Debug)]
pub(super) struct Spoken {
    started: Instant,
    pub(super) keepalives: u64,
    /// Connections so far.
    pub(super) sessions: u64,
    pub(super) stopping: bool,
}

impl Spoken {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, keepalives: 0, sessions: 0, stopping: false }
    }
}

impl Peers {
    /// The last word of a graceful stop.
    pub fn goodbye(&mut self, around: &mut Around<'_>) {
        self.beat(around, None, true);
    }

    pub(super) fn beat(
        &mut self,
        around: &mut Around<'_>,
        rival: Option<Incarnation>,
        goodbye: bool,
    ) {
        if !self.stood_back {
            let keepalive = Keepalive { rival, goodbye, ..self.keepalive(around) };
            around.out.push(Effect::Beat(Box::new(keepalive)));
        }
    }

    pub(super) fn say(
        &mut self,
        around: &mut Around<'_>,
        to: NodeId,
        frame: impl FnOnce(Keepalive) -> Frame,
    ) {
        if !self.stood_back {
            let frame = Box::new(frame(self.keepalive(around)));
            around.out.push(Effect::Say { to, frame });
        }
    }

    fn keepalive(&mut self, around: &Around<'_>) -> Keepalive {
        self.spoken.keepalives += 1;
        let uptime = around.now.mono.saturating_duration_since(self.spoken.started);
        Keepalive {
            from: self.me.node.clone(),
            incarnation: self.me.incarnation,
            store: around.store,
            counter: self.spoken.keepalives,
            session: self.spoken.sessions,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            version: self.me.version.clone(),
            host: self.me.host.clone(),
            channels: self.channels.presences(around.now.file_ms).collect(),
            left: self.channels.left_to_announce(),
            draining: self.spoken.stopping || self.channels.is_held(),
            goodbye: false,
            elects: self.me.elects,
            rival: None,
        }
    }
}
