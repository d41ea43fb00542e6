//! Asking nodes who they are, and peers whether they live.

use std::time::{Duration, Instant};

use super::{Action, Membership, Now, Peer};
use crate::message::{Incarnation, NodeId};
use crate::protocol::frame::Keepalive;

/// Most strangers whose answer is awaited; a newer one takes the place of the oldest.
pub(super) const MAX_STRANGERS: usize = 1_024;
/// Most strangers that are asked in a second, so that each of them has a second for its answer.
pub(super) const HELLOS_A_SECOND: u32 = 1_000;
/// Least time between two questions to one node.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long the number of a question holds: it is asked again with the same one, because the answer to the first can be under way.
const QUESTION: Duration = Duration::from_secs(10);
/// Most hellos of strangers that are answered in a second: an answer can be much larger than its question.
pub(super) const WELCOMES_A_SECOND: u32 = 1_000;

/// A hello that waits for its welcome.
#[derive(Debug)]
pub(super) struct Question {
    nonce: u64,
    /// First, and last.
    since: Instant,
    asked: Instant,
    /// It spoke since then: it is asked again when [`ASK_AGAIN`] has passed, because what it said last may be of another incarnation than was
    /// asked, or come from before that one could hear.
    again: bool,
    /// The counter that was believed before. An answer that is behind it shows that it was forged.
    believed: u64,
    /// What came of another incarnation since it was asked: the answer can be older than that.
    pub(super) newest: Option<(Incarnation, u64)>,
}

impl Membership {
    /// When to ask a peer whether it lives. Its keepalives can be lost in a flood of others; the answer comes to a subject of our own.
    pub(super) fn ask_at(&self, peer: &Peer) -> Instant {
        let asked = peer.question.as_ref().map(|question| question.asked);
        match asked.filter(|asked| *asked > peer.heard) {
            Some(asked) => asked + self.limits.offline_after / 9,
            None => peer.heard + self.limits.offline_after * 2 / 3,
        }
    }

    /// When to ask again whoever has spoken since.
    pub(super) fn ask_again_at(&self) -> Option<Instant> {
        let of_peers = self.peers.values().filter_map(|peer| peer.question.as_ref());
        let all = of_peers.chain(self.strangers.values());
        all.filter(|question| question.again).map(|question| question.asked + ASK_AGAIN).min()
    }

    pub(super) fn ask_again(&mut self, now: Instant, out: &mut Vec<Action>) {
        let due = |question: &Question| question.again && question.asked + ASK_AGAIN <= now;
        let of_peers = self.peers.iter().filter_map(|(n, peer)| Some((n, peer.question.as_ref()?)));
        let all = of_peers.chain(&self.strangers).filter(|(_, question)| due(question));
        let nodes: Vec<NodeId> = all.map(|(node, _)| node.clone()).collect();
        for node in nodes {
            if let Some(question) = self.question_to(&node) {
                question.again = false;
            }
            self.ask(now, node, out);
        }
    }

    pub(super) fn question_to(&mut self, node: &NodeId) -> Option<&mut Question> {
        match self.peers.get_mut(node) {
            Some(peer) => peer.question.as_mut(),
            None => self.strangers.get_mut(node),
        }
    }

    /// Asks a node who it is, unless that was asked just now.
    pub(super) fn ask(&mut self, now: Instant, node: NodeId, out: &mut Vec<Action>) {
        // Frames arrive before the link counts as up; a question would not leave, and be taken for asked. Our first keepalive
        // makes the other one ask us.
        if self.up_since.is_none() {
            return;
        }
        let lately = |question: &&mut Question| now < question.asked + ASK_AGAIN;
        if let Some(question) = self.question_to(&node).filter(lately) {
            question.again = true;
            let again = question.asked + ASK_AGAIN;
            self.watch_by(again);
            return;
        }
        if !self.is_peer(&node) && !self.hellos.take(now) {
            return;
        }
        self.put_question(now, node, out);
    }

    pub(super) fn put_question(&mut self, now: Instant, node: NodeId, out: &mut Vec<Action>) {
        let holds = |question: &&mut Question| now < question.since + QUESTION;
        let nonce = match self.question_to(&node).filter(holds) {
            Some(question) => {
                (question.asked, question.again) = (now, false);
                question.nonce
            }
            None => {
                let nonce = self.jitter.draw();
                let believed = self.peers.get(&node).map_or(0, |peer| peer.counter);
                let (since, asked, again) = (now, now, false);
                let question = Question { nonce, since, asked, again, believed, newest: None };
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.question = Some(question);
                } else {
                    self.make_room_for_stranger(&node);
                    self.strangers.insert(node.clone(), question);
                }
                nonce
            }
        };
        if let Some(peer) = self.peers.get(&node) {
            self.watch_by(self.look_at(peer));
        }
        out.push(Action::Hello { to: node, nonce });
    }

    fn make_room_for_stranger(&mut self, node: &NodeId) {
        if self.strangers.len() >= MAX_STRANGERS && !self.strangers.contains_key(node) {
            let oldest = self.strangers.iter().min_by_key(|(_, s)| s.asked).map(|(n, _)| n.clone());
            oldest.and_then(|oldest| self.strangers.remove(&oldest));
        }
    }

    pub(super) fn welcome(
        &mut self,
        now: Now,
        nonce: u64,
        keepalive: Keepalive,
        out: &mut Vec<Action>,
    ) {
        let node = keepalive.from.clone();
        let Some(question) = self.take_question(&node, nonce) else { return };
        let (incarnation, counter) = (keepalive.incarnation, keepalive.counter);
        let known = |peer: &&mut Peer| peer.incarnation == incarnation && peer.counter >= counter;
        if let Some(peer) = self.peers.get_mut(&node).filter(known)
            && counter > question.believed
        {
            // A keepalive overtook the answer, and told more; it lives all the same.
            if peer.online {
                peer.heard = now.mono;
                peer.absence.seen_ms = now.file_ms;
            }
            return;
        }
        if !self.peers.contains_key(&node) && self.peers.len() >= self.limits.max_peers {
            if !std::mem::replace(&mut self.full, true) {
                out.push(Action::Full { refused: node });
            }
            return;
        }
        self.heard(now, keepalive, true, out);
        // Subjects overtake each other: a broadcast that came before this answer, and could not be believed yet, told more.
        if question.newest.is_some_and(|newest| newest.0 == incarnation && newest.1 > counter) {
            self.ask(now.mono, node, out);
        }
    }

    /// The question to which this number belongs; it is answered once.
    fn take_question(&mut self, node: &NodeId, nonce: u64) -> Option<Question> {
        if self.question_to(node)?.nonce != nonce {
            return None;
        }
        match self.peers.get_mut(node) {
            Some(peer) => peer.question.take(),
            None => self.strangers.remove(node),
        }
    }
}
