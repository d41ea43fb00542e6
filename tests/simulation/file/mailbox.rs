//! What the writer tells the driver, bounded; further messages are left in the file.

use std::collections::BTreeMap;

use waypost::NodeId;
use waypost::protocol::TopicId;

use super::{Cursor, Notice};

/// What waits for the driver to take it.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    notices: Vec<Notice>,
    appended: usize,
    /// One entry a cursor, told last.
    dropped: BTreeMap<(NodeId, TopicId), (u64, u64)>,
}

impl Mailbox {
    pub(crate) fn put(&mut self, notice: Notice, limit: usize) {
        match notice {
            Notice::Appended(row) if self.appended >= limit => self.missed(row.seq),
            Notice::Appended(_) => {
                self.appended += 1;
                self.notices.push(notice);
            }
            Notice::Missed { end_seq } => self.missed(end_seq),
            Notice::Dropped { receiver, topic, up_to_seq, count } => {
                let sum = self.dropped.entry((receiver, topic)).or_default();
                *sum = (sum.0.max(up_to_seq), sum.1 + count);
            }
            Notice::CursorOpened(Cursor { ref receiver, topic, .. })
            | Notice::CursorBehind(Cursor { ref receiver, topic, .. })
            | Notice::CursorClosed { ref receiver, topic } => {
                let key = (receiver.clone(), topic);
                if let Some((up_to_seq, count)) = self.dropped.remove(&key) {
                    self.notices.push(Notice::Dropped { receiver: key.0, topic, up_to_seq, count });
                }
                self.notices.push(notice);
            }
            Notice::TopicOpened(..)
            | Notice::UnclaimedExpires { .. }
            | Notice::Filling
            | Notice::Down
            | Notice::Up { .. } => self.notices.push(notice),
        }
    }

    fn missed(&mut self, seq: u64) {
        if let Some(Notice::Missed { end_seq }) = self.notices.last_mut() {
            *end_seq = seq.max(*end_seq);
        } else {
            self.notices.push(Notice::Missed { end_seq: seq });
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Notice> {
        let Self { mut notices, dropped, .. } = std::mem::take(self);
        notices.extend(dropped.into_iter().map(|((receiver, topic), (up_to_seq, count))| {
            Notice::Dropped { receiver, topic, up_to_seq, count }
        }));
        notices
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.dropped.is_empty()
    }
}
