//! What the file tells with its commits goes to the core, and what it says when it is asked.

use std::rc::Rc;

use waypost::core::{Answered, Input, Notice as It};
use waypost::protocol::delivery::Head;
use waypost::protocol::outbound::{self, Read, Topic};
use waypost::protocol::settling::Position;

use super::{Found, MESSAGE_BYTES, Page, Process};
use crate::file::{Cursor, Notice, Row, TopicRow};
use crate::world::World;

/// Most messages that are shown to the receivers at once.
const RUN: usize = 16;

fn head(row: Rc<Row>) -> Head<Rc<Row>> {
    Head {
        seq: row.seq,
        id: row.id,
        topic: row.topic,
        expires_ms: row.expires_ms,
        bytes: MESSAGE_BYTES,
        header_bytes: MESSAGE_BYTES,
        body: Some(row),
    }
}

impl From<TopicRow> for Topic {
    fn from(TopicRow { channel, target, lane, .. }: TopicRow) -> Self {
        Self { channel, target, lane }
    }
}

impl From<Cursor> for outbound::Cursor {
    fn from(cursor: Cursor) -> Self {
        let Cursor { receiver, topic, acked_seq, acked_id, pending, skipped, failed, last_seq } =
            cursor;
        let at = Position { acked_seq, acked_id, skipped };
        Self { receiver, topic, at, pending, last_seq, failed }
    }
}

impl Process {
    pub(super) fn take_notices(&mut self, world: &mut World) {
        let mut notices = world.take_notices(self.me).into_iter().peekable();
        while let Some(notice) = notices.next() {
            if !matches!(notice, Notice::Appended(_)) {
                log!(world, "{}: {notice:?}", self.id);
            }
            let mut hinders = false;
            let notice = match notice {
                Notice::TopicOpened(topic, row) => It::TopicOpened(topic, row.into()),
                Notice::CursorOpened(cursor) => {
                    // A purge that failed and stands in the file all the same.
                    let Cursor { receiver, topic, acked_seq, .. } = &cursor;
                    world.oracle.settled_by_file(self.me, receiver, *topic, *acked_seq);
                    It::CursorOpened(cursor.into())
                }
                Notice::CursorBehind(cursor) => {
                    world.oracle.told_anew(self.me, &cursor.receiver, cursor.topic);
                    It::CursorBehind(cursor.into())
                }
                Notice::Down => {
                    hinders = true;
                    It::Down
                }
                Notice::Up { received: known } => {
                    hinders = true;
                    It::Up { known }
                }
                Notice::UnclaimedExpires { at_ms } => It::UnclaimedExpires { at_ms },
                Notice::Filling => It::Filling,
                Notice::CursorClosed { receiver, topic } => {
                    world.note_closed(self.me, &receiver, topic);
                    It::CursorClosed { receiver, topic }
                }
                Notice::Appended(row) => {
                    let more = || match notices.next_if(|next| matches!(next, Notice::Appended(_)))
                    {
                        Some(Notice::Appended(row)) => Some(row),
                        _ => None,
                    };
                    let run = std::iter::once(row).chain(std::iter::from_fn(more));
                    It::Appended(run.take(RUN).map(head).collect())
                }
                Notice::Missed { end_seq } => It::Missed { end_seq },
                Notice::Dropped { receiver, topic, up_to_seq, count } => {
                    world.oracle.settled_by_file(self.me, &receiver, topic, up_to_seq);
                    It::Dropped { receiver, topic, up_to_seq, count }
                }
            };
            self.say(world, Input::Notice(notice));
            if hinders {
                self.say(world, Input::Notice(It::Changed));
            }
        }
    }

    pub(super) fn page_read(&mut self, world: &mut World, page: Page) {
        let Page { age, request, rows } = page;
        let read = rows.map(|(rows, scanned_to, end)| Read {
            heads: rows.into_iter().map(head).collect(),
            scanned_to,
            end,
        });
        self.say(world, Input::Answered(Answered::Page { age, request, read }));
    }

    pub(super) fn found(&mut self, world: &mut World, found: Found) {
        self.say(
            world,
            Input::Answered(match found {
                Found::Counted(pending) => Answered::Pending(pending),
                Found::Measured(filled) => Answered::Measured(filled),
            }),
        );
    }
}
