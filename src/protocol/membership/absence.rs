//! How long a peer has been away, and when it is forgotten.
//!
//! Its age alone does not tell: after ten days without power here, all peers are ten days old. So this node must have been connected for some time since
//! it heard of the peer, and have asked it in vain. Both are kept in the file, since runs can be short.

use std::time::{Duration, Instant};

use super::{Action, Membership, Now, Peer};
use crate::message::{Incarnation, NodeId, StoreId};
use crate::protocol::frame::ChannelPresence;

/// Questions without an answer, before a peer is forgotten.
const QUESTIONS: u32 = 3;
/// Time between two tries to have a peer forgotten.
pub(super) const FORGET_AGAIN: Duration = Duration::from_secs(60);
/// A peer that is away is looked at so often at least: file time goes on while the machine is suspended, timers don't.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// A part of the expiry for which this node must have been connected: when a server comes back after days, others can take some minutes longer.
const LINKED_PART: u32 = 1_000;

/// A peer as the file knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub store: StoreId,
    pub host: String,
    /// As last announced.
    pub version: String,
    pub channels: Vec<ChannelPresence>,
    /// File time when it was last heard.
    pub seen_ms: u64,
    /// For so long this node has been connected since; no more is counted than is needed to forget it.
    pub linked: Duration,
    /// How often it was asked since, without an answer; counted up to three.
    pub questions: u32,
}

/// What counts towards a peer's being forgotten.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    /// File time when it was last heard.
    pub(super) seen_ms: u64,
    /// What earlier runs have counted since.
    linked_before: Duration,
    /// How long this run had been connected when it was heard.
    linked_from: Duration,
    questions: u32,
    /// In this run.
    asked: Option<Instant>,
    /// When to look at it next, while it is offline.
    pub(super) look_at: Instant,
    /// What of it is in the file, or on its way.
    pub(super) noted: Option<(u64, Duration, u32)>,
}

impl Absence {
    pub(super) fn restored(known: &Known, now: Instant) -> Self {
        let Known { seen_ms, linked, questions, .. } = *known;
        Self {
            seen_ms,
            linked_before: linked,
            linked_from: Duration::ZERO,
            questions,
            asked: None,
            look_at: now,
            noted: Some((seen_ms, linked, questions)),
        }
    }

    pub(super) fn heard(
        now: Now,
        linked: Duration,
        expiry: Duration,
        noted: Option<(u64, Duration, u32)>,
    ) -> Self {
        Self {
            seen_ms: now.file_ms,
            linked_before: Duration::ZERO,
            linked_from: linked,
            questions: 0,
            asked: None,
            look_at: now.mono + expiry.min(LOOK_AGAIN),
            noted,
        }
    }

    fn linked(&self, linked: Duration) -> Duration {
        self.linked_before + linked.saturating_sub(self.linked_from)
    }
}

/// What is to be done about a peer that is away.
enum Step {
    Nothing { until: Duration },
    Ask,
    Forget,
}

impl Membership {
    /// The time in which this node had a link, and ran.
    pub(super) fn count_link(&mut self, now: Instant, late: Duration) {
        if self.up_since.is_some() {
            let passed = now.saturating_duration_since(self.linked_to);
            self.linked += passed.saturating_sub(late);
        }
        self.linked_to = now;
    }

    fn linked_enough(&self) -> Duration {
        self.limits.offline_after.max(self.limits.expiry / LINKED_PART)
    }

    /// How long an answer may take.
    fn answer_time(&self) -> Duration {
        self.limits.offline_after / 9
    }

    fn step(&self, now: Now, absence: &Absence) -> Step {
        let age = Duration::from_millis(now.file_ms.saturating_sub(absence.seen_ms));
        if let Some(until) = self.limits.expiry.checked_sub(age).filter(|left| !left.is_zero()) {
            return Step::Nothing { until };
        }
        let since = absence.asked.map(|asked| now.mono.saturating_duration_since(asked));
        match since.map(|since| self.answer_time().saturating_sub(since)) {
            None => return Step::Ask,
            Some(until) if !until.is_zero() => return Step::Nothing { until },
            Some(_) if absence.questions < QUESTIONS => return Step::Ask,
            Some(_) => {}
        }
        match self.linked_enough().saturating_sub(absence.linked(self.linked)) {
            Duration::ZERO => Step::Forget,
            until => Step::Nothing { until },
        }
    }

    /// Whether a peer has been away for so long that what is counted now decides whether it is forgotten: runs may be too short for the
    /// rare notes.
    pub fn forgets_soon(&self, now: Now) -> bool {
        let is_overdue = |peer: &Peer| {
            let age = Duration::from_millis(now.file_ms.saturating_sub(peer.absence.seen_ms));
            !peer.online && age >= self.limits.expiry
        };
        self.peers.values().any(is_overdue)
    }

    pub(super) fn watch_absent(&mut self, now: Now, out: &mut Vec<Action>) {
        let away = self.peers.iter().filter(|(_, peer)| !peer.online);
        let away = away.filter(|(_, peer)| peer.absence.look_at <= now.mono);
        let away: Vec<NodeId> = away.map(|(node, _)| node.clone()).collect();
        for node in away {
            let Some(peer) = self.peers.get(&node) else { continue };
            let step = self.step(now, &peer.absence);
            let pause = match &step {
                Step::Nothing { until } => (*until).min(LOOK_AGAIN),
                Step::Ask => self.answer_time(),
                // It stays until the file has forgotten it, so that it is tried again where the file is full.
                Step::Forget => FORGET_AGAIN,
            };
            let Some(peer) = self.peers.get_mut(&node) else { continue };
            peer.absence.look_at = now.mono + pause;
            match step {
                Step::Nothing { .. } => {}
                Step::Ask => {
                    peer.absence.questions = peer.absence.questions.saturating_add(1);
                    peer.absence.asked = Some(now.mono);
                    self.put_question(now.mono, node, out);
                }
                Step::Forget => out.push(Action::Expired { node }),
            }
        }
    }

    /// Of all peers or of one: those of which the file does not know how long they have been away. From now on it is taken to know.
    pub fn note_due(&mut self, now: Now, only: Option<&NodeId>) -> Vec<Known> {
        self.count_link(now.mono, self.late(now.mono));
        let (linked, enough) = (self.linked, self.linked_enough());
        let mut known = Vec::new();
        let wanted = |node: &NodeId| only.is_none_or(|only| only == node);
        for (node, peer) in self.peers.iter_mut().filter(|(node, _)| wanted(node)) {
            let seen_ms = peer.absence.seen_ms;
            // While it is online, what was last said counts.
            let away = match peer.online {
                true => (seen_ms, Duration::ZERO, 0),
                false => {
                    let linked = peer.absence.linked(linked).min(enough);
                    (seen_ms, linked, peer.absence.questions.min(QUESTIONS))
                }
            };
            if peer.absence.noted.replace(away) == Some(away) {
                continue;
            }
            known.push(Known {
                node: node.clone(),
                incarnation: peer.incarnation,
                store: peer.store,
                host: peer.host.clone(),
                version: peer.version.clone(),
                channels: peer.channels.clone(),
                seen_ms,
                linked: away.1,
                questions: away.2,
            });
        }
        known
    }
}
