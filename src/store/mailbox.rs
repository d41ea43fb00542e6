//! What the writer tells the driver: bounded by bytes, in order, without waiting for the reader.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::types::Notice;
use crate::message::{ChannelName, Entry, NodeId, TopicId};

/// Messages that wait to be taken may hold this many bytes; further ones are left in the file.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// What an entry takes besides its texts and payload, roughly.
const ENTRY_BYTES: usize = 256;

#[derive(Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Default)]
struct Inner {
    notices: Vec<Notice>,
    bytes: usize,
    /// One entry a cursor, so that a driver that does not look costs no more than the cursors do.
    dropped: BTreeMap<(NodeId, TopicId), (u64, u64)>,
    /// One entry a channel, likewise.
    dropped_unclaimed: BTreeMap<ChannelName, u64>,
    /// The earliest of those that were told.
    expires_ms: Option<u64>,
    filling: bool,
}

impl Mailbox {
    pub(super) fn put(&self, notices: impl IntoIterator<Item = Notice>) {
        let mut inner = self.lock();
        let before = inner.len();
        for notice in notices {
            inner.put(notice);
        }
        let filled = inner.len() > before;
        drop(inner);
        if filled {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn len(&self) -> usize {
        self.notices.len()
            + self.dropped.len()
            + self.dropped_unclaimed.len()
            + usize::from(self.filling)
            + usize::from(self.expires_ms.is_some())
    }

    fn put(&mut self, notice: Notice) {
        match notice {
            Notice::Appended(entry) => {
                let bytes = entry_bytes(&entry);
                // The first one is always taken, so that a single large message is no exception for the reader.
                if self.bytes > 0 && self.bytes + bytes > MAX_BYTES {
                    self.missed(entry.seq);
                } else {
                    self.bytes += bytes;
                    self.notices.push(Notice::Appended(entry));
                }
            }
            Notice::Missed { end_seq } => self.missed(end_seq),
            Notice::Dropped { receiver, topic, up_to_seq, count } => {
                let sum = self.dropped.entry((receiver, topic)).or_insert((0, 0));
                *sum = (sum.0.max(up_to_seq), sum.1 + count);
            }
            Notice::DroppedUnclaimed { channel, count } => {
                *self.dropped_unclaimed.entry(channel).or_default() += count;
            }
            Notice::UnclaimedExpires { at_ms } => {
                self.expires_ms = Some(self.expires_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
            }
            Notice::Filling => self.filling = true,
            Notice::CursorOpened(cursor) => {
                self.tell_dropped(&cursor.receiver, cursor.topic);
                self.notices.push(Notice::CursorOpened(cursor));
            }
            Notice::CursorBehind(cursor) => {
                self.tell_dropped(&cursor.receiver, cursor.topic);
                self.notices.push(Notice::CursorBehind(cursor));
            }
            Notice::CursorClosed { receiver, topic } => {
                self.tell_dropped(&receiver, topic);
                self.notices.push(Notice::CursorClosed { receiver, topic });
            }
            other => self.notices.push(other),
        }
    }

    /// What a cursor lost belongs before its end or its new beginning.
    fn tell_dropped(&mut self, receiver: &NodeId, topic: TopicId) {
        let key = (receiver.clone(), topic);
        if let Some((up_to_seq, count)) = self.dropped.remove(&key) {
            let receiver = key.0;
            self.notices.push(Notice::Dropped { receiver, topic, up_to_seq, count });
        }
    }

    fn missed(&mut self, seq: u64) {
        if let Some(Notice::Missed { end_seq }) = self.notices.last_mut() {
            *end_seq = seq.max(*end_seq);
        } else {
            self.notices.push(Notice::Missed { end_seq: seq });
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    let headers: usize = entry.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    ENTRY_BYTES + headers + entry.body.data.len()
}

/// The driver's end. One task reads it.
pub(crate) struct Notices(pub(super) Arc<Mailbox>);

impl Notices {
    /// Returns once there is something to take. Cancelling it loses nothing.
    pub(crate) async fn wait(&self) {
        loop {
            let filled = self.0.filled.notified();
            if self.0.lock().len() > 0 {
                return;
            }
            filled.await;
        }
    }

    /// All that waits, in the order in which it was committed; what was dropped comes last, once for each cursor and channel.
    pub(crate) fn take(&self) -> Vec<Notice> {
        let Inner { mut notices, dropped, dropped_unclaimed, expires_ms, filling, .. } =
            std::mem::take(&mut *self.0.lock());
        notices.extend(expires_ms.map(|at_ms| Notice::UnclaimedExpires { at_ms }));
        notices.extend(filling.then_some(Notice::Filling));
        notices.extend(dropped.into_iter().map(|((receiver, topic), (up_to_seq, count))| {
            Notice::Dropped { receiver, topic, up_to_seq, count }
        }));
        notices.extend(
            dropped_unclaimed
                .into_iter()
                .map(|(channel, count)| Notice::DroppedUnclaimed { channel, count }),
        );
        notices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, ChannelName, Headers, Kind, MessageId, Priority};

    fn appended(seq: u64, bytes: usize) -> Notice {
        Notice::Appended(Arc::new(Entry {
            seq,
            id: MessageId::from_u128(u128::from(seq)),
            topic: TopicId(1),
            channel: ChannelName::new("c").expect("a valid name"),
            target: None,
            lane: Priority::Normal,
            kind: Kind::default(),
            headers: Headers::new(),
            body: Body::new(vec![0; bytes].into()),
            created_ms: 1,
            expires_ms: None,
        }))
    }

    #[tokio::test]
    async fn messages_beyond_the_bound_are_left_in_the_file() {
        let mailbox = Arc::new(Mailbox::default());
        let notices = Notices(Arc::clone(&mailbox));
        mailbox.put((1..=20).map(|seq| appended(seq, 1_000_000)));
        notices.wait().await;
        let taken = notices.take();
        assert_eq!(taken.len(), 9, "eight messages and a note of the others");
        assert!(matches!(taken[7], Notice::Appended(_)));
        assert!(matches!(taken[8], Notice::Missed { end_seq: 20 }));
        mailbox.put([appended(21, MAX_BYTES * 2)]);
        assert!(matches!(notices.take()[..], [Notice::Appended(_)]));
    }

    #[test]
    fn drops_nobody_takes_are_added_up() {
        let mailbox = Arc::new(Mailbox::default());
        let receiver = NodeId::new("a").expect("a valid name");
        for seq in 1..=10_000 {
            let receiver = receiver.clone();
            mailbox.put([Notice::Dropped {
                receiver,
                topic: TopicId(1),
                up_to_seq: seq,
                count: 1,
            }]);
        }
        assert!(matches!(
            Notices(mailbox).take()[..],
            [Notice::Dropped { up_to_seq: 10_000, count: 10_000, .. }]
        ));
    }

    #[test]
    fn what_a_cursor_lost_is_told_before_it_is_closed_and_opened_again() {
        let mailbox = Arc::new(Mailbox::default());
        let (receiver, topic) = (NodeId::new("a").expect("a valid name"), TopicId(1));
        let dropped = |up_to_seq| {
            let receiver = receiver.clone();
            Notice::Dropped { receiver, topic, up_to_seq, count: 1 }
        };
        let cursor = super::super::types::Cursor {
            receiver: receiver.clone(),
            topic,
            acked_seq: 3,
            acked_id: None,
            pending: 0,
            skipped: 0,
            failed: None,
            last_seq: 9,
        };
        let closed = Notice::CursorClosed { receiver: receiver.clone(), topic };
        mailbox.put([dropped(1), dropped(2), closed, Notice::CursorOpened(cursor), dropped(4)]);
        let taken = Notices(mailbox).take();
        assert!(
            matches!(
                taken[..],
                [
                    Notice::Dropped { up_to_seq: 2, count: 2, .. },
                    Notice::CursorClosed { .. },
                    Notice::CursorOpened(_),
                    Notice::Dropped { up_to_seq: 4, count: 1, .. }
                ]
            ),
            "{taken:?}"
        );
    }
}
