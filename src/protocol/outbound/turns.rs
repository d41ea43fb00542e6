//! Receivers whose frames found no room in the connection, the first refused first.

use std::collections::{BTreeSet, VecDeque};

use crate::message::NodeId;

#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: VecDeque<NodeId>,
    known: BTreeSet<NodeId>,
    /// Whose turn it is.
    turn: Option<NodeId>,
}

impl Turns {
    /// Whether others come before this one.
    pub(super) fn is_behind(&self, receiver: &NodeId) -> bool {
        self.turn.as_ref() != Some(receiver) && !self.waiting.is_empty()
    }

    /// There was no room for this one; whose turn it was comes first the next time.
    pub(super) fn refused(&mut self, receiver: &NodeId) {
        let had_its_turn = self.turn.take_if(|turn| turn == receiver).is_some();
        if !self.known.insert(receiver.clone()) {
            return;
        }
        match had_its_turn {
            true => self.waiting.push_front(receiver.clone()),
            false => self.waiting.push_back(receiver.clone()),
        }
    }

    /// It is the turn of the first, until the next turn begins.
    pub(super) fn begin(&mut self) -> Option<NodeId> {
        self.turn = self.waiting.pop_front();
        if let Some(turn) = &self.turn {
            self.known.remove(turn);
        }
        self.turn.clone()
    }

    pub(super) fn end(&mut self) {
        self.turn = None;
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The connection is gone, and all is sent again when it is back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
