//! What one receiver has waiting in one topic: the part of it that is in memory, and where it stands.

use std::collections::VecDeque;
use std::time::Instant;

use crate::message::{MessageId, Priority, TopicId};
use crate::protocol::settling::Position;

/// A message that waits. `B` is whatever the shell needs to send it; decisions never look inside.
#[derive(Debug, Clone, PartialEq)]
pub struct Head<B> {
    pub seq: u64,
    pub id: MessageId,
    pub topic: TopicId,
    /// By the file's clock.
    pub expires_ms: Option<u64>,
    /// Roughly what it costs in memory and on the wire.
    pub bytes: usize,
    /// The most of it that is in a frame's header.
    pub header_bytes: usize,
    /// `None`: the stored row does not pass its check and must never be delivered.
    pub body: Option<B>,
}

impl<B> Head<B> {
    pub(crate) fn is_expired(&self, file_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= file_ms)
    }
}

/// One topic of one receiver.
#[derive(Debug)]
pub(crate) struct Queue<B> {
    pub lane: Priority,
    /// All up to here are settled.
    pub acked_seq: u64,
    /// The last acknowledged one among them.
    pub acked_id: Option<MessageId>,
    /// Settled in another way since `acked_id`: what the receiver is told as a gap.
    pub skipped: u64,
    /// Up to here some were settled in another way that is not in the file yet: nothing behind them is sent before it is.
    pub unrecorded_to: Option<u64>,
    /// Whether the receiver has joined the channel and not paused it, as far as we know.
    pub active: bool,
    /// Not before this time.
    pub rest_until: Option<Instant>,
    /// What waits is sent then, or as soon as it fills a frame.
    pub gather_until: Option<Instant>,
    /// Which attempt the message at the front is at: what the receiver refused counts, and what it left without an answer does not.
    pub attempts: u32,
    /// The receiver's handler refused it the last time.
    pub refused: bool,
    /// A message that it refused in an earlier run, and the attempt at which it did.
    pub failed: Option<(u64, u32)>,
    /// How often in a row it had no answer, although the receiver was heard.
    pub silences: u32,
    /// All up to here went out in this run.
    pub published_seq: u64,
    /// What waits and is in memory, in order; messages in flight are not here.
    waiting: VecDeque<Head<B>>,
    /// The bytes of all in `waiting`.
    bytes: usize,
    /// Everything up to here that is not settled or in flight is in `waiting`.
    known_to: u64,
    /// The newest message of the topic that we heard of.
    last_seq: u64,
    /// `waiting` reaches the end of the log.
    at_end: bool,
}

impl<B> Queue<B> {
    pub(crate) fn new(lane: Priority, at: Position, last_seq: u64) -> Self {
        let Position { acked_seq, acked_id, skipped } = at;
        Self {
            lane,
            acked_seq,
            acked_id,
            skipped,
            unrecorded_to: None,
            active: false,
            rest_until: None,
            gather_until: None,
            attempts: 0,
            refused: false,
            failed: None,
            silences: 0,
            published_seq: 0,
            waiting: VecDeque::new(),
            bytes: 0,
            known_to: acked_seq,
            last_seq,
            at_end: last_seq <= acked_seq,
        }
    }

    pub(crate) fn front(&self) -> Option<&Head<B>> {
        self.waiting.front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Head<B>> {
        self.waiting.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Where the next page for this queue begins.
    pub(crate) fn known_to(&self) -> u64 {
        self.known_to
    }

    /// Whether the file holds more than memory does.
    pub(crate) fn has_more(&self) -> bool {
        !self.at_end
    }

    /// The lowest seq that the next message can have, if there may be one at all.
    pub(crate) fn next_at_least(&self) -> Option<u64> {
        match self.waiting.front() {
            Some(head) => Some(head.seq),
            None if self.at_end => None,
            None => Some(self.known_to + 1),
        }
    }

    /// A message was just committed, and the queue reaches the log's end. It may be one that a page has shown already.
    pub(crate) fn append(&mut self, head: Head<B>) {
        if head.seq > self.last_seq.max(self.known_to) {
            self.last_seq = head.seq;
            self.known_to = head.seq;
            self.push(head);
        }
    }

    /// Messages were just committed, up to this one, and are left in the file: there is no room, or others before them were left.
    pub(crate) fn left_in_file(&mut self, last_seq: u64) {
        if last_seq > self.last_seq.max(self.known_to) || !self.at_end {
            self.last_seq = self.last_seq.max(last_seq);
            self.at_end = false;
        }
    }

    /// Messages were committed, up to this one, that nobody showed us.
    pub(crate) fn missed(&mut self, end_seq: u64) {
        self.last_seq = self.last_seq.max(end_seq);
        self.at_end = self.known_to >= self.last_seq;
    }

    /// Takes this message of a page, unless it is known already.
    pub(crate) fn load(&mut self, head: Head<B>) {
        if head.seq > self.known_to {
            self.known_to = head.seq;
            self.last_seq = self.last_seq.max(head.seq);
            self.push(head);
        }
    }

    fn push(&mut self, head: Head<B>) {
        self.bytes += head.bytes;
        self.waiting.push_back(head);
    }

    /// A page that began at or below `known_to` has been taken, with all it held, up to here. `end`: the log held nothing more when it was read;
    /// what was committed since then may have been shown to us already, and was left in the file.
    pub(crate) fn loaded_to(&mut self, scanned_to: u64, end: bool) {
        self.known_to = self.known_to.max(scanned_to);
        self.at_end = end && self.known_to >= self.last_seq;
    }

    pub(crate) fn take_front(&mut self) -> Option<Head<B>> {
        let head = self.waiting.pop_front()?;
        self.bytes -= head.bytes;
        Some(head)
    }

    /// What was in flight waits again, in its place.
    pub(crate) fn put_back(&mut self, heads: Vec<Head<B>>) {
        for head in heads.into_iter().rev() {
            self.bytes += head.bytes;
            self.waiting.push_front(head);
        }
    }

    /// Forgets what is in memory above this many messages; they are still in the file.
    pub(crate) fn shrink(&mut self, keep: usize) {
        if self.waiting.len() > keep {
            let cut = self.waiting[keep].seq;
            self.bytes -= self.waiting.drain(keep..).map(|head| head.bytes).sum::<usize>();
            self.known_to = cut - 1;
            self.at_end = false;
        }
    }

    /// All up to here is settled: by an answer, or by somebody else.
    pub(crate) fn settle_to(&mut self, seq: u64) {
        if seq <= self.acked_seq {
            return;
        }
        self.acked_seq = seq;
        self.known_to = self.known_to.max(seq);
        self.attempts = 0;
        self.refused = false;
        self.failed.take_if(|(failed, _)| *failed <= seq);
        self.silences = 0;
        self.rest_until = None;
        while self.waiting.front().is_some_and(|head| head.seq <= seq) {
            self.take_front();
        }
        if self.acked_seq >= self.last_seq {
            self.at_end = true;
        }
    }

    /// The cursor is told anew, no further back than it is here: a purge or another commit may have moved it, and messages may have been
    /// added that nobody showed us.
    pub(crate) fn told(&mut self, at: Position, last_seq: u64) {
        if at.acked_seq > self.acked_seq {
            (self.acked_id, self.skipped) = (at.acked_id, at.skipped);
        }
        self.missed(last_seq);
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
