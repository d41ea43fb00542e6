//! Backlogs read from the file in pages. Receivers of one channel that are at the same place share them: whoever asks for what is
//! being read, or was read just now, gets that.

use std::collections::{HashMap, VecDeque};

use super::{Event, Head};
use crate::message::{NodeId, Priority, TopicId};

/// Bytes of backlog that all queues together may keep in memory, shared by the receivers that there are.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// Most of it that one of them may keep, and least of it that one may ask for.
pub const BUFFER_BYTES_EACH: usize = 1024 * 1024;
const LEAST_BYTES: usize = 16 * 1024;
/// Bytes of pages that are kept for others that may ask for them.
const RECENT_BYTES: usize = 4 * 1024 * 1024;
const RECENT_PAGES: usize = 16;

/// A page of a backlog that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageRequest {
    pub lane: Priority,
    /// Topics of that lane, and the seq after which each is wanted.
    pub topics: Vec<(TopicId, u64)>,
    pub max_messages: usize,
    pub max_bytes: usize,
}

/// A page as it was read.
#[derive(Debug)]
pub struct Read<B> {
    /// In seq order.
    pub heads: Vec<Head<B>>,
    /// All wanted messages up to this seq are in `heads`.
    pub scanned_to: u64,
    /// Whether that was all that had been committed.
    pub end: bool,
}

impl<B: Clone> Read<B> {
    /// What a receiver is told of it.
    pub(super) fn loaded(&self, token: u64, request: &PageRequest) -> Event<B> {
        let (topics, heads) = (request.topics.clone(), self.heads.clone());
        Event::Loaded { token, topics, heads, scanned_to: self.scanned_to, end: self.end }
    }

    fn bytes(&self) -> usize {
        self.heads.iter().map(|head| head.bytes).sum()
    }
}

/// Who waits for a page.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) receiver: NodeId,
    pub(super) token: u64,
}

#[derive(Debug)]
pub(super) struct Pages<B> {
    /// Grows when the file may hold something else than before: what is still being read then is for those alone who asked before.
    age: u64,
    waiting: HashMap<(u64, PageRequest), Vec<Place>>,
    recent: VecDeque<(PageRequest, Read<B>)>,
    recent_bytes: usize,
}

impl<B> Default for Pages<B> {
    fn default() -> Self {
        Self { age: 0, waiting: HashMap::new(), recent: VecDeque::new(), recent_bytes: 0 }
    }
}

impl<B: Clone> Pages<B> {
    /// Most bytes of a page, with so many receivers.
    pub(super) fn share(&self, receivers: usize) -> usize {
        (BUFFER_BYTES / receivers.max(1)).clamp(LEAST_BYTES, BUFFER_BYTES_EACH)
    }

    /// This one wants it. Its age, where it has to be read, and nobody else waits for it.
    pub(super) fn wait(&mut self, place: Place, request: &PageRequest) -> Option<u64> {
        let all = self.waiting.entry((self.age, request.clone())).or_default();
        all.push(place);
        (all.len() == 1).then_some(self.age)
    }

    /// Who waits for this one.
    pub(super) fn take_waiting(
        &mut self,
        age: u64,
        request: PageRequest,
    ) -> (Vec<Place>, PageRequest) {
        let key = (age, request);
        (self.waiting.remove(&key).unwrap_or_default(), key.1)
    }

    pub(super) fn recent(&self, request: &PageRequest) -> Option<&Read<B>> {
        self.recent.iter().find(|(of, _)| of == request).map(|(_, read)| read)
    }

    /// Only whole pages: the last one of the log grows.
    pub(super) fn keep(&mut self, age: u64, request: PageRequest, read: Read<B>) {
        if read.end || age != self.age {
            return;
        }
        self.recent_bytes += read.bytes();
        self.recent.push_back((request, read));
        while self.recent.len() > RECENT_PAGES || self.recent_bytes > RECENT_BYTES {
            let Some((_, oldest)) = self.recent.pop_front() else { return };
            self.recent_bytes -= oldest.bytes();
        }
    }

    /// What was read, or is being read, may not be what the file holds any more.
    pub(super) fn outdate(&mut self) {
        self.age += 1;
        self.recent.clear();
        self.recent_bytes = 0;
    }
}
